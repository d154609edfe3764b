//! Which node has a copy of what, and so which node runs the tasks of which.
//!
//! Where copies have to be is a function of the layout ([`Layout::holders`]); the catalog says
//! nothing about it, and a node is never believed to have something because it should: when a node
//! is opened it is asked what it has, and what it lacks is kept here until it was copied.
//!
//! ```text
//!            opened            audited              nothing of a node's slices is missing
//!   lost ------------> open ------------> missing ---------------------------------------> serves
//!    ^                                       |  written without it, or found to be gone      |
//!    +---------------------------------------+-----------------------------------------------+
//! ```
//!
//! Invariants, all under one lock:
//! * what is wanted is the latest snapshot, what older readers hold, and what was written for
//!   transactions that have not ended, segments and deletion vectors alike (a file of either kind
//!   is named by its number); a file goes from one to the next without a gap;
//! * a node that was audited has everything wanted of it but what is listed as missing;
//! * an acknowledgement counts only as long as the node was not lost since: a node that was away may
//!   have come back without what it had;
//! * a node runs tasks of a node's slices only if nothing of these slices, and nothing of tables that
//!   every node has, is missing. A file that is there and damaged is missing too, so that another
//!   copy is read and takes its place; but if no node has all of the slices, one that lacks only
//!   what is damaged there runs them: rows that nobody reads cost no query.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use compute::HeldFile;
use compute::layout::Layout;
use compute::service::CopyItem;
use parking_lot::Mutex;
use storage::ids::SegmentId;
use tokio::sync::watch;

use super::piece::{Piece, WeakPiece};
use crate::catalog::TableEntry;
use crate::planner::StandIns;

/// Files that are copied to a node at once, and their bytes.
const BATCH_FILES_MAX: usize = 16;
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// What nodes must have, apart from what is pending here.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// The tables of the latest snapshot.
    pub(crate) tables: Vec<Arc<TableEntry>>,
    /// Files that only older readers see.
    pub(crate) held: Vec<Piece>,
}

/// Says what nodes must have now.
pub(crate) type Known = Arc<dyn Fn() -> Wanted + Send + Sync>;

/// By the number of a file, the nodes that have it, each with its generation at that time.
pub(crate) type Acknowledged = HashMap<SegmentId, Vec<(usize, u64)>>;

/// Pieces that a node shall copy from another.
#[derive(Debug)]
pub(crate) struct CopyJob {
    pub(crate) to: usize,
    pub(crate) from: usize,
    /// Of the node that copies.
    pub(crate) generation: u64,
    pub(crate) pieces: Vec<Piece>,
}

/// What becomes of files that were written.
#[derive(Debug)]
pub(crate) enum Registered {
    /// Every node that is there and shall have a copy has one.
    Done,
    /// These have to be made first.
    Copy(Vec<CopyJob>),
    /// Of some file no copy is known any more.
    Lost,
}

/// What a node copies next.
#[derive(Debug)]
pub(crate) enum NextBatch {
    /// It lacks nothing.
    Nothing,
    /// No other node that is there has what it lacks.
    NoSource,
    /// These.
    Job(CopyJob),
}

/// How it is with the copies of a slice on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceStatus {
    /// The node.
    pub node: usize,
    /// A slice of which it shall have a copy.
    pub slice: usize,
    /// Whether the slice is its own.
    pub primary: bool,
    /// Segments and deletion vectors that it shall have.
    pub segments: usize,
    /// Those that it lacks, or that are not known to be there.
    pub missing: usize,
    /// How it is with the node.
    pub state: NodeState,
    /// The node that runs the tasks of this slice.
    pub served_by: Option<usize>,
}

/// How it is with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It has all that it shall have.
    Whole,
    /// It is there and gets what it lacks.
    Rebuilding,
    /// It is not there.
    Lost,
}

/// The copies on all nodes.
#[derive(Debug)]
pub(crate) struct Copies {
    layout: Layout,
    copies: usize,
    state: Mutex<State>,
    stand_ins: watch::Sender<StandIns>,
    /// Whether tasks of some node run where files of its slices are damaged.
    reads_damaged: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    nodes: Vec<Holding>,
    /// Files of transactions that have not ended. Each is wanted as long as anybody holds it.
    pending: Vec<WeakPiece>,
}

/// What is known of a node.
#[derive(Debug, Default)]
struct Holding {
    /// Grows whenever the node is lost or opened.
    generation: u64,
    open: bool,
    /// None until the node has said what it has.
    missing: Option<Missing>,
    /// What it has got since an audit began, which may not see it.
    since_audit: Option<HashSet<SegmentId>>,
}

