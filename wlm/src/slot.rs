//! The slots of one queue, and how they change while queries hold them.
//!
//! Every slot has a fixed amount of memory. A change of concurrency or memory sets a *target*:
//!
//! * slots without a query vanish at once;
//! * a slot with a query keeps its memory until the query ends, then it vanishes, unless it is as
//!   the target wants it;
//! * new slots are made, each of the target's memory, while there are fewer than the target wants,
//!   their queue keeps within its target memory, and the pool has the memory free.
//!
//! ```text
//!   [25 25 25 25]  4 slots, 100 GB    target: 3 slots of 50 GB
//!   [25 25 25]     one ended: three slots are as many as there shall be
//!   [25 25 50]     one more ended: 50 GB are in use, a slot of 50 GB fits into 150 GB
//!   [25 50 50]
//!   [50 50 50]     the transition is over
//! ```
//!
//! Invariants: an idle slot always has the target's memory; memory is taken and given back in
//! whole slots, each exactly once.

use std::collections::BTreeMap;

/// The slots of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotPool {
    target_count: u32,
    target_bytes: u64,
    /// Slots without a query, each of `target_bytes`.
    idle: u32,
    /// Slots with a query: how many there are of each size.
    busy: BTreeMap<u64, u32>,
}

impl SlotPool {
    /// A queue that shall have `count` slots of `bytes` each; it has none yet.
    pub(crate) fn new(count: u32, bytes: u64) -> Self {
        Self { target_count: count, target_bytes: bytes, idle: 0, busy: BTreeMap::new() }
    }

    /// Sets how the slots shall be. Idle ones vanish; [`Self::grow`] makes new ones.
    pub(crate) fn retarget(&mut self, count: u32, bytes: u64) {
        (self.target_count, self.target_bytes, self.idle) = (count, bytes, 0);
    }

    /// Makes the slots that the target wants and `free_bytes` of the pool allow. Answers with the
    /// memory that they take.
    pub(crate) fn grow(&mut self, free_bytes: u64) -> u64 {
        let count = self.growth(free_bytes);
        self.idle += count;
        u64::from(count) * self.target_bytes
    }

    /// How many slots [`Self::grow`] makes.
    pub(crate) fn growth(&self, free_bytes: u64) -> u32 {
        let count = self.target_count.saturating_sub(self.count());
        let room = self.budget_bytes().saturating_sub(self.allocated_bytes()).min(free_bytes);
        let fitting = room.checked_div(self.target_bytes).unwrap_or(0);
        count.min(u32::try_from(fitting).unwrap_or(u32::MAX))
    }

    /// Takes `count` slots, if so many are idle. Answers with the memory of each.
    pub(crate) fn take(&mut self, count: u32) -> Option<u64> {
        assert!(count > 0, "a query takes at least one slot");
        self.idle = self.idle.checked_sub(count)?;
        *self.busy.entry(self.target_bytes).or_default() += count;
        Some(self.target_bytes)
    }

    /// Takes slots back. They stay if they are as the target wants them, otherwise they vanish.
    pub(crate) fn release(&mut self, count: u32, bytes: u64) {
        let busy = self.busy.get_mut(&bytes).expect("released slots were taken");
        *busy = busy.checked_sub(count).expect("no slot is released twice");
        if *busy == 0 {
            self.busy.remove(&bytes);
        }
        if bytes == self.target_bytes {
            self.idle += count.min(self.target_count.saturating_sub(self.count()));
        }
    }

    /// Slots there are now.
    pub(crate) fn count(&self) -> u32 {
        self.idle + self.busy_count()
    }

    /// Slots that shall be there.
    pub(crate) fn target_count(&self) -> u32 {
        self.target_count
    }

    /// Memory that each slot shall have.
    pub(crate) fn target_bytes(&self) -> u64 {
        self.target_bytes
    }

    /// Memory of a slot as it is now: of one that differs from the target, if there is one.
    pub(crate) fn current_bytes(&self) -> u64 {
        let differs = |bytes: &&u64| **bytes != self.target_bytes;
        self.busy.keys().find(differs).copied().unwrap_or(self.target_bytes)
    }

    /// Slots without a query.
    pub(crate) fn idle_count(&self) -> u32 {
        self.idle
    }

    /// Slots with a query.
    pub(crate) fn busy_count(&self) -> u32 {
        self.busy.values().sum()
    }

    /// Slots with a query, by size.
    pub(crate) fn busy(&self) -> &BTreeMap<u64, u32> {
        &self.busy
    }

