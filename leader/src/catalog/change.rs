//! What a transaction changes in the catalog. A commit applies its changes to the latest snapshot
//! and writes them to the log, all or none.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use compute::Deletions;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{SegmentId, SliceId, TableId};
use storage::row_set::RowSet;
use storage::statistics::SegmentInfo;

use super::dependency::{ForeignKey, is_needed};
use super::{
    Commented, DistributionStyle, GroupEntry, RoleEntry, SchemaEntry, SegmentList, Snapshot,
    TableEntry, UserEntry,
};
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
    /// ALTER TABLE: the same rows, otherwise defined.
    Define(TableId, Definition),
    /// DROP TABLE of a table that no other needs.
    DropTable(TableId),
    /// COMMENT; None removes it.
    PutComment(Commented, Option<String>),
    /// Rows were added, placed in this style: the segments become visible with the commit.
    AddSegments(TableId, DistributionStyle, Vec<(SliceId, Arc<SegmentInfo>)>),
    /// The rows of a DISTSTYLE AUTO table live there from now on.
    Place(TableId, DistributionStyle),
    /// Rows have got numbers below this one, for the values of identity columns.
    TakeNumbers(TableId, u64),
    /// TRUNCATE: no row is left.
    Truncate(TableId),
    /// Rows were deleted.
    DeleteRows(TableId, Vec<Deletion>),
    /// Segments were written again without their deleted rows, and sorted perhaps: VACUUM.
    Rewrite(TableId, Vec<Rewritten>),
    /// A user exists with this entry from now on, where it had the other one before, or did not exist.
    PutUser(UserEntry, Option<UserEntry>),
    /// DROP USER: the user with this number.
    DropUser(u32),
    /// A group exists with this entry from now on, likewise.
    PutGroup(GroupEntry, Option<GroupEntry>),
    /// DROP GROUP: the group with this number.
    DropGroup(u32),
    /// A role exists with this entry from now on, where it had the other one before, or did not exist.
    PutRole(RoleEntry, Option<RoleEntry>),
    /// DROP ROLE: the role with this number.
    DropRole(u32),
    /// ALTER SYSTEM SET: name and value; None is DEFAULT.
    PutParameter(String, Option<String>),
}

/// How a table is defined from now on.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The definition that was changed: by now there must be no other.
    before: Arc<TableEntry>,
    /// The new one. Its segments are not looked at.
    after: Arc<TableEntry>,
}

impl Definition {
    /// From one definition of a table to another.
    pub fn change(before: &Arc<TableEntry>, after: Arc<TableEntry>) -> Self {
        Self { before: Arc::clone(before), after }
    }

    /// The new one.
    pub fn after(&self) -> &TableEntry {
        &self.after
    }
}

/// Rows of one segment that are deleted.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// The slice of the segment.
    pub slice: SliceId,
    /// The segment.
    pub segment: Arc<SegmentInfo>,
    /// The vector that counted before.
    pub base: Option<Arc<DeletionVectorInfo>>,
    /// The vector that counts from now on; without one no row is left, and the segment goes.
    pub vector: Option<Arc<DeletionVectorInfo>>,
    /// The rows that this change deletes.
    pub rows: Arc<RowSet>,
}

/// Segments of one slice that others take the place of.
#[derive(Debug, Clone)]
pub struct Rewritten {
    /// The slice.
    pub slice: SliceId,
    /// The segments that go, with the vectors that counted when they were read.
    pub sources: Vec<(Arc<SegmentInfo>, Option<Arc<DeletionVectorInfo>>)>,
    /// The segments with their rows.
    pub segments: Vec<Arc<SegmentInfo>>,
}

