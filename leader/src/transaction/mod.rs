//! Transactions: what a statement sees and when others see what it did.
//!
//! The rules that hold now:
//!
//! 1. A transaction reads one snapshot, taken at its first statement, plus its own changes.
//! 2. A writer holds a lock of each table it changes until it ends: DDL alone, INSERT, COPY, DELETE and
//!    UPDATE beside each other ([`lock`]). When the first statement of a transaction is a
//!    write, its snapshot is taken after the wait for the lock.
//! 3. COMMIT applies the transaction's changes to the latest snapshot (not to its own), writes
//!    them to the catalog log in one SQLite transaction, which others may share ([`manager`]), and
//!    only then publishes. Rows added by
//!    others meanwhile stay; a name taken or a table dropped meanwhile is an error, and nothing
//!    of the transaction remains.
//! 4. ROLLBACK forgets the changes; files that were written for them are removed.
//! 5. ROLLBACK TO a savepoint forgets the changes since it, in the same way, and releases the locks
//!    taken since. The snapshot of rule 1 stays what it is.
//! 6. A row is deleted once: who wants to delete one that another transaction is deleting waits for
//!    that to end, and fails if it has committed ([`deletion`]). A statement that has read nothing
//!    before begins again instead, over a new snapshot and alone.
//! 7. A serializable transaction holds alone what it changes, and its commit fails if another one has
//!    changed a table that it has read since its snapshot ([`isolation`]).

pub mod conflicts;
pub mod deletion;
mod dependents;
pub mod garbage;
pub mod isolation;
pub mod lock;
pub mod manager;
mod numbers;
mod savepoint;
mod written;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use faults::{Defect, Place};
use storage::ids::{DeletionVectorId, SegmentId, TableId, Xid};
use storage::statistics::SegmentInfo;

use crate::catalog::{Change, Snapshot, TableEntry};
use crate::error::{Error, Result, code};
use isolation::{Isolation, ReadSet, Reads};
use lock::{ClaimedRows, HeldLocks, LockMode, Owner};
use manager::{PendingChanges, TransactionManager};
use savepoint::Savepoint;

pub use written::Written;

/// How a transaction begins. The default is one of the server itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start {
    /// What it may miss of others.
    pub isolation: Isolation,
    /// Whether statements fail that write.
    pub read_only: bool,
    /// The session's number; 0 is the server itself.
    pub process_id: i32,
}

/// A transaction in progress. Dropping it rolls it back.
#[derive(Debug)]
pub struct Transaction {
    xid: Xid,
    manager: Arc<TransactionManager>,
    /// What statements of this transaction see: the snapshot with its own changes applied.
    view: Arc<Snapshot>,
    changes: Vec<Change>,
    /// The oldest first; each one's changes are a prefix of those of the next.
    savepoints: Vec<Savepoint>,
    locks: HeldLocks,
    isolation: Isolation,
    read_only: bool,
    /// Whether a statement has read the snapshot already, so that it must not move.
    used: bool,
    /// Going back to a savepoint does not make what was read unread.
    reads: Reads,
    /// Tables that it has made, also if it went back to before that.
    made: HashSet<TableId>,
}

impl Transaction {
    /// A transaction over the latest snapshot.
    pub(crate) fn new(manager: Arc<TransactionManager>, owner: Owner, start: Start) -> Self {
        let view = manager.snapshot();
        let locks = HeldLocks::new(manager.lock_table(), owner);
        Self {
            xid: owner.xid,
            manager,
            view,
            changes: Vec::new(),
            savepoints: Vec::new(),
            locks,
            isolation: start.isolation,
            read_only: start.read_only,
            used: false,
            reads: Reads::default(),
            made: HashSet::new(),
        }
    }

    /// Its number.
    pub fn xid(&self) -> Xid {
        self.xid
    }

    /// What its statements see. From now on the snapshot stays.
    pub fn view(&mut self) -> Arc<Snapshot> {
        self.begin_statement();
        if faults::planted(Defect::ReadLatest) && self.changes.is_empty() {
            self.view = self.manager.snapshot();
        }
        Arc::clone(&self.view)
    }

    /// Takes the snapshot at the first statement, not at BEGIN.
    fn begin_statement(&mut self) {
        if !self.used {
            self.used = true;
            self.view = self.manager.snapshot();
            for savepoint in &mut self.savepoints {
                savepoint.move_to(&self.view);
            }
        }
    }

    /// Makes later statements fail that write.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// Whether statements fail that write.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// What it may miss of others.
    pub fn isolation(&self) -> Isolation {
        self.isolation
    }

    /// Another level. What was read so far is known, whatever the level was.
    pub fn set_isolation(&mut self, isolation: Isolation) {
        self.isolation = isolation;
    }

    /// Where binding notes which tables are read.
    pub fn reads(&self) -> Reads {
        self.reads.clone()
    }

