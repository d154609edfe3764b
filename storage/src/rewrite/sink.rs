//! Collects rows, and writes them as segments whenever there are enough.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};

use super::{Rewrite, RewriteTarget, Step};
use crate::error::Result;
use crate::io::Io;
use crate::schema::ColumnType;
use crate::segment::write_segment;
use crate::statistics::SegmentInfo;

/// Bytes of a view of a text.
pub(super) const VIEW_BYTES: u64 = 16;

/// Bytes of a value in memory; of a text only the view.
pub(super) fn value_bytes(column_type: ColumnType) -> u64 {
    match column_type {
        ColumnType::Boolean => 1,
        ColumnType::SmallInt => 2,
        ColumnType::Integer | ColumnType::Real | ColumnType::Date => 4,
        ColumnType::BigInt
        | ColumnType::Double
        | ColumnType::Time
        | ColumnType::TimeTz
        | ColumnType::Timestamp
        | ColumnType::TimestampTz => 8,
        ColumnType::Decimal { .. } => 16,
        ColumnType::Text => VIEW_BYTES,
    }
}

/// Bytes of the rows of a batch. Buffers that it shares with others are counted by their rows.
pub(super) fn batch_bytes(batch: &RecordBatch) -> usize {
    let column_bytes = |array: &arrow_array::ArrayRef| match array.as_string_view_opt() {
        Some(texts) => {
            // A view begins with the length of its text.
            let lengths = texts.views().iter().map(|view| *view as u32 as usize);
            lengths.sum::<usize>() + VIEW_BYTES as usize * texts.len()
        }
        None => array.data_type().primitive_width().unwrap_or(1) * array.len(),
    };
    batch.columns().iter().map(column_bytes).sum()
}

/// Rows on their way to new segments.
pub(super) struct SegmentSink<'a> {
    rewrite: &'a Rewrite,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    written: WrittenSegments,
}

impl<'a> SegmentSink<'a> {
    pub(super) fn new(rewrite: &'a Rewrite) -> SegmentSink<'a> {
        let written = WrittenSegments { io: Arc::clone(&rewrite.io), files: Vec::new() };
        SegmentSink { rewrite, batches: Vec::new(), rows: 0, bytes: 0, written }
    }

    /// Adds rows in order.
    pub(super) fn push(&mut self, batch: RecordBatch, target: &mut dyn RewriteTarget) -> Step<()> {
        let mut rest = batch;
        while rest.num_rows() > 0 {
            let taken = rest.num_rows().min(self.rewrite.options.segment_rows - self.rows);
            let part = rest.slice(0, taken);
            rest = rest.slice(taken, rest.num_rows() - taken);
            self.rows += taken;
            self.bytes += batch_bytes(&part);
            self.batches.push(part);
            if self.rows == self.rewrite.options.segment_rows
                || self.bytes >= self.rewrite.part_bytes()
            {
                self.write(target)?;
            }
        }
        Ok(())
    }

    /// Writes the rows that are left.
    pub(super) fn finish(mut self, target: &mut dyn RewriteTarget) -> Step<WrittenSegments> {
        if self.rows > 0 {
            self.write(target)?;
        }
        Ok(self.written)
    }

    fn write(&mut self, target: &mut dyn RewriteTarget) -> Result<()> {
        let (id, path) = target.next_file();
        let batches = std::mem::take(&mut self.batches);
        (self.rows, self.bytes) = (0, 0);
        let rewrite = self.rewrite;
        let info = write_segment(rewrite.io.as_ref(), &path, id, &rewrite.schema, &batches)?;
        self.written.files.push((info, path));
        Ok(())
    }
}

/// Segments that were written; their files go when this is dropped.
pub(super) struct WrittenSegments {
    io: Arc<dyn Io>,
    files: Vec<(SegmentInfo, PathBuf)>,
}

impl WrittenSegments {
    pub(super) fn files(&self) -> &[(SegmentInfo, PathBuf)] {
        &self.files
    }

    /// The segments are wanted: their files stay.
    pub(super) fn keep(mut self) -> Vec<SegmentInfo> {
        std::mem::take(&mut self.files).into_iter().map(|(info, _)| info).collect()
    }
}

impl Drop for WrittenSegments {
    fn drop(&mut self) {
        for (_, path) in &self.files {
            // Nothing refers to it: what cannot be removed is an orphan, which is swept later.
            let _ = self.io.remove(path);
        }
    }
}
