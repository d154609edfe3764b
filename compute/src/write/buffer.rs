//! Rows of a write that wait to become a segment, by slice.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use parking_lot::Mutex;
use storage::{ROW_GROUP_ROWS, SEGMENT_ROWS_MAX};

use crate::compact::compact;
use crate::node::Node;
use crate::table::Distribution;

/// A buffer is written out when it holds this many bytes, so that memory stays bounded with wide
/// rows; a segment is then smaller than it could be.
const SLICE_BYTES_MAX: usize = 256 << 20;

/// A buffer may hold this part of the query's memory: there is one per slice, and each may have
/// segments in writing, which take as much again.
const SLICE_MEMORY_DIVISOR: usize = 6;

/// The rows that wait, of all slices.
pub(super) struct SliceBuffers {
    slices: Vec<Mutex<SliceBuffer>>,
    bytes_max: usize,
    /// Rows of each slice so far, and where to start among equals.
    totals: Mutex<Vec<usize>>,
    start: usize,
}

/// Rows of one slice, and the memory reserved for them.
pub(super) struct BufferedRows {
    pub(super) batches: Vec<RecordBatch>,
    /// Gives the memory back when it is dropped.
    pub(super) reservation: MemoryReservation,
}

struct SliceBuffer {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    reservation: MemoryReservation,
}

impl SliceBuffers {
    pub(super) fn new(node: &Node, distribution: Distribution, pool: &Arc<dyn MemoryPool>) -> Self {
        let count = match distribution {
            Distribution::All => 1,
            Distribution::Even | Distribution::Key(_) => node.slices(),
        };
        let buffer = |slice| {
            let consumer = MemoryConsumer::new(format!("write to slice {slice} of the node"));
            Mutex::new(SliceBuffer {
                batches: vec![],
                rows: 0,
                bytes: 0,
                reservation: consumer.register(pool),
            })
        };
        let memory_bytes = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes,
            MemoryLimit::Infinite | MemoryLimit::Unknown => node.memory_bytes(),
        };
        let share = memory_bytes / (count * SLICE_MEMORY_DIVISOR);
        Self {
            slices: (0..count).map(buffer).collect(),
            bytes_max: share.min(SLICE_BYTES_MAX),
            totals: Mutex::new(vec![0; count]),
            start: node.take_even_start() % count,
        }
    }

    /// The slice with the fewest rows of this write so far.
    pub(super) fn emptiest(&self) -> usize {
        let totals = self.totals.lock();
        let count = totals.len();
        let candidates = (0..count).map(|offset| (self.start + offset) % count);
        candidates.min_by_key(|slice| totals[*slice]).unwrap_or(0)
    }

    /// Adds rows to a slice. Returns the rows of a segment if there are enough for one.
    pub(super) fn add(&self, slice: usize, rows: RecordBatch) -> Result<Option<BufferedRows>> {
        self.totals.lock()[slice] += rows.num_rows();
        let rows = compact(rows)?;
        let bytes = memory_bytes(&rows);
        let mut buffer = self.slices[slice].lock();
        if let Err(error) = buffer.reservation.try_grow(bytes) {
            // What is there already can be written to make room.
            return match buffer.take_all() {
                Some(full) => {
                    buffer.reservation.grow(bytes);
                    buffer.push(rows, bytes);
                    Ok(Some(full))
                }
                None => Err(error),
            };
        }
        buffer.push(rows, bytes);
        if buffer.rows >= SEGMENT_ROWS_MAX {
            return Ok(buffer.take(SEGMENT_ROWS_MAX));
        }
        if buffer.bytes >= self.bytes_max {
            // Whole row groups, so that no small one is left in the middle of a table.
            let whole = buffer.rows / ROW_GROUP_ROWS * ROW_GROUP_ROWS;
            return Ok(if whole > 0 { buffer.take(whole) } else { buffer.take_all() });
        }
        Ok(None)
    }

    /// All rows that are left, by slice.
    pub(super) fn take_rest(&self) -> Vec<(usize, BufferedRows)> {
        let mut rest = Vec::new();
        for (slice, buffer) in self.slices.iter().enumerate() {
            let mut buffer = buffer.lock();
            while let Some(rows) = buffer.take(SEGMENT_ROWS_MAX) {
                rest.push((slice, rows));
            }
        }
        rest
    }
}

impl SliceBuffer {
    fn push(&mut self, rows: RecordBatch, bytes: usize) {
        self.rows += rows.num_rows();
        self.bytes += bytes;
        self.batches.push(rows);
    }

    fn take_all(&mut self) -> Option<BufferedRows> {
        self.take(self.rows)
    }

    /// The first `wanted` rows, or all if there are fewer; none if there are none.
    fn take(&mut self, wanted: usize) -> Option<BufferedRows> {
        if self.rows == 0 || wanted == 0 {
            return None;
        }
        let mut taken = Vec::new();
        let mut missing = wanted;
        let mut rest = Vec::new();
        for batch in std::mem::take(&mut self.batches) {
            let rows = batch.num_rows();
            if missing >= rows {
                missing -= rows;
                taken.push(batch);
            } else if missing > 0 {
                taken.push(batch.slice(0, missing));
                rest.push(batch.slice(missing, rows - missing));
                missing = 0;
            } else {
                rest.push(batch);
            }
        }
        self.batches = rest;
        let taken_rows = wanted.min(self.rows);
        let part = taken_rows as f64 / self.rows as f64;
        let bytes = if taken_rows == self.rows {
            self.bytes
        } else {
            ((self.bytes as f64 * part) as usize).min(self.bytes)
        };
        self.rows -= taken_rows;
        self.bytes -= bytes;
        Some(BufferedRows { batches: taken, reservation: self.reservation.split(bytes) })
    }
}

/// What the rows take, without slack that other rows share.
fn memory_bytes(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| match column.data_type() {
        DataType::Utf8View => {
            let strings = column.as_string_view();
            strings.len() * size_of::<u128>() + strings.total_buffer_bytes_used()
        }
        DataType::Boolean => column.len() / 4,
        other => column.len() * other.primitive_width().unwrap_or(size_of::<u128>()),
    };
    batch.columns().iter().map(bytes).sum()
}
