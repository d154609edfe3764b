//! stv_wlm_qmr_config: the query monitoring rules, one row for each predicate.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};
use wlm::view::qmr_config_rows;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 312,
    name: "stv_wlm_qmr_config",
    is_view: true,
    columns: &[
        int4("service_class"),
        text("rule_name"),
        text("action"),
        text("metric_name"),
        text("metric_operator"),
        nullable("metric_value", Kind::Double),
        text("action_value"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let rules = catalog.workload(|scheduler, _| qmr_config_rows(scheduler.config()));
    for rule in rules.into_iter().flatten() {
        rows.add([
            ("service_class", u32::from(rule.service_class.0).into()),
            ("rule_name", rule.rule_name.to_string().into()),
            ("action", rule.action.into()),
            ("metric_name", rule.metric_name.into()),
            ("metric_operator", rule.metric_operator.into()),
            ("metric_value", rule.metric_value.into()),
            ("action_value", rule.action_value.map(|level| level.name()).into()),
        ]);
    }
}
