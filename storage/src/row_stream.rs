//! The live rows of some segments of a table, one segment after the other, window by window.

use std::collections::VecDeque;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use crate::error::{Error, Result};
use crate::scan::RowGroupScan;
use crate::segment::Segment;

/// Reads segments front to back; holds one row group of one segment at a time.
pub(crate) struct RowStream {
    /// The segments that are not read yet; the first one is being read.
    segments: VecDeque<Segment>,
    /// The next row group of the first segment.
    row_group: usize,
    scan: Option<RowGroupScan>,
}

impl RowStream {
    /// The rows of these segments, in this order.
    pub(crate) fn new(segments: impl IntoIterator<Item = Segment>) -> RowStream {
        RowStream { segments: segments.into_iter().collect(), row_group: 0, scan: None }
    }

    /// These columns of the next window of rows; `None` at the end.
    pub(crate) fn next_columns(&mut self, columns: &[usize]) -> Result<Option<Vec<ArrayRef>>> {
        loop {
            if let Some(scan) = &mut self.scan {
                if let Some(window) = scan.next_window()? {
                    return columns
                        .iter()
                        .map(|column| window.decode(*column))
                        .collect::<Result<_>>()
                        .map(Some);
                }
                self.scan = None;
            }
            let Some(segment) = self.segments.front() else { return Ok(None) };
            if self.row_group == segment.row_group_count() {
                self.segments.pop_front();
                self.row_group = 0;
                continue;
            }
            self.scan = segment.scan_row_group(self.row_group, &[])?;
            self.row_group += 1;
            if self.row_group < segment.row_group_count() {
                segment.prefetch_row_group(self.row_group, columns);
            }
        }
    }

    /// The next window of whole rows; `None` at the end. `schema` is that of the table.
    pub(crate) fn next_batch(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let columns: Vec<usize> = (0..schema.fields().len()).collect();
        let Some(arrays) = self.next_columns(&columns)? else { return Ok(None) };
        let options =
            RecordBatchOptions::new().with_row_count(arrays.first().map(|array| array.len()));
        RecordBatch::try_new_with_options(SchemaRef::clone(schema), arrays, &options)
            .map(Some)
            .map_err(|error| Error::SchemaMismatch(error.to_string()))
    }
}
