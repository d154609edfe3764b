//! What a transaction changes in the catalog. A commit applies its changes to the latest snapshot
//! and writes them to the log, all or none.

use std::sync::Arc;

use storage::ids::{SliceId, TableId};
use storage::statistics::SegmentInfo;

use super::{GroupEntry, SchemaEntry, Snapshot, TableEntry, UserEntry};
use crate::error::{Error, Result, code};

/// One change.
#[derive(Debug, Clone)]
pub enum Change {
    /// CREATE SCHEMA
    CreateSchema(SchemaEntry),
    /// DROP SCHEMA of an empty schema.
    DropSchema(String),
    /// CREATE TABLE: the entry holds no segments yet.
    CreateTable(Arc<TableEntry>),
    /// DROP TABLE
    DropTable(TableId),
    /// Rows were added: the segments become visible with the commit.
    AddSegments(TableId, Vec<(SliceId, Arc<SegmentInfo>)>),
    /// TRUNCATE: no row is left.
    Truncate(TableId),
    /// A user exists with this entry from now on.
    PutUser(UserEntry),
    /// DROP USER: the user with this number.
    DropUser(u32),
    /// A group exists with this entry from now on.
    PutGroup(GroupEntry),
    /// DROP GROUP: the group with this number.
    DropGroup(u32),
    /// ALTER SYSTEM SET: name and value; None is DEFAULT.
    PutParameter(String, Option<String>),
}

impl Snapshot {
    /// The snapshot after the change. An error means that the change does not fit (any more): a
    /// name was taken or a table dropped by another transaction.
    pub fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::CreateSchema(entry) => self.create_schema(entry),
            Change::DropSchema(name) => self.drop_schema(name),
            Change::CreateTable(entry) => self.create_table(entry),
            Change::DropTable(id) => self.drop_table(*id),
            Change::AddSegments(id, segments) => self.add_segments(*id, segments),
            Change::Truncate(id) => self.truncate(*id),
            Change::PutUser(entry) => self.put_user(entry),
            Change::DropUser(oid) => self.drop_user(*oid),
            Change::PutGroup(entry) => self.put_group(entry),
            Change::DropGroup(oid) => self.drop_group(*oid),
            Change::PutParameter(name, value) => {
                match value {
                    Some(value) => self.parameters.insert(name.clone(), value.clone()),
                    None => self.parameters.remove(name),
                };
                Ok(())
            }
        }
    }

    fn create_schema(&mut self, entry: &SchemaEntry) -> Result<()> {
        if self.schemas.contains_key(&entry.name) {
            let message = format!("schema \"{}\" already exists", entry.name);
            return Err(Error::statement(code::DUPLICATE_SCHEMA, message));
        }
        self.schemas.insert(entry.name.clone(), entry.clone());
        Ok(())
    }

    fn drop_schema(&mut self, name: &str) -> Result<()> {
        if self.tables_of(name).next().is_some() {
            let message = format!("cannot drop schema {name} because other objects depend on it");
            return Err(Error::statement(code::DEPENDENT_OBJECTS_STILL_EXIST, message)
                .with_hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        match self.schemas.remove(name) {
            Some(_) => Ok(()),
            None => Err(undefined_schema(name)),
        }
    }

    fn create_table(&mut self, entry: &Arc<TableEntry>) -> Result<()> {
        if !self.schemas.contains_key(&entry.schema) {
            return Err(undefined_schema(&entry.schema));
        }
        let name = (entry.schema.clone(), entry.name.clone());
        if self.names.contains_key(&name) {
            let message = format!("relation \"{}\" already exists", entry.name);
            return Err(Error::statement(code::DUPLICATE_TABLE, message));
        }
        self.names.insert(name, entry.id);
        self.tables.insert(entry.id, Arc::clone(entry));
        Ok(())
    }

    fn drop_table(&mut self, id: TableId) -> Result<()> {
        let entry = self.tables.remove(&id).ok_or_else(dropped_meanwhile)?;
        self.names.remove(&(entry.schema.clone(), entry.name.clone()));
        Ok(())
    }

    fn add_segments(
        &mut self,
        id: TableId,
        segments: &[(SliceId, Arc<SegmentInfo>)],
    ) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        for (slice, segment) in segments {
            let index = slice.0 as usize;
            assert!(index < entry.slices.len(), "a segment belongs to a slice of its table");
            entry.slices[index].push(Arc::clone(segment));
        }
        Ok(())
    }

    fn truncate(&mut self, id: TableId) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        entry.slices.iter_mut().for_each(Vec::clear);
        Ok(())
    }
}

/// The schema of a statement does not exist.
pub fn undefined_schema(name: &str) -> Error {
    Error::statement(code::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
}

/// Redshift's words for a table that is gone from the transaction's snapshot.
fn dropped_meanwhile() -> Error {
    Error::statement(code::INTERNAL_ERROR, "1018").with_detail("Relation does not exist.")
}
