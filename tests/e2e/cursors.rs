//! Cursors of SQL: DECLARE, FETCH and CLOSE.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::native::digits;
use crate::support::cluster::Cluster;
use crate::support::program::{psql, run};

/// The first column of the rows of the last statement.
async fn values(client: &Client, sql: &str) -> Vec<i64> {
    let messages = client.simple_query(sql).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap().parse().unwrap()),
        _ => None,
    });
    rows.collect()
}

async fn fails_with(client: &Client, sql: &str, code: &str) {
    let error = client.batch_execute(sql).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some(code), "{sql}: {error:?}");
}

#[tokio::test]
async fn rows_come_in_parts_and_in_order() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    client
        .batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT d FROM digits ORDER BY d")
        .await
        .unwrap();
    assert_eq!(values(&client, "FETCH NEXT FROM c").await, [0]);
    assert_eq!(values(&client, "FETCH 2 IN c").await, [1, 2]);
    assert_eq!(values(&client, "FETCH FORWARD 3 FROM c").await, [3, 4, 5]);
    assert_eq!(values(&client, "FETCH c").await, [6]);
    assert_eq!(values(&client, "FETCH FORWARD ALL FROM c").await, [7, 8, 9]);
    assert_eq!(values(&client, "FETCH 5 FROM c").await, [0_i64; 0]);
    client.batch_execute("CLOSE c").await.unwrap();
    fails_with(&client, "FETCH c", "34000").await;
    client.batch_execute("ROLLBACK").await.unwrap();
}

#[tokio::test]
async fn two_cursors_are_read_in_turn() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    let declare = "BEGIN; DECLARE up CURSOR FOR SELECT d FROM digits ORDER BY d;
        DECLARE down NO SCROLL CURSOR WITHOUT HOLD FOR SELECT d FROM digits ORDER BY d DESC";
    client.batch_execute(declare).await.unwrap();
    for turn in 0..10 {
        assert_eq!(values(&client, "FETCH 1 FROM up").await, [turn]);
        assert_eq!(values(&client, "FETCH 1 FROM down").await, [9 - turn]);
    }
    fails_with(&client, "DECLARE up CURSOR FOR SELECT 1", "42P03").await;
}

/// In the extended protocol a FETCH is a statement as others: described, with typed rows.
#[tokio::test]
async fn a_fetch_can_be_prepared() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    client
        .batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT d FROM digits ORDER BY d")
        .await
        .unwrap();
    let fetch = client.prepare("FETCH FORWARD 4 FROM c").await.unwrap();
    let mut all: Vec<i64> = Vec::new();
    loop {
        let rows = client.query(&fetch, &[]).await.unwrap();
        if rows.is_empty() {
            break;
        }
        all.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(all, (0..10).collect::<Vec<i64>>());
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn a_cursor_ends_with_its_transaction_unless_it_is_held() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    let declare = "BEGIN; DECLARE short CURSOR FOR SELECT d FROM digits ORDER BY d;
        DECLARE long CURSOR WITH HOLD FOR SELECT d FROM digits ORDER BY d";
    client.batch_execute(declare).await.unwrap();
    assert_eq!(values(&client, "FETCH 2 FROM long").await, [0, 1]);
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(values(&client, "FETCH 2 FROM long").await, [2, 3]);
    fails_with(&client, "FETCH 1 FROM short", "34000").await;
    // Without a block only one that is held makes sense.
    fails_with(&client, "DECLARE c CURSOR FOR SELECT 1", "25P01").await;
    client.batch_execute("DECLARE c CURSOR WITH HOLD FOR SELECT 7").await.unwrap();
    assert_eq!(values(&client, "FETCH ALL FROM c").await, [7]);
    // Rolled back, not even a held one stays.
    client.batch_execute("BEGIN; DECLARE d CURSOR WITH HOLD FOR SELECT 1; ROLLBACK").await.unwrap();
    fails_with(&client, "FETCH d", "34000").await;
    client.batch_execute("CLOSE ALL").await.unwrap();
    fails_with(&client, "FETCH long", "34000").await;
}

/// A commit that fails is a rollback.
#[tokio::test]
async fn a_failed_commit_holds_no_cursor() {
    let cluster = Cluster::start();
    let (client, other) = (cluster.connect().await, cluster.connect().await);
    let begin = "BEGIN; CREATE TABLE taken (i int); INSERT INTO taken VALUES (1);
        DECLARE c CURSOR WITH HOLD FOR SELECT i FROM taken";
    client.batch_execute(begin).await.unwrap();
    other.batch_execute("CREATE TABLE taken (i int)").await.unwrap();
    fails_with(&client, "COMMIT", "42P07").await;
    fails_with(&client, "FETCH c", "34000").await;
}

/// A cursor sees the rows of its moment.
#[tokio::test]
async fn later_changes_are_not_seen() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    client
        .batch_execute(
            "BEGIN; DECLARE c CURSOR FOR SELECT d FROM digits ORDER BY d;
             INSERT INTO digits VALUES (10), (11)",
        )
        .await
        .unwrap();
    assert_eq!(values(&client, "FETCH ALL FROM c").await.len(), 10);
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn savepoints_take_their_cursors_with_them() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    digits(&client).await;
    client
        .batch_execute(
            "BEGIN; DECLARE before CURSOR FOR SELECT d FROM digits ORDER BY d; SAVEPOINT s;
             DECLARE after CURSOR FOR SELECT d FROM digits; ROLLBACK TO s",
        )
        .await
        .unwrap();
    assert_eq!(values(&client, "FETCH 1 FROM before").await, [0]);
    fails_with(&client, "FETCH after", "34000").await;
    client.batch_execute("ROLLBACK TO s").await.unwrap();
    let kept = "DECLARE kept CURSOR FOR SELECT d FROM digits ORDER BY d; RELEASE s";
    client.batch_execute(kept).await.unwrap();
    assert_eq!(values(&client, "FETCH 1 FROM kept").await, [0]);
    client.batch_execute("COMMIT").await.unwrap();
}

/// With FETCH_COUNT psql reads every query through a cursor.
#[test]
fn psql_fetches_in_parts() {
    let cluster = Cluster::start();
    let script = "\\set FETCH_COUNT 3
CREATE TABLE t (a int);
INSERT INTO t VALUES (1), (2), (3), (4), (5), (6), (7);
SELECT a FROM t ORDER BY a;
SELECT a FROM t WHERE a > 100;
";
    let output = run(&mut psql(&cluster.address), script).expect_success();
    assert_eq!(output, "1\n2\n3\n4\n5\n6\n7\n");
}