impl Snapshot {
    /// The snapshot after the change. An error means that the change does not fit (any more): a
    /// name was taken or a table dropped by another transaction.
    pub fn apply(&mut self, change: &Change) -> Result<()> {
        match change {
            Change::CreateSchema(entry) => self.create_schema(entry),
            Change::DropSchema(name) => self.drop_schema(name),
            Change::CreateTable(entry) => self.create_table(entry),
            Change::Define(id, definition) => self.define(*id, definition),
            Change::DropTable(id) => self.drop_unneeded_table(*id),
            Change::PutComment(object, text) => self.put_comment(*object, text.as_deref()),
            Change::AddSegments(id, placed, segments) => self.add_segments(*id, *placed, segments),
            Change::Place(id, style) => self.place(*id, *style),
            Change::TakeNumbers(id, end) => self.take_numbers(*id, *end),
            Change::Truncate(id) => self.truncate(*id),
            Change::DeleteRows(id, deletions) => self.delete_rows(*id, deletions),
            Change::Rewrite(id, rewritten) => self.rewrite(*id, rewritten),
            Change::PutUser(entry, before) => self.put_user(entry, before.as_ref()),
            Change::DropUser(oid) => self.drop_user(*oid),
            Change::PutGroup(entry, before) => self.put_group(entry, before.as_ref()),
            Change::DropGroup(oid) => self.drop_group(*oid),
            Change::PutRole(entry, before) => self.put_role(entry, before.as_ref()),
            Change::DropRole(oid) => self.drop_role(*oid),
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
        let entry = self.schemas.remove(name).ok_or_else(|| undefined_schema(name))?;
        self.forget_comments(|object| object == Commented::Schema(entry.oid));
        Ok(())
    }

    fn create_table(&mut self, entry: &Arc<TableEntry>) -> Result<()> {
        if !self.schemas.contains_key(&entry.schema) {
            return Err(undefined_schema(&entry.schema));
        }
        self.check_name_is_free(&entry.schema, &entry.name)?;
        self.names.insert((entry.schema.clone(), entry.name.clone()), entry.id);
        self.tables.insert(entry.id, Arc::clone(entry));
        Ok(())
    }

    fn check_name_is_free(&self, schema: &str, name: &str) -> Result<()> {
        if self.names.contains_key(&(schema.to_owned(), name.to_owned())) {
            let message = format!("relation \"{name}\" already exists");
            return Err(Error::statement(code::DUPLICATE_TABLE, message));
        }
        Ok(())
    }

    fn define(&mut self, id: TableId, definition: &Definition) -> Result<()> {
        let entry = Arc::clone(self.tables.get(&id).ok_or_else(dropped_meanwhile)?);
        if !entry.is_defined_as(&definition.before) {
            return Err(Error::Conflict { table: id, other: None });
        }
        let after = &definition.after;
        if after.owner != entry.owner && !self.users.contains_key(&after.owner) {
            let message = format!("user \"{}\" does not exist", after.owner);
            return Err(Error::statement(code::UNDEFINED_OBJECT, message));
        }
        if (&after.schema, &after.name) != (&entry.schema, &entry.name) {
            self.check_name_is_free(&after.schema, &after.name)?;
        }
        check_not_null(&entry, after)?;
        self.check_unneeded(&entry, after)?;
        let mut next = TableEntry::clone(after);
        next.slices.clone_from(&entry.slices);
        next.deletions = Deletions::clone(&entry.deletions);
        next.numbers_taken = entry.numbers_taken;
        self.drop_table(id)?;
        self.create_table(&Arc::new(next))
    }

    /// Refuses to let columns and keys go that foreign keys of other tables need.
    fn check_unneeded(&self, before: &TableEntry, after: &TableEntry) -> Result<()> {
        let check = |what: String, mut keys: Vec<ForeignKey>| {
            keys.retain(|key| key.table != before.id);
            if keys.is_empty() { Ok(()) } else { Err(is_needed(&what, &keys)) }
        };
        for (position, column) in before.columns.iter().enumerate() {
            if after.columns.iter().all(|left| left.id != column.id) {
                let what = format!("table {} column {}", before.name, column.name);
                check(what, self.keys_to_column(before, position))?;
            }
        }
        for constraint in &before.constraints {
            if after.constraints.iter().all(|left| left.oid != constraint.oid) {
                let what = format!("constraint {} on table {}", constraint.name, before.name);
                check(what, self.keys_to_constraint(before, constraint))?;
            }
        }
        Ok(())
    }

    fn drop_unneeded_table(&mut self, id: TableId) -> Result<()> {
        let entry = Arc::clone(self.tables.get(&id).ok_or_else(dropped_meanwhile)?);
        let mut keys = self.keys_to_table(&entry);
        keys.retain(|key| key.table != id);
        if !keys.is_empty() {
            return Err(is_needed(&format!("table {}", entry.name), &keys));
        }
        self.forget_comments(|object| object.table() == Some(id));
        self.drop_table(id)
    }

    fn drop_table(&mut self, id: TableId) -> Result<()> {
        let entry = self.tables.remove(&id).ok_or_else(dropped_meanwhile)?;
        self.names.remove(&(entry.schema.clone(), entry.name.clone()));
        Ok(())
    }

    fn add_segments(
        &mut self,
        id: TableId,
        placed: DistributionStyle,
        segments: &[(SliceId, Arc<SegmentInfo>)],
    ) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        // Rows that are placed in turn may be anywhere; else all must be where they are looked for.
        if entry.distribution != DistributionStyle::Even && entry.distribution != placed {
            return Err(Error::Conflict { table: id, other: None });
        }
        for (slice, segment) in segments {
            let index = slice.0 as usize;
            assert!(index < entry.slices.len(), "a segment belongs to a slice of its table");
            entry.slices[index].push(Arc::clone(segment));
        }
        Ok(())
    }

