//! Files that no later snapshot will need: kept until the last reader has let go.
//!
//! A reader holds what the catalog knows of each segment and deletion vector that it may open; when
//! the last `Arc` is gone the file can go. A crash before that leaves orphans, which the start sweeps.

use std::any::Any;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use compute::{NewDeletions, StoredFile};
use parking_lot::Mutex;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{SliceId, TableId};
use storage::statistics::SegmentInfo;

use crate::catalog::TableEntry;
use crate::error::Result;

/// The files of tables, wherever they are.
#[async_trait]
pub trait SegmentFiles: Send + Sync + std::fmt::Debug {
    /// Removes a file that nobody needs. A failure is logged there: the start sweeps it again.
    fn remove(&self, table: TableId, slice: SliceId, file: StoredFile);

    /// Writes deletion vectors where their segments are, durably, in the order given; `None` if a row
    /// of any of them is deleted already. What was written of a failed or dropped call is removed.
    async fn write_deletions(
        &self,
        table: TableId,
        new: Vec<NewDeletions>,
    ) -> Result<Option<Vec<DeletionVectorInfo>>>;
}

#[derive(Debug)]
struct Item {
    table: TableId,
    slice: SliceId,
    file: StoredFile,
    readers: Weak<dyn Any + Send + Sync>,
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
        let readers = weak(segment);
        let file = StoredFile::Segment(segment.id);
        self.items.lock().push(Item { table, slice, file, readers });
    }

    /// Removes the file once nobody holds the deletion vector.
    pub fn add_vector(&self, table: TableId, slice: SliceId, vector: &Arc<DeletionVectorInfo>) {
        let readers = weak(vector);
        let file = StoredFile::DeletionVector(vector.segment, vector.id);
        self.items.lock().push(Item { table, slice, file, readers });
    }

    /// Removes all files of a dropped or truncated table.
    pub fn add_table(&self, id: TableId, entry: Option<&TableEntry>) {
        let Some(entry) = entry else { return };
        for (slice, segments) in (0u32..).map(SliceId).zip(&entry.slices) {
            for segment in segments {
                self.add(id, slice, segment);
                if let Some(vector) = entry.deletions.get(&segment.id) {
                    self.add_vector(id, slice, vector);
                }
            }
        }
    }

    /// The files that somebody may still read.
    pub fn held(&self) -> Vec<(TableId, StoredFile)> {
        self.items.lock().iter().map(|item| (item.table, item.file)).collect()
    }

    /// Removes what nobody holds any more.
    pub fn sweep(&self) {
        let mut free = Vec::new();
        self.items.lock().retain_mut(|item| {
            let held = item.readers.strong_count() > 0;
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

fn weak<T: Send + Sync + 'static>(held: &Arc<T>) -> Weak<dyn Any + Send + Sync> {
    let held: Weak<T> = Arc::downgrade(held);
    held
}
