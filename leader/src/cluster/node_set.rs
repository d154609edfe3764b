//! Several nodes: their addresses, their states, what waits to be told to them, and which copies of
//! segments they have.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use compute::StoredFile;
use compute::exchange::NodeChannels;
use compute::integrity::{Damage, IntegrityStatus};
use compute::layout::Layout;
use compute::service::{Alive, NodeClient};
use datafusion::common::runtime::JoinSet;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::future::join_all;
use parking_lot::Mutex;
use storage::ids::{SegmentId, SliceId, TableId};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use url::Url;

use super::catalog_copies::Copied;
use super::copies::{Copies, CopyJob, Known, SliceStatus};
use super::rebuild::Rebuild;
use super::watch::{CatchUp, State, Watch};
use crate::error::{Error, Result, code};
use crate::planner::Nodes;

/// Files that a node is told to remove at once.
const FILES_AT_ONCE_MAX: usize = 4096;
/// How long nodes may take to say again what they have.
const AUDIT_WAIT: Duration = Duration::from_secs(3);

/// What a set of nodes is made of.
pub struct NodeSetParts {
    /// How slices are divided among the nodes.
    pub layout: Layout,
    /// How many nodes shall have each segment.
    pub copies: usize,
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
    /// The number of the last write to the leader's catalog.
    pub catalog_number: u64,
    /// Memory that queries are given on each node, bytes in all.
    pub query_bytes: usize,
}

/// How often a start looks whether a node has refused it.
const REFUSED_INTERVAL: Duration = Duration::from_millis(100);

/// The nodes of a cluster of several.
pub struct NodeSet {
    nodes: Nodes,
    runtime: Arc<RuntimeEnv>,
    first_segment: SegmentId,
    cluster: u64,
    /// The number of the last write to the leader's catalog.
    pub(super) catalog_number: Arc<AtomicU64>,
    query_bytes: usize,
    members: Vec<Arc<Member>>,
    copies: Arc<Copies>,
    known: Known,
    turn: AtomicUsize,
    watches: Mutex<JoinSet<()>>,
}

impl fmt::Debug for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSet").field("members", &self.members).finish_non_exhaustive()
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) number: usize,
    pub(super) client: NodeClient,
    pub(super) state: watch::Sender<State>,
    pub(super) copied: Copied,
    copies: Arc<Copies>,
    removals: Mutex<VecDeque<Removal>>,
    /// There is something to tell the node, or to ask it.
    pub(super) wake: Notify,
    /// What the node has may not be what it had.
    pub(super) audit: Notify,
    /// How often the node has said what it has.
    pub(super) audits: watch::Sender<u64>,
    /// The node has refused this leader for another one.
    is_replaced: AtomicBool,
    /// The last number by which the node has told that there is another damage, or one less.
    damage_changes: AtomicU64,
    /// What the node has told of the soundness of its files.
    integrity: Mutex<IntegrityStatus>,
}

/// Something that a node shall remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removal {
    /// Files that no snapshot needs any more.
    Files(TableId, Vec<(SliceId, StoredFile)>),
    /// What a write left.
    Write(TableId, Range<u64>),
}

impl NodeSet {
    /// The nodes, none of which has been spoken to yet; `known` tells what they must have.
    pub(crate) fn new(parts: NodeSetParts, known: Known) -> Arc<Self> {
        let copies = Arc::new(Copies::new(parts.layout, parts.copies));
        let member = |(number, url): (usize, &Url)| {
            let client = NodeClient::new(Arc::clone(&parts.channels), url.clone(), parts.epoch);
            Arc::new(Member::new(number, client, Arc::clone(&copies)))
        };
        Arc::new(Self {
            members: parts.urls.iter().enumerate().map(member).collect(),
            nodes: Nodes {
                layout: parts.layout,
                urls: parts.urls,
                channels: parts.channels,
                epoch: parts.epoch,
                stand_ins: copies.stand_ins(),
            },
            copies,
            known,
            runtime: parts.runtime,
            first_segment: parts.first_segment,
            cluster: parts.cluster,
            catalog_number: Arc::new(AtomicU64::new(parts.catalog_number)),
            query_bytes: parts.query_bytes,
            turn: AtomicUsize::new(0),
            watches: Mutex::new(JoinSet::new()),
        })
    }

