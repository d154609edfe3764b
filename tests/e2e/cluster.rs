//! Several compute nodes give the answers of one, and a node that dies gives an error and never a
//! short answer.

mod automatic;
mod changed_copies;
mod damage;
mod explain;
mod kills;
mod leader_disk;
mod mirrors;
mod motions;
mod network;
mod random_sql;
mod supervisor;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options};
use random_sql::{query, rows_of_table};

/// Random queries of a normal run; `BLUESHIFT_CLUSTER_QUERIES` sets another number.
const QUERIES: usize = 120;
/// Nodes of the clusters that are compared with a single node.
const COUNTS: [usize; 3] = [2, 3, 4];
/// Queries over the same tables.
const QUERIES_OF_TABLES: usize = 20;
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A cluster of that many nodes with two slices each.
fn nodes(count: usize) -> Cluster {
    nodes_with(count, Vec::new())
}

/// The same, with these variables.
fn nodes_with(count: usize, environment: Vec<(String, String)>) -> Cluster {
    let arguments = ["--nodes", &count.to_string(), "--slices", "2"].map(str::to_owned).to_vec();
    Cluster::start_own(Options { arguments, environment, ..Options::default() })
}

/// The rows of a query, each as text; an error as its SQLSTATE and message.
async fn answer(client: &Client, sql: &str) -> Result<Vec<String>, String> {
    let asked = tokio::time::timeout(ANSWER_WITHIN, client.simple_query(sql)).await;
    let Ok(messages) = asked else { return Err("no answer in time".to_owned()) };
    let messages = messages.map_err(|error| match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => format!("no error of the server: {error}"),
    })?;
    let text = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let values = (0..row.len()).map(|at| row.get(at).unwrap_or("NULL"));
            Some(values.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    Ok(messages.iter().filter_map(text).collect())
}

