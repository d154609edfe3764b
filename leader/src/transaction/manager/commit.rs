//! Commits: transactions on their way to the log.
//!
//! ```text
//! session       puts its changes in line; the first in line has a thread serve it
//! that thread   takes the log -> takes some of the line -> checks, applies, writes, publishes
//!                             -> lets go of the log, has another thread serve the rest
//!                             -> removes files, lets go of locks, tells the sessions
//! ```
//!
//! While one is being written others come to stand in line: these are taken together, and are one
//! transaction of SQLite with one sync (group commit; DeWitt et al., Implementation Techniques for
//! Main Memory Database Systems, 1984). Only commits that add rows and nothing else are: of those
//! any order is right, and nothing of the snapshot before them is let go.
//!
//! Invariants: where somebody stands in line, a thread is on its way; commits take effect in the order
//! of the line; those taken together are durable together or not at all, and become visible in one
//! step; what a transaction has read is checked against all that takes effect before it; from the
//! moment in which the log may have them, nothing removes the files of a commit; a session is told
//! when its changes are visible and its locks are free.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{Defect, Place};
use parking_lot::Mutex;
use storage::ids::{TableId, Xid};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::{TransactionManager, is_full};
use crate::catalog::log::CatalogLog;
use crate::catalog::{Change, Snapshot};
use crate::error::{Error, Result};
use crate::transaction::isolation::{ReadSet, touched};
use crate::transaction::lock::HeldLocks;

/// Segments that are written to the log together; one transaction may have more. Their statistics are
/// some hundred bytes to some kilobytes for each column, and other nodes have a few seconds to store
/// them.
const GROUP_SEGMENTS_MAX: usize = 256;

/// Changes on their way to the log. Dropped before they got there, what they wrote is removed.
pub(in crate::transaction) struct PendingChanges {
    manager: Arc<TransactionManager>,
    changes: Vec<Change>,
    reads: ReadSet,
    /// Goes when the commit has come to its end.
    _deleting: Option<OwnedMutexGuard<()>>,
    /// The transaction's own, which go then too.
    _locks: HeldLocks,
}

impl PendingChanges {
    /// The changes of a transaction, with what must still be true for them to count, and with what
    /// it holds.
    pub(in crate::transaction) fn new(
        manager: &Arc<TransactionManager>,
        changes: Vec<Change>,
        reads: ReadSet,
        locks: HeldLocks,
        deleting: Option<OwnedMutexGuard<()>>,
    ) -> Self {
        let manager = Arc::clone(manager);
        Self { manager, changes, reads, _deleting: deleting, _locks: locks }
    }
}

impl Drop for PendingChanges {
    fn drop(&mut self) {
        self.manager.discard(std::mem::take(&mut self.changes));
    }
}

/// A transaction that stands in line.
struct Commit {
    xid: Xid,
    pending: PendingChanges,
    /// It was taken with others, and the disk had no space for all of them.
    goes_alone: bool,
    told: oneshot::Sender<Result<()>>,
}

impl Commit {
    fn changes(&self) -> &[Change] {
        &self.pending.changes
    }

    /// Its changes, whose files are no longer removed if it fails.
    fn take(&mut self) -> (Xid, Vec<Change>) {
        (self.xid, std::mem::take(&mut self.pending.changes))
    }

    fn segment_count(&self) -> usize {
        let count = |change: &Change| match change {
            Change::AddSegments(_, _, segments) => segments.len(),
            _ => 0,
        };
        self.changes().iter().map(count).sum()
    }

    /// Whether it may be taken with others.
    fn only_adds(&self) -> bool {
        let adds =
            |change: &Change| matches!(change, Change::AddSegments(..) | Change::TakeNumbers(..));
        self.changes().iter().all(adds)
    }
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commit").field("xid", &self.xid).finish_non_exhaustive()
    }
}

/// Transactions that nobody has taken to the log yet, the first first.
#[derive(Debug, Default)]
pub(super) struct CommitLine(Mutex<VecDeque<Commit>>);

impl CommitLine {
    /// Whether it is the first.
    fn enter(&self, commit: Commit) -> bool {
        let mut line = self.0.lock();
        line.push_back(commit);
        line.len() == 1
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The first, if it is wanted.
    fn take_if(&self, is_wanted: impl FnOnce(&Commit) -> bool) -> Option<Commit> {
        let mut line = self.0.lock();
        if line.front().is_some_and(is_wanted) { line.pop_front() } else { None }
    }

    /// Those that were taken from the front and are to be tried again.
    fn put_back(&self, commits: Vec<Commit>) {
        let mut line = self.0.lock();
        commits.into_iter().rev().for_each(|commit| line.push_front(commit));
    }
}

/// Transactions that are written together, and the snapshot that they make.
struct Group<'a> {
    before: &'a Snapshot,
    after: Snapshot,
    commits: Vec<Commit>,
    /// Tables that they change.
    touched: BTreeSet<TableId>,
    segments: usize,
}

