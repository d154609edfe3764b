//! What writers hold until their transaction ends; readers hold nothing.
//!
//! | | waits for | held by |
//! |---|---|---|
//! | a table, to insert | its exclusive holder, and who waits for that before | COPY, INSERT of what is not read from the table itself |
//! | a table, shared | the same | DELETE, UPDATE, MERGE, the end of VACUUM |
//! | a table, exclusive | all its holders | other INSERTs, TRUNCATE, ALTER, DROP |
//! | rows | who has claimed one of them | DELETE, UPDATE, MERGE, once they know their rows; the end of VACUUM |
//!
//! A wait that would close a circle is refused at once. Circles may also lead through a place of
//! workload management: who waits for one looks for them now and then ([`LockTable::refuse_stuck`]).
//!
//! Invariants: an exclusive holder of a table is its only holder; no row is claimed by two
//! transactions; the waits form no circle, since who waits for whom is looked up anew whenever a
//! wait begins or is looked at again, and the wait that would close one never begins.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use storage::ids::{SegmentId, TableId, Xid};
use storage::row_set::RowSet;
use tokio::sync::Notify;

use crate::error::{Error, Result, code};

/// How a table is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// To add rows, beside all but one that holds it alone.
    Insert,
    /// To delete rows, beside all but one that holds it alone.
    Shared,
    /// Alone.
    Exclusive,
}

/// Rows of a table, by segment.
pub type ClaimedRows = Arc<BTreeMap<SegmentId, Arc<RowSet>>>;

/// Whose locks they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The transaction.
    pub xid: Xid,
    /// The session's number; 0 is the server itself.
    pub process_id: i32,
    /// When the transaction began, microseconds since 1970.
    pub started_us: i64,
}

/// A table that a transaction holds or waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRow {
    /// The table.
    pub table: TableId,
    /// Who.
    pub owner: Owner,
    /// How.
    pub mode: LockMode,
    /// It waits: for the table, or for rows of it.
    pub waits: bool,
}

/// All locks of the server.
#[derive(Debug, Default)]
pub struct LockTable {
    state: Mutex<LockState>,
    released: Notify,
}

#[derive(Debug, Default)]
struct LockState {
    tables: HashMap<TableId, TableState>,
    /// What each waiter waits for.
    waits: HashMap<Xid, Wanted>,
    /// Of all that hold something or wait.
    owners: HashMap<Xid, Owner>,
    /// Counts waits, so that the earlier one is known.
    turn: u64,
}

#[derive(Debug, Default)]
struct TableState {
    holders: HashMap<Xid, LockMode>,
    claims: Vec<(Xid, ClaimedRows)>,
}

#[derive(Debug, Clone)]
enum Wanted {
    Table { table: TableId, mode: LockMode, turn: u64 },
    Rows { table: TableId, rows: ClaimedRows },
}

/// One thing that a transaction holds.
#[derive(Debug, Clone)]
enum Held {
    /// A table, and how it was held before.
    Table { table: TableId, mode: LockMode, before: Option<LockMode> },
    /// Rows of a table.
    Rows { table: TableId, rows: ClaimedRows },
}

/// The locks of one transaction; dropping it releases them.
#[derive(Debug)]
pub struct HeldLocks {
    table: Arc<LockTable>,
    owner: Owner,
    /// In the order in which they were taken.
    held: Vec<Held>,
}

/// Removes the edge of a waiter that gave up.
struct Waiting<'a> {
    table: &'a LockTable,
    xid: Xid,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.table.state.lock();
        let was_waiting = state.waits.remove(&self.xid).is_some();
        state.forget_idle(self.xid);
        drop(state);
        if was_waiting {
            // Others may have waited behind it.
            self.table.released.notify_waiters();
        }
    }
}

