//! A memory pool that remembers how much of it was reserved at most: of a grant, and of what is
//! measured within one.
//!
//! Others may draw on the pool below it at the same time; only what is reserved here counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::Result;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

/// Another pool, and what is taken from it here.
#[derive(Debug)]
pub struct PeakMemory {
    inner: Arc<dyn MemoryPool>,
    reserved_bytes: AtomicUsize,
    peak_bytes: AtomicUsize,
}

impl PeakMemory {
    /// The same environment, in which memory is counted by the second value.
    ///
    /// # Errors
    /// Fails if the environment cannot be made, which would be a defect.
    pub fn measure(runtime: &RuntimeEnv) -> Result<(Arc<RuntimeEnv>, Arc<Self>)> {
        let peak = Arc::new(Self {
            inner: Arc::clone(&runtime.memory_pool),
            reserved_bytes: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
        });
        let pool = Arc::clone(&peak) as Arc<dyn MemoryPool>;
        let runtime = RuntimeEnvBuilder::from_runtime_env(runtime).with_memory_pool(pool);
        Ok((runtime.build_arc()?, peak))
    }

    /// The most that was reserved at one time, bytes.
    pub fn peak_bytes(&self) -> usize {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    fn grown(&self, additional: usize) {
        let before = self.reserved_bytes.fetch_add(additional, Ordering::Relaxed);
        self.peak_bytes.fetch_max(before + additional, Ordering::Relaxed);
    }
}

impl fmt::Display for PeakMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.inner.name())
    }
}

impl MemoryPool for PeakMemory {
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
        self.grown(additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.inner.shrink(reservation, shrink);
        self.reserved_bytes.fetch_sub(shrink, Ordering::Relaxed);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.inner.try_grow(reservation, additional)?;
        self.grown(additional);
        Ok(())
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
    fn the_peak_is_of_one_query_and_stays() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100));
        let node = RuntimeEnvBuilder::new().with_memory_pool(Arc::clone(&pool)).build().unwrap();
        let (runtime, peak) = PeakMemory::measure(&node).unwrap();
        let other = MemoryConsumer::new("other").register(&pool);
        other.try_grow(50).unwrap();
        let first = MemoryConsumer::new("first").register(&runtime.memory_pool);
        let second = MemoryConsumer::new("second").register(&runtime.memory_pool);
        first.try_grow(30).unwrap();
        second.try_grow(10).unwrap();
        assert!(second.try_grow(20).is_err(), "the pool below has its limit");
        drop(first);
        second.try_grow(15).unwrap();
        assert_eq!(peak.peak_bytes(), 40);
        drop(second);
        assert_eq!((peak.peak_bytes(), pool.reserved()), (40, 50));
    }
}
