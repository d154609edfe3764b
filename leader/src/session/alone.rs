//! A statement that is alone in its transaction. If it loses against another transaction when it
//! commits, nobody needs to know: it is done again.
//!
//! The first time it takes its chance, as any transaction does. After that it takes the tables that
//! it reads and writes before its snapshot, and then nobody can be quicker.

use std::collections::BTreeSet;

use storage::ids::TableId;

use super::{Session, State};
use crate::error::{Error, Result};
use crate::pgwire::backend::ImplicitExtent;

/// How the commit of a statement that is alone ended.
pub enum LoneCommit {
    /// It is done.
    Done,
    /// Another transaction has changed what it read. These tables it had read or written to. It is
    /// in a new transaction.
    Lost(BTreeSet<TableId>),
}

impl Session {
    /// Whether the statement that begins is the only one of its transaction.
    pub fn is_alone(&self) -> bool {
        match &self.state {
            State::Implicit(transaction) => {
                self.implicit == ImplicitExtent::One && transaction.is_fresh()
            }
            State::Idle | State::Block(_) | State::Failed(_) => false,
        }
    }

    /// Whether its commit may be in vain.
    pub fn can_lose(&mut self) -> bool {
        self.transaction().is_ok_and(|transaction| transaction.can_lose())
    }

    /// Commits what the statement has done, and goes on in a new transaction.
    ///
    /// # Errors
    /// Whatever a commit fails of but a conflict.
    pub async fn commit_alone(&mut self) -> Result<LoneCommit> {
        let State::Implicit(transaction) = std::mem::replace(&mut self.state, State::Idle) else {
            return Err(Error::Internal("a statement is not alone".into()));
        };
        let tables = transaction.tables();
        let xid = transaction.xid();
        self.cursors.before_commit();
        let committed = transaction.commit().await;
        self.cursors.end_transaction(committed.is_ok());
        self.state = State::Implicit(self.new_transaction());
        match committed {
            Ok(()) => Ok(LoneCommit::Done),
            Err(Error::Conflict { .. }) => Ok(LoneCommit::Lost(tables)),
            Err(error) => Err(self.told(error, xid)),
        }
    }

    /// Forgets what the statement has done, which lost over a table. The tables that it had read or
    /// written to, and that one.
    pub fn begin_alone_again(&mut self, table: TableId) -> Result<BTreeSet<TableId>> {
        if matches!(self.state, State::Idle) {
            // It was its own commit that has lost.
            self.state = State::Implicit(self.new_transaction());
        }
        let transaction = self.transaction()?;
        let mut tables = transaction.tables();
        tables.insert(table);
        transaction.begin_again();
        Ok(tables)
    }

    /// Takes the tables of a statement that has lost, before it is done again.
    pub async fn lock_ahead(&mut self, tables: &BTreeSet<TableId>) -> Result<()> {
        self.transaction()?.lock_ahead(tables).await;
        Ok(())
    }
}
