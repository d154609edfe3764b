//! SERIALIZABLE: Hermitage's ten cases, none of whose anomalies may be seen, and what counts as a
//! change of what was read.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::conflicts::{CONFLICT, all, start, waits};
use super::{change, changes, rows};
use crate::support::cluster::{Cluster, Options};

async fn begin(clients: &[&Client]) {
    for client in clients {
        changes(client, "BEGIN ISOLATION LEVEL SERIALIZABLE").await;
    }
}

/// The statement fails as one does that was too late; the block is rolled back.
async fn loses(client: &Client, sql: &str) {
    assert_eq!(change(client, sql).await, Err(CONFLICT.to_owned()), "{sql}");
    changes(client, "ROLLBACK").await;
}

/// The statement waits for the other session to commit, and then fails.
async fn waits_and_loses(client: &Client, sql: &str, other: &Client) {
    let told = waits(client, sql, async {
        changes(other, "COMMIT").await;
    })
    .await;
    assert_eq!(told, Err(CONFLICT.to_owned()), "{sql}");
    changes(client, "ROLLBACK").await;
}

#[tokio::test]
async fn g0_dirty_writes_do_not_mix() {
    let (_cluster, [first, second, reader]) = start().await;
    begin(&[&first, &second]).await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    let told = waits(&second, "UPDATE test SET value = 12 WHERE id = 1", async {
        changes(&first, "UPDATE test SET value = 21 WHERE id = 2").await;
        changes(&first, "COMMIT").await;
        assert_eq!(all(&reader).await, ["1|11", "2|21"]);
    })
    .await;
    assert_eq!(told, Ok(1), "it has read nothing yet, and so begins after the other");
    changes(&second, "UPDATE test SET value = 22 WHERE id = 2").await;
    changes(&second, "COMMIT").await;
    assert_eq!(all(&reader).await, ["1|12", "2|22"]);
}

#[tokio::test]
async fn g1_nothing_uncommitted_or_in_between_is_read() {
    let (_cluster, [first, second, _]) = start().await;
    begin(&[&first, &second]).await;
    changes(&first, "UPDATE test SET value = 101 WHERE id = 1").await;
    assert_eq!(all(&second).await, ["1|10", "2|20"]);
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    assert_eq!(all(&second).await, ["1|10", "2|20"]);
    changes(&first, "ROLLBACK").await;
    assert_eq!(all(&second).await, ["1|10", "2|20"]);
    changes(&second, "COMMIT").await;
    // G1c: two that read what the other has not committed.
    begin(&[&first, &second]).await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    let told = waits(&second, "UPDATE test SET value = 22 WHERE id = 2", async {
        assert_eq!(rows(&first, "SELECT value FROM test WHERE id = 2").await, ["20"]);
        changes(&first, "COMMIT").await;
    })
    .await;
    assert_eq!(told, Ok(1));
    assert_eq!(rows(&second, "SELECT value FROM test WHERE id = 1").await, ["11"]);
    changes(&second, "COMMIT").await;
    assert_eq!(all(&first).await, ["1|11", "2|22"]);
}

#[tokio::test]
async fn otv_an_observed_transaction_does_not_vanish() {
    let (_cluster, [first, second, reader]) = start().await;
    begin(&[&first, &second, &reader]).await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    changes(&first, "UPDATE test SET value = 19 WHERE id = 2").await;
    let told = waits(&second, "UPDATE test SET value = 12 WHERE id = 1", async {
        changes(&first, "COMMIT").await;
        assert_eq!(all(&reader).await, ["1|11", "2|19"]);
    })
    .await;
    assert_eq!(told, Ok(1));
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
    begin(&[&first]).await;
    assert!(rows(&first, "SELECT id FROM test WHERE value = 30").await.is_empty());
    changes(&second, "INSERT INTO test VALUES (3, 30)").await;
    assert!(rows(&first, "SELECT id FROM test WHERE value % 3 = 0").await.is_empty());
    changes(&first, "COMMIT").await;
    // For writes: the rows that the predicate finds have been changed.
    begin(&[&first, &second]).await;
    assert_eq!(all(&second).await.len(), 3);
    changes(&first, "UPDATE test SET value = value + 10").await;
    waits_and_loses(&second, "DELETE FROM test WHERE value = 20", &first).await;
    assert_eq!(all(&first).await, ["1|20", "2|30", "3|40"]);
}

