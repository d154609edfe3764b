//! What the wire needs of the engine: one [`Backend`] per server, one [`WireSession`] per
//! connection.
//!
//! The wire knows messages, authentication, portals and encodings, and it decides when a statement
//! is run, cancelled or timed out. The engine knows SQL, transactions and data. Neither sees the
//! other's types but for what is declared here. The order of calls on a session is:
//!
//! ```text
//!   simple string     parse -> begin_implicit -> (execute -> stream)* -> end_implicit
//!   extended batch    (prepare | begin_implicit once -> execute -> stream)* -> Sync: end_implicit
//!   any error sent    fail (before end_implicit(Outcome::RollBack))
//!   end               close
//! ```

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use chrono_tz::Tz;
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::authentication::ScramVerifier;
use crate::pgwire::report::{Report, Severity, sqlstate};

/// The engine, as the wire sees it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The state of one connection.
    type Session: WireSession;

    /// Limits and rules of the wire; read once per connection.
    fn settings(&self) -> WireSettings;

    /// The stored verifier of a user's password; `None` if there is no such user or no password.
    /// The exchange runs all the same then, against a mock verifier, so that a client cannot tell
    /// which users exist.
    async fn verifier(&self, user: &str) -> Result<Option<ScramVerifier>, Report>;

    /// Opens a session for an authenticated client. Any error is sent as FATAL.
    async fn open_session(&self, startup: Startup) -> Result<Self::Session, Report>;
}

/// One client's session. Calls never overlap.
#[async_trait]
pub trait WireSession: Send + 'static {
    /// A parsed or prepared statement, cheap to clone (an `Arc` inside).
    type Statement: Clone + Send + Sync + 'static;

    /// ParameterStatus pairs not sent yet: all of them after opening, later those that changed.
    fn take_parameter_changes(&mut self) -> Vec<(String, String)>;

    /// Notices not sent yet.
    fn take_notices(&mut self) -> Vec<Report>;

    /// What ReadyForQuery says. An implicit transaction counts as [`TransactionStatus::Idle`].
    fn transaction_status(&self) -> TransactionStatus;

    /// How values are printed now.
    fn output_settings(&self) -> OutputSettings;

    /// The time limits in force now.
    fn timeouts(&self) -> Timeouts;

    /// Splits a simple-query string into its statements; none for an empty string. An error fails
    /// the whole string.
    async fn parse(&mut self, text: &str) -> Result<Vec<Self::Statement>, Report>;

    /// Parses and plans one statement of the extended protocol. `parameter_types` has what the
    /// client declared, as Arrow types; `None` or a missing tail is to be inferred.
    async fn prepare(
        &mut self,
        text: &str,
        parameter_types: &[Option<DataType>],
    ) -> Result<Prepared<Self::Statement>, Report>;

    /// Runs a statement. Each parameter has the type that [`Prepared::parameters`] named.
    ///
    /// The future is never dropped while it runs: it must watch `cancel` itself and then return
    /// [`CancelHandle::report`] soon. A stream in the answer is dropped at once on a cancel.
    async fn execute(
        &mut self,
        statement: &Self::Statement,
        parameters: Vec<ScalarValue>,
        cancel: CancelHandle,
    ) -> Result<Execution, Report>;

    /// Called before each statement: begins the implicit transaction of a simple string or of an
    /// extended batch. Does nothing inside a transaction block, or if the implicit transaction
    /// has begun. A BEGIN inside turns it into a block.
    async fn begin_implicit(&mut self, extent: ImplicitExtent) -> Result<(), Report>;

    /// Ends the implicit transaction, if it still is one; does nothing inside a block.
    async fn end_implicit(&mut self, outcome: Outcome) -> Result<(), Report>;

    /// An error was (or is about to be) sent to the client, also one that a stream or the wire
    /// itself raised: a transaction block becomes failed.
    fn fail(&mut self);

    /// DEALLOCATE and DISCARD of names that live in the wire: the names dropped by the last
    /// statement, drained after each execution.
    fn take_deallocations(&mut self) -> Vec<Deallocation> {
        Vec::new()
    }

    /// The columns of a cursor that SQL declared; clients describe one as a portal.
    fn cursor_fields(&self, _name: &str) -> Option<SchemaRef> {
        None
    }

    /// The connection ended: roll back, free everything.
    async fn close(&mut self);
}

/// Who wants a session, and how it is connected.
#[derive(Clone, Debug)]
pub struct Startup {
    /// The authenticated user.
    pub user: String,
    /// The database; the user's name if the client gave none.
    pub database: String,
    /// `application_name`, if given.
    pub application_name: Option<String>,
    /// All other startup parameters, also those given as `options=-c name=value`; names in lower
    /// case.
    pub options: BTreeMap<String, String>,
    /// The client's address.
    pub peer: SocketAddr,
    /// The connection is encrypted.
    pub tls: bool,
    /// The number by which `pg_cancel_backend` and the like name this connection.
    pub process_id: i32,
}

/// Limits and rules of the wire. [`WireSettings::default`] is safe.
#[derive(Clone, Debug)]
pub struct WireSettings {
    /// Refuse clients that do not use TLS.
    pub require_ssl: bool,
    /// From accept to ReadyForQuery.
    pub authentication_timeout: Duration,
    /// Connections in all, also those that are not authenticated yet.
    pub connections_max: usize,
    /// The longest message after authentication; before it the limit is 64 KiB in all.
    pub message_bytes_max: usize,
    /// Prepared statements per connection.
    pub statements_max: usize,
    /// Portals per connection.
    pub portals_max: usize,
    /// A client that takes no bytes for this long while we send is dropped.
    pub send_stall_timeout: Duration,
}

