//! stl_wlm_rule_action: what query monitoring rules did.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 314,
    name: "stl_wlm_rule_action",
    is_view: true,
    columns: &[
        int4("userid"),
        int4("query"),
        int4("service_class"),
        text("rule"),
        text("action"),
        nullable("recordtime", Kind::Timestamp),
        text("action_value"),
        text("service_class_name"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let actions = catalog.workload(|_, history| history.rules().cloned().collect::<Vec<_>>());
    for row in actions.into_iter().flatten().filter(|row| catalog.sees(row.userid.0)) {
        rows.add([
            ("userid", row.userid.0.into()),
            ("query", row.query.0.into()),
            ("service_class", u32::from(row.service_class.0).into()),
            ("rule", row.rule.to_string().into()),
            ("action", row.action.to_string().into()),
            ("recordtime", row.recordtime.0.into()),
            ("action_value", row.action_value.map(|level| level.name()).into()),
            ("service_class_name", row.service_class_name.to_string().into()),
        ]);
    }
}
