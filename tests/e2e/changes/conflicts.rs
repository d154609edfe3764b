//! Several sessions that change the same table. The ten cases are those of Martin Kleppmann's
//! Hermitage, with what snapshot isolation allows: first deleter wins, and of the anomalies only those
//! of two anti-dependencies, write skew among them. At SERIALIZABLE they are in `serializable.rs`.

use std::time::Duration;

use tokio_postgres::Client;

use super::{change, changes, rows};
use crate::support::cluster::Cluster;

pub(super) const CONFLICT: &str = "XX000";

/// `test (id, value)` with the rows (1, 10) and (2, 20), and three sessions.
pub(super) async fn start() -> (Cluster, [Client; 3]) {
    let cluster = Cluster::start();
    let clients = [cluster.connect().await, cluster.connect().await, cluster.connect().await];
    let create = "CREATE TABLE test (id int, value int); INSERT INTO test VALUES (1, 10), (2, 20)";
    clients[0].batch_execute(create).await.unwrap();
    (cluster, clients)
}

pub(super) async fn all(client: &Client) -> Vec<String> {
    rows(client, "SELECT id, value FROM test ORDER BY id").await
}

async fn begin(clients: &[Client]) {
    for client in clients {
        changes(client, "BEGIN ISOLATION LEVEL SNAPSHOT").await;
    }
}

/// Runs a statement that has to wait for another session, which `meanwhile` ends.
pub(super) async fn waits(
    client: &Client,
    sql: &str,
    meanwhile: impl Future<Output = ()>,
) -> Result<u64, String> {
    let waiting = change(client, sql);
    let mut waiting = std::pin::pin!(waiting);
    tokio::select! {
        told = &mut waiting => panic!("{sql} did not wait: {told:?}"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    meanwhile.await;
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap()
}

#[tokio::test]
async fn ten_sessions_change_different_rows_of_one_table_at_the_same_time() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    let create = "CREATE TABLE t (id bigint, v bigint);
        INSERT INTO t VALUES (0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0)";
    client.batch_execute(create).await.unwrap();
    // All are in the middle of their transaction before the first one commits.
    let mut sessions = Vec::new();
    for id in 0..10 {
        let session = cluster.connect().await;
        changes(&session, "BEGIN").await;
        assert_eq!(changes(&session, &format!("UPDATE t SET v = v + 1 WHERE id = {id}")).await, 1);
        sessions.push(session);
    }
    for session in &sessions {
        changes(session, "COMMIT").await;
    }
    assert_eq!(rows(&client, "SELECT count(*), sum(v), min(v) FROM t").await, ["10|10|1"]);
    // Without a block, on the same row: each waits for the one before and begins again.
    let updates = sessions.iter().map(|session| async move {
        for _ in 0..5 {
            assert_eq!(changes(session, "UPDATE t SET v = v + 1 WHERE id = 3").await, 1);
        }
    });
    futures::future::join_all(updates).await;
    assert_eq!(rows(&client, "SELECT v FROM t WHERE id = 3").await, ["51"]);
}

#[tokio::test]
async fn a_conflict_names_both_sides() {
    let (_cluster, [first, second, _]) = start().await;
    begin(std::slice::from_ref(&second)).await;
    all(&second).await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    let sql = "UPDATE test SET value = 12 WHERE id = 1";
    let error = second.simple_query(sql).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), (CONFLICT, "1023"));
    let detail = error.detail().unwrap();
    assert!(detail.starts_with("Serializable isolation violation on table - "), "{detail}");
    assert!(detail.contains("transactions forming the cycle are: "), "{detail}");
    assert_eq!(change(&second, "SELECT 1").await, Err("25P02".to_owned()));
    changes(&second, "ROLLBACK").await;
    // Another row of the same segment is no conflict, also not for an old snapshot.
    begin(std::slice::from_ref(&second)).await;
    assert_eq!(all(&second).await, ["1|11", "2|20"]);
    changes(&first, "UPDATE test SET value = 13 WHERE id = 1").await;
    changes(&second, "UPDATE test SET value = 21 WHERE id = 2").await;
    changes(&second, "COMMIT").await;
    assert_eq!(all(&first).await, ["1|13", "2|21"]);
}

#[tokio::test]
async fn g0_dirty_writes_do_not_mix() {
    let (_cluster, [first, second, reader]) = start().await;
    begin(&[]).await;
    changes(&first, "BEGIN").await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    let told = waits(&second, "UPDATE test SET value = 12 WHERE id = 1", async {
        changes(&first, "UPDATE test SET value = 21 WHERE id = 2").await;
        changes(&first, "COMMIT").await;
    })
    .await;
    assert_eq!(told, Ok(1), "a statement of its own begins again");
    assert_eq!(all(&reader).await, ["1|12", "2|21"]);
}

