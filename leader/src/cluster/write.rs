//! A write by all nodes: each writes the segments of its slices, those that shall have copies copy
//! them, and only then the segments are anybody's.
//!
//! A node that is away gets its copies when it comes back; the write does not wait for it. A node
//! that is there and cannot take a copy fails the write. A write that loses a node removes what it
//! had written; it may begin again on those that are left, with other segment ids.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use compute::plan::slice_write::{
    SEGMENTS_PER_TASK, WrittenSegment, segment_range, written_segments,
};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect};
use futures::future::join_all;
use storage::ids::{SliceId, TableId};
use storage::statistics::SegmentInfo;

use super::attempts::{Attempts, final_error};
use super::copies::{Acknowledged, CopyJob, Piece, Registered};
use super::{Cluster, NodeSet};
use crate::catalog::{DistributionStyle, TableEntry};
use crate::engine::Engine;
use crate::error::{Error, Result, code};
use crate::execution::Replan;
use crate::planner::{WriteEnd, on_large_stack};

/// Rounds of copying: each is for nodes that came or failed in the one before.
const ROUNDS_MAX: usize = 4;
/// Segments that a node is asked to copy at once.
const SEGMENTS_AT_ONCE_MAX: usize = 64;

/// Durable segments, with copies, that belong to the transaction from now on.
pub(crate) struct Written {
    pub(crate) segments: Vec<(SliceId, Arc<SegmentInfo>)>,
    pub(crate) row_count: u64,
}

/// As [`write()`], planning the source each time, until all nodes that it needs have stayed.
pub(crate) async fn write_repeatedly(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    source: &Replan,
    context: &Arc<TaskContext>,
) -> Result<Written> {
    let mut attempts = Attempts::new(&Cluster::Nodes(Arc::clone(nodes)));
    loop {
        let source = Arc::clone(source);
        let written = async {
            let source = on_large_stack(move || source()).await?;
            write(engine, nodes, entry, source, Arc::clone(context)).await
        };
        match written.await {
            Ok(written) => return Ok(written),
            Err(error) if attempts.again(&error).await => {}
            Err(error) => return Err(final_error(error, false)),
        }
    }
}

/// Writes the rows of a source plan on the nodes that own their slices, with the memory of
/// `context`. If it fails, or is dropped half way, every node is told to remove what it wrote, and
/// it may be called again.
pub(crate) async fn write(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    source: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<Written> {
    let tasks = nodes.layout().nodes();
    let first = engine.transactions.reserve_segment_ids(tasks as u64 * SEGMENTS_PER_TASK).await?;
    let ids = segment_range(first.0, tasks);
    let mut undo = Undo { nodes: Arc::clone(nodes), table: entry.id, ids: Some(ids.clone()) };
    let end = WriteEnd {
        version: Arc::new(engine.table_version(entry)),
        first_segment: first.0,
        turn: nodes.next_turn(),
    };
    let planning = Arc::clone(engine);
    let plan = on_large_stack(move || planning.planner.write(source, &end)).await?;
    let generations = nodes.copies().generations();
    let batches = collect(plan, context).await?;
    let written = written_segments(&batches)?;
    check(&written, &ids, entry, nodes)?;
    let mut acknowledged = Acknowledged::new();
    for segment in &written {
        let node = segment.node;
        acknowledged.insert(segment.info.id, vec![(node, generations[node])]);
    }
    let pieces = pieces(written, entry);
    copy(nodes, &pieces, acknowledged).await?;
    undo.ids = None;
    let row_count = pieces.iter().map(|piece| piece.info.row_count).sum();
    let segments = pieces.into_iter().map(|piece| (piece.slice, piece.info)).collect();
    Ok(Written { segments, row_count })
}

/// Gives the write up unless it was finished.
struct Undo {
    nodes: Arc<NodeSet>,
    table: TableId,
    ids: Option<Range<u64>>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(ids) = self.ids.take() {
            self.nodes.abandon_write(self.table, &ids);
        }
    }
}

/// Each segment has an id of the task that owns its slice; of a table on every node all are of the
/// first slice.
fn check(
    written: &[WrittenSegment],
    ids: &Range<u64>,
    entry: &TableEntry,
    nodes: &NodeSet,
) -> Result<()> {
    for segment in written {
        let (slice, id) = (segment.slice.0 as usize, segment.info.id.0);
        let owner = nodes.layout().node_of(slice) as u64;
        let first = ids.start + owner * SEGMENTS_PER_TASK;
        let asked = match entry.distribution {
            DistributionStyle::All => slice == 0 && ids.contains(&id),
            _ => (first..first + SEGMENTS_PER_TASK).contains(&id),
        };
        if !asked || segment.node >= nodes.layout().nodes() {
            let text = format!("segment {id} of slice {slice} was not asked for");
            return Err(Error::Internal(text));
        }
    }
    Ok(())
}

fn pieces(written: Vec<WrittenSegment>, entry: &TableEntry) -> Vec<Piece> {
    let piece = |segment: WrittenSegment| Piece {
        table: entry.id,
        slice: segment.slice,
        everywhere: entry.distribution == DistributionStyle::All,
        info: Arc::new(segment.info),
    };
    written.into_iter().map(piece).collect()
}

/// Has every node that is there and shall have a copy make one, and makes the segments wanted.
async fn copy(
    nodes: &Arc<NodeSet>,
    pieces: &[Piece],
    mut acknowledged: Acknowledged,
) -> Result<()> {
    let lost = || {
        let message = "a compute node was lost with what it had written";
        Error::statement(code::CONNECTION_FAILURE, message)
    };
    let mut failure = None;
    for _ in 0..ROUNDS_MAX {
        match nodes.copies().register(pieces, &acknowledged, false) {
            Registered::Done => return Ok(()),
            Registered::Lost => return Err(lost()),
            Registered::Copy(jobs) => {
                failure = run(nodes, jobs, &mut acknowledged).await;
                if failure.is_some() {
                    nodes.recheck().await;
                }
            }
        }
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    // A node that came only just gets its copies as one that was away.
    match nodes.copies().register(pieces, &acknowledged, true) {
        Registered::Done => Ok(()),
        Registered::Lost | Registered::Copy(_) => Err(lost()),
    }
}

/// Runs all jobs, those of one node after each other. Answers with the first failure.
async fn run(
    nodes: &Arc<NodeSet>,
    jobs: Vec<CopyJob>,
    acknowledged: &mut Acknowledged,
) -> Option<Error> {
    let mut by_node: HashMap<usize, Vec<CopyJob>> = HashMap::new();
    for job in jobs {
        for pieces in job.pieces.chunks(SEGMENTS_AT_ONCE_MAX) {
            let part = CopyJob { pieces: pieces.to_vec(), ..job };
            by_node.entry(job.to).or_default().push(part);
        }
    }
    let one_node = |jobs: Vec<CopyJob>| async move {
        let mut done = Vec::with_capacity(jobs.len());
        for job in jobs {
            let copied = nodes.copy(&job).await;
            let failed = copied.is_err();
            done.push((job, copied));
            if failed {
                break;
            }
        }
        done
    };
    let mut failure = None;
    for (job, copied) in join_all(by_node.into_values().map(one_node)).await.into_iter().flatten() {
        match copied {
            Ok(()) => {
                for piece in &job.pieces {
                    let nodes = acknowledged.entry(piece.info.id).or_default();
                    nodes.push((job.to, job.generation));
                }
            }
            Err(error) => {
                tracing::info!(to = job.to, from = job.from, %error, "segments were not copied");
                failure = failure.or(Some(error));
            }
        }
    }
    failure
}
