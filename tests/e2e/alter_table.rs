//! ALTER TABLE as several sessions see it, and over a restart. What one session sees of its own is in
//! `tests/slt`.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::cluster::{Cluster, Options, connect};

/// The rows as psql -A -t shows them, in order.
async fn rows(client: &Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).await.unwrap();
    let text = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let cells = (0..row.len()).map(|at| row.get(at).unwrap_or("").to_owned());
            Some(cells.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    };
    let mut rows: Vec<String> = messages.iter().filter_map(text).collect();
    rows.sort();
    rows
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// A transaction that began before goes on reading what it saw, and writes nothing for columns that
/// are different by now.
#[tokio::test]
async fn an_older_transaction_reads_and_does_not_write() {
    let cluster = Cluster::start();
    let (older, other) = (cluster.connect().await, cluster.connect().await);
    run(&other, "CREATE TABLE t (a bigint, b int); INSERT INTO t VALUES (1, 2)").await;
    run(&older, "BEGIN").await;
    assert_eq!(rows(&older, "SELECT * FROM t").await, ["1|2"]);
    run(&other, "ALTER TABLE t ADD COLUMN c int NOT NULL DEFAULT 7").await;
    run(&other, "ALTER TABLE t DROP COLUMN b").await;
    assert_eq!(rows(&other, "SELECT * FROM t").await, ["1|7"]);
    assert_eq!(rows(&older, "SELECT * FROM t").await, ["1|2"]);
    let error = older.batch_execute("INSERT INTO t VALUES (3, 4)").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!((error.code().code(), error.message()), ("XX000", "1023"));
    run(&older, "ROLLBACK").await;
    run(&older, "INSERT INTO t VALUES (3, 4)").await;
    assert_eq!(rows(&other, "SELECT * FROM t").await, ["1|7", "3|4"]);
}

/// Whoever waits for a table writes to the one that has its name when the wait is over.
#[tokio::test]
async fn a_waiting_writer_follows_the_name() {
    let cluster = Cluster::start();
    let (swapper, writer) = (cluster.connect().await, cluster.connect().await);
    run(&swapper, "CREATE TABLE t (a bigint); CREATE TABLE t_new (a bigint, b int)").await;
    for swap in [
        "ALTER TABLE t RENAME TO t_old; ALTER TABLE t_new RENAME TO t",
        "CREATE TABLE t_new (a bigint, b int); ALTER TABLE t RENAME TO t_older;
         ALTER TABLE t_new RENAME TO t; DROP TABLE t_older",
    ] {
        run(&swapper, &format!("BEGIN; {swap}")).await;
        let insert = writer.batch_execute("INSERT INTO t VALUES (1, 2)");
        let commit = async {
            // The other waits for the lock; should it not yet, it finds the new table all the same.
            tokio::time::sleep(Duration::from_millis(200)).await;
            run(&swapper, "COMMIT").await;
        };
        let (inserted, ()) = tokio::join!(insert, commit);
        inserted.unwrap();
        assert_eq!(rows(&swapper, "SELECT * FROM t").await, ["1|2"]);
    }
    assert_eq!(rows(&swapper, "SELECT * FROM t_old").await, [""; 0]);
    // Nothing of that name is left when the wait is over.
    run(&swapper, "BEGIN; ALTER TABLE t RENAME TO u").await;
    let waiting = async {
        let dropped = writer.batch_execute("DROP TABLE IF EXISTS t").await;
        (dropped, writer.batch_execute("INSERT INTO t VALUES (1, 2)").await)
    };
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        run(&swapper, "COMMIT").await;
    };
    let ((dropped, inserted), ()) = tokio::join!(waiting, commit);
    dropped.unwrap();
    assert_eq!(inserted.unwrap_err().code().unwrap().code(), "42P01");
    assert_eq!(rows(&swapper, "SELECT * FROM u").await, ["1|2"]);
}

/// A default is for all rows that are there, also for those that the transaction does not see.
#[tokio::test]
async fn a_new_column_does_not_pass_over_rows_of_others() {
    let cluster = Cluster::start();
    let (older, other) = (cluster.connect().await, cluster.connect().await);
    run(&other, "CREATE TABLE t (a bigint); CREATE TABLE u (a bigint)").await;
    for column in ["b int DEFAULT 7", "b int NOT NULL", "b int NOT NULL DEFAULT 7"] {
        run(&older, "BEGIN").await;
        assert_eq!(rows(&older, "SELECT count(*) FROM u").await, ["0"]);
        run(&other, "INSERT INTO t VALUES (1)").await;
        let alter = format!("ALTER TABLE t ADD COLUMN {column}");
        let error = older.batch_execute(&alter).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!((error.code().code(), error.message()), ("XX000", "1023"));
        run(&older, "ROLLBACK").await;
    }
    // Nor does a row of an old transaction go into the table that was renamed.
    run(&older, "BEGIN").await;
    assert_eq!(rows(&older, "SELECT count(*) FROM u").await, ["0"]);
    run(&other, "ALTER TABLE u RENAME TO u_old; CREATE TABLE u (a bigint)").await;
    let error = older.batch_execute("INSERT INTO u VALUES (1)").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "1023");
    run(&older, "ROLLBACK").await;
}

