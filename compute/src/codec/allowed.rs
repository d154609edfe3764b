//! Which plan nodes a compute node executes.

use std::sync::Arc;

use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

use crate::error::with_sqlstate;

/// Names of nodes that may run; a `DataSourceExec` only with rows that came with the plan.
const ALLOWED: &[&str] = &[
    // ours
    "SliceScanExec",
    "GuardExec",
    "KeepReportingExec",
    "OnTaskExec",
    "TakeSlicesExec",
    "SliceWriteExec",
    "DeleteRowsExec",
    "DropRepeatedExec",
    "LoadExec",
    // network boundaries
    "BroadcastExec",
    "NetworkBroadcastExec",
    "NetworkCoalesceExec",
    "NetworkShuffleExec",
    // DataFusion's operators
    "AggregateExec",
    "BoundedWindowAggExec",
    "CoalesceBatchesExec",
    "CoalescePartitionsExec",
    "CooperativeExec",
    "CrossJoinExec",
    "EmptyExec",
    "FilterExec",
    "GlobalLimitExec",
    "HashJoinExec",
    "InterleaveExec",
    "LocalLimitExec",
    "NestedLoopJoinExec",
    "PlaceholderRowExec",
    "ProjectionExec",
    "RepartitionExec",
    "SortExec",
    "SortExec(TopK)",
    "SortMergeJoinExec",
    "SortPreservingMergeExec",
    "UnionExec",
    "UnnestExec",
    "WindowAggExec",
];

/// Refuses a plan that holds anything else.
pub(crate) fn check(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    plan.apply(|node| {
        let rows_of_plan = node
            .downcast_ref::<DataSourceExec>()
            .is_some_and(|source| source.data_source().is::<MemorySourceConfig>());
        if rows_of_plan || ALLOWED.contains(&node.name()) {
            return Ok(TreeNodeRecursion::Continue);
        }
        Err(with_sqlstate("42501", format!("a compute node does not execute {}", node.name())))
    })?;
    Ok(())
}
