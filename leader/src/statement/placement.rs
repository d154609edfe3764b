//! Where the rows of a DISTSTYLE AUTO table live in a cluster of several nodes: on every node while
//! they are few, so that joins find them there; then by the primary key if one was declared before
//! the first row came, else in turn.
//!
//! A table that has grown changes its place in the catalog only. The few rows that every node had
//! stay where all of them were, in the first slice, which is a place like any other for rows that
//! are placed in turn; rows that are placed by key must all be, so that is for empty tables.

use std::sync::Arc;

use storage::ids::SliceId;
use storage::statistics::SegmentInfo;

use crate::catalog::constraint::ConstraintKind;
use crate::catalog::{DistributionStyle, SegmentList, TableEntry};

/// Rows and bytes on disk that every node may have a copy of.
const SMALL_ROWS_MAX: u64 = 100_000;
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// Whether a write of so much is too much for every node.
pub(super) fn is_large(rows: u64, bytes: u64) -> bool {
    rows > SMALL_ROWS_MAX || bytes > SMALL_BYTES_MAX
}

/// The table as a write finds it that is expected to be large or not.
pub(super) fn before_write(entry: &Arc<TableEntry>, is_large: bool) -> Arc<TableEntry> {
    if !entry.is_automatic || entry.distribution != DistributionStyle::All || !is_large {
        return Arc::clone(entry);
    }
    let mut placed = TableEntry::clone(entry);
    placed.distribution = match declared_key(entry) {
        Some(position) if entry.slices.iter().all(SegmentList::is_empty) => {
            DistributionStyle::Key(position)
        }
        Some(_) | None => DistributionStyle::Even,
    };
    Arc::new(placed)
}

/// Where the rows of the table live after a write.
pub(super) fn after_write(
    entry: &TableEntry,
    written: &[(SliceId, Arc<SegmentInfo>)],
) -> DistributionStyle {
    if !entry.is_automatic || entry.distribution != DistributionStyle::All {
        return entry.distribution;
    }
    let before = entry.slices.iter().flatten();
    let after = before.chain(written.iter().map(|(_, segment)| segment));
    let (rows, bytes) = after.fold((0, 0), |(rows, bytes), segment| {
        (rows + segment.row_count, bytes + segment.byte_count)
    });
    if is_large(rows, bytes) { DistributionStyle::Even } else { DistributionStyle::All }
}

/// The first column of the primary key.
fn declared_key(entry: &TableEntry) -> Option<usize> {
    let is_primary = |kind: &ConstraintKind| *kind == ConstraintKind::PrimaryKey;
    let key = entry.constraints.iter().find(|constraint| is_primary(&constraint.kind));
    key?.columns.first().copied()
}

#[cfg(test)]
mod tests {
    use storage::ids::SegmentId;

    use super::*;
    use crate::catalog::constraint::ConstraintEntry;
    use crate::statement::create_table::empty_entry;

    fn segment(rows: u64, bytes: u64) -> Arc<SegmentInfo> {
        Arc::new(SegmentInfo {
            id: SegmentId(rows),
            fingerprint: 0,
            row_count: rows,
            byte_count: bytes,
            columns: Vec::new(),
        })
    }

    fn written(segments: &[(u64, u64)]) -> Vec<(SliceId, Arc<SegmentInfo>)> {
        let segments = segments.iter().map(|(rows, bytes)| (SliceId(0), segment(*rows, *bytes)));
        segments.collect()
    }

    fn table() -> TableEntry {
        TableEntry {
            is_automatic: true,
            distribution: DistributionStyle::All,
            slices: vec![SegmentList::new(); 4],
            ..empty_entry()
        }
    }

    #[test]
    fn a_table_leaves_the_other_nodes_when_it_has_grown() {
        let mut entry = table();
        assert_eq!(after_write(&entry, &written(&[(100_000, 1)])), DistributionStyle::All);
        assert_eq!(after_write(&entry, &written(&[(1, 5 << 20)])), DistributionStyle::Even);
        entry.slices[0].push(segment(60_000, 10));
        assert_eq!(after_write(&entry, &written(&[(40_000, 1)])), DistributionStyle::All);
        assert_eq!(after_write(&entry, &written(&[(40_001, 1)])), DistributionStyle::Even);
        entry.is_automatic = false;
        assert_eq!(after_write(&entry, &written(&[(1 << 40, 1)])), DistributionStyle::All);
    }

    #[test]
    fn a_key_places_the_rows_of_an_empty_table_only() {
        let mut entry = table();
        let style = |entry: &TableEntry, is_large| {
            before_write(&Arc::new(entry.clone()), is_large).distribution
        };
        assert_eq!(style(&entry, true), DistributionStyle::Even);
        entry.constraints.push(ConstraintEntry {
            oid: 1,
            name: "t_pkey".into(),
            columns: vec![2, 0],
            kind: ConstraintKind::PrimaryKey,
        });
        assert_eq!(style(&entry, false), DistributionStyle::All);
        assert_eq!(style(&entry, true), DistributionStyle::Key(2));
        entry.slices[0].push(segment(1, 10));
        assert_eq!(style(&entry, true), DistributionStyle::Even);
        entry.distribution = DistributionStyle::Key(1);
        assert_eq!(style(&entry, true), DistributionStyle::Key(1));
    }
}
