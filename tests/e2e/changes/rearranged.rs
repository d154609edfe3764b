//! ALTER TABLE of distribution, sort key and encodings beside sessions that write to the table: they
//! go on, and no row of theirs is lost, twice there, or back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use super::{change, changes, rows};
use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options};

const WRITERS: i64 = 4;
/// Rows that each writer begins with.
const ROWS: i64 = 40_000;
const ALTERS: [&str; 8] = [
    "ALTER DISTKEY id",
    "ALTER SORTKEY (v, id)",
    "ALTER COLUMN s ENCODE zstd, ALTER COLUMN v ENCODE raw",
    "ALTER DISTSTYLE EVEN",
    "ALTER DISTSTYLE ALL",
    "ALTER SORTKEY NONE, ALTER DISTKEY v",
    "ALTER ENCODE AUTO",
    "ALTER DISTSTYLE KEY DISTKEY s, ALTER SORTKEY (s)",
];

/// Rows of `t (writer, id, v, s)` that one session alone changes: `v` by id.
type Rows = BTreeMap<i64, i64>;

/// A session that changes its rows, and knows them.
struct Writer {
    number: i64,
    client: Client,
    random: StdRng,
    rows: Rows,
    next_id: i64,
}

impl Writer {
    /// A statement, and the rows after it.
    fn step(&mut self) -> (String, Rows) {
        let (writer, mut after) = (self.number, self.rows.clone());
        let first = self.random.random_range(0..self.next_id);
        let last = first + self.random.random_range(0..60);
        let own = format!("writer = {writer} AND id BETWEEN {first} AND {last}");
        let sql = match self.random.random_range(0..10) {
            0..=3 => {
                after.range_mut(first..=last).for_each(|(_, v)| *v += 1);
                format!("UPDATE t SET v = v + 1 WHERE {own}")
            }
            4 | 5 => {
                after.retain(|id, _| !(first..=last).contains(id));
                format!("DELETE FROM t WHERE {own}")
            }
            // A whole segment of few rows, which goes again as a whole some day.
            _ => {
                let count = self.random.random_range(1..40);
                let ids = self.next_id..self.next_id + count;
                self.next_id += count;
                after.extend(ids.clone().map(|id| (id, 7)));
                let values: Vec<String> =
                    ids.map(|id| format!("({writer}, {id}, 7, 's{}')", id % 13)).collect();
                format!("INSERT INTO t VALUES {}", values.join(", "))
            }
        };
        (sql, after)
    }

    /// One transaction. Of several statements it may fail, if the table is another by then.
    async fn transaction(&mut self) {
        if self.random.random_bool(0.7) {
            let (sql, after) = self.step();
            changes(&self.client, &sql).await;
            self.rows = after;
            return;
        }
        let before = (self.rows.clone(), self.next_id);
        changes(&self.client, "BEGIN").await;
        let mut failed = false;
        for _ in 0..self.random.random_range(1..4) {
            let (sql, after) = self.step();
            match change(&self.client, &sql).await {
                Ok(_) => self.rows = after,
                Err(code) => {
                    assert_eq!(code, "XX000", "{sql}");
                    failed = true;
                    break;
                }
            }
        }
        let ends = !failed && self.random.random_bool(0.8);
        match change(&self.client, if ends { "COMMIT" } else { "ROLLBACK" }).await {
            Ok(_) if ends => {}
            Ok(_) => self.rows = before.0,
            Err(code) => {
                assert_eq!(code, "XX000");
                self.rows = before.0;
            }
        }
    }

    async fn check(&self, client: &Client) {
        let query = format!("SELECT id, v, s FROM t WHERE writer = {} ORDER BY id", self.number);
        let found = rows(client, &query).await;
        assert_eq!(found.len(), self.rows.len(), "rows of writer {}", self.number);
        for (found, (id, v)) in found.iter().zip(&self.rows) {
            assert_eq!(*found, format!("{id}|{v}|s{}", id % 13));
        }
    }
}

