//! pg_depend: which object needs which other one. Constraints need the columns of their table, and
//! foreign keys those that they reference.

use storage::ids::ColumnId;

use super::{Rows, SystemTable};
use crate::catalog::TableEntry;
use crate::catalog::constraint::ConstraintKind;
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::{char, int4, oid};
use crate::catalog::system::comment::Class;
use crate::catalog::system::relation::Relation;

/// The object goes with what it needs.
const AUTOMATIC: &str = "a";
/// The object has to go first, or CASCADE takes it along.
const NORMAL: &str = "n";

pub(super) const TABLE: SystemTable = SystemTable {
    oid: 2608,
    name: "pg_depend",
    is_view: false,
    columns: &[
        oid("classid"),
        oid("objid"),
        int4("objsubid"),
        oid("refclassid"),
        oid("refobjid"),
        int4("refobjsubid"),
        char("deptype", NORMAL),
    ],
    rows,
};

fn rows(catalog: &SystemCatalog, rows: &mut Rows) {
    for relation in catalog.relations() {
        let Relation::User(entry) = &relation else { continue };
        for constraint in &entry.constraints {
            let own = constraint.columns.iter().map(|position| position + 1);
            add(rows, constraint.oid, entry, own, AUTOMATIC);
            let ConstraintKind::ForeignKey { found: Some(found), .. } = &constraint.kind else {
                continue;
            };
            let Some(referenced) = catalog.snapshot.table_by_id(found.table) else { continue };
            let number = |id: &ColumnId| {
                let position = referenced.columns.iter().position(|column| column.id == *id);
                position.map(|position| position + 1)
            };
            // Without columns it is the table's primary key.
            match found.columns.is_empty() {
                true => add(rows, constraint.oid, referenced, [0], NORMAL),
                false => {
                    let numbers = found.columns.iter().filter_map(number);
                    add(rows, constraint.oid, referenced, numbers, NORMAL);
                }
            }
        }
    }
}

/// A constraint needs these columns of a table, counted from 1; 0 is the table.
fn add(
    rows: &mut Rows,
    constraint: u32,
    table: &TableEntry,
    columns: impl IntoIterator<Item = usize>,
    kind: &'static str,
) {
    for column in columns {
        rows.add([
            ("classid", Class::Constraint.oid().into()),
            ("objid", constraint.into()),
            ("refclassid", Class::Relation.oid().into()),
            ("refobjid", table.id.0.into()),
            ("refobjsubid", column.into()),
            ("deptype", kind.into()),
        ]);
    }
}
