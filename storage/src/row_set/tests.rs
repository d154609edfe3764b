//! Sets of rows against a `BTreeSet`, and their bytes under every damage.

use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

use super::*;
use crate::VECTOR_ROWS;
use crate::encoding::Mask;

/// Rows of all shapes: single ones, runs, dense parts, whole row groups.
fn random_rows(segment_rows: u32, rng: &mut StdRng) -> BTreeSet<u32> {
    let mut rows = BTreeSet::new();
    if segment_rows == 0 {
        return rows;
    }
    for _ in 0..rng.random_range(0..6) {
        let start = rng.random_range(0..segment_rows);
        let length = *[1, 2, 40, 1024, 9000, 70_000].choose(rng).unwrap();
        let end = segment_rows.min(start.saturating_add(length));
        let density = *[0.001, 0.05, 0.5, 0.9, 1.0].choose(rng).unwrap();
        rows.extend((start..end).filter(|_| rng.random_bool(density)));
    }
    if rng.random_bool(0.1) {
        rows.extend(0..segment_rows.min(ROW_GROUP_ROWS as u32));
    }
    rows
}

fn set_of(segment_rows: u32, rows: &BTreeSet<u32>) -> RowSet {
    let mut set = RowSet::new(segment_rows.into());
    set.insert(&rows.iter().copied().collect::<Vec<_>>());
    set
}

fn bytes_of(set: &RowSet) -> Vec<u8> {
    let mut writer = ByteWriter::new();
    set.write(&mut writer);
    writer.into_bytes()
}

fn read(bytes: &[u8], segment_rows: u64) -> Result<RowSet, Unreadable> {
    let mut reader = ByteReader::new(bytes);
    let set = RowSet::read(&mut reader, segment_rows)?;
    reader.end()?;
    Ok(set)
}