#[tokio::test]
async fn p4_no_update_is_lost() {
    let (_cluster, [first, second, _]) = start().await;
    begin(&[&first, &second]).await;
    let read = "SELECT value FROM test WHERE id = 1";
    assert_eq!(rows(&first, read).await, ["10"]);
    assert_eq!(rows(&second, read).await, ["10"]);
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    waits_and_loses(&second, "UPDATE test SET value = 11 WHERE id = 1", &first).await;
    // If the other one goes back, there is nothing to lose.
    begin(&[&first, &second]).await;
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
    let both = "UPDATE test SET value = value + 2 WHERE id = 1; \
                UPDATE test SET value = value - 2 WHERE id = 2";
    begin(&[&first]).await;
    assert_eq!(rows(&first, "SELECT value FROM test WHERE id = 1").await, ["10"]);
    second.batch_execute(both).await.unwrap();
    assert_eq!(rows(&first, "SELECT value FROM test WHERE id = 2").await, ["20"]);
    assert!(rows(&first, "SELECT id FROM test WHERE value % 5 = 3").await.is_empty());
    changes(&first, "COMMIT").await;
    // What it would write comes from a state that is gone, also where it finds no row.
    for late in ["DELETE FROM test WHERE value = 12", "DELETE FROM test WHERE value = 999"] {
        begin(&[&first]).await;
        all(&first).await;
        second.batch_execute(both).await.unwrap();
        loses(&first, late).await;
    }
    assert_eq!(all(&second).await, ["1|16", "2|14"]);
}

#[tokio::test]
async fn g2_item_there_is_no_write_skew() {
    let (_cluster, [first, second, _]) = start().await;
    begin(&[&first, &second]).await;
    assert_eq!(all(&first).await.len(), 2);
    assert_eq!(all(&second).await.len(), 2);
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    waits_and_loses(&second, "UPDATE test SET value = 21 WHERE id = 2", &first).await;
    assert_eq!(all(&first).await, ["1|11", "2|20"]);
}

#[tokio::test]
async fn g2_there_are_no_phantoms() {
    let (_cluster, [first, second, _]) = start().await;
    begin(&[&first, &second]).await;
    let predicate = "SELECT id FROM test WHERE value % 3 = 0";
    assert!(rows(&first, predicate).await.is_empty());
    assert!(rows(&second, predicate).await.is_empty());
    changes(&first, "INSERT INTO test VALUES (3, 30)").await;
    changes(&second, "INSERT INTO test VALUES (4, 42)").await;
    changes(&first, "COMMIT").await;
    loses(&second, "COMMIT").await;
    assert_eq!(rows(&first, predicate).await, ["3"]);
}

#[tokio::test]
async fn g2_a_reader_between_two_writers_sees_an_order_of_them() {
    let (_cluster, [first, second, reader]) = start().await;
    begin(&[&first, &reader]).await;
    assert_eq!(all(&first).await, ["1|10", "2|20"]);
    changes(&second, "UPDATE test SET value = value + 5 WHERE id = 2").await;
    assert_eq!(all(&reader).await, ["1|10", "2|25"]);
    changes(&reader, "COMMIT").await;
    loses(&first, "UPDATE test SET value = 0 WHERE id = 1").await;
    assert_eq!(all(&reader).await, ["1|10", "2|25"]);
}

/// `a (v)` and `b (v)` with a row each.
async fn two_tables(client: &Client) {
    let create = "CREATE TABLE a (v bigint); INSERT INTO a VALUES (1);
        CREATE TABLE b (v bigint); INSERT INTO b VALUES (1)";
    client.batch_execute(create).await.unwrap();
}

const COPY_A_TO_B: &str = "INSERT INTO b SELECT v FROM a";

#[tokio::test]
async fn a_commit_fails_that_comes_too_late_and_names_both_sides() {
    let cluster = Cluster::start();
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    two_tables(&first).await;
    begin(&[&first, &second]).await;
    changes(&first, COPY_A_TO_B).await;
    changes(&second, "INSERT INTO a SELECT v FROM b").await;
    let xid = "SELECT lock_owner FROM stv_locks WHERE lock_owner_pid = pg_backend_pid()";
    let xids = [rows(&first, xid).await.remove(0), rows(&second, xid).await.remove(0)];
    let ids = "SELECT oid FROM pg_class WHERE relname IN ('a', 'b') ORDER BY relname";
    let ids = rows(&first, ids).await;
    let pid = rows(&second, "SELECT pg_backend_pid()").await.remove(0);
    changes(&first, "COMMIT").await;
    let error = second.simple_query("COMMIT").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), (CONFLICT, "1023"));
    let expected = format!(
        "Serializable isolation violation on table - {}, transactions forming the cycle are: \
         {}, {} (pid:{pid})",
        ids[1], xids[0], xids[1]
    );
    assert_eq!(error.detail(), Some(expected.as_str()));
    // The block is over, and nothing of it is there.
    assert_eq!(rows(&second, "SELECT count(*) FROM a").await, ["1"]);
    let told = "SELECT xact_id, process_id, table_id, abort_time >= xact_start_ts \
                FROM stl_tr_conflict";
    let expected = format!("{}|{pid}|{}|t", xids[1], ids[1]);
    assert_eq!(rows(&second, told).await, [expected]);
}