impl LockTable {
    /// Who holds which table, or waits for it, by table.
    pub fn rows(&self) -> Vec<LockRow> {
        let state = self.state.lock();
        let mut rows = Vec::new();
        for (table, of_table) in &state.tables {
            for (xid, mode) in &of_table.holders {
                let Some(owner) = state.owners.get(xid) else { continue };
                let waits = state.waits.get(xid).is_some_and(|wanted| wanted.table() == *table);
                rows.push(LockRow { table: *table, owner: *owner, mode: *mode, waits });
            }
        }
        for (xid, wanted) in &state.waits {
            let (table, mode) = match wanted {
                Wanted::Table { table, mode, .. } => (*table, *mode),
                // Who waits for rows holds their table.
                Wanted::Rows { .. } => continue,
            };
            if let Some(owner) = state.owners.get(xid)
                && state.mode_of(*xid, table).is_none()
            {
                rows.push(LockRow { table, owner: *owner, mode, waits: true });
            }
        }
        rows.sort_by_key(|row| (row.table, row.waits, row.owner.xid));
        rows
    }
}

/// For each transaction that waits for a place to run a query in, those that have one: it goes on when
/// any of these ends.
pub type PlaceWaits = HashMap<Xid, Vec<Xid>>;

impl LockTable {
    /// Whether the transaction holds anything, or waits for it.
    pub fn has(&self, xid: Xid) -> bool {
        self.state.lock().owners.contains_key(&xid)
    }

    /// Refuses to go on waiting for a place that is never given back, because those who have the
    /// places wait for locks, of this transaction or of others that wait for places.
    ///
    /// # Errors
    /// As for a circle of locks.
    pub fn refuse_stuck(&self, xid: Xid, places: &PlaceWaits) -> Result<()> {
        let state = self.state.lock();
        let locks = state
            .waits
            .iter()
            .map(|(waiter, wanted)| (*waiter, (state.blockers(*waiter, wanted), false)));
        let places = places.iter().map(|(waiter, holders)| (*waiter, (holders.clone(), true)));
        let mut waits: HashMap<Xid, (Vec<Xid>, bool)> = locks.chain(places).collect();
        // Whoever can go on lets others go on, until nobody is left or nobody can.
        loop {
            let goes_on = |others: &[Xid], one_will_do: bool| {
                let mut moving = others.iter().map(|other| !waits.contains_key(other));
                if one_will_do {
                    others.is_empty() || moving.any(|moves| moves)
                } else {
                    moving.all(|moves| moves)
                }
            };
            let free: Vec<Xid> = waits
                .iter()
                .filter(|(_, (others, one_will_do))| goes_on(others, *one_will_do))
                .map(|(waiter, _)| *waiter)
                .collect();
            if free.is_empty() {
                break;
            }
            free.iter().for_each(|waiter| drop(waits.remove(waiter)));
        }
        let Some((holders, _)) = waits.get(&xid) else { return Ok(()) };
        let holders: Vec<String> = holders.iter().map(|holder| holder.0.to_string()).collect();
        let detail = format!(
            "Transaction {} waits for a slot; held by transaction {}, which waits for a lock.",
            xid.0,
            holders.join(", ")
        );
        Err(Error::statement(code::DEADLOCK_DETECTED, "deadlock detected").with_detail(detail))
    }
}

impl Wanted {
    fn table(&self) -> TableId {
        let (Self::Table { table, .. } | Self::Rows { table, .. }) = self;
        *table
    }
}

impl HeldLocks {
    /// A transaction that holds nothing yet.
    pub fn new(table: Arc<LockTable>, owner: Owner) -> Self {
        Self { table, owner, held: Vec::new() }
    }

    /// All of them, for another to hold.
    pub fn hand_over(&mut self) -> Self {
        let held = std::mem::take(&mut self.held);
        Self { table: Arc::clone(&self.table), owner: self.owner, held }
    }

    /// How many there are: for [`Self::release_since`].
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// Releases all but the first `count`.
    pub fn release_since(&mut self, count: usize) {
        let released = self.held.split_off(count.min(self.held.len()));
        if released.is_empty() {
            return;
        }
        self.table.state.lock().release(self.owner.xid, &released);
        self.table.released.notify_waiters();
    }

