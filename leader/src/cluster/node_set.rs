//! Several nodes: their addresses, their states, and what waits to be told to them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use compute::StoredFile;
use compute::exchange::NodeChannels;
use compute::layout::Layout;
use compute::service::{KnownTable, NodeClient};
use datafusion::common::runtime::JoinSet;
use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use storage::ids::{SegmentId, SliceId, TableId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use url::Url;

use super::catalog_copies::Copied;
use super::watch::{CatchUp, State, Watch};
use crate::error::{Error, Result};
use crate::planner::Nodes;

/// Files that a node is told to remove at once.
const FILES_AT_ONCE_MAX: usize = 4096;

/// What a set of nodes is made of.
pub struct NodeSetParts {
    /// How slices are divided among the nodes.
    pub layout: Layout,
    /// The nodes' addresses, in their order.
    pub urls: Vec<Url>,
    /// The way to them.
    pub channels: Arc<NodeChannels>,
    /// Of this leader.
    pub epoch: u64,
    /// Memory and spill space of the leader.
    pub runtime: Arc<RuntimeEnv>,
    /// Ids from here on are given out in this epoch, and were not before.
    pub first_segment: SegmentId,
    /// The cluster's own number, the same for all its leaders.
    pub cluster: u64,
}

/// The nodes of a cluster of several.
#[derive(Debug)]
pub struct NodeSet {
    nodes: Nodes,
    runtime: Arc<RuntimeEnv>,
    first_segment: SegmentId,
    cluster: u64,
    members: Vec<Arc<Member>>,
    turn: AtomicUsize,
    watches: Mutex<JoinSet<()>>,
}

/// One node.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: usize,
    pub(super) client: NodeClient,
    pub(super) state: watch::Sender<State>,
    pub(super) copied: Copied,
    removals: Mutex<VecDeque<Removal>>,
    pub(super) has_removals: Notify,
}

/// Something that a node shall remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removal {
    /// Files that no snapshot needs any more.
    Files(TableId, Vec<(SliceId, StoredFile)>),
    /// What a write left.
    Write(TableId, Range<u64>),
}

/// Says what every node must keep.
pub(crate) type Known = Arc<dyn Fn() -> Vec<KnownTable> + Send + Sync>;

impl NodeSet {
    /// The nodes, none of which has been spoken to yet.
    pub fn new(parts: NodeSetParts) -> Arc<Self> {
        let member = |(number, url): (usize, &Url)| {
            let client = NodeClient::new(Arc::clone(&parts.channels), url.clone(), parts.epoch);
            Arc::new(Member {
                number,
                client,
                state: watch::Sender::new(State::Unknown),
                copied: Copied::default(),
                removals: Mutex::default(),
                has_removals: Notify::new(),
            })
        };
        Arc::new(Self {
            members: parts.urls.iter().enumerate().map(member).collect(),
            nodes: Nodes {
                layout: parts.layout,
                urls: parts.urls,
                channels: parts.channels,
                epoch: parts.epoch,
            },
            runtime: parts.runtime,
            first_segment: parts.first_segment,
            cluster: parts.cluster,
            turn: AtomicUsize::new(0),
            watches: Mutex::new(JoinSet::new()),
        })
    }

    /// Begins to watch the nodes; `known` tells what a node keeps when it is opened, `catch_up`
    /// copies the catalog to nodes that have missed something, and blocks.
    pub(crate) fn watch(&self, known: &Known, catch_up: &CatchUp, handle: &Handle) {
        let mut watches = self.watches.lock();
        for member in &self.members {
            let watch = Watch {
                member: Arc::clone(member),
                layout: self.nodes.layout,
                first_segment: self.first_segment,
                cluster: self.cluster,
                known: Arc::clone(known),
                catch_up: Arc::clone(catch_up),
            };
            watches.spawn_on(watch.run(), handle);
        }
    }

