//! Strings without the strings of other rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use datafusion::common::Result;

/// A string column whose buffers are larger than its strings by this factor is copied.
const SLACK_MAX: usize = 2;

/// Copies strings out of buffers that are mostly filled with other strings: a batch that was split
/// or filtered keeps the whole buffers of its source alive.
pub(crate) fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = batch.columns().iter().map(compact_column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn compact_column(column: &ArrayRef) -> ArrayRef {
    let Some(strings) = column.as_string_view_opt() else { return Arc::clone(column) };
    let used = strings.total_buffer_bytes_used();
    let held: usize = strings.data_buffers().iter().map(|buffer| buffer.capacity()).sum();
    if held > used * SLACK_MAX { Arc::new(strings.gc()) } else { Arc::clone(column) }
}
