//! pg_description: the comments on objects. That of the database is here too, as in Redshift.

use super::{Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{int4, oid, text};

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2609,
    name: "pg_description",
    is_view: false,
    columns: &[oid("objoid"), oid("classoid"), int4("objsubid"), text("description")],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for description in catalog.descriptions() {
        rows.add([
            ("objoid", description.oid.into()),
            ("classoid", description.class.oid().into()),
            ("objsubid", description.part.into()),
            ("description", description.text.to_owned().into()),
        ]);
    }
}