/// Rows are written anew only by whoever sees them all: none of others is lost, and none that was
/// deleted comes back.
#[tokio::test]
async fn rows_are_arranged_anew_as_they_are() {
    let cluster = Cluster::start();
    let (older, other) = (cluster.connect().await, cluster.connect().await);
    run(&other, "CREATE TABLE t (a bigint, b int); INSERT INTO t VALUES (1, 1), (2, 2)").await;
    for change in ["INSERT INTO t VALUES (3, 3)", "DELETE FROM t WHERE a = 1"] {
        run(&older, "BEGIN").await;
        rows(&older, "SELECT count(*) FROM t").await;
        run(&other, change).await;
        let error = older.batch_execute("ALTER TABLE t ALTER DISTKEY b").await.unwrap_err();
        assert_eq!(error.as_db_error().unwrap().message(), "1023");
        run(&older, "ROLLBACK").await;
    }
    // Readers go on with what they saw.
    run(&older, "BEGIN").await;
    assert_eq!(rows(&older, "SELECT a FROM t").await, ["2", "3"]);
    run(&other, "ALTER TABLE t ALTER SORTKEY (b), ALTER DISTSTYLE ALL").await;
    run(&other, "DELETE FROM t WHERE a = 3").await;
    assert_eq!(rows(&older, "SELECT a FROM t").await, ["2", "3"]);
    run(&older, "COMMIT").await;
    assert_eq!(rows(&older, "SELECT a FROM t").await, ["2"]);
}

/// A table that was given to somebody else meanwhile is not the user's any more.
#[tokio::test]
async fn whoever_waits_for_a_table_must_own_it_still() {
    let cluster = Cluster::start();
    let owner = cluster.connect().await;
    run(&owner, "CREATE USER alice PASSWORD 'Abcdef123'; CREATE USER bob PASSWORD 'Abcdef123'")
        .await;
    run(&owner, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    run(&owner, "ALTER TABLE t OWNER TO alice").await;
    let mut config = cluster.address.config();
    config.user("alice").password("Abcdef123");
    let alice = connect(&config).await.unwrap();
    run(&owner, "BEGIN; ALTER TABLE t OWNER TO bob").await;
    let drop_it = alice.batch_execute("DROP TABLE t");
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        run(&owner, "COMMIT").await;
    };
    let (dropped, ()) = tokio::join!(drop_it, commit);
    assert_eq!(dropped.unwrap_err().code().unwrap().code(), "42501");
    assert_eq!(rows(&owner, "SELECT a FROM t").await, ["1"]);
    // A user who is dropped at the same time gets no table.
    run(&owner, "CREATE USER carol PASSWORD 'Abcdef123'").await;
    run(&owner, "BEGIN; ALTER TABLE t OWNER TO carol").await;
    run(&cluster.connect().await, "DROP USER carol").await;
    let error = owner.batch_execute("COMMIT").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42704");
}