/// What a node lacks. It keeps nothing wanted that nobody else wants: what was dropped meanwhile is
/// gone from here with the next audit.
#[derive(Debug)]
struct Missing {
    pieces: HashMap<SegmentId, WeakPiece>,
    /// Those of them that are there, but damaged.
    damaged: HashSet<SegmentId>,
    /// How many pieces there are.
    all: Counts,
    /// How many of them are not damaged, but not there.
    absent: Counts,
}

/// How many pieces are of each node's slices, and how many of tables that every node has.
#[derive(Debug)]
struct Counts {
    of_node: Vec<usize>,
    everywhere: usize,
}

impl Copies {
    /// Nothing is known of any node.
    pub(crate) fn new(layout: Layout, copies: usize) -> Self {
        let nodes = (0..layout.nodes()).map(|_| Holding::default()).collect();
        let none: StandIns = vec![None; layout.nodes()].into();
        Self {
            layout,
            copies,
            state: Mutex::new(State { nodes, pending: Vec::new() }),
            stand_ins: watch::Sender::new(none),
            reads_damaged: watch::Sender::new(false),
        }
    }

    /// Which node runs the tasks of each.
    pub(crate) fn stand_ins(&self) -> watch::Receiver<StandIns> {
        self.stand_ins.subscribe()
    }

    /// Whether tasks of some node run where files of its slices are damaged: no other node that is
    /// there has all of them.
    pub(crate) fn reads_damaged(&self) -> watch::Receiver<bool> {
        self.reads_damaged.subscribe()
    }

    /// The node does not answer.
    pub(crate) fn lost(&self, node: usize) {
        self.begin(node, false);
    }

    /// The node was opened; it has yet to say what it has.
    pub(crate) fn opened(&self, node: usize) {
        self.begin(node, true);
    }

    fn begin(&self, node: usize, open: bool) {
        let mut state = self.state.lock();
        let generation = state.nodes[node].generation + 1;
        state.nodes[node] = Holding { generation, open, missing: None, since_audit: None };
        self.choose(&state);
    }

    /// Numbers that differ from earlier ones for each node that was lost or opened since.
    pub(crate) fn generations(&self) -> Vec<u64> {
        self.state.lock().nodes.iter().map(|node| node.generation).collect()
    }

    /// The node is about to be asked what it has. None if it is not there.
    pub(crate) fn begin_audit(&self, node: usize) -> Option<u64> {
        let mut state = self.state.lock();
        let holding = &mut state.nodes[node];
        holding.since_audit = Some(HashSet::new());
        holding.open.then_some(holding.generation)
    }

    /// The node has said what it has. Answers with how much it lacks; None if it was lost meanwhile.
    pub(crate) fn end_audit(
        &self,
        node: usize,
        generation: u64,
        files: &[HeldFile],
        known: &Known,
    ) -> Option<usize> {
        let there: HashMap<SegmentId, &HeldFile> =
            files.iter().map(|file| (file.number, file)).collect();
        let mut state = self.state.lock();
        let since = state.nodes[node].since_audit.take().unwrap_or_default();
        if !state.nodes[node].open || state.nodes[node].generation != generation {
            return None;
        }
        let whole = |piece: &Piece| {
            let is_it = |file: &&&HeldFile| {
                (file.table, file.slice, file.byte_count)
                    == (piece.table, piece.slice, piece.file.byte_count())
            };
            there.get(&piece.number()).filter(is_it)
        };
        let mut missing = Missing::none(self.layout);
        for piece in self.wanted(&mut state, known) {
            if !self.shall_have(node, &piece) || since.contains(&piece.number()) {
                continue;
            }
            match whole(&piece) {
                Some(file) if file.is_damaged => missing.insert_damaged(self.layout, piece),
                Some(_) => {}
                None => missing.insert(self.layout, piece),
            }
        }
        let count = missing.pieces.len();
        state.nodes[node].missing = Some(missing);
        self.choose(&state);
        Some(count)
    }

    /// All that is wanted now. Forgets what is pending no more.
    fn wanted(&self, state: &mut State, known: &Known) -> Vec<Piece> {
        let wanted = known();
        let mut pieces = wanted.held;
        for table in &wanted.tables {
            pieces.extend(Piece::of_table(table));
        }
        let committed: HashSet<SegmentId> = pieces.iter().map(|piece| piece.number()).collect();
        state.pending.retain(|pending| {
            let Some(piece) = pending.piece() else { return false };
            if committed.contains(&piece.number()) {
                return false;
            }
            pieces.push(piece);
            true
        });
        pieces
    }

    fn shall_have(&self, node: usize, piece: &Piece) -> bool {
        piece.everywhere || self.holders(piece).any(|holder| holder == node)
    }

    fn holders(&self, piece: &Piece) -> impl Iterator<Item = usize> + use<> {
        let copies = if piece.everywhere { self.layout.nodes() } else { self.copies };
        self.layout.holders(self.layout.node_of(piece.slice.0 as usize), copies)
    }

