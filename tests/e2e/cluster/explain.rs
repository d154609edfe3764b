//! EXPLAIN in Redshift's words: shapes that its documentation shows, over tables whose distribution
//! says what must move. Costs and widths are left out; rows are known.

use tokio_postgres::Client;

use super::motions::{QUERIES, TABLES};
use super::{answer, expect, nodes};
use crate::support::cluster::Cluster;

/// The lines of EXPLAIN without `(cost=.. width=..)`, each after `rows` if the test asks for them.
async fn plan(client: &Client, sql: &str) -> Vec<String> {
    let lines = expect(client, &format!("EXPLAIN {sql}")).await;
    lines.iter().map(|line| line.split("  (cost=").next().unwrap().to_owned()).collect()
}

async fn check(client: &Client, sql: &str, expected: &str) {
    let found = plan(client, sql).await.join("\n");
    let expected = expected.trim_matches('\n');
    assert_eq!(found, expected, "{sql}\n{found}");
}

/// `big` and `other` lie by `k`, `spread` anywhere, `copied` is on every node.
async fn make_tables(client: &Client) {
    for (name, style, rows) in [
        ("big", "DISTKEY(k)", 4000),
        ("other", "DISTKEY(k)", 4000),
        ("spread", "DISTSTYLE EVEN", 3000),
        ("small", "DISTSTYLE EVEN", 5),
        ("copied", "DISTSTYLE ALL", 50),
    ] {
        let create = format!("CREATE TABLE {name} (k bigint, a int, w varchar(10)) {style}");
        expect(client, &create).await;
        let values: Vec<String> =
            (0..rows).map(|n| format!("({n}, {}, 'w{}')", n % 10, n % 3)).collect();
        expect(client, &format!("INSERT INTO {name} VALUES {}", values.join(", "))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_of_a_cluster_say_what_moves() {
    let cluster = nodes(2);
    let client = cluster.connect().await;
    make_tables(&client).await;
    check(
        &client,
        "SELECT b.a, o.w FROM big b JOIN other o ON b.k = o.k WHERE b.a > 3",
        r#"
XN Hash Join DS_DIST_NONE
  Hash Cond: ("outer".k = "inner".k)
  ->  XN Seq Scan on other
        Filter: (k IS NOT NULL)
  ->  XN Hash
        ->  XN Seq Scan on big
              Filter: ((k IS NOT NULL) AND (a > 3))"#,
    )
    .await;
    check(
        &client,
        "SELECT b.k FROM big b JOIN copied c ON b.a = c.a",
        r#"
XN Hash Join DS_DIST_ALL_NONE
  Hash Cond: ("outer".a = "inner".a)
  ->  XN Seq Scan on big
        Filter: (a IS NOT NULL)
  ->  XN Hash
        ->  XN Seq Scan on copied
              Filter: (a IS NOT NULL)"#,
    )
    .await;
    check(
        &client,
        "SELECT b.k FROM big b JOIN small s ON b.a = s.a",
        r#"
XN Hash Join DS_BCAST_INNER
  Hash Cond: ("outer".a = "inner".a)
  ->  XN Seq Scan on big
        Filter: (a IS NOT NULL)
  ->  XN Hash
        ->  XN Seq Scan on small
              Filter: (a IS NOT NULL)"#,
    )
    .await;
    check(
        &client,
        "SELECT b.a, s.a FROM big b JOIN spread s ON b.k = s.k",
        r#"
XN Hash Join DS_DIST_INNER
  Hash Cond: ("outer".k = "inner".k)
  ->  XN Seq Scan on big
        Filter: (k IS NOT NULL)
  ->  XN Hash
        ->  XN Seq Scan on spread
              Filter: (k IS NOT NULL)"#,
    )
    .await;
    groups(&client).await;
    more_plans(&client).await;
}

async fn groups(client: &Client) {
    // Groups by the distribution key stay where they are.
    check(
        client,
        "SELECT k, count(*) FROM big GROUP BY k",
        "
XN HashAggregate
  ->  XN Seq Scan on big",
    )
    .await;
    check(
        client,
        "SELECT w, sum(a) FROM big GROUP BY w HAVING sum(a) > 1 ORDER BY 2 DESC LIMIT 3",
        r#"
XN Limit
  ->  XN Merge
        Merge Key: sum((a)::bigint)
        ->  XN Network
              Send to leader
              ->  XN Sort
                    Sort Key: sum((a)::bigint)
                    ->  XN HashAggregate
                          Filter: (sum((a)::bigint) > 1)
                          ->  XN Network
                                Distribute
                                ->  XN HashAggregate
                                      ->  XN Seq Scan on big"#,
    )
    .await;
}

async fn more_plans(client: &Client) {
    check(
        client,
        "SELECT count(*) FROM big WHERE w IN ('w1', 'w2') OR k IS NULL",
        "
XN Aggregate
  ->  XN Seq Scan on big
        Filter: ((w = 'w1'::text) OR (w = 'w2'::text) OR (k IS NULL))",
    )
    .await;
    check(
        client,
        "SELECT k, rank() OVER (PARTITION BY w ORDER BY a) FROM big",
        "
XN Window
  Partition: w
  Order: a
  ->  XN Sort
        Sort Key: w, a
        ->  XN Network
              Distribute
              ->  XN Seq Scan on big",
    )
    .await;
    check(
        client,
        "SELECT a FROM big UNION SELECT a FROM spread",
        r#"
XN Unique
  ->  XN Network
        Distribute
        ->  XN Unique
              ->  XN Append
                    ->  XN Subquery Scan "*SELECT* 1"
                          ->  XN Seq Scan on big
                    ->  XN Subquery Scan "*SELECT* 2"
                          ->  XN Seq Scan on spread"#,
    )
    .await;
    check(
        client,
        "SELECT a FROM (SELECT a FROM big ORDER BY a LIMIT 9) q WHERE a > 5",
        "
XN Subquery Scan
  Filter: (a > 5)
  ->  XN Limit
        ->  XN Merge
              Merge Key: a
              ->  XN Network
                    Send to leader
                    ->  XN Sort
                          Sort Key: a
                          ->  XN Seq Scan on big",
    )
    .await;
    let loops = plan(client, "SELECT b.k FROM big b, small s WHERE b.a < s.a").await;
    assert_eq!(loops[0], "XN Nested Loop DS_BCAST_INNER", "{loops:#?}");
    assert!(loops.last().unwrap().contains("Nested Loop Join in the query plan"), "{loops:#?}");
    let written = plan(client, "INSERT INTO other SELECT * FROM big").await;
    assert_eq!(written, ["XN Seq Scan on big"]);
    check(client, "SELECT 1 + 1 AS two", "Result").await;
    check(client, "SELECT relname FROM pg_class", "Seq Scan on pg_class").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_and_lineitem_are_joined_in_place() {
    let cluster = nodes(2);
    let client = cluster.connect().await;
    for table in TABLES {
        expect(&client, table).await;
    }
    for (name, sql) in QUERIES {
        let plan = plan(&client, sql).await;
        let mut together = 0;
        for (at, line) in plan.iter().enumerate() {
            let is_key = line.contains("o_orderkey") || line.contains("l_orderkey");
            if line.trim_start().starts_with("Hash Cond:") && is_key {
                together += 1;
                let join = plan[at - 1].trim_start().trim_start_matches("->  ");
                assert!(
                    join.starts_with("XN Hash") && join.ends_with("Join DS_DIST_NONE"),
                    "{name}: {join}\n{}",
                    plan.join("\n")
                );
            }
        }
        assert!(together > 0, "{name}:\n{}", plan.join("\n"));
    }
}

/// The figure after `name=` in the first line that has it.
fn figure(lines: &[String], line: &str, name: &str) -> f64 {
    let found = lines.iter().find(|found| found.trim_start().starts_with(line));
    let line = found.unwrap_or_else(|| panic!("no {line} in {lines:#?}"));
    let rest = line.split(&format!("{name}=")).nth(1).unwrap();
    let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    number.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_counts_what_each_node_did() {
    let one = Cluster::start();
    let three = nodes(3);
    for (cluster, count) in [(&one, 1), (&three, 3)] {
        let client = cluster.connect().await;
        make_tables(&client).await;
        let sql = "EXPLAIN ANALYZE SELECT b.k, s.w FROM big b JOIN spread s ON b.a = s.k WHERE b.k < 1000";
        let lines = expect(&client, sql).await;
        let text = lines.join("\n");
        // a is 0 to 9 and meets one row of spread each time.
        assert_eq!(figure(&lines, "Total:", "rows"), 1000.0, "{text}");
        let at = |name: &str| lines.iter().position(|line| line.contains(name)).expect(&text);
        let big = &lines[at("Seq Scan on big")..];
        assert_eq!(figure(big, "Actual:", "rows"), 1000.0, "{text}");
        let join = &lines[at("Hash Join")..];
        assert_eq!(figure(join, "Actual:", "rows"), 1000.0, "{text}");
        assert!(figure(&lines, "Peak memory:", "leader") >= 0.0);
        for node in 0..count {
            assert!(text.contains(&format!("[node {node}: ")), "{text}");
        }
        let slices = figure(big, "Slices:", "skew");
        assert!((1.0..=6.0).contains(&slices), "{text}");
        if count == 1 {
            continue;
        }
        for node in 0..count {
            assert!(figure(&lines, "Peak memory:", &format!("node {node}")) >= 0.0, "{text}");
        }
        // Everything that is joined was sent somewhere or stayed: 3000 rows of spread moved by key.
        let spread = &lines[at("Seq Scan on spread")..];
        assert!(figure(spread, "Moved:", "rows") >= 10.0, "{text}");
        assert!(figure(spread, "Moved:", "processes") > 0.0, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_really_runs_and_writes_nothing() {
    for cluster in [Cluster::start(), nodes(2)] {
        let client = cluster.connect().await;
        expect(&client, "CREATE TABLE t (a int) DISTSTYLE EVEN").await;
        expect(&client, "INSERT INTO t VALUES (1), (2), (0)").await;
        let failed = answer(&client, "EXPLAIN ANALYZE SELECT 1 / a FROM t").await;
        assert_eq!(failed.unwrap_err(), "22012 division by zero");
        let refused = answer(&client, "EXPLAIN ANALYZE INSERT INTO t SELECT a FROM t").await;
        assert_eq!(refused.unwrap_err(), "0A000 EXPLAIN ANALYZE runs queries only");
        assert_eq!(expect(&client, "SELECT count(*) FROM t").await, ["3"]);
        let few = expect(&client, "EXPLAIN ANALYZE SELECT a FROM t ORDER BY a LIMIT 2").await;
        assert_eq!(figure(&few, "Total:", "rows"), 2.0, "{few:#?}");
        let verbose = expect(&client, "EXPLAIN VERBOSE SELECT a FROM t").await.join("\n");
        assert!(verbose.contains("SliceScanExec: table=t"), "{verbose}");
        assert!(verbose.contains("\nXN Seq Scan on t"), "{verbose}");
    }
}