#[tokio::test]
async fn what_others_change_counts_and_what_they_rewrite_does_not() {
    let cluster = Cluster::start();
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    for (meanwhile, counts) in [
        ("INSERT INTO a VALUES (2)", true),
        ("INSERT INTO a SELECT 2 WHERE 1 = 0", false),
        ("DELETE FROM a WHERE v = 1", true),
        ("DELETE FROM a WHERE v = 99", false),
        ("UPDATE a SET v = v", true),
        ("TRUNCATE a", true),
        ("DROP TABLE a", true),
        ("ALTER TABLE a ADD COLUMN w int", true),
        ("ALTER TABLE a RENAME TO c", true),
        ("VACUUM a TO 100 PERCENT", false),
        ("ANALYZE a", false),
        ("INSERT INTO b VALUES (2)", false),
        ("CREATE TABLE other (v int)", false),
    ] {
        let drop = "DROP TABLE IF EXISTS a; DROP TABLE IF EXISTS b; DROP TABLE IF EXISTS c; \
                    DROP TABLE IF EXISTS copied; DROP TABLE IF EXISTS other";
        second.batch_execute(drop).await.unwrap();
        two_tables(&second).await;
        // VACUUM has something to do.
        second
            .batch_execute("INSERT INTO a VALUES (5), (6); DELETE FROM a WHERE v = 5")
            .await
            .unwrap();
        let segments = "SELECT count(*) FROM a";
        begin(&[&first]).await;
        rows(&first, segments).await;
        rows(&first, "SELECT count(*) FROM pg_class").await;
        second.batch_execute(meanwhile).await.unwrap();
        assert_eq!(rows(&first, segments).await, ["2"], "{meanwhile}");
        // Nothing it writes hangs on a lock of the other.
        changes(&first, "CREATE TABLE copied (n bigint)").await;
        if counts {
            loses(&first, "COMMIT").await;
        } else {
            assert_eq!(change(&first, "COMMIT").await, Ok(0), "{meanwhile}");
        }
        // What reads only is never too late.
        two_tables_again(&second).await;
        begin(&[&first]).await;
        rows(&first, segments).await;
        changes(&second, "INSERT INTO a VALUES (7)").await;
        changes(&first, "COMMIT").await;
    }
}

async fn two_tables_again(client: &Client) {
    client.batch_execute("DROP TABLE IF EXISTS a; DROP TABLE IF EXISTS b").await.unwrap();
    two_tables(client).await;
}

#[tokio::test]
async fn own_tables_are_nobodys_change_and_going_back_unreads_nothing() {
    let cluster = Cluster::start();
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    two_tables(&first).await;
    // A table that it makes and forgets again; one of its own session; the target itself.
    begin(&[&first]).await;
    let own = "CREATE TEMP TABLE mine (v bigint); INSERT INTO mine SELECT v FROM a;
        SAVEPOINT s; CREATE TABLE made (v bigint); INSERT INTO made VALUES (1);
        INSERT INTO mine SELECT v FROM made; ROLLBACK TO s;
        INSERT INTO b SELECT v FROM mine; INSERT INTO b SELECT v FROM b; UPDATE b SET v = v + 1";
    first.batch_execute(own).await.unwrap();
    changes(&first, "COMMIT").await;
    assert_eq!(rows(&first, "SELECT count(*), min(v) FROM b").await, ["4|2"]);
    // Whoever has seen it has seen it.
    begin(&[&first]).await;
    first.batch_execute("SAVEPOINT s; SELECT v FROM a; ROLLBACK TO s").await.unwrap();
    changes(&second, "INSERT INTO a VALUES (2)").await;
    loses(&first, "INSERT INTO b VALUES (9)").await;
}

