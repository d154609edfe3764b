//! kill -9 during DELETE, UPDATE, MERGE and VACUUM: after the restart the table is as before the
//! statement or as after it, and after it if the client was told so; no file is left over.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use super::rows;
use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options, bytes_below};

/// Kills of a normal run; `BLUESHIFT_CHANGES_KILLS` sets another number.
const KILLS: usize = 25;
const ROWS: i64 = 40_000;

/// What the table holds: the ids from `first` to `last`, all with the same `v`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    first: i64,
    last: i64,
    v: i64,
}

impl State {
    fn next(self, random: &mut StdRng) -> (String, State) {
        let mut after = self;
        let sql = match random.random_range(0..7) {
            0 => {
                after.first += random.random_range(1..300);
                format!("DELETE FROM t WHERE id < {}", after.first)
            }
            1 | 2 => {
                after.v += 1;
                "UPDATE t SET v = v + 1".to_owned()
            }
            3 => {
                let more = random.random_range(1..400);
                after.last += more;
                after.v += 2;
                format!(
                    "BEGIN; UPDATE t SET v = v + 2; INSERT INTO t SELECT n + {}, {} FROM numbers \
                     WHERE n < {more}; COMMIT",
                    self.last + 1,
                    after.v
                )
            }
            4 => {
                after.v += 1;
                after.first += 5;
                format!(
                    "BEGIN; DELETE FROM t USING numbers WHERE t.id = n + {} AND n < 5; \
                     UPDATE t SET v = v + 1; COMMIT",
                    self.first
                )
            }
            5 => {
                // Rows with an id of the source get its value, and the ids after the last are new.
                after.v += 1;
                after.last += 50;
                format!(
                    "MERGE INTO t USING (SELECT n + {} AS id FROM numbers WHERE n < {}) s \
                     ON t.id = s.id WHEN MATCHED THEN UPDATE SET v = {v} \
                     WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, {v})",
                    self.first,
                    self.last - self.first + 51,
                    v = after.v
                )
            }
            _ => "VACUUM t TO 100 PERCENT".to_owned(),
        };
        (sql, after)
    }
}

async fn observe(cluster: &Cluster) -> State {
    let client = cluster.connect().await;
    let sql = "SELECT min(id), max(id), min(v), max(v), count(*), count(DISTINCT id) FROM t";
    let found = rows(&client, sql).await;
    let numbers: Vec<i64> = found[0].split('|').map(|text| text.parse().unwrap()).collect();
    let state = State { first: numbers[0], last: numbers[1], v: numbers[2] };
    let count = state.last - state.first + 1;
    assert_eq!(numbers[3..], [state.v, count, count], "half a statement: {found:?}");
    state
}

#[tokio::test]
async fn kills_leave_the_state_before_or_after() {
    let wanted = std::env::var("BLUESHIFT_CHANGES_KILLS");
    let kills = wanted.map_or(KILLS, |text| text.parse().unwrap());
    let mut random = seeded();
    let mut cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    crate::native::digits(&client).await;
    let create = format!(
        "CREATE TABLE numbers (n bigint) DISTSTYLE EVEN;
         INSERT INTO numbers SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d
           FROM digits a, digits b, digits c, digits e, digits f WHERE f.d < {};
         CREATE TABLE t (id bigint, v bigint) DISTKEY (id) SORTKEY (id);
         INSERT INTO t SELECT n, 0 FROM numbers WHERE n < 20000",
        ROWS / 10_000
    );
    client.batch_execute(&create).await.unwrap();
    let begun = Instant::now();
    client.batch_execute("UPDATE t SET v = v + 1").await.unwrap();
    let whole = begun.elapsed();
    let mut before = observe(&cluster).await;
    let mut acknowledged_count = 0;
    for _ in 0..kills {
        let (sql, after) = before.next(&mut random);
        let client = cluster.connect().await;
        let delay = whole.mul_f64(random.random_range(0.0..1.6));
        let acknowledged = tokio::select! {
            result = client.batch_execute(&sql) => {
                result.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
                true
            }
            () = tokio::time::sleep(delay) => false,
        };
        acknowledged_count += usize::from(acknowledged);
        cluster.kill();
        cluster.restart();
        let found = observe(&cluster).await;
        let right = found == after || !acknowledged && found == before;
        assert!(right, "{sql} (acknowledged: {acknowledged}): {found:?}, before {before:?}");
        before = found;
    }
    eprintln!("{kills} kills, {acknowledged_count} statements were acknowledged");
    // What was left over is gone, and what is deleted goes with VACUUM.
    let client = cluster.connect().await;
    client.batch_execute("UPDATE t SET v = v + 1; ").await.unwrap();
    client.batch_execute("VACUUM t TO 100 PERCENT").await.unwrap();
    client.batch_execute("SELECT count(*) FROM t; CREATE TABLE u (a int)").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(cluster.stop().code(), Some(0));
    cluster.restart();
    observe(&cluster).await;
    let bytes = bytes_below(&cluster.data_directory());
    assert!(bytes < 6_000_000, "{bytes} bytes on disk");
}
