//! Ends of a query that come from outside: its time runs out, or its client goes away.

use std::time::{Duration, Instant};

use crate::native::digits;
use crate::psql::endless_query;
use crate::raw_wire::{Raw, query};
use crate::support::cluster::{Cluster, Options};

#[tokio::test]
async fn statement_timeout_ends_the_statement_and_not_the_session() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    client.batch_execute("SET statement_timeout TO 300").await.unwrap();
    let begun = Instant::now();
    let error = client.simple_query(&endless_query()).await.unwrap_err();
    let took = begun.elapsed();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "57014");
    assert!(error.message().contains("statement timeout"), "{}", error.message());
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(5), "{took:?}");
    let error = client.query(&endless_query(), &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014", "in the extended protocol, too");
    client.batch_execute("SET statement_timeout TO 0").await.unwrap();
    client.simple_query("SELECT count(*) FROM digits").await.unwrap();
}

#[tokio::test]
async fn a_timeout_inside_a_transaction_aborts_it() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    client.batch_execute("SET statement_timeout TO 300; BEGIN").await.unwrap();
    client.simple_query(&endless_query()).await.unwrap_err();
    let error = client.simple_query("SELECT 1").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "25P02");
    client.batch_execute("ROLLBACK").await.unwrap();
    client.simple_query("SELECT 1").await.unwrap();
}

/// When the client has gone, nobody wants the answer: the work must stop.
#[tokio::test]
async fn a_query_whose_client_has_gone_stops_working() {
    let cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    digits(&client).await;
    let mut raw = Raw::logged_in(&cluster.address);
    raw.send(&query(&endless_query()));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_busy(&cluster) {
        assert!(Instant::now() < deadline, "the query never began to work");
    }
    drop(raw);
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_busy(&cluster) {
        assert!(Instant::now() < deadline, "the query of a client that has gone still works");
    }
}

/// Whether the server used more than a third of a core in the last 300 milliseconds.
fn is_busy(cluster: &Cluster) -> bool {
    let before = cluster.cpu_ticks();
    std::thread::sleep(Duration::from_millis(300));
    cluster.cpu_ticks() - before > 10
}