impl<'a> Group<'a> {
    fn new(before: &'a Snapshot) -> Self {
        let (commits, touched) = (Vec::new(), BTreeSet::new());
        Self { before, after: next_of(before), commits, touched, segments: 0 }
    }

    /// Whether one more can be taken: what it has read is compared with what is published, and so
    /// nothing of this may be changed by those that are taken already.
    fn takes(&self, next: &Commit) -> bool {
        let Some(first) = self.commits.first() else { return true };
        let goes = |commit: &Commit| commit.only_adds() && !commit.goes_alone;
        goes(first)
            && goes(next)
            && self.segments + next.segment_count() <= GROUP_SEGMENTS_MAX
            && next.pending.reads.tables.is_disjoint(&self.touched)
    }

    /// Adds one more: all of its changes or none.
    fn add(&mut self, commit: Commit) -> Result<(), (Commit, Error)> {
        let changes = commit.changes();
        if let Err(error) = changes.iter().try_for_each(|change| self.after.apply(change)) {
            self.after = next_of(self.before);
            for change in self.commits.iter().flat_map(Commit::changes) {
                self.after.apply(change).expect("what fits once fits again");
            }
            return Err((commit, error));
        }
        self.touched.extend(touched(changes));
        self.segments += commit.segment_count();
        self.commits.push(commit);
        Ok(())
    }
}

/// The snapshot of the next commit, without its changes.
fn next_of(before: &Snapshot) -> Snapshot {
    let mut after = before.clone();
    after.advance();
    after
}

/// What became of a transaction, to be told when the log is free again.
type Ended = (Commit, Result<()>);

/// A thread that serves the line once.
struct Committer {
    manager: Arc<TransactionManager>,
    has_begun: bool,
}

impl Committer {
    fn start(manager: &Arc<TransactionManager>) {
        let committer = Self { manager: Arc::clone(manager), has_begun: false };
        #[expect(clippy::disallowed_methods, reason = "it serves all that stand in line")]
        tokio::task::spawn_blocking(move || committer.serve());
    }

    fn serve(mut self) {
        self.has_begun = true;
        let manager = Arc::clone(&self.manager);
        let mut ended = Vec::new();
        manager.commit_first(&mut manager.log.lock(), &mut ended);
        drop(self);
        manager.sweep_garbage();
        // What has failed has files to remove.
        ended.sort_by_key(|(_, result)| result.is_err());
        for (Commit { pending, told, .. }, result) in ended {
            // Who hears of it may have the locks at once.
            drop(pending);
            // Whether or not somebody waits.
            let _ = told.send(result);
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if !self.has_begun {
            // The runtime is going down: whoever waits hears that nobody comes.
            let line = std::mem::take(&mut *self.manager.line.0.lock());
            drop(line);
            return;
        }
        if !self.manager.line.is_empty() {
            Self::start(&self.manager);
        }
    }
}

/// What had been taken may be in the log, and nobody sees it: nothing may follow it.
struct FenceOnPanic<'a>(&'a AtomicBool);

impl Drop for FenceOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

impl TransactionManager {
    /// Makes changes durable and then visible. When it fails, nothing of them is visible. Once in line
    /// it comes to its end, whether or not the caller waits.
    pub(in crate::transaction) async fn commit(
        self: &Arc<Self>,
        xid: Xid,
        pending: PendingChanges,
    ) -> Result<()> {
        let (told, hears) = oneshot::channel();
        if self.line.enter(Commit { xid, pending, goes_alone: false, told }) {
            Committer::start(self);
        }
        if faults::planted(Defect::AcknowledgeBeforeCommit) {
            return Ok(());
        }
        hears.await.map_err(|_| {
            let error = Error::Internal("a commit did not come to its end".to_owned());
            Error::CommitInDoubt(Box::new(error))
        })?
    }

    /// Commits the first in line, and those behind it that can be taken with it.
    fn commit_first(&self, log: &mut CatalogLog, ended: &mut Vec<Ended>) {
        let _fence = FenceOnPanic(&self.fenced);
        let before = self.snapshot();
        let Group { mut commits, after, .. } = self.take_group(&before, ended);
        if commits.is_empty() {
            return;
        }
        faults::point(Place::CommitBegun);
        if faults::planted(Defect::PublishBeforeLog) {
            *self.latest.write() = Arc::new(after.clone());
        }
        // From here on the segments belong to the log, or nobody knows: they must stay.
        let changes: Vec<(Xid, Vec<Change>)> = commits.iter_mut().map(Commit::take).collect();
        let written = log.commit(&borrowed(&changes), self.next_ids());
        match written {
            // It is durable here; whoever waits is told when it is elsewhere too.
            Ok(record) => {
                faults::point(Place::CommitLogged);
                self.copy(log, &record);
                faults::point(Place::CommitCopied);
                // Whoever was replaced while it copied must not say that it has committed.
                match self.check_not_replaced() {
                    Ok(()) => {
                        self.publish(&before, after, &changes);
                        ended.extend(commits.into_iter().map(|commit| (commit, Ok(()))));
                    }
                    Err(error) => ended.extend(commits.into_iter().zip(all_told(error))),
                }
            }
            Err(error) if is_full(&error) && is_absent(log, &commits) => {
                // The disk is full, and SQLite has rolled back: all is as it was.
                for (commit, (_, changes)) in commits.iter_mut().zip(changes) {
                    commit.pending.changes = changes;
                    commit.goes_alone = true;
                }
                match commits.len() {
                    1 => ended.extend(commits.pop().map(|commit| (commit, Err(error)))),
                    _ => self.line.put_back(commits),
                }
            }
            Err(error) => {
                let error = self.fail(log, &commits, error);
                ended.extend(commits.into_iter().zip(all_told(error)));
            }
        }
    }

