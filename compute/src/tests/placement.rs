//! A stored KEY table has its rows where a repartitioned stream would have them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::physical_expr::expressions::col;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};

use super::fixture::*;
use crate::Distribution;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_key_is_placed_as_repartitioning_places_it() {
    let mut random = Random(21);
    let all = wide_rows(&mut random, 0, 4000);
    for slices in [2, 5] {
        let fixture = Fixture::new(slices);
        for key in 0..all.num_columns() {
            let empty = fixture.empty_table("t", &wide_schema(), Distribution::Key(key));
            let version = fixture.insert(&empty, vec![cut(&mut random, &all, 700)]).await;
            let expected = repartitioned(&all, key, slices).await;
            for (slice, expected) in expected.into_iter().enumerate() {
                let session = fixture.session();
                let mut only = version.clone();
                only.slices
                    .iter_mut()
                    .enumerate()
                    .filter(|(other, _)| *other != slice)
                    .for_each(|(_, segments)| segments.clear());
                fixture.register(&session, &only);
                let found = sorted_rows(&session, "SELECT id FROM t").await;
                assert_eq!(found, expected, "column {key}, slice {slice} of {slices}");
            }
        }
    }
}

/// The ids of each partition of DataFusion's own operator, in order of text.
async fn repartitioned(rows: &RecordBatch, key: usize, partitions: usize) -> Vec<Vec<String>> {
    let schema = rows.schema();
    let session = plain_session(&[("t", rows.clone())]);
    let input = plan_of(&session, "SELECT * FROM t").await;
    let key = col(schema.field(key).name(), &schema).unwrap();
    let plan: Arc<dyn ExecutionPlan> = Arc::new(
        RepartitionExec::try_new(input, Partitioning::Hash(vec![key], partitions)).unwrap(),
    );
    let mut ids = Vec::new();
    let streams = datafusion::physical_plan::execute_stream_partitioned(plan, session.task_ctx());
    let reads = streams.unwrap().into_iter().map(datafusion::physical_plan::common::collect);
    for batches in futures::future::try_join_all(reads).await.unwrap() {
        let only_ids: Vec<RecordBatch> =
            batches.iter().map(|batch| batch.project(&[0]).unwrap()).collect();
        let mut text = text_of(&only_ids);
        text.sort_unstable();
        ids.push(text);
    }
    ids
}
