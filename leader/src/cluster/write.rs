//! A write by all nodes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use compute::WriteOutcome;
use compute::plan::slice_write::{SEGMENTS_PER_TASK, segment_range, written_segments};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, collect};
use storage::ids::{SliceId, TableId};
use storage::statistics::SegmentInfo;

use super::NodeSet;
use crate::catalog::{DistributionStyle, TableEntry};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::planner::{WriteEnd, on_large_stack};

/// Writes the rows of a source plan on the nodes that own their slices, with the memory of
/// `context`. If it fails, or is dropped
/// half way, every node is told to remove what it wrote.
pub(crate) async fn write(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &TableEntry,
    source: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<WriteOutcome> {
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
    let batches = collect(plan, context).await?;
    let segments = written_segments(&batches)?;
    check(&segments, &ids, nodes)?;
    let row_count = rows(&segments, entry, nodes)?;
    undo.ids = None;
    Ok(WriteOutcome { segments, row_count })
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
