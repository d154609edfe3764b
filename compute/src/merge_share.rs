//! A memory pool in which the merges of a sort leave room for each other.
//!
//! DataFusion merges as many sorted runs from the disk at once as it can reserve memory for, and fewer
//! in several passes when it cannot. The sorts of all partitions merge at the
//! same time: the first one would reserve all there is, and the others fail for want of the little
//! that they need. Here no merge gets more than its share; it then takes more passes.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

/// How consumers that merge sorted runs are named.
pub(crate) const MERGE: &str = "ExternalSorterMerge";

/// About as many merges run at the same time: one for each partition.
fn merges() -> usize {
    // Each query has a pool, and looking means to read files.
    static PROCESSORS: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get));
    *PROCESSORS
}

/// What a merge may reserve in a pool that gives `merges` of them the half of it, bytes.
fn share_of(limit: MemoryLimit, merges: usize) -> usize {
    match limit {
        MemoryLimit::Finite(bytes) => bytes / 2 / merges,
        MemoryLimit::Infinite | MemoryLimit::Unknown => usize::MAX,
    }
}

/// What a merge may reserve in `pool`, bytes.
pub(crate) fn share(pool: &dyn MemoryPool) -> usize {
    share_of(pool.memory_limit(), merges())
}

/// Another pool, with a bound for each merge.
#[derive(Debug)]
pub(crate) struct MergeShare<P> {
    inner: Arc<P>,
    merges: usize,
}

impl<P: MemoryPool> MergeShare<P> {
    pub(crate) fn new(inner: Arc<P>) -> Self {
        Self { inner, merges: merges() }
    }

    fn share(&self) -> usize {
        share_of(self.inner.memory_limit(), self.merges)
    }
}

impl<P: MemoryPool> fmt::Display for MergeShare<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.inner.name())
    }
}

impl<P: MemoryPool> MemoryPool for MergeShare<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.inner.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.inner.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.inner.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let is_merge = reservation.consumer().name().starts_with(MERGE);
        if is_merge && reservation.size() + additional > self.share() {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "a merge of sorted runs may reserve {} bytes",
                self.share()
            )));
        }
        self.inner.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.inner.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.inner.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::GreedyMemoryPool;

    #[test]
    fn a_merge_leaves_room_for_others() {
        let inner = Arc::new(GreedyMemoryPool::new(100));
        let pool: Arc<dyn MemoryPool> = Arc::new(MergeShare { inner, merges: 1 });
        let merge = MemoryConsumer::new("ExternalSorterMerge[0]").register(&pool);
        merge.try_grow(50).unwrap();
        assert!(merge.try_grow(1).is_err());
        let other = MemoryConsumer::new("ExternalSorter[0]").register(&pool);
        other.try_grow(50).unwrap();
        drop(merge);
        assert_eq!(pool.reserved(), 50);
    }
}