    /// Begins to watch the nodes, and to give each what it lacks. `catch_up` copies the catalog to
    /// nodes that have missed something, and blocks.
    pub(crate) fn watch(&self, catch_up: &CatchUp, handle: &Handle) {
        let mut watches = self.watches.lock();
        for member in &self.members {
            let watch = Watch {
                member: Arc::clone(member),
                layout: self.nodes.layout,
                first_segment: self.first_segment,
                cluster: self.cluster,
                catalog_number: Arc::clone(&self.catalog_number),
                query_bytes: self.query_bytes,
                known: Arc::clone(&self.known),
                catch_up: Arc::clone(catch_up),
            };
            watches.spawn_on(watch.run(), handle);
            let rebuild = Rebuild {
                member: Arc::clone(member),
                copies: Arc::clone(&self.copies),
                urls: self.nodes.urls.clone(),
                known: Arc::clone(&self.known),
            };
            watches.spawn_on(rebuild.run(), handle);
        }
    }

    /// Watches no more: nodes that go from now on were told to.
    pub(crate) fn stop_watching(&self) {
        self.watches.lock().abort_all();
    }

    /// Waits until every node is open and has said what it has; after `patience`, until of every
    /// slice there is a node that can serve it.
    pub async fn wait_until_ready(&self, patience: Duration, longest: Duration) -> Result<()> {
        tokio::select! {
            ready = self.ready(patience, longest) => ready,
            refused = self.refused() => Err(refused),
        }
    }

    /// Waits until a node has refused this leader for another one.
    async fn refused(&self) -> Error {
        loop {
            if let Some(member) = self.members.iter().find(|member| member.is_replaced()) {
                let reason = member.why_lost().unwrap_or_default();
                let number = member.number;
                return Error::Config(format!(
                    "compute node {number} is another leader's: {reason}"
                ));
            }
            tokio::time::sleep(REFUSED_INTERVAL).await;
        }
    }

    async fn ready(&self, patience: Duration, longest: Duration) -> Result<()> {
        if tokio::time::timeout(patience, self.all_audited()).await.is_ok() {
            return Ok(());
        }
        let served = self.wait_until_served(longest).await;
        let mut lost = self.members.iter().filter_map(|member| {
            let reason = member.why_lost()?;
            let (number, node) = (member.number, member.client.url().authority());
            Some(format!("compute node {number} at {node} cannot be opened: {reason}"))
        });
        if served {
            lost.for_each(|reason| tracing::warn!(reason, "starting without a compute node"));
            return Ok(());
        }
        let reason = lost.next();
        Err(Error::Config(reason.unwrap_or_else(|| {
            "the compute nodes that are there do not have all segments".to_owned()
        })))
    }

    async fn all_audited(&self) {
        for member in &self.members {
            let mut audits = member.audits.subscribe();
            // The set keeps the other end.
            let _audited = audits.wait_for(|count| *count > 0).await;
        }
    }

    /// Waits until of every slice there is a node that can serve it. Answers whether that came.
    pub(super) async fn wait_until_served(&self, longest: Duration) -> bool {
        let mut stand_ins = self.copies.stand_ins();
        let all = stand_ins.wait_for(|nodes| nodes.iter().all(Option::is_some));
        matches!(tokio::time::timeout(longest, all).await, Ok(Ok(_)))
    }

    /// Asks all nodes that are taken to be there whether they are.
    pub(super) async fn recheck(&self) {
        let ask = |member: &Arc<Member>| {
            let member = Arc::clone(member);
            async move {
                if !member.is_open() {
                    return;
                }
                if let Err(error) = member.client.heartbeat().await {
                    member.lose(&error.to_string());
                    member.wake.notify_one();
                }
            }
        };
        join_all(self.members.iter().map(ask)).await;
    }

    /// Asks all nodes that are there once more what they have.
    pub(super) async fn audit(&self) {
        let ask = |member: &Arc<Member>| {
            let mut audits = member.audits.subscribe();
            let before = *audits.borrow();
            member.audit.notify_one();
            async move {
                // One that is not there says nothing.
                let _ =
                    tokio::time::timeout(AUDIT_WAIT, audits.wait_for(|now| *now > before)).await;
            }
        };
        join_all(self.members.iter().filter(|member| member.is_open()).map(ask)).await;
    }

    /// Has a node copy pieces from another.
    pub(super) async fn copy(&self, job: &CopyJob) -> Result<()> {
        let source = &self.nodes.urls[job.from];
        Ok(self.members[job.to].client.copy_files(source, &job.items()).await?)
    }

    /// Which node has which copies.
    pub(super) fn copies(&self) -> &Arc<Copies> {
        &self.copies
    }

    /// How it is with each slice on each node that shall have a copy of it.
    pub fn status(&self) -> Vec<SliceStatus> {
        self.copies.status(&self.known)
    }

    /// What each node has told of the soundness of its files, in their order.
    pub fn integrity(&self) -> Vec<IntegrityStatus> {
        self.members.iter().map(|member| member.integrity.lock().clone()).collect()
    }

