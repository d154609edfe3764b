//! One partition of a sort: what is in memory, what is on disk, and what is reserved.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::SpillManager;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, RecordOutput as _, SpillMetrics,
};
use datafusion::physical_plan::sorts::streaming_merge::{SortedSpillFile, StreamingMergeBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use tokio::task::consume_budget;

use super::runs::{Merge, Run};
use crate::compact::compact;
use crate::merge_share;

/// A merge of runs should get this many of them into its share of memory; for each it reserves four
/// batches.
const FAN_IN: usize = 16;

/// The fewest rows of a batch on disk.
const SPILL_ROWS_MIN: usize = 16;

/// Sorts the rows that are pushed into it.
pub(super) struct Sorter {
    schema: SchemaRef,
    order: LexOrdering,
    keys: RowConverter,
    /// Makes full batches of small ones, and takes rows out of buffers that hold others too.
    incoming: BatchCoalescer,
    runs: Vec<Run>,
    /// For `runs`.
    reservation: MemoryReservation,
    /// What the runs hold beyond it.
    unreserved_bytes: usize,
    /// Kept back for the rows of a run on its way to the disk, and for the merge at the end.
    kept_back: MemoryReservation,
    kept_back_bytes: usize,
    /// What a merge may reserve, bytes.
    merge_bytes: usize,
    spilled: Vec<SortedSpillFile>,
    spill_manager: SpillManager,
    batch_size: usize,
    /// Rows in a batch on disk: the fewest that a run was written with.
    spill_rows: usize,
    metrics: BaselineMetrics,
}

impl Sorter {
    pub(super) fn new(
        schema: SchemaRef,
        order: LexOrdering,
        partition: usize,
        context: &TaskContext,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Self> {
        let runtime = context.runtime_env();
        let pool = &runtime.memory_pool;
        let reservation = MemoryConsumer::new(format!("ExternalSorter[{partition}]"))
            .with_can_spill(true)
            .register(pool);
        let kept_back =
            MemoryConsumer::new(format!("{}[{partition}]", merge_share::MERGE)).register(pool);
        let merge_bytes = merge_share::share(pool.as_ref());
        let fields = order.iter().map(|key| {
            let data_type = key.expr.data_type(&schema)?;
            Ok(SortField::new_with_options(data_type, key.options))
        });
        let keys = RowConverter::new(fields.collect::<Result<Vec<_>>>()?)?;
        let config = context.session_config();
        let spill_metrics = SpillMetrics::new(metrics, partition);
        let spill_manager = SpillManager::new(runtime, spill_metrics, Arc::clone(&schema))
            .with_compression_type(config.spill_compression());
        Ok(Self {
            incoming: BatchCoalescer::new(Arc::clone(&schema), config.batch_size()),
            schema,
            order,
            keys,
            runs: Vec::new(),
            reservation,
            unreserved_bytes: 0,
            kept_back,
            kept_back_bytes: config.options().execution.sort_spill_reservation_bytes,
            merge_bytes,
            spilled: Vec::new(),
            spill_manager,
            batch_size: config.batch_size(),
            spill_rows: config.batch_size(),
            metrics: BaselineMetrics::new(metrics, partition),
        })
    }

    /// Takes more rows, and writes what it has to the disk if there is no memory for them.
    pub(super) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.incoming.push_batch(batch)?;
        self.take_completed().await
    }

    async fn take_completed(&mut self) -> Result<()> {
        while let Some(batch) = self.incoming.next_completed_batch() {
            // The coalescer leaves room in its buffers.
            let run = self.sorted(compact(batch)?)?;
            self.hold(run).await?;
            consume_budget().await;
        }
        Ok(())
    }

    fn sorted(&self, batch: RecordBatch) -> Result<Run> {
        let _timer = self.metrics.elapsed_compute().timer();
        let columns = self.order.iter().map(|key| {
            let value = key.expr.evaluate(&batch)?;
            value.into_array(batch.num_rows())
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let keys = self.keys.convert_columns(&columns)?;
        Ok(Run::new(batch, keys))
    }

    /// Keeps the run in memory that is reserved for it.
    async fn hold(&mut self, run: Run) -> Result<()> {
        if self.kept_back.size() < self.kept_back_bytes {
            self.kept_back.try_resize(self.kept_back_bytes).map_err(no_memory)?;
        }
        let bytes = run.size_bytes();
        let mut is_reserved = self.reservation.try_grow(bytes).is_ok();
        if !is_reserved && !self.runs.is_empty() {
            self.spill().await?;
            is_reserved = self.reservation.try_grow(bytes).is_ok();
        }
        if !is_reserved {
            // Others have it all. The batch is there already; a few fit into what is kept back.
            self.unreserved_bytes += bytes;
        }
        self.runs.push(run);
        if self.unreserved_bytes > self.kept_back_bytes / 2 {
            self.spill().await?;
        }
        Ok(())
    }

    /// Writes all rows in memory to the disk, in order.
    async fn spill(&mut self) -> Result<()> {
        let rows: usize = self.runs.iter().map(Run::row_count).sum();
        let bytes = self.reservation.size() + self.unreserved_bytes;
        let row_bytes = bytes.div_ceil(rows.max(1)).max(1);
        let batch_bytes = self.merge_bytes / FAN_IN / 4;
        let batch_rows = (batch_bytes / row_bytes).max(SPILL_ROWS_MIN).min(self.batch_size);
        self.spill_rows = self.spill_rows.min(batch_rows);
        let mut merge = Merge::new(Arc::clone(&self.schema), std::mem::take(&mut self.runs));
        let mut file = self.spill_manager.create_in_progress_file("Sorting")?;
        let mut max_record_batch_memory = 0;
        loop {
            let timer = self.metrics.elapsed_compute().timer();
            let Some(batch) = merge.next_batch(batch_rows)? else { break };
            max_record_batch_memory = max_record_batch_memory.max(file.append_batch(&batch)?);
            drop(timer);
            consume_budget().await;
        }
        drop(merge);
        self.reservation.free();
        self.unreserved_bytes = 0;
        let file = file.finish()?;
        let file = file.ok_or_else(|| internal_datafusion_err!("a sorted run has no file"))?;
        self.spilled.push(SortedSpillFile { file, max_record_batch_memory });
        Ok(())
    }

    /// All rows in order.
    pub(super) async fn finish(mut self) -> Result<SendableRecordBatchStream> {
        self.incoming.finish_buffered_batch()?;
        self.take_completed().await?;
        if self.spilled.is_empty() {
            return Ok(self.from_memory());
        }
        if !self.runs.is_empty() {
            self.spill().await?;
        }
        StreamingMergeBuilder::new()
            .with_sorted_spill_files(self.spilled)
            .with_spill_manager(self.spill_manager)
            .with_schema(self.schema)
            .with_expressions(&self.order)
            .with_metrics(self.metrics)
            .with_batch_size(self.spill_rows)
            .with_fetch(None)
            .with_reservation(self.kept_back.take())
            .build()
    }

    fn from_memory(self) -> SendableRecordBatchStream {
        let Self { schema, runs, reservation, kept_back, batch_size, metrics, .. } = self;
        drop(kept_back);
        let merge = Merge::new(Arc::clone(&schema), runs);
        let rows = stream::try_unfold((merge, reservation), move |(mut merge, reservation)| {
            let timer = metrics.elapsed_compute().timer();
            let batch = merge.next_batch(batch_size);
            drop(timer);
            let given = batch.map(|batch| {
                batch.map(|batch| (batch.record_output(&metrics), (merge, reservation)))
            });
            async move { given }
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

fn no_memory(error: DataFusionError) -> DataFusionError {
    error.context("A sort has too little memory to merge what it would write to disk.")
}