#[tokio::test]
async fn a_transaction_of_a_lower_level_is_asked_nothing() {
    let cluster = Cluster::start();
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    two_tables(&first).await;
    changes(&first, "BEGIN").await;
    begin(&[&second]).await;
    rows(&first, "SELECT v FROM a").await;
    rows(&second, "SELECT v FROM b").await;
    changes(&first, "INSERT INTO b VALUES (2)").await;
    changes(&second, "INSERT INTO a VALUES (2)").await;
    changes(&second, "COMMIT").await;
    changes(&first, "COMMIT").await;
    // The other way round the serializable one is late.
    changes(&first, "BEGIN").await;
    begin(&[&second]).await;
    rows(&first, "SELECT v FROM a").await;
    rows(&second, "SELECT v FROM b").await;
    changes(&first, "INSERT INTO b VALUES (3)").await;
    changes(&second, "INSERT INTO a VALUES (3)").await;
    changes(&first, "COMMIT").await;
    loses(&second, "COMMIT").await;
    assert_eq!(rows(&first, "SELECT max(v) FROM a").await, ["2"]);
}

/// Statements that are alone in their transactions never fail, and each sees all before it: what
/// they insert is how many rows there were.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_alone_begins_again_until_it_is_not_late() {
    const WORKERS: usize = 4;
    const STATEMENTS: usize = 12;
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE a (n bigint); CREATE TABLE b (n bigint)").await.unwrap();
    let workers = (0..WORKERS).map(|worker| {
        let cluster = &cluster;
        async move {
            let session = cluster.connect().await;
            let level = "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE";
            session.batch_execute(level).await.unwrap();
            let table = if worker % 2 == 0 { "a" } else { "b" };
            let sql = format!(
                "INSERT INTO {table} SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM b)"
            );
            for _ in 0..STATEMENTS {
                // By both protocols.
                if worker < 2 {
                    assert_eq!(changes(&session, &sql).await, 1);
                } else {
                    assert_eq!(session.execute(&sql, &[]).await.unwrap(), 1);
                }
            }
        }
    });
    futures::future::join_all(workers).await;
    let sql = "SELECT n FROM (SELECT n FROM a UNION ALL SELECT n FROM b) ORDER BY n";
    let expected: Vec<String> = (0..WORKERS * STATEMENTS).map(|n| n.to_string()).collect();
    assert_eq!(rows(&client, sql).await, expected);
    assert!(rows(&client, "SELECT * FROM stl_tr_conflict").await.is_empty());
}

#[tokio::test]
async fn the_level_of_the_database_is_the_least_that_everybody_gets() {
    let mut cluster = Cluster::start_own(Options::default());
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    let database = "SELECT db_name, isolation_level FROM stv_db_isolation_level";
    assert_eq!(rows(&first, database).await, ["dev|Snapshot Isolation"]);
    changes(&first, "BEGIN").await;
    changes(&second, "ALTER DATABASE dev ISOLATION LEVEL SERIALIZABLE").await;
    let shown = "SHOW transaction_isolation";
    assert_eq!(rows(&first, shown).await, ["snapshot"], "those that are there keep theirs");
    changes(&first, "COMMIT").await;
    assert_eq!(rows(&first, shown).await, ["serializable"]);
    assert_eq!(rows(&first, "SHOW default_transaction_isolation").await, ["serializable"]);
    changes(&first, "BEGIN ISOLATION LEVEL SNAPSHOT").await;
    assert_eq!(rows(&first, shown).await, ["serializable"]);
    changes(&first, "COMMIT").await;
    drop((first, second));
    cluster.kill();
    cluster.restart();
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    assert_eq!(rows(&first, database).await, ["dev|Serializable"]);
    two_tables(&first).await;
    changes(&first, "BEGIN").await;
    changes(&first, COPY_A_TO_B).await;
    changes(&second, "INSERT INTO a VALUES (2)").await;
    loses(&first, "COMMIT").await;
    changes(&second, "ALTER DATABASE dev ISOLATION LEVEL SNAPSHOT").await;
    assert_eq!(rows(&first, database).await, ["dev|Snapshot Isolation"]);
    assert_eq!(
        change(&first, "ALTER DATABASE prod ISOLATION LEVEL SNAPSHOT").await,
        Err("3D000".to_owned())
    );
    changes(&first, "BEGIN").await;
    let told = change(&first, "ALTER DATABASE dev ISOLATION LEVEL SERIALIZABLE").await;
    assert_eq!(told, Err("25001".to_owned()));
    changes(&first, "ROLLBACK").await;
}

