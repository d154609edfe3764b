//! A segment of sample rows in a file, and scans of it checked by definition, for the tests of this
//! crate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use rand::Rng;
use rand::rngs::StdRng;

use crate::cache::ChunkCache;
use crate::error::Result;
use crate::ids::{RowId, SegmentId};
use crate::io::Io;
use crate::predicate::Predicate;
use crate::sample_rows::{Cell, Table, array, passes, random_condition};
use crate::segment::{Segment, segment_file_name, write_segment};
use crate::statistics::SegmentInfo;

pub(crate) const ID: SegmentId = SegmentId(0x1234);

pub(crate) fn path() -> PathBuf {
    Path::new("/data").join(segment_file_name(ID))
}

pub(crate) fn open(io: Arc<dyn Io>, path: &Path, table: &Table) -> Result<Segment> {
    let cache = Arc::new(ChunkCache::new(1 << 24));
    Segment::open(io, path, ID, Arc::new(table.schema.clone()), cache)
}

pub(crate) fn write(
    io: &dyn Io,
    path: &Path,
    table: &Table,
    sizes: &[usize],
) -> Result<SegmentInfo> {
    write_segment(io, path, ID, &table.schema, &table.batches(sizes))
}

/// All rows that pass, column by column, and their numbers.
pub(crate) fn scan(
    segment: &Segment,
    predicates: &[Predicate],
) -> Result<(Vec<u32>, Vec<Vec<ArrayRef>>)> {
    let column_count = segment.schema().columns.len();
    let mut rows = Vec::new();
    let mut columns = vec![Vec::new(); column_count];
    for row_group in 0..segment.row_group_count() {
        let all: Vec<usize> = (0..column_count).collect();
        segment.prefetch_row_group(row_group, &all);
        let Some(mut scan) = segment.scan_row_group(row_group, predicates)? else { continue };
        while let Some(window) = scan.next_window()? {
            let numbers = window.row_numbers();
            let ids = window.row_ids();
            let unpacked = ids.values().iter().map(|id| RowId::unpack(*id));
            let expected = numbers.iter().map(|row| RowId { segment: segment.id(), row: *row });
            assert!(unpacked.eq(expected));
            rows.extend(numbers);
            for (column, arrays) in columns.iter_mut().enumerate() {
                let decoded = window.decode(column)?;
                assert_eq!(decoded.len(), window.selected());
                arrays.push(decoded);
            }
        }
    }
    Ok((rows, columns))
}

/// Checks that a scan finds exactly the rows that pass by definition.
pub(crate) fn check_scan(segment: &Segment, table: &Table, predicates: &[Predicate]) {
    check_live_scan(segment, table, &BTreeSet::new(), predicates);
}

/// The same when some rows are deleted.
pub(crate) fn check_live_scan(
    segment: &Segment,
    table: &Table,
    deleted: &BTreeSet<u32>,
    predicates: &[Predicate],
) {
    let (rows, columns) = scan(segment, predicates).unwrap();
    let passing: Vec<u32> = (0..table.row_count() as u32)
        .filter(|row| !deleted.contains(row))
        .filter(|row| {
            let cell = |p: &Predicate| &table.columns[p.column][*row as usize];
            predicates.iter().all(|p| passes(cell(p), &p.condition))
        })
        .collect();
    assert_eq!(rows, passing, "{predicates:?}");
    for (column, arrays) in columns.iter().enumerate() {
        let cells: Vec<Cell> =
            passing.iter().map(|row| table.columns[column][*row as usize].clone()).collect();
        let expected = array(table.schema.columns[column].column_type, &cells);
        let parts: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
        if parts.is_empty() {
            assert!(expected.is_empty());
        } else {
            assert_eq!(&arrow_select::concat::concat(&parts).unwrap(), &expected);
        }
    }
}

pub(crate) fn random_predicates(table: &Table, rng: &mut StdRng) -> Vec<Predicate> {
    (0..rng.random_range(0..4))
        .map(|_| {
            let column = rng.random_range(0..table.columns.len());
            let column_type = table.schema.columns[column].column_type;
            let condition = random_condition(column_type, &table.columns[column], rng);
            Predicate { column, condition }
        })
        .collect()
}