#[tokio::test]
async fn g1_nothing_uncommitted_or_in_between_is_read() {
    let (_cluster, [first, second, _]) = start().await;
    changes(&first, "BEGIN").await;
    changes(&first, "UPDATE test SET value = 101 WHERE id = 1").await;
    assert_eq!(all(&second).await, ["1|10", "2|20"]);
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    assert_eq!(all(&second).await, ["1|10", "2|20"]);
    changes(&first, "ROLLBACK").await;
    assert_eq!(all(&second).await, ["1|10", "2|20"]);
    // G1c: two that read what the other has not committed.
    changes(&first, "BEGIN").await;
    changes(&second, "BEGIN").await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    changes(&second, "UPDATE test SET value = 22 WHERE id = 2").await;
    assert_eq!(rows(&first, "SELECT value FROM test WHERE id = 2").await, ["20"]);
    assert_eq!(rows(&second, "SELECT value FROM test WHERE id = 1").await, ["10"]);
    changes(&first, "COMMIT").await;
    changes(&second, "COMMIT").await;
    assert_eq!(all(&first).await, ["1|11", "2|22"]);
}

#[tokio::test]
async fn otv_an_observed_transaction_does_not_vanish() {
    let (_cluster, [first, second, reader]) = start().await;
    changes(&first, "BEGIN").await;
    changes(&second, "BEGIN").await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    changes(&first, "UPDATE test SET value = 19 WHERE id = 2").await;
    let told = waits(&second, "UPDATE test SET value = 12 WHERE id = 1", async {
        changes(&first, "COMMIT").await;
        changes(&reader, "BEGIN").await;
        assert_eq!(all(&reader).await, ["1|11", "2|19"]);
    })
    .await;
    assert_eq!(told, Ok(1), "the first statement of a block begins again, too");
    changes(&second, "UPDATE test SET value = 18 WHERE id = 2").await;
    assert_eq!(all(&reader).await, ["1|11", "2|19"]);
    changes(&second, "COMMIT").await;
    assert_eq!(all(&reader).await, ["1|11", "2|19"]);
    changes(&reader, "COMMIT").await;
    assert_eq!(all(&reader).await, ["1|12", "2|18"]);
}

#[tokio::test]
async fn pmp_a_predicate_finds_the_same_rows_again() {
    let (_cluster, [first, second, _]) = start().await;
    begin(std::slice::from_ref(&first)).await;
    assert!(rows(&first, "SELECT id FROM test WHERE value = 30").await.is_empty());
    changes(&second, "INSERT INTO test VALUES (3, 30)").await;
    assert!(rows(&first, "SELECT id FROM test WHERE value % 3 = 0").await.is_empty());
    changes(&first, "COMMIT").await;
    // For writes: the rows that the predicate finds have been changed.
    begin(std::slice::from_ref(&second)).await;
    assert_eq!(all(&second).await.len(), 3);
    changes(&first, "UPDATE test SET value = value + 10").await;
    let told = change(&second, "DELETE FROM test WHERE value = 20").await;
    assert_eq!(told, Err(CONFLICT.to_owned()));
    changes(&second, "ROLLBACK").await;
    assert_eq!(all(&first).await, ["1|20", "2|30", "3|40"]);
}

#[tokio::test]
async fn p4_no_update_is_lost() {
    let (_cluster, [first, second, _]) = start().await;
    changes(&first, "BEGIN").await;
    changes(&second, "BEGIN").await;
    assert_eq!(rows(&first, "SELECT value FROM test WHERE id = 1").await, ["10"]);
    assert_eq!(rows(&second, "SELECT value FROM test WHERE id = 1").await, ["10"]);
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    let told = waits(&second, "UPDATE test SET value = 11 WHERE id = 1", async {
        changes(&first, "COMMIT").await;
    })
    .await;
    assert_eq!(told, Err(CONFLICT.to_owned()));
    changes(&second, "ROLLBACK").await;
    // If the other one goes back, there is nothing to lose.
    changes(&first, "BEGIN").await;
    changes(&second, "BEGIN").await;
    all(&second).await;
    changes(&first, "UPDATE test SET value = 12 WHERE id = 1").await;
    let told = waits(&second, "UPDATE test SET value = 13 WHERE id = 1", async {
        changes(&first, "ROLLBACK").await;
    })
    .await;
    assert_eq!(told, Ok(1));
    changes(&second, "COMMIT").await;
    assert_eq!(all(&first).await, ["1|13", "2|20"]);
}

