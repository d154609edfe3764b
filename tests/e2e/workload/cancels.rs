//! Cancels at random moments of statements of every kind, on one node and on two: each ends the
//! statement, and leaks neither a slot nor memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio_postgres::{Client, NoTls};

use super::{Endless, RUNNING, number, until};
use crate::native::digits;
use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options, connect};

/// Cancels of a normal run on each cluster; `BLUESHIFT_CANCELS` sets another number.
const CANCELS: usize = 120;
/// Sessions that are cancelled at once, more than there are slots.
const LANES: usize = 6;
const SLOTS: usize = 4;
/// The longest that a statement runs before it is cancelled.
const PAUSE_MAX_US: u64 = 60_000;

/// Statements that each spend their time in another operator. `big` has 300,000 rows, `more` five
/// times as many.
const STATEMENTS: [&str; 14] = [
    // hash join with many matches
    "SELECT count(*) FROM big x JOIN big y ON x.w = y.w",
    // nested loops
    "SELECT count(*) FROM big x, big y WHERE x.n < y.n",
    // outer, semi and anti joins
    "SELECT count(*) FROM big x FULL JOIN big y ON x.n = y.r AND x.w <> y.w",
    "SELECT count(*) FROM big x WHERE EXISTS (SELECT 1 FROM big y WHERE y.w = x.w AND y.r > x.r)",
    "SELECT count(*) FROM big x WHERE NOT EXISTS (SELECT 1 FROM big y WHERE y.w = x.w AND y.r > x.r)",
    // aggregation
    "SELECT max(c) FROM (SELECT t || x.d AS t, count(*) AS c FROM big, digits x GROUP BY 1) q",
    // sort
    "SELECT max(t) FROM (SELECT t FROM big ORDER BY reverse(t), n, r LIMIT 290000) q",
    // window
    "SELECT max(s) FROM (SELECT sum(n) OVER (PARTITION BY w ORDER BY r, n) AS s FROM more) q",
    // set operation
    "SELECT count(*) FROM (SELECT n, t FROM big UNION SELECT n + x.d, t FROM big, digits x) q",
    // patterns
    "SELECT count(*) FROM big, digits x, digits y WHERE t || x.d || y.d LIKE '%1%2%3%4%5%'",
    // rows to the client
    "SELECT n, t, x.d, y.d FROM big, digits x, digits y",
    // writes
    "INSERT INTO sink SELECT n, r, w, t FROM big, digits x",
    "UPDATE sink SET w = w + 1",
    "DELETE FROM sink WHERE n IN (SELECT r FROM big)",
];

#[tokio::test(flavor = "multi_thread")]
async fn cancels_on_one_node_leak_nothing() {
    cancel_at_random(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancels_on_two_nodes_leak_nothing() {
    cancel_at_random(2).await;
}

async fn cancel_at_random(nodes: usize) {
    let wanted = std::env::var("BLUESHIFT_CANCELS");
    let wanted = wanted.map_or(CANCELS, |text| text.parse().unwrap());
    let configuration =
        format!("[parameters]\nwlm_json_configuration = '[{{\"query_concurrency\": {SLOTS}}}]'\n");
    let cluster = Cluster::start_own(Options {
        config: Some(configuration),
        arguments: vec!["--nodes".to_owned(), nodes.to_string()],
        ..Options::default()
    });
    let admin = cluster.connect().await;
    make_tables(&admin).await;
    let mut random = seeded();
    let mut lanes = Vec::new();
    for _ in 0..LANES {
        let random = StdRng::seed_from_u64(random.next_u64());
        lanes.push(tokio::spawn(lane(cluster.connect().await, wanted.div_ceil(LANES), random)));
    }
    let (mut took, mut finished) = (Vec::new(), 0);
    for lane in lanes {
        let (cancelled, ended) = lane.await.unwrap();
        took.extend(cancelled);
        finished += ended;
    }
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    eprintln!(
        "{nodes} nodes: {} cancelled, {finished} had finished before; from the cancel to the error \
         median {:?}, p99 {:?}, longest {:?}",
        took.len(),
        at(50),
        at(99),
        at(100)
    );
    assert!(took.len() > finished, "most statements are cancelled while they run");
    expect_nothing_left(&cluster, &admin).await;
}

/// All slots are free and each still has its memory; the rows are those that were committed.
async fn expect_nothing_left(cluster: &Cluster, admin: &Client) {
    until(admin, "SELECT count(*) FROM stv_wlm_query_state", 0).await;
    let config = cluster.address.config();
    let mut running = Vec::new();
    for _ in 0..SLOTS {
        running.push(Endless::start(&config, "").await);
    }
    until(admin, RUNNING, i64::try_from(SLOTS).unwrap()).await;
    for query in running {
        query.cancel(admin).await;
    }
    let whole = connect(&config).await.unwrap();
    whole.batch_execute(&format!("SET wlm_query_slot_count TO {SLOTS}")).await.unwrap();
    let rows = "SELECT count(*) FROM (SELECT n, t FROM big ORDER BY t, n LIMIT 299999) q";
    assert_eq!(number(&whole, rows).await, 299_999);
}

async fn make_tables(admin: &Client) {
    digits(admin).await;
    let numbers = "SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS n
        FROM digits a, digits b, digits c, digits d, digits e, digits f WHERE f.d < 3";
    let big = format!(
        "CREATE TABLE big DISTKEY(n) AS SELECT n, 299999 - n AS r, n % 1000 AS w,
         'some text of a row ' || (n * 7919 % 300007)::varchar AS t FROM ({numbers}) q"
    );
    admin.batch_execute(&big).await.unwrap();
    let more = "CREATE TABLE more DISTKEY(n) AS SELECT big.* FROM big, digits x WHERE x.d < 5";
    admin.batch_execute(more).await.unwrap();
    admin
        .batch_execute("CREATE TABLE sink (LIKE big); INSERT INTO sink SELECT * FROM big")
        .await
        .unwrap();
}

/// Runs statements and cancels each. Answers with the time from each cancel to its error, and with
/// how many statements had finished before.
async fn lane(client: Client, turns: usize, mut random: StdRng) -> (Vec<Duration>, usize) {
    let client = Arc::new(client);
    let (mut took, mut finished) = (Vec::new(), 0);
    for _ in 0..turns {
        let sql = STATEMENTS[random.random_range(0..STATEMENTS.len())];
        let pause = Duration::from_micros(random.random_range(0..PAUSE_MAX_US));
        let token = client.cancel_token();
        let running = Arc::clone(&client);
        let statement = tokio::spawn(async move { running.simple_query(sql).await.map(drop) });
        tokio::time::sleep(pause).await;
        let asked = Instant::now();
        token.cancel_query(NoTls).await.unwrap();
        match statement.await.unwrap() {
            Ok(()) => finished += 1,
            Err(error) => {
                let code = error.code().map(|code| code.code());
                assert_eq!(code, Some("57014"), "{sql}: {error:?}");
                took.push(asked.elapsed());
            }
        }
        // One that came too late for its statement ends no other.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (took, finished)
}
