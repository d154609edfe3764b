//! Comments on objects: kept and shown.

use std::sync::Arc;

use storage::ids::{ColumnId, TableId};

use super::Snapshot;
use super::change::{dropped_meanwhile, undefined_schema};
use crate::error::Result;

/// An object that a comment is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Commented {
    /// The database.
    Database,
    /// The schema with that number.
    Schema(u32),
    /// A table.
    Table(TableId),
    /// A column of a table.
    Column(TableId, ColumnId),
    /// A constraint of a table, by its number.
    Constraint(TableId, u32),
}

impl Commented {
    /// The table that it is, or is a part of.
    pub fn table(self) -> Option<TableId> {
        match self {
            Self::Database | Self::Schema(_) => None,
            Self::Table(table) | Self::Column(table, _) | Self::Constraint(table, _) => Some(table),
        }
    }
}

impl Snapshot {
    /// All comments. Of a column or a constraint that is gone one may be left.
    pub fn comments(&self) -> impl Iterator<Item = (Commented, &str)> {
        self.comments.iter().map(|(object, text)| (*object, text.as_str()))
    }

    pub(super) fn put_comment(&mut self, object: Commented, text: Option<&str>) -> Result<()> {
        if object.table().is_some_and(|table| self.table_by_id(table).is_none()) {
            return Err(dropped_meanwhile());
        }
        if let Commented::Schema(oid) = object
            && !self.schemas().any(|schema| schema.oid == oid)
        {
            return Err(undefined_schema(&oid.to_string()));
        }
        let comments = Arc::make_mut(&mut self.comments);
        match text {
            Some(text) => comments.insert(object, text.to_owned()),
            None => comments.remove(&object),
        };
        Ok(())
    }

    /// Forgets the comments on what is gone.
    pub(super) fn forget_comments(&mut self, is_gone: impl Fn(Commented) -> bool) {
        if self.comments.keys().any(|object| is_gone(*object)) {
            Arc::make_mut(&mut self.comments).retain(|object, _| !is_gone(*object));
        }
    }
}
