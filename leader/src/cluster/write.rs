//! A write by all nodes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use compute::WriteOutcome;
use compute::plan::delete_rows::{RowTarget, deleted_rows};
use compute::plan::slice_write::{SEGMENTS_PER_TASK, segment_range, written_segments};
use datafusion::physical_plan::{ExecutionPlan, collect};
use storage::ids::{SegmentId, SliceId};
use storage::row_set::RowSet;
use storage::statistics::SegmentInfo;

use super::NodeSet;
use crate::catalog::{DistributionStyle, TableEntry};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::planner::{WriteEnd, on_large_stack};

/// Rows that an UPDATE replaces, by segment.
pub(crate) type Replaced = Vec<(SegmentId, RowSet)>;

/// Writes the rows of a source plan on the nodes that own their slices. If it fails, or is dropped
/// half way, every node is told to remove what it wrote.
pub(crate) async fn write(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    source: Arc<dyn ExecutionPlan>,
) -> Result<WriteOutcome> {
    Ok(replace(engine, nodes, entry, source, None).await?.0)
}

/// The rows that a source plan names by their ids, its last column. Nothing is written.
pub(crate) async fn delete(
    engine: &Arc<Engine>,
    entry: &TableEntry,
    source: Arc<dyn ExecutionPlan>,
    target: RowTarget,
) -> Result<Replaced> {
    let planning = Arc::clone(engine);
    let version = Arc::new(engine.table_version(entry));
    let plan = on_large_stack(move || planning.planner.delete(source, target, version)).await?;
    let context = engine.planner.state().task_ctx();
    let batches = engine.run(async move { Ok(collect(plan, context).await?) }).await?;
    Ok(deleted_rows(&batches)?)
}

/// [`write()`] of rows that may replace others, whose ids are the last column of the source then.
pub(crate) async fn replace(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    source: Arc<dyn ExecutionPlan>,
    replaces: Option<RowTarget>,
) -> Result<(WriteOutcome, Replaced)> {
    let tasks = nodes.layout().nodes();
    let first = engine.transactions.reserve_segment_ids(tasks as u64 * SEGMENTS_PER_TASK).await?;
    let ids = segment_range(first.0, tasks);
    let mut undo = nodes.undo(entry.id, ids.clone());
    let end = WriteEnd {
        version: Arc::new(engine.table_version(entry)),
        first_segment: first.0,
        turn: nodes.next_turn(),
        replaces,
    };
    let planning = Arc::clone(engine);
    let plan = on_large_stack(move || planning.planner.write(source, &end)).await?;
    let context = engine.planner.state().task_ctx();
    let batches = engine.run(async move { Ok(collect(plan, context).await?) }).await?;
    let segments = written_segments(&batches)?;
    let replaced = deleted_rows(&batches)?;
    check(&segments, &ids, nodes)?;
    let row_count = rows(&segments, entry, nodes)?;
    undo.keep();
    Ok((WriteOutcome { segments, row_count }, replaced))
}

/// Each segment has an id of the task of its slice's node.
fn check(segments: &[(SliceId, SegmentInfo)], ids: &Range<u64>, nodes: &NodeSet) -> Result<()> {
    for (slice, segment) in segments {
        let node = nodes.layout().node_of(slice.0 as usize) as u64;
        let first = ids.start + node * SEGMENTS_PER_TASK;
        if !(first..first + SEGMENTS_PER_TASK).contains(&segment.id.0) {
            let text = format!("segment {} of slice {} was not asked for", segment.id.0, slice.0);
            return Err(Error::Internal(text));
        }
    }
    Ok(())
}

/// The number of rows; of a table on every node each copy must have the same.
fn rows(segments: &[(SliceId, SegmentInfo)], entry: &TableEntry, nodes: &NodeSet) -> Result<u64> {
    let total = segments.iter().map(|(_, segment)| segment.row_count).sum();
    if entry.distribution != DistributionStyle::All {
        return Ok(total);
    }
    let layout = nodes.layout();
    let mut of_node: HashMap<usize, u64> = (0..layout.nodes()).map(|node| (node, 0)).collect();
    for (slice, segment) in segments {
        *of_node.entry(layout.node_of(slice.0 as usize)).or_default() += segment.row_count;
    }
    let first = of_node.get(&0).copied().unwrap_or(0);
    if of_node.values().any(|rows| *rows != first) {
        return Err(Error::Internal("the copies of a table have different numbers of rows".into()));
    }
    Ok(first)
}
