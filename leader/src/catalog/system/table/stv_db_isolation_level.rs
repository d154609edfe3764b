//! stv_db_isolation_level: what transactions of the database get at least.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::text;
use crate::engine::DATABASE;
use crate::transaction::isolation::Isolation;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 331,
    name: "stv_db_isolation_level",
    is_view: true,
    columns: &[text("db_name"), text("isolation_level")],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    let level = Isolation::of_database(&catalog.snapshot).title();
    rows.add([("db_name", DATABASE.into()), ("isolation_level", level.into())]);
}
