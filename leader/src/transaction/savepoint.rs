//! Savepoints: places in a transaction that it can go back to.
//!
//! A savepoint remembers how much the transaction had done, and what it saw then. Going back cuts
//! the changes to that length; what they wrote is removed as after a rollback, because nothing of
//! it was ever visible to others. Names may repeat: the latest one counts.

use std::sync::Arc;

use super::Transaction;
use crate::catalog::Snapshot;
use crate::error::{Error, Result, code};
use faults::Defect;

/// Most savepoints of a transaction.
const SAVEPOINTS_MAX: usize = 10_000;

/// A place to go back to.
#[derive(Debug)]
pub(super) struct Savepoint {
    name: String,
    view: Arc<Snapshot>,
    changes: usize,
    locks: usize,
}

impl Savepoint {
    /// How many locks there were.
    pub(super) fn locks(&self) -> usize {
        self.locks
    }

    /// The transaction will take another snapshot.
    pub(super) fn forget_view(&mut self) {
        assert_eq!(self.changes, 0, "a change needs the snapshot");
        self.view = Arc::default();
    }

    /// The transaction took its snapshot only now: it had changed nothing before.
    pub(super) fn move_to(&mut self, snapshot: &Arc<Snapshot>) {
        assert_eq!(self.changes, 0, "a change needs the snapshot");
        self.view = Arc::clone(snapshot);
    }
}

impl Transaction {
    /// SAVEPOINT.
    pub fn set_savepoint(&mut self, name: &str) -> Result<()> {
        if self.savepoints.len() >= SAVEPOINTS_MAX {
            return Err(Error::statement(code::PROGRAM_LIMIT_EXCEEDED, "too many savepoints"));
        }
        self.savepoints.push(Savepoint {
            name: name.to_owned(),
            view: Arc::clone(&self.view),
            changes: self.changes.len(),
            locks: self.locks.count(),
        });
        Ok(())
    }

    /// RELEASE: forgets the savepoint and those after it; what was done stays done. Answers with
    /// its depth.
    pub fn release_savepoint(&mut self, name: &str) -> Result<usize> {
        let position = self.find_savepoint(name)?;
        self.savepoints.truncate(position);
        Ok(position + 1)
    }

    /// ROLLBACK TO: forgets what was done since the savepoint, which stays.
    pub fn roll_back_to(&mut self, name: &str) -> Result<()> {
        let position = self.find_savepoint(name)?;
        self.savepoints.truncate(position + 1);
        self.go_back();
        Ok(())
    }

    /// A statement failed: what was done since the last savepoint is forgotten at once, so that
    /// nobody waits for its locks. Without a savepoint nothing can be kept, and the answer is false.
    pub fn fail(&mut self) -> bool {
        self.go_back();
        !self.savepoints.is_empty()
    }

    /// The depth of the latest savepoint of that name, from 1.
    pub fn depth_of_savepoint(&self, name: &str) -> Result<usize> {
        Ok(self.find_savepoint(name)? + 1)
    }

    /// How many savepoints there are.
    pub fn savepoint_depth(&self) -> usize {
        self.savepoints.len()
    }

    fn find_savepoint(&self, name: &str) -> Result<usize> {
        self.savepoints.iter().rposition(|savepoint| savepoint.name == name).ok_or_else(|| {
            let message = format!("savepoint \"{name}\" does not exist");
            Error::statement(code::INVALID_SAVEPOINT_SPECIFICATION, message)
        })
    }

    /// Back to the last savepoint.
    fn go_back(&mut self) {
        let Some(savepoint) = self.savepoints.last() else { return };
        // The view holds the segments too: it goes first, so that their files can go.
        self.view = Arc::clone(&savepoint.view);
        let mut keep = savepoint.changes;
        if faults::planted(Defect::KeepRolledBack) {
            keep = (keep + 1).min(self.changes.len());
        }
        let forgotten = self.changes.split_off(keep);
        self.locks.release_since(savepoint.locks);
        if !forgotten.is_empty() {
            self.manager.discard(forgotten);
        }
    }
}
