//! Repartitions give every row to the output that it belongs to, in whatever memory they have.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::common::exec_err;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, Partitioning, execute_stream_partitioned};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use proptest::prelude::*;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::spilling::{MIB, Row, batches_of, files_in, query, rows_of, schema, shuffled, spills};
use crate::plan::bounded::bounded;

/// A hang is reported after this; nothing here takes as long.
const HANG: Duration = Duration::from_secs(60);

/// By the hash of the key.
fn by_key(inputs: &[Vec<RecordBatch>], outputs: usize) -> Arc<dyn ExecutionPlan> {
    let input = MemorySourceConfig::try_new_exec(inputs, schema(), None).unwrap();
    let partitioning = Partitioning::Hash(vec![col("key", &schema()).unwrap()], outputs);
    Arc::new(RepartitionExec::try_new(input, partitioning).unwrap())
}

/// The rows of all outputs, read at the same time.
async fn read(plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Vec<Vec<Row>> {
    let mut reads = JoinSet::new();
    let outputs = execute_stream_partitioned(plan, context).unwrap();
    for (number, output) in outputs.into_iter().enumerate() {
        reads.spawn(async move { (number, output.try_collect::<Vec<_>>().await.unwrap()) });
    }
    let mut rows = timeout(HANG, reads.join_all()).await.unwrap();
    rows.sort_by_key(|(number, _)| *number);
    rows.into_iter().map(|(_, batches)| rows_of(&batches)).collect()
}

fn sorted(mut rows: Vec<Vec<Row>>) -> Vec<Vec<Row>> {
    rows.iter_mut().for_each(|rows| rows.sort_by_key(|row| row.2));
    rows
}

/// What DataFusion's operator gives to each output with all the memory that it wants.
async fn expected(inputs: &[Vec<RecordBatch>], outputs: usize) -> Vec<Vec<Row>> {
    sorted(read(by_key(inputs, outputs), Arc::default()).await)
}

fn inputs_of(rows: &[Row], inputs: usize, batch_rows: usize) -> Vec<Vec<RecordBatch>> {
    let of_input = rows.chunks(rows.len().div_ceil(inputs).max(1));
    let mut batches: Vec<_> = of_input.map(|rows| batches_of(rows, batch_rows)).collect();
    batches.resize(inputs, Vec::new());
    batches
}

/// A pool that others have taken whole: every row that waits goes to the disk. DataFusion's operator
/// hangs here within a few hundred rounds, mostly much earlier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_and_inputs_do_not_wait_for_each_other() {
    let inputs = inputs_of(&shuffled(2_000, 20), 2, 10);
    let expected = expected(&inputs, 2).await;
    let mut spilled = 0;
    for _ in 0..300 {
        let (memory, context, _dir) = query(64 << 10, 8);
        let other = MemoryConsumer::new("other").register(&memory.runtime_env().memory_pool);
        other.try_grow(64 << 10).unwrap();
        let plan = bounded(by_key(&inputs, 2)).unwrap();
        assert!(sorted(read(Arc::clone(&plan), context).await) == expected);
        spilled += spills(plan.as_ref());
    }
    assert!(spilled > 0);
}

/// A reader may want the rows of one output before it asks for those of another.
#[tokio::test]
async fn outputs_that_are_read_one_after_the_other_are_kept_on_disk() {
    let inputs = inputs_of(&shuffled(100_000, 100), 2, 8192);
    let expected = expected(&inputs, 4).await;
    let (memory, context, dir) = query(2 * MIB, 8192);
    let plan = bounded(by_key(&inputs, 4)).unwrap();
    let outputs = execute_stream_partitioned(Arc::clone(&plan), context).unwrap();
    let mut rows = Vec::new();
    for output in outputs {
        rows.push(rows_of(&output.try_collect::<Vec<_>>().await.unwrap()));
    }
    assert!(sorted(rows) == expected);
    assert!(spills(plan.as_ref()) > 0);
    assert!(memory.peak_bytes() <= 2 * MIB);
    assert_eq!(memory.reserved_bytes(), 0);
    drop(plan);
    assert_eq!(files_in(dir.path()), 0);
}

/// The rows of one input stay in order, also over the disk: some plans count on it.
#[tokio::test]
async fn one_input_keeps_its_order() {
    let inputs = inputs_of(&shuffled(50_000, 100), 1, 1000);
    let (_memory, context, _dir) = query(MIB, 1000);
    let plan = bounded(by_key(&inputs, 3)).unwrap();
    let mut count = 0;
    for output in execute_stream_partitioned(Arc::clone(&plan), context).unwrap() {
        let rows = rows_of(&output.try_collect::<Vec<_>>().await.unwrap());
        assert!(rows.is_sorted_by_key(|row| row.2));
        count += rows.len();
    }
    assert_eq!(count, 50_000);
    assert!(spills(plan.as_ref()) > 0);
}

