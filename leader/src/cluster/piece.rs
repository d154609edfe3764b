//! A file that nodes must have, and where; as long as anybody holds what is known of it.

use std::sync::{Arc, Weak};

use compute::{FileInfo, StoredFile};
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{SegmentId, SliceId, TableId};
use storage::statistics::SegmentInfo;

use crate::catalog::{DistributionStyle, TableEntry};

/// A segment or deletion vector that nodes must have.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The table.
    pub(crate) table: TableId,
    /// The slice.
    pub(crate) slice: SliceId,
    /// Of a table that every node has.
    pub(crate) everywhere: bool,
    /// What the catalog keeps of it.
    pub(crate) file: FileInfo,
}

impl Piece {
    /// The files of a table that its snapshot reads.
    pub(crate) fn of_table(entry: &TableEntry) -> impl Iterator<Item = Self> + '_ {
        let (table, everywhere) = (entry.id, entry.distribution == DistributionStyle::All);
        let slices = (0u32..).map(SliceId).zip(&entry.slices);
        let segments =
            slices.flat_map(|(slice, segments)| segments.iter().map(move |s| (slice, s)));
        segments.flat_map(move |(slice, segment)| {
            let vector = entry.deletions.get(&segment.id);
            let vector = vector.map(|vector| FileInfo::Deletions(Arc::clone(vector)));
            let files = [Some(FileInfo::Segment(Arc::clone(segment))), vector];
            files.into_iter().flatten().map(move |file| Self { table, slice, everywhere, file })
        })
    }

    /// The number that names the file.
    pub(crate) fn number(&self) -> SegmentId {
        self.file.number()
    }
}

/// A [`Piece`] that nobody is kept from letting go of.
#[derive(Debug)]
pub(crate) struct WeakPiece {
    /// The table.
    pub(crate) table: TableId,
    /// The slice.
    pub(crate) slice: SliceId,
    /// Of a table that every node has.
    pub(crate) everywhere: bool,
    /// Which file it is.
    pub(crate) file: StoredFile,
    info: WeakInfo,
}

#[derive(Debug)]
enum WeakInfo {
    Segment(Weak<SegmentInfo>),
    Deletions(Weak<DeletionVectorInfo>),
}

impl WeakPiece {
    pub(crate) fn new(piece: &Piece) -> Self {
        let info = match &piece.file {
            FileInfo::Segment(info) => WeakInfo::Segment(Arc::downgrade(info)),
            FileInfo::Deletions(info) => WeakInfo::Deletions(Arc::downgrade(info)),
        };
        let (table, slice, everywhere) = (piece.table, piece.slice, piece.everywhere);
        Self { table, slice, everywhere, file: piece.file.file(), info }
    }

    /// The piece, if somebody holds it.
    pub(crate) fn piece(&self) -> Option<Piece> {
        let file = match &self.info {
            WeakInfo::Segment(info) => FileInfo::Segment(info.upgrade()?),
            WeakInfo::Deletions(info) => FileInfo::Deletions(info.upgrade()?),
        };
        let (table, slice, everywhere) = (self.table, self.slice, self.everywhere);
        Some(Piece { table, slice, everywhere, file })
    }

    /// Whether somebody holds it.
    pub(crate) fn is_held(&self) -> bool {
        match &self.info {
            WeakInfo::Segment(info) => info.strong_count() > 0,
            WeakInfo::Deletions(info) => info.strong_count() > 0,
        }
    }
}
