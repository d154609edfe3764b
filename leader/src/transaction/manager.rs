//! The one place where commits happen: the latest snapshot, the catalog log, the ids, the locks.

mod commit;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use compute::{FileInfo, NewDeletions};
use datafusion::common::runtime::SpawnedTask;
use faults::{Defect, Place};
use parking_lot::{Mutex, RwLock};
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{DeletionVectorId, SegmentId, SliceId, TableId, Xid};
use storage::statistics::SegmentInfo;
use tokio::sync::OwnedMutexGuard;

use self::commit::CommitLine;
pub(super) use self::commit::PendingChanges;
use super::garbage::{Garbage, SegmentFiles};
use super::isolation::{ReadSet, TableHistories, TableHistory};
use super::lock::{LockTable, Owner};
use super::numbers::RowNumbers;
use super::{Start, Transaction};
use crate::catalog::log::{CatalogLog, LogRecord, NextIds};
use crate::catalog::{Change, Deletion, DistributionStyle, Rewritten, Snapshot, TableEntry};
use crate::cluster::Piece;
use crate::error::{Error, Result, code};
use crate::session::Clock;

/// Reservations of segment ids that are noted in the log at once.
const RESERVATIONS_AHEAD: u64 = 16;
/// Ids that are noted at once at least: a deletion vector takes one.
const IDS_AHEAD_MIN: u64 = 4096;

/// Where copies of the catalog are, by which a lost disk of the leader can be replaced.
pub trait CatalogCopies: std::fmt::Debug + Send + Sync {
    /// Has what was just written copied, where it can be. It may wait; the log is held meanwhile,
    /// so that copies get every record in its order.
    fn copy(&self, log: &mut CatalogLog, record: &LogRecord);

    /// Whether another leader has taken over: then a commit here is worth nothing.
    fn is_replaced(&self) -> bool;

    /// Brings copies up to date that have missed something.
    fn catch_up(&self, log: &mut CatalogLog);
}

/// What others keep that was made of snapshots, and with it the segments of these.
pub trait Derived: std::fmt::Debug + Send + Sync {
    /// Lets go of what was made of snapshots that nobody has any more.
    fn forget_old(&self);
}

/// The time.
struct Time(Clock);

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Time")
    }
}

/// Begins and commits transactions.
#[derive(Debug)]
pub struct TransactionManager {
    time: Time,
    latest: RwLock<Arc<Snapshot>>,
    /// Held over a whole commit: those that are not taken together are one after another.
    log: Mutex<CatalogLog>,
    line: CommitLine,
    next_xid: AtomicU64,
    next_oid: AtomicU32,
    next_segment: AtomicU64,
    /// The log holds this or more as the next segment: ids below it can be given to nodes, which
    /// may write files with them that outlive this process.
    reserved_segments: AtomicU64,
    locks: Arc<LockTable>,
    garbage: Garbage,
    copies: Option<Arc<dyn CatalogCopies>>,
    files: Arc<dyn SegmentFiles>,
    /// Held over a commit that deletes rows, from before its vectors are brought up to date, so that
    /// nobody else's count in between.
    deleting: Arc<tokio::sync::Mutex<()>>,
    /// Who last committed a deletion of rows of a table.
    deleters: Mutex<HashMap<TableId, Xid>>,
    histories: Mutex<TableHistories>,
    numbers: RowNumbers,
    derived: OnceLock<Box<dyn Derived>>,
    /// Set when a commit's fate is unknown: then nothing may be written until a restart has read
    /// the log again.
    fenced: AtomicBool,
}

impl TransactionManager {
    /// A manager that continues from what the log holds.
    pub fn new(
        log: CatalogLog,
        files: Arc<dyn SegmentFiles>,
        copies: Option<Arc<dyn CatalogCopies>>,
        clock: Clock,
    ) -> Result<Self> {
        let (snapshot, next) = log.read()?;
        Ok(Self {
            time: Time(clock),
            latest: RwLock::new(Arc::new(snapshot)),
            log: Mutex::new(log),
            line: CommitLine::default(),
            next_xid: AtomicU64::new(next.xid),
            next_oid: AtomicU32::new(next.oid),
            next_segment: AtomicU64::new(next.segment),
            reserved_segments: AtomicU64::new(next.segment),
            locks: Arc::new(LockTable::default()),
            copies,
            garbage: Garbage::new(Arc::clone(&files)),
            files,
            deleting: Arc::default(),
            deleters: Mutex::default(),
            histories: Mutex::default(),
            numbers: RowNumbers::default(),
            derived: OnceLock::new(),
            fenced: AtomicBool::new(false),
        })
    }

