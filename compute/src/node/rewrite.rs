//! VACUUM of one slice: decides which segments to write again, and does it.
//!
//! Nothing of it counts before the leader's commit. The rewrite runs on a thread of its own, pauses
//! while the node is scanned if it is to give way, and takes a bounded part of the node's memory.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::memory_pool::MemoryConsumer;
use storage::SEGMENT_ROWS_MAX;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{ColumnId, SegmentId, SliceId, TableId};
use storage::rewrite::{RewriteOptions, RewriteTarget, RowOrder, rewrite_segments, rows_together};
use storage::schema::TableSchema;
use storage::segment::Segment;
use storage::sort_order::{SegmentOrder, SortedRows, overlapping_segments};
use storage::statistics::SegmentInfo;

use super::{FileInfo, Node};
use crate::error::Error;

/// What VACUUM is to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteGoal {
    /// So many percent of the rows in the order of the sort key; `None`: whatever their order.
    pub sorted_percent: Option<u8>,
    /// So many percent of the stored rows live, and of the bytes of each segment are of columns that
    /// the table has; `None`: whatever their part.
    pub live_percent: Option<u8>,
    /// Small segments are put together.
    pub joins_small: bool,
}

/// A slice of a table to be rewritten.
#[derive(Clone)]
pub struct RewriteRequest {
    /// The table.
    pub table: TableId,
    /// Its columns and sort key.
    pub schema: Arc<TableSchema>,
    /// The slice.
    pub slice: SliceId,
    /// All its segments, with the deletion vectors that count.
    pub segments: Vec<(Arc<SegmentInfo>, Option<Arc<DeletionVectorInfo>>)>,
    /// What to reach.
    pub goal: RewriteGoal,
    /// Ids for new segments and for temporary ones.
    pub ids: std::ops::Range<u64>,
    /// It gives way to queries: to the scans of the node.
    pub gives_way: bool,
    /// Asked again and again whether to go on.
    pub may_go_on: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// Segments that others can take the place of.
#[derive(Debug, Clone, PartialEq)]
pub struct RewrittenSegments {
    /// The segments that were read.
    pub sources: Vec<SegmentId>,
    /// Segments with all their live rows.
    pub segments: Vec<SegmentInfo>,
}

/// Rows of a segment that is not small.
const SMALL_SEGMENT_ROWS: u64 = SEGMENT_ROWS_MAX as u64 / 2;
/// The part of the node's memory for a rewrite.
const MEMORY_DIVISOR: usize = 8;
/// The least memory of a rewrite, bytes.
const MEMORY_BYTES_MIN: usize = 16 << 20;
/// How long a rewrite pauses at a time for scans, and how often before it goes on in any case.
const PAUSE: Duration = Duration::from_millis(5);
const PAUSES_MAX: usize = 20;

impl Node {
    /// Rewrites what the goal asks for; `None` if it was told to stop. On an error, and after a stop,
    /// no file is left, or an orphan.
    ///
    /// # Errors
    /// When a segment cannot be read or written, and when there is not the least of memory.
    pub fn rewrite_slice(
        &self,
        request: &RewriteRequest,
    ) -> Result<Option<Vec<RewrittenSegments>>, Error> {
        let mut segments = Vec::with_capacity(request.segments.len());
        for (info, vector) in &request.segments {
            let (table, slice) = (request.table, request.slice);
            let segment = self.live_segment(table, slice, info, vector.as_deref(), &request.schema);
            segments.push(segment?);
        }
        let Some(groups) = choose(self, &segments, request)? else { return Ok(None) };
        let mut done = Vec::new();
        let mut target = Target { node: self, request, next: request.ids.start };
        for group in groups {
            let sources: Vec<Segment> =
                group.members.iter().map(|at| segments[*at].clone()).collect();
            let written = self.rewrite_group(&sources, group.order, &mut target);
            match written {
                Ok(Some(segments)) => {
                    let sources = sources.iter().map(Segment::id).collect();
                    done.push(RewrittenSegments { sources, segments });
                }
                other => {
                    self.remove_rewritten(request, &done);
                    return other.map(|_| None);
                }
            }
        }
        // Asked after the files are there: who gives the ids up removes what is there by then.
        if self.is_abandoned(SegmentId(request.ids.start)) {
            self.remove_rewritten(request, &done);
            return Ok(None);
        }
        Ok(Some(done))
    }

    fn rewrite_memory_bytes(&self) -> usize {
        (self.memory_bytes() / MEMORY_DIVISOR).max(MEMORY_BYTES_MIN)
    }