async fn expect(client: &Client, sql: &str) -> Vec<String> {
    answer(client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_to_four_nodes_answer_random_queries_as_one_does() {
    let wanted = std::env::var("BLUESHIFT_CLUSTER_QUERIES");
    let wanted = wanted.map_or(QUERIES, |text| text.parse().unwrap());
    let mut random = seeded();
    let one = Cluster::start();
    let several = COUNTS.map(nodes);
    let mut clients = vec![one.connect().await];
    for cluster in &several {
        clients.push(cluster.connect().await);
    }
    let (mut compared, mut refused, mut different) = (0, 0, Vec::new());
    while compared + refused < wanted {
        let seed = random.next_u64();
        let mut random = StdRng::seed_from_u64(seed);
        make_tables(&clients, &mut random).await;
        for _ in 0..QUERIES_OF_TABLES {
            let sql = query(&mut random);
            let in_order = sql.contains("ORDER BY c0") || sql.contains("ORDER BY n");
            let Ok(expected) = answer(&clients[0], &sql).await else {
                refused += 1;
                continue;
            };
            compared += 1;
            for (nodes, client) in COUNTS.into_iter().zip(&clients[1..]) {
                let found = answer(client, &sql).await;
                if !same(&expected, found.as_deref(), in_order) {
                    let text =
                        found.map_or_else(|error| error, |rows| format!("{} rows", rows.len()));
                    eprintln!(
                        "tables {seed}, {nodes} nodes: {text}, not {}\n{sql}",
                        expected.len()
                    );
                    different.push(sql.clone());
                }
            }
        }
    }
    eprintln!("{compared} queries compared, {refused} that one node refuses too");
    assert!(compared > refused, "most random queries are queries");
    assert!(different.is_empty(), "{} of {compared} differ", different.len());
}

fn same(expected: &[String], found: Result<&[String], &String>, in_order: bool) -> bool {
    let Ok(found) = found else { return false };
    if in_order {
        return expected == found;
    }
    let (mut expected, mut found) = (expected.to_vec(), found.to_vec());
    expected.sort_unstable();
    found.sort_unstable();
    expected == found
}

/// Three tables with the same rows on all clusters, each distributed in some way.
async fn make_tables(clients: &[Client], random: &mut StdRng) {
    for name in ["t0", "t1", "t2"] {
        let distribution = match random.random_range(0..6) {
            0 | 1 => "DISTSTYLE KEY DISTKEY(k)",
            2 => "DISTSTYLE KEY DISTKEY(a)",
            3 => "DISTSTYLE KEY DISTKEY(s)",
            4 => "DISTSTYLE EVEN",
            _ => "DISTSTYLE ALL",
        };
        let count = *[0, 1, 5, 60, 150].get(random.random_range(0..5)).unwrap();
        let rows = rows_of_table(random, count);
        for client in clients {
            expect(client, &format!("DROP TABLE IF EXISTS {name}")).await;
            let columns = "k bigint, a int, s varchar(60), v bigint NOT NULL";
            expect(client, &format!("CREATE TABLE {name} ({columns}) {distribution}")).await;
            if !rows.is_empty() {
                expect(client, &format!("INSERT INTO {name} VALUES {}", rows.join(", "))).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_written_where_they_belong_and_once() {
    let cluster = nodes(2);
    let client = cluster.connect().await;
    let values: Vec<String> = (0..500).map(|n| format!("({n}, {}, 'w{n}')", n % 7)).collect();
    for (name, style) in [
        ("by_key", "DISTKEY(k)"),
        ("by_text", "DISTKEY(w)"),
        ("even", "DISTSTYLE EVEN"),
        ("whole", "DISTSTYLE ALL"),
    ] {
        let create = format!("CREATE TABLE {name} (k bigint, a int, w varchar(10)) {style}");
        expect(&client, &create).await;
        expect(&client, &format!("INSERT INTO {name} VALUES {}", values.join(","))).await;
    }
    for target in ["by_key", "by_text", "even", "whole"] {
        for source in ["by_key", "by_text", "even", "whole"] {
            let copy = format!("c_{target}_{source}");
            expect(&client, &format!("CREATE TABLE {copy} (LIKE {target})")).await;
            let insert = format!("INSERT INTO {copy} SELECT * FROM {source} WHERE a < 5");
            expect(&client, &insert).await;
            let limited = format!("INSERT INTO {copy} SELECT * FROM {source} ORDER BY k LIMIT 10");
            expect(&client, &limited).await;
            let check = format!("SELECT count(*), sum(k), count(DISTINCT w) FROM {copy}");
            let kept: Vec<i64> = (0..500).filter(|n| n % 7 < 5).collect();
            let sum = kept.iter().sum::<i64>() + 45;
            let all: std::collections::BTreeSet<i64> = kept.iter().copied().chain(0..10).collect();
            let expected = format!("{}|{sum}|{}", kept.len() + 10, all.len());
            assert_eq!(expect(&client, &check).await, [expected], "{copy}");
            // Beside a table that is placed by the same column, each row finds its partner.
            let join = format!("SELECT count(*) FROM {copy} x JOIN by_key y ON x.k = y.k");
            assert_eq!(expect(&client, &join).await, [(kept.len() + 10).to_string()], "{copy}");
        }
    }
    let failed = answer(&client, "INSERT INTO even SELECT 1 / (k - 3), a, w FROM by_key").await;
    assert_eq!(failed.unwrap_err(), "22012 division by zero");
    assert_eq!(expect(&client, "SELECT count(*) FROM even").await, ["500"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart() {
    let mut cluster = nodes(2);
    let client = cluster.connect().await;
    expect(&client, "CREATE TABLE t (k bigint, w varchar(10)) DISTKEY(k)").await;
    expect(&client, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)").await;
    assert_eq!(cluster.stop().code(), Some(0));
    cluster.restart();
    let client = cluster.connect().await;
    assert_eq!(expect(&client, "SELECT count(*), sum(k) FROM t").await, ["3|6"]);
    expect(&client, "INSERT INTO t SELECT k + 3, w FROM t").await;
    assert_eq!(expect(&client, "SELECT count(*), sum(k) FROM t").await, ["6|21"]);
}
