//! COPY: from objects to batches of whole rows in the table's columns. Which slice a row belongs to
//! and how it is written is not decided here.
//!
//! 1. [`plan`] lists the prefix, reads the footers of Parquet files, and cuts the files into work
//!    items: whole files, parts of large uncompressed files, row groups.
//! 2. [`LoadPlan::execute`] is called once for each partition. A partition takes work items from
//!    the common queue until none is left, so an idle one helps where there is work; the batches
//!    are made by whoever polls the stream, while a task of its own reads ahead, within limits.
//! 3. [`LoadPlan::finish`] tells what was loaded from which file, and fails if any work item did
//!    not come to its end.
//!
//! The first row that does not fit the table ends the load, with a [`BadRow`] that names the file,
//! the line, the column, the value and the reason.

mod error;
mod parquet;
mod partition;
mod plan;
mod request;
mod share;
mod text;
mod value;

pub use error::{BadRow, ErrorCode, LoadError, RAW_BYTES_MAX};
pub use plan::{LoadPlan, LoadedFile, plan};
pub use request::{
    Compression, Conversion, CopyRequest, CountedColumn, DateFormat, Format, OmittedColumn,
    TargetColumn, TimeFormat,
};
pub use share::LoadShare;
pub(crate) use share::LoadShareProto;
pub use value::datetime::{DatePattern, TimestampPattern};

#[cfg(test)]
mod tests;
