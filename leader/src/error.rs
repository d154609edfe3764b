//! Everything that can go wrong for a client, and the only table of SQLSTATEs.

use std::borrow::Cow;

use arrow::error::ArrowError;
use compute::error::SYNC_FAILED;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use sql::error::ErrorKind;
use storage::ids::{TableId, Xid};

use crate::pgwire::report::Report;

/// The result of a leader call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a statement, a session or the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text or the names in it are wrong; the client acts.
    #[error(transparent)]
    Sql(#[from] sql::Error),
    /// A statement is right but cannot be done as things are; the client acts.
    #[error("{message}")]
    Statement {
        /// The SQLSTATE.
        code: &'static str,
        /// The primary message.
        message: String,
        /// More facts.
        detail: Option<String>,
        /// What to do.
        hint: Option<String>,
    },
    /// Another transaction has deleted or updated rows that this one wants to delete or update, since
    /// this one's snapshot; the client begins again.
    #[error("1023")]
    Conflict {
        /// The table.
        table: TableId,
        /// The other transaction, if it is known.
        other: Option<Xid>,
    },
    /// COPY met a row or an object that it cannot load; the client acts.
    #[error(transparent)]
    Load(#[from] compute::load::LoadError),
    /// Planning or execution failed.
    #[error("query failed")]
    DataFusion(#[from] DataFusionError),
    /// A segment could not be written or read; the operator acts.
    #[error(transparent)]
    Storage(#[from] storage::error::Error),
    /// The node failed; the operator acts.
    #[error(transparent)]
    Compute(#[from] compute::error::Error),
    /// The catalog file failed; the operator acts.
    #[error("catalog: {0}")]
    Catalog(#[from] rusqlite::Error),
    /// The catalog file holds something that this version did not write; the operator acts.
    #[error("catalog is damaged: {0}")]
    CatalogDamaged(String),
    /// The configuration is wrong; the operator acts.
    #[error("configuration: {0}")]
    Config(String),
    /// Files or sockets of the server itself; the operator acts.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The client or a timeout stopped the statement.
    #[error("canceled on user's request")]
    Canceled,
    /// Workload management refused the query or stopped it; the client acts.
    #[error("{}", reason.message(*query))]
    Workload {
        /// Which query.
        query: wlm::QueryId,
        /// Why.
        reason: wlm::EndReason,
    },
    /// The disk has failed under an earlier write: none is taken until a restart has looked at what is
    /// there; the operator acts.
    #[error("an earlier write could not be made durable")]
    Fenced,
    /// The disk has failed under a commit, in such a way that a restart may find it or not; the client
    /// looks then.
    #[error("it is not known whether the transaction was committed")]
    CommitInDoubt(#[source] Box<Error>),
    /// A panic or a broken promise inside the server: a defect.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// A statement error with its SQLSTATE.
    pub fn statement(code: &'static str, message: impl Into<String>) -> Self {
        Self::Statement { code, message: message.into(), detail: None, hint: None }
    }

    /// Adds a DETAIL line; other kinds stay as they are.
    #[must_use]
    pub fn with_detail(self, text: impl Into<String>) -> Self {
        match self {
            Self::Statement { code, message, hint, .. } => {
                Self::Statement { code, message, detail: Some(text.into()), hint }
            }
            other => other,
        }
    }

    /// Names both sides of a conflict, in Redshift's words; other kinds stay as they are.
    #[must_use]
    pub fn of_transaction(self, own: Xid, process_id: i32) -> Self {
        let Self::Conflict { table, other } = self else { return self };
        let others = other.map_or(String::new(), |other| format!("{}, ", other.0));
        let detail = format!(
            "Serializable isolation violation on table - {}, transactions forming the cycle are: \
             {others}{} (pid:{process_id})",
            table.0, own.0
        );
        Self::statement(code::INTERNAL_ERROR, "1023").with_detail(detail)
    }

    /// Whether a file could not be made durable, so that nothing is known about what is on disk.
    pub fn is_sync_failure(&self) -> bool {
        match self {
            Self::Storage(error) => is_failed_sync(error),
            Self::Compute(compute::error::Error::Storage(error)) => is_failed_sync(error),
            Self::Compute(compute::error::Error::Write { sqlstate, .. }) => sqlstate == SYNC_FAILED,
            Self::DataFusion(error) => {
                let stored = match error.find_root() {
                    DataFusionError::External(inner) => inner.downcast_ref(),
                    _ => None,
                };
                stored.is_some_and(is_failed_sync)
                    || sql::error::raised(error).is_some_and(|(code, _)| code == SYNC_FAILED)
            }
            _ => false,
        }
    }

    /// Adds a HINT line; other kinds stay as they are.
    #[must_use]
    pub fn with_hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Statement { code, message, detail, .. } => {
                Self::Statement { code, message, detail, hint: Some(text.into()) }
            }
            other => other,
        }
    }
}

fn is_failed_sync(error: &storage::error::Error) -> bool {
    matches!(error, storage::error::Error::SyncFailed { .. })
}

/// SQLSTATEs that statements of this crate raise, by name.
pub mod code {
    /// feature_not_supported
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// invalid_parameter_value
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    /// active_sql_transaction
    pub const ACTIVE_SQL_TRANSACTION: &str = "25001";
    /// no_active_sql_transaction
    pub const NO_ACTIVE_SQL_TRANSACTION: &str = "25P01";
    /// in_failed_sql_transaction
    pub const IN_FAILED_SQL_TRANSACTION: &str = "25P02";
    /// read_only_sql_transaction
    pub const READ_ONLY_SQL_TRANSACTION: &str = "25006";
    /// dependent_objects_still_exist
    pub const DEPENDENT_OBJECTS_STILL_EXIST: &str = "2BP01";
    /// deadlock_detected
    pub const DEADLOCK_DETECTED: &str = "40P01";
    /// duplicate_schema
    pub const DUPLICATE_SCHEMA: &str = "42P06";
    /// duplicate_table
    pub const DUPLICATE_TABLE: &str = "42P07";
    /// undefined_table
    pub const UNDEFINED_TABLE: &str = "42P01";
    /// invalid_schema_name
    pub const INVALID_SCHEMA_NAME: &str = "3F000";
    /// invalid_savepoint_specification
    pub const INVALID_SAVEPOINT_SPECIFICATION: &str = "3B001";
    /// undefined_database
    pub const UNDEFINED_DATABASE: &str = "3D000";
    /// invalid_cursor_name
    pub const INVALID_CURSOR_NAME: &str = "34000";
    /// duplicate_cursor
    pub const DUPLICATE_CURSOR: &str = "42P03";
    /// reserved_name
    pub const RESERVED_NAME: &str = "42939";
    /// object_in_use
    pub const OBJECT_IN_USE: &str = "55006";
    /// program_limit_exceeded
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    /// duplicate_object
    pub const DUPLICATE_OBJECT: &str = "42710";
    /// undefined_object
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// insufficient_privilege
    pub const INSUFFICIENT_PRIVILEGE: &str = "42501";
    /// invalid_sql_statement_name
    pub const INVALID_SQL_STATEMENT_NAME: &str = "26000";
    /// statement_too_complex
    pub const STATEMENT_TOO_COMPLEX: &str = "54001";
    /// out_of_memory
    pub const OUT_OF_MEMORY: &str = "53200";
    /// disk_full
    pub const DISK_FULL: &str = "53100";
    /// data_corrupted
    pub const DATA_CORRUPTED: &str = "XX001";
    /// division_by_zero
    pub const DIVISION_BY_ZERO: &str = "22012";
    /// numeric_value_out_of_range
    pub const NUMERIC_VALUE_OUT_OF_RANGE: &str = "22003";
    /// invalid_text_representation
    pub const INVALID_TEXT_REPRESENTATION: &str = "22P02";
    /// connection_failure: of a compute node
    pub const CONNECTION_FAILURE: &str = "08006";
    /// cannot_connect_now: a compute node is not there for this leader
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
    /// transaction_resolution_unknown
    pub const TRANSACTION_RESOLUTION_UNKNOWN: &str = "08007";
    /// io_error
    pub const IO_ERROR: &str = "58030";
    /// query_canceled
    pub const QUERY_CANCELED: &str = "57014";
    /// object_not_in_prerequisite_state
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
    /// too_many_connections
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// configuration_limit_exceeded
    pub const CONFIGURATION_LIMIT_EXCEEDED: &str = "53400";
    /// admin_shutdown
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// serialization_failure
    pub const SERIALIZATION_FAILURE: &str = "40001";
    /// invalid_grant_operation
    pub const INVALID_GRANT_OPERATION: &str = "0LP01";
    /// syntax_error
    pub const SYNTAX_ERROR: &str = "42601";
    /// internal_error
    pub const INTERNAL_ERROR: &str = "XX000";
}

/// The prefix of a DataFusion context that carries an SQLSTATE (see [`sql::error::raise`]).
const CODE_PREFIX: &str = "SQLSTATE:";

impl From<Error> for Report {
    fn from(error: Error) -> Self {
        match error {
            Error::Sql(error) => sql_report(error),
            Error::Statement { code, message, detail, hint } => {
                Report { detail, hint, ..Report::error(code, message) }
            }
            Error::Load(error) => load_report(&error),
            Error::DataFusion(error) => engine_report(&error),
            Error::Conflict { table, .. } => {
                let detail = format!("Serializable isolation violation on table - {}", table.0);
                Report::error(code::INTERNAL_ERROR, "1023").with_detail(detail)
            }
            Error::Compute(compute::error::Error::Write { sqlstate, reason, node }) => {
                tracing::error!(node, reason, "a compute node could not write");
                Report::error(sqlstate, format!("compute node {node}: {reason}"))
            }
            Error::Compute(compute::error::Error::Storage(error)) => Error::Storage(error).into(),
            Error::Fenced => Report::error(SYNC_FAILED, Error::Fenced.to_string())
                .with_hint("The server takes no writes until it is started again."),
            Error::Canceled => {
                Report::error(code::QUERY_CANCELED, "canceling statement due to user request")
            }
            Error::Workload { query, reason } => {
                Report::error(workload_code(&reason), reason.message(query))
            }
            Error::Storage(storage::error::Error::Corrupt { path, place, reason }) => {
                tracing::error!(path = %path.display(), %place, reason, "segment is damaged");
                Report::error(code::DATA_CORRUPTED, format!("stored data is damaged at {place}"))
                    .with_detail(reason)
            }
            other => {
                let text = chain(&other);
                tracing::error!(error = text, "statement failed inside the server");
                Report::error(code_of_io(&other).to_owned(), text)
            }
        }
    }
}

/// The SQLSTATE of a query that workload management refused or stopped.
fn workload_code(reason: &wlm::EndReason) -> &'static str {
    match reason {
        wlm::EndReason::Cancelled(wlm::CancelCause::Terminated | wlm::CancelCause::Shutdown) => {
            code::ADMIN_SHUTDOWN
        }
        wlm::EndReason::Cancelled(_)
        | wlm::EndReason::StatementTimeout
        | wlm::EndReason::ExecutionTimeLimit
        | wlm::EndReason::RuleAbort { .. }
        | wlm::EndReason::RuleHop { .. } => code::QUERY_CANCELED,
        wlm::EndReason::NodeLost => code::CANNOT_CONNECT_NOW,
        wlm::EndReason::TooManySlots { .. } => code::CONFIGURATION_LIMIT_EXCEEDED,
    }
}

/// The error and its sources, each once, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}

/// Whether the catalog could not be written for want of space.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// Whether a sync of the catalog file has failed.
pub(crate) fn is_unsynced(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi::{SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC};
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC))
}

/// What is wrong with a disk, as PostgreSQL says it (`errcode_for_file_access`); XX000 if it is no
/// disk.
fn code_of_io(error: &Error) -> &str {
    match error {
        Error::Storage(error) => return compute::error::storage_code(error),
        Error::Compute(error) if error.sqlstate() != code::INTERNAL_ERROR => {
            return error.sqlstate();
        }
        Error::CommitInDoubt(_) => return code::TRANSACTION_RESOLUTION_UNKNOWN,
        _ => {}
    }
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return code_of_file_error(error);
        }
        if let Some(error) = cause.downcast_ref::<rusqlite::Error>() {
            return code_of_catalog_error(error);
        }
        next = cause.source();
    }
    code::INTERNAL_ERROR
}

