//! Relations as the system catalog lists them: tables of users and system tables alike.

use std::sync::Arc;

use super::column::Column;
use super::table::{self, SystemTable};
use super::{PG_CATALOG, SystemCatalog};
use crate::catalog::{TableColumn, TableEntry};
use crate::pgwire::types::WireType;

/// A relation.
pub(super) enum Relation {
    /// A table that a user made.
    User(Arc<TableEntry>),
    /// A table of the system catalog.
    System(&'static SystemTable),
}

/// A column of a relation.
pub(super) enum RelationColumn<'a> {
    /// With its position.
    User(usize, &'a TableColumn),
    System(&'a Column),
}

impl Relation {
    pub(super) fn oid(&self) -> u32 {
        match self {
            Self::User(entry) => entry.id.0,
            Self::System(table) => table.oid,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::User(entry) => &entry.name,
            Self::System(table) => table.name,
        }
    }

    pub(super) fn schema(&self) -> &str {
        match self {
            Self::User(entry) => &entry.schema,
            Self::System(_) => PG_CATALOG,
        }
    }

    pub(super) fn columns(&self) -> Vec<RelationColumn<'_>> {
        match self {
            Self::User(entry) => {
                let columns = entry.columns.iter().enumerate();
                columns.map(|(position, column)| RelationColumn::User(position, column)).collect()
            }
            Self::System(table) => table.columns.iter().map(RelationColumn::System).collect(),
        }
    }

    /// Bytes of its files.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::User(entry) => {
                entry.slices.iter().flatten().map(|segment| segment.byte_count).sum()
            }
            Self::System(_) => 0,
        }
    }
}

impl RelationColumn<'_> {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::User(_, column) => &column.name,
            Self::System(column) => column.name,
        }
    }

    pub(super) fn wire_type(&self) -> WireType {
        match self {
            Self::User(_, column) => WireType::of_field(&column.sql_type.field("", true)),
            Self::System(column) => WireType::of_field(&column.kind.field("", true)),
        }
    }

    pub(super) fn is_nullable(&self) -> bool {
        match self {
            Self::User(_, column) => column.nullable,
            Self::System(column) => column.is_nullable(),
        }
    }
}

impl SystemCatalog {
    /// All relations, by number.
    pub(super) fn relations(&self) -> Vec<Relation> {
        let system = table::all().iter().map(|table| Relation::System(table));
        let user = self.snapshot.tables().map(|entry| Relation::User(Arc::clone(entry)));
        let mut relations: Vec<_> = system.chain(user).collect();
        relations.sort_by_key(Relation::oid);
        relations
    }

    /// The relation with that number.
    pub(super) fn relation(&self, oid: i64) -> Option<Relation> {
        let oid = u32::try_from(oid).ok()?;
        if let Some(table) = table::all().iter().find(|table| table.oid == oid) {
            return Some(Relation::System(table));
        }
        let entry = self.snapshot.table_by_id(storage::ids::TableId(oid))?;
        Some(Relation::User(Arc::clone(entry)))
    }

    /// The relation that a name stands for, along the search path if it has no schema.
    pub(super) fn relation_named(&self, schema: Option<&str>, name: &str) -> Option<Relation> {
        match schema {
            Some(PG_CATALOG) => table::find(name).map(Relation::System),
            Some(schema) => {
                self.snapshot.table(schema, name).map(|entry| Relation::User(Arc::clone(entry)))
            }
            None => self
                .session
                .effective_search_path()
                .into_iter()
                .find_map(|schema| self.relation_named(Some(schema), name)),
        }
    }

    /// Whether the relation is what its bare name stands for.
    pub(super) fn is_visible(&self, relation: &Relation) -> bool {
        self.relation_named(None, relation.name())
            .is_some_and(|found| found.oid() == relation.oid())
    }
}
