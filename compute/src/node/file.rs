//! The files of a slice and their names.
//!
//! ```text
//! <table>-<segment>.seg            a segment
//! <table>-<segment>-<vector>.dv    rows of it that are deleted
//! ```
//!
//! Ids of segments and of deletion vectors come from one growing sequence, so that one number names
//! a file of either kind ([`StoredFile::number`]): what is known, reserved or given up are sets and
//! ranges of numbers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{DeletionVectorId, SegmentId, SliceId, TableId};
use storage::io::TEMPORARY_SUFFIX;
use storage::statistics::SegmentInfo;

/// A file of a slice that the catalog may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredFile {
    /// A segment.
    Segment(SegmentId),
    /// A deletion vector of a segment.
    DeletionVector(SegmentId, DeletionVectorId),
}

impl StoredFile {
    /// The number that names the file among files of both kinds.
    pub fn number(self) -> SegmentId {
        match self {
            Self::Segment(id) => id,
            Self::DeletionVector(_, id) => SegmentId(id.0),
        }
    }
}

/// What the catalog keeps of a file, by which a copy of it is known to be one.
#[derive(Debug, Clone)]
pub enum FileInfo {
    /// A segment.
    Segment(Arc<SegmentInfo>),
    /// A deletion vector.
    Deletions(Arc<DeletionVectorInfo>),
}

impl FileInfo {
    /// Which file it is.
    pub fn file(&self) -> StoredFile {
        match self {
            Self::Segment(info) => StoredFile::Segment(info.id),
            Self::Deletions(info) => StoredFile::DeletionVector(info.segment, info.id),
        }
    }

    /// The number that names it.
    pub fn number(&self) -> SegmentId {
        self.file().number()
    }

    /// The length of the file.
    pub fn byte_count(&self) -> u64 {
        match self {
            Self::Segment(info) => info.byte_count,
            Self::Deletions(info) => info.byte_count,
        }
    }
}

/// In the name of a file that is being copied from another node, before a number that no other copy
/// has.
pub(super) const COPY_MARK: &str = ".copy";

/// Where the files of a slice are, in a node's data directory.
pub(crate) fn slice_dir(data_dir: &Path, slice: usize) -> PathBuf {
    data_dir.join(format!("slice_{slice}"))
}

/// Where a file of a table is, in a node's data directory.
pub(crate) fn file_path(
    data_dir: &Path,
    table: TableId,
    slice: SliceId,
    file: StoredFile,
) -> PathBuf {
    slice_dir(data_dir, slice.0 as usize).join(file_name(table, file))
}

/// The name of a file of a table.
fn file_name(table: TableId, file: StoredFile) -> String {
    match file {
        StoredFile::Segment(id) => format!("{:08x}-{:016x}.seg", table.0, id.0),
        StoredFile::DeletionVector(segment, id) => {
            format!("{:08x}-{:016x}-{:016x}.dv", table.0, segment.0, id.0)
        }
    }
}

/// Which file a name names, if it is one of a whole file.
pub(super) fn stored_file(file: &Path) -> Option<StoredFile> {
    let (_, ids) = file.file_name()?.to_str()?.split_once('-')?;
    let id = |text| u64::from_str_radix(text, 16).ok();
    if let Some(ids) = ids.strip_suffix(".dv") {
        let (segment, vector) = ids.split_once('-')?;
        let vector = DeletionVectorId(id(vector)?);
        return Some(StoredFile::DeletionVector(SegmentId(id(segment)?), vector));
    }
    Some(StoredFile::Segment(SegmentId(id(ids.strip_suffix(".seg")?)?)))
}

/// What the name of a file says, also of one that is still being written or copied: its table and its
/// number. A name that is not wholly of our making has no number.
pub(super) fn parse_file_name(file: &Path) -> (Option<TableId>, Option<SegmentId>) {
    let Some((table, rest)) = file.file_name().and_then(|n| n.to_str()?.split_once('-')) else {
        return (None, None);
    };
    let name = match rest.strip_suffix(TEMPORARY_SUFFIX) {
        Some(name) => name.split_once(COPY_MARK).map_or(name, |(name, _)| name),
        None => rest,
    };
    let number = match (name.strip_suffix(".seg"), name.strip_suffix(".dv")) {
        (Some(id), _) => u64::from_str_radix(id, 16).ok(),
        (None, Some(ids)) => ids.split_once('-').and_then(|(segment, id)| {
            u64::from_str_radix(segment, 16).ok().and_then(|_| u64::from_str_radix(id, 16).ok())
        }),
        (None, None) => None,
    };
    (u32::from_str_radix(table, 16).ok().map(TableId), number.map(SegmentId))
}

/// Whether the file was not wholly written, if nobody writes it now.
pub(super) fn is_temporary(file: &Path) -> bool {
    file.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.ends_with(TEMPORARY_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_file_it_is() {
        let files = [
            StoredFile::Segment(SegmentId(0x12)),
            StoredFile::DeletionVector(SegmentId(0x12), DeletionVectorId(0xabc)),
        ];
        for file in files {
            let name = file_name(TableId(7), file);
            assert_eq!(stored_file(Path::new(&name)), Some(file));
            for name in [name.clone(), format!("{name}.tmp"), format!("{name}.copy3.tmp")] {
                let parsed = parse_file_name(Path::new(&name));
                assert_eq!(parsed, (Some(TableId(7)), Some(file.number())), "{name}");
            }
        }
        for strange in ["00000007-.seg", "00000007-12.dv", "00000007-x-12.dv", "00000007-12", "x"] {
            assert_eq!(parse_file_name(Path::new(strange)).1, None, "{strange}");
            assert_eq!(stored_file(Path::new(strange)), None, "{strange}");
        }
    }
}
