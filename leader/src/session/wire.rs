//! The session as the wire drives it. Conversions only: what a statement does is in
//! [`crate::statement`].

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::{Session, SessionStatement, State};
use crate::error::Error;
use crate::pgwire::backend::{
    CancelHandle, Deallocation, Execution, ImplicitExtent, Outcome, OutputSettings, Prepared,
    Timeouts, TransactionStatus, WireSession,
};
use crate::pgwire::report::Report;
use crate::query;

#[async_trait]
impl WireSession for Session {
    type Statement = Arc<SessionStatement>;

    fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        let mut now = self.settings.reported();
        now.insert("session_authorization", self.user.clone());
        now.insert("is_superuser", "on".to_owned());
        now.insert("datashare_enabled", "off".to_owned());
        now.insert("external_database", "off".to_owned());
        let changed = now
            .iter()
            .filter(|(name, value)| self.told.get(*name) != Some(value))
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        self.told = now;
        changed
    }

    fn take_notices(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.notices)
    }

    fn transaction_status(&self) -> TransactionStatus {
        match self.state {
            State::Idle | State::Implicit(_) => TransactionStatus::Idle,
            State::Block(_) => TransactionStatus::InBlock,
            State::Failed => TransactionStatus::Failed,
        }
    }

    fn output_settings(&self) -> OutputSettings {
        OutputSettings { time_zone: self.settings.time_zone() }
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts {
            statement: self.settings.timeout("statement_timeout"),
            idle_session: self.settings.timeout("idle_session_timeout"),
            idle_in_transaction: self.settings.timeout("idle_in_transaction_session_timeout"),
        }
    }

    async fn parse(&mut self, text: &str) -> Result<Vec<Self::Statement>, Report> {
        let statements = query::parse(text.to_owned(), Vec::new()).await?;
        Ok(statements.into_iter().map(Arc::new).collect())
    }

    async fn prepare(
        &mut self,
        text: &str,
        parameter_types: &[Option<DataType>],
    ) -> Result<Prepared<Self::Statement>, Report> {
        // Describing reads the catalog only: outside a transaction it borrows one for the moment.
        let borrowed = matches!(self.state, State::Idle);
        if borrowed {
            self.start_transaction();
        }
        let prepared = query::prepare(self, text, parameter_types.to_vec()).await;
        if borrowed {
            self.state = State::Idle;
        }
        Ok(prepared?)
    }

    async fn execute(
        &mut self,
        statement: &Self::Statement,
        parameters: Vec<ScalarValue>,
        cancel: CancelHandle,
    ) -> Result<Execution, Report> {
        match query::execute(self, statement, parameters, &cancel).await {
            Ok(execution) => Ok(execution),
            Err(Error::Canceled) => Err(cancel.report()),
            Err(error) => Err(error.into()),
        }
    }

    async fn begin_implicit(&mut self, _extent: ImplicitExtent) -> Result<(), Report> {
        if matches!(self.state, State::Idle) {
            self.start_transaction();
        }
        Ok(())
    }

    async fn end_implicit(&mut self, outcome: Outcome) -> Result<(), Report> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Implicit(transaction) => {
                let ended = match outcome {
                    Outcome::Commit => transaction.commit().await,
                    Outcome::RollBack => Ok(()),
                };
                self.end_settings(ended.is_ok() && outcome == Outcome::Commit);
                Ok(ended?)
            }
            other => {
                self.state = other;
                Ok(())
            }
        }
    }

    fn fail(&mut self) {
        if matches!(self.state, State::Block(_)) {
            // Dropping the transaction rolls it back and frees its locks at once.
            self.state = State::Failed;
        }
    }

    fn take_deallocations(&mut self) -> Vec<Deallocation> {
        std::mem::take(&mut self.deallocations)
    }

    async fn close(&mut self) {
        self.state = State::Idle;
    }
}
