//! Delimited text and CSV to batches.
//!
//! ```text
//! source: GET ranges, read ahead -> decompress -> region of bytes
//! splitter (delimited | csv): region -> Records: 8,192 rows of field positions
//! columns: Records -> one Arrow array per column, straight from the bytes
//! ```
//!
//! A region always starts at the start of a record. Rows are split first and converted column by
//! column, so that the choice of the parser is outside the loop over rows. If a conversion fails,
//! the columns after it look only at the rows before, so the fault that is reported is the one of
//! the first bad row, and in it the first bad column.

pub(super) mod columns;
mod csv;
mod decompress;
mod delimited;
mod reader;
mod records;
mod source;

pub(super) use reader::TextReader;
pub(super) use source::{ByteSource, fetch};
