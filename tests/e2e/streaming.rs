//! Large results: the server's memory does not grow with the size of a result, however slowly the
//! client reads.

use std::time::{Duration, Instant};

use futures::TryStreamExt;

use crate::native::digits;
use crate::raw_wire::{Raw, query};
use crate::support::cluster::{Cluster, Options};

/// What a connection may hold while it streams: batches in flight and their encoded rows.
const STREAM_BYTES_MAX: u64 = 256 << 20;

/// Ten million rows of some 110 bytes: more than a gigabyte on the wire.
const TEN_MILLION: &str = "SELECT a.d + 10 * b.d + 100 * c.d, repeat('x', 90)
    FROM digits a, digits b, digits c, digits d, digits e, digits f, digits g";

#[tokio::test]
async fn memory_does_not_grow_with_the_result() {
    let cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    digits(&client).await;
    client.simple_query("SELECT count(*) FROM digits a, digits b, digits c").await.unwrap();
    let before = cluster.resident_bytes();
    let rows = client.query_raw(TEN_MILLION, Vec::<i64>::new()).await.unwrap();
    let mut rows = std::pin::pin!(rows);
    let (mut count, mut sum, mut peak) = (0_u64, 0_i64, 0);
    while let Some(row) = rows.try_next().await.unwrap() {
        sum += row.get::<_, i64>(0);
        count += 1;
        if count.is_multiple_of(100_000) {
            peak = peak.max(cluster.resident_bytes());
        }
    }
    assert_eq!(count, 10_000_000);
    // Each of the numbers 0 to 999 comes ten thousand times.
    assert_eq!(sum, 499_500 * 10_000);
    let grown = peak.saturating_sub(before);
    eprintln!("memory grew by {} MiB", grown >> 20);
    assert!(grown < STREAM_BYTES_MAX, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_query_back() {
    let cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    digits(&client).await;
    let before = cluster.resident_bytes();
    let mut raw = Raw::logged_in(&cluster.address);
    raw.send(&query(TEN_MILLION));
    assert_eq!(raw.read().unwrap().tag, b'T');
    // The server fills its buffers and must then wait: memory comes to rest.
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut peak = 0;
    while Instant::now() < deadline {
        peak = peak.max(cluster.resident_bytes());
        std::thread::sleep(Duration::from_millis(50));
    }
    let grown = peak.saturating_sub(before);
    assert!(grown < STREAM_BYTES_MAX, "memory grew by {grown} bytes");
    // Others are served meanwhile, and the slow reader still gets its rows.
    client.simple_query("SELECT count(*) FROM digits").await.unwrap();
    for _ in 0..1_000 {
        assert_eq!(raw.read().unwrap().tag, b'D');
    }
}

#[tokio::test]
async fn the_first_rows_come_before_the_last_are_made() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    let tables: Vec<String> = ('a'..='k').map(|name| format!("digits {name}")).collect();
    let endless = format!("SELECT a.d + k.d FROM {}", tables.join(", "));
    let rows = client.query_raw(&endless, Vec::<i64>::new()).await.unwrap();
    let mut rows = std::pin::pin!(rows);
    for _ in 0..100_000 {
        rows.try_next().await.unwrap().expect("a row");
    }
    // Dropping the connection ends the other 10^11 rows.
}
