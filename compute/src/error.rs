//! How errors of this crate reach the leader: as a `DataFusionError` that carries its SQLSTATE.
//!
//! A typed error is flattened to text when it crosses nodes; the tag of
//! [`DataFusionError::Context`] survives, so the code travels there as `SQLSTATE:xxxxx`.

use std::fmt::Write as _;
use std::path::PathBuf;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use storage::ids::SliceId;

/// What can go wrong with a node itself, apart from its queries.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A segment could not be read or removed; the operator acts.
    #[error(transparent)]
    Storage(#[from] storage::error::Error),
    /// The spill directory could not be emptied or made; the operator acts.
    #[error("cannot empty the spill directory {}", path.display())]
    Spill {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Memory or spill space could not be set up; the operator acts.
    #[error("cannot set up memory and spill space")]
    Runtime(#[source] DataFusionError),
    /// A certificate or key of the cluster port could not be read; the operator acts.
    #[error("cannot read {}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The cluster port could not be opened, or its TLS not be set up; the operator acts.
    #[error("cannot serve the cluster port")]
    ClusterPort(#[source] tonic::transport::Error),
    /// A node did not do what the leader told it; the leader tries again, or the operator acts.
    #[error("compute node {node}: {reason}")]
    Control {
        /// The node's address.
        node: String,
        /// What it said.
        reason: String,
    },
    /// Another leader has taken over the node, or this one's catalog is older than the node's copy.
    #[error("compute node {node} refuses this leader: {reason}")]
    Replaced {
        /// The node's address.
        node: String,
        /// What it said.
        reason: String,
    },
    /// A node could not write what the leader asked for; the statement fails.
    #[error("compute node {node}: {reason}")]
    Write {
        /// The node's address.
        node: String,
        /// The code of the error.
        sqlstate: String,
        /// What it said.
        reason: String,
    },
    /// A rewrite of segments could not be begun; the operator acts.
    #[error("cannot rewrite segments: {0}")]
    Rewrite(String),
    /// The leader has given up what it had asked for; it knows why.
    #[error("the leader has given up the write")]
    GivenUp,
    /// A request names a slice that the cluster does not have: a defect of the leader.
    #[error("there is no slice {} in the cluster", .0.0)]
    NoSuchSlice(SliceId),
    /// The node's number is not one of the cluster's; the operator acts.
    #[error("there is no node {node} in a cluster of {nodes}")]
    NoSuchNode {
        /// The number, counted from 0.
        node: usize,
        /// How many nodes the cluster has.
        nodes: usize,
    },
}

impl Error {
    /// The code of the error as a client sees it.
    pub fn sqlstate(&self) -> &str {
        match self {
            Self::Storage(error) => storage_code(error),
            Self::Write { sqlstate, .. } => sqlstate,
            Self::Spill { .. }
            | Self::Runtime(_)
            | Self::Certificate { .. }
            | Self::ClusterPort(_)
            | Self::Control { .. }
            | Self::Replaced { .. }
            | Self::Rewrite(_)
            | Self::GivenUp
            | Self::NoSuchSlice(_)
            | Self::NoSuchNode { .. } => "XX000",
        }
    }
}

/// The code of a sync that failed: nothing is known any more about what is on the disk.
pub const SYNC_FAILED: &str = "58000";

/// Starts the context tag that carries a SQLSTATE.
pub const SQLSTATE_TAG: &str = "SQLSTATE:";

/// An error with a code of PostgreSQL's table (`errcodes-appendix`) and a primary message.
pub fn with_sqlstate(code: &'static str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::Context(
        format!("{SQLSTATE_TAG}{code}"),
        Box::new(DataFusionError::Execution(message.into())),
    )
}

/// The code that an error carries, if any: the outermost, as the leader reports it.
pub fn sqlstate(error: &DataFusionError) -> Option<&str> {
    match error {
        DataFusionError::Context(tag, inner) => match tag.strip_prefix(SQLSTATE_TAG) {
            Some(code) => Some(code),
            None => sqlstate(inner),
        },
        DataFusionError::Diagnostic(_, inner) => sqlstate(inner),
        DataFusionError::Shared(inner) => sqlstate(inner),
        DataFusionError::Collection(errors) => errors.first().and_then(sqlstate),
        DataFusionError::External(inner) => inner.downcast_ref().and_then(sqlstate),
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            ArrowError::ExternalError(inner) => inner.downcast_ref().and_then(sqlstate),
            _ => None,
        },
        _ => None,
    }
}

/// What an error says, without the tags around it.
pub fn message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            message(inner)
        }
        DataFusionError::Shared(inner) => message(inner),
        DataFusionError::Execution(text) | DataFusionError::Internal(text) => text.clone(),
        other => other.strip_backtrace(),
    }
}

/// A storage error as a query sees it: damaged files are XX001, a full disk is 53100, a failed sync is
/// [`SYNC_FAILED`], any other refusal of the operating system is 58030.
pub fn storage_error(error: storage::error::Error) -> DataFusionError {
    with_sqlstate(storage_code(&error), chain(&error))
}

/// The code of a storage error.
pub fn storage_code(error: &storage::error::Error) -> &'static str {
    match error {
        storage::error::Error::Io { .. } if error.is_storage_full() => "53100",
        storage::error::Error::Io { .. } => "58030",
        storage::error::Error::SyncFailed { .. } => SYNC_FAILED,
        storage::error::Error::Corrupt { .. } => "XX001",
        storage::error::Error::SchemaMismatch(_) => "XX000",
    }
}

/// The message and the messages of its causes: the chain itself does not cross nodes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn an_io_error_keeps_its_cause_and_gets_a_code() {
        let error = storage::error::Error::Io {
            action: "write",
            path: "/data/1".into(),
            source: std::io::Error::from(ErrorKind::StorageFull),
        };
        let DataFusionError::Context(tag, inner) = storage_error(error) else { panic!() };
        assert_eq!(tag, "SQLSTATE:53100");
        assert!(inner.to_string().contains("cannot write /data/1: "), "{inner}");
    }
}
