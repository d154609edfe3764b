//! Limits of a server: connections, idle time, memory of queries.

use std::time::{Duration, Instant};

use crate::native::digits;
use crate::raw_wire::{Raw, query};
use crate::support::cluster::{Cluster, Options, connect};

fn with_config(text: &str) -> Cluster {
    Cluster::start_own(Options { config: Some(text.to_owned()), ..Options::default() })
}

/// All memory for queries goes to one of them.
fn with_memory(bytes: usize) -> Cluster {
    with_config(&format!(
        "[memory]\nquery_bytes = {bytes}\n\
         [parameters]\nwlm_json_configuration = '[{{\"query_concurrency\": 1}}]'\n"
    ))
}

#[tokio::test]
async fn a_connection_that_never_logs_in_is_closed() {
    let cluster = Cluster::start_own(Options::default());
    let begun = Instant::now();
    let mut raw = Raw::open(&cluster.address);
    raw.read_until_closed();
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_idle_session_is_ended() {
    let cluster = with_config("[parameters]\nidle_session_timeout = 1\n");
    let mut raw = Raw::logged_in(&cluster.address);
    let messages = raw.read_until_closed();
    assert_eq!(messages[0].field(b'S').as_deref(), Some("FATAL"), "{messages:?}");
    assert_eq!(messages[0].field(b'C').as_deref(), Some("57P05"), "{messages:?}");
}

#[tokio::test]
async fn a_session_that_idles_in_a_transaction_is_ended_and_frees_its_locks() {
    let cluster = with_config("[parameters]\nidle_in_transaction_session_timeout = 1\n");
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    let mut raw = Raw::logged_in(&cluster.address);
    raw.send(&query("BEGIN; INSERT INTO t VALUES (1)"));
    raw.read_until(b'Z');
    let messages = raw.read_until_closed();
    assert_eq!(messages[0].field(b'C').as_deref(), Some("25P03"), "{messages:?}");
    client.batch_execute("INSERT INTO t VALUES (10)").await.unwrap();
    let row = client.query_one("SELECT sum(a)::bigint FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 10);
}

#[tokio::test]
async fn too_many_connections_are_refused_and_the_others_go_on() {
    let cluster = with_config("[parameters]\nmax_connections = 3\n");
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(cluster.connect().await);
    }
    let error = connect(&cluster.address.config()).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("53300"), "{error:?}");
    for client in &clients {
        client.simple_query("SELECT 1").await.unwrap();
    }
    clients.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    while connect(&cluster.address.config()).await.is_err() {
        assert!(Instant::now() < deadline, "the place of a closed connection was not freed");
    }
}

/// Sorts and groups of three million rows in 48 MiB: they spill, and the answers are right.
#[tokio::test]
async fn queries_that_need_more_memory_than_there_is_spill() {
    let cluster = with_memory(48 << 20);
    let client = cluster.connect().await;
    digits(&client).await;
    let numbers =
        "SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS n,
        'some text of a row that takes its room ' || a.d::varchar AS text
        FROM digits a, digits b, digits c, digits d, digits e, digits f, digits g WHERE g.d < 3";
    client.batch_execute(&format!("CREATE TABLE big AS {numbers}")).await.unwrap();
    let sorted = "SELECT count(*), sum(CASE WHEN n >= previous THEN 0 ELSE 1 END)::bigint FROM
        (SELECT n, lag(n) OVER (ORDER BY n) AS previous FROM big) x WHERE previous IS NOT NULL";
    let grouped = "SELECT count(*), sum(c)::bigint FROM
        (SELECT n, text, count(*) AS c FROM big GROUP BY n, text) x";
    for (sql, expected) in [(grouped, (1_000_000, 3_000_000)), (sorted, (2_999_999, 0))] {
        match client.query_one(sql, &[]).await {
            Ok(row) => assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), expected, "{sql}"),
            Err(error) => {
                // A refusal is honest where an operator cannot spill; a wrong answer never is.
                assert_eq!(error.code().map(|code| code.code()), Some("53200"), "{error:?}");
                assert!(sql != grouped, "grouping must spill: {error:?}");
            }
        }
    }
    client.simple_query("SELECT count(*) FROM big").await.unwrap();
    // A whole sort streams through the client.
    let mut raw = Raw::logged_in(&cluster.address);
    raw.send(&query("SELECT n FROM big ORDER BY n, text LIMIT 2000000"));
    let (mut rows, mut last) = (0_u64, -1_i64);
    while let Some(message) = raw.read() {
        match message.tag {
            b'D' => {
                let text = std::str::from_utf8(&message.body[6..]).unwrap();
                let n: i64 = text.parse().unwrap();
                assert!(n >= last, "{n} after {last}");
                last = n;
                rows += 1;
            }
            b'Z' => break,
            b'E' => panic!("{:?} {:?}", message.field(b'C'), message.field(b'M')),
            _ => {}
        }
    }
    assert_eq!(rows, 2_000_000);
}

/// A join whose hash table cannot fit ends in an error, frees its memory, and harms nobody.
#[tokio::test]
async fn a_query_that_cannot_have_its_memory_is_refused() {
    let cluster = with_memory(32 << 20);
    let client = cluster.connect().await;
    digits(&client).await;
    let numbers =
        "SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS n,
        repeat('x', 200) || a.d::varchar AS text
        FROM digits a, digits b, digits c, digits d, digits e, digits f";
    client.batch_execute(&format!("CREATE TABLE big AS {numbers}")).await.unwrap();
    let sql = "SELECT count(*), max(a.text || b.text) FROM big a JOIN big b ON a.n = b.n";
    let other = cluster.connect().await;
    for _ in 0..3 {
        match client.query_one(sql, &[]).await {
            Ok(row) => assert_eq!(row.get::<_, i64>(0), 1_000_000),
            Err(error) => {
                assert_eq!(error.code().map(|code| code.code()), Some("53200"), "{error:?}");
            }
        }
        let row = other.query_one("SELECT count(*) FROM big WHERE n < 10", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 10);
    }
    let grown = cluster.resident_bytes();
    assert!(grown < 1 << 30, "{grown} bytes resident");
}
