//! The ledger: who holds which part of the memory of queries.
//!
//! ```text
//!   pool ---+--- superuser queue: one slot
//!           +--- short query queue: light slots, while acceleration is on
//!           +--- the rest, for user queues:
//!                  manual     slots of each queue; what no queue has a share of is lent
//!                  automatic  grants of predicted size
//! ```
//!
//! All figures are bytes on each node: a query runs on every node and has the same grant on each.
//!
//! Invariants: slots there are, loans and grants together never exceed the pool; a [`Hold`] is
//! made by taking and ends by giving back, and cannot be copied, so nothing is given back twice.

use crate::config::{Config, Mode};
use crate::error::{Error, Result};
use crate::ids::{QueueId, ServiceClass};
use crate::short_query::SHORT_QUERY_SLOTS;
use crate::slot::SlotPool;

/// The least memory of a slot.
pub const SLOT_BYTES_MIN: u64 = 64 * 1024;
/// The most queries that run at once in automatic mode, the short query queue aside.
pub const AUTO_QUERIES_MAX: u32 = 50;
/// Load of a long query, in thousandths of a query.
pub(crate) const LOAD_OF_LONG_QUERY: u32 = 1_000;
/// Load of the shortest query.
pub(crate) const LOAD_OF_SHORT_QUERY: u32 = 100;
/// Load that automatic mode allows before it knows how busy the nodes are: five long queries.
pub(crate) const LOAD_LIMIT_START: u32 = 5_000;
const LOAD_LIMIT_MIN: u32 = 2_000;
const LOAD_LIMIT_MAX: u32 = 50_000;

/// The memory that queries may use on each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    bytes: u64,
    superuser_bytes: u64,
    short_query_bytes: u64,
}

impl Pool {
    /// A pool of `bytes`: a twentieth for the superuser queue, a tenth for short queries.
    pub fn new(bytes: u64) -> Self {
        Self { bytes, superuser_bytes: bytes / 20, short_query_bytes: bytes / 10 }
    }

    /// A pool in which user queues have `query_bytes` while short query acceleration is off.
    pub fn with_reserves(query_bytes: u64, superuser_bytes: u64, short_query_bytes: u64) -> Self {
        let bytes = query_bytes.saturating_add(superuser_bytes);
        Self { bytes, superuser_bytes, short_query_bytes: short_query_bytes.min(query_bytes) }
    }

    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What user queues share under a configuration.
    pub fn query_bytes(&self, config: &Config) -> u64 {
        let short = if config.short_queries().is_some() { self.short_query_bytes } else { 0 };
        self.bytes - self.superuser_bytes - short
    }
}

/// A group of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Superuser,
    Short,
    /// A user queue of a manual configuration.
    Queue(QueueId),
}

/// What a query holds. Given back with [`Memory::release`], and only there.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what is held must be given back"]
pub(crate) struct Hold {
    /// Under which number system tables show the query.
    pub(crate) class: ServiceClass,
    kind: HoldKind,
}

#[derive(Debug, PartialEq, Eq)]
enum HoldKind {
    Slots { lane: Lane, count: u32, slot_bytes: u64, loan_bytes: u64 },
    Auto { bytes: u64, load: u32 },
}

impl Hold {
    pub(crate) fn bytes(&self) -> u64 {
        match self.kind {
            HoldKind::Slots { count, slot_bytes, loan_bytes, .. } => {
                u64::from(count) * slot_bytes + loan_bytes
            }
            HoldKind::Auto { bytes, .. } => bytes,
        }
    }

    /// Slots held; an automatic grant counts as one.
    pub(crate) fn slots(&self) -> u32 {
        match self.kind {
            HoldKind::Slots { count, .. } => count,
            HoldKind::Auto { .. } => 1,
        }
    }

    pub(crate) fn is_short(&self) -> bool {
        matches!(self.kind, HoldKind::Slots { lane: Lane::Short, .. })
    }

    pub(crate) fn is_auto(&self) -> bool {
        matches!(self.kind, HoldKind::Auto { .. })
    }

    /// Whether it consists of slots of a user queue.
    pub(crate) fn is_of_queue(&self) -> bool {
        matches!(self.kind, HoldKind::Slots { lane: Lane::Queue(_), .. })
    }
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Memory {
    pool: Pool,
    superuser: SlotPool,
    short: SlotPool,
    /// One per user queue in manual mode, none in automatic mode.
    queues: Vec<SlotPool>,
    loaned_bytes: u64,
    auto: Auto,
}

/// Automatic mode's part of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Auto {
    /// What grants may take together; 0 in manual mode.
    budget_bytes: u64,
    granted_bytes: u64,
    queries: u32,
    load: u32,
    load_limit: u32,
}