#[tokio::test]
async fn g_single_reads_are_of_one_state() {
    let (_cluster, [first, second, _]) = start().await;
    begin(std::slice::from_ref(&first)).await;
    assert_eq!(rows(&first, "SELECT value FROM test WHERE id = 1").await, ["10"]);
    changes(&second, "BEGIN").await;
    changes(&second, "UPDATE test SET value = 12 WHERE id = 1").await;
    changes(&second, "UPDATE test SET value = 18 WHERE id = 2").await;
    changes(&second, "COMMIT").await;
    assert_eq!(rows(&first, "SELECT value FROM test WHERE id = 2").await, ["20"]);
    assert!(rows(&first, "SELECT id FROM test WHERE value % 5 = 3").await.is_empty());
    let told = change(&first, "DELETE FROM test WHERE value = 20").await;
    assert_eq!(told, Err(CONFLICT.to_owned()));
    changes(&first, "ROLLBACK").await;
    assert_eq!(all(&second).await, ["1|12", "2|18"]);
}

#[tokio::test]
async fn g2_write_skew_is_what_snapshots_allow() {
    let (_cluster, [first, second, _]) = start().await;
    changes(&first, "BEGIN").await;
    changes(&second, "BEGIN").await;
    assert_eq!(all(&first).await.len(), 2);
    assert_eq!(all(&second).await.len(), 2);
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    changes(&second, "UPDATE test SET value = 21 WHERE id = 2").await;
    changes(&first, "COMMIT").await;
    changes(&second, "COMMIT").await;
    assert_eq!(all(&first).await, ["1|11", "2|21"]);
}

#[tokio::test]
async fn g2_phantoms_of_two_writers_are_what_snapshots_allow() {
    let (_cluster, [first, second, _]) = start().await;
    begin(std::slice::from_ref(&first)).await;
    begin(std::slice::from_ref(&second)).await;
    let predicate = "SELECT id FROM test WHERE value % 3 = 0";
    assert!(rows(&first, predicate).await.is_empty());
    assert!(rows(&second, predicate).await.is_empty());
    changes(&first, "INSERT INTO test VALUES (3, 30)").await;
    // Nor do they wait for each other.
    changes(&second, "INSERT INTO test VALUES (4, 42)").await;
    changes(&first, "COMMIT").await;
    changes(&second, "COMMIT").await;
    assert_eq!(rows(&first, predicate).await.len(), 2);
}

#[tokio::test]
async fn g2_a_reader_between_two_writers_is_what_snapshots_allow() {
    let (_cluster, [first, second, reader]) = start().await;
    begin(std::slice::from_ref(&first)).await;
    assert_eq!(all(&first).await, ["1|10", "2|20"]);
    changes(&second, "UPDATE test SET value = value + 5 WHERE id = 2").await;
    // The reader sees the second one and not the first, which did not see the second.
    assert_eq!(all(&reader).await, ["1|10", "2|25"]);
    changes(&first, "UPDATE test SET value = 0 WHERE id = 1").await;
    changes(&first, "COMMIT").await;
    assert_eq!(all(&reader).await, ["1|0", "2|25"]);
}

#[tokio::test]
async fn waits_that_close_a_circle_are_refused() {
    let (_cluster, [first, second, _]) = start().await;
    changes(&first, "BEGIN").await;
    changes(&second, "BEGIN").await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    changes(&second, "UPDATE test SET value = 22 WHERE id = 2").await;
    let told = waits(&first, "UPDATE test SET value = 12 WHERE id = 2", async {
        let told = change(&second, "UPDATE test SET value = 21 WHERE id = 1").await;
        assert_eq!(told, Err("40P01".to_owned()));
    })
    .await;
    assert_eq!(told, Ok(1));
    changes(&second, "ROLLBACK").await;
    changes(&first, "COMMIT").await;
    assert_eq!(all(&first).await, ["1|11", "2|12"]);
}

