//! The numbers of rows, of which the values of identity columns are made.
//!
//! Sessions that insert beside each other take numbers here, in memory. What a transaction has taken
//! is written with its commit, in the same SQLite transaction as its rows ([`Change::TakeNumbers`]):
//! a number whose row is there is never given again, also not after a crash, in a restored copy of
//! the catalog, or when the row is gone. Numbers of transactions that fail are lost, or after a crash
//! given again: nobody has such a row.
//!
//! [`Change::TakeNumbers`]: crate::catalog::Change::TakeNumbers

use std::collections::HashMap;

use parking_lot::Mutex;
use storage::ids::TableId;

/// The next numbers of tables since the server started.
#[derive(Debug, Default)]
pub(super) struct RowNumbers {
    next: Mutex<HashMap<TableId, u64>>,
}

impl RowNumbers {
    /// Takes that many numbers of a table; the first of them. `known` are taken already.
    pub(super) fn take(&self, table: TableId, known: u64, count: u64) -> u64 {
        let mut next = self.next.lock();
        let next = next.entry(table).or_default();
        let first = known.max(*next);
        *next = first.saturating_add(count);
        first
    }

    /// The table is gone.
    pub(super) fn forget(&self, table: TableId) {
        self.next.lock().remove(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice() {
        let numbers = RowNumbers::default();
        let (a, b) = (TableId(1), TableId(2));
        assert_eq!(numbers.take(a, 10, 3), 10);
        assert_eq!(numbers.take(b, 0, 1), 0);
        // What was committed since may be less than what was taken, or more.
        assert_eq!(numbers.take(a, 11, 1), 13);
        assert_eq!(numbers.take(a, 20, 0), 20);
        assert_eq!(numbers.take(a, 0, 2), 20);
        assert_eq!(numbers.take(a, 22, 1), 22);
        numbers.forget(a);
        assert_eq!(numbers.take(a, 5, 1), 5);
    }
}
