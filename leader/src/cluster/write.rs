//! A write by all nodes: each writes the segments of its slices, those that shall have copies copy
//! them, and only then the segments are anybody's.
//!
//! A node that is away gets its copies when it comes back; the write does not wait for it. A node
//! that is there and cannot take a copy fails the write. A write that loses a node removes what it
//! had written; it may begin again on those that are left, with other segment ids.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use compute::FileInfo;
use compute::plan::delete_rows::{RowTarget, deleted_rows};
use compute::plan::slice_write::{
    SEGMENTS_PER_TASK, WrittenSegment, segment_range, written_segments,
};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect};
use faults::Defect;
use futures::future::join_all;
use storage::ids::SegmentId;
use storage::row_set::RowSet;

use super::attempts::{Attempts, final_error};
use super::copies::{Acknowledged, CopyJob, Registered};
use super::{Cluster, NodeSet, Piece};
use crate::catalog::{DistributionStyle, TableEntry};
use crate::engine::Engine;
use crate::error::{Error, Result, code};
use crate::execution::Replan;
use crate::planner::{WriteEnd, on_large_stack};
use crate::transaction::Written;

/// Rounds of copying: each is for nodes that came or failed in the one before.
const ROUNDS_MAX: usize = 4;
/// Files that a node is asked to copy at once.
const FILES_AT_ONCE_MAX: usize = 64;

/// Rows that a statement deletes or replaces, by segment.
pub(crate) type Replaced = Vec<(SegmentId, RowSet)>;

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

/// The rows that a source plan names by their ids, its last column. Nothing is written.
pub(crate) async fn delete(
    engine: &Arc<Engine>,
    source: Arc<dyn ExecutionPlan>,
    target: RowTarget,
    context: Arc<TaskContext>,
) -> Result<Replaced> {
    let planning = Arc::clone(engine);
    let plan = on_large_stack(move || planning.planner.delete(source, target)).await?;
    Ok(deleted_rows(&collect(plan, context).await?)?)
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
    Ok(replace(engine, nodes, entry, source, None, context).await?.0)
}

/// [`write()`] of rows that may replace others, whose ids are the last column of the source then.
pub(crate) async fn replace(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    source: Arc<dyn ExecutionPlan>,
    replaces: Option<RowTarget>,
    context: Arc<TaskContext>,
) -> Result<(Written, Replaced)> {
    let tasks = nodes.layout().nodes();
    let first = engine.transactions.reserve_segment_ids(tasks as u64 * SEGMENTS_PER_TASK).await?;
    let ids = segment_range(first.0, tasks);
    let mut undo = nodes.undo(entry.id, ids.clone());
    let end = WriteEnd {
        version: Arc::new(engine.write_version(entry)),
        first_segment: first.0,
        turn: nodes.next_turn(),
        replaces,
    };
    let planning = Arc::clone(engine);
    let plan = on_large_stack(move || planning.planner.write(source, &end)).await?;
    let generations = nodes.copies().generations();
    let batches = collect(plan, context).await?;
    let replaced = deleted_rows(&batches)?;
    let written = written_segments(&batches)?;
    check(&written, &ids, entry, nodes)?;
    let mut acknowledged = Acknowledged::new();
    let (mut segments, mut pieces) = (Vec::new(), Vec::new());
    for WrittenSegment { slice, info, node } in written {
        acknowledged.insert(info.id, vec![(node, generations[node])]);
        let info = Arc::new(info);
        pieces.push(Piece {
            table: entry.id,
            slice,
            everywhere: entry.distribution == DistributionStyle::All,
            file: FileInfo::Segment(Arc::clone(&info)),
        });
        segments.push((slice, info));
    }
    copy(nodes, &pieces, acknowledged).await?;
    undo.keep();
    Ok((Written::new(&engine.transactions, entry, segments), replaced))
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

/// Has every node that is there and shall have a copy make one, and makes the files wanted.
pub(super) async fn copy(
    nodes: &Arc<NodeSet>,
    pieces: &[Piece],
    mut acknowledged: Acknowledged,
) -> Result<()> {
    let lost = || {
        let message = "a compute node was lost with what it had written";
        Error::statement(code::CONNECTION_FAILURE, message)
    };
    if faults::planted(Defect::AcknowledgeBeforeCopies) {
        return Ok(());
    }
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
        for pieces in job.pieces.chunks(FILES_AT_ONCE_MAX) {
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
                    let nodes = acknowledged.entry(piece.number()).or_default();
                    nodes.push((job.to, job.generation));
                }
            }
            Err(error) => {
                tracing::info!(to = job.to, from = job.from, %error, "files were not copied");
                failure = failure.or(Some(error));
            }
        }
    }
    failure
}
