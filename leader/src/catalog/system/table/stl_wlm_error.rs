//! stl_wlm_error: queries that could not be managed as they asked.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{Kind, int4, nullable, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 315,
    name: "stl_wlm_error",
    is_view: true,
    columns: &[
        int4("userid"),
        nullable("recordtime", Kind::Timestamp),
        int4("pid"),
        text("error_string"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let errors = catalog.workload(|_, history| history.errors().cloned().collect::<Vec<_>>());
    for row in errors.into_iter().flatten().filter(|row| catalog.sees(row.userid.0)) {
        rows.add([
            ("userid", row.userid.0.into()),
            ("recordtime", row.recordtime.0.into()),
            ("pid", row.pid.0.into()),
            ("error_string", row.error_string.into()),
        ]);
    }
}
