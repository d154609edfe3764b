//! One error or notice in the form in which Postgres clients receive it.
//!
//! A [`Report`] is the counterpart, at the wire, of the engine's own errors: it already has its
//! SQLSTATE, its severity and its texts, and it carries nothing else, so a report can never leak
//! more than what was written into it for the client.

use std::borrow::Cow;
use std::fmt;

/// SQLSTATE codes that the wire itself raises.
pub mod sqlstate {
    /// A protocol message that is malformed or comes at the wrong time.
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// A feature that is not supported.
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// A parameter's text is not a value of its type.
    pub const INVALID_TEXT_REPRESENTATION: &str = "22P02";
    /// A parameter's bytes are not a value of its type.
    pub const INVALID_BINARY_REPRESENTATION: &str = "22P03";
    /// A number does not fit its type.
    pub const NUMERIC_VALUE_OUT_OF_RANGE: &str = "22003";
    /// A date or time does not exist.
    pub const INVALID_DATETIME_FORMAT: &str = "22007";
    /// A date or time does not fit its type.
    pub const DATETIME_FIELD_OVERFLOW: &str = "22008";
    /// Text that is not valid UTF-8 or contains a zero byte.
    pub const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
    /// A prepared statement that does not exist.
    pub const INVALID_SQL_STATEMENT_NAME: &str = "26000";
    /// The client may not log in this way.
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// The password is wrong.
    pub const INVALID_PASSWORD: &str = "28P01";
    /// A portal that does not exist.
    pub const INVALID_CURSOR_NAME: &str = "34000";
    /// A syntax error.
    pub const SYNTAX_ERROR: &str = "42601";
    /// A type that is not known here.
    pub const UNDEFINED_OBJECT: &str = "42704";
    /// A portal of this name exists already.
    pub const DUPLICATE_CURSOR: &str = "42P03";
    /// A prepared statement of this name exists already.
    pub const DUPLICATE_PREPARED_STATEMENT: &str = "42P05";
    /// Too many connections.
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// A limit of the server was exceeded.
    pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    /// The object is in a state that does not allow the operation.
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
    /// The statement was cancelled.
    pub const QUERY_CANCELED: &str = "57014";
    /// The server shuts down, or an administrator ended the session.
    pub const ADMIN_SHUTDOWN: &str = "57P01";
    /// The session was idle for too long.
    pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
    /// The session was idle in a transaction for too long.
    pub const IDLE_IN_TRANSACTION_SESSION_TIMEOUT: &str = "25P03";
    /// The server has a defect.
    pub const INTERNAL_ERROR: &str = "XX000";
    /// A notice without a condition of its own.
    pub const SUCCESSFUL_COMPLETION: &str = "00000";
}

/// How bad it is; the words are those of the protocol, which clients compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The connection ends.
    Fatal,
    /// The statement failed, the session goes on.
    Error,
    /// Something the user should look at.
    Warning,
    /// Something the user may want to know.
    Notice,
    /// What the user asked to be told.
    Info,
}

impl Severity {
    /// The protocol's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Info => "INFO",
        }
    }
}

/// An ErrorResponse (severity fatal or error) or a NoticeResponse (the others).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How bad it is.
    pub severity: Severity,
    /// Five characters, see Postgres, appendix A.
    pub sqlstate: Cow<'static, str>,
    /// The primary message: lower case, no period.
    pub message: String,
    /// A whole sentence, or none.
    pub detail: Option<String>,
    /// A whole sentence, or none.
    pub hint: Option<String>,
    /// Where in the statement's text, counted in characters from 1.
    pub position: Option<usize>,
    /// In which context it arose (field `W`), for example the line of a loaded file.
    pub context: Option<String>,
}

impl Report {
    /// An error of the current statement.
    pub fn error(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, sqlstate, message)
    }

    /// An error that ends the connection.
    pub fn fatal(sqlstate: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, sqlstate, message)
    }

    /// A report of any severity.
    pub fn new(
        severity: Severity,
        sqlstate: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            sqlstate: sqlstate.into(),
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            context: None,
        }
    }

    /// The same with a DETAIL.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same with a HINT.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, raised to FATAL.
    #[must_use]
    pub fn into_fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.severity.as_str(), self.message, self.sqlstate)
    }
}

impl std::error::Error for Report {}
