//! stv_wlm_service_class_config: the queues as they are configured.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, bool, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 309,
    name: "stv_wlm_service_class_config",
    is_view: true,
    columns: &[
        int4("service_class"),
        text("queueing_strategy"),
        int4("num_query_tasks"),
        int4("target_num_query_tasks"),
        text("evictable"),
        nullable("eviction_threshold", Kind::Int8),
        int4("query_working_mem"),
        int4("target_query_working_mem"),
        int4("min_step_mem"),
        text("name"),
        nullable("max_execution_time", Kind::Int8),
        bool("user_group_wild_card"),
        bool("query_group_wild_card"),
        text("concurrency_scaling"),
        text("query_priority"),
        bool("user_role_wild_card"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let classes = catalog.workload(|scheduler, _| scheduler.service_class_config_rows());
    for class in classes.into_iter().flatten() {
        rows.add([
            ("service_class", u32::from(class.service_class.0).into()),
            ("queueing_strategy", class.queueing_strategy.into()),
            ("num_query_tasks", class.num_query_tasks.into()),
            ("target_num_query_tasks", class.target_num_query_tasks.into()),
            ("evictable", if class.evictable { "true" } else { "false" }.into()),
            ("eviction_threshold", class.eviction_threshold.into()),
            ("query_working_mem", class.query_working_mem.into()),
            ("target_query_working_mem", class.target_query_working_mem.into()),
            ("min_step_mem", class.min_step_mem.into()),
            ("name", class.name.to_string().into()),
            ("max_execution_time", class.max_execution_time.into()),
            ("user_group_wild_card", class.user_group_wild_card.into()),
            ("query_group_wild_card", class.query_group_wild_card.into()),
            ("concurrency_scaling", class.concurrency_scaling.into()),
            ("query_priority", class.query_priority.name().into()),
            ("user_role_wild_card", class.user_role_wild_card.into()),
        ]);
    }
}
