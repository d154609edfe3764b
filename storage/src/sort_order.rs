//! How the rows of segments lie by the sort key of their table: what VACUUM decides by.
//!
//! ```text
//!  segments of a slice by their keys         sorted rows        to be merged
//!  1 |----|                                  those of 1, 2,     {3, 4}
//!  2       |-----|                           and of the
//!  3              |--------|                 larger of 3 and 4
//!  4                   |-------|
//! ```
//!
//! The rows of a slice are sorted as far as they lie in sorted segments whose keys do not overlap:
//! such segments, read one after the other, give the rows in order. That they touch is fine: rows
//! of equal keys have no order.

use crate::error::Result;
use crate::predicate::Constant;
use crate::row_stream::RowStream;
use crate::segment::Segment;
use crate::sort::KeyConverter;
use crate::statistics::ColumnStatistics;

/// The order of a segment's rows by the sort key of its table. Like the segment it never changes,
/// whatever rows are deleted later, so that it can be kept for as long as the segment and the sort
/// key are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentOrder {
    is_sorted: bool,
    /// The smallest and the largest key; `None`: there are no rows.
    bounds: Option<KeyBounds>,
}

/// Keys as [`KeyConverter`] makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeyBounds {
    min: Box<[u8]>,
    max: Box<[u8]>,
}

impl SegmentOrder {
    /// Reads the key columns of all rows of a segment, deleted ones included.
    pub fn read(segment: &Segment) -> Result<SegmentOrder> {
        let schema = segment.schema();
        let mut order = SegmentOrder { is_sorted: true, bounds: None };
        let Some(converter) = KeyConverter::of_table(schema)? else {
            // Without a sort key all keys are equal.
            order.bounds = (segment.row_count() > 0).then(|| KeyBounds::of(&[]));
            return Ok(order);
        };
        let mut rows = RowStream::new([segment.with_all_rows()]);
        let mut last: Option<Box<[u8]>> = None;
        while let Some(keys) = rows.next_columns(&schema.sort_key)? {
            let keys = converter.convert(&keys)?;
            // A window has a row at least.
            let first = keys.row(0);
            order.is_sorted &= last.is_none_or(|last| *last <= *first.as_ref());
            let (mut min, mut max, mut before) = (first, first, first);
            for key in keys.iter().skip(1) {
                order.is_sorted &= before <= key;
                (min, max, before) = (min.min(key), max.max(key), key);
            }
            last = Some(Box::from(before.as_ref()));
            let bounds = order.bounds.get_or_insert_with(|| KeyBounds::of(min.as_ref()));
            bounds.widen(min.as_ref());
            bounds.widen(max.as_ref());
        }
        Ok(order)
    }

    /// Whether the rows of the segment are in the order of the sort key.
    pub fn is_sorted(&self) -> bool {
        self.is_sorted
    }

    /// Smallest and largest key; `None` if there are no rows.
    pub(crate) fn bounds(&self) -> Option<(&[u8], &[u8])> {
        self.bounds.as_ref().map(|bounds| (&*bounds.min, &*bounds.max))
    }
}

impl KeyBounds {
    fn of(key: &[u8]) -> KeyBounds {
        KeyBounds { min: Box::from(key), max: Box::from(key) }
    }

    fn widen(&mut self, key: &[u8]) {
        if *key < *self.min {
            self.min = Box::from(key);
        }
        if *key > *self.max {
            self.max = Box::from(key);
        }
    }
}

/// How many of the rows of a slice are in the order of the sort key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SortedRows {
    /// Live rows in the sorted region.
    pub sorted: u64,
    /// All live rows.
    pub all: u64,
}

