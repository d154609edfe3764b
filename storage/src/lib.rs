//! Columnar segments of one slice, and their versions.

pub mod encoding;
pub mod error;
pub mod ids;
pub mod predicate;
pub mod schema;

/// Rows of a vector: the unit of encoding, filtering and decoding.
pub const VECTOR_ROWS: usize = 1024;

/// Rows of a window, the batch that a scan hands out: eight vectors.
pub const WINDOW_ROWS: usize = 8192;

/// Rows of a row group, but for the last one of a segment.
pub const ROW_GROUP_ROWS: usize = 65_536;

/// Rows that a segment has at most: 16 row groups.
pub const SEGMENT_ROWS_MAX: usize = 1_048_576;
