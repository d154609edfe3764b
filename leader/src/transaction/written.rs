//! Rows that were written and are not yet part of a transaction.

use std::sync::Arc;

use storage::ids::{SliceId, TableId};
use storage::statistics::SegmentInfo;

use super::manager::TransactionManager;
use crate::catalog::{Change, DistributionStyle, TableEntry};

/// Durable segments of a table, with their copies, that belong to whoever holds this. Dropped, as by
/// a statement that is cancelled or fails, their files are removed.
#[derive(Debug)]
pub struct Written {
    transactions: Arc<TransactionManager>,
    table: TableId,
    placed: DistributionStyle,
    segments: Vec<(SliceId, Arc<SegmentInfo>)>,
}

impl Written {
    /// Segments that were written for the table as `entry` has it.
    pub fn new(
        transactions: &Arc<TransactionManager>,
        entry: &TableEntry,
        segments: Vec<(SliceId, Arc<SegmentInfo>)>,
    ) -> Self {
        let transactions = Arc::clone(transactions);
        Self { transactions, table: entry.id, placed: entry.distribution, segments }
    }

    /// The segments, and the slices that hold them.
    pub fn segments(&self) -> &[(SliceId, Arc<SegmentInfo>)] {
        &self.segments
    }

    /// Their rows.
    pub fn row_count(&self) -> u64 {
        self.segments.iter().map(|(_, segment)| segment.row_count).sum()
    }

    /// Takes in what was written for the same entry.
    pub fn append(&mut self, mut other: Written) {
        assert_eq!((self.table, self.placed), (other.table, other.placed), "one table");
        self.segments.append(&mut other.segments);
    }

    /// The change that adds the rows to the table: the transaction's from now on.
    pub(super) fn into_change(mut self) -> Change {
        let segments = std::mem::take(&mut self.segments);
        Change::AddSegments(self.table, self.placed, segments)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let segments = std::mem::take(&mut self.segments);
        if !segments.is_empty() {
            let change = Change::AddSegments(self.table, self.placed, segments);
            self.transactions.discard(vec![change]);
        }
    }
}