/// 53100 when a disk or a quota is full, 58030 for what else the operating system says of a file; XX000
/// for what it does not say, such as bytes that nobody can read, or says of a connection.
fn code_of_file_error(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, NotConnected, QuotaExceeded, StorageFull, TimedOut,
    };
    match error.kind() {
        StorageFull | QuotaExceeded => code::DISK_FULL,
        BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable
        | NetworkUnreachable | NotConnected | TimedOut => code::INTERNAL_ERROR,
        _ if error.raw_os_error().is_none() => code::INTERNAL_ERROR,
        _ => code::IO_ERROR,
    }
}

fn code_of_catalog_error(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, SystemIoFailure};
    match error.sqlite_error_code() {
        Some(DiskFull) => code::DISK_FULL,
        Some(SystemIoFailure) if is_unsynced(error) => SYNC_FAILED,
        Some(SystemIoFailure | CannotOpen) => code::IO_ERROR,
        _ => code::INTERNAL_ERROR,
    }
}

fn sql_report(error: sql::Error) -> Report {
    Report {
        detail: error.detail,
        hint: error.hint,
        position: error.position,
        ..Report::error(sqlstate(error.kind), error.message)
    }
}

/// The SQLSTATE of each kind of error that parsing and binding raise.
fn sqlstate(kind: ErrorKind) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        ErrorKind::Syntax => code::SYNTAX_ERROR,
        ErrorKind::UndefinedTable => code::UNDEFINED_TABLE,
        ErrorKind::UndefinedSchema => code::INVALID_SCHEMA_NAME,
        ErrorKind::UndefinedColumn => "42703",
        ErrorKind::AmbiguousColumn => "42702",
        ErrorKind::AmbiguousAlias => "42P09",
        ErrorKind::UndefinedFunction => "42883",
        ErrorKind::UndefinedType => code::UNDEFINED_OBJECT,
        ErrorKind::IndeterminateType => "42P18",
        ErrorKind::DuplicateColumn => "42701",
        ErrorKind::DuplicateAlias => "42712",
        ErrorKind::InvalidTableDefinition => "42P16",
        ErrorKind::DatatypeMismatch => "42804",
        ErrorKind::CannotCoerce => "42846",
        ErrorKind::InvalidParameterValue => code::INVALID_PARAMETER_VALUE,
        ErrorKind::Grouping => "42803",
        ErrorKind::Windowing => "42P20",
        ErrorKind::FeatureNotSupported => code::FEATURE_NOT_SUPPORTED,
        ErrorKind::StatementTooComplex => code::STATEMENT_TOO_COMPLEX,
        ErrorKind::ProgramLimitExceeded => "54000",
        ErrorKind::TooManyColumns => "54011",
        ErrorKind::Value(sqlstate) => return Cow::Owned(sqlstate),
        ErrorKind::Internal => code::INTERNAL_ERROR,
    })
}