    /// Waits until no damaged file is read, since another node has a sound one or it was replaced.
    /// Answers whether that came.
    pub(super) async fn wait_until_sound(&self, longest: Duration) -> bool {
        let mut reads_damaged = self.copies.reads_damaged();
        let sound = reads_damaged.wait_for(|reads_damaged| !reads_damaged);
        matches!(tokio::time::timeout(longest, sound).await, Ok(Ok(_)))
    }

    /// Whether each node is open, in their order.
    pub fn are_open(&self) -> Vec<bool> {
        self.members.iter().map(|member| member.is_open()).collect()
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

    /// The node that has all of a slice and runs its tasks now.
    ///
    /// # Errors
    /// 57P03 if none that is there has all of it.
    pub(super) fn server_of(&self, slice: SliceId) -> Result<usize> {
        let owner = self.nodes.layout.node_of(slice.0 as usize);
        self.nodes.stand_ins.borrow()[owner].ok_or_else(|| {
            let message = format!("no compute node that is there has all rows of node {owner}");
            Error::statement(code::CANNOT_CONNECT_NOW, message)
        })
    }

    /// The way to a node.
    pub(super) fn client(&self, node: usize) -> NodeClient {
        self.members[node].client.clone()
    }

    /// Has a file removed on all nodes, now or when they can be reached: any of them may have a copy,
    /// or may be getting one.
    pub fn remove_stored(&self, table: TableId, slice: SliceId, file: StoredFile) {
        for member in &self.members {
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
    fn new(number: usize, client: NodeClient, copies: Arc<Copies>) -> Self {
        Self {
            number,
            client,
            state: watch::Sender::new(State::Unknown),
            copied: Copied::default(),
            copies,
            removals: Mutex::default(),
            wake: Notify::new(),
            audit: Notify::new(),
            audits: watch::Sender::new(0),
            is_replaced: AtomicBool::new(false),
            damage_changes: AtomicU64::new(0),
            integrity: Mutex::default(),
        }
    }

    /// Has the node say what it has if it knows of another damage than before.
    pub(super) fn hears_of_damage(&self, alive: &Alive) {
        self.integrity.lock().scrub = alive.scrub;
        let before = self.damage_changes.swap(alive.damage_changes, Ordering::AcqRel);
        if before != alive.damage_changes {
            self.audit.notify_one();
        }
    }

    /// Takes what the node has said of the soundness of its files, and tells the log what is new.
    pub(super) fn learn_integrity(&self, status: IntegrityStatus) {
        let mut known = self.integrity.lock();
        for damage in &status.damages {
            if known.damages.contains(damage) {
                continue;
            }
            let Damage { table, path, place, reason, is_healed, .. } = damage;
            let (node, table) = (self.number, table.0);
            if *is_healed {
                tracing::info!(node, table, path, "a sound copy has replaced a damaged file");
            } else {
                tracing::warn!(node, table, path, place, reason, "a file is damaged");
            }
        }
        *known = status;
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*self.state.borrow(), State::Open { .. })
    }

    /// Why the node is not open, if it is not.
    fn why_lost(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Lost { reason } => Some(reason.clone()),
            State::Unknown => Some("no answer".to_owned()),
            State::Open { .. } => None,
        }
    }

    /// The node was opened, and will be asked what it has.
    pub(super) fn found(&self, boot: u64) {
        self.copied.forget();
        self.state.send_modify(|state| {
            *state = State::Open { boot };
            self.copies.opened(self.number);
        });
        self.audit.notify_one();
    }

    /// Notes what an error of the node says of this leader.
    pub(super) fn heard(&self, error: &compute::error::Error) {
        let is_replaced = matches!(error, compute::error::Error::Replaced { .. });
        if is_replaced && !self.is_replaced.swap(true, Ordering::AcqRel) {
            tracing::error!(node = self.number, %error, "this leader commits nothing any more");
        }
    }

    /// Whether the node has refused this leader for another one.
    pub(super) fn is_replaced(&self) -> bool {
        self.is_replaced.load(Ordering::Acquire)
    }

    /// The node does not answer: from now on others do its work.
    pub(super) fn lose(&self, reason: &str) {
        self.state.send_if_modified(|state| {
            let lost = State::Lost { reason: reason.to_owned() };
            if *state == lost {
                return false;
            }
            match *state {
                State::Open { .. } => {
                    self.copies.lost(self.number);
                    tracing::warn!(node = self.number, reason, "lost a compute node");
                }
                State::Lost { .. } => {
                    tracing::info!(node = self.number, reason, "a compute node is still away");
                }
                State::Unknown => {}
            }
            *state = lost;
            true
        });
    }

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
        self.wake.notify_one();
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
        let copies = Arc::new(Copies::new(Layout::new(2, 2).unwrap(), 2));
        let member = Member::new(0, NodeClient::new(channels, url, 1), copies);
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
