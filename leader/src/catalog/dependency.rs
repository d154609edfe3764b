//! What needs a table, a column or a key: foreign keys. They are not enforced, and still nothing that
//! they name goes without them (DROP ... RESTRICT and CASCADE).

use storage::ids::{ColumnId, TableId};

use super::constraint::{ConstraintEntry, ConstraintKind, Referenced};
use super::{Snapshot, TableEntry};
use crate::error::{Error, code};

/// A foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// The table that it belongs to.
    pub table: TableId,
    /// The number of the constraint.
    pub oid: u32,
    /// The constraint and its table, in words.
    pub title: String,
    /// What it needs, in words.
    pub needs: String,
}

impl ForeignKey {
    fn new(owner: &TableEntry, constraint: &ConstraintEntry, needs: &str) -> Self {
        Self {
            table: owner.id,
            oid: constraint.oid,
            title: format!("constraint {} on table {}", constraint.name, owner.name),
            needs: needs.to_owned(),
        }
    }
}

impl Snapshot {
    /// Foreign keys that need a table, those of the table itself too.
    pub fn keys_to_table(&self, table: &TableEntry) -> Vec<ForeignKey> {
        let needs = format!("table {}", table.name);
        self.keys_to(table.id).map(|(owner, key, _)| ForeignKey::new(owner, key, &needs)).collect()
    }

    /// Foreign keys that need a column of a table, but for those that go with it: its own.
    pub fn keys_to_column(&self, table: &TableEntry, position: usize) -> Vec<ForeignKey> {
        let column = &table.columns[position];
        let needs = format!("column {} of table {}", column.name, table.name);
        self.keys_to(table.id)
            .filter(|(_, _, found)| referenced_columns(table, found).contains(&column.id))
            .filter(|(owner, key, _)| owner.id != table.id || !key.columns.contains(&position))
            .map(|(owner, key, _)| ForeignKey::new(owner, key, &needs))
            .collect()
    }

    /// Foreign keys that need a key of a table: those of its columns, if no other key has the same.
    pub fn keys_to_constraint(
        &self,
        table: &TableEntry,
        constraint: &ConstraintEntry,
    ) -> Vec<ForeignKey> {
        if matches!(constraint.kind, ConstraintKind::ForeignKey { .. }) {
            return Vec::new();
        }
        let needs = format!("constraint {} on table {}", constraint.name, table.name);
        let own = column_set(table, &constraint.columns);
        let has_other = table.constraints.iter().any(|other| {
            other.oid != constraint.oid
                && !matches!(other.kind, ConstraintKind::ForeignKey { .. })
                && column_set(table, &other.columns) == own
        });
        let needs_it = |found: &Referenced| {
            let mut columns = referenced_columns(table, found);
            columns.sort_unstable();
            match found.columns.is_empty() {
                true => constraint.kind == ConstraintKind::PrimaryKey,
                false => columns == own && !has_other,
            }
        };
        self.keys_to(table.id)
            .filter(|(_, _, found)| needs_it(found))
            .map(|(owner, key, _)| ForeignKey::new(owner, key, &needs))
            .collect()
    }

    fn keys_to(
        &self,
        table: TableId,
    ) -> impl Iterator<Item = (&TableEntry, &ConstraintEntry, &Referenced)> {
        let mut owners: Vec<&TableEntry> = self.tables().map(AsRef::as_ref).collect();
        owners.sort_unstable_by_key(|owner| owner.id);
        owners.into_iter().flat_map(move |owner| {
            owner.constraints.iter().filter_map(move |key| {
                let ConstraintKind::ForeignKey { found: Some(found), .. } = &key.kind else {
                    return None;
                };
                (found.table == table).then_some((owner, key, found))
            })
        })
    }
}

/// The columns that a foreign key names, or those of the primary key if it names none.
fn referenced_columns(table: &TableEntry, found: &Referenced) -> Vec<ColumnId> {
    if !found.columns.is_empty() {
        return found.columns.clone();
    }
    let primary = table.constraints.iter().find(|key| key.kind == ConstraintKind::PrimaryKey);
    primary.map_or_else(Vec::new, |key| column_set(table, &key.columns))
}

fn column_set(table: &TableEntry, positions: &[usize]) -> Vec<ColumnId> {
    let mut columns: Vec<ColumnId> = positions.iter().map(|at| table.columns[*at].id).collect();
    columns.sort_unstable();
    columns
}

/// What cannot be dropped, because these need it.
pub fn is_needed(what: &str, keys: &[ForeignKey]) -> Error {
    let detail: Vec<String> =
        keys.iter().map(|key| format!("{} depends on {}", key.title, key.needs)).collect();
    let message = format!("cannot drop {what} because other objects depend on it");
    Error::statement(code::DEPENDENT_OBJECTS_STILL_EXIST, message)
        .with_detail(detail.join("\n"))
        .with_hint("Use DROP ... CASCADE to drop the dependent objects too.")
}
