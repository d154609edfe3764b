//! Keeps a join from waiting for a partition that nobody reads.
//!
//! A hash join that collects its whole build side (`CollectLeft`) and pushes a run-time filter to
//! its probe side waits in every partition until all partitions have reported. A join above it, one
//! with a hash table per partition, drops the stream of a partition whose build side is empty
//! without ever polling it; that partition never reports, and the others wait for ever
//! (DataFusion 55; only joins with a hash table per partition report when they are dropped).
//!
//! [`DroppedProbeRule`] puts a [`KeepReportingExec`] on top of such joins. It keeps a stream that
//! is dropped before its first result and polls it, in the background, until the first result is
//! there: by then the partition has reported. The filter itself, which saves most of the work of
//! the scans below, is kept.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::runtime::JoinSet;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::{
    CardinalityEffect, ReplaceChildrenOptions, replace_children_if_necessary,
};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties,
};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;

/// Puts a [`KeepReportingExec`] on every join that needs one. Goes after all rules that push
/// filters down.
#[derive(Debug, Default)]
pub struct DroppedProbeRule;

impl PhysicalOptimizerRule for DroppedProbeRule {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        keep_reporting(plan, false)
    }

    fn name(&self) -> &'static str {
        "dropped_probe"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `may_drop`: an operator above may drop single partitions of `plan` without polling them.
fn keep_reporting(plan: Arc<dyn ExecutionPlan>, may_drop: bool) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.is::<KeepReportingExec>() {
        return Ok(plan);
    }
    let below =
        if reads_all_partitions(&plan) { false } else { may_drop || !reads_what_is_read(&plan) };
    let children = plan.children().into_iter().map(Arc::clone);
    let children =
        children.map(|child| keep_reporting(child, below)).collect::<Result<Vec<_>>>()?;
    let plan =
        if children.is_empty() { plan } else { replace_children_if_necessary(plan, children)? };
    let collects_left = plan
        .downcast_ref::<HashJoinExec>()
        .is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft);
    let waits = collects_left && !plan.dynamic_expressions_produced().is_empty();
    if waits && may_drop && plan.output_partitioning().partition_count() > 1 {
        return Ok(Arc::new(KeepReportingExec::new(plan)));
    }
    Ok(plan)
}

/// Operators that read all partitions of their input in tasks of their own, whoever reads them.
fn reads_all_partitions(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
}

/// Operators that poll a partition of their input as soon as somebody polls theirs.
fn reads_what_is_read(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let collects_left = plan
        .downcast_ref::<HashJoinExec>()
        .is_some_and(|join| *join.partition_mode() == PartitionMode::CollectLeft);
    collects_left
        || plan.is::<FilterExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<AggregateExec>()
        || plan.is::<SortExec>()
}

/// Polls its input up to the first result even if its own stream is dropped before that.
#[derive(Debug)]
pub struct KeepReportingExec {
    input: Arc<dyn ExecutionPlan>,
    execution: Mutex<Option<Arc<Mutex<Background>>>>,
}

/// The streams of one execution, and those of them that were dropped too early.
#[derive(Debug)]
struct Background {
    opened: Vec<bool>,
    /// Streams that somebody holds.
    held: usize,
    tasks: JoinSet<()>,
}

impl KeepReportingExec {
    /// On top of a join that waits for all its partitions.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        Self { input, execution: Mutex::default() }
    }

    /// Counts a stream in; a partition that is opened again belongs to the next execution.
    fn open(&self, partition: usize) -> Arc<Mutex<Background>> {
        let mut execution = self.execution.lock();
        let again = execution.as_ref().is_none_or(|current| current.lock().opened[partition]);
        if again {
            let partitions = self.input.output_partitioning().partition_count();
            *execution = Some(Arc::new(Mutex::new(Background {
                opened: vec![false; partitions],
                held: 0,
                tasks: JoinSet::new(),
            })));
        }
        let current = execution.as_ref().map(Arc::clone);
        let current = current.expect("an execution was started if there was none");
        let mut background = current.lock();
        background.opened[partition] = true;
        background.held += 1;
        drop(background);
        current
    }
}

struct KeepReportingStream {
    schema: SchemaRef,
    /// None once it has returned something: the partition has reported.
    unreported: Option<SendableRecordBatchStream>,
    reported: Option<SendableRecordBatchStream>,
    background: Arc<Mutex<Background>>,
}

impl Stream for KeepReportingStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(stream) = &mut self.reported {
            return stream.poll_next_unpin(context);
        }
        let Some(stream) = &mut self.unreported else { return Poll::Ready(None) };
        let polled = stream.poll_next_unpin(context);
        if polled.is_ready() {
            self.reported = self.unreported.take();
        }
        polled
    }
}

impl RecordBatchStream for KeepReportingStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for KeepReportingStream {
    fn drop(&mut self) {
        let mut background = self.background.lock();
        background.held -= 1;
        if background.held == 0 && background.opened.iter().all(|opened| *opened) {
            // Nobody waits any more: the query has ended or was cancelled.
            background.tasks.abort_all();
            return;
        }
        if let Some(mut stream) = self.unreported.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let first_result = async move { drop(stream.next().await) };
            background.tasks.spawn_on(first_result, &runtime);
        }
    }
}

impl DisplayAs for KeepReportingExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "KeepReportingExec")
            }
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for KeepReportingExec {
    fn name(&self) -> &'static str {
        "KeepReportingExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0))))
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
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(Arc::clone(&self.input))))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let stream = self.input.execute(partition, context)?;
        Ok(Box::pin(KeepReportingStream {
            schema: self.schema(),
            unreported: Some(stream),
            reported: None,
            background: self.open(partition),
        }))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(
        &self,
        input: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&input[0]))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
