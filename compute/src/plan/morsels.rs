//! The row groups of a scan, handed out to its partitions.
//!
//! A partition of a KEY table that promises its hash reads the row groups of its own slice. All
//! other scans share one queue: a partition that is done sooner takes the next row group, so that
//! no core waits for an uneven slice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use storage::ROW_GROUP_ROWS;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::SliceId;
use storage::statistics::SegmentInfo;

use crate::table::TableVersion;

/// One row group of one segment.
#[derive(Debug, Clone)]
pub(crate) struct Morsel {
    pub(crate) slice: SliceId,
    pub(crate) segment: Arc<SegmentInfo>,
    /// Which of the segment's rows are deleted.
    pub(crate) deletions: Option<Arc<DeletionVectorInfo>>,
    pub(crate) row_group: usize,
}

/// Row groups in the order in which they are handed out.
#[derive(Debug)]
pub(crate) struct MorselQueue {
    morsels: Vec<Morsel>,
    next: AtomicUsize,
}

impl MorselQueue {
    /// All row groups of these slices.
    pub(crate) fn new(version: &TableVersion, slices: &[usize]) -> Self {
        let mut morsels = Vec::new();
        for &slice in slices {
            let segments = version.slices.get(slice).map_or(&[][..], Vec::as_slice);
            for segment in segments {
                let deletions = version.deletions.get(&segment.id);
                for row_group in 0..row_group_count(segment) {
                    morsels.push(Morsel {
                        slice: SliceId(u32::try_from(slice).unwrap_or(u32::MAX)),
                        segment: Arc::clone(segment),
                        deletions: deletions.map(Arc::clone),
                        row_group,
                    });
                }
            }
        }
        Self { morsels, next: AtomicUsize::new(0) }
    }

    /// The next row group and the one after it, which will be asked for soon.
    pub(crate) fn take(&self) -> Option<(&Morsel, Option<&Morsel>)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let morsel = self.morsels.get(index)?;
        Some((morsel, self.morsels.get(index + 1)))
    }
}

fn row_group_count(segment: &SegmentInfo) -> usize {
    usize::try_from(segment.row_count.div_ceil(ROW_GROUP_ROWS as u64)).unwrap_or(usize::MAX)
}

/// The queues of one execution of a plan. Executing a partition for a second time starts the next
/// execution: a plan that runs twice reads everything twice.
#[derive(Debug)]
pub(crate) struct Execution {
    queues: Vec<Arc<MorselQueue>>,
    opened: Vec<bool>,
}

impl Execution {
    /// Partitions that each read the slices listed for them.
    pub(crate) fn pinned(version: &TableVersion, partitions: &[Vec<usize>]) -> Self {
        let queues =
            partitions.iter().map(|slices| Arc::new(MorselQueue::new(version, slices))).collect();
        Self { queues, opened: vec![false; partitions.len()] }
    }

    /// Partitions that share the row groups of all slices listed.
    pub(crate) fn shared(version: &TableVersion, partitions: &[Vec<usize>]) -> Self {
        let slices: Vec<usize> = partitions.iter().flatten().copied().collect();
        let queue = Arc::new(MorselQueue::new(version, &slices));
        let queues = partitions.iter().map(|_| Arc::clone(&queue)).collect();
        Self { queues, opened: vec![false; partitions.len()] }
    }

    /// The queue of a partition; none if it was opened before.
    pub(crate) fn open(&mut self, partition: usize) -> Option<Arc<MorselQueue>> {
        let opened = self.opened.get_mut(partition)?;
        if std::mem::replace(opened, true) {
            return None;
        }
        Some(Arc::clone(&self.queues[partition]))
    }
}
