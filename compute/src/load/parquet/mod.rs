//! Parquet to batches. The footer is read when the load is planned, so that files of other columns
//! or types fail before anything is loaded; then each row group is one work item: its bytes are
//! fetched in one go (and ahead of the decoder), decoded, and converted to the table's types.
//!
//! Files come from outside and the decoder is known to panic on damaged ones, so every call into
//! it is guarded. The schema that Arrow writers embed in the footer is not used: a file has the
//! types of its Parquet schema only.

mod convert;
mod footer;
mod reader;

pub(super) use footer::{ParquetFile, RowGroup, open};
pub(super) use reader::{RowGroupReader, fetch_row_group};

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::parquet::errors::ParquetError;

/// Runs a call into the decoder; an error and a panic both become a reason.
fn guarded<T>(call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("damaged Parquet data: {}", text.unwrap_or_default()))
        }
    }
}
