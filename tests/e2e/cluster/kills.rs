//! kill -9 and SIGSTOP of a compute process while queries and writes run: an error within seconds,
//! or the whole answer, and never a short one; afterwards the cluster answers again.

use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;
use tokio_postgres::Client;

use super::{answer, expect, nodes};
use crate::recovery::seeded;
use crate::support::cluster::{Cluster, signal};

/// Kills of a normal run; `BLUESHIFT_CLUSTER_KILLS` sets another number.
const KILLS: usize = 12;
const ERROR_WITHIN: Duration = Duration::from_secs(10);
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// Queries that move rows in every way, with their answers over `numbers`.
pub(super) const QUERIES: [(&str, &str); 5] = [
    // gather
    ("SELECT count(*) FROM (SELECT k FROM numbers ORDER BY k LIMIT 300000) q", "262144"),
    // partial aggregate
    ("SELECT count(*), sum(k) FROM numbers", "262144|34359607296"),
    // shuffle
    ("SELECT count(*) FROM (SELECT w, count(*) FROM numbers GROUP BY w) q", "1000"),
    ("SELECT count(*) FROM numbers x JOIN numbers y ON x.k = y.r", "262144"),
    // broadcast
    (
        "SELECT count(*) FROM numbers x JOIN (SELECT k FROM numbers WHERE k < 100) y ON x.w = y.k",
        "26300",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_gives_an_error_and_never_a_short_answer() {
    let wanted = std::env::var("BLUESHIFT_CLUSTER_KILLS");
    let wanted = wanted.map_or(KILLS, |text| text.parse().unwrap());
    let mut random = seeded();
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    for (sql, expected) in QUERIES {
        assert_eq!(expect(&client, sql).await, [expected], "{sql}");
    }
    let (mut errors, mut answers) = (0, 0);
    for kill in 0..wanted {
        let (sql, expected) = QUERIES[kill % QUERIES.len()];
        let whole = Instant::now();
        assert_eq!(expect(&client, sql).await, [expected], "{sql}");
        let delay = whole.elapsed().mul_f64(random.random_range(0.0..1.0));
        let stops = random.random_bool(0.3);
        let asking = answer(&client, sql);
        let mut asking = std::pin::pin!(asking);
        let early = tokio::select! {
            found = &mut asking => Some(found),
            () = tokio::time::sleep(delay) => None,
        };
        let process = node_process(&cluster, random.random_range(0..2));
        let begun = Instant::now();
        signal(process, if stops { "STOP" } else { "KILL" });
        let found = match early {
            Some(found) => found,
            None => asking.await,
        };
        assert!(begun.elapsed() < ERROR_WITHIN, "{sql}: {:?}", begun.elapsed());
        match found {
            Ok(rows) => {
                assert_eq!(rows, [expected], "{sql}");
                answers += 1;
            }
            Err(error) => {
                assert!(error.starts_with("08006") || error.starts_with("57P03"), "{error}");
                errors += 1;
            }
        }
        if stops {
            signal(process, "KILL");
        }
        wait_until_back(&client, sql, expected).await;
    }
    eprintln!("{wanted} kills: {errors} errors, {answers} whole answers");
    assert!(errors > 0, "some kills hit a query");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_whole_or_not_there_when_a_node_is_killed() {
    let mut random = seeded();
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    expect(&client, "CREATE TABLE copy (LIKE numbers)").await;
    let insert = "INSERT INTO copy SELECT * FROM numbers";
    let count = "SELECT count(*) FROM copy";
    let mut rows = 0;
    for _ in 0..KILLS / 2 {
        let asking = answer(&client, insert);
        let mut asking = std::pin::pin!(asking);
        let delay = Duration::from_millis(random.random_range(1..250));
        let early = tokio::select! {
            found = &mut asking => Some(found),
            () = tokio::time::sleep(delay) => None,
        };
        signal(node_process(&cluster, random.random_range(0..2)), "KILL");
        let found = match early {
            Some(found) => found,
            None => asking.await,
        };
        if found.is_ok() {
            rows += 262_144;
        }
        wait_until_back(&client, count, &rows.to_string()).await;
    }
    // What failed writes left is removed: no more files than committed segments, and a few more
    // rounds of the watch for those that wait for their node.
    expect(&client, "CREATE TABLE last (k int)").await;
    let deadline = Instant::now() + BACK_WITHIN;
    let committed = rows / 262_144;
    loop {
        let files = segment_files(&cluster.data_directory());
        // Each write makes one segment per slice.
        if files <= 4 * (1 + usize::try_from(committed).unwrap()) {
            break;
        }
        assert!(Instant::now() < deadline, "{files} segment files after {committed} writes");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// 262,144 rows: `k` counts, `r` counts backwards, `w` is `k` modulo 1000.
async fn make_numbers(client: &Client) {
    expect(client, "CREATE TABLE numbers (k bigint, r bigint, w bigint) DISTKEY(k)").await;
    expect(client, "INSERT INTO numbers VALUES (0, 0, 0)").await;
    for power in 0..18 {
        let add = 1_i64 << power;
        expect(client, &format!("INSERT INTO numbers SELECT k + {add}, 0, 0 FROM numbers")).await;
    }
    expect(client, "CREATE TABLE finished (LIKE numbers)").await;
    let finish = "INSERT INTO finished SELECT k, 262143 - k, mod(k, 1000) FROM numbers";
    expect(client, finish).await;
    expect(client, "TRUNCATE numbers").await;
    expect(client, "INSERT INTO numbers SELECT * FROM finished").await;
    expect(client, "DROP TABLE finished").await;
}

async fn wait_until_back(client: &Client, sql: &str, expected: &str) {
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        match answer(client, sql).await {
            Ok(rows) => return assert_eq!(rows, [expected], "{sql}"),
            Err(error) => assert!(Instant::now() < deadline, "{sql}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The process id of a compute node: the child of the server that was started with its file.
fn node_process(cluster: &Cluster, node: usize) -> u32 {
    let file = cluster.data_directory().join("cluster").join(format!("node-{node}.toml"));
    let deadline = Instant::now() + BACK_WITHIN;
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(id) = name.parse() else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&command);
            if text.contains("\0compute\0") && text.contains(&*file.to_string_lossy()) {
                return id;
            }
        }
        assert!(Instant::now() < deadline, "node {node} runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn segment_files(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            count += segment_files(&path);
        } else if path.extension().is_some_and(|extension| extension == "seg") {
            count += 1;
        }
    }
    count
}