/// What a new foreign key needs stays until it is there, and is needed from then on.
#[tokio::test]
async fn a_table_is_not_dropped_while_a_key_to_it_is_made() {
    let cluster = Cluster::start();
    let (maker, dropper) = (cluster.connect().await, cluster.connect().await);
    run(&maker, "CREATE TABLE parent (a int PRIMARY KEY)").await;
    run(&maker, "BEGIN; CREATE TABLE child (a int REFERENCES parent)").await;
    let drop_it = dropper.batch_execute("DROP TABLE parent");
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        run(&maker, "COMMIT").await;
    };
    let (dropped, ()) = tokio::join!(drop_it, commit);
    let error = dropped.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "2BP01");
    let detail = "constraint child_a_fkey on table child depends on table parent";
    assert_eq!(error.detail(), Some(detail));
    run(&dropper, "BEGIN; DROP TABLE parent CASCADE").await;
    let make = maker.batch_execute("CREATE TABLE other (a int REFERENCES parent)");
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        run(&dropper, "COMMIT").await;
    };
    let (made, ()) = tokio::join!(make, commit);
    assert_eq!(made.unwrap_err().code().unwrap().code(), "42P01");
    assert_eq!(rows(&maker, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'").await, ["0"]);
}

/// A key to a table that is altered at the same moment is one to the table as it is then.
#[tokio::test]
async fn a_key_to_a_table_that_changes_waits_for_the_change() {
    let cluster = Cluster::start();
    let (maker, other) = (cluster.connect().await, cluster.connect().await);
    run(&other, "CREATE TABLE parent (a int PRIMARY KEY)").await;
    run(&other, "BEGIN; ALTER TABLE parent ADD COLUMN b int; ALTER TABLE parent ADD UNIQUE (b)")
        .await;
    let make = maker.batch_execute("CREATE TABLE child (c int REFERENCES parent (b))");
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        run(&other, "COMMIT").await;
    };
    let (made, ()) = tokio::join!(make, commit);
    made.unwrap();
    let error = other.batch_execute("ALTER TABLE parent DROP COLUMN b").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "2BP01");
    // A key goes with its table, though somebody else drops that.
    run(&other, "BEGIN; DROP TABLE child").await;
    let drop_it = maker.batch_execute("DROP TABLE parent CASCADE");
    let commit = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        run(&other, "COMMIT").await;
    };
    let (dropped, ()) = tokio::join!(drop_it, commit);
    dropped.unwrap();
    let left = "SELECT count(*) FROM pg_class WHERE relname IN ('parent', 'child')";
    assert_eq!(rows(&maker, left).await, ["0"]);
}

/// A statement that was prepared before sees the table as it is.
#[tokio::test]
async fn prepared_statements_see_the_new_definition() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    run(&client, "CREATE TABLE t (a bigint, b int); INSERT INTO t VALUES (1, 2)").await;
    let sum = client.prepare("SELECT sum(a)::bigint FROM t WHERE a > $1").await.unwrap();
    let insert = client.prepare("INSERT INTO t (a) VALUES ($1)").await.unwrap();
    let all = client.prepare("SELECT * FROM t").await.unwrap();
    run(&client, "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN c int DEFAULT 5").await;
    client.execute(&insert, &[&2_i64]).await.unwrap();
    let row = client.query_one(&sum, &[&0_i64]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 3);
    assert_eq!(rows(&client, "SELECT * FROM t").await, ["1|5", "2|5"]);
    // Its columns were told already, and they are others now.
    let error = client.query(&all, &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "0A000");
    run(&client, "ALTER TABLE t RENAME TO u").await;
    let error = client.query_one(&sum, &[&0_i64]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42P01");
}

#[tokio::test]
async fn definitions_survive_a_restart() {
    for nodes in [1, 2] {
        let arguments = vec!["--nodes".to_owned(), nodes.to_string()];
        let options = Options { arguments, ..Options::default() };
        let mut cluster = Cluster::start_own(options);
        let client = cluster.connect().await;
        run(&client, "CREATE TABLE t (a bigint PRIMARY KEY, b int, c varchar(3) DISTKEY)").await;
        let values: Vec<String> = (0..100).map(|n| format!("({n}, {}, 'abc')", n % 3)).collect();
        run(&client, &format!("INSERT INTO t VALUES {}", values.join(", "))).await;
        for change in [
            "DROP COLUMN b",
            "ADD COLUMN d int DEFAULT 4",
            "ADD COLUMN b int",
            "RENAME COLUMN a TO number",
            "ALTER COLUMN c TYPE varchar(30)",
            "ALTER DISTKEY number, ALTER SORTKEY (number)",
            "RENAME TO u",
        ] {
            run(&client, &format!("ALTER TABLE t {change}")).await;
        }
        run(&client, "BEGIN; ALTER TABLE u DROP COLUMN d; ROLLBACK").await;
        run(&client, "INSERT INTO u VALUES (1000, 'something longer', 5, 6)").await;
        run(&client, "VACUUM u").await;
        let query = "SELECT count(*), sum(number), max(c), sum(d), count(b) FROM u";
        let expected = ["101|5950|something longer|405|1"];
        assert_eq!(rows(&client, query).await, expected);
        cluster.kill();
        cluster.restart();
        let client = cluster.connect().await;
        assert_eq!(rows(&client, query).await, expected);
        run(&client, "ALTER TABLE u DROP COLUMN b").await;
        assert_eq!(rows(&client, "SELECT * FROM u WHERE number = 1000").await.len(), 1);
    }
}
