//! Errors of a query on their way between nodes: the SQLSTATE and the kind survive, wrappers do not.

use std::error::Error;
use std::io::ErrorKind;

use arrow::error::ArrowError;
use datafusion::common::DataFusionError;
use prost::Message;
use tonic::{Code, Status};

use super::messages::Failure;
use crate::error::{SQLSTATE_TAG, chain, storage_code, with_sqlstate};

const KIND_EXECUTION: u32 = 1;
const KIND_RESOURCES: u32 = 2;
const KIND_NOT_IMPLEMENTED: u32 = 3;
const KIND_INTERNAL: u32 = 4;
const KIND_PLAN: u32 = 5;

/// connection_failure: a node is gone, or the way to it.
const CONNECTION_FAILURE: &str = "08006";

/// The status that carries an error. The innermost SQLSTATE wins, as at the leader.
pub(super) fn to_status(error: &DataFusionError) -> Status {
    let details = Message::encode_to_vec(&to_failure(error)).into();
    Status::with_details(Code::Internal, "query failed", details)
}

/// The error of a status: that of the query, or, if the transport failed, one that names the node.
pub(super) fn from_status(status: &Status, node: &str) -> DataFusionError {
    if !status.details().is_empty()
        && let Ok(failure) = Failure::decode(status.details())
    {
        return from_failure(failure);
    }
    let reason = status.message();
    unreachable_node(node, reason)
}

/// The way to a node, or the node, is gone.
pub(super) fn unreachable_node(node: &str, reason: &str) -> DataFusionError {
    with_sqlstate(CONNECTION_FAILURE, format!("lost connection to compute node {node}: {reason}"))
}

fn to_failure(error: &DataFusionError) -> Failure {
    let failure = |kind, sqlstate: Option<&str>, message: &str| Failure {
        kind,
        sqlstate: sqlstate.map(str::to_owned),
        message: message.to_owned(),
    };
    match error {
        DataFusionError::Context(tag, inner) => match tag.strip_prefix(SQLSTATE_TAG) {
            Some(code) => {
                let inner = to_failure(inner);
                Failure { sqlstate: inner.sqlstate.or_else(|| Some(code.to_owned())), ..inner }
            }
            None => to_failure(inner),
        },
        DataFusionError::Shared(inner) => to_failure(inner),
        DataFusionError::Diagnostic(_, inner) => to_failure(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => to_failure(first),
            None => failure(KIND_INTERNAL, None, "query failed"),
        },
        DataFusionError::External(inner) => external_failure(inner.as_ref()),
        DataFusionError::IoError(inner) => io_failure(inner),
        DataFusionError::ArrowError(inner, _) => arrow_failure(inner),
        DataFusionError::ResourcesExhausted(text) => failure(KIND_RESOURCES, None, text),
        DataFusionError::NotImplemented(text) => failure(KIND_NOT_IMPLEMENTED, None, text),
        DataFusionError::Internal(text) => failure(KIND_INTERNAL, None, text),
        DataFusionError::Plan(text) => failure(KIND_PLAN, None, text),
        DataFusionError::Execution(text) => failure(KIND_EXECUTION, None, text),
        other => failure(KIND_EXECUTION, None, &other.strip_backtrace()),
    }
}

/// Errors that others wrap; the kinds of this project have their codes, as at the leader.
fn external_failure(error: &(dyn Error + Send + Sync + 'static)) -> Failure {
    if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        return to_failure(inner);
    }
    if let Some(inner) = error.downcast_ref::<ArrowError>() {
        return arrow_failure(inner);
    }
    if let Some(inner) = error.downcast_ref::<std::io::Error>() {
        return io_failure(inner);
    }
    let sqlstate = if let Some(inner) = error.downcast_ref::<storage::error::Error>() {
        Some(storage_code(inner).to_owned())
    } else {
        error.downcast_ref::<sql::Error>().and_then(|inner| match &inner.kind {
            sql::error::ErrorKind::Value(code) => Some(code.clone()),
            sql::error::ErrorKind::InvalidParameterValue => Some("22023".to_owned()),
            sql::error::ErrorKind::FeatureNotSupported => Some("0A000".to_owned()),
            // The others are of parsing and binding, which nodes do not do.
            _ => None,
        })
    };
    Failure { kind: KIND_EXECUTION, sqlstate, message: chain(error) }
}

