//! What a write leaves: every row once, on the right slice, sorted; and after a failure, nothing.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Date32Type;
use datafusion::common::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use std::collections::{HashMap, HashSet};
use storage::ids::SegmentId;
use storage::schema::ColumnType;

use super::fixture::*;
use crate::{Distribution, write_streams};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_written_once_and_sorted_within_its_segment() {
    let mut random = Random(41);
    let all = wide_rows(&mut random, 0, 100_000);
    let plain = plain_session(&[("t", all.clone())]);
    for distribution in [Distribution::Even, Distribution::All, Distribution::Key(5)] {
        let fixture = Fixture::new(3);
        let empty = fixture.empty_table("t", &wide_schema(), distribution);
        let halves = [all.slice(0, 40_000), all.slice(40_000, 60_000)];
        let inputs = halves.iter().map(|half| cut(&mut random, half, 5000)).collect();
        let version = fixture.insert(&empty, inputs).await;
        let session = fixture.session();
        fixture.register(&session, &version);
        let query = "SELECT * FROM t";
        assert!(sorted_rows(&session, query).await == sorted_rows(&plain, query).await);
        let per_slice: Vec<u64> = version
            .slices
            .iter()
            .map(|segments| segments.iter().map(|segment| segment.row_count).sum())
            .collect();
        match distribution {
            Distribution::All => assert_eq!(per_slice, [100_000, 0, 0]),
            _ => assert!(per_slice.iter().all(|rows| *rows > 20_000), "{per_slice:?}"),
        }
        assert_one_segment_is_sorted_by_day(&fixture, &version).await;
    }
}

async fn assert_one_segment_is_sorted_by_day(fixture: &Fixture, version: &crate::TableVersion) {
    let mut only = version.clone();
    only.slices[1..].iter_mut().for_each(Vec::clear);
    only.slices[0].truncate(1);
    let session = fixture.session();
    fixture.register(&session, &only);
    let plan = plan_of(&session, "SELECT day FROM t").await;
    let mut last = i32::MIN;
    for partition in 0..2 {
        let mut stream = plan.execute(partition, session.task_ctx()).unwrap();
        while let Some(batch) = stream.next().await {
            for day in batch.unwrap().column(0).as_primitive::<Date32Type>().values() {
                assert!(*day >= last);
                last = *day;
            }
        }
    }
}

