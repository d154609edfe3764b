//! stl_wlm_query: queries that have left a queue.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 313,
    name: "stl_wlm_query",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("xid"),
        int4("task"),
        int4("query"),
        int4("service_class"),
        int4("slot_count"),
        nullable("service_class_start_time", Kind::Timestamp),
        nullable("queue_start_time", Kind::Timestamp),
        nullable("queue_end_time", Kind::Timestamp),
        nullable("total_queue_time", Kind::Int8),
        nullable("exec_start_time", Kind::Timestamp),
        nullable("exec_end_time", Kind::Timestamp),
        nullable("total_exec_time", Kind::Int8),
        nullable("service_class_end_time", Kind::Timestamp),
        text("final_state"),
        nullable("est_peak_mem", Kind::Int8),
        text("query_priority"),
        text("service_class_name"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let finished = catalog.workload(|_, history| {
        history.queries().map(|finished| finished.row.clone()).collect::<Vec<_>>()
    });
    for row in finished.into_iter().flatten().filter(|row| catalog.sees(row.userid.0)) {
        rows.add([
            ("userid", row.userid.0.into()),
            ("xid", row.xid.into()),
            ("task", row.task.0.into()),
            ("query", row.query.0.into()),
            ("service_class", u32::from(row.service_class.0).into()),
            ("slot_count", row.slot_count.into()),
            ("service_class_start_time", row.service_class_start_time.0.into()),
            ("queue_start_time", row.queue_start_time.0.into()),
            ("queue_end_time", row.queue_end_time.0.into()),
            ("total_queue_time", row.total_queue_time.into()),
            ("exec_start_time", row.exec_start_time.map(|time| time.0).into()),
            ("exec_end_time", row.exec_end_time.map(|time| time.0).into()),
            ("total_exec_time", row.total_exec_time.into()),
            ("service_class_end_time", row.service_class_end_time.0.into()),
            ("final_state", row.final_state.to_string().into()),
            ("est_peak_mem", row.est_peak_mem.into()),
            ("query_priority", row.query_priority.name().into()),
            ("service_class_name", row.service_class_name.to_string().into()),
        ]);
    }
}
