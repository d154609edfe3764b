//! A query that nobody waits for stops, also in the middle of a join that makes no rows.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::runtime::JoinSet;
use datafusion::datasource::MemTable;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt as _;

use crate::plan::cancel::QueryEnd;
use crate::plan::stop::{stoppable, stoppable_task};

/// Long enough for a loaded machine; what does not stop takes hours.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

fn session_with_numbers(count: i64) -> SessionContext {
    let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, false)]));
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![values]).unwrap();
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    let table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
    session.register_table("t", Arc::new(table)).unwrap();
    session
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_that_go_on_for_hours_stop_when_the_result_is_dropped() {
    let session = session_with_numbers(1_000_000);
    for query in [
        // No condition: rows without end, and an aggregate that asks for all of them.
        "SELECT sum(a.v % 7 + b.v % 5 + c.v % 3) FROM t a, t b, t c",
        // A condition that no pair fulfils: no rows for hours.
        "SELECT count(*) FROM t a JOIN t b ON a.v + b.v < 0",
        "SELECT count(*) FROM t a LEFT JOIN t b ON a.v + b.v < 0",
        "SELECT count(*) FROM t a WHERE NOT EXISTS (SELECT 1 FROM t b WHERE a.v + b.v < 0)",
        // All rows have the same key, and none passes the rest of the condition.
        "SELECT count(*) FROM t a JOIN t b ON a.v % 1 = b.v % 1 AND a.v + b.v < 0",
    ] {
        // As the leader stops what it runs, and as a node stops a task.
        let (by_leader, stop) = stoppable(plan_of_join(&session, query).await).unwrap();
        ends(&session, by_leader, query, move || drop(stop)).await;
        let end = QueryEnd::default();
        let by_node = stoppable_task(plan_of_join(&session, query).await, &end).unwrap();
        ends(&session, by_node, query, move || end.set()).await;
    }
}

async fn plan_of_join(session: &SessionContext, query: &str) -> Arc<dyn ExecutionPlan> {
    let plan = session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
    let text = displayable(plan.as_ref()).indent(false).to_string();
    assert!(text.contains("Join"), "{text}");
    plan
}

/// Runs the plan, which goes on for hours, and then stops it.
async fn ends(
    session: &SessionContext,
    plan: Arc<dyn ExecutionPlan>,
    query: &str,
    stop: impl FnOnce(),
) {
    let context = session.task_ctx();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut rows = execute_stream(plan, context).unwrap();
        while let Some(batch) = rows.next().await {
            if batch.is_err() {
                return;
            }
        }
        panic!("a join of a million by a million rows ended");
    });
    // Time to build the hash table or the left side; stopping works at any point.
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop();
    tasks.abort_all();
    let ended = tokio::time::timeout(STOPS_WITHIN, tasks.join_next()).await;
    let ended = ended.unwrap_or_else(|_| panic!("still works: {query}"));
    assert!(ended.unwrap().err().is_none_or(|error| error.is_cancelled()), "{query}");
}