#[tokio::test]
async fn small_even_writes_go_to_different_slices() {
    let mut random = Random(42);
    let fixture = Fixture::new(2);
    let mut version = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    for id in 0..6 {
        let row = wide_rows(&mut random, id, 1);
        version = fixture.insert(&version, vec![vec![row]]).await;
    }
    assert_eq!(version.slices.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
}

#[tokio::test]
async fn a_null_where_none_is_allowed_is_an_error_and_leaves_no_file() {
    let fixture = Fixture::new(2);
    let nullable = schema_of(&[("a", ColumnType::BigInt, true)], vec![]);
    let schema = schema_of(&[("a", ColumnType::BigInt, false)], vec![]);
    let version = fixture.empty_table("t", &schema, Distribution::Even);
    let good: Vec<i64> = (0..70_000).collect();
    let batch = |column: Int64Array| {
        RecordBatch::try_new(nullable.arrow_schema(), vec![Arc::new(column)]).unwrap()
    };
    let batches = vec![batch(good.into()), batch(vec![Some(1), None].into())];
    let input = stream_of(&nullable.arrow_schema(), batches);
    let context = fixture.session().task_ctx();
    let result = write_streams(&fixture.node, fixture.target(&version), vec![input], context).await;
    let Err(DataFusionError::Context(tag, inner)) = result else { panic!("{result:?}") };
    assert_eq!(tag, "SQLSTATE:23502");
    let expected = "null value in column \"a\" violates not-null constraint";
    assert!(inner.to_string().contains(expected), "{inner}");
    assert_eq!(fixture.file_count(), 0);
}

/// Enough rows to begin segments, then what `end` says.
fn rows_and_then(
    end: impl Future<Output = Option<Result<RecordBatch, DataFusionError>>> + Send + 'static,
) -> datafusion::execution::SendableRecordBatchStream {
    let mut random = Random(43);
    let rows = wide_rows(&mut random, 0, 50_000);
    // Three times the rows of a segment on the only slice.
    let batches = futures::stream::iter((0..63).map(move |_| Ok(rows.clone())));
    let end = futures::stream::once(end).filter_map(|item| async { item });
    let schema = wide_schema().arrow_schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, batches.chain(end)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_input_is_returned_and_leaves_no_file() {
    let fixture = Fixture::new(1);
    let version = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    let failing = rows_and_then(async { Some(Err(DataFusionError::Execution("bad row".into()))) });
    let context = fixture.session().task_ctx();
    let pool = Arc::clone(context.memory_pool());
    let result =
        write_streams(&fixture.node, fixture.target(&version), vec![failing], context).await;
    assert!(result.unwrap_err().to_string().contains("bad row"));
    assert_eq!(fixture.file_count(), 0);
    assert_eq!(pool.reserved(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_write_frees_its_memory_and_leaves_no_file() {
    let fixture = Fixture::new(1);
    let version = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    let endless = rows_and_then(futures::future::pending());
    let context = fixture.session().task_ctx();
    let pool = Arc::clone(context.memory_pool());
    let write = write_streams(&fixture.node, fixture.target(&version), vec![endless], context);
    let some_files = async {
        while fixture.file_count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        result = write => panic!("the input has no end: {result:?}"),
        () = some_files => {}
    }
    // Jobs that run on end on their own.
    let cleared = async {
        while fixture.file_count() > 0 || pool.reserved() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), cleared).await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_input_is_an_error_and_leaves_no_file() {
    let fixture = Fixture::new(1);
    let version = fixture.empty_table("t", &wide_schema(), Distribution::Even);
    let panicking = rows_and_then(async { panic!("planted") });
    let context = fixture.session().task_ctx();
    let result =
        write_streams(&fixture.node, fixture.target(&version), vec![panicking], context).await;
    assert!(result.unwrap_err().to_string().contains("a partition panicked: planted"));
    assert_eq!(fixture.file_count(), 0);
}

#[tokio::test]
async fn a_sweep_removes_only_files_that_no_version_names() {
    let mut random = Random(44);
    let fixture = Fixture::new(2);
    let rows = wide_rows(&mut random, 0, 1000);
    let empty = fixture.empty_table("t", &wide_schema(), Distribution::Key(0));
    let first = fixture.insert(&empty, vec![vec![rows.clone()]]).await;
    let second = fixture.insert(&first, vec![vec![rows]]).await;
    assert_eq!(fixture.file_count(), 4);
    let ids: HashSet<_> = first.segments().map(|segment| segment.id).collect();
    let known = HashMap::from([(first.table, ids)]);
    assert_eq!(fixture.node.sweep_orphans(&known, SegmentId(u64::MAX)).unwrap(), 2);
    let session = fixture.session();
    fixture.register(&session, &first);
    assert_eq!(rows_of(&session).await, 1000);
    assert_eq!(fixture.node.remove_table_files(second.table).unwrap(), 2);
    assert_eq!(fixture.file_count(), 0);
}

async fn rows_of(session: &datafusion::prelude::SessionContext) -> usize {
    rows(session, "SELECT id FROM t WHERE id >= 0").await.len()
}

#[tokio::test]
async fn a_batch_that_does_not_fit_the_table_is_refused() {
    let fixture = Fixture::new(1);
    let schema = schema_of(&[("a", ColumnType::Integer, true)], vec![]);
    let version = fixture.empty_table("t", &schema, Distribution::Even);
    let other = schema_of(&[("a", ColumnType::BigInt, true)], vec![]).arrow_schema();
    let column = Int64Array::from(vec![1]);
    let batch = RecordBatch::try_new(Arc::clone(&other), vec![Arc::new(column)]).unwrap();
    let context = fixture.session().task_ctx();
    let inputs = vec![stream_of(&other, vec![batch])];
    let result = write_streams(&fixture.node, fixture.target(&version), inputs, context).await;
    assert!(result.unwrap_err().to_string().contains("column a is given as Int64"));
}
