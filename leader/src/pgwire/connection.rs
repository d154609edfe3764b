//! One connection, from accept to close: the loop over its messages, and what follows an error.
//!
//! [`Connection`] holds an [`Authenticated`], so no handler of a query can exist before a password
//! was proved. Handlers are in `simple_query.rs` and `extended_query.rs`; they return a
//! [`Failure`], and only this file turns one into messages.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use futures::FutureExt;
use tokio::net::TcpStream;

use crate::pgwire::backend::{
    Backend, CancelReason, Deallocation, Outcome, Startup, TransactionStatus, WireSession,
    WireSettings,
};
use crate::pgwire::extended_query::{Portal, PreparedStatement};
use crate::pgwire::message::{self, FrontendMessage};
use crate::pgwire::registry::{Attendance, Registration};
use crate::pgwire::report::{Report, Severity, sqlstate};
use crate::pgwire::startup::{self, Authenticated, Opening, Packet, Secrets, StartupError};
use crate::pgwire::transport::{ReadError, Reader, Writer};
use crate::server::Shared;

/// How long a last message may take to be sent.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a handler stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client must be told; a FATAL one ends the connection.
    Report(Report),
    /// Nobody to tell.
    Gone,
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone => Self::Gone,
            ReadError::Protocol(report) => Self::Report(report),
        }
    }
}

impl From<StartupError> for Failure {
    fn from(error: StartupError) -> Self {
        match error {
            StartupError::Gone => Self::Gone,
            StartupError::Refused(report) => Self::Report(report),
        }
    }
}

/// An authenticated client and its session.
pub(crate) struct Connection<S: WireSession> {
    pub(crate) client: Authenticated,
    pub(crate) session: S,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) registration: Registration,
    pub(crate) settings: WireSettings,
    pub(crate) statements: HashMap<String, Arc<PreparedStatement<S::Statement>>>,
    pub(crate) portals: HashMap<String, Portal<S::Statement>>,
    /// After an error in an extended batch all is skipped up to Sync.
    pub(crate) skips_to_sync: bool,
    /// The client is one of Redshift's own drivers, which read an interval of 12 bytes.
    pub(crate) interval_is_12_bytes: bool,
}

/// Serves one accepted socket to its end. Never panics.
pub(crate) async fn serve<B: Backend>(shared: &Shared<B>, stream: TcpStream, peer: SocketAddr) {
    let settings = shared.backend.settings();
    let opening = startup::open(stream, shared.tls.as_ref());
    let opening = tokio::time::timeout(settings.authentication_timeout, opening);
    // A timeout or a broken start is the client's doing: nothing is worth a log line above debug.
    let guarded = AssertUnwindSafe(opening).catch_unwind().await;
    let (packet, streams) = match guarded {
        Ok(Ok(Ok(Opening::Session { packet, streams }))) => (packet, streams),
        Ok(Ok(Ok(Opening::Cancel { process_id, secret }))) => {
            return shared.registry.cancel_with_secret(process_id, secret);
        }
        Ok(Ok(Err(error))) => return tracing::debug!(%peer, ?error, "no session"),
        Ok(Err(_)) => return tracing::debug!(%peer, "no startup packet in time"),
        Err(_) => return tracing::error!(%peer, "panic while a connection started"),
    };
    let mut reader = Reader::new(streams.source);
    let mut writer = Writer::new(streams.sink, settings.send_stall_timeout);
    let request = Request { packet, peer, tls: streams.tls, settings };
    let established = establish(shared, request, &mut reader, &mut writer);
    let guarded = AssertUnwindSafe(established).catch_unwind().await;
    let established = guarded.unwrap_or_else(|_| Err(internal_error().into_fatal().into()));
    match established {
        Ok(established) => established.into_connection(reader, writer).run().await,
        Err(Failure::Report(report)) => {
            tracing::debug!(%peer, %report, "connection refused");
            farewell(&mut reader, &mut writer, Some(&report.into_fatal())).await;
        }
        Err(Failure::Gone) => {}
    }
}

/// A client that has sent its startup message.
struct Request {
    packet: Packet,
    peer: SocketAddr,
    tls: bool,
    settings: WireSettings,
}

/// All of a [`Connection`] but the two directions, which must outlive a failed start.
struct Established<S> {
    client: Authenticated,
    session: S,
    registration: Registration,
    settings: WireSettings,
    interval_is_12_bytes: bool,
}

impl<S: WireSession> Established<S> {
    fn into_connection(self, mut reader: Reader, writer: Writer) -> Connection<S> {
        reader.set_authenticated(self.settings.message_bytes_max);
        Connection {
            client: self.client,
            session: self.session,
            reader,
            writer,
            registration: self.registration,
            settings: self.settings,
            statements: HashMap::new(),
            portals: HashMap::new(),
            skips_to_sync: false,
            interval_is_12_bytes: self.interval_is_12_bytes,
        }
    }
}

