//! Transactions as several sessions see them. What one session sees of its own is in `tests/slt`.

use tokio_postgres::Client;

use crate::raw_wire::{Raw, bind, execute, parse, sync};
use crate::support::cluster::{Cluster, Options};

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

/// Statements of one batch are one transaction: VACUUM among them is refused, and what came before
/// it is never committed in part.
#[tokio::test]
async fn vacuum_in_a_batch_takes_nothing_away() {
    let cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    let mut raw = Raw::logged_in(&cluster.address);
    let step = |sql: &str| [parse("", sql), bind("", ""), execute("", 0)].concat();
    raw.send(&[step("INSERT INTO t VALUES (1)"), step("VACUUM t"), sync()].concat());
    let messages = raw.read_until(b'Z');
    let error = messages.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.field(b'C').as_deref(), Some("25001"), "{messages:?}");
    assert_eq!(sum(&client, "t").await, None, "the batch was rolled back");
    raw.send(&[step("INSERT INTO t VALUES (2)"), sync(), step("VACUUM t"), sync()].concat());
    raw.read_until(b'Z');
    let messages = raw.read_until(b'Z');
    assert!(messages.iter().all(|message| message.tag != b'E'), "{messages:?}");
    assert_eq!(sum(&client, "t").await, Some(2));
}

/// Whoever has locked a table first is alone with it, and the next one sees what was done.
#[tokio::test]
async fn a_locked_table_is_written_by_nobody_else() {
    let cluster = Cluster::start();
    let (holder, other) = (cluster.connect().await, cluster.connect().await);
    holder.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    assert_eq!(sum(&other, "t").await, None, "readers do not wait");
    let waiting = async {
        other.batch_execute("BEGIN; LOCK t").await.unwrap();
        let seen = sum(&other, "t").await;
        other.batch_execute("INSERT INTO t VALUES (10); COMMIT").await.unwrap();
        seen
    };
    let holding = async {
        holder.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        holder.batch_execute("INSERT INTO t VALUES (2); COMMIT").await.unwrap();
    };
    let (seen, ()) = tokio::join!(waiting, holding);
    assert_eq!(seen, Some(3), "it was not locked, or the snapshot is older than the lock");
    assert_eq!(sum(&holder, "t").await, Some(13));
}

/// The first statement after LOCK sees what was committed before the last of the locks was taken.
#[tokio::test]
async fn several_locked_tables_are_seen_as_they_are() {
    let cluster = Cluster::start();
    let (holder, other) = (cluster.connect().await, cluster.connect().await);
    holder.batch_execute("CREATE TABLE a (a bigint); CREATE TABLE b (a bigint)").await.unwrap();
    holder.batch_execute("BEGIN; INSERT INTO b VALUES (1)").await.unwrap();
    let waiting = async {
        other.batch_execute("BEGIN; SAVEPOINT s; LOCK a, b").await.unwrap();
        sum(&other, "b").await
    };
    let holding = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (seen, ()) = tokio::join!(waiting, holding);
    assert_eq!(seen, Some(1), "the snapshot is older than the lock");
    other.batch_execute("ROLLBACK").await.unwrap();
    // One statement after the other.
    holder.batch_execute("BEGIN; INSERT INTO b VALUES (2)").await.unwrap();
    let waiting = async {
        other.batch_execute("BEGIN; LOCK a; LOCK b").await.unwrap();
        sum(&other, "b").await
    };
    let holding = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (seen, ()) = tokio::join!(waiting, holding);
    assert_eq!(seen, Some(3), "the snapshot is older than the second lock");
    // Both are locked still.
    let insert = holder.batch_execute("INSERT INTO a VALUES (1)");
    let insert = tokio::time::timeout(std::time::Duration::from_millis(300), insert);
    assert!(insert.await.is_err(), "the first lock is lost");
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

/// Sessions add rows to one table at the same time, beside one that changes others, each in a
/// transaction that stays open; what reads the table itself waits and sees all of them.
#[tokio::test]
async fn inserts_do_not_wait_for_each_other() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint); INSERT INTO t VALUES (1)").await.unwrap();
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    let third = cluster.connect().await;
    first.batch_execute("BEGIN; INSERT INTO t VALUES (10)").await.unwrap();
    second.batch_execute("BEGIN; INSERT INTO t SELECT 100").await.unwrap();
    third.batch_execute("BEGIN; UPDATE t SET a = 2").await.unwrap();
    let copies = "INSERT INTO t SELECT sum(a) * 1000 FROM t";
    let copying = client.batch_execute(copies);
    let committing = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        for session in [&second, &first, &third] {
            session.batch_execute("COMMIT").await.unwrap();
        }
    };
    let (copied, ()) = tokio::join!(copying, committing);
    copied.unwrap();
    assert_eq!(sum(&client, "t").await, Some(112_112));
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

