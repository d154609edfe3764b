//! The columns of one window that have been decoded so far.
//!
//! Filters decode what they look at; the output reuses it. All columns hold the rows that are still
//! selected, and only those.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::compute::filter;
use datafusion::common::Result;
use storage::scan::Window;

use crate::table::TableVersion;

/// A window and its decoded columns.
pub(crate) struct WindowColumns<'w> {
    window: &'w mut Window,
    decoded: Vec<(usize, ArrayRef)>,
    /// Its columns are those that are stored; the next position is that of the row ids.
    version: &'w TableVersion,
}

impl<'w> WindowColumns<'w> {
    /// Nothing is decoded yet of the rows of this table.
    pub(crate) fn new(window: &'w mut Window, version: &'w TableVersion) -> Self {
        Self { window, decoded: Vec::new(), version }
    }

    /// The number of rows that every filter so far has passed.
    pub(crate) fn selected(&self) -> usize {
        self.window.selected()
    }

    /// The selected rows of the table's column at this position, or their ids.
    pub(crate) fn column(&mut self, column: usize) -> Result<ArrayRef> {
        if let Some((_, array)) = self.decoded.iter().find(|(decoded, _)| *decoded == column) {
            return Ok(Arc::clone(array));
        }
        let array: ArrayRef = if column == self.version.schema.columns.len() {
            let ids = self.window.row_ids();
            Arc::new(Int64Array::from_iter_values(ids.values().iter().map(|id| id.cast_signed())))
        } else {
            self.window.decode(column).map_err(|error| self.version.storage_error(error))?
        };
        self.decoded.push((column, Arc::clone(&array)));
        Ok(array)
    }

    /// Drops the selected rows for which `keep` is false or NULL. Returns how many.
    pub(crate) fn refine(&mut self, keep: &BooleanArray) -> Result<usize> {
        let before = self.selected();
        assert_eq!(keep.len(), before, "a filter decides on every selected row");
        if keep.true_count() == before {
            return Ok(0);
        }
        self.window.refine(keep);
        for (_, array) in &mut self.decoded {
            *array = filter(array, keep)?;
        }
        Ok(before - self.selected())
    }
}
