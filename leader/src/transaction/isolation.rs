//! Isolation levels, and what a serializable transaction must find unchanged when it commits.
//!
//! ```text
//! statement   binds a table -> its number goes to the transaction's reads
//! commit      writes nothing? all it has read is one snapshot: done
//!             a table of its reads was changed by a commit after its snapshot? error 1023
//!             else what it has read is what is there now: it might as well have run all of it now
//! ```
//!
//! So transactions that write take effect one after another in the order of their commits, and those
//! that only read take effect at their snapshots, between two commits. What is compared is tables:
//! whichever rows were read, and whether or not there are any, a change of the table counts.
//!
//! Invariants: reads are only forgotten when nobody was told what was read; a commit is entered into
//! [`TableHistories`] before its snapshot is published and while the log is held.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use sql::statement::IsolationLevel;
use storage::ids::{TableId, Xid};

use crate::catalog::{Change, Snapshot};
use crate::error::{Error, Result};

/// The parameter of the catalog that holds the level of the database.
pub const DATABASE_ISOLATION: &str = "database_isolation_level";
/// Dropped tables that are remembered at least, so that a conflict names who dropped them.
const HISTORIES_MIN: usize = 1_000;

/// What a transaction may miss of others. A greater one misses less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Isolation {
    /// It reads one snapshot, and changes no row that was changed since. Write skew is possible.
    #[default]
    Snapshot,
    /// As if it were alone.
    Serializable,
}

impl Isolation {
    /// The level that gives all that is asked for.
    pub fn of(level: IsolationLevel) -> Self {
        match level {
            IsolationLevel::Serializable => Self::Serializable,
            IsolationLevel::Snapshot
            | IsolationLevel::RepeatableRead
            | IsolationLevel::ReadCommitted
            | IsolationLevel::ReadUncommitted => Self::Snapshot,
        }
    }

    /// The same for the words of a parameter.
    pub fn of_words(words: &str) -> Self {
        if words == Self::Serializable.words() { Self::Serializable } else { Self::Snapshot }
    }

    /// As parameters have it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Serializable => "serializable",
        }
    }

    /// As system tables have it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Snapshot => "Snapshot Isolation",
            Self::Serializable => "Serializable",
        }
    }

    /// The level of the database: no transaction gets less.
    pub fn of_database(snapshot: &Snapshot) -> Self {
        let words = snapshot.parameters().get(DATABASE_ISOLATION);
        words.map_or_else(Self::default, |words| Self::of_words(words))
    }
}

/// The tables that a transaction has read. Binding notes them, on whichever thread it runs.
#[derive(Debug, Clone, Default)]
pub struct Reads(Arc<Mutex<BTreeSet<TableId>>>);

impl Reads {
    /// A statement reads the table.
    pub fn note(&self, table: TableId) {
        self.0.lock().insert(table);
    }

    /// All of them.
    pub(super) fn tables(&self) -> BTreeSet<TableId> {
        self.0.lock().clone()
    }

    /// Nobody was told what was read.
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}

/// What must still be true at a commit; nothing if there are no tables.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadSet {
    /// The commit whose snapshot was read.
    pub(super) since: u64,
    /// What was read of it.
    pub(super) tables: BTreeSet<TableId>,
}

/// What was committed last to a table since the server started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableHistory {
    /// When, whatever it was; microseconds since 1970.
    pub committed_us: i64,
    /// The last change that a reader can see.
    pub changed: Option<TableChanged>,
}

impl TableHistory {
    /// Who has changed it after the commit of that number.
    pub(super) fn changed_since(&self, number: u64) -> Option<Xid> {
        self.changed.filter(|changed| changed.number > number).map(|changed| changed.xid)
    }
}

/// A change of rows or of the definition of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableChanged {
    /// The number of the commit.
    number: u64,
    /// The transaction.
    xid: Xid,
    /// When.
    pub us: i64,
}

/// The histories of all tables.
#[derive(Debug)]
pub(super) struct TableHistories {
    of: HashMap<TableId, TableHistory>,
    /// When it has more, dropped tables go.
    len_max: usize,
}

impl Default for TableHistories {
    fn default() -> Self {
        Self { of: HashMap::new(), len_max: HISTORIES_MIN }
    }
}

impl TableHistories {
    /// Enters a commit; `after` is the snapshot that it makes.
    pub(super) fn enter(&mut self, after: &Snapshot, xid: Xid, changes: &[Change], now_us: i64) {
        let changed = TableChanged { number: after.number(), xid, us: now_us };
        for change in changes {
            let Some((table, is_seen)) = table_of(change) else { continue };
            let history = self.of.entry(table).or_default();
            history.committed_us = now_us;
            if is_seen {
                history.changed = Some(changed);
            }
        }
        if self.of.len() > self.len_max {
            self.of.retain(|table, _| after.table_by_id(*table).is_some());
            self.len_max = HISTORIES_MIN.max(2 * self.of.len());
        }
    }

    /// What is known of a table.
    pub(super) fn get(&self, table: TableId) -> TableHistory {
        self.of.get(&table).copied().unwrap_or_default()
    }

