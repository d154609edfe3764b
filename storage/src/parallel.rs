//! Work on the columns of rows, on several threads where that pays.

use rayon::prelude::*;

use crate::error::Result;

/// Columns of fewer rows are sorted and encoded before another thread is awake: no other is asked.
pub const ROWS_PARALLEL_MIN: usize = 1024;

/// Does the work for the columns 0 to `columns` - 1 of so many rows; the results in this order. With
/// few rows no other thread is asked, all of which may be busy with large ones.
///
/// # Errors
/// The error of a column that fails.
pub(crate) fn for_columns<T: Send>(
    row_count: usize,
    columns: usize,
    work: impl Fn(usize) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    match row_count {
        ..ROWS_PARALLEL_MIN => (0..columns).map(work).collect(),
        ROWS_PARALLEL_MIN.. => (0..columns).into_par_iter().map(work).collect(),
    }
}
