//! svl_query_metrics_summary: the figures of queries that have ended, as rules see them.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable};
use wlm::FinishedQuery;
use wlm::view::{MetricsOwner, metrics_summary};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 319,
    name: "svl_query_metrics_summary",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("query"),
        int4("service_class"),
        nullable("query_cpu_time", Kind::Int8),
        nullable("query_blocks_read", Kind::Int8),
        nullable("query_execution_time", Kind::Int8),
        nullable("query_cpu_usage_percent", Kind::Hundredths),
        nullable("query_temp_blocks_to_disk", Kind::Int8),
        nullable("segment_execution_time", Kind::Int8),
        nullable("cpu_skew", Kind::Hundredths),
        nullable("io_skew", Kind::Hundredths),
        nullable("scan_row_count", Kind::Int8),
        nullable("join_row_count", Kind::Int8),
        nullable("nested_loop_join_row_count", Kind::Int8),
        nullable("return_row_count", Kind::Int8),
        nullable("spectrum_scan_row_count", Kind::Int8),
        nullable("spectrum_scan_size_mb", Kind::Int8),
        nullable("query_queue_time", Kind::Int8),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let summaries = catalog.workload(|_, history| {
        let summary = |finished: &FinishedQuery| {
            metrics_summary(&MetricsOwner::from(&finished.row), &finished.metrics)
        };
        history.queries().map(summary).collect::<Vec<_>>()
    });
    for row in summaries.into_iter().flatten().filter(|row| catalog.sees(row.userid.0)) {
        rows.add([
            ("userid", row.userid.0.into()),
            ("query", row.query.0.into()),
            ("service_class", u32::from(row.service_class.0).into()),
            ("query_cpu_time", row.query_cpu_time.into()),
            ("query_blocks_read", row.query_blocks_read.into()),
            ("query_execution_time", row.query_execution_time.into()),
            ("query_cpu_usage_percent", (row.query_cpu_usage_percent * 100).into()),
            ("query_temp_blocks_to_disk", row.query_temp_blocks_to_disk.into()),
            ("segment_execution_time", row.segment_execution_time.into()),
            ("cpu_skew", row.cpu_skew_hundredths.into()),
            ("io_skew", row.io_skew_hundredths.into()),
            ("scan_row_count", row.scan_row_count.into()),
            ("join_row_count", row.join_row_count.into()),
            ("nested_loop_join_row_count", row.nested_loop_join_row_count.into()),
            ("return_row_count", row.return_row_count.into()),
            ("query_queue_time", row.query_queue_time.into()),
        ]);
    }
}