impl Default for WireSettings {
    fn default() -> Self {
        Self {
            require_ssl: false,
            authentication_timeout: Duration::from_secs(10),
            connections_max: 500,
            message_bytes_max: 64 << 20,
            statements_max: 10_000,
            portals_max: 1_000,
            send_stall_timeout: Duration::from_secs(600),
        }
    }
}

/// The time limits of a session; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timeouts {
    /// From the start of a statement to its last row (`statement_timeout`).
    pub statement: Option<Duration>,
    /// Idle outside a transaction (`idle_session_timeout`).
    pub idle_session: Option<Duration>,
    /// Idle inside a transaction block (`idle_in_transaction_session_timeout`).
    pub idle_in_transaction: Option<Duration>,
}

/// How values are printed.
#[derive(Clone, Copy, Debug)]
pub struct OutputSettings {
    /// The session's time zone, for TIMESTAMPTZ.
    pub time_zone: Tz,
}

/// The status byte of ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not in a transaction block.
    Idle,
    /// In a transaction block.
    InBlock,
    /// In a transaction block that can only be rolled back.
    Failed,
}

/// How many statements an implicit transaction has; some statements refuse company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImplicitExtent {
    /// One: it ends after that.
    One,
    /// One so far; others may follow.
    Open,
    /// Several.
    Several,
}

/// How an implicit transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Commit; may fail.
    Commit,
    /// Roll back.
    RollBack,
}

/// Something the wire must forget because SQL said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deallocation {
    /// DEALLOCATE name.
    Statement(String),
    /// DEALLOCATE ALL, DISCARD ALL.
    AllStatements,
}

/// A statement of the extended protocol, planned.
#[derive(Clone, Debug)]
pub struct Prepared<S> {
    /// The statement; `None` for an empty text.
    pub statement: Option<S>,
    /// The types of its parameters, all of them.
    pub parameters: Vec<DataType>,
    /// Its result columns; `None` if it gives no rows.
    pub fields: Option<SchemaRef>,
}

/// What a statement gave.
pub enum Execution {
    /// Rows; the wire counts them and completes the tag, for example `SELECT` to `SELECT 3`.
    Rows {
        /// The columns; the same as [`Prepared::fields`] said, if prepared.
        schema: SchemaRef,
        /// The rows. Dropping it must stop all work behind it.
        stream: BoxStream<'static, Result<RecordBatch, Report>>,
        /// The first word or words of the command tag.
        tag: &'static str,
    },
    /// No rows; the whole command tag, for example `INSERT 0 5`.
    Command {
        /// The command tag.
        tag: String,
    },
    /// Nothing at all: an empty statement.
    Empty,
}

/// Why a statement must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// A CancelRequest or `pg_cancel_backend`.
    User,
    /// `statement_timeout` passed.
    StatementTimeout,
    /// The client is gone.
    ClientGone,
    /// `pg_terminate_backend`, or the server shuts down.
    Terminated,
}

/// Shared by the wire, which triggers it, and the engine, which watches it; one per statement.
#[derive(Clone, Debug, Default)]
pub struct CancelHandle {
    token: CancellationToken,
    reason: Arc<OnceLock<CancelReason>>,
    /// What the client is told instead of the usual message.
    message: Arc<OnceLock<String>>,
    /// The number under which system tables show the statement's query.
    query: Arc<OnceLock<u64>>,
}

impl CancelHandle {
    /// Not cancelled yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels; the first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        // A second cancel keeps the first reason, which is the one the client is told.
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Cancels as a user does, with a message for the statement's client.
    pub fn cancel_with_message(&self, message: Option<String>) {
        if let Some(message) = message {
            // The first one stays, as the first reason does.
            let _ = self.message.set(message);
        }
        self.cancel(CancelReason::User);
    }

    /// The statement's query has this number.
    pub fn set_query(&self, query: u64) {
        // A statement has one query; what it starts again keeps the first number here.
        let _ = self.query.set(query);
    }

    /// Has it been cancelled?
    pub fn is_cancelled(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it is cancelled.
    pub async fn cancelled(&self) {
        self.token.cancelled().await;
    }

    /// The plain token, for code that knows nothing of the wire.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Why it was cancelled, if it was.
    pub fn reason(&self) -> Option<CancelReason> {
        self.reason.get().copied()
    }

    /// The error a cancelled statement ends with.
    pub fn report(&self) -> Report {
        match self.reason().unwrap_or(CancelReason::User) {
            CancelReason::User | CancelReason::ClientGone => {
                let message = match (self.message.get(), self.query.get()) {
                    (Some(message), _) => message.clone(),
                    (None, Some(query)) => format!("Query ({query}) canceled on user's request"),
                    (None, None) => "canceling statement due to user request".to_owned(),
                };
                Report::error(sqlstate::QUERY_CANCELED, message)
            }
            CancelReason::StatementTimeout => Report::error(
                sqlstate::QUERY_CANCELED,
                "canceling statement due to statement timeout",
            ),
            CancelReason::Terminated => Report::new(
                Severity::Fatal,
                sqlstate::ADMIN_SHUTDOWN,
                "terminating connection due to administrator command",
            ),
        }
    }
}
