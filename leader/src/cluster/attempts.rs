//! Whether a statement that failed is worth another attempt: if it failed because a node was lost, or
//! because a node has lost files or damaged ones, others have copies.
//!
//! Nothing of the failed attempt may have reached anybody: no row the client, no segment the
//! catalog. That is for the caller to see to.

use std::sync::Arc;
use std::time::Duration;

use compute::error::SYNC_FAILED;

use super::{Cluster, NodeSet};
use crate::error::{Error, code};

/// How often a statement is begun at most.
pub(super) const ATTEMPTS_MAX: usize = 4;
/// How long a statement waits for nodes that come back, if those that are there do not have all rows.
const SERVED_WAIT: Duration = Duration::from_millis(2500);

/// The attempts at one statement.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// None if there is one node, in this process: it is there as long as the leader is.
    nodes: Option<Arc<NodeSet>>,
    generations: Vec<u64>,
    left: usize,
    /// Whether one has failed though all nodes answered: they may not reach each other.
    failed_with_all: bool,
}

/// What an error says about nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A node is gone, or has started anew.
    Node,
    /// A file is gone or cannot be read.
    File,
    /// A file is not what was written.
    Damage,
    /// Perhaps what came of the loss of a node, perhaps a defect.
    Unclear,
    /// The statement itself.
    Statement,
}

impl Attempts {
    /// The first attempt begins.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let nodes = match cluster {
            Cluster::Alone(_) => None,
            Cluster::Nodes(nodes) => Some(Arc::clone(nodes)),
        };
        let generations = nodes.as_ref().map(|nodes| nodes.copies().generations());
        let generations = generations.unwrap_or_default();
        Self { nodes, generations, left: ATTEMPTS_MAX - 1, failed_with_all: false }
    }

    /// Whether there can be another attempt at all.
    pub(crate) fn are_possible(&self) -> bool {
        self.nodes.is_some() && self.left > 0
    }

    /// The attempt has failed. Answers whether another may succeed; if so, it may begin now.
    pub(crate) async fn again(&mut self, error: &Error) -> bool {
        let Some(nodes) = self.nodes.clone() else { return false };
        let cause = cause(error);
        if self.left == 0 || cause == Cause::Statement {
            return false;
        }
        self.left -= 1;
        nodes.recheck().await;
        let stand_ins = Arc::clone(&nodes.copies().stand_ins().borrow());
        if matches!(cause, Cause::File | Cause::Damage) {
            nodes.audit().await;
        }
        let generations = nodes.copies().generations();
        let changed = generations != self.generations;
        self.generations = generations;
        let worth = match cause {
            Cause::Node => changed || !std::mem::replace(&mut self.failed_with_all, true),
            Cause::File => true,
            // Nothing is gained where the same file would be read once more.
            Cause::Damage => {
                nodes.wait_until_sound(SERVED_WAIT).await
                    || stand_ins != *nodes.copies().stand_ins().borrow()
            }
            Cause::Unclear => changed,
            Cause::Statement => false,
        };
        if !worth {
            return false;
        }
        tracing::info!(left = self.left, %error, "a statement begins again on the nodes left");
        nodes.wait_until_served(SERVED_WAIT).await
    }
}

fn cause(error: &Error) -> Cause {
    let sqlstate = match error {
        Error::DataFusion(error) => compute::error::sqlstate(error),
        Error::Statement { code, .. } => Some(*code),
        _ => return Cause::Statement,
    };
    match sqlstate {
        // A node whose disk does not sync has closed itself.
        Some(code::CONNECTION_FAILURE | code::CANNOT_CONNECT_NOW | SYNC_FAILED) => Cause::Node,
        Some(code::IO_ERROR) => Cause::File,
        Some(code::DATA_CORRUPTED) => Cause::Damage,
        Some(code::INTERNAL_ERROR) | None => Cause::Unclear,
        Some(_) => Cause::Statement,
    }
}

/// What a node has answered, or has not, as the error of a statement.
pub(super) fn from_node(error: compute::error::Error) -> Error {
    if let compute::error::Error::Control { .. } = &error {
        return Error::statement(code::CONNECTION_FAILURE, error.to_string());
    }
    if let compute::error::Error::Replaced { .. } = &error {
        return Error::statement(code::CANNOT_CONNECT_NOW, error.to_string());
    }
    let of_node = [code::CANNOT_CONNECT_NOW, code::IO_ERROR, code::DATA_CORRUPTED, SYNC_FAILED];
    match of_node.into_iter().find(|code| *code == error.sqlstate()) {
        Some(code) => Error::statement(code, error.to_string()),
        None => Error::Compute(error),
    }
}

/// What the client is told of a statement that lost nodes, at last.
pub(crate) fn final_error(error: Error, rows_sent: bool) -> Error {
    if cause(&error) != Cause::Node {
        return error;
    }
    let message = "the statement has lost a compute node";
    let reason = match &error {
        Error::DataFusion(error) => compute::error::message(error),
        other => other.to_string(),
    };
    let why = if rows_sent {
        "Rows had been sent, so that it could not begin again."
    } else {
        "Beginning again on the nodes that are left did not help."
    };
    Error::statement(code::IO_ERROR, message)
        .with_detail(format!("{reason}. {why}"))
        .with_hint("Run it again.")
}
