//! Sorts give all rows in order, in whatever memory they have, and give the memory back.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::{ExecutionPlan, collect, execute_stream};
use futures::StreamExt as _;
use proptest::prelude::*;

use super::spilling::{
    MIB, Row, batch_of, batches_of, files_in, query, rows_of, schema, shuffled, spills,
};
use crate::plan::bounded::bounded;

/// ORDER BY key DESC NULLS LAST, text ASC NULLS FIRST.
fn sort(batches: Vec<RecordBatch>) -> Arc<dyn ExecutionPlan> {
    let key = |name: &str, descending, nulls_first| PhysicalSortExpr {
        expr: col(name, &schema()).unwrap(),
        options: SortOptions { descending, nulls_first },
    };
    let order = LexOrdering::new([key("key", true, false), key("text", false, true)]).unwrap();
    let input = MemorySourceConfig::try_new_exec(&[batches], schema(), None).unwrap();
    bounded(Arc::new(SortExec::new(order, input))).unwrap()
}

/// The same order, by the standard library.
fn expect_sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    rows
}

#[tokio::test]
async fn strings_that_fit_into_memory_are_sorted_in_it() {
    let rows = shuffled(200_000, 20);
    let (memory, context, _dir) = query(64 * MIB, 8192);
    let plan = sort(batches_of(&rows, 8192));
    let sorted = collect(Arc::clone(&plan), context).await.unwrap();
    assert_eq!(spills(plan.as_ref()), 0);
    assert_eq!(plan.metrics().unwrap().output_rows(), Some(rows.len()));
    assert!(rows_of(&sorted) == expect_sorted(rows));
    assert_eq!(memory.reserved_bytes(), 0);
}

#[tokio::test]
async fn what_does_not_fit_is_sorted_on_disk() {
    let rows = shuffled(200_000, 100);
    let (memory, context, dir) = query(4 * MIB, 8192);
    let plan = sort(batches_of(&rows, 8192));
    let sorted = collect(Arc::clone(&plan), context).await.unwrap();
    assert!(spills(plan.as_ref()) > 5);
    assert!(memory.peak_bytes() <= 4 * MIB);
    let sorted = rows_of(&sorted);
    // Rows with equal keys come in any order from the disk; here all texts differ.
    assert!(sorted == expect_sorted(rows));
    drop(plan);
    assert_eq!(memory.reserved_bytes(), 0);
    assert_eq!(files_in(dir.path()), 0);
}

#[tokio::test]
async fn a_sort_that_nobody_reads_on_leaves_nothing() {
    let rows = shuffled(100_000, 100);
    let (memory, context, dir) = query(4 * MIB, 8192);
    let mut stream = execute_stream(sort(batches_of(&rows, 8192)), context).unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    assert_eq!(memory.reserved_bytes(), 0);
    assert_eq!(files_in(dir.path()), 0);
}

/// A batch that was cut out of a large one holds all of it, and so does one with the views of it.
#[tokio::test]
async fn slices_count_as_what_they_are() {
    let rows = shuffled(100_000, 20);
    let whole = batch_of(&rows);
    let slices = (0..1000).map(|at| whole.slice(at * 100, 100)).collect();
    let (_memory, context, _dir) = query(32 * MIB, 1000);
    let plan = sort(slices);
    let sorted = collect(Arc::clone(&plan), context).await.unwrap();
    assert_eq!(spills(plan.as_ref()), 0);
    assert!(rows_of(&sorted) == expect_sorted(rows));
}

/// Few long rows among short ones, which come next to each other.
#[tokio::test]
async fn long_rows_next_to_each_other_fit_into_a_merge() {
    let mut rows = shuffled(40_000, 20);
    for row in rows.iter_mut().step_by(800) {
        row.1 = Some(format!("~{}{}", row.2, "x".repeat(60_000)));
    }
    let (memory, context, _dir) = query(4 * MIB, 8192);
    let sorted = collect(sort(batches_of(&rows, 8192)), context).await.unwrap();
    assert!(rows_of(&sorted) == expect_sorted(rows));
    assert!(memory.peak_bytes() <= 4 * MIB);
}

/// An operator may give all its rows at once.
#[tokio::test]
async fn one_batch_of_all_rows_is_sorted_on_disk() {
    let rows = shuffled(200_000, 60);
    let (_memory, context, _dir) = query(4 * MIB, 8192);
    let plan = sort(vec![batch_of(&rows)]);
    let sorted = collect(Arc::clone(&plan), context).await.unwrap();
    assert!((5..100).contains(&spills(plan.as_ref())), "{}", spills(plan.as_ref()));
    assert!(rows_of(&sorted) == expect_sorted(rows));
}

/// What others have is not to be had; what was kept back from the beginning is enough.
#[tokio::test]
async fn a_sort_goes_on_when_others_have_all_the_memory() {
    let rows = shuffled(50_000, 60);
    let (memory, context, _dir) = query(8 * MIB, 1024);
    let pool = &memory.runtime_env().memory_pool;
    let plan = sort(batches_of(&rows, 1024));
    let mut stream = execute_stream(Arc::clone(&plan), context).unwrap();
    let other = MemoryConsumer::new("other").register(pool);
    other.try_grow(7 * MIB - MIB / 2).unwrap();
    let mut sorted = Vec::new();
    while let Some(batch) = stream.next().await {
        sorted.push(batch.unwrap());
    }
    // Not a run for each batch.
    assert!((2..40).contains(&spills(plan.as_ref())), "{}", spills(plan.as_ref()));
    assert!(rows_of(&sorted) == expect_sorted(rows));
}

fn arbitrary_rows() -> impl Strategy<Value = Vec<Row>> {
    let text = prop_oneof![
        3 => proptest::option::of("[ab]{0,3}"),
        1 => proptest::option::of("[a-c\u{0}\u{ff}]{0,40}"),
    ];
    let row = (proptest::option::weighted(0.8, -3_i64..3), text);
    proptest::collection::vec(row, 0..400).prop_map(|rows| {
        let numbered = (0..).zip(rows);
        numbered.map(|(number, (key, text))| (key, text, number)).collect()
    })
}

proptest! {
    #[test]
    fn any_rows_in_any_memory_come_in_order(
        rows in arbitrary_rows(),
        input_rows in 1_usize..60,
        batch_size in 1_usize..60,
        kib in 32_usize..400,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (memory, context, dir) = query(kib << 10, batch_size);
        let plan = sort(batches_of(&rows, input_rows));
        let sorted = runtime.block_on(collect(Arc::clone(&plan), context)).unwrap();
        prop_assert!(sorted.iter().all(|batch| batch.num_rows() <= batch_size));
        let mut sorted = rows_of(&sorted);
        let expected = expect_sorted(rows);
        if spills(plan.as_ref()) > 0 {
            // The disk does not keep the order of rows with equal keys.
            let keys = |rows: &[Row]| -> Vec<_> {
                rows.iter().map(|row| (row.0, row.1.clone())).collect()
            };
            prop_assert_eq!(keys(&sorted), keys(&expected));
            sorted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        }
        prop_assert_eq!(sorted, expected);
        prop_assert_eq!(memory.reserved_bytes(), 0);
        prop_assert_eq!(files_in(dir.path()), 0);
    }
}