fn io_failure(error: &std::io::Error) -> Failure {
    let full = error.kind() == ErrorKind::StorageFull;
    let (code, message) = if full {
        ("53100", "could not spill: the disk is full".to_owned())
    } else {
        ("58030", error.to_string())
    };
    Failure { kind: KIND_EXECUTION, sqlstate: Some(code.to_owned()), message }
}

fn arrow_failure(error: &ArrowError) -> Failure {
    let (code, message) = match error {
        ArrowError::ExternalError(inner) => return external_failure(inner.as_ref()),
        ArrowError::IoError(_, inner) => return io_failure(inner),
        ArrowError::DivideByZero => (Some("22012"), "division by zero".to_owned()),
        ArrowError::ArithmeticOverflow(text) => (Some("22003"), text.clone()),
        ArrowError::CastError(text) | ArrowError::ParseError(text) => (Some("22P02"), text.clone()),
        other => (None, other.to_string()),
    };
    Failure { kind: KIND_EXECUTION, sqlstate: code.map(str::to_owned), message }
}

fn from_failure(failure: Failure) -> DataFusionError {
    let Failure { kind, sqlstate, message } = failure;
    let error = match kind {
        KIND_RESOURCES => DataFusionError::ResourcesExhausted(message),
        KIND_NOT_IMPLEMENTED => DataFusionError::NotImplemented(message),
        KIND_INTERNAL => DataFusionError::Internal(message),
        KIND_PLAN => DataFusionError::Plan(message),
        _ => DataFusionError::Execution(message),
    };
    match sqlstate {
        Some(code) => DataFusionError::Context(format!("{SQLSTATE_TAG}{code}"), Box::new(error)),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn there_and_back(error: &DataFusionError) -> String {
        format!("{:?}", from_status(&to_status(error), "node"))
    }

    #[test]
    fn the_sqlstate_and_the_kind_survive() {
        let overflow = with_sqlstate("22003", "out of range");
        let wrapped = DataFusionError::Shared(Arc::new(DataFusionError::Context(
            "while sorting".into(),
            Box::new(with_sqlstate("22003", "out of range")),
        )));
        assert_eq!(there_and_back(&wrapped), format!("{overflow:?}"));
        let arrow = ArrowError::ExternalError(Box::new(with_sqlstate("22003", "out of range")));
        let arrow = DataFusionError::ArrowError(Box::new(arrow), None);
        assert_eq!(there_and_back(&arrow), format!("{overflow:?}"));
        let divided = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        assert!(there_and_back(&divided).contains("SQLSTATE:22012"));
        let memory = DataFusionError::ResourcesExhausted("no memory".into());
        assert_eq!(there_and_back(&memory), format!("{memory:?}"));
    }

    #[test]
    fn what_others_wrap_keeps_its_sqlstate() {
        let full = || std::io::Error::from(ErrorKind::StorageFull);
        let spilled = there_and_back(&DataFusionError::IoError(full()));
        assert!(spilled.contains("SQLSTATE:53100"), "{spilled}");
        let arrow = DataFusionError::ArrowError(
            Box::new(ArrowError::IoError("while spilling".into(), full())),
            None,
        );
        assert!(there_and_back(&arrow).contains("SQLSTATE:53100"));
        let wrapped = |error: Box<dyn Error + Send + Sync>| {
            let arrow = ArrowError::ExternalError(error);
            there_and_back(&DataFusionError::ArrowError(Box::new(arrow), None))
        };
        let storage = || storage::error::Error::Io {
            action: "write",
            path: "/data/1".into(),
            source: full(),
        };
        assert!(wrapped(Box::new(storage())).contains("SQLSTATE:53100"));
        let direct = there_and_back(&DataFusionError::External(Box::new(storage())));
        assert!(direct.contains("SQLSTATE:53100") && direct.contains("/data/1"), "{direct}");
        let value =
            sql::Error::new(sql::error::ErrorKind::Value("22012".into()), "division by zero");
        let value = wrapped(Box::new(value));
        assert!(value.contains("SQLSTATE:22012") && value.contains("division by zero"), "{value}");
    }

    #[test]
    fn a_transport_error_names_the_node() {
        let error = from_status(&Status::unavailable("broken pipe"), "node 2").to_string();
        assert!(error.contains("node 2") && error.contains("broken pipe"), "{error}");
    }
}