    /// Files were written, and some nodes have acknowledged them. Unless copies have to be made
    /// first, they are wanted from now on, as long as anybody holds them. With `give_up` nodes that
    /// still lack a copy get it later.
    pub(crate) fn register(
        &self,
        pieces: &[Piece],
        acknowledged: &Acknowledged,
        give_up: bool,
    ) -> Registered {
        let mut state = self.state.lock();
        let mut jobs: HashMap<(usize, usize), Vec<Piece>> = HashMap::new();
        for piece in pieces {
            let has = state.nodes_with(piece.number(), acknowledged);
            let Some(first) = has.first() else { return Registered::Lost };
            for holder in self.holders(piece) {
                if state.nodes[holder].open && !has.contains(&holder) {
                    jobs.entry((holder, *first)).or_default().push(piece.clone());
                }
            }
        }
        if !jobs.is_empty() && !give_up {
            let job = |((to, from), pieces): ((usize, usize), Vec<Piece>)| {
                let generation = state.nodes[to].generation;
                CopyJob { to, from, generation, pieces }
            };
            return Registered::Copy(jobs.into_iter().map(job).collect());
        }
        for ((node, _), pieces) in jobs {
            if let Some(missing) = &mut state.nodes[node].missing {
                pieces.into_iter().for_each(|piece| missing.insert(self.layout, piece));
            }
        }
        for piece in pieces {
            for node in state.nodes_with(piece.number(), acknowledged) {
                if let Some(since) = &mut state.nodes[node].since_audit {
                    since.insert(piece.number());
                }
            }
            state.pending.push(WeakPiece::new(piece));
        }
        self.choose(&state);
        Registered::Done
    }

    /// What the node copies next of what it lacks, but for those to skip.
    pub(crate) fn next_batch(&self, node: usize, skip: &HashSet<SegmentId>) -> NextBatch {
        let state = self.state.lock();
        let holding = &state.nodes[node];
        let Some(missing) = &holding.missing else { return NextBatch::Nothing };
        if missing.pieces.is_empty() {
            return NextBatch::Nothing;
        }
        let mut by_source: HashMap<usize, (u64, Vec<Piece>)> = HashMap::new();
        let wanted = missing.pieces.values().filter_map(WeakPiece::piece);
        for piece in wanted.filter(|piece| !skip.contains(&piece.number())) {
            let source = self.holders(&piece).find(|holder| {
                *holder != node
                    && state.nodes[*holder]
                        .missing
                        .as_ref()
                        .is_some_and(|missing| !missing.pieces.contains_key(&piece.number()))
            });
            let Some(from) = source else { continue };
            let (bytes, pieces) = by_source.entry(from).or_default();
            *bytes += piece.file.byte_count();
            pieces.push(piece);
            if pieces.len() >= BATCH_FILES_MAX || *bytes >= BATCH_BYTES_MAX {
                break;
            }
        }
        let longest = by_source.into_iter().max_by_key(|(_, (_, pieces))| pieces.len());
        match longest {
            Some((from, (_, pieces))) => {
                NextBatch::Job(CopyJob { to: node, from, generation: holding.generation, pieces })
            }
            None => NextBatch::NoSource,
        }
    }

    /// Whether all that the node lacks is there, but damaged.
    pub(crate) fn lacks_only_damaged(&self, node: usize) -> bool {
        let state = self.state.lock();
        let missing = state.nodes[node].missing.as_ref();
        missing.is_some_and(|missing| missing.damaged.len() == missing.pieces.len())
    }

    /// The job was done.
    pub(crate) fn copied(&self, job: &CopyJob) {
        let mut state = self.state.lock();
        let holding = &mut state.nodes[job.to];
        if holding.generation != job.generation {
            return;
        }
        if let Some(missing) = &mut holding.missing {
            job.pieces.iter().for_each(|piece| missing.remove(self.layout, piece.number()));
        }
        self.choose(&state);
    }

    /// Chooses for each node the first that can run its tasks: itself if it can. If none can, one
    /// that has all the files, though some of them are damaged.
    fn choose(&self, state: &State) {
        let serves = |holder: usize, node: usize, counts: fn(&Missing) -> &Counts| {
            let missing = state.nodes[holder].missing.as_ref();
            missing.is_some_and(|missing| counts(missing).are_none(node))
        };
        let first = |node: usize, counts: fn(&Missing) -> &Counts| {
            self.layout.holders(node, self.copies).find(|holder| serves(*holder, node, counts))
        };
        let mut reads_damaged = false;
        let choose = |node: usize| {
            first(node, |missing| &missing.all).or_else(|| {
                let chosen = first(node, |missing| &missing.absent);
                reads_damaged |= chosen.is_some();
                chosen
            })
        };
        let chosen: StandIns = (0..self.layout.nodes()).map(choose).collect();
        self.reads_damaged
            .send_if_modified(|known| std::mem::replace(known, reads_damaged) != reads_damaged);
        self.stand_ins.send_if_modified(|known| {
            let changed = *known != chosen;
            *known = chosen;
            changed
        });
    }