fn load_report(error: &compute::load::LoadError) -> Report {
    Report::error(code::INTERNAL_ERROR, error.to_string())
}

/// The client's view of what DataFusion or one of our plan nodes raised. The innermost context
/// that names an SQLSTATE wins; without one the kind of the error decides.
fn engine_report(error: &DataFusionError) -> Report {
    match error {
        DataFusionError::Context(context, inner) => match context.strip_prefix(CODE_PREFIX) {
            Some(sqlstate) => {
                let message = message_of(inner);
                if sqlstate == code::DATA_CORRUPTED {
                    tracing::error!(message, "stored data is damaged");
                }
                Report::error(sqlstate.to_owned(), message)
            }
            None => engine_report(inner),
        },
        DataFusionError::Diagnostic(_, inner) => engine_report(inner),
        DataFusionError::Shared(inner) => engine_report(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => engine_report(first),
            None => Report::error(code::INTERNAL_ERROR, "query failed"),
        },
        DataFusionError::External(inner) => external_report(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow_report(inner),
        DataFusionError::ResourcesExhausted(text) => {
            Report::error(code::OUT_OF_MEMORY, "out of memory").with_detail(text.clone()).with_hint(
                "The query needs more memory than it was granted: set wlm_query_slot_count higher, \
                 or see [memory] in the configuration.",
            )
        }
        DataFusionError::NotImplemented(text) => {
            sql_report(sql::Error::from(DataFusionError::NotImplemented(text.clone())))
        }
        DataFusionError::SchemaError(inner, _) => schema_report(inner),
        DataFusionError::Plan(text) => {
            sql_report(sql::Error::from(DataFusionError::Plan(text.clone())))
        }
        DataFusionError::SQL(inner, _) => Report::error(code::SYNTAX_ERROR, inner.to_string()),
        DataFusionError::IoError(inner) => file_report(inner),
        other => {
            tracing::error!(error = %other, "query failed inside the server");
            Report::error(code::INTERNAL_ERROR, message_of(other))
        }
    }
}

fn message_of(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Execution(text)
        | DataFusionError::Plan(text)
        | DataFusionError::Internal(text) => text.clone(),
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            message_of(inner)
        }
        other => other.strip_backtrace(),
    }
}

