//! SAVEPOINT, RELEASE and ROLLBACK TO as the session sees them: settings and cursors go back with
//! the transaction.

use super::settings::Settings;
use super::{Session, State, failed_block};
use crate::error::{Error, Result, code};
use crate::transaction::Transaction;

/// What ROLLBACK TO restores.
#[derive(Debug)]
pub(super) struct SavepointSettings {
    settings: Settings,
    /// How many parameters SET LOCAL had changed.
    local: usize,
}

impl Session {
    /// SAVEPOINT.
    pub fn set_savepoint(&mut self, name: &str) -> Result<()> {
        self.block("SAVEPOINT")?.set_savepoint(name)?;
        self.savepoint_settings.push(SavepointSettings {
            settings: self.settings.clone(),
            local: self.local_settings.len(),
        });
        Ok(())
    }

    /// RELEASE: what was done since stays, as if the savepoint had never been.
    pub fn release_savepoint(&mut self, name: &str) -> Result<()> {
        let depth = self.block("RELEASE SAVEPOINT")?.release_savepoint(name)?;
        self.savepoint_settings.truncate(depth - 1);
        self.cursors.release_savepoint(depth);
        Ok(())
    }

    /// ROLLBACK TO: also the way out of a failed block.
    pub fn roll_back_to(&mut self, name: &str) -> Result<()> {
        let transaction = match &mut self.state {
            State::Block(transaction) | State::Failed(Some(transaction)) => transaction,
            State::Failed(None) => {
                let message = format!("savepoint \"{name}\" does not exist");
                return Err(Error::statement(code::INVALID_SAVEPOINT_SPECIFICATION, message));
            }
            State::Idle | State::Implicit(_) => return Err(no_block("ROLLBACK TO SAVEPOINT")),
        };
        // What reads the forgotten rows goes before their files can.
        let depth = transaction.depth_of_savepoint(name)?;
        self.cursors.roll_back_to_savepoint(depth);
        transaction.roll_back_to(name)?;
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Failed(Some(transaction)) => State::Block(transaction),
            other => other,
        };
        self.savepoint_settings.truncate(depth);
        if let Some(saved) = self.savepoint_settings.last() {
            self.settings = saved.settings.clone();
            self.local_settings.truncate(saved.local);
        }
        Ok(())
    }

    /// A statement of a block failed.
    pub(super) fn fail_block(&mut self) {
        let mut transaction = match std::mem::replace(&mut self.state, State::Idle) {
            State::Block(transaction) => transaction,
            other @ (State::Idle | State::Implicit(_) | State::Failed(_)) => {
                self.state = other;
                return;
            }
        };
        let depth = transaction.savepoint_depth();
        if depth == 0 {
            self.cursors.end_transaction(false);
        } else {
            self.cursors.roll_back_to_savepoint(depth);
        }
        // Without a savepoint the transaction is dropped: that rolls it back and frees its locks.
        let kept = if transaction.fail() { Some(transaction) } else { None };
        self.state = State::Failed(kept);
    }

    /// The transaction of the block, for statements that make sense only there.
    fn block(&mut self, what: &str) -> Result<&mut Transaction> {
        match &mut self.state {
            State::Block(transaction) => Ok(transaction),
            State::Failed(_) => Err(failed_block()),
            State::Idle | State::Implicit(_) => Err(no_block(what)),
        }
    }
}

/// The statement makes sense only in a transaction block.
pub(super) fn no_block(what: &str) -> Error {
    let message = format!("{what} can only be used in transaction blocks");
    Error::statement(code::NO_ACTIVE_SQL_TRANSACTION, message)
}