    fn rewrite_group(
        &self,
        sources: &[Segment],
        order: RowOrder,
        target: &mut Target<'_>,
    ) -> Result<Option<Vec<SegmentInfo>>, Error> {
        let memory_bytes = self.rewrite_memory_bytes();
        let runtime = self.runtime_env();
        let reservation = MemoryConsumer::new("rewrite").register(&runtime.memory_pool);
        let reserved = reservation.try_grow(memory_bytes);
        reserved.map_err(|error| Error::Rewrite(error.strip_backtrace()))?;
        let options = RewriteOptions { order, memory_bytes, segment_rows: SEGMENT_ROWS_MAX };
        let written = rewrite_segments(self.io(), sources, &options, target)?;
        for info in written.iter().flatten() {
            let (table, slice) = (target.request.table, target.request.slice);
            let path = self.segment_path(table, slice, info.id);
            let checked = self.check_written(&path, &FileInfo::Segment(Arc::new(info.clone())));
            if let Err(error) = checked {
                let segments = written.into_iter().flatten().collect();
                let done = RewrittenSegments { sources: Vec::new(), segments };
                self.remove_rewritten(target.request, &[done]);
                return Err(error.into());
            }
        }
        Ok(written)
    }

    /// Whether to go on, after giving way if that is asked for.
    fn may_go_on(&self, request: &RewriteRequest) -> bool {
        let goes_on = || !self.is_abandoned(SegmentId(request.ids.start)) && (request.may_go_on)();
        for _ in 0..PAUSES_MAX {
            if !request.gives_way || !self.is_scanned() || !goes_on() {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        goes_on()
    }

    fn remove_rewritten(&self, request: &RewriteRequest, done: &[RewrittenSegments]) {
        let written = done.iter().flat_map(|group| &group.segments);
        let files = written.map(|s| (request.slice, super::StoredFile::Segment(s.id)));
        if let Err(error) = self.remove_stored(request.table, files) {
            tracing::warn!(%error, "cannot remove rewritten segments; the next start does");
        }
    }
}

/// Segments to rewrite together.
struct Group {
    members: Vec<usize>,
    order: RowOrder,
}

impl Group {
    fn sorted(members: Vec<usize>) -> Self {
        Self { members, order: RowOrder::Sorted }
    }

    fn kept(members: Vec<usize>) -> Self {
        Self { members, order: RowOrder::Kept }
    }
}

/// What to rewrite; `None` if the request was stopped.
fn choose(
    node: &Node,
    segments: &[Segment],
    request: &RewriteRequest,
) -> Result<Option<Vec<Group>>, Error> {
    let goal = request.goal;
    let has_key = !request.schema.sort_key.is_empty();
    let is_small =
        |segment: &Segment| is_small(segment, &request.schema, node.rewrite_memory_bytes());
    let mut groups: Vec<Group> = Vec::new();
    let mut sorts = false;
    match goal.sorted_percent {
        Some(percent) if has_key => {
            let Some(orders) = read_orders(node, segments, request)? else { return Ok(None) };
            let rows: Vec<_> =
                orders.iter().zip(segments).map(|(o, s)| (o, s.live_rows())).collect();
            sorts = !SortedRows::count(&rows).reach(percent);
            let orders: Vec<&SegmentOrder> = orders.iter().collect();
            let by_key = overlapping_segments(&orders);
            if sorts {
                let is_sorted =
                    |members: &[usize]| members.len() == 1 && orders[members[0]].is_sorted();
                let unsorted = by_key.iter().filter(|members| !is_sorted(members));
                groups.extend(unsorted.map(|members| Group::sorted(members.clone())));
            }
            if goal.joins_small {
                groups.extend(small_neighbours(segments, by_key, &groups, is_small));
            }
        }
        _ if goal.joins_small && !has_key => {
            let small = (0..segments.len()).filter(|at| is_small(&segments[*at])).collect();
            groups.extend(in_turn(segments, small).into_iter().filter(|g| g.members.len() > 1));
        }
        _ => {}
    }
    if let Some(percent) = goal.live_percent {
        let chosen: HashSet<usize> =
            groups.iter().flat_map(|group| group.members.iter().copied()).collect();
        let takes_rows = sorts || !reaches_live(segments, percent);
        let has_waste = |at: &usize| {
            let (info, _) = &request.segments[*at];
            let dropped = dropped_bytes(info, |id| has_column(&request.schema, id));
            takes_rows && segments[*at].deletions().is_some()
                || is_more_than_the_rest(dropped, info.byte_count, percent)
        };
        let chosen = (0..segments.len()).filter(|at| !chosen.contains(at)).filter(has_waste);
        if has_key {
            // One by one: put together they might lie across others.
            groups.extend(chosen.map(|at| Group::kept(vec![at])));
        } else {
            groups.extend(in_turn(segments, chosen.collect()));
        }
    }
    Ok(Some(groups))
}

/// Bytes of columns of a segment that the table does not have any more.
pub fn dropped_bytes(segment: &SegmentInfo, is_there: impl Fn(ColumnId) -> bool) -> u64 {
    let dropped = segment.columns.iter().filter(|column| !is_there(column.id));
    dropped.map(|column| column.encoded_bytes).sum()
}

/// Whether a part is more than what `percent` leaves of the whole.
pub fn is_more_than_the_rest(part: u64, whole: u64, percent: u8) -> bool {
    u128::from(part) * 100 > u128::from(whole) * u128::from(100_u8.saturating_sub(percent))
}

fn has_column(schema: &TableSchema, id: ColumnId) -> bool {
    schema.columns.iter().any(|column| column.id == id)
}

/// The order of each segment; `None` if the request was stopped.
fn read_orders(
    node: &Node,
    segments: &[Segment],
    request: &RewriteRequest,
) -> Result<Option<Vec<SegmentOrder>>, Error> {
    let mut orders = Vec::with_capacity(segments.len());
    for segment in segments {
        if !node.may_go_on(request) {
            return Ok(None);
        }
        orders.push(SegmentOrder::read(segment)?);
    }
    Ok(Some(orders))
}

/// Whether two such segments would be one. Wide rows make no large segments: they would be written
/// again and again in vain.
fn is_small(segment: &Segment, schema: &TableSchema, memory_bytes: usize) -> bool {
    let together = rows_together(schema, segment, memory_bytes) / 2;
    segment.live_rows() < SMALL_SEGMENT_ROWS.min(together)
}

fn reaches_live(segments: &[Segment], percent: u8) -> bool {
    let live: u64 = segments.iter().map(Segment::live_rows).sum();
    let all: u64 = segments.iter().map(Segment::row_count).sum();
    u128::from(live) * 100 >= u128::from(all) * u128::from(percent)
}

/// Small segments between which no other lies by the sort key. `by_key` has all segments.
fn small_neighbours(
    segments: &[Segment],
    by_key: Vec<Vec<usize>>,
    chosen: &[Group],
    is_small: impl Fn(&Segment) -> bool,
) -> Vec<Group> {
    let is_chosen =
        |members: &[usize]| chosen.iter().any(|group| group.members.first() == members.first());
    let mut runs: Vec<Vec<usize>> = vec![Vec::new()];
    for members in by_key {
        let is_free = !is_chosen(&members) && members.iter().all(|at| is_small(&segments[*at]));
        match runs.last_mut() {
            Some(run) if is_free => run.extend(members),
            _ => runs.push(Vec::new()),
        }
    }
    runs.into_iter().filter(|run| run.len() > 1).map(Group::sorted).collect()
}

/// Groups in the order of the segments, so many in each as make a few new ones.
fn in_turn(segments: &[Segment], chosen: Vec<usize>) -> Vec<Group> {
    const GROUP_ROWS: u64 = 4 * SEGMENT_ROWS_MAX as u64;
    let mut groups: Vec<Group> = Vec::new();
    let mut rows = 0;
    for at in chosen {
        let own = segments[at].live_rows();
        match groups.last_mut() {
            Some(group) if rows + own <= GROUP_ROWS => {
                group.members.push(at);
                rows += own;
            }
            _ => {
                groups.push(Group::kept(vec![at]));
                rows = own;
            }
        }
    }
    groups
}

/// Gives a rewrite its files, and stops it.
struct Target<'a> {
    node: &'a Node,
    request: &'a RewriteRequest,
    next: u64,
}

impl RewriteTarget for Target<'_> {
    fn next_file(&mut self) -> (SegmentId, PathBuf) {
        let id = SegmentId(self.next);
        self.next += 1;
        assert!(self.next <= self.request.ids.end, "a rewrite has ids enough");
        (id, self.node.segment_path(self.request.table, self.request.slice, id))
    }

    fn advance(&mut self, _: usize) -> ControlFlow<()> {
        if self.node.may_go_on(self.request) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}
