//! stv_wlm_service_class_state: what the queues do, counted since the start of the server.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::int4;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 310,
    name: "stv_wlm_service_class_state",
    is_view: true,
    columns: &[
        int4("service_class"),
        int4("num_queued_queries"),
        int4("num_executing_queries"),
        int4("num_serviced_queries"),
        int4("num_executed_queries"),
        int4("num_evicted_queries"),
        int4("num_concurrency_scaling_queries"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let classes = catalog.workload(|scheduler, _| scheduler.service_class_state_rows());
    for class in classes.into_iter().flatten() {
        rows.add([
            ("service_class", u32::from(class.service_class.0).into()),
            ("num_queued_queries", class.num_queued_queries.into()),
            ("num_executing_queries", class.num_executing_queries.into()),
            ("num_serviced_queries", class.num_serviced_queries.into()),
            ("num_executed_queries", class.num_executed_queries.into()),
            ("num_evicted_queries", class.num_evicted_queries.into()),
        ]);
    }
}
