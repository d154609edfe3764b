//! The one place where commits happen: the latest snapshot, the catalog log, the ids, the locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use datafusion::common::runtime::SpawnedTask;
use parking_lot::{Mutex, RwLock};
use storage::ids::{SegmentId, TableId, Xid};

use super::Transaction;
use super::garbage::{Garbage, SegmentFiles};
use super::lock::LockTable;
use crate::catalog::log::{CatalogLog, LogRecord, NextIds};
use crate::catalog::{Change, Snapshot};
use crate::cluster::Piece;
use crate::error::{Error, Result};

/// Reservations of segment ids that are noted in the log at once.
const RESERVATIONS_AHEAD: u64 = 16;

/// Where copies of the catalog are, by which a lost disk of the leader can be replaced.
pub trait CatalogCopies: std::fmt::Debug + Send + Sync {
    /// Has what was just written copied, where it can be. It may wait; the log is held meanwhile,
    /// so that copies get every record in its order.
    fn copy(&self, log: &mut CatalogLog, record: &LogRecord);

    /// Brings copies up to date that have missed something.
    fn catch_up(&self, log: &mut CatalogLog);
}

/// Begins and commits transactions.
#[derive(Debug)]
pub struct TransactionManager {
    latest: RwLock<Arc<Snapshot>>,
    /// Held over a whole commit: commits are one after another.
    log: Mutex<CatalogLog>,
    next_xid: AtomicU64,
    next_oid: AtomicU32,
    next_segment: AtomicU64,
    /// The log holds this or more as the next segment: ids below it can be given to nodes, which
    /// may write files with them that outlive this process.
    reserved_segments: AtomicU64,
    locks: Arc<LockTable>,
    garbage: Garbage,
    copies: Option<Arc<dyn CatalogCopies>>,
    /// Set when a commit's fate is unknown: then nothing may be written until a restart has read
    /// the log again.
    fenced: AtomicBool,
}

/// Changes on their way to the log. Dropped before they got there, what they wrote is removed.
struct PendingChanges {
    manager: Arc<TransactionManager>,
    changes: Vec<Change>,
}

impl Drop for PendingChanges {
    fn drop(&mut self) {
        self.manager.discard(std::mem::take(&mut self.changes));
    }
}

impl TransactionManager {
    /// A manager that continues from what the log holds.
    pub fn new(
        log: CatalogLog,
        files: Arc<dyn SegmentFiles>,
        copies: Option<Arc<dyn CatalogCopies>>,
    ) -> Result<Self> {
        let (snapshot, next) = log.read()?;
        Ok(Self {
            latest: RwLock::new(Arc::new(snapshot)),
            log: Mutex::new(log),
            next_xid: AtomicU64::new(next.xid),
            next_oid: AtomicU32::new(next.oid),
            next_segment: AtomicU64::new(next.segment),
            reserved_segments: AtomicU64::new(next.segment),
            locks: Arc::new(LockTable::default()),
            garbage: Garbage::new(files),
            copies,
            fenced: AtomicBool::new(false),
        })
    }

    /// What is committed now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.latest.read())
    }

    /// Begins a transaction.
    pub fn begin(self: &Arc<Self>, read_only: bool) -> Transaction {
        let xid = Xid(self.next_xid.fetch_add(1, Ordering::Relaxed));
        Transaction::new(Arc::clone(self), xid, read_only)
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
            let ahead = count.saturating_mul(RESERVATIONS_AHEAD);
            let task = SpawnedTask::spawn_blocking(move || manager.note_reserved(end, ahead));
            let noted = task.join().await;
            noted.map_err(|e| Error::Internal(format!("a reservation did not end: {e}")))??;
        }
        Ok(SegmentId(first))
    }

    /// Has the log know that ids below `end` are taken, and some more so that it is rarely asked.
    fn note_reserved(&self, end: u64, ahead: u64) -> Result<()> {
        let mut log = self.log.lock();
        if self.fenced.load(Ordering::Relaxed) {
            return Err(Self::fenced());
        }
        // Another reservation may have noted enough meanwhile.
        if self.reserved_segments.load(Ordering::Acquire) < end {
            let reserved = end.saturating_add(ahead);
            let next = NextIds { segment: reserved, ..self.next_ids() };
            let record = log.note_next_ids(next)?;
            self.copy(&mut log, &record);
            self.reserved_segments.store(reserved, Ordering::Release);
        }
        Ok(())
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

    /// Segments that no snapshot from now on will have, but that somebody may still read.
    pub(crate) fn held_garbage(&self) -> Vec<Piece> {
        self.garbage.held()
    }

    pub(super) fn locks(&self) -> Arc<LockTable> {
        Arc::clone(&self.locks)
    }

    /// Makes changes durable and then visible. When it fails, nothing of them is visible. Once
    /// begun it runs to its end, whether or not the caller waits.
    pub(super) async fn commit(self: &Arc<Self>, xid: Xid, changes: Vec<Change>) -> Result<()> {
        let pending = PendingChanges { manager: Arc::clone(self), changes };
        let task = SpawnedTask::spawn_blocking(move || commit_blocking(xid, pending));
        task.join().await.map_err(|e| Error::Internal(format!("commit did not end: {e}")))?
    }

    /// Removes the segments that the changes of a transaction would have made visible.
    pub(super) fn discard(&self, changes: Vec<Change>) {
        for change in changes {
            if let Change::AddSegments(table, segments) = change {
                for (slice, segment) in segments {
                    self.garbage.add(table, slice, &segment);
                }
            }
        }
        self.garbage.sweep();
    }

    /// Removes files that no snapshot needs any more.
    pub fn sweep_garbage(&self) {
        self.garbage.sweep();
    }

    fn next_ids(&self) -> NextIds {
        NextIds {
            xid: self.next_xid.load(Ordering::Relaxed),
            oid: self.next_oid.load(Ordering::Relaxed),
            segment: self.next_segment.load(Ordering::Relaxed),
        }
    }

    fn fenced() -> Error {
        Error::Internal(
            "an earlier commit could not be written to the catalog; restart the server".into(),
        )
    }
}

fn commit_blocking(xid: Xid, mut pending: PendingChanges) -> Result<()> {
    let manager = Arc::clone(&pending.manager);
    let mut log = manager.log.lock();
    if manager.fenced.load(Ordering::Relaxed) {
        return Err(TransactionManager::fenced());
    }
    let before = manager.snapshot();
    let mut after = Snapshot::clone(&before);
    for change in &pending.changes {
        after.apply(change)?;
    }
    let written = log.commit(xid, &pending.changes, manager.next_ids());
    // From here on the segments belong to the log, or nobody knows: they must stay.
    let changes = std::mem::take(&mut pending.changes);
    match written {
        // It is durable here; whoever waits is told when it is elsewhere too.
        Ok(record) => manager.copy(&mut log, &record),
        Err(error) => {
            tracing::error!(xid = xid.0, %error, "commit could not be written; no more writes");
            manager.fenced.store(true, Ordering::Relaxed);
            return Err(error);
        }
    }
    // Before the new snapshot is there, so that at any time what may be read is in one or the other.
    for change in &changes {
        if let Change::DropTable(id) | Change::Truncate(id) = change {
            manager.garbage.add_table(*id, before.table_by_id(*id).map(Arc::as_ref));
        }
    }
    *manager.latest.write() = Arc::new(after);
    drop(log);
    drop((before, changes));
    manager.garbage.sweep();
    Ok(())
}
