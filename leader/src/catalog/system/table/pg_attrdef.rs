//! pg_attrdef: the defaults of columns. They have no number of their own: relation and column name
//! them.

use super::{Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{int2, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2604,
    name: "pg_attrdef",
    is_view: false,
    columns: &[oid("adrelid"), int2("adnum"), text("adbin"), text("adsrc")],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for entry in catalog.snapshot.tables() {
        for (position, column) in entry.columns.iter().enumerate() {
            let default = column.default.clone().or_else(|| entry.identity_default(position));
            let Some(default) = default else { continue };
            rows.add([
                ("adrelid", entry.id.0.into()),
                ("adnum", (position + 1).into()),
                ("adbin", default.clone().into()),
                ("adsrc", default.into()),
            ]);
        }
    }
}
