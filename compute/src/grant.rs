//! The memory pool of one query, or of a node: what can spill shares it evenly, what cannot takes
//! what is left. As DataFusion's `FairSpillPool`, but its size can change while the query runs.
//!
//! Invariant: nothing that asks first ever takes the pool above its size.

use std::fmt;

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use parking_lot::Mutex;

/// A pool whose size can change.
#[derive(Debug)]
pub(crate) struct GrantPool {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    size: usize,
    /// Consumers that can spill.
    spillers: usize,
    /// What they have.
    spillable: usize,
    /// What the others have.
    unspillable: usize,
}

impl State {
    fn reserved(&self) -> usize {
        self.spillable + self.unspillable
    }

    fn add(&mut self, can_spill: bool, bytes: usize) {
        if can_spill {
            self.spillable += bytes;
        } else {
            self.unspillable += bytes;
        }
    }

    /// The most that a consumer may have which has `held` already.
    fn available(&self, can_spill: bool, held: usize) -> usize {
        if can_spill {
            let shared = self.size.saturating_sub(self.unspillable);
            shared.checked_div(self.spillers).unwrap_or(shared).saturating_sub(held)
        } else {
            self.size.saturating_sub(self.reserved())
        }
    }
}

impl GrantPool {
    /// A pool of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let state = State { size, spillers: 0, spillable: 0, unspillable: 0 };
        Self { state: Mutex::new(state) }
    }

    /// Gives the pool another size. False, and nothing changes, if more is reserved already.
    pub(crate) fn resize(&self, size: usize) -> bool {
        let mut state = self.state.lock();
        let fits = state.reserved() <= size;
        if fits {
            state.size = size;
        }
        fits
    }

    /// Its size.
    pub(crate) fn size(&self) -> usize {
        self.state.lock().size
    }
}

impl MemoryPool for GrantPool {
    fn name(&self) -> &'static str {
        "grant"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.state.lock().spillers += 1;
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            let mut state = self.state.lock();
            state.spillers = state.spillers.saturating_sub(1);
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.state.lock().add(reservation.consumer().can_spill(), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let mut state = self.state.lock();
        let part = if reservation.consumer().can_spill() {
            &mut state.spillable
        } else {
            &mut state.unspillable
        };
        *part = part.saturating_sub(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let can_spill = reservation.consumer().can_spill();
        let mut state = self.state.lock();
        let available = state.available(can_spill, reservation.size());
        if additional > available {
            return Err(resources_datafusion_err!(
                "{} asks for {additional} more bytes and has {}; {available} of the {} bytes that \
                 the query may use are left for it",
                reservation.consumer().name(),
                reservation.size(),
                state.size
            ));
        }
        state.add(can_spill, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        self.state.lock().reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.state.lock().size)
    }
}

impl fmt::Display for GrantPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grant of {} bytes", self.state.lock().size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_can_spill_shares_and_the_rest_takes_what_is_left() {
        let grant = Arc::new(GrantPool::new(100));
        let pool: Arc<dyn MemoryPool> = Arc::clone(&grant) as _;
        let spiller = |name| MemoryConsumer::new(name).with_can_spill(true).register(&pool);
        let (first, second) = (spiller("a"), spiller("b"));
        first.try_grow(50).unwrap();
        assert!(first.try_grow(1).is_err(), "half of it is the other's");
        let fixed = MemoryConsumer::new("c").register(&pool);
        fixed.try_grow(50).unwrap();
        assert!(fixed.try_grow(1).is_err());
        assert!(second.try_grow(26).is_err());
        drop(fixed);
        second.try_grow(50).unwrap();
        assert_eq!(grant.reserved(), 100);
        drop((first, second));
        assert_eq!(grant.reserved(), 0);
    }

    #[test]
    fn it_never_shrinks_below_what_is_reserved() {
        let grant = Arc::new(GrantPool::new(100));
        let pool: Arc<dyn MemoryPool> = Arc::clone(&grant) as _;
        let fixed = MemoryConsumer::new("c").register(&pool);
        fixed.try_grow(60).unwrap();
        assert!(!grant.resize(59));
        assert!(grant.resize(60));
        assert!(fixed.try_grow(1).is_err());
        assert!(grant.resize(70));
        fixed.try_grow(10).unwrap();
    }
}
