//! Deletion vectors: which rows of a segment are deleted, as of a transaction.
//!
//! A vector is a file of its own beside the segment, written once and never changed, like the
//! segment itself. To delete more rows is to write another vector with the rows of both
//! ([`DeletionVector::union`]); the catalog's commit record says which one counts, and the earlier
//! one lives on until no snapshot needs it. Byte for byte: `docs/segment-format.md`.
//!
//! Statistics and zone maps of a segment stay those of all its rows. They remain true of the rows
//! that are left (a bound of all rows is a bound of some), so pruning stays sound; but a minimum, a
//! maximum or a count of NULLs is then a bound and not a fact, and whoever counts rows subtracts
//! [`DeletionVectorInfo::deleted_rows`].
//!
//! Invariants: a vector is bound to its segment by id, fingerprint and number of rows, so that it
//! cannot be laid over another file; every byte of the file is under its checksum, which is taken
//! with the ids of segment and vector, and is compared with the one that the catalog keeps.

mod file;

pub use file::write_deletion_vector;

use std::path::Path;

use crate::error::Result;
use crate::ids::{DeletionVectorId, SegmentId};
use crate::io::Io;
use crate::row_set::{RowGroupSet, RowSet};
use crate::segment::row_group_rows;
use crate::statistics::SegmentInfo;

/// The deleted rows of a segment, bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletionVector {
    id: DeletionVectorId,
    segment: SegmentId,
    segment_fingerprint: u64,
    deleted: RowSet,
}

/// What the catalog keeps of a deletion vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionVectorInfo {
    /// The vector.
    pub id: DeletionVectorId,
    /// The segment whose rows it deletes.
    pub segment: SegmentId,
    /// The checksum of the file: tells it from every other.
    pub fingerprint: u64,
    /// How many rows are deleted.
    pub deleted_rows: u64,
    /// Length of the file in bytes.
    pub byte_count: u64,
}

impl DeletionVector {
    /// The vector `id` that deletes these rows of a segment.
    pub fn new(id: DeletionVectorId, segment: &SegmentInfo, deleted: RowSet) -> DeletionVector {
        assert_eq!(deleted.segment_rows(), segment.row_count, "the rows are the segment's");
        let segment_fingerprint = segment.fingerprint;
        DeletionVector { id, segment: segment.id, segment_fingerprint, deleted }
    }

    /// Reads the vector that `info` was made of, which is for `segment`.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] when the file is not the one that was written, or is for
    /// another segment.
    pub fn open(
        io: &dyn Io,
        path: &Path,
        info: &DeletionVectorInfo,
        segment: &SegmentInfo,
    ) -> Result<DeletionVector> {
        file::read(io, path, info, segment)
    }

    /// Whether a file is the one that `info` was made of, every byte of it; which segment file it is
    /// for is part of that.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] when it is not.
    pub fn verify(io: &dyn Io, path: &Path, info: &DeletionVectorInfo) -> Result<()> {
        file::read_any(io, path, info).map(|_| ())
    }

    /// Whether a file is some vector of these ids, every byte of it: for who does not know the
    /// catalog. Answers with the length of the file.
    ///
    /// # Errors
    /// [`crate::error::Error::Corrupt`] when it is not.
    pub fn verify_by_ids(
        io: &dyn Io,
        path: &Path,
        segment: SegmentId,
        id: DeletionVectorId,
    ) -> Result<u64> {
        file::read_by_ids(io, path, segment, id)
    }

    /// The vector `id` that deletes `rows` too; this one stays as it is.
    pub fn union(&self, id: DeletionVectorId, rows: &RowSet) -> DeletionVector {
        DeletionVector { id, deleted: self.deleted.union(rows), ..*self }
    }

    /// The id.
    pub fn id(&self) -> DeletionVectorId {
        self.id
    }

    /// The segment whose rows are deleted.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// Whether the vector is for this segment file.
    pub fn is_for(&self, segment: &SegmentInfo) -> bool {
        (self.segment, self.segment_fingerprint) == (segment.id, segment.fingerprint)
            && self.deleted.segment_rows() == segment.row_count
    }

    /// The deleted rows.
    pub fn deleted(&self) -> &RowSet {
        &self.deleted
    }

    /// The deleted rows of one row group.
    pub fn deleted_in(&self, row_group: usize) -> &RowGroupSet {
        self.deleted.in_row_group(row_group)
    }

    /// How many rows of the segment are left.
    pub fn live_rows(&self) -> u64 {
        self.deleted.segment_rows() - self.deleted.len()
    }

    /// How many rows of a row group are left.
    pub fn live_rows_in(&self, row_group: usize) -> usize {
        row_group_rows(self.deleted.segment_rows(), row_group) - self.deleted_in(row_group).len()
    }

    /// Bytes that the vector holds in memory.
    pub fn heap_bytes(&self) -> usize {
        size_of::<DeletionVector>() + self.deleted.heap_bytes()
    }
}

/// Ends the name of a deletion vector's file.
const DELETION_VECTOR_SUFFIX: &str = ".dv";

/// The file name of a deletion vector. It sorts beside the segment's and is never used again, so
/// that a backup that has a file of that name need not look at it again.
pub fn deletion_vector_file_name(segment: SegmentId, id: DeletionVectorId) -> String {
    format!("{:016x}-{:016x}{DELETION_VECTOR_SUFFIX}", segment.0, id.0)
}

/// The ids in a file name that [`deletion_vector_file_name`] made.
pub fn parse_deletion_vector_file_name(name: &str) -> Option<(SegmentId, DeletionVectorId)> {
    let (segment, id) = name.strip_suffix(DELETION_VECTOR_SUFFIX)?.split_once('-')?;
    let segment = SegmentId(u64::from_str_radix(segment, 16).ok()?);
    let id = DeletionVectorId(u64::from_str_radix(id, 16).ok()?);
    (deletion_vector_file_name(segment, id) == name).then_some((segment, id))
}

#[cfg(test)]
mod tests;
