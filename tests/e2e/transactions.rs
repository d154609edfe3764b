//! Transactions as several sessions see them. What one session sees of its own is in `tests/slt`.

use tokio_postgres::Client;

use crate::support::cluster::Cluster;

#[tokio::test]
async fn nothing_is_seen_before_the_commit_and_everything_after() {
    let cluster = Cluster::start();
    let writer = cluster.connect().await;
    let reader = cluster.connect().await;
    writer.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1), (2)").await.unwrap();
    assert_eq!(sum(&writer, "t").await, Some(3), "the writer sees its own rows");
    assert_eq!(sum(&reader, "t").await, None);
    writer.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    assert_eq!(sum(&reader, "t").await, None);
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sum(&reader, "t").await, Some(6));
}

#[tokio::test]
async fn tables_made_in_a_transaction_are_its_own_until_the_commit() {
    let cluster = Cluster::start();
    let writer = cluster.connect().await;
    let reader = cluster.connect().await;
    writer
        .batch_execute("BEGIN; CREATE TABLE t (a bigint); INSERT INTO t VALUES (5)")
        .await
        .unwrap();
    assert_eq!(sum(&writer, "t").await, Some(5));
    let error = reader.simple_query("SELECT * FROM t").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42P01");
    writer.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sum(&reader, "t").await, Some(5));
}

#[tokio::test]
async fn a_connection_that_is_lost_leaves_nothing() {
    let cluster = Cluster::start();
    let reader = cluster.connect().await;
    reader.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    let writer = cluster.connect().await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    drop(writer);
    // Another writer is not kept waiting by the one that has gone.
    reader.batch_execute("INSERT INTO t VALUES (10)").await.unwrap();
    assert_eq!(sum(&reader, "t").await, Some(10));
}

#[tokio::test]
async fn writers_of_one_table_lose_nothing() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    let writers = (0..6_i64).map(|writer| {
        let cluster = &cluster;
        async move {
            let session = cluster.connect().await;
            for number in 0..5_i64 {
                let value = writer * 100 + number;
                session.execute("INSERT INTO t VALUES ($1)", &[&value]).await.unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
    let expected: i64 = (0..6).flat_map(|writer| (0..5).map(move |n| writer * 100 + n)).sum();
    assert_eq!(sum(&client, "t").await, Some(expected));
    let row = client.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 30);
}

#[tokio::test]
async fn a_reader_in_a_transaction_keeps_its_snapshot() {
    let cluster = Cluster::start();
    let writer = cluster.connect().await;
    let reader = cluster.connect().await;
    writer.batch_execute("CREATE TABLE t (a bigint); INSERT INTO t VALUES (1)").await.unwrap();
    reader.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE").await.unwrap();
    assert_eq!(sum(&reader, "t").await, Some(1));
    writer.batch_execute("INSERT INTO t VALUES (10)").await.unwrap();
    assert_eq!(sum(&reader, "t").await, Some(1), "the same snapshot for the whole transaction");
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sum(&reader, "t").await, Some(11));
}

/// The sum of column `a`, as a number whatever type the server gives a sum of bigint.
async fn sum(client: &Client, table: &str) -> Option<i64> {
    let sql = format!("SELECT sum(a)::bigint FROM {table}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}
