//! What the server does for tables without being asked: deleted rows go, small segments are put
//! together, and rows come into the order of the sort key, beside whoever works with the table.

use std::time::{Duration, Instant};

use rand::Rng;
use tokio_postgres::Client;

use super::{changes, rows};
use crate::recovery::seeded;
use crate::support::cluster::{Cluster, Options};

const SECONDS_MAX: u64 = 60;
/// Loads of 10,000 rows each.
const PARTS: u64 = 40;

/// Stored rows, live rows, and how many of them are out of order, percent.
async fn table_info(client: &Client) -> (u64, u64, f64) {
    let sql = "SELECT tbl_rows, estimated_visible_rows, unsorted FROM svv_table_info
        WHERE \"table\" = 't'";
    let row = rows(client, sql).await.concat();
    let cells: Vec<&str> = row.split('|').collect();
    let [stored, live, unsorted] = cells[..] else { panic!("{row}") };
    (stored.parse().unwrap(), live.parse().unwrap(), unsorted.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_cleared_and_sorted_by_themselves() {
    for nodes in [1, 2] {
        let mut random = seeded();
        let options = Options {
            arguments: vec!["--nodes".to_owned(), nodes.to_string()],
            config: Some("[maintenance]\ninterval_seconds = 1\n".to_owned()),
            ..Options::default()
        };
        let cluster = Cluster::start_own(options);
        let client = cluster.connect().await;
        changes(&client, "CREATE TABLE digits (d bigint)").await;
        changes(&client, "INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)").await;
        changes(&client, "CREATE TABLE t (k bigint, v bigint) DISTSTYLE EVEN SORTKEY (k)").await;
        // Keys of each part are all over the range.
        for part in 0..PARTS {
            let factor = 2 * random.random_range(1000..40_000) + 1;
            let fill = format!(
                "INSERT INTO t SELECT MOD((a.d + 10 * b.d + 100 * c.d + 1000 * d.d) * {factor}, 65536), \
                 {part} FROM digits a, digits b, digits c, digits d"
            );
            assert_eq!(changes(&client, &fill).await, 10_000);
        }
        let deleted = changes(&client, "DELETE FROM t WHERE MOD(k, 3) = 0").await;
        let query = "SELECT count(*), sum(k), sum(v), min(k), max(k) FROM t";
        let expected = rows(&client, query).await;
        let start = Instant::now();
        loop {
            let (stored, live, unsorted) = table_info(&client).await;
            assert_eq!(live, 10_000 * PARTS - deleted);
            assert_eq!(rows(&client, query).await, expected);
            if stored * 80 <= live * 100 && unsorted <= 20.0 {
                break;
            }
            let late = start.elapsed() > Duration::from_secs(SECONDS_MAX);
            assert!(!late, "{stored} rows for {live}, {unsorted} % out of order");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let ordered = rows(&client, "SELECT k FROM t ORDER BY k LIMIT 3").await;
        assert!(ordered.is_sorted_by_key(|k| k.parse::<i64>().unwrap()), "{ordered:?}");
    }
}
