//! Columnar segments of one slice, and their versions. Knows no SQL, no plan and no network.
//!
//! # A segment
//!
//! ```text
//!            column 0                         column 1          ...
//!  +------+--------+---------+---------+---+--------+---------+---+--------+---------+
//!  |header| shared | chunk   | chunk   |...| shared | chunk   |...| footer | trailer |
//!  |      | part   | group 0 | group 1 |   | part   | group 0 |   |        |         |
//!  +------+--------+---------+---------+---+--------+---------+---+--------+---------+
//!           |         |
//!           |         65,536 rows of one column, encoded in vectors of 1,024 rows
//!           dictionary or symbol table of the column, where it has one
//! ```
//!
//! Every part begins at a multiple of 64 bytes, and the checksum of every part covers its padding,
//! so that no bit of the file can change unnoticed. The checksums of chunks and shared parts are in
//! the footer, the footer's is in the trailer, the trailer's in itself: the trailer's checksum
//! stands for the whole file. Byte for byte: `docs/segment-format.md`.
//!
//! # Write path
//!
//! [`sort::sort_rows`] -> [`segment::write_segment`]: cut the rows into row groups -> for each
//! column, in parallel: summarize ([`statistics`], [`zone_map`]) and encode ([`encoding`]) -> lay
//! the parts out, take their checksums -> write under a temporary name, sync, rename, sync the
//! directory ([`io`]) -> [`statistics::SegmentInfo`] for the catalog.
//!
//! # Read path
//!
//! [`segment::Segment::open`] reads header, trailer and footer -> [`segment::Segment::scan_row_group`]
//! prunes by zone maps and opens the chunks that the predicates need ([`cache`], checksum first)
//! -> [`scan::RowGroupScan::next_window`] evaluates the predicates on encoded data, 8,192 rows at a
//! time, without the rows of the [`deletion_vector`] -> [`scan::Window::decode`] decodes what
//! survives, column by column.
//!
//! # Deleting rows
//!
//! [`scan::Window::row_ids`] names the rows that a statement hits -> [`row_set::RowSet`] collects
//! those of each segment -> [`deletion_vector::DeletionVector::union`] with what was deleted before
//! -> [`deletion_vector::write_deletion_vector`] writes another file beside the segment ->
//! [`segment::Segment::with_deletions`] is the segment without these rows, for every scan.
//!
//! # Maintenance
//!
//! [`sort_order`] tells how far the rows of a slice are sorted, [`rewrite`] writes live rows as new
//! segments, and [`verify`] checks whole files and names what is wrong with them.
//!
//! # Commit rule
//!
//! A segment is never changed after its footer is synced, nor is a deletion vector, and they become
//! visible only through the catalog's commit record, never by existing. A file that no commit record
//! names is an orphan ([`segment::list_segments`] finds them) and may be removed.
//!
//! A failed sync ([`error::Error::SyncFailed`]) is never retried: the node must fence itself. A full
//! disk ([`error::Error::is_storage_full`]) fails one statement.

pub mod cache;
pub mod checksum;
mod column_summary;
pub mod deletion_vector;
pub mod distinct_sketch;
pub mod encoding;
pub mod error;
pub mod ids;
pub mod io;
pub mod little_endian;
pub mod parallel;
pub mod predicate;
pub mod rewrite;
pub mod row_set;
mod row_stream;
#[cfg(test)]
mod sample_rows;
#[cfg(test)]
mod sample_segment;
pub mod scan;
pub mod schema;
pub mod segment;
pub mod sort;
pub mod sort_order;
pub mod statistics;
pub mod verify;
pub mod zone_map;

/// Rows of a vector: the unit of encoding.
pub const VECTOR_ROWS: usize = 1024;
/// Rows of a window: what a scan hands out at once, at most.
pub const WINDOW_ROWS: usize = 8 * VECTOR_ROWS;
/// Rows of a row group: the unit of zone maps and of parallel work.
pub const ROW_GROUP_ROWS: usize = 64 * VECTOR_ROWS;
/// The most rows of a segment: 16 row groups.
pub const SEGMENT_ROWS_MAX: usize = 16 * ROW_GROUP_ROWS;