fn check_same(set: &RowSet, rows: &BTreeSet<u32>, rng: &mut StdRng) {
    assert_eq!(set.len(), rows.len() as u64);
    assert_eq!(set.is_empty(), rows.is_empty());
    assert!(set.rows().eq(rows.iter().copied()));
    for _ in 0..50 {
        let row = rng.random_range(0..set.segment_rows() as u32 + 10);
        assert_eq!(set.contains(row), rows.contains(&row), "row {row}");
    }
    for row_group in 0..row_group_count(set.segment_rows()) {
        let part = set.in_row_group(row_group);
        let start = (row_group * ROW_GROUP_ROWS) as u32;
        let expected = rows.range(start..start + ROW_GROUP_ROWS as u32).count();
        assert_eq!((part.len(), part.is_empty()), (expected, expected == 0));
        for vector in 0..ROW_GROUP_ROWS / VECTOR_ROWS {
            let mut mask = Mask::full(VECTOR_ROWS);
            part.drop_from(vector, &mut mask);
            let first = start + (vector * VECTOR_ROWS) as u32;
            let dropped = (0..VECTOR_ROWS).filter(|row| !mask.contains(*row));
            let expected = rows.range(first..first + VECTOR_ROWS as u32);
            assert!(dropped.eq(expected.map(|row| (row - first) as usize)), "vector {vector}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_set_behaves_as_a_set(seed: u64, segment_rows in 0_u32..200_000) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (one, two) = (random_rows(segment_rows, rng), random_rows(segment_rows, rng));
        let (left, right) = (set_of(segment_rows, &one), set_of(segment_rows, &two));
        check_same(&left, &one, rng);
        let both: BTreeSet<u32> = one.union(&two).copied().collect();
        let union = left.union(&right);
        check_same(&union, &both, rng);
        prop_assert_eq!(left.intersects(&right), !one.is_disjoint(&two));
        // However a set came about, it has one form.
        let mut shuffled: Vec<u32> = both.iter().copied().collect();
        if shuffled.len() < 3000 {
            shuffled.shuffle(rng);
        }
        let mut inserted = RowSet::new(segment_rows.into());
        shuffled.chunks(777).for_each(|part| inserted.insert(part));
        prop_assert_eq!(&inserted, &union);
        let bytes = bytes_of(&union);
        prop_assert_eq!(read(&bytes, segment_rows.into()), Ok(union.clone()));
        prop_assert!(union.heap_bytes() <= row_group_count(segment_rows.into()) * 9000);
        prop_assert!(bytes.len() <= row_group_count(segment_rows.into()) * (8 + 8192));
    }
}

#[test]
fn each_form_is_the_smallest() {
    let bytes = |rows: Vec<u32>| {
        let mut set = RowSet::new(65_536);
        set.insert(&rows);
        bytes_of(&set)
    };
    let form = |rows: Vec<u32>| {
        let bytes = bytes(rows);
        (bytes[0], bytes.len() - 8)
    };
    assert_eq!(form(vec![]), (1, 0), "no rows are no runs");
    assert_eq!(form((0..65_536).collect()), (1, 8), "all rows are one run");
    assert_eq!(form(vec![7]), (2, 8), "one row takes 2 bytes and is padded");
    assert_eq!(form(vec![7, 8]), (1, 8), "a run of two takes 4 bytes, as two rows do");
    assert_eq!(form((0..4096).map(|row| 3 * row).collect()), (2, 8192));
    assert_eq!(form((0..4097).map(|row| 3 * row).collect()), (3, 8192));
    // 2,048 runs of 8 rows are as small as a bitmap.
    let runs = |count: u32| (0..count).flat_map(|run| (0..8).map(move |row| run * 16 + row));
    assert_eq!(form(runs(2048).collect()), (1, 8192));
    assert_eq!(form(runs(2049).collect()), (3, 8192));
}

/// The bytes of the forms by hand, from `docs/segment-format.md`.
#[test]
fn the_bytes_are_as_documented() {
    let mut set = RowSet::new(3 * 65_536);
    set.insert(&[65_536 + 258, 5, 6, 7, 8]);
    let expected = [
        &[1, 0, 0, 0, 1, 0, 0, 0, 5, 0, 8, 0, 0, 0, 0, 0][..],
        &[2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
    ];
    assert_eq!(bytes_of(&set), expected.concat());
}

#[test]
fn other_bytes_are_refused() {
    let head = |form: u32, items: u32| [form.to_le_bytes(), items.to_le_bytes()].concat();
    let items = |items: &[u16]| items.iter().flat_map(|item| item.to_le_bytes()).collect();
    let refused = |what: &str, form: u32, count: u32, body: Vec<u8>| {
        let bytes = [head(form, count), body].concat();
        assert!(read(&bytes, 5000).is_err(), "{what}");
    };
    let zeros = vec![0; 8192];
    refused("no such form", 0, 0, vec![]);
    refused("no such form", 4, 0, vec![]);
    refused("rows that are runs of none", 2, 0, vec![]);
    refused("a run instead of a row", 1, 1, items(&[7, 7, 0, 0]));
    refused("rows instead of a run", 2, 4, items(&[7, 8, 9, 10]));
    refused("a row twice", 2, 4, items(&[7, 7, 9, 20]));
    refused("rows out of order", 2, 4, items(&[9, 7, 12, 20]));
    refused("a run backwards", 1, 2, items(&[9, 7, 12, 20]));
    refused("runs that touch", 1, 2, items(&[0, 7, 8, 20]));
    refused("runs that overlap", 1, 2, items(&[0, 7, 3, 20]));
    refused("runs out of order", 1, 2, items(&[30, 37, 3, 20]));
    refused("a row beyond the segment", 2, 4, items(&[7, 9, 12, 5000]));
    refused("a run beyond the segment", 1, 1, items(&[7, 5000, 0, 0]));
    refused("a gap that is not zero", 2, 1, items(&[7, 0, 0, 1]));
    refused("too many items", 2, u32::MAX, items(&[7, 9, 12, 13]));
    refused("a short bitmap", 3, 1023, zeros[8..].to_vec());
    refused("an empty bitmap", 3, 1024, zeros);
    refused("nothing", 1, 1, vec![]);
    assert!(read(&head(1, 0), 2_000_000).is_err(), "no segment is that large");
    let fine = [head(2, 4), items(&[7, 9, 12, 4999])].concat();
    assert_eq!(read(&fine, 5000).unwrap().rows().collect::<Vec<_>>(), [7, 9, 12, 4999]);
}

#[test]
#[should_panic(expected = "the segment has no row 10")]
fn a_row_that_is_not_there_cannot_be_inserted() {
    RowSet::new(10).insert(&[9, 10]);
}
