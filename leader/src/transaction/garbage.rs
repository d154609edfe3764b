//! Files that no later snapshot will need: kept until the last reader has let go.
//!
//! A reader holds what the catalog knows of each segment and deletion vector that it may open; when
//! the last `Arc` is gone the file can go. A crash before that leaves orphans, which the start sweeps.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use compute::{NewDeletions, StoredFile};
use parking_lot::Mutex;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{SliceId, TableId};

use crate::catalog::TableEntry;
use crate::cluster::{Piece, WeakPiece};
use crate::error::Result;

/// The files of tables, wherever they are.
#[async_trait]
pub trait SegmentFiles: Send + Sync + std::fmt::Debug {
    /// Removes a file that nobody needs. A failure is logged there: the start sweeps it again.
    fn remove(&self, table: TableId, slice: SliceId, file: StoredFile);

    /// Writes deletion vectors where their segments are, `everywhere` if these are on every node,
    /// durably and with their copies, in the order given; `None` if a row of any of them is deleted
    /// already. What was written of a failed or dropped call is removed. `spare` are ids for
    /// beginning again, for each vector [`SegmentFiles::attempts`] less one.
    async fn write_deletions(
        &self,
        table: TableId,
        new: Vec<NewDeletions>,
        everywhere: bool,
        spare: Range<u64>,
    ) -> Result<Option<Vec<Arc<DeletionVectorInfo>>>>;

    /// How often writing deletion vectors is begun at most.
    fn attempts(&self) -> u64;

    /// Whether they are on a disk of this process. A node of its own closes itself when a sync of its
    /// disk fails.
    fn are_here(&self) -> bool;

    /// Whether a sync of that disk has failed, whoever was told.
    fn are_unsynced(&self) -> bool;
}

/// The files to be removed.
#[derive(Debug)]
pub struct Garbage {
    files: Arc<dyn SegmentFiles>,
    items: Mutex<Vec<WeakPiece>>,
}

impl Garbage {
    /// Nothing to remove yet.
    pub fn new(files: Arc<dyn SegmentFiles>) -> Self {
        Self { files, items: Mutex::default() }
    }

    /// Removes the file once nobody holds what is known of it.
    pub(crate) fn add(&self, piece: &Piece) {
        self.items.lock().push(WeakPiece::new(piece));
    }

    /// Removes all files of a dropped or truncated table.
    pub fn add_table(&self, entry: &TableEntry) {
        self.items.lock().extend(Piece::of_table(entry).map(|piece| WeakPiece::new(&piece)));
    }

    /// The files that somebody may still read.
    pub(crate) fn held(&self) -> Vec<Piece> {
        self.items.lock().iter().filter_map(WeakPiece::piece).collect()
    }

    /// Removes what nobody holds any more.
    pub fn sweep(&self) {
        let mut free = Vec::new();
        self.items.lock().retain(|item| {
            let held = item.is_held();
            if !held {
                free.push((item.table, item.slice, item.file));
            }
            held
        });
        for (table, slice, file) in free {
            self.files.remove(table, slice, file);
        }
    }
}
