//! A scan returns what DataFusion returns from memory, whatever it filters and however it reads.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;

use super::fixture::*;
use crate::{Distribution, TableVersion};

const DISTRIBUTIONS: [Distribution; 3] =
    [Distribution::Even, Distribution::All, Distribution::Key(1)];

/// The table `t` in two loads, and the same rows in memory.
async fn tables(
    fixture: &Fixture,
    random: &mut Random,
    distribution: Distribution,
    rows: usize,
) -> (SessionContext, SessionContext, TableVersion) {
    let all = wide_rows(random, 0, rows);
    let first = all.slice(0, rows / 3);
    let rest = all.slice(rows / 3, rows - rows / 3);
    let empty = fixture.empty_table("t", &wide_schema(), distribution);
    let version = fixture.insert(&empty, vec![cut(random, &first, 9000)]).await;
    let inputs = vec![cut(random, &rest, 30_000), vec![], vec![first.slice(0, 0)]];
    let version = fixture.insert(&version, inputs).await;
    let ours = fixture.session();
    fixture.register(&ours, &version);
    (ours, plain_session(&[("t", all)]), version)
}

fn random_condition(random: &mut Random, depth: usize) -> String {
    let r = random;
    let comparison = *r.pick(&["=", "<>", "<", "<=", ">", ">="]);
    let number = r.below(520) as i64 - 60;
    if depth > 0 && r.below(3) == 0 {
        let left = random_condition(r, depth - 1);
        let right = random_condition(r, depth - 1);
        return match r.below(4) {
            0 => format!("NOT ({left})"),
            1 => format!("({left} AND {right})"),
            _ => format!("({left} OR {right})"),
        };
    }
    match r.below(17) {
        0 => format!("k {comparison} {number}"),
        1 => format!("{number} {comparison} k"),
        2 => format!("k BETWEEN {number} AND {}", number + 40),
        3 => format!("k IN ({number}, {}, {}, 17, 18)", number + 3, number + 9),
        4 => format!("k NOT IN ({number}, {}, 11, 12, 13)", number + 1),
        5 => format!("price {comparison} {number}.25"),
        // A plain number would be a double here, which DataFusion takes for DECIMAL(38, 15).
        6 => format!("big {comparison} CAST('{}00000000.5' AS DECIMAL(38, 4))", r.next() / 1000),
        7 => format!("name {comparison} 'green apple {}'", r.below(40)),
        8 => format!("name LIKE '{}'", r.pick(&["%apple%", "red%", "%9", "_ed 1_", "blue\\_1%"])),
        9 => format!("name NOT LIKE '{}'", r.pick(&["%e%", "a%", " %"])),
        10 => format!("day {comparison} DATE '199{}-0{}-15'", r.below(10), 1 + r.below(9)),
        11 => (*r.pick(&["flag", "NOT flag", "flag IS NULL", "k IS NOT NULL"])).to_owned(),
        12 => format!("f {comparison} {number}.5"),
        13 => format!("k + s {comparison} {number}"),
        14 => format!("length(name) {comparison} {}", r.below(30)),
        15 => format!("s = {} OR s = {} OR s = 3", r.below(7), r.below(7)),
        _ => format!("CASE WHEN flag THEN k ELSE s END {comparison} {}", r.below(8)),
    }
}

