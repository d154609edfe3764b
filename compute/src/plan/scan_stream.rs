//! One partition of a scan at work.
//!
//! ```text
//! row group   zone maps against native predicates, run-time filters as of now      -> skip or read
//!   window    native predicates on encoded data (storage)                          -> selection
//!             residual filters, cheapest first, on decoded columns                 -> selection
//!             run-time membership filters on decoded keys                          -> selection
//!             output columns of the selected rows                                  -> batches
//! ```
//!
//! Everything runs on the thread that polls the stream, so that a batch is still in its cache when
//! the next operator looks at it, and dropping the stream stops all work. A poll that finds no rows
//! gives way to other tasks after a while.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::BatchCoalescer;
use arrow::datatypes::SchemaRef;
use datafusion::common::Result;
use datafusion::execution::RecordBatchStream;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder,
};
use futures::Stream;
use storage::predicate::Predicate;
use storage::scan::RowGroupScan;

use super::bounds::{Implied, implied, to_predicates};
use super::morsels::{Morsel, MorselQueue};
use super::native::{join_ranges, translate};
use super::residual::{Residual, reorder};
use super::runtime_filter::{RowFacts, RuntimeFilter, SliceOfKey};
use super::window_columns::WindowColumns;
use crate::node::{Node, Scanning};
use crate::table::TableVersion;

/// How long a poll may look for rows before it lets other tasks run.
const POLL_TIME_MAX: Duration = Duration::from_millis(5);

/// What a scan is to do; the same for all its partitions but for `slice`.
pub(crate) struct ScanWork {
    pub(crate) version: Arc<TableVersion>,
    pub(crate) node: Arc<Node>,
    /// Positions in the table of the output columns.
    pub(crate) projection: Vec<usize>,
    pub(crate) output_schema: SchemaRef,
    /// Over the table's columns; all must be true.
    pub(crate) filters: Vec<Arc<dyn PhysicalExpr>>,
    /// Over the table's columns; may be applied.
    pub(crate) runtime_filters: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows that the partition returns at most.
    pub(crate) limit: Option<usize>,
    pub(crate) batch_rows: usize,
    pub(crate) slice: Option<SliceOfKey>,
}

/// What a partition has done, for EXPLAIN ANALYZE.
pub(crate) struct ScanMetrics {
    pub(crate) baseline: BaselineMetrics,
    row_groups_pruned: Count,
    row_groups_scanned: Count,
    rows_scanned: Count,
    rows_removed_native: Count,
    rows_removed_residual: Count,
    rows_removed_runtime: Count,
    bytes_scanned: Count,
}

impl ScanMetrics {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let counter = |name| MetricBuilder::new(metrics).counter(name, partition);
        Self {
            baseline: BaselineMetrics::new(metrics, partition),
            row_groups_pruned: counter("row_groups_pruned"),
            row_groups_scanned: counter("row_groups_scanned"),
            rows_scanned: counter("rows_scanned"),
            rows_removed_native: counter("rows_removed_native"),
            rows_removed_residual: counter("rows_removed_residual"),
            rows_removed_runtime: counter("rows_removed_runtime"),
            bytes_scanned: counter("bytes_scanned"),
        }
    }
}

/// The stream of one partition.
pub(crate) struct ScanStream {
    work: ScanWork,
    queue: Arc<MorselQueue>,
    state: State,
    /// Set at the first poll: scalar subqueries have their values by then.
    filters: Option<StaticFilters>,
    runtime: Vec<RuntimeFilter>,
    output: Output,
    /// Rows still to be returned.
    remaining: usize,
    metrics: ScanMetrics,
    /// Others give way as long as the stream is there.
    _scanning: Scanning,
}

enum State {
    NextRowGroup,
    Scanning {
        scan: RowGroupScan,
        /// Rows of the row group that the native predicates have not passed so far.
        rows_not_passed: usize,
    },
    Finished,
}

#[derive(Default)]
struct StaticFilters {
    never: bool,
    native: Vec<Predicate>,
    residuals: Vec<Residual>,
}

/// The output so far, in batches of an even size.
struct Output {
    schema: SchemaRef,
    coalescer: BatchCoalescer,
    /// Batches of scans without columns: a count of rows each.
    counts: VecDeque<usize>,
}

