//! What a repartition has reserved.

use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use parking_lot::Mutex;

/// The one reservation of a repartition: pools share evenly by what each reservation has.
pub(super) struct Memory(Mutex<MemoryReservation>);

/// A part of it, given back when it is dropped.
pub(super) struct Reserved {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(pool: &Arc<dyn MemoryPool>) -> Arc<Self> {
        let consumer = MemoryConsumer::new("RepartitionExec").with_can_spill(true);
        Arc::new(Self(Mutex::new(consumer.register(pool))))
    }

    /// So many bytes, if the pool has them.
    pub(super) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Reserved> {
        // The pool looks at what the reservation has: one request after the other.
        self.0.lock().try_grow(bytes).ok()?;
        Some(Reserved { memory: Arc::clone(self), bytes })
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.0.lock().shrink(self.bytes);
    }
}