/// A join that has not enough memory for a side reads it once more.
#[tokio::test]
async fn outputs_can_be_read_again() {
    let inputs = inputs_of(&shuffled(20_000, 20), 2, 1000);
    let expected = expected(&inputs, 2).await;
    let (memory, context, dir) = query(64 * MIB, 1000);
    let plan = bounded(by_key(&inputs, 2)).unwrap();
    // The first time one of them is given up, and one is read to its end.
    let mut outputs = execute_stream_partitioned(Arc::clone(&plan), Arc::clone(&context)).unwrap();
    outputs[0].next().await.unwrap().unwrap();
    drop(outputs.remove(0));
    while let Some(batch) = outputs[0].next().await {
        batch.unwrap();
    }
    let first = plan.execute(0, Arc::clone(&context)).unwrap();
    drop(outputs);
    let second = plan.execute(1, Arc::clone(&context)).unwrap();
    let (first, second) =
        tokio::join!(first.try_collect::<Vec<_>>(), second.try_collect::<Vec<_>>());
    assert!(sorted(vec![rows_of(&first.unwrap()), rows_of(&second.unwrap())]) == expected);
    assert!(sorted(read(Arc::clone(&plan), context).await) == expected);
    assert_eq!(memory.reserved_bytes(), 0);
    assert_eq!(files_in(dir.path()), 0);
}

#[tokio::test]
async fn an_output_that_is_dropped_keeps_nothing_from_the_others() {
    let inputs = inputs_of(&shuffled(50_000, 100), 2, 1000);
    let expected = expected(&inputs, 3).await;
    let (memory, context, dir) = query(MIB, 1000);
    let plan = bounded(by_key(&inputs, 3)).unwrap();
    let mut outputs = execute_stream_partitioned(plan, context).unwrap();
    // One that was never read, and one that was begun.
    drop(outputs.remove(0));
    outputs[0].next().await.unwrap().unwrap();
    drop(outputs.remove(0));
    let rows = rows_of(&outputs.remove(0).try_collect::<Vec<_>>().await.unwrap());
    assert!(sorted(vec![rows]) == expected[2..]);
    assert_eq!(memory.reserved_bytes(), 0);
    assert_eq!(files_in(dir.path()), 0);
}

/// Some rows, and then what it is made for.
#[derive(Debug)]
struct Failing {
    schema: arrow::datatypes::SchemaRef,
    panics: bool,
}

impl PartitionStream for Failing {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let panics = self.panics;
        let rows = stream::iter(batches_of(&shuffled(1000, 10), 100)).map(Ok);
        let end = stream::once(async move {
            assert!(!panics, "the input has panicked");
            exec_err!("the input has failed")
        });
        Box::pin(RecordBatchStreamAdapter::new(schema(), rows.chain(end)))
    }
}

#[tokio::test]
async fn what_an_input_fails_with_is_the_error_of_every_output() {
    for (panics, message) in [(false, "the input has failed"), (true, "the input has panicked")] {
        let inputs = (0..2).map(|_| Arc::new(Failing { schema: schema(), panics }) as _).collect();
        let input = StreamingTableExec::try_new(schema(), inputs, None, None, false, None).unwrap();
        let partitioning = Partitioning::Hash(vec![col("key", &schema()).unwrap()], 3);
        let plan = RepartitionExec::try_new(Arc::new(input), partitioning).unwrap();
        let (memory, context, _dir) = query(MIB, 1000);
        let plan = bounded(Arc::new(plan)).unwrap();
        let mut outputs = execute_stream_partitioned(plan, context).unwrap();
        for output in &mut outputs {
            let error = output.try_collect::<Vec<_>>().await.unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
            assert!(output.next().await.is_none());
        }
        drop(outputs);
        assert_eq!(memory.reserved_bytes(), 0);
    }
}

/// An input ends when nobody wants its rows any more.
#[tokio::test]
async fn without_readers_nothing_is_left_of_a_repartition() {
    let inputs = inputs_of(&shuffled(100_000, 100), 2, 1000);
    let (memory, context, dir) = query(MIB, 1000);
    let plan = bounded(by_key(&inputs, 2)).unwrap();
    let mut outputs = execute_stream_partitioned(Arc::clone(&plan), context).unwrap();
    outputs[1].next().await.unwrap().unwrap();
    drop(outputs);
    while memory.reserved_bytes() > 0 || files_in(dir.path()) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(plan);
}

proptest! {
    #[test]
    fn any_rows_in_any_memory_come_to_their_outputs(
        keys in proptest::collection::vec((proptest::option::weighted(0.9, -9_i64..9), 0_usize..60), 0..400),
        inputs in 1_usize..5,
        outputs in 1_usize..5,
        input_rows in 1_usize..60,
        batch_size in 1_usize..60,
        kib in 0_usize..40,
    ) {
        let rows: Vec<Row> = (0..).zip(keys).map(|(number, (key, bytes))| {
            (key, (bytes > 0).then(|| "x".repeat(bytes)), number)
        }).collect();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let inputs = inputs_of(&rows, inputs, input_rows);
            let expected = expected(&inputs, outputs).await;
            let (memory, context, dir) = query(kib << 10, batch_size);
            let plan = bounded(by_key(&inputs, outputs)).unwrap();
            let read = sorted(read(Arc::clone(&plan), context).await);
            prop_assert_eq!(read, expected);
            prop_assert_eq!(memory.reserved_bytes(), 0);
            prop_assert_eq!(files_in(dir.path()), 0);
            Ok(())
        })?;
    }
}