    /// Waits until the transaction holds the table in this mode. Returns at once when it does.
    /// Dropping the future gives up.
    ///
    /// # Errors
    /// When waiting would be for ever.
    pub async fn acquire(&mut self, table: TableId, mode: LockMode) -> Result<()> {
        let before = self.table.state.lock().mode_of(self.owner.xid, table);
        if before.is_some_and(|held| held >= mode) {
            return Ok(());
        }
        let turn = self.table.state.lock().next_turn();
        self.wait(Wanted::Table { table, mode, turn }).await?;
        self.held.push(Held::Table { table, mode, before });
        Ok(())
    }

    /// Waits until no other transaction has a claim to one of the rows, and claims them. Whoever had
    /// to be waited for may have deleted them: answers with the last of these.
    ///
    /// # Errors
    /// When waiting would be for ever.
    pub async fn claim(&mut self, table: TableId, rows: ClaimedRows) -> Result<Option<Xid>> {
        let waited_for = self.wait(Wanted::Rows { table, rows: Arc::clone(&rows) }).await?;
        self.held.push(Held::Rows { table, rows });
        Ok(waited_for)
    }

    /// Claims rows if no other transaction has a claim to one of them; whether it did.
    pub fn try_claim(&mut self, table: TableId, rows: ClaimedRows) -> bool {
        let mut state = self.table.state.lock();
        let wanted = Wanted::Rows { table, rows: Arc::clone(&rows) };
        if !state.blockers(self.owner.xid, &wanted).is_empty() {
            return false;
        }
        state.take(self.owner, &wanted);
        drop(state);
        self.held.push(Held::Rows { table, rows });
        true
    }

    /// Takes what is wanted as soon as nobody is in the way; answers with who was last.
    async fn wait(&self, wanted: Wanted) -> Result<Option<Xid>> {
        let _waiting = Waiting { table: &self.table, xid: self.owner.xid };
        let mut waited_for = None;
        loop {
            // Registered before the look, so that a release in between is not missed.
            let released = self.table.released.notified();
            match self.table.state.lock().try_take(self.owner, &wanted)? {
                None => return Ok(waited_for),
                Some(blocker) => waited_for = Some(blocker),
            }
            released.await;
        }
    }
}

impl LockState {
    fn next_turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    fn mode_of(&self, xid: Xid, table: TableId) -> Option<LockMode> {
        self.tables.get(&table)?.holders.get(&xid).copied()
    }

    /// Takes what is wanted, or says who is in the way.
    fn try_take(&mut self, owner: Owner, wanted: &Wanted) -> Result<Option<Xid>> {
        let xid = owner.xid;
        let blockers = self.blockers(xid, wanted);
        let Some(blocker) = blockers.first().copied() else {
            self.take(owner, wanted);
            self.waits.remove(&xid);
            return Ok(None);
        };
        self.refuse_circle(xid, &blockers, wanted)?;
        self.waits.insert(xid, wanted.clone());
        self.owners.insert(xid, owner);
        Ok(Some(blocker))
    }

    fn take(&mut self, owner: Owner, wanted: &Wanted) {
        let xid = owner.xid;
        self.owners.insert(xid, owner);
        match wanted {
            Wanted::Table { table, mode, .. } => {
                self.tables.entry(*table).or_default().holders.insert(xid, *mode);
            }
            Wanted::Rows { table, rows } => {
                let state = self.tables.entry(*table).or_default();
                state.claims.push((xid, Arc::clone(rows)));
            }
        }
    }

