//! The ids of things that have a place in storage. Newtypes, so that an index, a count and an id
//! cannot be mixed; every id is allocated by the leader's catalog and never used again.

use crate::SEGMENT_ROWS_MAX;

/// A table, for life: renaming or redistributing a table keeps its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u32);

/// A column of a table, for life: dropping another column does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnId(pub u32);

/// A slice of the cluster, counted from 0 over all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SliceId(pub u32);

/// A segment file, unique in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub u64);

/// A deletion vector file, unique in the cluster. Ids come from the same growing sequence as those of
/// segments, so that a name that is in a backup always stands for the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeletionVectorId(pub u64);

/// A stored row, for as long as its segment is there: deleting other rows does not change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    /// The segment.
    pub segment: SegmentId,
    /// The row's number in the segment, deleted rows counted.
    pub row: u32,
}

/// Bits of a packed [`RowId`] that hold the row; the rest holds the segment.
const ROW_BITS: u32 = SEGMENT_ROWS_MAX.ilog2();
const _: () = assert!(SEGMENT_ROWS_MAX.is_power_of_two(), "every row number fits ROW_BITS");

impl RowId {
    /// The id as one number, for a column of row ids in a plan.
    ///
    /// The segment has 44 bits in it: at a thousand new segments a second enough for 500 years.
    pub fn pack(self) -> u64 {
        assert!(self.segment.0 >> (u64::BITS - ROW_BITS) == 0, "segment ids are counted from 0");
        assert!((self.row as usize) < SEGMENT_ROWS_MAX, "a segment has fewer rows than that");
        self.segment.0 << ROW_BITS | u64::from(self.row)
    }

    /// The id that [`RowId::pack`] made a number of.
    pub fn unpack(packed: u64) -> RowId {
        let row = packed & ((1 << ROW_BITS) - 1);
        RowId { segment: SegmentId(packed >> ROW_BITS), row: row as u32 }
    }
}

/// A transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xid(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_ids_pack_into_one_number_in_their_order() {
        let segments = [0, 1, 2, 0x1234_5678, (1 << 44) - 1];
        let ids: Vec<RowId> = segments
            .iter()
            .flat_map(|segment| [0, 1, 65_536, 1_048_575].map(|row| (SegmentId(*segment), row)))
            .map(|(segment, row)| RowId { segment, row })
            .collect();
        let packed: Vec<u64> = ids.iter().map(|id| id.pack()).collect();
        assert!(packed.is_sorted());
        assert_eq!(packed.iter().map(|id| RowId::unpack(*id)).collect::<Vec<_>>(), ids);
        assert_eq!(RowId { segment: SegmentId(3), row: 5 }.pack(), 3 * 1_048_576 + 5);
    }

    #[test]
    #[should_panic(expected = "segment ids are counted")]
    fn a_segment_id_that_does_not_fit_is_not_packed() {
        RowId { segment: SegmentId(1 << 44), row: 0 }.pack();
    }
}
