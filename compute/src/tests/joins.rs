//! Joins over stored tables: no motion where rows are placed alike, run-time filters that change
//! nothing but the work, and no waiting for partitions that nobody reads.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{JoinType, NullEquality};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use storage::schema::{ColumnType, TableSchema};

use super::fixture::*;
use crate::plan::dropped_probe::DroppedProbeRule;
use crate::{Distribution, TableVersion};

fn pair_schema() -> Arc<TableSchema> {
    schema_of(&[("k", ColumnType::BigInt, true), ("v", ColumnType::BigInt, true)], vec![])
}

fn pairs(rows: impl Iterator<Item = (i64, i64)>) -> RecordBatch {
    let (keys, values): (Vec<i64>, Vec<i64>) = rows.unzip();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(keys)), Arc::new(Int64Array::from(values))];
    RecordBatch::try_new(pair_schema().arrow_schema(), columns).unwrap()
}

async fn pair_table(
    fixture: &Fixture,
    name: &str,
    distribution: Distribution,
    rows: &RecordBatch,
) -> TableVersion {
    let empty = fixture.empty_table(name, &pair_schema(), distribution);
    fixture.insert(&empty, vec![vec![rows.clone()]]).await
}

/// Joins that are made with a hash table per partition.
fn partitioned_joins(slices: usize) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(slices);
    let options = &mut config.options_mut().optimizer;
    options.hash_join_single_partition_threshold = 0;
    options.hash_join_single_partition_threshold_rows = 0;
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_and_a_group_on_the_distribution_key_need_no_repartitioning() {
    let fixture = Fixture::new(2);
    let (orders, lines) =
        (pairs((0..2000).map(|i| (i, i % 7))), pairs((0..9000).map(|i| (i / 4, i))));
    let session = fixture.session_with(partitioned_joins(2));
    for (name, rows) in [("orders", &orders), ("lines", &lines)] {
        let table = pair_table(&fixture, name, Distribution::Key(0), rows).await;
        fixture.register(&session, &table);
    }
    let query = "SELECT o.k, count(*), sum(l.v) FROM orders o JOIN lines l ON o.k = l.k \
                 WHERE o.v = 3 GROUP BY o.k";
    let text = plan_text(&plan_of(&session, query).await);
    assert!(!text.contains("RepartitionExec"), "{text}");
    assert!(text.contains("mode=Partitioned"), "{text}");
    let plain = plain_session(&[("orders", orders), ("lines", lines)]);
    assert_eq!(sorted_rows(&session, query).await, sorted_rows(&plain, query).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_of_any_placement_return_the_same_rows_as_memory() {
    let mut random = Random(11);
    let fixture = Fixture::new(3);
    let small = pairs((0..300).map(|i| (i * 17 % 1000, i)));
    let large = pairs((0..30_000).map(|_| (random.below(4000) as i64, random.below(50) as i64)));
    let plain = plain_session(&[("small", small.clone()), ("large", large.clone())]);
    let placements =
        [Distribution::Even, Distribution::All, Distribution::Key(0), Distribution::Key(1)];
    let queries = [
        "SELECT s.k, s.v, l.v FROM small s JOIN large l ON s.k = l.k WHERE s.v < 40",
        "SELECT s.k, l.v FROM small s LEFT JOIN large l ON s.k = l.k AND l.v > 45",
        "SELECT l.k, s.v FROM small s RIGHT JOIN large l ON s.k = l.k AND s.v < 100",
        "SELECT l.k, s.v FROM small s FULL JOIN large l ON s.k = l.v",
        "SELECT k, v FROM large WHERE k IN (SELECT k FROM small WHERE v < 9)",
        "SELECT count(*) FROM large WHERE k NOT IN (SELECT k FROM small)",
        "SELECT l.k FROM large l WHERE EXISTS (SELECT 1 FROM small s WHERE s.k = l.k AND s.v < l.v)",
        "SELECT a.k, b.v FROM small a JOIN small b ON a.k = b.k AND a.v = b.v JOIN large l ON l.k = a.k",
    ];
    for left in placements {
        for right in placements {
            let small = pair_table(&fixture, "small", left, &small).await;
            let large = pair_table(&fixture, "large", right, &large).await;
            for config in [partitioned_joins(3), SessionConfig::new().with_target_partitions(3)] {
                let session = fixture.session_with(config);
                fixture.register(&session, &small);
                fixture.register(&session, &large);
                for query in queries {
                    let place = format!("{left:?} {right:?} {query}");
                    let expected = sorted_rows(&plain, query).await;
                    assert!(sorted_rows(&session, query).await == expected, "{place}");
                }
            }
        }
    }
}

async fn run_counted(session: &SessionContext, query: &str) -> (Arc<dyn ExecutionPlan>, usize) {
    let plan = plan_of(session, query).await;
    let batches = collect(Arc::clone(&plan), session.task_ctx()).await.unwrap();
    (plan, batches.iter().map(RecordBatch::num_rows).sum())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_thins_out_the_scan_of_its_probe_side() {
    let fixture = Fixture::new(2);
    let build = pairs((0..1000).map(|i| (i * 97, i)));
    let probe = pairs((0..300_000).map(|i| (i, i)));
    for config in [partitioned_joins(2), SessionConfig::new().with_target_partitions(2)] {
        let session = fixture.session_with(config);
        for (name, rows) in [("build", &build), ("probe", &probe)] {
            let table = pair_table(&fixture, name, Distribution::Key(0), rows).await;
            fixture.register(&session, &table);
        }
        let query = "SELECT p.v FROM build b JOIN probe p ON b.k = p.k";
        let (plan, rows) = run_counted(&session, query).await;
        assert_eq!(rows, 1000);
        // Rows that the filter passed, to the few that two partitions agree on by chance.
        let passed = counter(&plan, "rows_scanned")
            - counter(&plan, "rows_removed_native")
            - counter(&plan, "rows_removed_runtime");
        assert!(passed < 5000, "{passed} rows were handed to the join: {}", plan_text(&plan));
        assert!(counter(&plan, "row_groups_pruned") > 0, "rows beyond the last key are pruned");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_top_k_sort_prunes_what_cannot_be_among_the_first() {
    let fixture = Fixture::new(1);
    let session = fixture.session();
    let rows = pairs((0..800_000).map(|i| (i, -i)));
    fixture.register(&session, &pair_table(&fixture, "t", Distribution::Even, &rows).await);
    let (plan, count) = run_counted(&session, "SELECT v FROM t ORDER BY k LIMIT 5").await;
    assert_eq!(count, 5);
    assert!(counter(&plan, "row_groups_pruned") > 8, "{}", plan_text(&plan));
}

/// `a JOIN (z JOIN b)` where the outer join has a hash table per partition and the inner one
/// collects its build side; `a` has rows on one slice only.
async fn join_below_a_partition_that_is_never_read(fixture: &Fixture) -> Arc<dyn ExecutionPlan> {
    let session = fixture.session();
    let all = pairs((0..5000).map(|i| (i, i % 10)));
    let b = pair_table(fixture, "b", Distribution::Key(0), &all).await;
    let z = pair_table(fixture, "z", Distribution::Even, &pairs((0..5).map(|i| (i, i)))).await;
    let mut a = pair_table(fixture, "a", Distribution::Key(0), &all).await;
    a.slices[1].clear();
    for table in [&a, &b, &z] {
        fixture.register(&session, table);
    }
    let scan = |name: &'static str| {
        let session = session.clone();
        async move { plan_of(&session, &format!("SELECT k, v FROM {name}")).await }
    };
    let (a, b, z) = (scan("a").await, scan("b").await, scan("z").await);
    let z: Arc<dyn ExecutionPlan> = Arc::new(CoalescePartitionsExec::new(z));
    let inner = hash_join(z, b, ("k", 0), ("v", 1), PartitionMode::CollectLeft);
    let outer = hash_join(a, inner, ("k", 0), ("k", 2), PartitionMode::Partitioned);
    let options = ConfigOptions::default();
    FilterPushdown::new_post_optimization().optimize(outer, &options).unwrap()
}

fn hash_join(
    left: Arc<dyn ExecutionPlan>,
    right: Arc<dyn ExecutionPlan>,
    left_key: (&str, usize),
    right_key: (&str, usize),
    mode: PartitionMode,
) -> Arc<dyn ExecutionPlan> {
    let on = vec![(
        Arc::new(Column::new(left_key.0, left_key.1)) as _,
        Arc::new(Column::new(right_key.0, right_key.1)) as _,
    )];
    let equality = NullEquality::NullEqualsNothing;
    let join =
        HashJoinExec::try_new(left, right, on, None, &JoinType::Inner, None, mode, equality, false);
    Arc::new(join.unwrap())
}

/// Without the rule, the partition of the inner join whose outer build side is empty is dropped
/// unread, never reports, and the other partition waits for it for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_does_not_wait_for_a_partition_that_is_never_read() {
    let fixture = Fixture::new(2);
    let session = fixture.session();
    let hanging = join_below_a_partition_that_is_never_read(&fixture).await;
    let run = collect(Arc::clone(&hanging), session.task_ctx());
    let ended = tokio::time::timeout(Duration::from_secs(2), run).await;
    assert!(ended.is_err(), "DataFusion no longer hangs: the rule can go");

    let plan = join_below_a_partition_that_is_never_read(&fixture).await;
    let plan = DroppedProbeRule.optimize(plan, &ConfigOptions::default()).unwrap();
    assert!(plan_text(&plan).contains("KeepReportingExec"), "{}", plan_text(&plan));
    let run = collect(Arc::clone(&plan), session.task_ctx());
    let batches = tokio::time::timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    // Half of the rows of b match z; those of slice 0 match a.
    assert!((1..2500).contains(&rows), "{rows}");
}
