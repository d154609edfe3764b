//! The order against a plain stable sort of the cells.

use arrow_select::concat::concat_batches;
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::sample_rows::{Cell, TYPES, Table, array, compare_cells, random_value};

fn whole(table: &Table, batches: &[RecordBatch]) -> RecordBatch {
    concat_batches(&table.schema.arrow_schema(), batches).unwrap()
}

/// The rows in order, by definition.
fn expected(table: &Table) -> RecordBatch {
    let mut order: Vec<usize> = (0..table.row_count()).collect();
    order.sort_by(|left, right| {
        let by_key = |column: &usize| {
            let cells = &table.columns[*column];
            compare_cells(&cells[*left], &cells[*right])
        };
        table
            .schema
            .sort_key
            .iter()
            .map(by_key)
            .find(|o| o.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let columns = table.columns.iter().zip(&table.schema.columns).map(|(cells, column)| {
        let sorted: Vec<Cell> = order.iter().map(|row| cells[*row].clone()).collect();
        array(column.column_type, &sorted)
    });
    RecordBatch::try_new(table.schema.arrow_schema(), columns.collect()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn rows_come_in_the_order_of_the_key(seed: u64, rows in 0_usize..60) {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut table = Table::random(rng, 4, rows);
        table.schema.sort_key = (0..4).collect();
        table.schema.sort_key.shuffle(rng);
        table.schema.sort_key.truncate(rng.random_range(0..4));
        // Half of the columns hold five different values, so that stability shows.
        let sorted = sort_rows(&table.schema, table.batches(&[rows / 3, 0, rows / 5])).unwrap();
        prop_assert_eq!(whole(&table, &sorted), expected(&table));
    }
}

#[test]
fn each_type_sorts_alone_with_nulls_last() {
    for column_type in TYPES {
        let rng = &mut StdRng::seed_from_u64(7);
        let cells: Vec<Cell> =
            (0..200).map(|row| (row % 9 != 0).then(|| random_value(column_type, rng))).collect();
        let numbers = (0..200).map(|row| Some(crate::predicate::Constant::Int(row))).collect();
        let mut table = Table::new(&[column_type, ColumnType::BigInt], vec![cells, numbers]);
        table.schema.sort_key = vec![0];
        let sorted = sort_rows(&table.schema, table.batches(&[50])).unwrap();
        assert_eq!(whole(&table, &sorted), expected(&table), "{column_type:?}");
    }
}

#[test]
fn sorted_rows_are_handed_through_and_results_are_cut() {
    let ascending = (0..70_000).map(|row| Some(crate::predicate::Constant::Int(row))).collect();
    let mut table = Table::new(&[ColumnType::Integer], vec![ascending]);
    table.schema.sort_key = vec![0];
    let batches = table.batches(&[10, 20]);
    assert_eq!(sort_rows(&table.schema, batches.clone()).unwrap(), batches);
    table.columns[0].reverse();
    let sorted = sort_rows(&table.schema, table.batches(&[10, 20])).unwrap();
    let sizes: Vec<usize> = sorted.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [65_536, 4_464]);
    assert_eq!(whole(&table, &sorted), expected(&table));
}