    /// How it is with each slice on each node that shall have a copy of it.
    pub(crate) fn status(&self, known: &Known) -> Vec<SliceStatus> {
        let mut state = self.state.lock();
        let wanted = self.wanted(&mut state, known);
        let stand_ins = self.stand_ins.borrow();
        let mut rows = Vec::new();
        for (node, holding) in state.nodes.iter().enumerate() {
            let missing = holding.missing.as_ref();
            let mut by_slice: Vec<Option<(usize, usize)>> = vec![None; self.layout.slices()];
            for owner in 0..self.layout.nodes() {
                if self.layout.holders(owner, self.copies).any(|holder| holder == node) {
                    self.layout.slices_of(owner).for_each(|slice| by_slice[slice] = Some((0, 0)));
                }
            }
            for piece in wanted.iter().filter(|piece| self.shall_have(node, piece)) {
                let Some(counts) = by_slice.get_mut(piece.slice.0 as usize) else { continue };
                let counts = counts.get_or_insert((0, 0));
                counts.0 += 1;
                let lacks =
                    missing.is_none_or(|missing| missing.pieces.contains_key(&piece.number()));
                counts.1 += usize::from(lacks);
            }
            let state = match missing {
                Some(missing) if missing.pieces.is_empty() => NodeState::Whole,
                _ if holding.open => NodeState::Rebuilding,
                _ => NodeState::Lost,
            };
            for (slice, counts) in by_slice.into_iter().enumerate() {
                let Some((segments, missing)) = counts else { continue };
                let owner = self.layout.node_of(slice);
                rows.push(SliceStatus {
                    node,
                    slice,
                    primary: owner == node,
                    segments,
                    missing,
                    state,
                    served_by: stand_ins[owner],
                });
            }
        }
        rows
    }
}

impl State {
    /// The nodes whose acknowledgement of the file still counts.
    fn nodes_with(&self, number: SegmentId, acknowledged: &Acknowledged) -> Vec<usize> {
        let counts = |(node, generation): &&(usize, u64)| {
            let holding = &self.nodes[*node];
            holding.open && holding.generation == *generation
        };
        let nodes = acknowledged.get(&number).into_iter().flatten().filter(counts);
        nodes.map(|(node, _)| *node).collect()
    }
}

impl Missing {
    fn none(layout: Layout) -> Self {
        Self {
            pieces: HashMap::new(),
            damaged: HashSet::new(),
            all: Counts::none(layout),
            absent: Counts::none(layout),
        }
    }

    /// A piece that is not there.
    fn insert(&mut self, layout: Layout, piece: Piece) {
        let number = piece.number();
        let weak = WeakPiece::new(&piece);
        if self.pieces.contains_key(&number) {
            return;
        }
        *self.all.of(layout, &weak) += 1;
        *self.absent.of(layout, &weak) += 1;
        self.pieces.insert(number, weak);
    }

    /// A piece that is there and damaged.
    fn insert_damaged(&mut self, layout: Layout, piece: Piece) {
        let number = piece.number();
        let weak = WeakPiece::new(&piece);
        if self.pieces.contains_key(&number) {
            return;
        }
        *self.all.of(layout, &weak) += 1;
        self.damaged.insert(number);
        self.pieces.insert(number, weak);
    }

    fn remove(&mut self, layout: Layout, number: SegmentId) {
        let Some(piece) = self.pieces.remove(&number) else { return };
        *self.all.of(layout, &piece) -= 1;
        if !self.damaged.remove(&number) {
            *self.absent.of(layout, &piece) -= 1;
        }
    }
}

impl Counts {
    fn none(layout: Layout) -> Self {
        Self { of_node: vec![0; layout.nodes()], everywhere: 0 }
    }

    /// Whether a node's slices can be read.
    fn are_none(&self, node: usize) -> bool {
        self.everywhere == 0 && self.of_node[node] == 0
    }

    fn of(&mut self, layout: Layout, piece: &WeakPiece) -> &mut usize {
        let node = layout.node_of(piece.slice.0 as usize);
        if piece.everywhere { &mut self.everywhere } else { &mut self.of_node[node] }
    }
}

impl CopyJob {
    /// What the node is told.
    pub(crate) fn items(&self) -> Vec<CopyItem> {
        let item = |piece: &Piece| CopyItem {
            table: piece.table,
            slice: piece.slice,
            file: piece.file.clone(),
        };
        self.pieces.iter().map(item).collect()
    }
}

#[cfg(test)]
mod tests;
