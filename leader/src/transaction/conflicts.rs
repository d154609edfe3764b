//! Statements that failed with error 1023, the ground for `stl_tr_conflict`. A restart forgets them.

use std::collections::VecDeque;

use parking_lot::Mutex;
use storage::ids::{TableId, Xid};

/// Conflicts that are remembered.
const CONFLICTS_MAX: usize = 5_000;

/// A transaction that lost against another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConflictRow {
    /// The transaction.
    pub xid: Xid,
    /// The number of its session.
    pub process_id: i32,
    /// When it began, microseconds since 1970.
    pub started_us: i64,
    /// When it failed.
    pub aborted_us: i64,
    /// The table that the other one had changed.
    pub table: TableId,
}

/// The last conflicts.
#[derive(Debug, Default)]
pub struct ConflictLog(Mutex<VecDeque<ConflictRow>>);

impl ConflictLog {
    /// Remembers a conflict.
    pub fn add(&self, row: ConflictRow) {
        let mut rows = self.0.lock();
        if rows.len() >= CONFLICTS_MAX {
            rows.pop_front();
        }
        rows.push_back(row);
    }

    /// All that are remembered, the oldest first.
    pub fn rows(&self) -> Vec<ConflictRow> {
        self.0.lock().iter().copied().collect()
    }
}
