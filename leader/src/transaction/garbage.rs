//! Segment files that no later snapshot will need: kept until the last reader has let go.
//!
//! A reader holds the [`SegmentInfo`] of each segment it may open; when the last `Arc` is gone the
//! file can go. A crash before that leaves orphans, which the start sweeps.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use storage::ids::{SegmentId, SliceId, TableId};
use storage::statistics::SegmentInfo;

use crate::catalog::{DistributionStyle, TableEntry};
use crate::cluster::Piece;

/// Removes segment files, wherever they are.
pub trait SegmentFiles: Send + Sync + std::fmt::Debug {
    /// Removes a file that nobody needs. A failure is logged there: the start sweeps it again.
    fn remove(&self, table: TableId, slice: SliceId, segment: SegmentId);
}

#[derive(Debug)]
struct Item {
    table: TableId,
    slice: SliceId,
    id: SegmentId,
    everywhere: bool,
    readers: Weak<SegmentInfo>,
}

/// The files to be removed.
#[derive(Debug)]
pub struct Garbage {
    files: Arc<dyn SegmentFiles>,
    items: Mutex<Vec<Item>>,
}

impl Garbage {
    /// Nothing to remove yet.
    pub fn new(files: Arc<dyn SegmentFiles>) -> Self {
        Self { files, items: Mutex::default() }
    }

    /// Removes the file once nobody holds the segment.
    pub fn add(&self, table: TableId, slice: SliceId, segment: &Arc<SegmentInfo>) {
        self.add_item(table, slice, false, segment);
    }

    fn add_item(
        &self,
        table: TableId,
        slice: SliceId,
        everywhere: bool,
        segment: &Arc<SegmentInfo>,
    ) {
        let readers = Arc::downgrade(segment);
        self.items.lock().push(Item { table, slice, id: segment.id, everywhere, readers });
    }

    /// Removes all files of a dropped or truncated table.
    pub fn add_table(&self, id: TableId, entry: Option<&TableEntry>) {
        for (slice, segments) in (0u32..).zip(entry.into_iter().flat_map(|entry| &entry.slices)) {
            let everywhere =
                entry.is_some_and(|entry| entry.distribution == DistributionStyle::All);
            for segment in segments {
                self.add_item(id, SliceId(slice), everywhere, segment);
            }
        }
    }

    /// The segments that somebody may still read.
    pub(crate) fn held(&self) -> Vec<Piece> {
        let piece = |item: &Item| {
            let info = item.readers.upgrade()?;
            Some(Piece { table: item.table, slice: item.slice, everywhere: item.everywhere, info })
        };
        self.items.lock().iter().filter_map(piece).collect()
    }

    /// Removes what nobody holds any more.
    pub fn sweep(&self) {
        let mut free = Vec::new();
        self.items.lock().retain_mut(|item| {
            let held = item.readers.strong_count() > 0;
            if !held {
                free.push((item.table, item.slice, item.id));
            }
            held
        });
        for (table, slice, segment) in free {
            self.files.remove(table, slice, segment);
        }
    }
}