    /// How it holds a table of which it deletes rows.
    pub fn row_lock_mode(&self) -> LockMode {
        match self.isolation {
            Isolation::Snapshot => LockMode::Shared,
            // The others of its kind would find the table changed, whichever rows they are after.
            Isolation::Serializable => LockMode::Exclusive,
        }
    }

    /// What the first statement would see if it began now: for looking up what to lock.
    pub fn peek(&self) -> Arc<Snapshot> {
        if self.used { Arc::clone(&self.view) } else { self.manager.snapshot() }
    }

    /// Takes a write lock of a table. Called by the first statement before its snapshot is
    /// taken, so that it sees what the previous holder committed.
    pub async fn lock(&mut self, id: TableId, mode: LockMode) -> Result<()> {
        self.check_writable()?;
        self.locks.acquire(id, mode).await?;
        self.begin_statement();
        // What could not be committed need not be done.
        self.manager.check_reads(&self.read_set())?;
        let Some(seen) = self.view.table_by_id(id) else {
            return Err(Error::statement(code::INTERNAL_ERROR, "1018")
                .with_detail("Relation does not exist."));
        };
        // Rows that are written for columns of yesterday would be read as those of today, and rows of
        // a table that has another name by now belong into the one that has its name.
        let is_own = |change: &Change| matches!(change, Change::Define(own, _) if *own == id);
        let latest = self.manager.snapshot();
        let is_old = latest.table_by_id(id).is_some_and(|latest| {
            !latest.reads_as(seen) || (&latest.schema, &latest.name) != (&seen.schema, &seen.name)
        });
        if is_old && !self.changes.iter().any(is_own) {
            return Err(self.conflict(id));
        }
        Ok(())
    }

    /// Of a table that was changed since the snapshot; names who changed it.
    fn conflict(&self, table: TableId) -> Error {
        let other = self.manager.history(table).changed_since(self.view.number());
        Error::Conflict { table, other }
    }

    /// Refuses to write all rows of a table anew that has other rows by now than this transaction sees,
    /// or that it has changed itself. The table must be locked.
    pub fn check_is_latest(&self, id: TableId) -> Result<()> {
        let latest = self.manager.snapshot();
        let (Some(latest), Some(seen)) = (latest.table_by_id(id), self.view.table_by_id(id)) else {
            return Ok(());
        };
        let ids = |entry: &TableEntry| -> Vec<Vec<(SegmentId, Option<DeletionVectorId>)>> {
            let id = |segment: &Arc<SegmentInfo>| {
                (segment.id, entry.deletions.get(&segment.id).map(|vector| vector.id))
            };
            entry.slices.iter().map(|slice| slice.iter().map(id).collect()).collect()
        };
        if ids(latest) == ids(seen) {
            return Ok(());
        }
        let is_own = self.changes.iter().any(|change| match change {
            Change::AddSegments(of, ..) | Change::DeleteRows(of, _) | Change::Truncate(of) => {
                *of == id
            }
            _ => false,
        });
        if is_own {
            let message = "a table whose rows this transaction has changed cannot be arranged anew";
            return Err(Error::statement(code::OBJECT_NOT_IN_PREREQUISITE_STATE, message)
                .with_hint("Do it in a transaction of its own."));
        }
        Err(self.conflict(id))
    }

    /// Refuses a change of all rows of a table that others have added to since the snapshot. The
    /// table must be locked.
    pub fn check_sees_all_rows(&self, id: TableId) -> Result<()> {
        let latest = self.manager.snapshot();
        let Some(latest) = latest.table_by_id(id) else { return Ok(()) };
        let seen: HashSet<SegmentId> =
            self.view.table_by_id(id).map_or_else(HashSet::new, |seen| {
                seen.slices.iter().flatten().map(|segment| segment.id).collect()
            });
        let sees = |segment: &Arc<SegmentInfo>| {
            let is_removed = self.changes.iter().any(|change| match change {
                Change::DeleteRows(of, deletions) if *of == id => deletions
                    .iter()
                    .any(|gone| gone.segment.id == segment.id && gone.vector.is_none()),
                Change::Truncate(of) => *of == id,
                _ => false,
            });
            is_removed || seen.contains(&segment.id)
        };
        match latest.slices.iter().flatten().all(sees) {
            true => Ok(()),
            false => Err(self.conflict(id)),
        }
    }

    /// Takes tables before the snapshot is taken, for a statement that has lost once: nobody changes
    /// them any more. If that would be waiting for ever, it has to do without.
    pub(crate) async fn lock_ahead(&mut self, tables: &BTreeSet<TableId>) {
        assert!(self.is_fresh(), "it sees what others commit before it has the tables");
        let held = self.locks.count();
        for table in tables {
            if self.locks.acquire(*table, LockMode::Exclusive).await.is_err() {
                self.locks.release_since(held);
                return;
            }
        }
    }

    /// Tables that it has read, made or changed.
    pub(crate) fn tables(&self) -> BTreeSet<TableId> {
        let mut tables = self.reads.tables();
        tables.extend(isolation::touched(&self.changes));
        tables
    }