enum Progress {
    Batch(RecordBatch),
    Working,
    Finished,
}

impl ScanStream {
    pub(crate) fn new(work: ScanWork, queue: Arc<MorselQueue>, metrics: ScanMetrics) -> Self {
        let runtime =
            work.runtime_filters.iter().map(|expr| RuntimeFilter::new(Arc::clone(expr))).collect();
        Self {
            output: Output::new(&work.output_schema, work.batch_rows),
            remaining: work.limit.unwrap_or(usize::MAX),
            state: State::NextRowGroup,
            filters: None,
            runtime,
            queue,
            metrics,
            _scanning: work.node.begin_scan(),
            work,
        }
    }

    fn advance(&mut self) -> Result<Progress> {
        if let Some(batch) = self.output.pop()? {
            return Ok(Progress::Batch(batch));
        }
        if self.remaining == 0 && !matches!(self.state, State::Finished) {
            return self.finish();
        }
        match &mut self.state {
            State::Finished => Ok(Progress::Finished),
            State::NextRowGroup => self.start_row_group(),
            State::Scanning { .. } => self.scan_window(),
        }
    }

    fn finish(&mut self) -> Result<Progress> {
        self.state = State::Finished;
        self.output.finish()?;
        Ok(Progress::Working)
    }

    fn start_row_group(&mut self) -> Result<Progress> {
        let filters = match &mut self.filters {
            Some(filters) => filters,
            none => none.insert(StaticFilters::new(&self.work)?),
        };
        let queue = Arc::clone(&self.queue);
        let Some((morsel, next)) = queue.take().filter(|_| !filters.never) else {
            return self.finish();
        };
        let facts = RowFacts {
            schema: &self.work.version.schema,
            arrow_schema: &self.work.version.arrow_schema,
            slice: self.work.slice,
        };
        let mut predicates = filters.native.clone();
        let mut never = false;
        for filter in &mut self.runtime {
            filter.refresh(&facts)?;
            never |= filter.never();
            predicates.extend_from_slice(filter.native());
        }
        let scan = if never { None } else { self.open_row_group(morsel, next, predicates)? };
        let Some((scan, rows)) = scan else {
            self.metrics.row_groups_pruned.add(1);
            return Ok(Progress::Working);
        };
        if let Some(filters) = &mut self.filters {
            reorder(&mut filters.residuals);
        }
        self.state = State::Scanning { scan, rows_not_passed: rows };
        Ok(Progress::Working)
    }

    fn open_row_group(
        &self,
        morsel: &Morsel,
        next: Option<&Morsel>,
        predicates: Vec<Predicate>,
    ) -> Result<Option<(RowGroupScan, usize)>> {
        let version = &self.work.version;
        let open = |morsel: &Morsel| {
            let (segment, deletions) = (&morsel.segment, morsel.deletions.as_deref());
            let (table, schema) = (version.table, &version.schema);
            let opened =
                self.work.node.live_segment(table, morsel.slice, segment, deletions, schema);
            opened.map_err(|error| version.node_error(error))
        };
        let segment = open(morsel)?;
        let scan = segment
            .scan_row_group(morsel.row_group, &join_ranges(predicates))
            .map_err(|error| version.storage_error(error))?;
        let Some(scan) = scan else { return Ok(None) };
        if let Some(next) = next {
            let stored = |column: &usize| *column < version.schema.columns.len();
            let columns = self.work.projection.iter().copied().filter(stored);
            open(next)?.prefetch_row_group(next.row_group, &columns.collect::<Vec<_>>());
        }
        let rows = segment.live_row_group_rows(morsel.row_group);
        self.metrics.row_groups_scanned.add(1);
        self.metrics.rows_scanned.add(rows);
        self.metrics.bytes_scanned.add(self.encoded_bytes(morsel, rows));
        Ok(Some((scan, rows)))
    }

    /// The encoded size of the output columns of a row group, by its share of the segment's rows.
    fn encoded_bytes(&self, morsel: &Morsel, rows: usize) -> usize {
        let columns = &self.work.version.schema.columns;
        let column_bytes = |column: &usize| {
            let stored = columns.get(*column).and_then(|column| morsel.segment.column(column.id));
            stored.map_or(0, |column| column.encoded_bytes)
        };
        let bytes: u64 = self.work.projection.iter().map(column_bytes).sum();
        let share = rows as f64 / morsel.segment.row_count.max(1) as f64;
        (bytes as f64 * share) as usize
    }

