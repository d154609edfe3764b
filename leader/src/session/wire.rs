//! The session as the wire drives it. Conversions only: what a statement does is in
//! [`crate::statement`].

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;

use super::cursor::Cursors;
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
        now.insert("is_superuser", if self.is_superuser() { "on" } else { "off" }.to_owned());
        // What Redshift's own drivers look for: its release, and that there is one database.
        let release = sql::VERSION.rsplit(' ').next().unwrap_or_default();
        now.insert("padb_version", release.to_owned());
        now.insert("padb_revision", release.to_owned());
        now.insert("case_sensitive", "off".to_owned());
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
            State::Failed(_) => TransactionStatus::Failed,
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
        let guard = self.begin_statement(&statement.shown, &cancel);
        let result = query::execute(self, statement, parameters, &cancel).await;
        self.end_statement();
        match result {
            Ok(execution) => {
                // Rows complete it when they have ended.
                if Arc::strong_count(&guard) == 1 {
                    guard.complete();
                }
                Ok(execution)
            }
            Err(Error::Canceled) => Err(cancel.report()),
            Err(error) => Err(error.into()),
        }
    }

    async fn begin_implicit(&mut self, extent: ImplicitExtent) -> Result<(), Report> {
        if matches!(self.state, State::Idle) {
            self.start_transaction();
            self.implicit = extent;
        }
        Ok(())
    }

    async fn end_implicit(&mut self, outcome: Outcome) -> Result<(), Report> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Implicit(transaction) => {
                let ended = match outcome {
                    Outcome::Commit => self.commit(*transaction).await,
                    Outcome::RollBack => {
                        self.cursors.end_transaction(false);
                        drop(transaction);
                        Ok(())
                    }
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
        self.fail_block();
    }

    fn cursor_fields(&self, name: &str) -> Option<SchemaRef> {
        self.cursors.schema(&name.to_lowercase()).ok()
    }

    fn take_deallocations(&mut self) -> Vec<Deallocation> {
        std::mem::take(&mut self.deallocations)
    }

    async fn close(&mut self) {
        self.cursors = Cursors::default();
        self.state = State::Idle;
        self.end_temporary().await;
        self.engine.workload.session_ended(self.process_id);
    }
}