impl Memory {
    /// The ledger of a pool under a configuration, with every slot idle.
    pub(crate) fn new(pool: Pool, config: &Config) -> Result<Self> {
        check(pool, config)?;
        let slots = || SlotPool::new(0, 0);
        let queues = match config.mode() {
            Mode::Manual => config.queues().iter().map(|_| slots()).collect(),
            Mode::Auto => Vec::new(),
        };
        let auto = Auto {
            budget_bytes: 0,
            granted_bytes: 0,
            queries: 0,
            load: 0,
            load_limit: LOAD_LIMIT_START,
        };
        let (superuser, short) = (slots(), slots());
        let mut memory = Self { pool, superuser, short, queues, loaned_bytes: 0, auto };
        memory.retarget(config)?;
        memory.grow();
        Ok(memory)
    }

    /// Takes the sizes of a new configuration of the same mode for the target.
    ///
    /// # Errors
    /// A slot would be too small; nothing is changed then.
    pub(crate) fn retarget(&mut self, config: &Config) -> Result<()> {
        check(self.pool, config)?;
        self.superuser.retarget(1, self.pool.superuser_bytes);
        let short_slots = if config.short_queries().is_some() { SHORT_QUERY_SLOTS } else { 0 };
        let short_bytes = self.pool.short_query_bytes / u64::from(SHORT_QUERY_SLOTS);
        self.short.retarget(short_slots, short_bytes);
        let query_bytes = self.pool.query_bytes(config);
        match config.mode() {
            Mode::Manual => {
                assert_eq!(self.queues.len(), config.queues().len(), "the queues are static");
                for (index, slots) in self.queues.iter_mut().enumerate() {
                    let queue = QueueId(index);
                    let count = config.queue(queue).concurrency;
                    slots.retarget(count, config.slot_bytes(queue, query_bytes));
                }
            }
            Mode::Auto => self.auto.budget_bytes = query_bytes,
        }
        Ok(())
    }

    /// Whether the sizes of a configuration are of use.
    pub(crate) fn check(&self, config: &Config) -> Result<()> {
        check(self.pool, config)
    }

    /// Makes the slots for which memory has become free.
    pub(crate) fn grow(&mut self) {
        let mut free = self.free_bytes();
        for slots in [&mut self.superuser, &mut self.short].into_iter().chain(&mut self.queues) {
            free -= slots.grow(free);
        }
        assert!(self.allocated_bytes() <= self.pool.bytes, "the pool is never exceeded");
    }

    /// Whether [`Self::grow`] would make a slot: never after a dispatch.
    pub(crate) fn can_grow(&self) -> bool {
        let free = self.free_bytes();
        self.all_slots().any(|slots| slots.growth(free) > 0)
    }

    /// Takes `count` slots of a lane, with a loan if the query is expected to need more.
    pub(crate) fn take_slots(
        &mut self,
        lane: Lane,
        class: ServiceClass,
        count: u32,
        wanted_bytes: u64,
    ) -> Option<Hold> {
        let slot_bytes = self.slots_mut(lane).take(count)?;
        let loan_bytes = match lane {
            Lane::Superuser | Lane::Short => 0,
            Lane::Queue(_) => {
                let more = wanted_bytes.saturating_sub(u64::from(count) * slot_bytes);
                more.min(self.lendable_bytes())
            }
        };
        self.loaned_bytes += loan_bytes;
        Some(Hold { class, kind: HoldKind::Slots { lane, count, slot_bytes, loan_bytes } })
    }

    /// Whether automatic mode has room for a query.
    pub(crate) fn has_room(&self, bytes: u64, load: u32) -> bool {
        let auto = &self.auto;
        let load_fits = auto.queries == 0 || auto.load + load <= auto.load_limit;
        bytes <= self.auto_free_bytes() && auto.queries < AUTO_QUERIES_MAX && load_fits
    }

    /// Takes an automatic grant, if there is room.
    pub(crate) fn take_auto(&mut self, class: ServiceClass, bytes: u64, load: u32) -> Option<Hold> {
        if !self.has_room(bytes, load) {
            return None;
        }
        self.auto.granted_bytes += bytes;
        self.auto.load += load;
        self.auto.queries += 1;
        Some(Hold { class, kind: HoldKind::Auto { bytes, load } })
    }

    /// Takes back what a query held.
    pub(crate) fn release(&mut self, hold: Hold) {
        match hold.kind {
            HoldKind::Slots { lane, count, slot_bytes, loan_bytes } => {
                self.slots_mut(lane).release(count, slot_bytes);
                self.loaned_bytes =
                    self.loaned_bytes.checked_sub(loan_bytes).expect("loans are returned once");
            }
            HoldKind::Auto { bytes, load } => {
                let auto = &mut self.auto;
                auto.granted_bytes =
                    auto.granted_bytes.checked_sub(bytes).expect("grants are returned once");
                auto.load = auto.load.checked_sub(load).expect("load is returned once");
                auto.queries = auto.queries.checked_sub(1).expect("queries are counted once");
            }
        }
    }

