//! Checks files offline, whole and without a query: what `blueshift verify` and a scrubber do.
//!
//! [`SegmentCheck`] goes through a segment block by block and says after each how many bytes it has
//! read, so that a scrubber can keep to an [`IoBudget`]; [`verify_segment`] does all of it at once.
//! Nothing stops a check: what cannot be read or does not fit is a [`Problem`] with its place, and
//! the check goes on with the next block. The chunk cache has no part in it: every byte comes from
//! the file.
//!
//! ```text
//!  let mut check = SegmentCheck::new(io, path, expected, Depth::Checksums);
//!  while let Some(bytes) = check.step() {
//!      sleep(budget.spend(bytes, clock.now()));
//!  }
//!  report(check.problems());
//! ```

use std::fmt;
use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::deletion_vector::{DeletionVector, DeletionVectorInfo};
use crate::error::Error;
use crate::ids::ColumnId;
use crate::io::Io;
pub use crate::segment::SegmentCheck;
use crate::statistics::SegmentInfo;

/// How much of a block is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What lies on disk is what was written: every length, offset and checksum.
    Checksums,
    /// Also what was written is right: every value can be decoded, and counts, zone maps and
    /// statistics are those of the values.
    Values,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// The first bytes of a segment.
    Header,
    /// The footer of a segment.
    Footer,
    /// The last bytes of a segment.
    Trailer,
    /// What the chunks of a column share.
    SharedPart {
        /// The column.
        column: ColumnId,
    },
    /// One column of one row group.
    Chunk {
        /// The column.
        column: ColumnId,
        /// The row group.
        row_group: usize,
    },
    /// What is known about all rows of a column.
    Statistics {
        /// The column.
        column: ColumnId,
    },
    /// A deletion vector, which is one block.
    DeletionVector,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => write!(formatter, "file"),
            Self::Header => write!(formatter, "header"),
            Self::Footer => write!(formatter, "footer"),
            Self::Trailer => write!(formatter, "trailer"),
            Self::SharedPart { column } => {
                write!(formatter, "shared part of column id {}", column.0)
            }
            Self::Chunk { column, row_group } => {
                write!(formatter, "column id {}, row group {row_group}", column.0)
            }
            Self::Statistics { column } => {
                write!(formatter, "statistics of column id {}", column.0)
            }
            Self::DeletionVector => write!(formatter, "deletion vector"),
        }
    }
}

/// What kind of problem it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The bytes are not what was written, or what was written is wrong.
    Damaged,
    /// The operating system does not give the bytes, for this reason.
    Unreadable(ErrorKind),
}

/// Something that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Which part of it.
    pub place: Place,
    /// Where the part lies: its first byte, and its length with padding; 0 and 0 if that is not
    /// known.
    pub bytes: (u64, u64),
    /// What kind of problem it is.
    pub kind: ProblemKind,
    /// What does not fit.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ProblemKind::Damaged => "is damaged",
            ProblemKind::Unreadable(_) => "cannot be read",
        };
        write!(formatter, "{} {kind} at {}", self.path.display(), self.place)?;
        if let (offset, length @ 1..) = self.bytes {
            write!(formatter, " (block of {length} bytes at byte {offset})")?;
        }
        write!(formatter, ": {}", self.reason)
    }
}

impl Problem {
    /// The problem behind an error that came up at this place.
    pub(crate) fn new(path: &Path, place: Place, bytes: (u64, u64), error: Error) -> Problem {
        let (kind, reason) = match error {
            Error::Corrupt { reason, .. } => (ProblemKind::Damaged, reason),
            Error::SchemaMismatch(reason) => (ProblemKind::Damaged, reason),
            Error::Io { source, .. } | Error::SyncFailed { source, .. } => {
                (ProblemKind::Unreadable(source.kind()), source.to_string())
            }
        };
        Problem { path: path.to_owned(), place, bytes, kind, reason }
    }
}

/// Checks the segment that the catalog keeps `expected` of, at once.
pub fn verify_segment(
    io: Arc<dyn Io>,
    path: &Path,
    expected: &SegmentInfo,
    depth: Depth,
) -> Vec<Problem> {
    let mut check = SegmentCheck::new(io, path, expected, depth);
    while check.step().is_some() {}
    check.problems()
}

/// Checks the deletion vector that the catalog keeps `expected` of, which is for `segment`: its
/// bytes, its checksum, that each row is there in the segment, and the counts.
pub fn verify_deletion_vector(
    io: &dyn Io,
    path: &Path,
    expected: &DeletionVectorInfo,
    segment: &SegmentInfo,
) -> Vec<Problem> {
    match DeletionVector::open(io, path, expected, segment) {
        Ok(_) => Vec::new(),
        Err(error) => {
            let bytes = (0, expected.byte_count);
            vec![Problem::new(path, Place::DeletionVector, bytes, error)]
        }
    }
}

/// How fast a scrubber may read: so many bytes a second on average, and no catching up after a
/// pause. Time is passed in, as what has gone by since any fixed moment.
#[derive(Debug, Clone, Copy)]
pub struct IoBudget {
    bytes_per_second: NonZeroU64,
    /// When all that was spent is paid for.
    paid_at: Duration,
}

impl IoBudget {
    /// Nothing is spent yet.
    pub fn new(bytes_per_second: NonZeroU64) -> IoBudget {
        IoBudget { bytes_per_second, paid_at: Duration::ZERO }
    }

    /// Takes note of bytes that were read just now; returns how long to wait before the next.
    pub fn spend(&mut self, bytes: u64, now: Duration) -> Duration {
        let nanoseconds =
            u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second.get());
        let price = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.paid_at = self.paid_at.max(now).saturating_add(price);
        self.paid_at - now
    }
}

#[cfg(test)]
mod tests;