#[tokio::test]
async fn stv_locks_shows_who_holds_a_table_and_who_waits() {
    let (cluster, [first, second, third]) = start().await;
    let watcher = cluster.connect().await;
    let pid = async |client: &Client| rows(client, "SELECT pg_backend_pid()").await.remove(0);
    let pids = [pid(&first).await, pid(&second).await, pid(&third).await];
    let id = rows(&watcher, "SELECT oid FROM pg_class WHERE relname = 'test'").await.remove(0);
    let locks = "SELECT table_id, lock_owner_pid, lock_status, lock_owner_end_ts, \
                 last_update = last_commit, lock_owner_start_ts > last_commit FROM stv_locks";
    assert!(rows(&watcher, locks).await.is_empty());
    changes(&first, "BEGIN").await;
    changes(&second, "BEGIN").await;
    changes(&first, "UPDATE test SET value = 11 WHERE id = 1").await;
    changes(&second, "UPDATE test SET value = 21 WHERE id = 2").await;
    let row = |pid: &str, status: &str| format!("{id}|{pid}|{status}|NULL|t|t");
    let held = [row(&pids[0], "Holding delete lock"), row(&pids[1], "Holding delete lock")];
    assert_eq!(rows(&watcher, locks).await, held);
    changes(&third, "BEGIN").await;
    changes(&third, "INSERT INTO test VALUES (3, 30)").await;
    let adds = [held.as_slice(), &[row(&pids[2], "Holding insert lock")]].concat();
    assert_eq!(rows(&watcher, locks).await, adds);
    let sql = "SELECT txn_owner, txn_db, pid, lock_mode, lockable_object_type, relation, granted \
               FROM svv_transactions ORDER BY pid, lockable_object_type";
    let transaction = |pid: &str, mode: &str| {
        let own = format!("awsuser|dev|{pid}");
        [
            format!("{own}|{mode}|relation|{id}|t"),
            format!("{own}|ExclusiveLock|transactionid|NULL|t"),
        ]
    };
    let shown = [
        transaction(&pids[0], "ShareRowExclusiveLock"),
        transaction(&pids[1], "ShareRowExclusiveLock"),
        transaction(&pids[2], "RowExclusiveLock"),
    ];
    assert_eq!(rows(&watcher, sql).await, shown.concat());
    changes(&third, "ROLLBACK").await;
    let copied = "INSERT INTO test SELECT id + 2, 30 FROM test WHERE id = 1";
    let told = waits(&third, copied, async {
        let waiting = row(&pids[2], "Waiting for write lock");
        let expected = [held[0].clone(), held[1].clone(), waiting];
        assert_eq!(rows(&watcher, locks).await, expected);
        changes(&first, "COMMIT").await;
        changes(&second, "ROLLBACK").await;
    })
    .await;
    assert_eq!(told, Ok(1));
    assert!(rows(&watcher, locks).await.is_empty());
    changes(&first, "BEGIN").await;
    changes(&first, "LOCK test").await;
    assert_eq!(rows(&watcher, locks).await, [row(&pids[0], "Holding write lock")]);
    changes(&first, "ROLLBACK").await;
    // VACUUM is a commit, and no change.
    changes(&watcher, "VACUUM test TO 100 PERCENT").await;
    changes(&first, "BEGIN").await;
    changes(&first, "LOCK test").await;
    let sql = "SELECT last_update < last_commit FROM stv_locks";
    assert_eq!(rows(&watcher, sql).await, ["t"]);
    // Only superusers see it.
    watcher.batch_execute("CREATE USER ann PASSWORD 'Secret12345'").await.unwrap();
    let mut config = cluster.address.config();
    config.user("ann").password("Secret12345");
    let ann = crate::support::cluster::connect(&config).await.unwrap();
    for table in ["stv_locks", "stl_tr_conflict"] {
        let told = change(&ann, &format!("SELECT * FROM {table}")).await;
        assert_eq!(told, Err("42501".to_owned()), "{table}");
    }
}

#[tokio::test]
async fn modes_of_a_transaction_are_set_before_its_first_statement() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    let shown = "SHOW transaction_isolation";
    changes(&client, "BEGIN").await;
    changes(&client, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await;
    assert_eq!(rows(&client, shown).await, ["serializable"]);
    changes(&client, "COMMIT").await;
    assert_eq!(rows(&client, shown).await, ["snapshot"]);
    changes(&client, "BEGIN").await;
    rows(&client, "SELECT 1").await;
    let late = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    assert_eq!(change(&client, late).await, Err("25001".to_owned()));
    changes(&client, "ROLLBACK").await;
    changes(&client, "BEGIN").await;
    changes(&client, "SET TRANSACTION READ ONLY").await;
    assert_eq!(change(&client, "CREATE TABLE t (a int)").await, Err("25006".to_owned()));
    changes(&client, "ROLLBACK").await;
    // Outside a block it would be for nothing, and says so.
    let messages = client.simple_query(late).await.unwrap();
    assert!(matches!(messages.as_slice(), [SimpleQueryMessage::CommandComplete(_)]));
    assert_eq!(rows(&client, shown).await, ["snapshot"]);
}