    /// Who must end, or give way, before the transaction can have what it wants.
    fn blockers(&self, xid: Xid, wanted: &Wanted) -> Vec<Xid> {
        match wanted {
            Wanted::Table { table, mode, turn } => {
                let in_the_way = |(holder, held): (&Xid, &LockMode)| {
                    let excludes = *mode == LockMode::Exclusive || *held == LockMode::Exclusive;
                    (*holder != xid && excludes).then_some(*holder)
                };
                let state = self.tables.get(table);
                let holders = state.into_iter().flat_map(|state| &state.holders);
                let mut blockers: Vec<Xid> = holders.filter_map(in_the_way).collect();
                // Nobody overtakes one that waits to be alone, but who has the table already.
                if self.mode_of(xid, *table).is_none() {
                    blockers.extend(self.waits.iter().filter_map(|(waiter, waits)| match waits {
                        Wanted::Table { table: other, mode: LockMode::Exclusive, turn: before }
                            if other == table && before < turn && *waiter != xid =>
                        {
                            Some(*waiter)
                        }
                        Wanted::Table { .. } | Wanted::Rows { .. } => None,
                    }));
                }
                blockers
            }
            Wanted::Rows { table, rows } => {
                let claims = self.tables.get(table).into_iter().flat_map(|state| &state.claims);
                let others = claims
                    .filter(|(holder, claimed)| *holder != xid && have_common_rows(claimed, rows));
                others.map(|(holder, _)| *holder).collect()
            }
        }
    }

    /// Follows who waits for whom: if that comes back to `xid`, waiting would be for ever.
    fn refuse_circle(&self, xid: Xid, blockers: &[Xid], wanted: &Wanted) -> Result<()> {
        let mut seen: HashSet<Xid> = HashSet::new();
        let mut next: Vec<Xid> = blockers.to_vec();
        while let Some(blocker) = next.pop() {
            if blocker == xid {
                let (Wanted::Table { table, .. } | Wanted::Rows { table, .. }) = wanted;
                let holder = blockers.first().map_or(0, |holder| holder.0);
                let detail = format!(
                    "Transaction {} waits for a lock on relation {}; held by transaction {holder}.",
                    xid.0, table.0
                );
                return Err(Error::statement(code::DEADLOCK_DETECTED, "deadlock detected")
                    .with_detail(detail));
            }
            if seen.insert(blocker)
                && let Some(waits) = self.waits.get(&blocker)
            {
                next.extend(self.blockers(blocker, waits));
            }
        }
        Ok(())
    }

    fn release(&mut self, xid: Xid, released: &[Held]) {
        for held in released.iter().rev() {
            let (Held::Table { table, .. } | Held::Rows { table, .. }) = held;
            let Some(state) = self.tables.get_mut(table) else { continue };
            match held {
                Held::Table { mode, before, .. } => {
                    assert_eq!(state.holders.get(&xid), Some(mode), "what is released is held");
                    match before {
                        Some(before) => state.holders.insert(xid, *before),
                        None => state.holders.remove(&xid),
                    };
                }
                Held::Rows { rows, .. } => {
                    let own = |(holder, claimed): &(Xid, ClaimedRows)| {
                        *holder == xid && Arc::ptr_eq(claimed, rows)
                    };
                    if let Some(position) = state.claims.iter().position(own) {
                        state.claims.swap_remove(position);
                    }
                }
            }
            if state.holders.is_empty() && state.claims.is_empty() {
                self.tables.remove(table);
            }
        }
        self.forget_idle(xid);
    }

    /// Forgets who neither holds anything nor waits.
    fn forget_idle(&mut self, xid: Xid) {
        let has = |state: &TableState| {
            state.holders.contains_key(&xid) || state.claims.iter().any(|(own, _)| *own == xid)
        };
        if !self.waits.contains_key(&xid) && !self.tables.values().any(has) {
            self.owners.remove(&xid);
        }
    }
}

fn have_common_rows(left: &ClaimedRows, right: &ClaimedRows) -> bool {
    left.iter().any(|(segment, rows)| {
        right.get(segment).is_some_and(|others| {
            others.segment_rows() == rows.segment_rows() && others.intersects(rows)
        })
    })
}

impl Drop for HeldLocks {
    fn drop(&mut self) {
        self.release_since(0);
    }
}

#[cfg(test)]
mod tests;