    /// Memory of all slots, loans and grants.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        let slots: u64 = self.all_slots().map(SlotPool::allocated_bytes).sum();
        slots + self.loaned_bytes + self.auto.granted_bytes
    }

    /// Memory that automatic mode has left.
    pub(crate) fn auto_free_bytes(&self) -> u64 {
        let within_budget = self.auto.budget_bytes.saturating_sub(self.auto.granted_bytes);
        within_budget.min(self.free_bytes())
    }

    /// Memory that automatic mode has in all.
    pub(crate) fn auto_budget_bytes(&self) -> u64 {
        self.auto.budget_bytes
    }

    /// Follows how busy the nodes are: more at once while they have time left and queries wait,
    /// fewer when they are saturated.
    pub(crate) fn adapt_load_limit(&mut self, busy_percent: u8, queries_wait: bool) {
        let limit = &mut self.auto.load_limit;
        if busy_percent >= 95 {
            *limit = (*limit - LOAD_OF_LONG_QUERY).max(LOAD_LIMIT_MIN);
        } else if busy_percent < 80 && queries_wait {
            *limit = (*limit + LOAD_OF_LONG_QUERY / 2).min(LOAD_LIMIT_MAX);
        }
    }

    pub(crate) fn slots(&self, lane: Lane) -> &SlotPool {
        match lane {
            Lane::Superuser => &self.superuser,
            Lane::Short => &self.short,
            Lane::Queue(queue) => &self.queues[queue.0],
        }
    }

    fn slots_mut(&mut self, lane: Lane) -> &mut SlotPool {
        match lane {
            Lane::Superuser => &mut self.superuser,
            Lane::Short => &mut self.short,
            Lane::Queue(queue) => &mut self.queues[queue.0],
        }
    }

    fn all_slots(&self) -> impl Iterator<Item = &SlotPool> {
        [&self.superuser, &self.short].into_iter().chain(&self.queues)
    }

    fn free_bytes(&self) -> u64 {
        self.pool.bytes.checked_sub(self.allocated_bytes()).expect("the pool is never exceeded")
    }

    /// What no slot has or will have. While slots are in transition their claims count, so that a
    /// loan never delays a slot.
    fn lendable_bytes(&self) -> u64 {
        let claim = |slots: &SlotPool| slots.allocated_bytes().max(slots.budget_bytes());
        let claims: u64 = self.all_slots().map(claim).sum();
        self.pool.bytes.saturating_sub(claims + self.loaned_bytes)
    }

    /// Compares the ledger with the holds that exist. Answers with what differs.
    pub(crate) fn audit<'a>(
        &self,
        holds: impl Iterator<Item = &'a Hold> + Clone,
    ) -> std::result::Result<(), String> {
        let mut lanes = vec![Lane::Superuser, Lane::Short];
        lanes.extend((0..self.queues.len()).map(|index| Lane::Queue(QueueId(index))));
        for lane in lanes {
            let slots = self.slots(lane);
            let mut held = std::collections::BTreeMap::new();
            for hold in holds.clone() {
                if let HoldKind::Slots { lane: own, count, slot_bytes, .. } = hold.kind
                    && own == lane
                {
                    *held.entry(slot_bytes).or_default() += count;
                }
            }
            if held != *slots.busy() {
                return Err(format!("{lane:?}: busy slots {:?}, held {held:?}", slots.busy()));
            }
        }
        let mut auto = Auto { granted_bytes: 0, queries: 0, load: 0, ..self.auto };
        let mut loans = 0;
        for hold in holds {
            match hold.kind {
                HoldKind::Slots { loan_bytes, .. } => loans += loan_bytes,
                HoldKind::Auto { bytes, load } => {
                    auto.granted_bytes += bytes;
                    auto.load += load;
                    auto.queries += 1;
                }
            }
        }
        if auto != self.auto || loans != self.loaned_bytes {
            return Err(format!("held {auto:?} and {loans} lent, ledger {self:?}"));
        }
        if self.allocated_bytes() > self.pool.bytes {
            return Err(format!("{} of {:?} allocated", self.allocated_bytes(), self.pool));
        }
        Ok(())
    }
}

/// Every slot must be of use.
fn check(pool: Pool, config: &Config) -> Result<()> {
    let too_small =
        |name: &str, slot_bytes| Error::SlotTooSmall { queue: name.to_owned(), slot_bytes };
    if pool.superuser_bytes < SLOT_BYTES_MIN {
        return Err(too_small("superuser", pool.superuser_bytes));
    }
    let short_bytes = pool.short_query_bytes / u64::from(SHORT_QUERY_SLOTS);
    if config.short_queries().is_some() && short_bytes < SLOT_BYTES_MIN {
        return Err(too_small("short query queue", short_bytes));
    }
    let query_bytes = pool.query_bytes(config);
    match config.mode() {
        Mode::Auto => {
            let least = query_bytes / 2 / u64::from(AUTO_QUERIES_MAX);
            if least < SLOT_BYTES_MIN {
                return Err(too_small(&config.queue(config.default_queue()).name, least));
            }
        }
        Mode::Manual => {
            for (index, queue) in config.queues().iter().enumerate() {
                let slot_bytes = config.slot_bytes(QueueId(index), query_bytes);
                if slot_bytes < SLOT_BYTES_MIN {
                    return Err(too_small(&queue.name, slot_bytes));
                }
            }
        }
    }
    Ok(())
}