fn external_report(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Report {
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return engine_report(inner);
    }
    if let Some(inner) = error.downcast_ref::<sql::Error>() {
        return sql_report(inner.clone());
    }
    if let Some(inner) = error.downcast_ref::<compute::load::LoadError>() {
        return load_report(inner);
    }
    if let Some(storage::error::Error::Corrupt { place, reason, .. }) =
        error.downcast_ref::<storage::error::Error>()
    {
        tracing::error!(%place, reason, "segment is damaged");
        return Report::error(code::DATA_CORRUPTED, format!("stored data is damaged at {place}"))
            .with_detail(reason.clone());
    }
    let text = chain(error);
    tracing::error!(error = text, "query failed inside the server");
    let code = match (error.downcast_ref(), error.downcast_ref()) {
        (Some(error), _) => compute::error::storage_code(error),
        (None, Some(error)) => code_of_file_error(error),
        (None, None) => code::INTERNAL_ERROR,
    };
    Report::error(code, text)
}

/// A spill file that could not be written or read.
fn file_report(error: &std::io::Error) -> Report {
    match code_of_file_error(error) {
        code::DISK_FULL => Report::error(code::DISK_FULL, "could not spill: the disk is full"),
        code => {
            tracing::error!(%error, "query failed inside the server");
            Report::error(code, error.to_string())
        }
    }
}

