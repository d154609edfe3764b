//! Rows as segments of a table: of INSERT, CREATE TABLE AS, COPY and VACUUM.
//!
//! ```text
//! input partition --> split by slice --> slice buffer --full--> sort, encode, write, sync
//!    (a task each)     KEY: hash          (shared, in the        (processor threads, at most two
//!                      EVEN: emptiest      query's memory)         segments of a slice at a time)
//!                      ALL: slice 0
//! ```
//!
//! What is written is durable but visible to nobody: the caller hands the segments to the leader's
//! commit, or gives them up with [`crate::node::Node::remove_stored`]. If the write fails or is
//! dropped half way, it removes its files itself.

mod buffer;
mod flush;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, RecordBatch};
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{ExecutionPlan, execute_stream_partitioned};
use futures::StreamExt;
use storage::ids::{SegmentId, SliceId};
use storage::schema::TableSchema;
use storage::statistics::SegmentInfo;

use self::buffer::SliceBuffers;
use self::flush::Flusher;
use crate::error::with_sqlstate;
use crate::node::Node;
use crate::placement::KeySplitter;
use crate::plan::guard::guard;
use crate::table::{Distribution, TableVersion};

/// The table that rows are written for.
#[derive(Clone)]
pub struct WriteTarget {
    /// The table. The input has its columns, in this order and with these types.
    pub version: Arc<TableVersion>,
    /// The slices of the cluster that are written: those of one node, which need not be this one.
    pub slices: Range<usize>,
    /// Gives out ids of segments; every id once.
    pub new_segment_id: Arc<dyn Fn() -> SegmentId + Send + Sync>,
}

impl fmt::Debug for WriteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteTarget").field("version", &self.version).finish_non_exhaustive()
    }
}

/// What was written: durable, but not yet part of any version of the table.
#[derive(Debug)]
pub struct WriteOutcome {
    /// The new segments and the slices that hold them.
    pub segments: Vec<(SliceId, SegmentInfo)>,
    /// Rows in all.
    pub row_count: u64,
}

/// Writes the rows that a plan returns; all its partitions run at the same time. See
/// [`write_streams`].
pub async fn write_table(
    node: &Arc<Node>,
    target: WriteTarget,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<WriteOutcome> {
    let streams = execute_stream_partitioned(plan, Arc::clone(&context))?;
    write_streams(node, target, streams, context).await
}

/// Writes the rows of several streams, which are read at the same time. `context` is the query's:
/// its memory pool holds the rows until they are written.
///
/// A NULL in a column that does not allow it is error 23502. On an error, and if the future is
/// dropped, no file is left.
pub async fn write_streams(
    node: &Arc<Node>,
    target: WriteTarget,
    inputs: Vec<SendableRecordBatchStream>,
    context: Arc<TaskContext>,
) -> Result<WriteOutcome> {
    let flusher = Flusher::new(Arc::clone(node), target.clone());
    let write = Arc::new(Write {
        node: Arc::clone(node),
        buffers: SliceBuffers::new(node, target.version.distribution, context.memory_pool()),
        flusher,
        target,
        rows_read: AtomicU64::new(0),
    });
    let written = write.run(inputs).await.and_then(|segments| not_abandoned(node, segments));
    let segments = match written {
        Ok(segments) => segments,
        Err(error) => {
            write.flusher.give_up().await;
            return Err(error);
        }
    };
    let row_count = segments.iter().map(|(_, segment)| segment.row_count).sum();
    write.flusher.keep_files();
    Ok(WriteOutcome { segments, row_count })
}

/// What was written, unless the leader has given the write up meanwhile.
fn not_abandoned(
    node: &Node,
    segments: Vec<(SliceId, SegmentInfo)>,
) -> Result<Vec<(SliceId, SegmentInfo)>> {
    if segments.iter().any(|(_, segment)| node.is_abandoned(segment.id)) {
        return internal_err!("the leader has given up the write");
    }
    Ok(segments)
}

/// What the readers of one write share.
struct Write {
    node: Arc<Node>,
    target: WriteTarget,
    buffers: SliceBuffers,
    flusher: Flusher,
    rows_read: AtomicU64,
}

impl Write {
    async fn run(
        self: &Arc<Self>,
        inputs: Vec<SendableRecordBatchStream>,
    ) -> Result<Vec<(SliceId, SegmentInfo)>> {
        let mut readers = JoinSet::new();
        for input in inputs {
            readers.spawn(Arc::clone(self).read(guard(input)));
        }
        // An error drops the set, which stops the other readers.
        while let Some(reader) = readers.join_next().await {
            reader.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
        }
        for (slice, rows) in self.buffers.take_rest() {
            self.flusher.start(slice, rows).await?;
        }
        let segments = self.flusher.finish().await?;
        let rows_read = self.rows_read.load(Ordering::Relaxed);
        let rows_written: u64 = segments.iter().map(|(_, segment)| segment.row_count).sum();
        if rows_written != rows_read {
            return internal_err!("{rows_read} rows were read but {rows_written} were written");
        }
        Ok(segments)
    }

    async fn read(self: Arc<Self>, mut input: SendableRecordBatchStream) -> Result<()> {
        let mut splitter = Splitter::new(&self.target, &self.node)?;
        while let Some(batch) = input.next().await {
            let batch = batch?;
            check_batch(&batch, &self.target.version.schema)?;
            self.rows_read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            let mut full = Vec::new();
            splitter.split(batch, &self.buffers, |slice, rows| {
                full.extend(self.buffers.add(slice, rows)?.map(|rows| (slice, rows)));
                Ok(())
            })?;
            for (slice, rows) in full {
                self.flusher.start(slice, rows).await?;
            }
        }
        Ok(())
    }
}

/// Sends rows to slices, which are counted within those that are written.
enum Splitter {
    Key { splitter: KeySplitter, own: Range<usize> },
    Even,
    All,
}

impl Splitter {
    fn new(target: &WriteTarget, node: &Node) -> Result<Self> {
        Ok(match target.version.distribution {
            Distribution::Key(key) => {
                let name = &target.version.schema.columns[key].name;
                let splitter = KeySplitter::new(key, name, node.layout().slices())?;
                Self::Key { splitter, own: target.slices.clone() }
            }
            Distribution::Even => Self::Even,
            Distribution::All => Self::All,
        })
    }

    fn split(
        &mut self,
        batch: RecordBatch,
        buffers: &SliceBuffers,
        mut take: impl FnMut(usize, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        match self {
            Self::Key { splitter, own } => splitter.split(batch, |slice, rows| {
                if !own.contains(&slice) {
                    return internal_err!("a row of slice {slice} came to the slices {own:?}");
                }
                take(slice - own.start, rows)
            }),
            Self::Even => take(buffers.emptiest(), batch),
            Self::All => take(0, batch),
        }
    }
}

/// The batch has the table's columns, and no NULL where none is allowed.
fn check_batch(batch: &RecordBatch, schema: &TableSchema) -> Result<()> {
    if batch.num_columns() != schema.columns.len() {
        return internal_err!(
            "a batch has {} columns, the table {}",
            batch.num_columns(),
            schema.columns.len()
        );
    }
    for (array, column) in batch.columns().iter().zip(&schema.columns) {
        if *array.data_type() != column.column_type.arrow_type() {
            return internal_err!("column {} is given as {}", column.name, array.data_type());
        }
        if !column.nullable && array.logical_null_count() > 0 {
            let message =
                format!("null value in column \"{}\" violates not-null constraint", column.name);
            return Err(with_sqlstate("23502", message));
        }
    }
    Ok(())
}
