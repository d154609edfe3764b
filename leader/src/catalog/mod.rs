//! The catalog: what exists and where its segments are. Planning sees an immutable [`Snapshot`];
//! a commit makes the next one by applying [`Change`]s. [`log`] keeps them in SQLite.
//!
//! Invariants: a snapshot never changes once published; a name is unique in its schema; a segment
//! belongs to exactly one table and slice.

pub mod change;
pub mod comment;
pub mod constraint;
pub mod dependency;
pub mod log;
mod role;
pub mod segment_list;
pub mod system;
pub mod table;
pub mod user;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use storage::ids::TableId;

pub use change::{Change, Definition, Deletion, Rewritten};
pub use comment::Commented;
pub use role::RoleEntry;
pub use segment_list::SegmentList;
pub use table::{DistributionStyle, TableColumn, TableEntry};
pub use user::{GroupEntry, UserEntry};

/// A schema (namespace).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaEntry {
    /// Its number, never used again.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// The user who owns it.
    pub owner: String,
}

/// All that existed at one commit.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Commits since the server started.
    number: u64,
    schemas: BTreeMap<String, SchemaEntry>,
    tables: HashMap<TableId, Arc<TableEntry>>,
    names: BTreeMap<(String, String), TableId>,
    users: BTreeMap<String, UserEntry>,
    groups: BTreeMap<String, GroupEntry>,
    roles: BTreeMap<String, RoleEntry>,
    parameters: BTreeMap<String, String>,
    comments: Arc<BTreeMap<Commented, String>>,
}

impl Snapshot {
    /// The number of the commit that made it; a transaction's own changes do not count.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// It is that of the next commit.
    pub fn advance(&mut self) {
        self.number += 1;
    }

    /// The schema of that name.
    pub fn schema(&self, name: &str) -> Option<&SchemaEntry> {
        self.schemas.get(name)
    }

    /// All schemas, by name.
    pub fn schemas(&self) -> impl Iterator<Item = &SchemaEntry> {
        self.schemas.values()
    }

    /// The table of that name in that schema.
    pub fn table(&self, schema: &str, name: &str) -> Option<&Arc<TableEntry>> {
        let id = self.names.get(&(schema.to_owned(), name.to_owned()))?;
        self.tables.get(id)
    }

    /// The table with that id.
    pub fn table_by_id(&self, id: TableId) -> Option<&Arc<TableEntry>> {
        self.tables.get(&id)
    }

    /// All tables, in no order.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableEntry>> {
        self.tables.values()
    }

    /// The tables of a schema, by name.
    pub fn tables_of(&self, schema: &str) -> impl Iterator<Item = &Arc<TableEntry>> {
        let first = (schema.to_owned(), String::new());
        self.names
            .range(first..)
            .take_while(move |((owner, _), _)| owner == schema)
            .filter_map(|(_, id)| self.tables.get(id))
    }

    /// All users, by name.
    pub fn users(&self) -> impl Iterator<Item = &UserEntry> {
        self.users.values()
    }

    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&UserEntry> {
        self.users.get(name)
    }

    /// The user with that number.
    pub fn user_by_oid(&self, oid: u32) -> Option<&UserEntry> {
        self.users.values().find(|user| user.oid == oid)
    }

    /// All groups, by name.
    pub fn groups(&self) -> impl Iterator<Item = &GroupEntry> {
        self.groups.values()
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&GroupEntry> {
        self.groups.get(name)
    }

    /// The groups that a user is in.
    pub fn groups_of(&self, user: u32) -> impl Iterator<Item = &GroupEntry> {
        self.groups.values().filter(move |group| group.members.contains(&user))
    }

    /// What ALTER SYSTEM has set, by name.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }
}