    fn place(&mut self, id: TableId, style: DistributionStyle) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        let is_empty = entry.slices.iter().all(SegmentList::is_empty);
        // A table never goes back to every node: rows that lie elsewhere would not be read there.
        let fits = match (entry.distribution, style) {
            (before, after) if before == after => true,
            (DistributionStyle::All, DistributionStyle::Even) => true,
            (DistributionStyle::All, DistributionStyle::Key(_)) => is_empty,
            _ => false,
        };
        if !entry.is_automatic || !fits {
            return Err(Error::Conflict { table: id, other: None });
        }
        entry.distribution = style;
        Ok(())
    }

    fn take_numbers(&mut self, id: TableId, end: u64) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        entry.numbers_taken = entry.numbers_taken.max(end);
        Ok(())
    }

    fn truncate(&mut self, id: TableId) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        entry.slices.iter_mut().for_each(SegmentList::clear);
        entry.deletions = Deletions::default();
        Ok(())
    }

    fn delete_rows(&mut self, id: TableId, deletions: &[Deletion]) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        let mut gone: BTreeMap<SliceId, HashSet<SegmentId>> = BTreeMap::new();
        for deletion in deletions {
            let (slice, segment) = (deletion.slice, deletion.segment.id);
            let is_there = has_segment(entry, slice, segment);
            check_unchanged(entry, is_there, segment, deletion.base.as_ref())?;
            match &deletion.vector {
                Some(vector) => {
                    Arc::make_mut(&mut entry.deletions).insert(segment, Arc::clone(vector));
                }
                None => drop(gone.entry(slice).or_default().insert(segment)),
            }
        }
        for (slice, segments) in &gone {
            remove_segments(entry, *slice, segments);
        }
        Ok(())
    }

    fn rewrite(&mut self, id: TableId, rewritten: &[Rewritten]) -> Result<()> {
        let entry = Arc::make_mut(self.tables.get_mut(&id).ok_or_else(dropped_meanwhile)?);
        for Rewritten { slice, sources, segments } in rewritten {
            // These may be thousands of small ones.
            let known = entry.slices.get(slice.0 as usize).into_iter().flatten();
            let known: HashSet<SegmentId> = known.map(|segment| segment.id).collect();
            let mut gone = HashSet::with_capacity(sources.len());
            for (source, vector) in sources {
                let is_there = known.contains(&source.id) && gone.insert(source.id);
                check_unchanged(entry, is_there, source.id, vector.as_ref())?;
            }
            remove_segments(entry, *slice, &gone);
            entry.slices[slice.0 as usize].extend(segments.iter().map(Arc::clone));
        }
        Ok(())
    }
}

/// A column that becomes NOT NULL has a value in all rows that are there.
fn check_not_null(entry: &TableEntry, after: &TableEntry) -> Result<()> {
    let was_not_null = |id| entry.columns.iter().any(|column| column.id == id && !column.nullable);
    let new = after.columns.iter().filter(|column| !column.nullable && !was_not_null(column.id));
    for column in new {
        let has_values = |segment: &Arc<SegmentInfo>| {
            segment.column(column.id).is_some_and(|statistics| statistics.null_count == 0)
        };
        if !entry.slices.iter().flatten().all(has_values) {
            let message = format!("column \"{}\" contains null values", column.name);
            return Err(Error::statement("23502", message));
        }
    }
    Ok(())
}

fn has_segment(entry: &TableEntry, slice: SliceId, segment: SegmentId) -> bool {
    let segments = entry.slices.get(slice.0 as usize);
    segments.is_some_and(|segments| segments.iter().any(|known| known.id == segment))
}

/// The segment is there, with this vector and no other: what was decided by it still holds.
fn check_unchanged(
    entry: &TableEntry,
    is_there: bool,
    segment: SegmentId,
    vector: Option<&Arc<DeletionVectorInfo>>,
) -> Result<()> {
    let found = entry.deletions.get(&segment).map(|vector| vector.id);
    if is_there && found == vector.map(|vector| vector.id) {
        return Ok(());
    }
    Err(Error::Conflict { table: entry.id, other: None })
}

fn remove_segments(entry: &mut TableEntry, slice: SliceId, gone: &HashSet<SegmentId>) {
    entry.slices[slice.0 as usize].retain(|segment| !gone.contains(&segment.id));
    if entry.deletions.keys().any(|segment| gone.contains(segment)) {
        Arc::make_mut(&mut entry.deletions).retain(|segment, _| !gone.contains(segment));
    }
}

/// The schema of a statement does not exist.
pub fn undefined_schema(name: &str) -> Error {
    Error::statement(code::INVALID_SCHEMA_NAME, format!("schema \"{name}\" does not exist"))
}

/// Redshift's words for a table that is gone from the transaction's snapshot.
pub fn dropped_meanwhile() -> Error {
    Error::statement(code::INTERNAL_ERROR, "1018").with_detail("Relation does not exist.")
}