impl SortedRows {
    /// Counts the rows of a slice: for each segment its order and its live rows. The sorted region
    /// is the largest set of sorted segments that do not overlap.
    pub fn count(segments: &[(&SegmentOrder, u64)]) -> SortedRows {
        let sorted = segments.iter().filter(|(order, _)| order.is_sorted);
        let intervals = sorted
            .filter_map(|(order, rows)| order.bounds().map(|(min, max)| (min, max, *rows)))
            .collect();
        let all = segments.iter().map(|(_, rows)| rows).sum();
        SortedRows { sorted: most_rows_apart(intervals), all }
    }

    /// The same from what the catalog knows, without reading a row: for each segment the statistics of
    /// the first key column, if it has it, and the live rows. Segments are taken to be sorted, as they
    /// are written. It may find too many, and too few only where bounds of long texts are cut.
    pub fn estimate(segments: &[(Option<&ColumnStatistics>, u64)]) -> SortedRows {
        let (mut intervals, mut without) = (Vec::new(), 0);
        for (column, rows) in segments {
            let bounds = column.and_then(|column| column.min.as_ref().zip(column.max.as_ref()));
            match bounds {
                Some((min, max)) => {
                    intervals.push((BoundKey::of(min), BoundKey::of(max), *rows));
                }
                None => without += rows,
            }
        }
        let all = segments.iter().map(|(_, rows)| rows).sum();
        SortedRows { sorted: most_rows_apart(intervals) + without, all }
    }

    /// The sorted rows in percent of all; 100 if there are none.
    pub fn percent(&self) -> f64 {
        if self.all == 0 { 100.0 } else { self.sorted as f64 * 100.0 / self.all as f64 }
    }

    /// Whether at least so many percent of the rows are sorted: what TO n PERCENT asks.
    pub fn reach(&self, percent: u8) -> bool {
        u128::from(self.sorted) * 100 >= u128::from(self.all) * u128::from(percent)
    }
}

/// A bound of a column as a key that orders as the column's values do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BoundKey<'a> {
    Int(i64),
    Decimal(i128),
    /// The bits of a float, so turned that they order as [`f64::total_cmp`] does.
    Float(i64),
    Text(&'a str),
}

impl<'a> BoundKey<'a> {
    fn of(bound: &'a Constant) -> Self {
        match bound {
            Constant::Int(value) => Self::Int(*value),
            Constant::Decimal(value) => Self::Decimal(*value),
            Constant::Float(value) => {
                let bits = value.to_bits().cast_signed();
                Self::Float(bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed())
            }
            Constant::Text(value) => Self::Text(value),
        }
    }
}

/// Of intervals with so many rows each, the most rows in some that do not overlap; they may touch.
fn most_rows_apart<K: Ord + Copy>(mut intervals: Vec<(K, K, u64)>) -> u64 {
    // Weighted interval scheduling: `best[i]` is the most rows in the first `i` intervals.
    intervals.sort_unstable_by_key(|(min, max, _)| (*max, *min));
    let mut best = vec![0];
    for (position, (min, _, rows)) in intervals.iter().enumerate() {
        let before = intervals[..position].partition_point(|(_, max, _)| max <= min);
        best.push((best[before] + rows).max(best[position]));
    }
    best[intervals.len()]
}

/// The segments that have to be merged with one another, by their position in `orders`, in groups
/// by ascending keys. A segment that is sorted and overlaps no other is a group of its own: to sort
/// the slice it can stay as it is. Segments without rows are in no group.
pub fn overlapping_segments(orders: &[&SegmentOrder]) -> Vec<Vec<usize>> {
    let mut intervals: Vec<(&[u8], &[u8], usize)> = orders
        .iter()
        .enumerate()
        .filter_map(|(position, order)| order.bounds().map(|(min, max)| (min, max, position)))
        .collect();
    intervals.sort_unstable();
    let mut groups: Vec<(&[u8], Vec<usize>)> = Vec::new();
    for (min, max, position) in intervals {
        match groups.last_mut() {
            Some((group_max, group)) if min < *group_max => {
                group.push(position);
                *group_max = max.max(group_max);
            }
            Some(_) | None => groups.push((max, vec![position])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

#[cfg(test)]
mod tests;
