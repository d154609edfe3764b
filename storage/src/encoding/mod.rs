//! Encodings: how the values of one column lie in a chunk, and how they are filtered and decoded.
//!
//! ```text
//!  column of a segment = shared part (sorted dictionary, symbol table or nothing)
//!                        + one chunk a row group
//!  chunk   = rows, validity bitmap (if there is a NULL), body
//!  body    = key stream                 whole numbers, dates, times, booleans, floats, decimals
//!          | wide values                decimals that do not fit 64 bits
//!          | code stream                codes of the shared dictionary, in the order of its values
//!          | text                       raw, symbol-coded or deflated pieces and their lengths
//!  vector  = 1,024 rows of a chunk: what one call filters or decodes
//! ```
//!
//! A scan opens a chunk once ([`ColumnChunk::open`] checks all that the unchecked kernels rely on),
//! compiles each condition once, and then works vector by vector: [`ColumnChunk::filter`] narrows a
//! [`Mask`] on the encoded values, [`ColumnChunk::decode`] appends the rows that are left to a
//! [`ColumnBuilder`].
//!
//! Chunks come from verified blocks; still no byte of them is trusted for memory safety. What
//! damaged bytes can cause is a [`FormatError`] or other values, never a panic or an access out of
//! bounds. The bytes are described in `docs/segment-format.md`.

mod column_builder;
mod column_chunk;
mod column_encoder;
mod delta;
mod dictionary;
mod frame_of_reference;
mod fsst;
mod kernel;
mod key_ranges;
mod key_stream;
mod keys;
mod layout;
mod like;
mod mask;
mod raw;
mod run_length;
mod shared_column;
mod text;
mod zstd;

pub use column_builder::ColumnBuilder;
pub use column_chunk::{ColumnChunk, CompiledCondition};
pub use column_encoder::ColumnEncoder;
pub use mask::Mask;
pub use shared_column::SharedColumn;

/// Bytes of one buffer of decoded text; more text goes to another buffer. Offsets in a view have 32
/// bits, and Arrow takes them as signed.
const VIEW_BUFFER_BYTES_MAX: usize = i32::MAX as usize;

/// How a column's values lie in its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Values as they are.
    Raw,
    /// Differences from the vector's smallest value, divided by the chunk's greatest common divisor,
    /// in as few bits as the vector needs.
    FrameOfReference,
    /// Differences from the value before, in as few bits as the vector needs.
    Delta,
    /// Runs of equal values.
    RunLength,
    /// Codes of the segment's sorted dictionary.
    Dictionary,
    /// Text in codes of frequent pieces of one to eight bytes.
    Fsst,
    /// Text in zstd frames, one a vector.
    Zstd,
}

impl Encoding {
    /// The name that system views show.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Raw => "raw",
            Encoding::FrameOfReference => "frame of reference",
            Encoding::Delta => "delta",
            Encoding::RunLength => "run length",
            Encoding::Dictionary => "dictionary",
            Encoding::Fsst => "fsst",
            Encoding::Zstd => "zstd",
        }
    }
}

/// The bytes of a chunk or of a shared part are not what a writer of this version makes. The caller
/// knows the file and the place, and reports both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct FormatError {
    reason: &'static str,
}

impl FormatError {
    pub(crate) const fn new(reason: &'static str) -> FormatError {
        FormatError { reason }
    }
}

#[cfg(test)]
mod tests;