    /// Memory of all slots there are.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        let busy: u64 = self.busy.iter().map(|(bytes, count)| bytes * u64::from(*count)).sum();
        busy + u64::from(self.idle) * self.target_bytes
    }

    /// Memory of all slots that shall be there.
    pub(crate) fn budget_bytes(&self) -> u64 {
        u64::from(self.target_count) * self.target_bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full(count: u32, bytes: u64) -> SlotPool {
        let mut slots = SlotPool::new(count, bytes);
        assert_eq!(slots.grow(u64::MAX), u64::from(count) * bytes);
        slots
    }

    /// The documented example of a dynamic change (scenario 2), in GB: from 4 slots of 25 to 3 of
    /// 50 while four queries run.
    #[test]
    fn the_documented_example_of_a_transition() {
        let mut slots = full(4, 25);
        (0..4).for_each(|_| assert_eq!(slots.take(1), Some(25)));
        slots.retarget(3, 50);
        assert_eq!(slots.grow(100), 0, "50 GB are free, but there are too many slots");
        slots.release(1, 25);
        assert_eq!((slots.grow(125), slots.count()), (0, 3), "75 GB are free, but 3 slots exist");
        slots.release(1, 25);
        assert_eq!((slots.grow(150), slots.idle_count()), (50, 1));
        assert_eq!((slots.count(), slots.current_bytes()), (3, 25));
        assert_eq!(slots.take(1), Some(50));
        for _ in 0..2 {
            slots.release(1, 25);
            assert_eq!((slots.grow(150), slots.count()), (50, 3));
            assert_eq!(slots.take(1), Some(50));
        }
        assert_eq!((slots.count(), slots.current_bytes()), (3, 50));
        assert_eq!((slots.allocated_bytes(), slots.budget_bytes()), (150, 150));
    }

    #[test]
    fn idle_slots_vanish_at_once_and_the_pool_limits_new_ones() {
        let mut slots = full(5, 10);
        slots.take(2);
        slots.retarget(5, 40);
        assert_eq!((slots.count(), slots.allocated_bytes()), (2, 20));
        assert_eq!(slots.grow(90), 80, "two slots of 40 fit into 90");
        slots.retarget(5, 10);
        assert_eq!((slots.count(), slots.grow(1_000)), (2, 30));
    }

    #[test]
    fn fewer_slots_of_the_same_size() {
        let mut slots = full(5, 10);
        slots.take(5);
        slots.retarget(2, 10);
        for expected in [4, 3, 2, 2, 2] {
            slots.release(1, 10);
            assert_eq!((slots.grow(1_000), slots.count()), (0, expected));
        }
        assert_eq!(slots.idle_count(), 2);
    }

    #[test]
    fn a_query_takes_all_its_slots_or_none() {
        let mut slots = full(5, 10);
        assert_eq!(slots.take(3), Some(10));
        assert_eq!((slots.take(3), slots.idle_count()), (None, 2));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(u32),
        Release(usize),
        Retarget(u32, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1_u32..4).prop_map(Step::Take),
            any::<usize>().prop_map(Step::Release),
            (0_u32..8, 1_u64..50).prop_map(|(count, bytes)| Step::Retarget(count, bytes)),
        ]
    }

    proptest! {
        /// Against a list of slots, one entry each.
        #[test]
        fn memory_is_what_the_slots_hold(steps in proptest::collection::vec(step(), 0..60)) {
            const POOL: u64 = 400;
            let mut slots = full(5, 10);
            let mut held: Vec<(u32, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(count) => held.extend(slots.take(count).map(|bytes| (count, bytes))),
                    Step::Release(at) if !held.is_empty() => {
                        let (count, bytes) = held.swap_remove(at % held.len());
                        slots.release(count, bytes);
                    }
                    Step::Release(_) => {}
                    Step::Retarget(count, bytes) => slots.retarget(count, bytes),
                }
                slots.grow(POOL.saturating_sub(slots.allocated_bytes()));
                let busy: u64 = held.iter().map(|(count, bytes)| u64::from(*count) * bytes).sum();
                let idle = u64::from(slots.idle_count()) * slots.target_bytes();
                prop_assert_eq!(slots.allocated_bytes(), busy + idle);
                prop_assert!(slots.allocated_bytes() <= POOL);
                let count: u32 = held.iter().map(|(count, _)| *count).sum();
                prop_assert_eq!(slots.busy_count(), count);
                prop_assert!(slots.idle_count() == 0 || slots.count() <= slots.target_count());
            }
            for (count, bytes) in held {
                slots.release(count, bytes);
            }
            slots.grow(POOL);
            let expected = slots.target_count().min(u32::try_from(POOL / slots.target_bytes()).unwrap());
            prop_assert_eq!(slots.count(), expected);
        }
    }
}