    /// Refuses what was read and is no longer so.
    pub(super) fn check(&self, latest: &Snapshot, reads: &ReadSet) -> Result<()> {
        for table in &reads.tables {
            let changed = self.get(*table).changed;
            let is_newer = changed.is_some_and(|changed| changed.number > reads.since);
            // A dropped one may be forgotten here.
            if is_newer || latest.table_by_id(*table).is_none() {
                let other = changed.map(|changed| changed.xid);
                return Err(Error::Conflict { table: *table, other });
            }
        }
        Ok(())
    }
}

/// Tables that changes touch in any way.
pub(super) fn touched(changes: &[Change]) -> impl Iterator<Item = TableId> + '_ {
    changes.iter().filter_map(|change| table_of(change).map(|(table, _)| table))
}

/// The table of a change, and whether who reads it could tell. Rows that are only stored
/// otherwise, as VACUUM does, are the same rows.
fn table_of(change: &Change) -> Option<(TableId, bool)> {
    match change {
        Change::AddSegments(table, _, segments) => Some((*table, !segments.is_empty())),
        Change::DeleteRows(table, deletions) => Some((*table, !deletions.is_empty())),
        Change::Define(table, _) | Change::DropTable(table) | Change::Truncate(table) => {
            Some((*table, true))
        }
        // Nobody has read it.
        Change::CreateTable(entry) => Some((entry.id, false)),
        Change::Place(table, _) | Change::Rewrite(table, _) | Change::TakeNumbers(table, _) => {
            Some((*table, false))
        }
        Change::CreateSchema(_)
        | Change::DropSchema(_)
        | Change::PutComment(..)
        | Change::PutUser(..)
        | Change::DropUser(_)
        | Change::PutGroup(..)
        | Change::DropGroup(_)
        | Change::PutRole(..)
        | Change::DropRole(_)
        | Change::PutParameter(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{SchemaEntry, TableEntry};
    use crate::statement::create_table::empty_entry;

    const TABLE: TableId = TableId(7);

    /// A snapshot with a table, and the histories after it was made.
    fn with_table() -> (Snapshot, TableHistories) {
        let schema = SchemaEntry { oid: 1, name: "s".to_owned(), owner: "ann".to_owned() };
        let entry = TableEntry { id: TABLE, schema: "s".to_owned(), ..empty_entry() };
        let made = [Change::CreateSchema(schema), Change::CreateTable(Arc::new(entry))];
        let (mut snapshot, mut histories) = (Snapshot::default(), TableHistories::default());
        commit(&mut snapshot, &mut histories, 1, &made);
        (snapshot, histories)
    }

    fn commit(
        snapshot: &mut Snapshot,
        histories: &mut TableHistories,
        xid: u64,
        changes: &[Change],
    ) {
        changes.iter().for_each(|change| snapshot.apply(change).unwrap());
        snapshot.advance();
        histories.enter(snapshot, Xid(xid), changes, 1_000 + i64::try_from(xid).unwrap());
    }

    fn other(result: Result<()>) -> Option<u64> {
        match result.unwrap_err() {
            Error::Conflict { table: TABLE, other } => other.map(|xid| xid.0),
            error => unreachable!("{error}"),
        }
    }

    #[test]
    fn what_is_read_is_checked_against_later_changes_only() {
        let (mut snapshot, mut histories) = with_table();
        let reads = |snapshot: &Snapshot| ReadSet {
            since: snapshot.number(),
            tables: BTreeSet::from([TABLE]),
        };
        let first = reads(&snapshot);
        commit(&mut snapshot, &mut histories, 2, &[Change::Rewrite(TABLE, Vec::new())]);
        histories.check(&snapshot, &first).unwrap();
        assert_eq!(histories.get(TABLE), TableHistory { committed_us: 1_002, changed: None });
        commit(&mut snapshot, &mut histories, 3, &[Change::Truncate(TABLE)]);
        assert_eq!(other(histories.check(&snapshot, &first)), Some(3));
        histories.check(&snapshot, &reads(&snapshot)).unwrap();
        let second = reads(&snapshot);
        commit(&mut snapshot, &mut histories, 4, &[Change::DropTable(TABLE)]);
        assert_eq!(other(histories.check(&snapshot, &second)), Some(4));
    }

    #[test]
    fn dropped_tables_are_forgotten_and_still_in_conflict() {
        let (mut snapshot, mut histories) = with_table();
        let since = snapshot.number();
        commit(&mut snapshot, &mut histories, 2, &[Change::DropTable(TABLE)]);
        let many = u32::try_from(HISTORIES_MIN).unwrap();
        let rewritten = |id| Change::Rewrite(TableId(id), Vec::new());
        let changes: Vec<Change> = (100..=100 + many).map(rewritten).collect();
        histories.enter(&snapshot, Xid(3), &changes, 0);
        let reads = ReadSet { since, tables: BTreeSet::from([TABLE]) };
        assert_eq!(other(histories.check(&snapshot, &reads)), None);
        assert!(histories.of.is_empty());
    }
}
