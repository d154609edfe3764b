//! One input of a repartition: divides its rows among the outputs.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::common::utils::memory::get_record_batch_memory_size;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{
    ExecutionPlanMetricsSet, MetricBuilder, SpillMetrics, Time,
};
use datafusion::physical_plan::repartition::BatchPartitioner;
use datafusion::physical_plan::spill::spill_pool::{SpillPoolSink, spsc_channel};
use futures::StreamExt as _;
use parking_lot::Mutex;

use super::memory::Memory;
use super::queues::{Entry, Queues};
use crate::compact::compact;

/// A batch up to this size goes to an output that has nothing to read, even if the pool has no memory
/// for it, one at a time: it is there already, and would come back from the disk at once. Bytes.
const HANDED_OVER_BYTES_MAX: usize = 1 << 20;

/// What the inputs of a repartition have in common while they run.
pub(super) struct Common {
    queues: Arc<Queues>,
    /// For each output.
    ways: Vec<Way>,
    unfinished: AtomicUsize,
    memory: Arc<Memory>,
    spill_manager: Arc<SpillManager>,
    spill_file_bytes_max: usize,
}

/// The way to an output.
struct Way {
    /// Fills batches up.
    coalescer: Mutex<BatchCoalescer>,
    /// Where batches go that do not fit into memory, once there are any. One input after the other
    /// writes, so that there is one file at a time and batches are read in the order of their entries.
    spilled: Mutex<Option<SpillPoolSink>>,
}

impl Common {
    pub(super) fn new(
        queues: Arc<Queues>,
        schema: &SchemaRef,
        inputs: usize,
        outputs: usize,
        context: &TaskContext,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Self {
        let config = context.session_config();
        let batch_size = config.batch_size();
        let way = || {
            // A batch that is full is not copied.
            let coalescer = BatchCoalescer::new(Arc::clone(schema), batch_size)
                .with_biggest_coalesce_batch_size(Some(batch_size - 1));
            Way { coalescer: Mutex::new(coalescer), spilled: Mutex::new(None) }
        };
        let spill_metrics = SpillMetrics::new(metrics, 0);
        let spill_manager =
            SpillManager::new(context.runtime_env(), spill_metrics, Arc::clone(schema))
                .with_compression_type(config.spill_compression());
        Self {
            queues,
            ways: std::iter::repeat_with(way).take(outputs).collect(),
            unfinished: AtomicUsize::new(inputs),
            memory: Memory::new(context.memory_pool()),
            spill_manager: Arc::new(spill_manager),
            spill_file_bytes_max: config.options().execution.max_spill_file_size_bytes.get(),
        }
    }

    fn next_completed(&self, output: usize) -> Option<RecordBatch> {
        self.ways[output].coalescer.lock().next_completed_batch()
    }

    /// Reserves memory for a batch, or writes it to the disk.
    fn entry(&self, output: usize, batch: RecordBatch) -> Result<Entry> {
        let bytes = get_record_batch_memory_size(&batch);
        let reserved = self.memory.try_reserve(bytes);
        let may_hand_over = || bytes <= HANDED_OVER_BYTES_MAX && self.queues.may_hand_over(output);
        if reserved.is_some() || may_hand_over() {
            return Ok(Entry::Held { batch, _reserved: reserved });
        }
        let batch = compact(batch)?;
        let mut spilled = self.ways[output].spilled.lock();
        let sink = spilled.get_or_insert_with(|| {
            let manager = Arc::clone(&self.spill_manager);
            let (sink, batches) = spsc_channel(self.spill_file_bytes_max, manager);
            self.queues.set_spilled(output, batches);
            sink
        });
        sink.push_batch(&batch)?;
        Ok(Entry::Spilled)
    }
}

/// One input, before it runs.
pub(super) struct Input {
    rows: SendableRecordBatchStream,
    partitioner: BatchPartitioner,
    /// For each output: whether somebody reads it.
    is_open: Vec<bool>,
    fetch_time: Time,
    send_time: Time,
}

impl Input {
    pub(super) fn new(
        number: usize,
        rows: SendableRecordBatchStream,
        partitioner: BatchPartitioner,
        outputs: usize,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Self {
        Self {
            rows,
            partitioner,
            is_open: vec![true; outputs],
            fetch_time: MetricBuilder::new(metrics).subset_time("fetch_time", number),
            send_time: MetricBuilder::new(metrics).subset_time("send_time", number),
        }
    }

    /// Gives all rows to the outputs, as long as somebody reads them.
    ///
    /// # Errors
    /// What the input fails with, and what writing to the disk does.
    pub(super) async fn run(mut self, common: &Common) -> Result<()> {
        let mut since_yield = 0;
        while self.is_open.contains(&true) {
            let fetching = self.fetch_time.timer();
            let batch = self.rows.next().await;
            fetching.done();
            let Some(batch) = batch.transpose()? else { break };
            if batch.num_rows() == 0 {
                continue;
            }
            let mut parts = Vec::with_capacity(self.is_open.len());
            self.partitioner.partition(batch, |output, part| {
                parts.push((output, part));
                Ok(())
            })?;
            for (output, part) in parts {
                if self.is_open[output] {
                    common.ways[output].coalescer.lock().push_batch(part)?;
                    self.send_completed(common, output).await?;
                }
            }
            // Those who read should run too, on this thread with what is in its caches.
            since_yield += 1;
            if since_yield > self.is_open.len() {
                tokio::task::yield_now().await;
                since_yield = 0;
            }
        }
        if common.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            for output in 0..self.is_open.len() {
                common.ways[output].coalescer.lock().finish_buffered_batch()?;
                self.send_completed(common, output).await?;
            }
            common.queues.finish();
        }
        Ok(())
    }

    async fn send_completed(&mut self, common: &Common, output: usize) -> Result<()> {
        while let Some(batch) = common.next_completed(output) {
            if self.is_open[output] {
                let send_time = self.send_time.clone();
                let sending = send_time.timer();
                let mut entry = Some(common.entry(output, batch)?);
                let push = |context: &mut Context<'_>| {
                    common.queues.poll_push(output, &mut entry, context)
                };
                self.is_open[output] = poll_fn(push).await;
                sending.done();
            }
        }
        Ok(())
    }
}
