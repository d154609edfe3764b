//! Sorts within the memory of a query.
//!
//! DataFusion's sort (55) counts the buffers of a string column once for each 8,192 rows that it
//! gives, so that rows which fit by far are refused, and holds keys for its merges that nothing
//! counts. This one keeps its input in batches with a sorted list and the encoded keys of each, all
//! of it reserved, and merges them as rows are asked for. When the pool has no more, the merged rows
//! are a run on disk; runs are merged by DataFusion's merge in as many passes as its share of memory
//! asks for.

mod external;
mod runs;

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan,
    ExecutionPlanProperties as _, PlanProperties,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use external::Sorter;

/// A [`SortExec`] without a limit, executed by [`Sorter`].
#[derive(Debug)]
pub(super) struct BoundedSortExec {
    /// What it stands for.
    sort: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
}

impl BoundedSortExec {
    pub(super) fn new(sort: Arc<dyn ExecutionPlan>) -> Self {
        Self { sort, metrics: ExecutionPlanMetricsSet::new() }
    }
}

impl DisplayAs for BoundedSortExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sort.fmt_as(format, f)
    }
}

impl ExecutionPlan for BoundedSortExec {
    fn name(&self) -> &str {
        self.sort.name()
    }

    fn downcast_delegate(&self) -> Option<&dyn ExecutionPlan> {
        Some(self.sort.as_ref())
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.sort.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.sort.children()
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        self.sort.benefits_from_input_partitioning()
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sort = Arc::clone(&self.sort).replace_children(children, options)?;
        Ok(Arc::new(Self::new(sort)))
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
        self.sort.apply_expressions(f)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(sort) = self.sort.downcast_ref::<SortExec>() else {
            return self.sort.execute(partition, context);
        };
        let mut input = sort.input().execute(partition, Arc::clone(&context))?;
        let order = sort.expr().clone();
        if sort.input().equivalence_properties().ordering_satisfy(order.clone())? {
            return Ok(input);
        }
        let schema = input.schema();
        let mut sorter =
            Sorter::new(Arc::clone(&schema), order, partition, &context, &self.metrics)?;
        let sorted = stream::once(async move {
            while let Some(batch) = input.next().await {
                sorter.push(batch?).await?;
            }
            drop(input);
            sorter.finish().await
        });
        let sorted = RecordBatchStreamAdapter::new(schema, sorted.try_flatten());
        // What is in memory is merged without waiting for anything.
        Ok(make_cooperative(Box::pin(sorted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        self.sort.child_stats_requests(partition)
    }

    fn statistics_from_inputs(
        &self,
        input: &[Arc<Statistics>],
        arguments: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        self.sort.statistics_from_inputs(input, arguments)
    }
}