fn arrow_report(error: &ArrowError) -> Report {
    match error {
        ArrowError::DivideByZero => Report::error(code::DIVISION_BY_ZERO, "division by zero"),
        ArrowError::ArithmeticOverflow(text) => {
            Report::error(code::NUMERIC_VALUE_OUT_OF_RANGE, text.clone())
        }
        ArrowError::CastError(text) | ArrowError::ParseError(text) => {
            Report::error(code::INVALID_TEXT_REPRESENTATION, text.clone())
        }
        ArrowError::ExternalError(inner) => external_report(inner.as_ref()),
        ArrowError::IoError(_, inner) => file_report(inner),
        other => {
            tracing::error!(error = %other, "query failed inside the server");
            Report::error(code::INTERNAL_ERROR, other.to_string())
        }
    }
}

fn schema_report(error: &SchemaError) -> Report {
    match error {
        SchemaError::FieldNotFound { field, .. } => {
            Report::error("42703", format!("column \"{}\" does not exist", field.name))
        }
        SchemaError::AmbiguousReference { field } => {
            Report::error("42702", format!("column reference \"{}\" is ambiguous", field.name))
        }
        other => Report::error("42701", other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;
    use std::io;

    // As Linux numbers them.
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;

    fn code(error: impl Into<Error>) -> String {
        Report::from(error.into()).sqlstate.into_owned()
    }

    fn catalog(number: i32) -> Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(number), None).into()
    }

    #[test]
    fn what_a_disk_does_has_a_code() {
        for (number, expected) in [(EIO, "58030"), (ENOSPC, "53100")] {
            let source = || io::Error::from_raw_os_error(number);
            let storage = || storage::error::Error::Io {
                action: "write",
                path: "/data/1".into(),
                source: source(),
            };
            assert_eq!(code(storage()), expected);
            assert_eq!(code(compute::error::Error::Storage(storage())), expected);
            assert_eq!(code(DataFusionError::External(Box::new(storage()))), expected);
            assert_eq!(code(Error::Io { action: "use".into(), source: source() }), expected);
            assert_eq!(code(DataFusionError::IoError(source())), expected);
            let arrow = ArrowError::IoError("spill".into(), source());
            assert_eq!(code(DataFusionError::ArrowError(Box::new(arrow), None)), expected);
            let unsynced =
                || storage::error::Error::SyncFailed { path: "/data/1".into(), source: source() };
            assert_eq!(code(unsynced()), SYNC_FAILED);
            assert!(Error::from(unsynced()).is_sync_failure());
        }
        assert_eq!(code(catalog(ffi::SQLITE_FULL)), "53100");
        assert_eq!(code(catalog(ffi::SQLITE_IOERR_WRITE)), "58030");
        assert_eq!(code(catalog(ffi::SQLITE_CANTOPEN)), "58030");
        assert_eq!(code(catalog(ffi::SQLITE_IOERR_FSYNC)), SYNC_FAILED);
        assert_eq!(code(catalog(ffi::SQLITE_CONSTRAINT)), "XX000");
        let in_doubt = Error::CommitInDoubt(Box::new(catalog(ffi::SQLITE_IOERR_FSYNC)));
        assert_eq!(code(in_doubt), "08007");
        assert_eq!(code(Error::Fenced), SYNC_FAILED);
    }
}
