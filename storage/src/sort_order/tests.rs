//! The order of segments and what follows from it, against trying everything.

use std::sync::Arc;

use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::distinct_sketch::DistinctSketch;
use crate::ids::ColumnId;
use crate::io::MemoryIo;
use crate::predicate::Constant;
use crate::sample_rows::{Cell, Table, compare_cells};
use crate::sample_segment::{open, path, write};
use crate::schema::ColumnType;

fn order_of(table: &Table) -> SegmentOrder {
    let io = Arc::new(MemoryIo::new());
    write(io.as_ref(), &path(), table, &[]).unwrap();
    SegmentOrder::read(&open(io, &path(), table).unwrap()).unwrap()
}

fn numbers(values: impl Iterator<Item = i64>) -> Table {
    let cells = values.map(|value| Some(Constant::Int(value))).collect();
    let mut table = Table::new(&[ColumnType::BigInt], vec![cells]);
    table.schema.sort_key = vec![0];
    table
}

#[test]
fn order_is_seen_across_windows_and_row_groups() {
    let rows = 70_000;
    assert!(order_of(&numbers(0..rows)).is_sorted());
    assert!(order_of(&numbers((0..rows).map(|row| row / 9))).is_sorted());
    for wrong in [1, 8191, 8192, 65_535, 65_536, rows - 1] {
        let order = order_of(&numbers((0..rows).map(|row| if row == wrong { -1 } else { row })));
        assert!(!order.is_sorted(), "row {wrong}");
        let whole = order_of(&numbers(-1..rows));
        assert_eq!(order.bounds().unwrap().0, whole.bounds().unwrap().0);
        if wrong != rows - 1 {
            assert_eq!(order.bounds().unwrap().1, whole.bounds().unwrap().1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn compound_keys_order_as_defined(seed: u64, rows in 0_usize..6) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut table = Table::random(rng, 3, rows);
        table.schema.sort_key = vec![2, 0];
        let key = |row: usize| [&table.columns[2][row], &table.columns[0][row]];
        let compare = |left: [&Cell; 2], right: [&Cell; 2]| {
            compare_cells(left[0], right[0]).then(compare_cells(left[1], right[1]))
        };
        let sorted = (1..rows).all(|row| compare(key(row - 1), key(row)).is_le());
        let order = order_of(&table);
        prop_assert_eq!(order.is_sorted(), sorted);
        prop_assert_eq!(order.bounds().is_some(), rows > 0);
    }
}

fn interval(is_sorted: bool, min: u8, max: u8) -> SegmentOrder {
    let bounds = Some(KeyBounds { min: Box::from([min]), max: Box::from([max]) });
    SegmentOrder { is_sorted, bounds }
}

fn apart(left: &SegmentOrder, right: &SegmentOrder) -> bool {
    let ((left_min, left_max), (right_min, right_max)) =
        (left.bounds().unwrap(), right.bounds().unwrap());
    left_max <= right_min || right_max <= left_min
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn figures_agree_with_trying_all_subsets(seed: u64, count in 0_usize..9) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let segments: Vec<(SegmentOrder, u64)> = (0..count)
            .map(|_| {
                let min = rng.random_range(0..12);
                let max = min + rng.random_range(0..5);
                (interval(rng.random_bool(0.8), min, max), rng.random_range(0..10))
            })
            .collect();
        let best = (0_u32..1 << count)
            .map(|subset| {
                segments.iter().enumerate().filter(move |(i, _)| subset >> i & 1 == 1).map(|(_, s)| s)
            })
            .filter(|chosen| {
                let chosen: Vec<_> = chosen.clone().collect();
                chosen.iter().all(|(order, _)| order.is_sorted())
                    && (0..chosen.len())
                        .all(|i| (0..i).all(|j| apart(&chosen[i].0, &chosen[j].0)))
            })
            .map(|chosen| chosen.map(|(_, rows)| rows).sum::<u64>())
            .max();
        let counted: Vec<_> = segments.iter().map(|(order, rows)| (order, *rows)).collect();
        let rows = SortedRows::count(&counted);
        prop_assert_eq!(rows.sorted, best.unwrap_or(0));
        prop_assert_eq!(rows.all, segments.iter().map(|(_, rows)| rows).sum::<u64>());

        let orders: Vec<&SegmentOrder> = segments.iter().map(|(order, _)| order).collect();
        let groups = overlapping_segments(&orders);
        let mut members: Vec<usize> = groups.concat();
        members.sort_unstable();
        prop_assert!(members.into_iter().eq(0..count), "each segment is in one group");
        let group_of =
            |segment: usize| groups.iter().position(|group| group.contains(&segment)).unwrap();
        for left in 0..count {
            for right in 0..left {
                if group_of(left) != group_of(right) {
                    prop_assert!(apart(orders[left], orders[right]));
                }
            }
        }
        for group in groups.iter().filter(|group| group.len() > 1) {
            for member in group {
                let overlaps = |other: &usize| !apart(orders[*member], orders[*other]);
                prop_assert!(group.iter().any(|other| other != member && overlaps(other)));
            }
        }
    }
}

fn statistics(min: Constant, max: Constant) -> ColumnStatistics {
    ColumnStatistics {
        id: ColumnId(0),
        min: Some(min),
        max: Some(max),
        null_count: 0,
        has_nan: false,
        has_trailing_blank: false,
        distinct: DistinctSketch::default(),
        uncompressed_bytes: 0,
        encoded_bytes: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_estimate_is_the_figure_where_one_column_is_the_key(seed: u64, count in 0_usize..9) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let make: fn(u8) -> Constant = match rng.random_range(0..4) {
            0 => |n| Constant::Int(i64::from(n) - 6),
            1 => |n| Constant::Decimal(i128::from(n) - 6),
            2 => |n| Constant::Float(f64::from(n) - 6.0),
            _ => |n| Constant::Text(char::from(b'a' + n).to_string()),
        };
        let segments: Vec<_> = (0..count)
            .map(|_| {
                let min = rng.random_range(0..12);
                let max = min + rng.random_range(0..5);
                let rows = rng.random_range(0..10);
                (interval(true, min, max), statistics(make(min), make(max)), rows)
            })
            .collect();
        let exact: Vec<_> = segments.iter().map(|(order, _, rows)| (order, *rows)).collect();
        let mut known: Vec<_> =
            segments.iter().map(|(_, statistics, rows)| (Some(statistics), *rows)).collect();
        let exact = SortedRows::count(&exact);
        prop_assert_eq!(SortedRows::estimate(&known), exact);
        known.push((None, 7));
        let more = SortedRows { sorted: exact.sorted + 7, all: exact.all + 7 };
        prop_assert_eq!(SortedRows::estimate(&known), more);
    }
}

#[test]
fn percentages_are_exact() {
    let rows = |sorted, all| SortedRows { sorted, all };
    assert!(rows(95, 100).reach(95) && !rows(94, 100).reach(95));
    assert!(rows(0, 0).reach(100) && rows(0, 1).reach(0));
    assert!(!rows(u64::MAX - 1, u64::MAX).reach(100));
    assert!((rows(1, 4).percent() - 25.0).abs() < 1e-9 && rows(0, 0).percent() == 100.0);
}

#[test]
fn a_table_without_sort_key_is_sorted() {
    let mut table = numbers([3, 1, 2].into_iter());
    table.schema.sort_key = vec![];
    let order = order_of(&table);
    assert!(order.is_sorted());
    let counted = SortedRows::count(&[(&order, 3), (&order, 2)]);
    assert_eq!(counted, SortedRows { sorted: 5, all: 5 });
    assert_eq!(overlapping_segments(&[&order, &order]), [vec![0], vec![1]]);
}