async fn check_random_queries(seed: u64, slices: usize, distribution: Distribution, rows: usize) {
    let mut random = Random(seed);
    let fixture = Fixture::new(slices);
    let (ours, plain, _) = tables(&fixture, &mut random, distribution, rows).await;
    let columns = ["id", "k", "price", "name", "day", "flag", "ts", "big", "f", "s"];
    for number in 0..40 {
        let conditions: Vec<String> = (0..1 + random.below(3))
            .map(|_| format!("({})", random_condition(&mut random, 2)))
            .collect();
        let list: Vec<&str> = (0..1 + random.below(4)).map(|_| *random.pick(&columns)).collect();
        let aliased: Vec<String> =
            list.iter().enumerate().map(|(i, column)| format!("{column} AS c{i}")).collect();
        let conditions = conditions.join(" AND ");
        let query = match number % 4 {
            0 => format!("SELECT count(*), sum(k), min(name) FROM t WHERE {conditions}"),
            _ => format!("SELECT {} FROM t WHERE {conditions}", aliased.join(", ")),
        };
        let expected = sorted_rows(&plain, &query).await;
        let found = sorted_rows(&ours, &query).await;
        let place = format!("seed {seed}, {slices} slices, {distribution:?}: {query}");
        assert_eq!(found.len(), expected.len(), "{place}");
        assert!(found == expected, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_filters_and_projections_return_the_same_rows_as_memory() {
    for (seed, distribution) in DISTRIBUTIONS.into_iter().enumerate() {
        for slices in [1, 2, 3] {
            check_random_queries(seed as u64, slices, distribution, 3000).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_queries_over_several_row_groups() {
    check_random_queries(100, 2, Distribution::Key(1), 200_000).await;
    check_random_queries(101, 2, Distribution::Even, 200_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sorts_limits_and_counts_return_the_same_rows_as_memory() {
    let mut random = Random(7);
    let fixture = Fixture::new(2);
    for distribution in DISTRIBUTIONS {
        let (ours, plain, _) = tables(&fixture, &mut random, distribution, 150_000).await;
        for query in [
            "SELECT id, name FROM t ORDER BY name DESC NULLS LAST, id LIMIT 20",
            "SELECT id FROM t ORDER BY price NULLS FIRST, id DESC LIMIT 7",
            "SELECT id FROM t WHERE flag ORDER BY day DESC, k, id LIMIT 100 OFFSET 30",
            "SELECT count(*) FROM t",
            "SELECT count(*) FROM t WHERE k > 100 AND name LIKE '%apple%'",
            "SELECT min(day), max(day), min(k), max(price), count(k), count(flag) FROM t",
            "SELECT max(name), min(name), max(f) FROM t",
            "SELECT s, count(*), sum(price) FROM t GROUP BY s ORDER BY s",
            "SELECT k, count(*) FROM t GROUP BY k ORDER BY k",
            "SELECT id FROM t WHERE price > (SELECT avg(price) FROM t) ORDER BY id LIMIT 50",
            "SELECT count(*) FROM t WHERE day = (SELECT max(day) FROM t)",
            "SELECT count(*) FROM t WHERE k = 1 AND k = 2",
        ] {
            assert_eq!(rows(&ours, query).await, rows(&plain, query).await, "{query}");
        }
        let limited = rows(&ours, "SELECT id, k FROM t WHERE k > 10 LIMIT 33").await;
        assert_eq!(limited.len(), 33);
    }
}

#[tokio::test]
async fn an_empty_table_has_no_rows() {
    let fixture = Fixture::new(2);
    let session = fixture.session();
    fixture.register(&session, &fixture.empty_table("t", &wide_schema(), Distribution::Key(0)));
    assert_eq!(rows(&session, "SELECT * FROM t WHERE k > 3").await, Vec::<String>::new());
    let query = "SELECT count(*), min(k), max(name), sum(price) FROM t";
    assert_eq!(rows(&session, query).await, ["0|NULL|NULL|NULL"]);
}

#[tokio::test]
async fn zone_maps_skip_row_groups_outside_of_the_sort_key_range() {
    let mut random = Random(1);
    let fixture = Fixture::new(2);
    let (session, _, _) = tables(&fixture, &mut random, Distribution::Even, 400_000).await;
    let query = "SELECT sum(k) FROM t WHERE day BETWEEN DATE '1992-01-01' AND DATE '1992-01-31'";
    let plan = plan_of(&session, query).await;
    let text = plan_text(&plan);
    assert!(!text.contains("FilterExec"), "the scan filters: {text}");
    collect(Arc::clone(&plan), session.task_ctx()).await.unwrap();
    let (pruned, scanned) =
        (counter(&plan, "row_groups_pruned"), counter(&plan, "row_groups_scanned"));
    assert!(pruned > scanned && scanned > 0, "{pruned} pruned, {scanned} scanned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_runs_twice_reads_everything_twice() {
    let mut random = Random(2);
    let fixture = Fixture::new(2);
    for distribution in DISTRIBUTIONS {
        let (session, _, _) = tables(&fixture, &mut random, distribution, 10_000).await;
        let plan = plan_of(&session, "SELECT id FROM t").await;
        let count =
            |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        for _ in 0..3 {
            let batches = collect(Arc::clone(&plan), session.task_ctx()).await.unwrap();
            assert_eq!(count(batches), 10_000);
        }
    }
}

#[tokio::test]
async fn a_stream_returns_full_batches_of_what_sparse_filters_leave() {
    let mut random = Random(3);
    let fixture = Fixture::new(1);
    let (session, _, _) = tables(&fixture, &mut random, Distribution::Even, 300_000).await;
    let plan = plan_of(&session, "SELECT id, name FROM t WHERE s = 3").await;
    let batches = collect(plan, session.task_ctx()).await.unwrap();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    assert!(
        rows > 30_000 && batches.len() <= rows / 4096,
        "{} batches of {rows} rows",
        batches.len()
    );
}

#[tokio::test]
async fn a_table_placed_by_another_hash_is_planned_as_even() {
    let mut random = Random(4);
    let fixture = Fixture::new(2);
    let (_, plain, mut version) = tables(&fixture, &mut random, Distribution::Key(1), 5000).await;
    version.placement_fingerprint ^= 1;
    let session = fixture.session();
    fixture.register(&session, &version);
    let query = "SELECT k, count(*) FROM t GROUP BY k";
    let text = plan_text(&plan_of(&session, query).await);
    assert!(text.contains("RepartitionExec"), "{text}");
    assert_eq!(sorted_rows(&session, query).await, sorted_rows(&plain, query).await);
}
