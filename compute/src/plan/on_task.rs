//! Rows that every task has, taken from one of them.
//!
//! A table of DISTSTYLE ALL, and whatever is made of such tables alone, is whole in each task of a
//! stage. Where all tasks' rows flow together, only one task may give its own.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, EmptyRecordBatchStream, ExecutionPlan,
    PlanProperties,
};
use datafusion_distributed::DistributedTaskContext;
use prost::Message;

/// Gives the rows of its input in one task, and none in the others.
#[derive(Debug)]
pub struct OnTaskExec {
    task: usize,
    input: Arc<dyn ExecutionPlan>,
}

/// [`OnTaskExec`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OnTaskProto {
    #[prost(uint64, tag = "1")]
    task: u64,
}

impl OnTaskExec {
    /// The rows of `input` in task `task`.
    pub fn new(task: usize, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { task, input }
    }

    pub(crate) fn to_proto(&self) -> OnTaskProto {
        OnTaskProto { task: self.task as u64 }
    }

    pub(crate) fn from_proto(proto: &OnTaskProto, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { task: usize::try_from(proto.task).unwrap_or(usize::MAX), input }
    }
}

impl DisplayAs for OnTaskExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "OnTaskExec: task={}", self.task)
            }
            DisplayFormatType::TreeRender => writeln!(f, "task={}", self.task),
        }
    }
}

impl ExecutionPlan for OnTaskExec {
    fn name(&self) -> &'static str {
        "OnTaskExec"
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
        Ok(Arc::new(Self::new(self.task, children.swap_remove(0))))
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

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if DistributedTaskContext::from_ctx(&context).task_index == self.task {
            return self.input.execute(partition, context);
        }
        Ok(Box::pin(EmptyRecordBatchStream::new(self.schema())))
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
}
