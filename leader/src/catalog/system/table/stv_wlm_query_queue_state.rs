//! stv_wlm_query_queue_state: queries that wait in line.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 307,
    name: "stv_wlm_query_queue_state",
    is_view: true,
    columns: &[
        int4("service_class"),
        int4("position"),
        int4("task"),
        int4("query"),
        int4("slot_count"),
        nullable("start_time", Kind::Timestamp),
        nullable("queue_time", Kind::Int8),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let states = catalog.workload(|scheduler, _| scheduler.queue_state_rows());
    for state in states.into_iter().flatten().filter(|state| catalog.sees(state.userid.0)) {
        rows.add([
            ("service_class", u32::from(state.service_class.0).into()),
            ("position", state.position.into()),
            ("task", state.task.0.into()),
            ("query", state.query.0.into()),
            ("slot_count", state.slot_count.into()),
            ("start_time", state.start_time.0.into()),
            ("queue_time", state.queue_time.into()),
        ]);
    }
}