    fn scan_window(&mut self) -> Result<Progress> {
        let State::Scanning { scan, rows_not_passed } = &mut self.state else {
            return Ok(Progress::Working);
        };
        let version = &self.work.version;
        let window = scan.next_window().map_err(|error| version.storage_error(error))?;
        let Some(window) = window else {
            self.metrics.rows_removed_native.add(*rows_not_passed);
            self.state = State::NextRowGroup;
            return Ok(Progress::Working);
        };
        let mut window = WindowColumns::new(window, version);
        *rows_not_passed -= window.selected();
        if let Some(filters) = &mut self.filters {
            for residual in &mut filters.residuals {
                if window.selected() > 0 {
                    self.metrics.rows_removed_residual.add(residual.apply(&mut window)?);
                }
            }
        }
        for filter in &mut self.runtime {
            if window.selected() > 0 {
                self.metrics.rows_removed_runtime.add(filter.apply(&mut window)?);
            }
        }
        let rows = window.selected().min(self.remaining);
        if rows > 0 {
            self.output.push(&mut window, &self.work.projection, rows)?;
            self.remaining -= rows;
        }
        Ok(Progress::Working)
    }
}

impl Stream for ScanStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let elapsed = self.metrics.baseline.elapsed_compute().clone();
        let _timer = elapsed.timer();
        let started = Instant::now();
        loop {
            match self.advance() {
                Ok(Progress::Batch(batch)) => {
                    self.metrics.baseline.record_output(batch.num_rows());
                    return Poll::Ready(Some(Ok(batch)));
                }
                Ok(Progress::Finished) => return Poll::Ready(None),
                Ok(Progress::Working) => {}
                Err(error) => {
                    self.state = State::Finished;
                    self.output = Output::new(&self.work.output_schema, self.work.batch_rows);
                    return Poll::Ready(Some(Err(error)));
                }
            }
            if started.elapsed() > POLL_TIME_MAX {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl RecordBatchStream for ScanStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.work.output_schema)
    }
}

impl StaticFilters {
    fn new(work: &ScanWork) -> Result<Self> {
        let mut filters = Self::default();
        let schema = &work.version.schema;
        for filter in &work.filters {
            if let Some(predicate) = translate(filter, schema) {
                filters.native.push(predicate);
                continue;
            }
            match implied(filter, schema) {
                Implied::Never => filters.never = true,
                Implied::Ranges(ranges) => filters.native.extend(to_predicates(ranges)),
            }
            let residual = Residual::new(Arc::clone(filter), &work.version.arrow_schema)?;
            filters.residuals.push(residual);
        }
        reorder(&mut filters.residuals);
        Ok(filters)
    }
}

impl Output {
    fn new(schema: &SchemaRef, batch_rows: usize) -> Self {
        let coalescer = BatchCoalescer::new(Arc::clone(schema), batch_rows)
            .with_biggest_coalesce_batch_size(Some(batch_rows / 2));
        Self { schema: Arc::clone(schema), coalescer, counts: VecDeque::new() }
    }

    /// Adds the first `rows` selected rows of a window.
    fn push(
        &mut self,
        window: &mut WindowColumns<'_>,
        projection: &[usize],
        rows: usize,
    ) -> Result<()> {
        if projection.is_empty() {
            self.counts.push_back(rows);
            return Ok(());
        }
        let arrays =
            projection.iter().map(|column| window.column(*column)).collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        let batch = if rows < batch.num_rows() { batch.slice(0, rows) } else { batch };
        Ok(self.coalescer.push_batch(batch)?)
    }

    /// Lets out what is not a full batch yet.
    fn finish(&mut self) -> Result<()> {
        Ok(self.coalescer.finish_buffered_batch()?)
    }

    fn pop(&mut self) -> Result<Option<RecordBatch>> {
        let Some(rows) = self.counts.pop_front() else {
            return Ok(self.coalescer.next_completed_batch());
        };
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let schema = Arc::clone(&self.schema);
        Ok(Some(RecordBatch::try_new_with_options(schema, vec![], &options)?))
    }
}
