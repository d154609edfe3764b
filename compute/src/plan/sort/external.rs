//! One partition of a sort: what is in memory, what is on disk, and what is reserved.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
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

/// The smallest batch that is worth a list of its own, bytes.
const PIECE_BYTES_MIN: usize = 4096;

/// Batches that are given on are no larger than this, but for a single row, bytes.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// Sorts the rows that are pushed into it.
pub(super) struct Sorter {
    schema: SchemaRef,
    order: LexOrdering,
    keys: RowConverter,
    /// Makes full batches of small ones, and takes rows out of buffers that hold others too.
    incoming: BatchCoalescer,
    /// What is in there, about.
    incoming_bytes: usize,
    /// With so many bytes a batch is full whatever its rows: nothing has reserved it yet.
    piece_bytes: usize,
    runs: Vec<Run>,
    /// For `runs`.
    reservation: MemoryReservation,
    /// What the runs hold beyond it.
    unreserved_bytes: usize,
    /// Kept back for the rows of a run on its way to the disk, and for the merge at the end.
    kept_back: MemoryReservation,
    kept_back_bytes: usize,
    /// The size of a batch on disk, bytes; a batch of one row may be larger.
    disk_bytes: usize,
    spilled: Vec<SortedSpillFile>,
    spilled_rows: usize,
    spilled_bytes: usize,
    spill_manager: SpillManager,
    batch_size: usize,
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
        let config = context.session_config();
        let wanted_bytes = config.options().execution.sort_spill_reservation_bytes;
        let kept_back_bytes = wanted_bytes.min(merge_bytes);
        let fields = order.iter().map(|key| {
            let data_type = key.expr.data_type(&schema)?;
            Ok(SortField::new_with_options(data_type, key.options))
        });
        let keys = RowConverter::new(fields.collect::<Result<Vec<_>>>()?)?;
        let spill_metrics = SpillMetrics::new(metrics, partition);
        let spill_manager = SpillManager::new(runtime, spill_metrics, Arc::clone(&schema))
            .with_compression_type(config.spill_compression());
        Ok(Self {
            incoming: BatchCoalescer::new(Arc::clone(&schema), config.batch_size()),
            incoming_bytes: 0,
            piece_bytes: (kept_back_bytes / 4).max(PIECE_BYTES_MIN),
            schema,
            order,
            keys,
            runs: Vec::new(),
            reservation,
            unreserved_bytes: 0,
            kept_back,
            kept_back_bytes,
            // Two runs can be merged in what is kept back.
            disk_bytes: (merge_bytes / FAN_IN / 4).min(kept_back_bytes / 8).max(1),
            spilled: Vec::new(),
            spilled_rows: 0,
            spilled_bytes: 0,
            spill_manager,
            batch_size: config.batch_size(),
            metrics: BaselineMetrics::new(metrics, partition),
        })
    }

    /// Takes more rows, and writes what it has to the disk if there is no memory for them.
    pub(super) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        let row_bytes = row_bytes(&batch)?;
        let piece_rows = (self.piece_bytes / row_bytes).clamp(1, self.batch_size);
        let mut at = 0;
        // An operator may give all that it has in one batch, and this makes a copy of it.
        while at < batch.num_rows() {
            let piece = batch.slice(at, piece_rows.min(batch.num_rows() - at));
            at += piece.num_rows();
            self.incoming_bytes += piece.num_rows() * row_bytes;
            self.incoming.push_batch(piece)?;
            if self.incoming_bytes >= self.piece_bytes {
                self.incoming.finish_buffered_batch()?;
            }
            self.take_completed().await?;
        }
        Ok(())
    }

    async fn take_completed(&mut self) -> Result<()> {
        while let Some(batch) = self.incoming.next_completed_batch() {
            self.incoming_bytes = 0;
            let run = self.sorted(batch)?;
            self.hold(run).await?;
            consume_budget().await;
        }
        Ok(())
    }

    fn sorted(&self, batch: RecordBatch) -> Result<Run> {
        let _timer = self.metrics.elapsed_compute().timer();
        // The coalescer leaves room in its buffers.
        let batch = compact(batch)?;
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
        if !is_reserved && self.reservation.size() > 0 {
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
        let mut merge = Merge::new(Arc::clone(&self.schema), std::mem::take(&mut self.runs));
        let mut file = self.spill_manager.create_in_progress_file("Sorting")?;
        let mut max_record_batch_memory = 0;
        loop {
            let timer = self.metrics.elapsed_compute().timer();
            let Some(batch) = merge.next_batch(self.batch_size, self.disk_bytes)? else { break };
            self.spilled_rows += batch.num_rows();
            for part in parts(batch, self.disk_bytes)? {
                let bytes = file.append_batch(&part)?;
                self.spilled_bytes += bytes;
                max_record_batch_memory = max_record_batch_memory.max(bytes);
            }
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
            return self.merged_in_memory();
        }
        if !self.runs.is_empty() {
            self.spill().await?;
        }
        let row_bytes = self.spilled_bytes.div_ceil(self.spilled_rows.max(1)).max(1);
        let rows = (self.disk_bytes / row_bytes).clamp(1, self.batch_size);
        StreamingMergeBuilder::new()
            .with_sorted_spill_files(self.spilled)
            .with_spill_manager(self.spill_manager)
            .with_schema(self.schema)
            .with_expressions(&self.order)
            .with_metrics(self.metrics)
            .with_batch_size(rows)
            .with_fetch(None)
            .with_reservation(self.kept_back.take())
            .build()
    }

    fn merged_in_memory(self) -> Result<SendableRecordBatchStream> {
        let Self {
            schema,
            runs,
            reservation,
            kept_back,
            unreserved_bytes,
            batch_size,
            metrics,
            ..
        } = self;
        kept_back.try_resize(unreserved_bytes.min(kept_back.size()))?;
        let merge = Merge::new(Arc::clone(&schema), runs);
        let held = (reservation, kept_back);
        let rows = stream::try_unfold((merge, held), move |(mut merge, held)| {
            let timer = metrics.elapsed_compute().timer();
            let batch = merge.next_batch(batch_size, OUTPUT_BYTES_MAX);
            drop(timer);
            let given = batch
                .map(|batch| batch.map(|batch| (batch.record_output(&metrics), (merge, held))));
            async move { given }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// The bytes of the rows themselves, whatever else is in their buffers.
fn used_bytes(batch: &RecordBatch) -> Result<usize> {
    let mut bytes = 0;
    for column in batch.columns() {
        bytes += column.to_data().get_slice_memory_size()?;
        bytes += column.as_string_view_opt().map_or(0, |text| text.total_buffer_bytes_used());
        bytes += column.as_binary_view_opt().map_or(0, |bytes| bytes.total_buffer_bytes_used());
    }
    Ok(bytes)
}

/// What a row takes, on average; at least one byte.
fn row_bytes(batch: &RecordBatch) -> Result<usize> {
    Ok(used_bytes(batch)?.div_ceil(batch.num_rows().max(1)).max(1))
}

/// The batch in parts of about so many bytes: a few long rows among short ones make a batch that no
/// merge could hold.
fn parts(batch: RecordBatch, bytes: usize) -> Result<Vec<RecordBatch>> {
    let rows = batch.num_rows();
    if rows <= 1 || used_bytes(&batch)? <= 2 * bytes {
        return Ok(vec![batch]);
    }
    let (first, second) = (batch.slice(0, rows / 2), batch.slice(rows / 2, rows - rows / 2));
    Ok([parts(first, bytes)?, parts(second, bytes)?].concat())
}

fn no_memory(error: DataFusionError) -> DataFusionError {
    error.context("A sort has too little memory to merge what it would write to disk.")
}