#[tokio::test]
async fn vacuum_goes_on_beside_writers_and_readers() {
    let cluster = Cluster::start();
    let (writer, reader, maintainer) =
        (cluster.connect().await, cluster.connect().await, cluster.connect().await);
    let create = "CREATE TABLE t (id bigint, v bigint) SORTKEY (id);
        INSERT INTO t VALUES (5, 0), (1, 0), (3, 0); INSERT INTO t VALUES (4, 0), (2, 0);
        DELETE FROM t WHERE id = 3";
    writer.batch_execute(create).await.unwrap();
    changes(&reader, "BEGIN").await;
    let sum = "SELECT count(*), sum(id), sum(v) FROM t";
    assert_eq!(rows(&reader, sum).await, ["4|12|0"]);
    changes(&writer, "BEGIN").await;
    assert_eq!(changes(&writer, "UPDATE t SET v = 1 WHERE id = 5").await, 1);
    // What is being changed stays; nobody waits for anybody.
    changes(&maintainer, "VACUUM t").await;
    changes(&writer, "COMMIT").await;
    changes(&maintainer, "VACUUM t").await;
    assert_eq!(rows(&maintainer, sum).await, ["4|12|1"]);
    assert_eq!(rows(&reader, sum).await, ["4|12|0"], "an old snapshot still has its files");
    // A row that was found in a file that is gone cannot be changed by that snapshot.
    let told = change(&reader, "UPDATE t SET v = 2 WHERE id = 1").await;
    assert_eq!(told, Err(CONFLICT.to_owned()));
    changes(&reader, "ROLLBACK").await;
    assert_eq!(changes(&reader, "UPDATE t SET v = 2 WHERE id = 1").await, 1);
    assert_eq!(rows(&maintainer, sum).await, ["4|12|3"]);
    // Updates of many sessions and VACUUM again and again: nothing is lost.
    let updates = (0..4).map(|_| {
        let cluster = &cluster;
        async move {
            let session = cluster.connect().await;
            for _ in 0..15 {
                assert_eq!(changes(&session, "UPDATE t SET v = v + 1 WHERE id = 2").await, 1);
            }
        }
    });
    let vacuums = async {
        for _ in 0..10 {
            changes(&maintainer, "VACUUM t TO 100 PERCENT").await;
        }
    };
    futures::future::join(futures::future::join_all(updates), vacuums).await;
    assert_eq!(rows(&maintainer, "SELECT v FROM t WHERE id = 2").await, ["60"]);
}

/// What depends on other rows of its table sees all that others have done to them.
#[tokio::test]
async fn what_reads_its_own_table_waits_for_others_who_change_it() {
    let (_cluster, [one, other, third]) = start().await;
    changes(&one, "CREATE TABLE source (id int, value int)").await;
    changes(&one, "INSERT INTO source VALUES (2, 7), (3, 8)").await;
    let merge = "MERGE INTO test USING source ON test.id = source.id
        WHEN MATCHED THEN UPDATE SET value = source.value
        WHEN NOT MATCHED THEN INSERT VALUES (source.id, source.value)";
    changes(&one, "BEGIN").await;
    assert_eq!(change(&one, merge).await, Ok(2));
    let commit = async {
        changes(&one, "COMMIT").await;
    };
    assert_eq!(waits(&other, merge, commit).await, Ok(2));
    assert_eq!(all(&third).await, ["1|10", "2|7", "3|8"], "a row was added twice");
    // A transaction that does not see all rows cannot know which are missing.
    changes(&other, "BEGIN").await;
    assert_eq!(all(&other).await.len(), 3);
    changes(&one, "INSERT INTO test VALUES (4, 40)").await;
    changes(&one, "INSERT INTO source VALUES (4, 9)").await;
    assert_eq!(change(&other, merge).await, Err(CONFLICT.to_owned()));
    changes(&other, "ROLLBACK").await;
    let next = "UPDATE test SET value = (SELECT max(value) + 1 FROM test) WHERE id =";
    changes(&one, "BEGIN").await;
    changes(&one, &format!("{next} 1")).await;
    let commit = async {
        changes(&one, "COMMIT").await;
    };
    assert_eq!(waits(&other, &format!("{next} 2"), commit).await, Ok(1));
    assert_eq!(all(&third).await, ["1|41", "2|42", "3|8", "4|40"]);
}

/// A statement of its own that has lost before its commit is done again.
#[tokio::test]
async fn a_lone_statement_is_done_again_whatever_it_is() {
    let (_cluster, [one, other, _third]) = start().await;
    changes(&one, "CREATE TABLE second (id int)").await;
    changes(&one, "BEGIN").await;
    changes(&one, "ALTER TABLE test ADD COLUMN more int").await;
    let commit = async {
        changes(&one, "COMMIT").await;
    };
    waits(&other, "DROP TABLE second, test", commit).await.unwrap();
}
