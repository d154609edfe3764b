//! stl_query_metrics: the last figures of queries that have ended.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use crate::catalog::system::live::priority_number;
use wlm::FinishedQuery;
use wlm::view::{MetricsOwner, metrics_rows};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 318,
    name: "stl_query_metrics",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("service_class"),
        int4("query"),
        nullable("starttime", Kind::Timestamp),
        int4("slices"),
        int4("segment"),
        int4("step_type"),
        nullable("rows", Kind::Int8),
        nullable("max_rows", Kind::Int8),
        nullable("cpu_time", Kind::Int8),
        nullable("max_cpu_time", Kind::Int8),
        nullable("blocks_read", Kind::Int8),
        nullable("max_blocks_read", Kind::Int8),
        nullable("run_time", Kind::Int8),
        nullable("max_run_time", Kind::Int8),
        nullable("max_blocks_to_disk", Kind::Int8),
        nullable("blocks_to_disk", Kind::Int8),
        int4("step"),
        nullable("max_query_scan_size", Kind::Int8),
        nullable("query_scan_size", Kind::Int8),
        int4("query_priority"),
        nullable("query_queue_time", Kind::Int8),
        text("service_class_name"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let figures = catalog.workload(|_, history| {
        let rows = |finished: &FinishedQuery| {
            metrics_rows(&MetricsOwner::from(&finished.row), &finished.metrics)
        };
        history.queries().flat_map(rows).collect::<Vec<_>>()
    });
    for row in figures.into_iter().flatten().filter(|row| catalog.sees(row.owner.userid.0)) {
        let owner = &row.owner;
        rows.add([
            ("userid", owner.userid.0.into()),
            ("service_class", u32::from(owner.service_class.0).into()),
            ("query", owner.query.0.into()),
            ("starttime", owner.starttime.0.into()),
            ("slices", row.slices.into()),
            ("segment", row.segment.into()),
            ("step_type", row.step_type.into()),
            ("rows", row.rows.into()),
            ("max_rows", row.max_rows.into()),
            ("cpu_time", row.cpu_time.into()),
            ("max_cpu_time", row.max_cpu_time.into()),
            ("blocks_read", row.blocks_read.into()),
            ("max_blocks_read", row.max_blocks_read.into()),
            ("run_time", row.run_time.into()),
            ("max_run_time", row.max_run_time.into()),
            ("max_blocks_to_disk", row.max_blocks_to_disk.into()),
            ("blocks_to_disk", row.blocks_to_disk.into()),
            ("step", row.step.into()),
            ("max_query_scan_size", row.max_query_scan_size.into()),
            ("query_scan_size", row.query_scan_size.into()),
            ("query_priority", priority_number(owner.query_priority).into()),
            ("query_queue_time", owner.query_queue_time.into()),
            ("service_class_name", owner.service_class_name.to_string().into()),
        ]);
    }
}
