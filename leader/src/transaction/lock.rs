//! Table write locks. A writer (INSERT, COPY, TRUNCATE, DROP, ...) holds its table until its
//! transaction ends; readers take none. A wait that would close a circle is refused at once.
//!
//! Invariant: `waits` has no cycle, because an edge that would close one is never added; a waiter
//! waits for exactly one table, which has exactly one holder.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use storage::ids::{TableId, Xid};
use tokio::sync::Notify;

use crate::error::{Error, Result, code};

/// All table locks of the server.
#[derive(Debug, Default)]
pub struct LockTable {
    state: Mutex<LockState>,
    released: Notify,
}

#[derive(Debug, Default)]
struct LockState {
    holders: HashMap<TableId, Xid>,
    /// Who waits for which table.
    waits: HashMap<Xid, TableId>,
}

/// The locks of one transaction; dropping it releases them.
#[derive(Debug)]
pub struct HeldLocks {
    table: Arc<LockTable>,
    xid: Xid,
    /// In the order in which they were taken.
    held: Vec<TableId>,
}

/// Removes the edge of a waiter that gave up or got its lock.
struct Waiting<'a> {
    table: &'a LockTable,
    xid: Xid,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.table.state.lock().waits.remove(&self.xid);
    }
}

impl HeldLocks {
    /// A transaction that holds nothing yet.
    pub fn new(table: Arc<LockTable>, xid: Xid) -> Self {
        Self { table, xid, held: Vec::new() }
    }

    /// How many there are: for [`Self::release_since`].
    pub fn count(&self) -> usize {
        self.held.len()
    }

    /// Releases all but the first `count`.
    pub fn release_since(&mut self, count: usize) {
        let released = self.held.split_off(count);
        if released.is_empty() {
            return;
        }
        self.table.state.lock().holders.retain(|table, _| !released.contains(table));
        self.table.released.notify_waiters();
    }

    /// Waits until the transaction holds the table's write lock. Returns at once when it has it.
    /// Dropping the future gives up.
    pub async fn acquire(&mut self, id: TableId) -> Result<()> {
        if self.held.contains(&id) {
            return Ok(());
        }
        let _waiting = Waiting { table: &self.table, xid: self.xid };
        loop {
            // Registered before the look, so that a release in between is not missed.
            let released = self.table.released.notified();
            if self.table.state.lock().try_acquire(self.xid, id)? {
                self.held.push(id);
                return Ok(());
            }
            released.await;
        }
    }
}

impl LockState {
    fn try_acquire(&mut self, xid: Xid, id: TableId) -> Result<bool> {
        match self.holders.get(&id) {
            None => {
                self.holders.insert(id, xid);
                Ok(true)
            }
            Some(holder) => {
                self.refuse_cycle(xid, *holder, id)?;
                self.waits.insert(xid, id);
                Ok(false)
            }
        }
    }

    /// Follows holder after holder: if the chain comes back to `xid`, waiting would be for ever.
    fn refuse_cycle(&self, xid: Xid, holder: Xid, id: TableId) -> Result<()> {
        let mut next = holder;
        while let Some(held) = self.waits.get(&next).and_then(|table| self.holders.get(table)) {
            if *held == xid {
                let detail = format!(
                    "Transaction {} waits for a lock on relation {}; held by transaction {}.",
                    xid.0, id.0, holder.0
                );
                return Err(Error::statement(code::DEADLOCK_DETECTED, "deadlock detected")
                    .with_detail(detail));
            }
            next = *held;
        }
        Ok(())
    }
}

impl Drop for HeldLocks {
    fn drop(&mut self) {
        self.release_since(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn locks_taken_late_can_be_released_first() {
        let table = Arc::new(LockTable::default());
        let mut first = HeldLocks::new(Arc::clone(&table), Xid(1));
        let mut second = HeldLocks::new(Arc::clone(&table), Xid(2));
        first.acquire(TableId(10)).await.unwrap();
        let count = first.count();
        first.acquire(TableId(20)).await.unwrap();
        first.acquire(TableId(10)).await.unwrap();
        first.release_since(count);
        second.acquire(TableId(20)).await.unwrap();
        assert_eq!(table.state.lock().holders.get(&TableId(10)), Some(&Xid(1)));
        drop((first, second));
        assert!(table.state.lock().holders.is_empty());
    }

    #[tokio::test]
    async fn a_circle_of_waits_is_refused() {
        let table = Arc::new(LockTable::default());
        let mut first = HeldLocks::new(Arc::clone(&table), Xid(1));
        let mut second = HeldLocks::new(Arc::clone(&table), Xid(2));
        first.acquire(TableId(10)).await.unwrap();
        second.acquire(TableId(20)).await.unwrap();
        let waiting = tokio::spawn(async move {
            first.acquire(TableId(20)).await.unwrap();
            first
        });
        while !table.state.lock().waits.contains_key(&Xid(1)) {
            tokio::task::yield_now().await;
        }
        let error = second.acquire(TableId(10)).await.unwrap_err();
        assert_eq!(error.to_string(), "deadlock detected");
        drop(second);
        let first = waiting.await.unwrap();
        drop(first);
        assert!(table.state.lock().holders.is_empty());
        assert!(table.state.lock().waits.is_empty());
    }
}