async fn filled(cluster: &Cluster, random: &mut StdRng) -> (Client, Vec<Writer>) {
    let client = cluster.connect().await;
    let make = "CREATE TABLE t (writer int, id bigint NOT NULL, v bigint, s varchar(9)) \
                DISTSTYLE EVEN";
    changes(&client, make).await;
    changes(&client, "CREATE TABLE digits (d bigint)").await;
    changes(&client, "INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)").await;
    let fill = format!(
        "INSERT INTO t SELECT MOD(n, {WRITERS}), n / {WRITERS}, 0, 's' || MOD(n / {WRITERS}, 13) \
         FROM (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + 100000 * f.d AS n \
               FROM digits a, digits b, digits c, digits d, digits e, digits f) \
         WHERE n < {}",
        WRITERS * ROWS
    );
    assert_eq!(changes(&client, &fill).await, (WRITERS * ROWS) as u64);
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        writers.push(Writer {
            number,
            client: cluster.connect().await,
            random: StdRng::seed_from_u64(random.random()),
            rows: (0..ROWS).map(|id| (id, 0)).collect(),
            next_id: ROWS,
        });
    }
    (client, writers)
}

/// While it writes the rows, or waits for a place to do so, others write to the table.
#[tokio::test]
async fn nobody_waits_for_rows_that_are_written_anew() {
    let queues = r#"[{"query_group":["slow"],"query_concurrency":1},{"query_concurrency":5}]"#;
    let config = format!("[parameters]\nwlm_json_configuration = '{queues}'\n");
    let cluster = Cluster::start_own(Options { config: Some(config), ..Options::default() });
    let (reader, owner) = (cluster.connect().await, cluster.connect().await);
    let writer = cluster.connect().await;
    changes(&writer, "CREATE TABLE t (a bigint, b int)").await;
    changes(&writer, "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)").await;
    changes(&reader, "SET query_group TO slow").await;
    changes(&reader, "BEGIN").await;
    let wide = "SELECT x.a FROM t x, t y, t z, t u, t v, t w, t q, t r, t s, t p, t o, t n";
    changes(&reader, &format!("DECLARE wide CURSOR FOR {wide}")).await;
    changes(&reader, "FETCH 1 FROM wide").await;
    changes(&owner, "SET query_group TO slow").await;
    let alter = tokio::spawn(async move {
        changes(&owner, "ALTER TABLE t ALTER DISTKEY a, ALTER SORTKEY (b)").await;
    });
    let waits = "SELECT count(*) FROM stv_wlm_query_state WHERE state = 'QueuedWaiting'";
    while rows(&writer, waits).await != ["1"] {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    changes(&writer, "UPDATE t SET b = 20 WHERE a = 2").await;
    changes(&writer, "INSERT INTO t VALUES (4, 4)").await;
    changes(&writer, "DELETE FROM t WHERE a = 1").await;
    changes(&reader, "COMMIT").await;
    alter.await.unwrap();
    assert_eq!(rows(&writer, "SELECT a, b FROM t ORDER BY a").await, ["2|20", "3|3", "4|4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_go_on_beside_a_table_that_is_written_anew() {
    for nodes in [1, 2] {
        let mut random = seeded();
        let arguments = vec!["--nodes".to_owned(), nodes.to_string()];
        let mut cluster = Cluster::start_own(Options { arguments, ..Options::default() });
        let (client, writers) = filled(&cluster, &mut random).await;
        let (is_over, altering) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let beside = Arc::new(AtomicUsize::new(0));
        let mut sessions = tokio::task::JoinSet::new();
        for mut writer in writers {
            let (is_over, altering) = (Arc::clone(&is_over), Arc::clone(&altering));
            let beside = Arc::clone(&beside);
            sessions.spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    // Even numbers: no ALTER TABLE is running.
                    let before = altering.load(Ordering::SeqCst);
                    writer.transaction().await;
                    let is_beside = before % 2 == 1 && altering.load(Ordering::SeqCst) == before;
                    beside.fetch_add(usize::from(is_beside), Ordering::SeqCst);
                }
                writer
            });
        }
        for alter in ALTERS {
            altering.fetch_add(1, Ordering::SeqCst);
            changes(&client, &format!("ALTER TABLE t {alter}")).await;
            altering.fetch_add(1, Ordering::SeqCst);
        }
        is_over.store(true, Ordering::SeqCst);
        let mut writers = sessions.join_all().await;
        writers.sort_unstable_by_key(|writer| writer.number);
        for writer in &writers {
            writer.check(&client).await;
        }
        let beside = beside.load(Ordering::SeqCst);
        println!("{nodes} nodes: {beside} transactions beside {} ALTER TABLE", ALTERS.len());
        changes(&client, "VACUUM t TO 100 PERCENT").await;
        cluster.kill();
        cluster.restart();
        let client = cluster.connect().await;
        for writer in &writers {
            writer.check(&client).await;
        }
        cluster.kill();
        let output = cluster.verify(&cluster.data_directory(), &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}
