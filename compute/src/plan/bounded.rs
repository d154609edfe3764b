//! Operators of ours in the place of DataFusion's, where these do not keep to the memory of a query.
//!
//! Each process does so for what it runs itself. To whoever looks at the plan, the operator is the
//! one that it stands for.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{
    ReplaceChildrenOptions, replace_children_if_necessary,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
};
use datafusion_distributed::NetworkBoundaryExt as _;

use super::repartition::Repartitioning;
use super::sort::Sorting;

/// The same plan with sorts and repartitions that keep to their memory. For one execution, and
/// after all planning.
///
/// Left as they are: a sort that gives a number of its first rows only, and a repartition that
/// merges sorted inputs.
///
/// # Errors
/// Fails if an operator cannot be rebuilt, which would be a defect.
pub fn bounded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    // What other nodes run is theirs to prepare.
    if plan.is_network_boundary() {
        return Ok(plan);
    }
    let children = plan.children().into_iter().map(Arc::clone);
    let children = children.map(bounded).collect::<Result<Vec<_>>>()?;
    let plan =
        if children.is_empty() { plan } else { replace_children_if_necessary(plan, children)? };
    if plan.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_none()) {
        return Ok(BoundedExec::<Sorting>::in_place_of(plan));
    }
    if plan.downcast_ref::<RepartitionExec>().is_some_and(|exec| !exec.preserve_order()) {
        return Ok(BoundedExec::<Repartitioning>::in_place_of(plan));
    }
    Ok(plan)
}

/// How an operator of ours executes one of DataFusion's. A new one has executed nothing yet.
pub(super) trait Execute: fmt::Debug + Default + Send + Sync + 'static {
    /// Executes a partition of `original`.
    fn execute(
        &self,
        original: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream>;
}

/// An operator in all but its execution.
#[derive(Debug)]
struct BoundedExec<E> {
    original: Arc<dyn ExecutionPlan>,
    execute: E,
    metrics: ExecutionPlanMetricsSet,
}

impl<E: Execute> BoundedExec<E> {
    fn in_place_of(original: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let metrics = ExecutionPlanMetricsSet::new();
        Arc::new(Self { original, execute: E::default(), metrics })
    }
}

impl<E> DisplayAs for BoundedExec<E> {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.original.fmt_as(format, f)
    }
}

impl<E: Execute> ExecutionPlan for BoundedExec<E> {
    fn name(&self) -> &str {
        self.original.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.original.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.original.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.original.children()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        self.original.maintains_input_order()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.original.benefits_from_input_partitioning()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let original = Arc::clone(&self.original).replace_children(children, options)?;
        Ok(Self::in_place_of(original))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.original.apply_expressions(f)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.execute.execute(&self.original, partition, context, &self.metrics)
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.original.child_stats_requests(partition)
    }

    fn statistics_from_inputs(
        &self,
        input: &[Arc<Statistics>],
        arguments: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.original.statistics_from_inputs(input, arguments)
    }
}
