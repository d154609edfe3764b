//! Segment files: one table's rows on one slice, immutable, columns encoded and checksummed.

mod check;
mod file;
mod footer;
mod layout;
mod reader;
mod writer;

pub use check::SegmentCheck;
pub(crate) use footer::{row_group_count, row_group_rows};
pub use reader::Segment;
pub use writer::write_segment;

use std::path::{Path, PathBuf};

use crate::deletion_vector::parse_deletion_vector_file_name;
use crate::error::Result;
use crate::ids::{DeletionVectorId, SegmentId};
use crate::io::{Io, TEMPORARY_SUFFIX};

/// Ends the name of a segment file.
const SEGMENT_SUFFIX: &str = ".seg";

/// The file name of a segment.
pub fn segment_file_name(id: SegmentId) -> String {
    format!("{:016x}{SEGMENT_SUFFIX}", id.0)
}

/// The files of a directory of segments, as a sweep after a restart needs them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SegmentListing {
    /// Finished files. Those that no commit record names are orphans.
    pub segments: Vec<(SegmentId, PathBuf)>,
    /// Finished deletion vectors. Those that no commit record names are orphans.
    pub deletion_vectors: Vec<(SegmentId, DeletionVectorId, PathBuf)>,
    /// Files whose writer did not finish: always orphans once the writer is gone.
    pub temporary: Vec<PathBuf>,
}

/// Lists segments and deletion vectors in a directory, and the leftovers; files of other kinds are
/// not mentioned.
pub fn list_segments(io: &dyn Io, directory: &Path) -> Result<SegmentListing> {
    let mut listing = SegmentListing::default();
    for path in io.list(directory)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let finished = name.strip_suffix(TEMPORARY_SUFFIX).unwrap_or(name);
        let segment = parse_file_name(finished);
        let vector = parse_deletion_vector_file_name(finished);
        match (segment, vector) {
            (None, None) => {}
            (Some(_), _) | (_, Some(_)) if finished != name => listing.temporary.push(path),
            (Some(id), _) => listing.segments.push((id, path)),
            (None, Some((segment, id))) => listing.deletion_vectors.push((segment, id, path)),
        }
    }
    Ok(listing)
}

fn parse_file_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let id = SegmentId(u64::from_str_radix(digits, 16).ok()?);
    (segment_file_name(id) == name).then_some(id)
}

#[cfg(test)]
mod tests;
