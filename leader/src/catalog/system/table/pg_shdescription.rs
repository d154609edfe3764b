//! pg_shdescription: the comment on the database.

use super::{Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{oid, text};
use crate::catalog::system::comment::Class;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2396,
    name: "pg_shdescription",
    is_view: false,
    columns: &[oid("objoid"), oid("classoid"), text("description")],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for description in catalog.descriptions().filter(|known| known.class == Class::Database) {
        rows.add([
            ("objoid", description.oid.into()),
            ("classoid", description.class.oid().into()),
            ("description", description.text.to_owned().into()),
        ]);
    }
}