    /// What is committed now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.latest.read())
    }

    /// Begins a transaction.
    pub fn begin(self: &Arc<Self>, start: Start) -> Transaction {
        let xid = Xid(self.next_xid.fetch_add(1, Ordering::Relaxed));
        let owner = Owner { xid, process_id: start.process_id, started_us: self.now_us() };
        Transaction::new(Arc::clone(self), owner, start)
    }

    fn now_us(&self) -> i64 {
        (self.time.0)().timestamp_micros()
    }

    /// A number for a new table, schema or user.
    pub fn new_oid(&self) -> u32 {
        self.next_oid.fetch_add(1, Ordering::Relaxed)
    }

    /// A number for a new table.
    pub fn new_table_id(&self) -> TableId {
        TableId(self.new_oid())
    }

    /// A number for a new segment.
    pub fn new_segment_id(&self) -> SegmentId {
        SegmentId(self.next_segment.fetch_add(1, Ordering::Relaxed))
    }

    /// As many numbers for new segments; the first of them. They are never given again, also not
    /// after a crash: before it returns, the log knows that they are taken.
    ///
    /// # Errors
    /// Fails if the log cannot be written.
    pub async fn reserve_segment_ids(self: &Arc<Self>, count: u64) -> Result<SegmentId> {
        let first = self.next_segment.fetch_add(count, Ordering::Relaxed);
        let end = first + count;
        if self.reserved_segments.load(Ordering::Acquire) < end {
            let manager = Arc::clone(self);
            let ahead = count.saturating_mul(RESERVATIONS_AHEAD).max(IDS_AHEAD_MIN);
            let task = SpawnedTask::spawn_blocking(move || manager.note_reserved(end, ahead));
            let noted = task.join().await;
            noted.map_err(|e| Error::Internal(format!("a reservation did not end: {e}")))??;
        }
        Ok(SegmentId(first))
    }

    /// Has the log know that ids below `end` are taken, and some more so that it is rarely asked.
    fn note_reserved(&self, end: u64, ahead: u64) -> Result<()> {
        let mut log = self.log.lock();
        if self.is_fenced() {
            return Err(Error::Fenced);
        }
        // Another reservation may have noted enough meanwhile.
        if self.reserved_segments.load(Ordering::Acquire) < end {
            let reserved = end.saturating_add(ahead);
            let next = NextIds { segment: reserved, ..self.next_ids() };
            let record =
                log.note_next_ids(next).inspect_err(|error| self.fence_unless_full(error))?;
            self.copy(&mut log, &record);
            faults::point(Place::IdsNoted);
            self.reserved_segments.store(reserved, Ordering::Release);
        }
        Ok(())
    }

    /// That many numbers for rows of a table that no other row gets; the first of them. They are
    /// taken for good with the commit of [`Change::TakeNumbers`].
    pub(super) fn take_numbers(&self, seen: &TableEntry, count: u64) -> u64 {
        let latest = self.snapshot();
        let known = latest.table_by_id(seen.id).map_or(0, |entry| entry.numbers_taken);
        self.numbers.take(seen.id, known.max(seen.numbers_taken), count)
    }

    fn copy(&self, log: &mut CatalogLog, record: &LogRecord) {
        if let Some(copies) = &self.copies {
            copies.copy(log, record);
        }
    }

    /// Brings copies of the catalog up to date. Blocks.
    pub(crate) fn catch_up_copies(&self) {
        if let Some(copies) = &self.copies {
            copies.catch_up(&mut self.log.lock());
        }
    }

    /// Files that no snapshot from now on will need, but that somebody may still read.
    pub(crate) fn held_garbage(&self) -> Vec<Piece> {
        self.garbage.held()
    }

    pub(super) fn lock_table(&self) -> Arc<LockTable> {
        Arc::clone(&self.locks)
    }

    /// Who holds what, and who waits.
    pub fn locks(&self) -> &LockTable {
        &self.locks
    }

    /// What was committed last to a table since the server started.
    pub fn history(&self, table: TableId) -> TableHistory {
        self.histories.lock().get(table)
    }

    /// Refuses what a serializable transaction has read and is no longer so. Only a commit knows that
    /// it stays true.
    pub(super) fn check_reads(&self, reads: &ReadSet) -> Result<()> {
        if reads.tables.is_empty() || faults::planted(Defect::SkipReadCheck) {
            return Ok(());
        }
        let latest = self.snapshot();
        self.histories.lock().check(&latest, reads)
    }

    /// Lets one transaction after the other commit deletions of rows.
    pub(super) async fn begin_deleting(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.deleting).lock_owned().await
    }

    /// The transaction whose deletion of rows of the table was committed last, if that was since the
    /// start.
    pub(super) fn last_deleter(&self, table: TableId) -> Option<Xid> {
        self.deleters.lock().get(&table).copied()
    }

    /// Writes deletion vectors, durably; see [`SegmentFiles::write_deletions`]. Their ids are filled
    /// in.
    ///
    /// # Errors
    /// When they cannot be written. If that leaves it unknown what is on disk, nothing is committed
    /// any more until a restart.
    pub(super) async fn write_deletions(
        self: &Arc<Self>,
        table: TableId,
        mut new: Vec<NewDeletions>,
        everywhere: bool,
    ) -> Result<Option<Vec<Arc<DeletionVectorInfo>>>> {
        let (count, attempts) = (new.len() as u64, self.files.attempts());
        let first = self.reserve_segment_ids(count * attempts).await?;
        let spare = first.0 + count..first.0 + count * attempts;
        for (vector, id) in new.iter_mut().zip(first.0..) {
            vector.id = DeletionVectorId(id);
        }
        let written = self.files.write_deletions(table, new, everywhere, spare).await;
        if let Err(error) = &written {
            self.fence_after(error);
        }
        written
    }

    /// Whether nothing is written any more. Of a statement whose slices fail in several ways one error
    /// is told, which need not be that of the sync; the disk knows of all.
    fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::Relaxed)
            || self.files.are_unsynced() && !faults::planted(Defect::SkipFence)
    }

    /// Commits nothing more if an error leaves it unknown what is on this process's disk.
    pub fn fence_after(&self, error: &Error) {
        if self.files.are_here()
            && !faults::planted(Defect::SkipFence)
            && error.is_sync_failure()
            && !self.fenced.swap(true, Ordering::Relaxed)
        {
            tracing::error!(%error, "a file could not be made durable; no more writes");
        }
    }

    /// Writes nothing more to the log after it could not be written, but for want of space: then
    /// SQLite has rolled back, and all is as it was.
    fn fence_unless_full(&self, error: &Error) {
        if !is_full(error) && !self.fenced.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the catalog could not be written; no more writes");
        }
    }

    /// Removes the files that the changes of a transaction would have made visible.
    pub(crate) fn discard(&self, changes: Vec<Change>) {
        let latest = self.snapshot();
        for change in &changes {
            match change {
                Change::AddSegments(table, _, segments) => {
                    let files = FilesOf::new(&latest, *table);
                    segments
                        .iter()
                        .for_each(|(slice, s)| self.garbage.add(&files.segment(*slice, s)));
                }
                Change::DeleteRows(table, deletions) => {
                    let files = FilesOf::new(&latest, *table);
                    for Deletion { slice, vector, .. } in deletions {
                        vector.iter().for_each(|v| self.garbage.add(&files.vector(*slice, v)));
                    }
                }
                Change::Rewrite(table, rewritten) => {
                    let files = FilesOf::new(&latest, *table);
                    for Rewritten { slice, segments, .. } in rewritten {
                        segments.iter().for_each(|s| self.garbage.add(&files.segment(*slice, s)));
                    }
                }
                Change::CreateSchema(_)
                | Change::DropSchema(_)
                | Change::CreateTable(_)
                | Change::Define(..)
                | Change::DropTable(_)
                | Change::PutComment(..)
                | Change::Place(..)
                | Change::TakeNumbers(..)
                | Change::Truncate(_)
                | Change::PutUser(..)
                | Change::DropUser(_)
                | Change::PutGroup(..)
                | Change::DropGroup(_)
                | Change::PutRole(..)
                | Change::DropRole(_)
                | Change::PutParameter(..) => {}
            }
        }
        // After a commit, which has let go of it already, nothing is left.
        let is_commit = changes.is_empty();
        drop((latest, changes));
        match is_commit {
            true => self.garbage.sweep(),
            false => self.sweep_garbage(),
        }
    }

    /// Lets go of what nobody has any more, and removes the files of it.
    pub fn sweep_garbage(&self) {
        if let Some(derived) = self.derived.get() {
            derived.forget_old();
        }
        self.garbage.sweep();
    }

    /// From now on, this is told of each commit, before files are removed that nobody holds.
    pub(crate) fn tell_of_commits(&self, derived: Box<dyn Derived>) {
        // There is one engine; a second one would be told nothing and keep files longer.
        let _ = self.derived.set(derived);
    }

    fn next_ids(&self) -> NextIds {
        NextIds {
            xid: self.next_xid.load(Ordering::Relaxed),
            oid: self.next_oid.load(Ordering::Relaxed),
            segment: self.next_segment.load(Ordering::Relaxed),
        }
    }

    fn is_replaced(&self) -> bool {
        self.copies.as_ref().is_some_and(|copies| copies.is_replaced())
    }

    fn check_not_replaced(&self) -> Result<()> {
        if self.is_replaced() {
            self.fenced.store(true, Ordering::Relaxed);
            let message = "another leader has taken over the cluster";
            return Err(Error::statement(code::CANNOT_CONNECT_NOW, message));
        }
        Ok(())
    }

    /// Has the segments removed that a transaction both wrote and took away again.
    fn collect_never_seen(&self, after: &Snapshot, changes: &[Change]) {
        for change in changes {
            let Change::AddSegments(id, _, segments) = change else { continue };
            let files = FilesOf::new(after, *id);
            for (slice, segment) in segments {
                let entry = after.table_by_id(*id);
                if entry.and_then(|entry| entry.segment(segment.id)).is_none() {
                    self.garbage.add(&files.segment(*slice, segment));
                }
            }
        }
    }

    /// Has the files removed that a commit has taken out of the snapshot, or that it never put in.
    fn collect(&self, before: &Snapshot, after: &Snapshot, change: &Change) {
        match change {
            Change::DropTable(id) | Change::Truncate(id) => {
                if let Some(entry) = before.table_by_id(*id) {
                    self.garbage.add_table(entry);
                }
            }
            Change::DeleteRows(id, deletions) => {
                let (entry, files) = (after.table_by_id(*id), FilesOf::new(before, *id));
                let counts = |vector: &DeletionVectorInfo| {
                    let counting = entry.and_then(|entry| entry.deletions.get(&vector.segment));
                    counting.is_some_and(|counting| counting.id == vector.id)
                };
                for Deletion { slice, segment, base, vector, .. } in deletions {
                    for unused in base.iter().chain(vector).filter(|vector| !counts(vector)) {
                        self.garbage.add(&files.vector(*slice, unused));
                    }
                    if vector.is_none() {
                        self.garbage.add(&files.segment(*slice, segment));
                    }
                }
            }
            Change::Rewrite(id, rewritten) => {
                let files = FilesOf::new(before, *id);
                for Rewritten { slice, sources, .. } in rewritten {
                    for (source, vector) in sources {
                        self.garbage.add(&files.segment(*slice, source));
                        vector.iter().for_each(|v| self.garbage.add(&files.vector(*slice, v)));
                    }
                }
            }
            Change::CreateSchema(_)
            | Change::DropSchema(_)
            | Change::CreateTable(_)
            | Change::Define(..)
            | Change::PutComment(..)
            | Change::AddSegments(..)
            | Change::Place(..)
            | Change::TakeNumbers(..)
            | Change::PutUser(..)
            | Change::DropUser(_)
            | Change::PutGroup(..)
            | Change::DropGroup(_)
            | Change::PutRole(..)
            | Change::DropRole(_)
            | Change::PutParameter(..) => {}
        }
    }
}

/// Names files of a table as nodes have them.
struct FilesOf {
    table: TableId,
    everywhere: bool,
}

impl FilesOf {
    fn new(snapshot: &Snapshot, table: TableId) -> Self {
        let entry = snapshot.table_by_id(table);
        // A table that only its transaction knows is read by nobody else.
        let everywhere = entry.is_some_and(|entry| entry.distribution == DistributionStyle::All);
        Self { table, everywhere }
    }

    fn segment(&self, slice: SliceId, info: &Arc<SegmentInfo>) -> Piece {
        self.piece(slice, FileInfo::Segment(Arc::clone(info)))
    }

    fn vector(&self, slice: SliceId, info: &Arc<DeletionVectorInfo>) -> Piece {
        self.piece(slice, FileInfo::Deletions(Arc::clone(info)))
    }

    fn piece(&self, slice: SliceId, file: FileInfo) -> Piece {
        Piece { table: self.table, slice, everywhere: self.everywhere, file }
    }
}

/// Whether the catalog could not be written for want of space.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(error, Error::Catalog(error) if crate::error::is_full(error))
}
