//! A plan that has run, with what its tasks on all nodes have measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use compute::exchange::QUERY_MEMORY_PEAK;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_distributed::{
    DistributedExec, DistributedMetricsFormat, rewrite_distributed_plan_with_metrics,
};

use super::Plan;
use super::actual::task_of;
use crate::error::{Error, Result};

/// How long to wait for the figures of nodes after the last row. They are their last word on a task,
/// so that they are there already.
const FIGURES_WITHIN: Duration = Duration::from_secs(5);

/// The plan with the metrics of all nodes, by task. A plan of one process has them already.
pub(crate) async fn with_metrics(plan: &Plan) -> Result<Plan> {
    let Some(distributed) = distributed_part(plan) else { return Ok(Arc::clone(plan)) };
    let by_task = DistributedMetricsFormat::PerTask;
    let figures = rewrite_distributed_plan_with_metrics(distributed, by_task);
    match tokio::time::timeout(FIGURES_WITHIN, figures).await {
        Ok(plan) => Ok(plan?),
        Err(_) => Err(Error::Internal("a node did not say what it has measured".into())),
    }
}

fn distributed_part(plan: &Plan) -> Option<Plan> {
    if plan.is::<DistributedExec>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(distributed_part)
}

/// The most memory, in bytes, that the query had reserved on each node at one time. All of its tasks
/// there tell the same counter, each when it ends.
pub(crate) fn peak_by_node(plan: &Plan) -> Result<BTreeMap<u64, u64>> {
    let mut nodes = BTreeMap::new();
    plan.apply(|node| {
        let metrics = node.metrics().unwrap_or_default();
        let peaks = metrics.iter().filter(|metric| metric.value().name() == QUERY_MEMORY_PEAK);
        for peak in peaks {
            let bytes = nodes.entry(task_of(peak)).or_default();
            *bytes = (peak.value().as_usize() as u64).max(*bytes);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(nodes)
}
