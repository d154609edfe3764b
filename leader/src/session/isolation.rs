//! Isolation levels as a session asks for them: BEGIN, SET TRANSACTION, SET SESSION CHARACTERISTICS
//! and the parameters `transaction_isolation` and `default_transaction_isolation`.
//!
//! A transaction has the strictest of what its database wants and what is asked for it: by BEGIN or
//! SET TRANSACTION, else by the session.

use sql::statement::TransactionModes;

use super::settings::{DEFAULT_ISOLATION, ISOLATION, READ_ONLY};
use super::{Session, State};
use crate::error::{Error, Result, code};
use crate::pgwire::report::Severity;
use crate::transaction::isolation::Isolation;
use crate::transaction::{Start, Transaction};

impl Session {
    /// A transaction as this session wants it.
    pub(super) fn new_transaction(&mut self) -> Box<Transaction> {
        let database = self.database_isolation();
        self.settings.note(DEFAULT_ISOLATION, database.words());
        let isolation = self.at_least(Isolation::of_words(self.settings.default_isolation()));
        self.settings.note(ISOLATION, isolation.words());
        Box::new(self.engine.transactions.begin(Start {
            isolation,
            read_only: self.settings.read_only(),
            process_id: self.process_id,
        }))
    }

    fn database_isolation(&self) -> Isolation {
        Isolation::of_database(&self.engine.transactions.snapshot())
    }

    /// The level that is asked for, or that of the database if that is stricter.
    fn at_least(&self, asked: Isolation) -> Isolation {
        asked.max(self.database_isolation())
    }

    /// What BEGIN says of the transaction.
    pub(super) fn apply_modes(&mut self, transaction: &mut Transaction, modes: &TransactionModes) {
        if let Some(read_only) = modes.read_only {
            transaction.set_read_only(read_only);
        }
        let Some(asked) = modes.isolation else { return };
        let mut isolation = self.at_least(Isolation::of(asked));
        if !transaction.is_fresh() {
            // Statements before BEGIN were promised what they have.
            isolation = isolation.max(transaction.isolation());
        }
        transaction.set_isolation(isolation);
        self.settings.note(ISOLATION, isolation.words());
    }

    /// SET TRANSACTION.
    pub fn set_transaction(&mut self, modes: &TransactionModes) -> Result<()> {
        let asked = modes.isolation.map(|level| self.at_least(Isolation::of(level)));
        let State::Block(transaction) = &mut self.state else {
            let message = "SET TRANSACTION can only be used in transaction blocks";
            self.notice(Severity::Warning, message);
            return Ok(());
        };
        let is_fresh = transaction.is_fresh();
        let too_late = |what: &str| {
            let message = format!("{what} before any query");
            Err(Error::statement(code::ACTIVE_SQL_TRANSACTION, message))
        };
        if asked.is_some_and(|asked| asked != transaction.isolation()) && !is_fresh {
            return too_late("SET TRANSACTION ISOLATION LEVEL must be called");
        }
        if modes.read_only == Some(false) && transaction.is_read_only() && !is_fresh {
            return too_late("transaction read-write mode must be set");
        }
        if let Some(read_only) = modes.read_only {
            transaction.set_read_only(read_only);
        }
        if let Some(isolation) = asked {
            transaction.set_isolation(isolation);
            self.settings.note(ISOLATION, isolation.words());
        }
        Ok(())
    }

    /// SET SESSION CHARACTERISTICS AS TRANSACTION.
    pub fn set_session_transactions(&mut self, modes: &TransactionModes) -> Result<()> {
        if let Some(level) = modes.isolation {
            self.settings.set(DEFAULT_ISOLATION, Isolation::of(level).words())?;
        }
        if let Some(read_only) = modes.read_only {
            self.settings.set(READ_ONLY, if read_only { "on" } else { "off" })?;
        }
        Ok(())
    }
}
