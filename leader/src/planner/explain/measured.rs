//! A plan that has run, with what its tasks on all nodes have measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::metrics::Metric;
use datafusion_distributed::{
    DistributedExec, DistributedMetricsFormat, rewrite_distributed_plan_with_metrics,
};
use futures::FutureExt as _;

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

/// Waits until every task has said its last word, or something at least.
pub(crate) async fn wait_for_metrics(plan: &Plan) {
    if let Some(part) = distributed_part(plan)
        && let Some(distributed) = part.downcast_ref::<DistributedExec>()
    {
        distributed.wait_for_metrics().await;
    }
}

/// The plan with metrics while it runs; None until every task has said something.
pub(crate) fn with_metrics_so_far(plan: &Plan) -> Option<Plan> {
    let Some(distributed) = distributed_part(plan) else { return Some(Arc::clone(plan)) };
    let by_task = DistributedMetricsFormat::PerTask;
    rewrite_distributed_plan_with_metrics(distributed, by_task).now_or_never()?.ok()
}

fn distributed_part(plan: &Plan) -> Option<Plan> {
    if plan.is::<DistributedExec>() {
        return Some(Arc::clone(plan));
    }
    plan.children().into_iter().find_map(distributed_part)
}

/// The slice that a metric is about; the leader's own are taken for those of the first node.
pub(crate) fn slice_of(metric: &Metric, slices_per_node: usize) -> usize {
    let node = usize::try_from(task_of(metric)).unwrap_or_default();
    // What is divided among all slices of the cluster has more partitions than the node has slices.
    node * slices_per_node + metric.partition().unwrap_or_default() % slices_per_node.max(1)
}

/// A gauge of the memory, in bytes, that the query has on each node. All of its tasks there tell the
/// same, each when it was asked or ended.
pub(crate) fn memory_by_node(plan: &Plan, gauge: &str) -> Result<BTreeMap<u64, u64>> {
    let mut nodes = BTreeMap::new();
    plan.apply(|node| {
        let metrics = node.metrics().unwrap_or_default();
        for metric in metrics.iter().filter(|metric| metric.value().name() == gauge) {
            let bytes = nodes.entry(task_of(metric)).or_default();
            *bytes = (metric.value().as_usize() as u64).max(*bytes);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(nodes)
}
