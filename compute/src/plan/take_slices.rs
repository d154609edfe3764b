//! Rows that every task has, divided among the tasks by the placement hash.
//!
//! As [`super::on_task`], where the rows must also lie where a KEY table's rows with the same key
//! would: beside a sliced input of a join that is made partition by partition. Partition `p` of the
//! input holds the rows with `hash % partitions == p`; of these, task `t` keeps the ones with
//! `hash % (tasks * partitions) == t * partitions + p`.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::repartition::REPARTITION_RANDOM_STATE;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    PlanProperties,
};
use datafusion_distributed::DistributedTaskContext;
use futures::{Stream, StreamExt};
use prost::Message;

use crate::codec::{Decoder, Encoder};

/// Keeps the rows whose hash belongs to the task.
#[derive(Debug)]
pub struct TakeSlicesExec {
    keys: Vec<Arc<dyn PhysicalExpr>>,
    input: Arc<dyn ExecutionPlan>,
}

/// [`TakeSlicesExec`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TakeSlicesProto {
    #[prost(bytes = "vec", repeated, tag = "1")]
    keys: Vec<Vec<u8>>,
}

impl TakeSlicesExec {
    /// Divides `input`, which is partitioned by the hash of `keys`.
    pub fn new(keys: Vec<Arc<dyn PhysicalExpr>>, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { keys, input }
    }

    pub(crate) fn to_proto(&self, encoder: &Encoder<'_>) -> Result<TakeSlicesProto> {
        Ok(TakeSlicesProto { keys: encoder.exprs(&self.keys)? })
    }

    pub(crate) fn from_proto(
        proto: &TakeSlicesProto,
        input: Arc<dyn ExecutionPlan>,
        decoder: &Decoder<'_>,
    ) -> Result<Self> {
        Ok(Self::new(decoder.exprs(&proto.keys, &input.schema())?, input))
    }
}

struct TakeSlicesStream {
    input: SendableRecordBatchStream,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Partitions of a task.
    partitions: u64,
    tasks: u64,
    task: u64,
}

impl TakeSlicesStream {
    fn own_rows(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let arrays = self.keys.iter().map(|key| key.evaluate(batch)?.into_array(batch.num_rows()));
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let mut hashes = vec![0; batch.num_rows()];
        create_hashes(&arrays, REPARTITION_RANDOM_STATE.random_state(), &mut hashes)?;
        let slices = self.partitions * self.tasks;
        let is_own = |hash: &u64| Some(hash % slices / self.partitions == self.task);
        let own: BooleanArray = hashes.iter().map(is_own).collect();
        Ok(filter_record_batch(batch, &own)?)
    }
}

impl Stream for TakeSlicesStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.input.poll_next_unpin(context);
        polled.map(|batch| batch.map(|batch| self.own_rows(&batch?)))
    }
}

impl RecordBatchStream for TakeSlicesStream {
    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }
}

impl DisplayAs for TakeSlicesExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "TakeSlicesExec: keys=[{}]", keys.join(", "))
            }
            DisplayFormatType::TreeRender => writeln!(f, "keys={}", keys.join(", ")),
        }
    }
}

impl ExecutionPlan for TakeSlicesExec {
    fn name(&self) -> &'static str {
        "TakeSlicesExec"
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
        Ok(Arc::new(Self::new(self.keys.clone(), children.swap_remove(0))))
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
        for key in &self.keys {
            if f(key)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let task = DistributedTaskContext::from_ctx(&context);
        Ok(Box::pin(TakeSlicesStream {
            input: self.input.execute(partition, context)?,
            keys: self.keys.clone(),
            partitions: self.input.output_partitioning().partition_count() as u64,
            tasks: task.task_count as u64,
            task: task.task_index as u64,
        }))
    }
}
