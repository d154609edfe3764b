//! Scans of segments with deleted rows against the definition.

use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, proptest};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ROW_GROUP_ROWS;
use crate::deletion_vector::DeletionVector;
use crate::ids::DeletionVectorId;
use crate::io::MemoryIo;
use crate::predicate::{Comparison, Constant};
use crate::row_set::RowSet;
use crate::sample_rows::Table;
use crate::sample_segment::{check_live_scan, open, path, random_predicates, write};
use crate::schema::EncodeName;

const NAMES: [EncodeName; 9] = [
    EncodeName::Auto,
    EncodeName::Raw,
    EncodeName::Bytedict,
    EncodeName::Delta,
    EncodeName::Mostly16,
    EncodeName::Runlength,
    EncodeName::Text255,
    EncodeName::Zstd,
    EncodeName::Az64,
];

fn without(segment: &Segment, rows: &BTreeSet<u32>) -> Segment {
    let mut deleted = RowSet::new(segment.row_count());
    deleted.insert(&rows.iter().copied().collect::<Vec<_>>());
    let vector = DeletionVector::new(DeletionVectorId(1), segment.info(), deleted);
    segment.with_deletions(Arc::new(vector))
}

fn random_deletions(rows: u32, density: f64, rng: &mut StdRng) -> BTreeSet<u32> {
    let mut deleted: BTreeSet<u32> = (0..rows).filter(|_| rng.random_bool(density)).collect();
    if rows > 0 && rng.random_bool(0.5) {
        let start = rng.random_range(0..rows);
        deleted.extend(start..rows.min(start + rng.random_range(1..3000)));
    }
    deleted
}

/// Deletes more and more rows: so many of the rows, and some that stand together.
fn check_table(table: &Table, densities: &[f64], rng: &mut StdRng) {
    let io = Arc::new(MemoryIo::new());
    write(io.as_ref(), &path(), table, &[]).unwrap();
    let segment = open(io, &path(), table).unwrap();
    let mut deleted = BTreeSet::new();
    for density in densities {
        deleted.extend(random_deletions(table.row_count() as u32, *density, rng));
        let live = without(&segment, &deleted);
        assert_eq!(live.live_rows(), (table.row_count() - deleted.len()) as u64);
        check_live_scan(&live, table, &deleted, &[]);
        for _ in 0..4 {
            check_live_scan(&live, table, &deleted, &random_predicates(table, rng));
        }
    }
    check_live_scan(&segment, table, &BTreeSet::new(), &[]);
}

fn random_table(rng: &mut StdRng, columns: usize, rows: usize) -> Table {
    let mut table = Table::random(rng, columns, rows);
    for column in &mut table.schema.columns {
        column.encode = *NAMES.choose(rng).unwrap();
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn deleted_rows_do_not_come_back(seed: u64, columns in 1_usize..6, rows in 0_usize..3000) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let densities: Vec<f64> =
            (0..3).map(|_| *[0.0, 0.01, 0.5, 0.99, 1.0].choose(rng).unwrap()).collect();
        check_table(&random_table(rng, columns, rows), &densities, rng);
    }
}

#[test]
fn deleted_rows_do_not_come_back_from_windows_and_row_groups() {
    for rows in [8192, 8193, ROW_GROUP_ROWS + 77] {
        let rng = &mut StdRng::seed_from_u64(rows as u64);
        check_table(&random_table(rng, 3, rows), &[0.01, 0.3, 0.9], rng);
    }
}

fn numbers(rows: usize) -> Table {
    let cells = (0..rows).map(|row| Some(Constant::Int(row as i64))).collect();
    Table::new(&[ColumnType::BigInt], vec![cells])
}

/// A row group without live rows is skipped before a byte of it is read.
#[test]
fn deleted_row_groups_are_not_read() {
    let memory = Arc::new(MemoryIo::new());
    let table = numbers(2 * ROW_GROUP_ROWS + 5);
    write(memory.as_ref(), &path(), &table, &[]).unwrap();
    let segment = open(Arc::clone(&memory) as _, &path(), &table).unwrap();
    let deleted: BTreeSet<u32> = (0..2 * ROW_GROUP_ROWS as u32).skip(1).collect();
    let live = without(&segment, &deleted);
    let counts: Vec<usize> = (0..3).map(|group| live.live_row_group_rows(group)).collect();
    assert_eq!((counts, live.live_rows()), (vec![1, 0, 5], 6));
    let counts: Vec<usize> = (0..3).map(|group| live.row_group_rows(group)).collect();
    assert_eq!(counts, [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 5], "these count deleted rows too");
    memory.damage(&path(), |bytes| bytes.fill(0)).unwrap();
    assert!(live.scan_row_group(1, &[]).unwrap().is_none());
    assert!(live.scan_row_group(0, &[]).unwrap().unwrap().next_window().unwrap().is_some());
}

/// What zone maps prove of all rows they prove of the rows that are left.
#[test]
fn pruning_is_sound_when_the_bounds_are_deleted() {
    let memory = Arc::new(MemoryIo::new());
    let table = numbers(1000);
    write(memory.as_ref(), &path(), &table, &[]).unwrap();
    let segment = open(memory, &path(), &table).unwrap();
    let deleted: BTreeSet<u32> = (0..1000).filter(|row| !(400..600).contains(row)).collect();
    let live = without(&segment, &deleted);
    let zone = live.zone(0, 0);
    let bounds = (zone.min, zone.max, zone.row_count);
    assert_eq!(bounds, (Some(Constant::Int(0)), Some(Constant::Int(999)), 1000));
    for bound in [-1, 0, 399, 400, 599, 600, 999, 1000] {
        for comparison in [Comparison::Less, Comparison::GreaterOrEqual, Comparison::Equal] {
            let condition = Condition::Compare(comparison, Constant::Int(bound));
            check_live_scan(&live, &table, &deleted, &[Predicate { column: 0, condition }]);
        }
    }
    for condition in [Condition::IsNull, Condition::IsNotNull] {
        check_live_scan(&live, &table, &deleted, &[Predicate { column: 0, condition }]);
    }
}

#[test]
#[should_panic(expected = "a deletion vector is for one segment file")]
fn another_segments_deletions_are_refused() {
    let memory = Arc::new(MemoryIo::new());
    let table = numbers(10);
    write(memory.as_ref(), &path(), &table, &[]).unwrap();
    let segment = open(memory, &path(), &table).unwrap();
    let other = crate::statistics::SegmentInfo { fingerprint: 1, ..segment.info().clone() };
    let vector = DeletionVector::new(DeletionVectorId(1), &other, RowSet::new(10));
    segment.with_deletions(Arc::new(vector));
}
