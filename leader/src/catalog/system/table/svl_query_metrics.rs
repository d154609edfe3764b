//! svl_query_metrics: the figures of queries that have ended, with those of segments and steps.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use wlm::FinishedQuery;
use wlm::view::{
    MetricsOwner, MetricsSummaryRow, StepMetricsRow, metrics_detail_rows, metrics_summary,
};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 320,
    name: "svl_query_metrics",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("query"),
        int4("service_class"),
        text("dimension"),
        nullable("segment", Kind::Int4),
        nullable("step", Kind::Int4),
        text("step_label"),
        nullable("query_cpu_time", Kind::Int8),
        nullable("query_blocks_read", Kind::Int8),
        nullable("query_execution_time", Kind::Int8),
        nullable("query_cpu_usage_percent", Kind::Int8),
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
    let finished = catalog.workload(|_, history| history.queries().cloned().collect::<Vec<_>>());
    let sees = |finished: &FinishedQuery| catalog.sees(finished.row.userid.0);
    for finished in finished.into_iter().flatten().filter(sees) {
        let summary = metrics_summary(&MetricsOwner::from(&finished.row), &finished.metrics);
        add_query(rows, &summary);
        for row in metrics_detail_rows(&finished.metrics) {
            add_detail(rows, &summary, &row);
        }
    }
}

fn add_query(rows: &mut Rows, row: &MetricsSummaryRow) {
    rows.add([
        ("userid", row.userid.0.into()),
        ("query", row.query.0.into()),
        ("service_class", u32::from(row.service_class.0).into()),
        ("dimension", "query".into()),
        ("query_cpu_time", row.query_cpu_time.into()),
        ("query_blocks_read", row.query_blocks_read.into()),
        ("query_execution_time", row.query_execution_time.into()),
        ("query_cpu_usage_percent", row.query_cpu_usage_percent.into()),
        ("query_temp_blocks_to_disk", row.query_temp_blocks_to_disk.into()),
        ("query_queue_time", row.query_queue_time.into()),
    ]);
}

fn add_detail(rows: &mut Rows, query: &MetricsSummaryRow, row: &StepMetricsRow) {
    rows.add([
        ("userid", query.userid.0.into()),
        ("query", query.query.0.into()),
        ("service_class", u32::from(query.service_class.0).into()),
        ("dimension", row.dimension.into()),
        ("segment", row.segment.into()),
        ("step", row.step.into()),
        ("step_label", row.step_label.into()),
        ("segment_execution_time", row.segment_execution_time.into()),
        ("cpu_skew", row.cpu_skew_hundredths.into()),
        ("io_skew", row.io_skew_hundredths.into()),
        ("scan_row_count", row.scan_row_count.into()),
        ("join_row_count", row.join_row_count.into()),
        ("nested_loop_join_row_count", row.nested_loop_join_row_count.into()),
        ("return_row_count", row.return_row_count.into()),
    ]);
}
