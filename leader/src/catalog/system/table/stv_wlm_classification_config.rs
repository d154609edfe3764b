//! stv_wlm_classification_config: which queries go to which queue.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{int4, text};
use wlm::view::classification_rows;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 311,
    name: "stv_wlm_classification_config",
    is_view: true,
    columns: &[
        int4("id"),
        text("condition"),
        int4("action_seq"),
        text("action"),
        int4("action_service_class"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let rules = catalog.workload(|scheduler, _| classification_rows(scheduler.config()));
    for rule in rules.into_iter().flatten() {
        rows.add([
            ("id", rule.id.into()),
            ("condition", rule.condition.into()),
            ("action_seq", rule.action_seq.into()),
            ("action", rule.action.into()),
            ("action_service_class", u32::from(rule.action_service_class.0).into()),
        ]);
    }
}