#[tokio::test]
async fn going_back_to_a_savepoint_undoes_what_came_after_it() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    let other = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint); CREATE TABLE u (a bigint)").await.unwrap();
    client
        .batch_execute(
            "BEGIN; INSERT INTO t VALUES (1); SAVEPOINT one; INSERT INTO t VALUES (10);
             CREATE TABLE made (a bigint); INSERT INTO u VALUES (5);
             SAVEPOINT two; INSERT INTO t VALUES (100); DROP TABLE made",
        )
        .await
        .unwrap();
    assert_eq!(sum(&client, "t").await, Some(111));
    client.batch_execute("ROLLBACK TO SAVEPOINT two").await.unwrap();
    assert_eq!(sum(&client, "t").await, Some(11));
    assert_eq!(sum(&client, "made").await, None);
    client.batch_execute("ROLLBACK TO one").await.unwrap();
    assert_eq!(sum(&client, "t").await, Some(1));
    // The lock on `u` was taken after the savepoint: others need not wait any more.
    other.batch_execute("INSERT INTO u VALUES (7)").await.unwrap();
    // The savepoint itself is still there, the one after it is not.
    client.batch_execute("INSERT INTO t VALUES (1000); ROLLBACK TO one").await.unwrap();
    let error = client.batch_execute("ROLLBACK TO two").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "3B001");
    // Even this error leaves a way out.
    client.batch_execute("ROLLBACK TO one; INSERT INTO t VALUES (2); RELEASE one").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sum(&other, "t").await, Some(3));
    assert_eq!(sum(&other, "u").await, Some(7));
    let error = other.simple_query("SELECT * FROM made").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42P01");
}

#[tokio::test]
async fn a_savepoint_is_the_way_out_of_a_failed_block() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    client
        .batch_execute("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (10)")
        .await
        .unwrap();
    let error = client.simple_query("SELECT 1/0").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22012");
    for sql in ["SELECT 1", "SAVEPOINT other", "RELEASE s"] {
        let error = client.simple_query(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "25P02", "{sql}");
    }
    client.batch_execute("ROLLBACK TO s; INSERT INTO t VALUES (100)").await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sum(&client, "t").await, Some(101));
    // Not taken, the block ends as any failed one.
    client.batch_execute("BEGIN; SAVEPOINT s; INSERT INTO t VALUES (5)").await.unwrap();
    client.simple_query("SELECT 1/0").await.unwrap_err();
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sum(&client, "t").await, Some(101));
}

#[tokio::test]
async fn savepoints_of_equal_names_hide_each_other() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint)").await.unwrap();
    client
        .batch_execute(
            "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1); SAVEPOINT s; INSERT INTO t VALUES (10);
             ROLLBACK TO s; RELEASE SAVEPOINT s",
        )
        .await
        .unwrap();
    assert_eq!(sum(&client, "t").await, Some(1));
    client.batch_execute("ROLLBACK TO s").await.unwrap();
    assert_eq!(sum(&client, "t").await, None);
    client.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn settings_go_back_with_the_savepoint() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    let shown = async || {
        let messages = client.simple_query("SHOW statement_timeout").await.unwrap();
        let row = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        row.unwrap()
    };
    let begin = "SET statement_timeout TO 0; BEGIN; SAVEPOINT s; SET statement_timeout TO 90001";
    client.batch_execute(begin).await.unwrap();
    assert!(shown().await.starts_with("90001"));
    client.batch_execute("ROLLBACK TO s").await.unwrap();
    assert_eq!(shown().await, "0");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(shown().await, "0");
}

#[tokio::test]
async fn a_savepoint_needs_a_block() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    for sql in ["SAVEPOINT s", "RELEASE s", "ROLLBACK TO s"] {
        let error = client.simple_query(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "25P01", "{sql}");
    }
}

/// The sum of column `a`, as a number whatever type the server gives a sum of bigint.
async fn sum(client: &Client, table: &str) -> Option<i64> {
    let sql = format!("SELECT sum(a)::bigint FROM {table}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}
