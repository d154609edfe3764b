//! What the leader tells a node beside queries: which cluster and epoch it belongs to, whether it is
//! alive, and which files can go.
//!
//! A node starts closed and executes nothing. The leader opens it, with its epoch: a number that
//! grows with each start of a leader, so that a leader that was replaced can no longer do anything.
//! The node answers with a number of its own that it drew when it started, by which the leader
//! notices a restart, and opens it again.

pub(crate) mod messages;

mod client;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::Result;
use storage::ids::{SegmentId, SliceId, TableId};

use self::messages::{
    AbandonWrite, Action, ControlReply, ControlRequest, OpenNode, RemoveSegments,
};
use crate::error::with_sqlstate;
use crate::node::Node;
use crate::placement;

pub use client::{KnownTable, NodeClient, OpenRequest};

/// The node's side.
pub(crate) struct NodeService {
    node: Arc<Node>,
    /// Drawn at the start of the process.
    boot: u64,
    /// Of the leader that has opened the node; 0 before.
    epoch: AtomicU64,
}

impl NodeService {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let (boot, _) = uuid::Uuid::new_v4().as_u64_pair();
        Self { node, boot, epoch: AtomicU64::new(0) }
    }

    /// Whether a task may run that a leader of this epoch sends.
    pub(crate) fn check_epoch(&self, epoch: Option<u64>) -> Result<()> {
        let own = self.epoch.load(Ordering::Acquire);
        if own != 0 && epoch == Some(own) {
            return Ok(());
        }
        let message = format!("compute node {} is not open for this leader", self.node.id());
        Err(with_sqlstate("57P03", message))
    }

    /// Does what is asked; what goes wrong is in the answer.
    pub(crate) fn answer(&self, request: ControlRequest) -> ControlReply {
        let done = self.act(request);
        ControlReply {
            node: self.node.id() as u64,
            boot: self.boot,
            epoch: self.epoch.load(Ordering::Acquire),
            removed: *done.as_ref().unwrap_or(&0),
            error: done.err().unwrap_or_default(),
        }
    }

    fn act(&self, request: ControlRequest) -> Result<u64, String> {
        let known = self.epoch.load(Ordering::Acquire);
        if request.epoch < known {
            return Err(format!("a leader with epoch {known} has taken over"));
        }
        let action = request.action.ok_or("a request asks for nothing")?;
        if let Action::Open(open) = action {
            return self.open(request.epoch, &open);
        }
        if request.epoch != known {
            return Err("the node is not open".to_owned());
        }
        match action {
            Action::Open(_) | Action::Heartbeat(_) => Ok(0),
            Action::RemoveSegments(segments) => self.remove(&segments),
            Action::AbandonWrite(write) => self.abandon(&write),
        }
    }

    fn open(&self, epoch: u64, open: &OpenNode) -> Result<u64, String> {
        let layout = self.node.layout();
        let own = (self.node.id() as u64, layout.nodes() as u64, layout.slices_per_node() as u64);
        let asked = (open.node, open.nodes, open.slices_per_node);
        if own != asked {
            return Err(format!(
                "it is node {} of {} with {} slices each, not node {} of {} with {}",
                own.0, own.1, own.2, asked.0, asked.1, asked.2
            ));
        }
        if open.placement_fingerprint != placement::fingerprint() {
            return Err("it places rows by another hash; use the same build everywhere".to_owned());
        }
        let mut known: HashMap<TableId, HashSet<SegmentId>> = HashMap::new();
        for table in &open.tables {
            let segments = table.segments.iter().map(|id| SegmentId(*id));
            known.entry(TableId(table.table)).or_default().extend(segments);
        }
        let below = SegmentId(open.sweep_below);
        let removed = self.node.sweep_orphans(&known, below).map_err(|error| error.to_string())?;
        if self.epoch.swap(epoch, Ordering::AcqRel) != epoch {
            self.node.forget_abandoned();
        }
        tracing::info!(epoch, removed, "opened by the leader");
        Ok(removed as u64)
    }

    fn remove(&self, segments: &RemoveSegments) -> Result<u64, String> {
        let removed = segments.segments.iter().map(|one| (SliceId(one.slice), SegmentId(one.id)));
        self.node
            .remove_segments(TableId(segments.table), removed)
            .map_err(|error| error.to_string())?;
        Ok(segments.segments.len() as u64)
    }

    fn abandon(&self, write: &AbandonWrite) -> Result<u64, String> {
        let ids = write.first_segment..write.end_segment;
        let removed = self.node.abandon_segments(TableId(write.table), ids);
        removed.map(|removed| removed as u64).map_err(|error| error.to_string())
    }
}