    /// Whether others may have changed what it has read by the time it commits.
    pub fn can_lose(&self) -> bool {
        self.isolation == Isolation::Serializable && !self.changes.is_empty()
    }

    /// What must still be true when it commits.
    fn read_set(&self) -> ReadSet {
        match self.isolation {
            Isolation::Snapshot => ReadSet::default(),
            Isolation::Serializable => {
                let mut tables = self.reads.tables();
                tables.retain(|table| !self.made.contains(table));
                ReadSet { since: self.view.number(), tables }
            }
        }
    }

    /// Takes numbers for that many rows of a table, or more if they are known only later: then the
    /// table must be its own alone. The first of them.
    ///
    /// # Errors
    /// If this transaction may not write.
    pub fn take_numbers(&mut self, entry: &TableEntry, count: u64) -> Result<u64> {
        let first = self.manager.take_numbers(entry, count);
        if count > 0 {
            self.change(Change::TakeNumbers(entry.id, first.saturating_add(count)))?;
        }
        Ok(first)
    }

    /// Takes all numbers of a table below `end` that are not taken yet.
    ///
    /// # Errors
    /// As [`Transaction::take_numbers`].
    pub fn take_numbers_until(&mut self, entry: &TableEntry, end: u64) -> Result<()> {
        let next = self.manager.take_numbers(entry, 0);
        self.take_numbers(entry, end.saturating_sub(next)).map(drop)
    }

    /// Makes rows that were written for a table part of it.
    pub fn add(&mut self, written: Written) -> Result<()> {
        self.change(written.into_change())
    }

    /// Records a change; this transaction sees it from now on. If it fails, the files of the change are
    /// removed.
    pub fn change(&mut self, mut change: Change) -> Result<()> {
        if let Change::AddSegments(_, _, segments) = &mut change
            && faults::planted(Defect::ForgetSlice)
            && segments.len() > 1
        {
            segments.pop();
        }
        match self.after(&change) {
            Ok(next) => self.view = Arc::new(next),
            Err(error) => {
                self.manager.discard(vec![change]);
                return Err(error);
            }
        }
        if let Change::CreateTable(entry) = &change {
            self.made.insert(entry.id);
        }
        self.changes.push(change);
        Ok(())
    }

    /// What it would see after a change.
    fn after(&mut self, change: &Change) -> Result<Snapshot> {
        self.check_writable()?;
        self.begin_statement();
        let mut next = Snapshot::clone(&self.view);
        next.apply(change)?;
        Ok(next)
    }

    fn check_writable(&self) -> Result<()> {
        if self.read_only {
            return Err(Error::statement(
                code::READ_ONLY_SQL_TRANSACTION,
                "transaction is read-only",
            ));
        }
        Ok(())
    }

    /// Claims rows for VACUUM, if nobody else has; see [`lock`].
    pub(crate) fn try_claim(&mut self, table: TableId, rows: ClaimedRows) -> bool {
        self.locks.try_claim(table, rows)
    }

    /// Takes a new snapshot in a transaction that has changed nothing.
    pub(crate) fn begin_statement_anew(&mut self) {
        assert!(self.changes.is_empty(), "a change needs its snapshot");
        self.used = false;
        self.begin_statement();
    }

    /// Whether it has neither read nor changed anything.
    pub fn is_fresh(&self) -> bool {
        !self.used && self.changes.is_empty()
    }

    /// Forgets the one statement that a fresh transaction has run, which failed: the next one is its
    /// first again.
    pub fn begin_again(&mut self) {
        // The view holds the files too: it goes first, so that they can go.
        self.view = Arc::default();
        for savepoint in &mut self.savepoints {
            savepoint.forget_view();
        }
        let held = self.savepoints.last().map_or(0, Savepoint::locks);
        self.locks.release_since(held);
        self.used = false;
        self.reads.forget();
        self.made.clear();
        self.manager.discard(std::mem::take(&mut self.changes));
    }

    /// Takes another snapshot with the next statement, and keeps its locks: nothing was read yet.
    pub fn forget_snapshot(&mut self) {
        assert!(self.changes.is_empty(), "a change needs its snapshot");
        self.used = false;
    }

    /// Makes its changes durable and visible, all or none.
    pub async fn commit(mut self) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let reads = self.read_set();
        self.manager.check_reads(&reads)?;
        let deleting = self.bring_up_to_date().await?;
        faults::point(Place::WriteDurable);
        let changes = std::mem::take(&mut self.changes);
        // The view holds the segments too: if the commit fails, their files can go.
        self.view = Arc::default();
        self.savepoints.clear();
        // The commit goes on if nobody waits for it any more, and nobody else may have the rows before.
        let locks = self.locks.hand_over();
        let manager = Arc::clone(&self.manager);
        manager
            .commit(self.xid, PendingChanges::new(&manager, changes, reads, locks, deleting))
            .await
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.changes.is_empty() {
            // The view holds the segments too: it goes first, so that their files can go.
            self.view = Arc::default();
            self.savepoints.clear();
            self.manager.discard(std::mem::take(&mut self.changes));
        }
    }
}
