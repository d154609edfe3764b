//! Comments as the system catalog numbers what they are about.

use super::{DATABASE_OID, SystemCatalog};
use crate::catalog::Commented;

/// A comment.
pub(super) struct Description<'a> {
    /// The system table that has the object.
    pub(super) class: Class,
    /// Its number there.
    pub(super) oid: u32,
    /// The position of a column, from 1; 0 is the object itself.
    pub(super) part: u32,
    pub(super) text: &'a str,
}

/// A system table of objects that can have comments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Relation,
    Constraint,
    Schema,
    Database,
}

impl Class {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Relation => "pg_class",
            Self::Constraint => "pg_constraint",
            Self::Schema => "pg_namespace",
            Self::Database => "pg_database",
        }
    }

    /// Its number, as in PostgreSQL.
    pub(super) fn oid(self) -> u32 {
        match self {
            Self::Relation => 1259,
            Self::Constraint => 2606,
            Self::Schema => 2615,
            Self::Database => 1262,
        }
    }
}

impl SystemCatalog {
    /// All comments on what is there.
    pub(super) fn descriptions(&self) -> impl Iterator<Item = Description<'_>> {
        self.snapshot.comments().filter_map(|(object, text)| {
            let (class, oid, part) = match object {
                Commented::Database => (Class::Database, DATABASE_OID, 0),
                Commented::Schema(oid) => (Class::Schema, oid, 0),
                Commented::Table(table) => (Class::Relation, table.0, 0),
                Commented::Column(table, column) => {
                    let entry = self.snapshot.table_by_id(table)?;
                    let position = entry.columns.iter().position(|own| own.id == column)?;
                    (Class::Relation, table.0, u32::try_from(position + 1).ok()?)
                }
                Commented::Constraint(table, oid) => {
                    let entry = self.snapshot.table_by_id(table)?;
                    entry.constraints.iter().find(|constraint| constraint.oid == oid)?;
                    (Class::Constraint, oid, 0)
                }
            };
            Some(Description { class, oid, part, text })
        })
    }
}