    /// Takes from the line what can be committed together, and what can not be committed at all.
    fn take_group<'a>(&self, before: &'a Snapshot, ended: &mut Vec<Ended>) -> Group<'a> {
        let mut group = Group::new(before);
        while let Some(next) = self.line.take_if(|next| group.takes(next)) {
            // The log is held: what is true now is so until this commit.
            let refused = match self.check(&next) {
                Ok(()) => group.add(next).err(),
                Err(error) => Some((next, error)),
            };
            ended.extend(refused.map(|(commit, error)| (commit, Err(error))));
        }
        group
    }

    /// Whether what a transaction needs to be true is so.
    fn check(&self, commit: &Commit) -> Result<()> {
        if self.is_fenced() {
            return Err(Error::Fenced);
        }
        self.check_not_replaced()?;
        self.check_reads(&commit.pending.reads)
    }

    /// Writes nothing more after transactions that could not be written; what they are told.
    fn fail(&self, log: &CatalogLog, commits: &[Commit], error: Error) -> Error {
        tracing::error!(%error, ?commits, "commits could not be written; no more writes");
        self.fenced.store(true, Ordering::Relaxed);
        // A commit that was written and not synced is found by a restart, or is not.
        let is_gone = !is_unsynced(&error) && is_absent(log, commits);
        if is_gone { error } else { Error::CommitInDoubt(Box::new(error)) }
    }

    /// Lets others see what is durable.
    fn publish(&self, before: &Snapshot, after: Snapshot, commits: &[(Xid, Vec<Change>)]) {
        let takes_away =
            |change: &Change| matches!(change, Change::DropTable(_) | Change::Truncate(_));
        for (xid, changes) in commits {
            // Before the new snapshot is there, so that at any time what may be read is in one or the
            // other.
            if changes.iter().any(takes_away) {
                self.collect_never_seen(&after, changes);
            }
            for change in changes {
                self.collect(before, &after, change);
                if let Change::DeleteRows(table, _) | Change::Rewrite(table, _) = change {
                    self.deleters.lock().insert(*table, *xid);
                }
                if let Change::DropTable(table) = change {
                    self.numbers.forget(*table);
                }
            }
            self.histories.lock().enter(&after, *xid, changes, self.now_us());
        }
        *self.latest.write() = Arc::new(after);
        faults::point(Place::CommitPublished);
    }
}

fn borrowed(changes: &[(Xid, Vec<Change>)]) -> Vec<(Xid, &[Change])> {
    changes.iter().map(|(xid, changes)| (*xid, changes.as_slice())).collect()
}

/// Whether the log knows nothing of transactions that it has all or none of.
fn is_absent(log: &CatalogLog, commits: &[Commit]) -> bool {
    commits.iter().all(|commit| matches!(log.has_committed(commit.xid), Ok(false)))
}

/// One error for as many transactions as there are: itself first, then its like.
fn all_told(error: Error) -> impl Iterator<Item = Result<()>> {
    let more = once_more(&error);
    let others = std::iter::repeat_with(move || Err(once_more(&more)));
    std::iter::once(Err(error)).chain(others)
}

/// The error for one more transaction.
fn once_more(error: &Error) -> Error {
    match error {
        Error::Catalog(rusqlite::Error::SqliteFailure(code, message)) => {
            Error::Catalog(rusqlite::Error::SqliteFailure(*code, message.clone()))
        }
        Error::CommitInDoubt(error) => Error::CommitInDoubt(Box::new(once_more(error))),
        Error::Statement { code, message, detail, hint } => Error::Statement {
            code,
            message: message.clone(),
            detail: detail.clone(),
            hint: hint.clone(),
        },
        Error::CatalogDamaged(text) => Error::CatalogDamaged(text.clone()),
        Error::Internal(text) => Error::Internal(text.clone()),
        other => Error::Internal(other.to_string()),
    }
}

/// Whether the catalog could not be synced.
fn is_unsynced(error: &Error) -> bool {
    matches!(error, Error::Catalog(error) if crate::error::is_unsynced(error))
}

#[cfg(test)]
mod tests;