    /// Waits until every node is open.
    pub async fn wait_until_open(&self, longest: Duration) -> Result<()> {
        for member in &self.members {
            let mut state = member.state.subscribe();
            let open = state.wait_for(|state| matches!(state, State::Open { .. }));
            let node = member.client.url().authority().to_owned();
            match tokio::time::timeout(longest, open).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Err(Error::Canceled),
                Err(_) => {
                    let last = match &*member.state.borrow() {
                        State::Lost { reason } => reason.clone(),
                        State::Unknown | State::Open { .. } => "no answer".to_owned(),
                    };
                    let number = member.number;
                    let text = format!("compute node {number} at {node} cannot be opened: {last}");
                    return Err(Error::Config(text));
                }
            }
        }
        Ok(())
    }

    /// Whether each node is open, in their order.
    pub fn are_open(&self) -> Vec<bool> {
        let open = |member: &Arc<Member>| matches!(*member.state.borrow(), State::Open { .. });
        self.members.iter().map(open).collect()
    }

    /// How slices are divided among the nodes.
    pub fn layout(&self) -> Layout {
        self.nodes.layout
    }

    /// What the planner needs to know.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Memory and spill space of the leader.
    pub fn runtime_env(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    pub(super) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// A number that is another each time.
    pub(super) fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// Gives a write up on all nodes, by its ids, when it is dropped before it is finished.
    pub(crate) fn undo(self: &Arc<Self>, table: TableId, ids: Range<u64>) -> Undo {
        Undo { nodes: Arc::clone(self), table, ids: Some(ids) }
    }

    /// The way to the node of a slice.
    pub(crate) fn client_of(&self, slice: SliceId) -> NodeClient {
        self.client(self.nodes.layout.node_of(slice.0 as usize))
    }

    /// The way to a node.
    pub(super) fn client(&self, node: usize) -> NodeClient {
        self.members[node].client.clone()
    }

    /// Has a file removed on its node, now or when the node can be reached.
    pub fn remove_stored(&self, table: TableId, slice: SliceId, file: StoredFile) {
        let node = self.nodes.layout.node_of(slice.0 as usize);
        if let Some(member) = self.members.get(node) {
            member.remove(Removal::Files(table, vec![(slice, file)]));
        }
    }

    /// Has what a write left removed on all nodes.
    pub(super) fn abandon_write(&self, table: TableId, ids: &Range<u64>) {
        for member in &self.members {
            member.remove(Removal::Write(table, ids.clone()));
        }
    }
}

/// See [`NodeSet::undo`].
#[derive(Debug)]
pub(crate) struct Undo {
    nodes: Arc<NodeSet>,
    table: TableId,
    ids: Option<Range<u64>>,
}

impl Undo {
    /// The write is finished.
    pub(crate) fn keep(&mut self) {
        self.ids = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(ids) = self.ids.take() {
            self.nodes.abandon_write(self.table, &ids);
        }
    }
}

impl Member {
    /// Has something removed, however long the node is away: it is swept only by another leader.
    pub(super) fn remove(&self, removal: Removal) {
        let mut removals = self.removals.lock();
        match (removals.back_mut(), removal) {
            (Some(Removal::Files(last, waiting)), Removal::Files(table, files))
                if *last == table && waiting.len() + files.len() <= FILES_AT_ONCE_MAX =>
            {
                waiting.extend(files);
            }
            (_, removal) => removals.push_back(removal),
        }
        drop(removals);
        self.has_removals.notify_one();
    }

    /// Takes what the node is to be told next; [`Member::put_back`] if that fails.
    pub(super) fn next_removal(&self) -> Option<Removal> {
        self.removals.lock().pop_front()
    }

    /// The node was not told.
    pub(super) fn put_back(&self, removal: Removal) {
        self.removals.lock().push_front(removal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::certificates;
    use compute::exchange::Identity;

    #[tokio::test]
    async fn removals_wait_however_many_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let files = certificates::make(directory.path(), "leader").unwrap();
        let identity = Identity::read(&files.authority, &files.certificate, &files.key).unwrap();
        let channels = NodeChannels::new(identity, Handle::current());
        let url = Url::parse("https://127.0.0.1:1").unwrap();
        let member = Member {
            number: 0,
            client: NodeClient::new(channels, url, 1),
            state: watch::Sender::new(State::Unknown),
            copied: Copied::default(),
            removals: Mutex::default(),
            has_removals: Notify::new(),
        };
        let segment = |id| (SliceId(0), StoredFile::Segment(SegmentId(id)));
        for id in 0..150_000 {
            member.remove(Removal::Files(TableId(1), vec![segment(id)]));
        }
        member.remove(Removal::Write(TableId(2), 7..9));
        member.remove(Removal::Files(TableId(1), vec![segment(150_000)]));
        assert!(member.removals.lock().len() < 50);
        // The node is away once; what comes meanwhile does not change what it is told again.
        let first = member.next_removal().unwrap();
        member.put_back(first);
        let (mut segments, mut writes) = (Vec::new(), Vec::new());
        while let Some(removal) = member.next_removal() {
            match removal {
                Removal::Files(_, some) => segments.extend(some),
                Removal::Write(_, ids) => writes.push(ids),
            }
        }
        assert_eq!(segments, (0..=150_000).map(segment).collect::<Vec<_>>());
        assert_eq!(writes.len(), 1);
        assert_eq!(writes[0], 7..9);
    }
}
