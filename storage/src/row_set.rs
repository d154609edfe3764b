//! A set of rows of one segment: those that are deleted, or that a statement is about to delete.
//!
//! The rows of each row group are kept in the smallest of three forms, as in a Roaring bitmap
//! (Chambi, Lemire, Kaser, Godin, "Better bitmap performance with Roaring bitmaps", 2016; the runs
//! after Lemire, Ssi-Yan-Kai, Kaser, "Consistently faster and smaller compressed bitmaps with
//! Roaring", 2016): a row group has just the 65,536 rows of a Roaring container.
//!
//! Invariant: a set has one form. Two sets of the same rows are equal, and so are their bytes.

mod row_group;

pub use row_group::RowGroupSet;

use crate::little_endian::{ByteReader, ByteWriter, Unreadable};
use crate::segment::{row_group_count, row_group_rows};
use crate::{ROW_GROUP_ROWS, SEGMENT_ROWS_MAX};

/// Rows of one segment by their number, in compressed form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    /// Rows of the segment.
    segment_rows: u64,
    /// One for each row group of the segment.
    row_groups: Vec<RowGroupSet>,
}

impl RowSet {
    /// No rows of a segment that has `segment_rows` rows.
    pub fn new(segment_rows: u64) -> RowSet {
        assert!(segment_rows <= SEGMENT_ROWS_MAX as u64, "a segment has fewer rows than that");
        let row_groups = vec![RowGroupSet::empty(); row_group_count(segment_rows)];
        RowSet { segment_rows, row_groups }
    }

    /// Adds rows, in any order; rows that are there already are fine. Quickest when the rows of a
    /// row group stand together, as a scan gives them.
    pub fn insert(&mut self, rows: &[u32]) {
        let row_group = |row: u32| row as usize / ROW_GROUP_ROWS;
        for part in rows.chunk_by(|left, right| row_group(*left) == row_group(*right)) {
            let largest = part.iter().max().copied().unwrap_or(0);
            assert!(u64::from(largest) < self.segment_rows, "the segment has no row {largest}");
            let set = &mut self.row_groups[row_group(part[0])];
            *set = set.with(part.iter().map(|row| *row as usize % ROW_GROUP_ROWS));
        }
    }

    /// The rows of both sets, which are of the same segment.
    pub fn union(&self, other: &RowSet) -> RowSet {
        let pairs = self.pairs(other);
        let row_groups = pairs.map(|(ours, theirs)| ours.union(theirs)).collect();
        RowSet { segment_rows: self.segment_rows, row_groups }
    }

    /// Whether a row is in both sets, which are of the same segment: two transactions that delete
    /// the same row are in conflict, two that delete different rows of a segment are not.
    pub fn intersects(&self, other: &RowSet) -> bool {
        self.pairs(other).any(|(ours, theirs)| ours.intersects(theirs))
    }

    /// Whether a row is in the set.
    pub fn contains(&self, row: u32) -> bool {
        let set = self.row_groups.get(row as usize / ROW_GROUP_ROWS);
        set.is_some_and(|set| set.contains(row as usize % ROW_GROUP_ROWS))
    }

    /// How many rows are in the set.
    pub fn len(&self) -> u64 {
        self.row_groups.iter().map(|set| set.len() as u64).sum()
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.row_groups.iter().all(RowGroupSet::is_empty)
    }

    /// How many rows the segment has, those of the set included.
    pub fn segment_rows(&self) -> u64 {
        self.segment_rows
    }

    /// The rows of the set in one row group, by their number in it.
    pub fn in_row_group(&self, row_group: usize) -> &RowGroupSet {
        &self.row_groups[row_group]
    }

    /// The rows by their number in the segment, ascending.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.row_groups.iter().enumerate().flat_map(|(row_group, set)| {
            // A segment has at most 2^20 rows.
            set.rows().map(move |row| (row_group * ROW_GROUP_ROWS + row) as u32)
        })
    }

    /// Bytes that the set holds in memory: at most 8 KiB for each row group.
    pub fn heap_bytes(&self) -> usize {
        self.row_groups.iter().map(|set| size_of::<RowGroupSet>() + set.heap_bytes()).sum()
    }

    /// The set as bytes, for the way to another process.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u64(self.segment_rows);
        self.write(&mut writer);
        writer.into_bytes()
    }

    /// Reads what [`RowSet::to_bytes`] wrote; anything else is an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<RowSet, Unreadable> {
        let mut reader = ByteReader::new(bytes);
        let segment_rows = reader.u64()?;
        let set = RowSet::read(&mut reader, segment_rows)?;
        reader.end()?;
        Ok(set)
    }

    /// Writes the row groups one after the other.
    pub(crate) fn write(&self, writer: &mut ByteWriter) {
        self.row_groups.iter().for_each(|set| set.write(writer));
    }

    /// Reads the set of a segment of `segment_rows` rows; refuses bytes that [`RowSet::write`] does
    /// not make.
    pub(crate) fn read(
        reader: &mut ByteReader<'_>,
        segment_rows: u64,
    ) -> Result<RowSet, Unreadable> {
        if segment_rows > SEGMENT_ROWS_MAX as u64 {
            return Err(Unreadable(format!("it is for a segment of {segment_rows} rows")));
        }
        let row_groups = (0..row_group_count(segment_rows))
            .map(|row_group| {
                RowGroupSet::read(reader, row_group_rows(segment_rows, row_group))
                    .map_err(|error| Unreadable(format!("row group {row_group}: {error}")))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(RowSet { segment_rows, row_groups })
    }

    fn pairs<'a>(
        &'a self,
        other: &'a RowSet,
    ) -> impl Iterator<Item = (&'a RowGroupSet, &'a RowGroupSet)> {
        assert_eq!(self.segment_rows, other.segment_rows, "both are rows of one segment");
        self.row_groups.iter().zip(&other.row_groups)
    }
}

#[cfg(test)]
mod tests;