/// Authenticates and opens the session, within the time that is allowed for it.
async fn establish<B: Backend>(
    shared: &Shared<B>,
    request: Request,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<Established<B::Session>, Failure> {
    let registration = shared.registry.register(
        request.settings.connections_max,
        &shared.random,
        &shared.shutdown,
    )?;
    let limit = request.settings.authentication_timeout;
    let terminated = registration.termination();
    let establish = establish_in_time(shared, request, registration, reader, writer);
    tokio::select! {
        result = tokio::time::timeout(limit, establish) => result.unwrap_or_else(|_| {
            Err(Report::fatal(
                sqlstate::QUERY_CANCELED,
                "canceling authentication due to timeout",
            ).into())
        }),
        () = terminated.cancelled() => Err(terminated_report().into()),
    }
}

async fn establish_in_time<B: Backend>(
    shared: &Shared<B>,
    request: Request,
    registration: Registration,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<Established<B::Session>, Failure> {
    let Request { packet, peer, tls, settings } = request;
    startup::put_negotiation(&mut writer.buffer, &packet);
    if settings.require_ssl && !tls {
        let report = Report::fatal(sqlstate::INVALID_AUTHORIZATION, "SSL connection is required")
            .with_hint("Connect with sslmode=require or a stricter mode.");
        return Err(report.into());
    }
    let mut options = packet.parameters;
    let user = options.remove("user").unwrap_or_default();
    let verifier = shared.backend.verifier(&user).await?;
    let secrets = Secrets { mock: &shared.mock_secret, random: &shared.random };
    let client = startup::authenticate(&user, verifier, &secrets, reader, writer).await?;
    let database = options.remove("database").filter(|database| !database.is_empty());
    let application_name = options.remove("application_name");
    let interval_is_12_bytes = options.contains_key("client_protocol_version");
    let session = shared
        .backend
        .open_session(Startup {
            database: database.unwrap_or_else(|| user.clone()),
            user,
            application_name,
            options,
            peer,
            tls,
            process_id: registration.process_id(),
        })
        .await?;
    message::frame(&mut writer.buffer, b'K', |out| {
        out.put_i32(registration.process_id());
        out.put_u32(registration.secret());
    });
    Ok(Established { client, session, registration, settings, interval_is_12_bytes })
}

/// Sends a last report and closes. Reads on for a moment, since closing a socket with unread bytes
/// in it would make the client lose the report.
async fn farewell(reader: &mut Reader, writer: &mut Writer, report: Option<&Report>) {
    if let Some(report) = report {
        message::put_report(&mut writer.buffer, report);
    }
    let farewell = async {
        if writer.flush().await.is_ok() {
            writer.shutdown().await;
            reader.drain().await;
        }
    };
    // A client that takes nothing any more has no right to a farewell.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
}

fn internal_error() -> Report {
    Report::error(sqlstate::INTERNAL_ERROR, "internal error")
        .with_detail("The server met a defect of its own; its log has the details.")
}

fn terminated_report() -> Report {
    Report::fatal(sqlstate::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

impl<S: WireSession> Connection<S> {
    /// Serves messages until the connection ends, then closes the session.
    async fn run(mut self) {
        let user = self.client.user().to_owned();
        assert!(!user.is_empty(), "no session without an authenticated user");
        let served = AssertUnwindSafe(self.serve_messages()).catch_unwind().await;
        let report = match served {
            Ok(Ok(())) | Ok(Err(Failure::Gone)) => None,
            Ok(Err(Failure::Report(report))) => Some(report.into_fatal()),
            Err(_) => {
                tracing::error!(%user, "panic in a connection");
                Some(internal_error().into_fatal())
            }
        };
        // Streams stop before the session is told, and both before the client learns of it.
        self.portals.clear();
        if AssertUnwindSafe(self.session.close()).catch_unwind().await.is_err() {
            tracing::error!(%user, "panic while a session closed");
        }
        let Self { mut reader, mut writer, registration, .. } = self;
        drop(registration);
        farewell(&mut reader, &mut writer, report.as_ref()).await;
    }

    async fn serve_messages(&mut self) -> Result<(), Failure> {
        self.ready_for_query().await?;
        loop {
            let (tag, body) = self.next_message().await?;
            if self.skips_to_sync && tag != b'S' && tag != b'X' {
                continue;
            }
            let message = match message::parse(tag, body) {
                Ok(FrontendMessage::Terminate) => return Ok(()),
                message => message,
            };
            let handled = match message {
                Ok(message) => self.handle(message).await,
                Err(report) => Err(report.into()),
            };
            if let Err(failure) = handled {
                self.recover(tag, failure).await?;
            }
        }
    }

    async fn handle(&mut self, message: FrontendMessage) -> Result<(), Failure> {
        match message {
            FrontendMessage::Query(text) => self.query(&text).await,
            FrontendMessage::Parse { name, text, parameter_oids } => {
                self.parse(name, &text, parameter_oids).await
            }
            FrontendMessage::Bind(bind) => self.bind(bind),
            FrontendMessage::Describe(target) => self.describe(&target),
            FrontendMessage::Execute { portal, max_rows } => self.execute(&portal, max_rows).await,
            FrontendMessage::Close(target) => {
                self.close(&target);
                Ok(())
            }
            FrontendMessage::Flush => self.flush().await,
            FrontendMessage::Sync => self.sync().await,
            FrontendMessage::FunctionCall => Err(Report::error(
                sqlstate::FEATURE_NOT_SUPPORTED,
                "function calls by message are not supported",
            )
            .with_hint("Call the function with SELECT.")
            .into()),
            FrontendMessage::CopyPart | FrontendMessage::Terminate => Ok(()),
        }
    }

    /// Reports a failure of the current message. An error of its own ends the connection.
    async fn recover(&mut self, tag: u8, failure: Failure) -> Result<(), Failure> {
        let report = match failure {
            Failure::Report(report) if report.severity != Severity::Fatal => report,
            failure => return Err(failure),
        };
        self.put_session_output();
        message::put_report(&mut self.writer.buffer, &report);
        self.portals.clear();
        self.session.fail();
        if let Err(report) = self.session.end_implicit(Outcome::RollBack).await {
            tracing::warn!(%report, "roll back failed");
        }
        match tag {
            b'Q' | b'S' | b'F' => self.ready_for_query().await,
            _ => {
                self.skips_to_sync = true;
                Ok(())
            }
        }
    }

    async fn next_message(&mut self) -> Result<(u8, Bytes), Failure> {
        let timeouts = self.session.timeouts();
        let (limit, code, name) = match self.session.transaction_status() {
            TransactionStatus::Idle => {
                (timeouts.idle_session, sqlstate::IDLE_SESSION_TIMEOUT, "idle-session")
            }
            TransactionStatus::InBlock | TransactionStatus::Failed => (
                timeouts.idle_in_transaction,
                sqlstate::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "idle-in-transaction",
            ),
        };
        let idle = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            message = self.reader.message() => Ok(message?),
            () = self.registration.terminated() => Err(terminated_report().into()),
            () = idle => Err(Report::fatal(
                code,
                format!("terminating connection due to {name} timeout"),
            ).into()),
        }
    }

    /// Sends ReadyForQuery and all that waits.
    pub(crate) async fn ready_for_query(&mut self) -> Result<(), Failure> {
        self.put_session_output();
        let status = self.session.transaction_status();
        if status == TransactionStatus::Idle {
            self.portals.clear();
        }
        message::put_ready_for_query(&mut self.writer.buffer, status);
        self.flush().await
    }

    /// Sends all that waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        tokio::select! {
            biased;
            flushed = self.writer.flush() => Ok(flushed?),
            () = self.registration.terminated() => Err(terminated_report().into()),
        }
    }

    /// Appends notices and changed parameters, and forgets what SQL deallocated.
    pub(crate) fn put_session_output(&mut self) {
        for notice in self.session.take_notices() {
            message::put_report(&mut self.writer.buffer, &notice);
        }
        for (name, value) in self.session.take_parameter_changes() {
            message::put_parameter_status(&mut self.writer.buffer, &name, &value);
        }
        for deallocation in self.session.take_deallocations() {
            match deallocation {
                // SQL folds names, quoted ones too; messages do not.
                Deallocation::Statement(name) => {
                    if self.statements.remove(&name).is_none() {
                        self.statements.retain(|known, _| known.to_lowercase() != name);
                    }
                }
                Deallocation::AllStatements => self.statements.clear(),
            }
        }
    }
}

/// Runs a future to its end. Meanwhile a lost client, a passed deadline or the end of the
/// connection cancels the statement; the future is expected to end soon after that.
pub(crate) async fn attended<T>(
    reader: &mut Reader,
    attendance: &Attendance,
    future: impl Future<Output = T>,
) -> T {
    let mut future = std::pin::pin!(future);
    let mut interrupt = std::pin::pin!(async {
        tokio::select! {
            () = reader.watch() => attendance.handle().cancel(CancelReason::ClientGone),
            () = attendance.interrupt() => {}
        }
    });
    tokio::select! {
        biased;
        output = &mut future => return output,
        () = &mut interrupt => {}
    }
    future.await
}
