//! stv_wlm_query_state: queries in workload management.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 306,
    name: "stv_wlm_query_state",
    is_view: true,
    columns: &[
        int4("xid"),
        int4("task"),
        int4("query"),
        int4("service_class"),
        int4("slot_count"),
        nullable("wlm_start_time", Kind::Timestamp),
        text("state"),
        nullable("queue_time", Kind::Int8),
        nullable("exec_time", Kind::Int8),
        text("query_priority"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let states = catalog.workload(|scheduler, _| scheduler.query_state_rows());
    for state in states.into_iter().flatten().filter(|state| catalog.sees(state.userid.0)) {
        rows.add([
            ("xid", state.xid.into()),
            ("task", state.task.0.into()),
            ("query", state.query.0.into()),
            ("service_class", u32::from(state.service_class.0).into()),
            ("slot_count", state.slot_count.into()),
            ("wlm_start_time", state.wlm_start_time.0.into()),
            ("state", state.state.into()),
            ("queue_time", state.queue_time.into()),
            ("exec_time", state.exec_time.into()),
            ("query_priority", state.query_priority.name().into()),
        ]);
    }
}
