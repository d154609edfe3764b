//! Repartitions within the memory of a query.
//!
//! DataFusion's repartition (55) writes batches that do not fit into memory to files that all inputs
//! share, and reads these one after the other. An output can come to wait for a file that nobody
//! adds to while its batch is in the next one; when all outputs do, inputs wait for outputs and
//! outputs for inputs, for ever. Here one input after the other writes to one file for each output, so
//! that an output that waits for a batch waits for the disk only; and a batch for an output that has
//! nothing else to read does not take the way over the disk.

mod input;
mod memory;
mod queues;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::repartition::{BatchPartitioner, RepartitionExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use futures::{FutureExt as _, Stream, StreamExt as _};
use parking_lot::Mutex;

use super::bounded::Execute;
use super::guard::panicked;
use input::{Common, Input};
use queues::{Entry, Queues};

/// Executes a [`RepartitionExec`] that does not merge sorted inputs by [`Input`]s and [`Output`]s.
#[derive(Debug, Default)]
pub(super) struct Repartitioning {
    /// The one of which outputs can still be had; none before the first, and when all outputs are
    /// closed.
    execution: Arc<Mutex<Option<Arc<Execution>>>>,
}

impl Repartitioning {
    /// What all outputs share: made by the first of them. An output that is wanted once more belongs
    /// to another execution: joins read a side again when it did not fit into memory.
    fn execution(
        &self,
        exec: &RepartitionExec,
        partition: usize,
        context: &Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Arc<Execution>> {
        let mut current = self.execution.lock();
        if let Some(execution) = &*current
            && execution.open(partition)
        {
            return Ok(Arc::clone(execution));
        }
        let input = exec.input();
        let inputs = input.output_partitioning().partition_count();
        let outputs = exec.partitioning().partition_count();
        let new_input = |number| {
            let rows = input.execute(number, Arc::clone(context))?;
            let time = MetricBuilder::new(metrics).subset_time("repartition_time", number);
            let partitioner =
                BatchPartitioner::try_new(exec.partitioning().clone(), time, number, inputs)?;
            Ok(Input::new(number, rows, partitioner, outputs, metrics))
        };
        let ready = (0..inputs).map(new_input).collect::<Result<_>>()?;
        let execution = Arc::new(Execution {
            queues: Arc::new(Queues::new(outputs)),
            opened: Mutex::new(vec![false; outputs]),
            inputs: Mutex::new(Inputs::Ready(ready)),
            schema: input.schema(),
            context: Arc::clone(context),
            metrics: metrics.clone(),
        });
        execution.open(partition);
        *current = Some(Arc::clone(&execution));
        Ok(execution)
    }
}

impl Execute for Repartitioning {
    fn execute(
        &self,
        original: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let Some(exec) = original.downcast_ref::<RepartitionExec>() else {
            return original.execute(partition, context);
        };
        let output = Output {
            number: partition,
            schema: exec.schema(),
            execution: self.execution(exec, partition, &context, metrics)?,
            current: Arc::clone(&self.execution),
            is_started: false,
            spilled: None,
            is_on_disk: false,
            has_ended: false,
            metrics: BaselineMetrics::new(metrics, partition),
        };
        Ok(make_cooperative(Box::pin(output)))
    }
}

/// All inputs and the queues to all outputs.
struct Execution {
    queues: Arc<Queues>,
    /// For each output, whether it was taken.
    opened: Mutex<Vec<bool>>,
    inputs: Mutex<Inputs>,
    schema: SchemaRef,
    context: Arc<TaskContext>,
    metrics: ExecutionPlanMetricsSet,
}

impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Execution").finish_non_exhaustive()
    }
}

enum Inputs {
    /// No output is read yet.
    Ready(Vec<Input>),
    /// Ended when this is dropped.
    Running { _tasks: Vec<SpawnedTask<()>> },
    /// Nobody reads an output any more.
    Ended,
}

impl Execution {
    /// Takes an output; false if it was taken before.
    fn open(&self, output: usize) -> bool {
        !std::mem::replace(&mut self.opened.lock()[output], true)
    }

    /// Lets the inputs run, each in a task of its own. What they have in common goes with the last.
    fn start(&self) {
        let mut inputs = self.inputs.lock();
        if let Inputs::Ready(ready) = &mut *inputs {
            let ready = std::mem::take(ready);
            let outputs = self.opened.lock().len();
            let common = Arc::new(Common::new(
                Arc::clone(&self.queues),
                &self.schema,
                ready.len(),
                outputs,
                &self.context,
                &self.metrics,
            ));
            let tasks = ready.into_iter().map(|input| {
                let (common, queues) = (Arc::clone(&common), Arc::clone(&self.queues));
                SpawnedTask::spawn(async move {
                    let run = AssertUnwindSafe(input.run(&common)).catch_unwind().await;
                    if let Err(error) = run.unwrap_or_else(|panic| Err(panicked(&panic))) {
                        queues.fail(error);
                    }
                })
            });
            *inputs = Inputs::Running { _tasks: tasks.collect() };
        }
    }

    fn end(&self) {
        let inputs = std::mem::replace(&mut *self.inputs.lock(), Inputs::Ended);
        drop(inputs);
    }
}

/// One output: the rows in its queue.
struct Output {
    number: usize,
    schema: SchemaRef,
    execution: Arc<Execution>,
    /// Where the execution is, for as long as outputs of it can be had.
    current: Arc<Mutex<Option<Arc<Execution>>>>,
    is_started: bool,
    /// What was written to the disk for this output.
    spilled: Option<SendableRecordBatchStream>,
    /// The next batch comes from there.
    is_on_disk: bool,
    /// After the last row or an error.
    has_ended: bool,
    metrics: BaselineMetrics,
}

impl Output {
    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<RecordBatch>>> {
        if !std::mem::replace(&mut self.is_started, true) {
            self.execution.start();
        }
        loop {
            if self.is_on_disk {
                let Some(spilled) = &mut self.spilled else {
                    return Poll::Ready(Some(internal_err!("rows on disk came without a stream")));
                };
                let batch = ready!(spilled.poll_next_unpin(context));
                self.is_on_disk = false;
                let batch = batch.unwrap_or_else(|| internal_err!("rows on disk are missing"));
                return Poll::Ready(Some(batch));
            }
            match ready!(self.execution.queues.poll_pop(self.number, context)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // Whoever takes the rows reserves what it keeps.
                Some(Ok(Entry::Held { batch, .. })) => return Poll::Ready(Some(Ok(batch))),
                Some(Ok(Entry::Spilled)) => {
                    if self.spilled.is_none() {
                        self.spilled = self.execution.queues.take_spilled(self.number);
                    }
                    self.is_on_disk = true;
                }
            }
        }
    }
}

impl Stream for Output {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let time = self.metrics.elapsed_compute().clone();
        let timer = time.timer();
        let polled = self.poll_batch(context);
        timer.done();
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.has_ended = true;
        }
        self.metrics.record_poll(polled)
    }
}

impl RecordBatchStream for Output {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.execution.queues.close(self.number) {
            self.execution.end();
            let mut current = self.current.lock();
            if current.as_ref().is_some_and(|known| Arc::ptr_eq(known, &self.execution)) {
                *current = None;
            }
        }
    }
}
