//! pg_tables: the tables, by name.

use super::{OWN_OIDS, Rows, SystemTable};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{bool, name};
use crate::catalog::system::relation::Relation;
use crate::engine::SUPERUSER;

pub(super) const TABLE: SystemTable = SystemTable {
    oid: OWN_OIDS + 3,
    name: "pg_tables",
    is_view: true,
    columns: &[
        name("schemaname"),
        name("tablename"),
        name("tableowner"),
        name("tablespace"),
        bool("hasindexes"),
        bool("hasrules"),
        bool("hastriggers"),
        bool("rowsecurity"),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for relation in catalog.relations() {
        let owner = match &relation {
            Relation::User(entry) => entry.owner.clone(),
            Relation::System(table) if table.is_view => continue,
            Relation::System(_) => SUPERUSER.to_owned(),
        };
        rows.add([
            ("schemaname", relation.schema().to_owned().into()),
            ("tablename", relation.name().to_owned().into()),
            ("tableowner", owner.into()),
        ]);
    }
}
