//! The system catalog as psql's commands and drivers read it.

use crate::support::cluster::Cluster;
use crate::support::program::{psql, run};

const TABLES: &str = "CREATE SCHEMA sales;
CREATE TABLE sales.hidden (a int);
CREATE TABLE item (id int NOT NULL, name varchar(20) DEFAULT 'none', price decimal(8,2));
CREATE TABLE word (w char(3), day date, at timestamp, big bigint, small smallint, yes boolean);
";

/// Rows of a command of psql, without its warning about the server's age.
fn command(cluster: &Cluster, command: &str) -> String {
    let mut program = psql(&cluster.address);
    let finished = run(&mut program, &format!("{command}\n"));
    assert!(!finished.stderr.contains("ERROR"), "{command}: {}", finished.stderr);
    finished.expect_success()
}

fn with_tables() -> Cluster {
    let cluster = Cluster::start();
    command(&cluster, TABLES);
    cluster
}

#[test]
fn psql_lists_tables_schemas_databases_and_users() {
    let cluster = with_tables();
    if cluster.is_foreign() {
        return; // its owners and databases are others
    }
    let tables = "public|item|table|awsuser\npublic|word|table|awsuser\n";
    assert_eq!(command(&cluster, "\\dt"), tables);
    assert_eq!(command(&cluster, "\\d"), tables);
    assert_eq!(command(&cluster, "\\dt sales.*"), "sales|hidden|table|awsuser\n");
    assert_eq!(command(&cluster, "\\dn"), "public|awsuser\nsales|awsuser\n");
    assert_eq!(command(&cluster, "\\l"), "dev|awsuser|UTF8|C|C.UTF-8||libc|\n");
    assert_eq!(command(&cluster, "\\du"), "awsuser|Superuser, Create role, Create DB|{}\n");
    assert_eq!(command(&cluster, "\\dv"), "");
    assert_eq!(command(&cluster, "\\di"), "");
    assert_eq!(command(&cluster, "\\df"), "");
    assert_eq!(command(&cluster, "\\dT"), "");
}

/// What `\d` prints of PostgreSQL's own tables with these columns.
#[test]
fn psql_describes_a_table() {
    let cluster = with_tables();
    let item = "id|integer||not null|\nname|character varying(20)|||'none'";
    let described = command(&cluster, "\\d item");
    assert!(described.starts_with(item), "{described}");
    assert!(described.contains("price|numeric(8,2)|||\n"), "{described}");
    let word = "w|character(3)|||\nday|date|||\nat|timestamp without time zone|||\n\
        big|bigint|||\nsmall|smallint|||\nyes|boolean|||\n";
    assert_eq!(command(&cluster, "\\d word"), word);
    assert!(command(&cluster, "\\d sales.hidden").starts_with("a|integer|||"));
    let system = command(&cluster, "\\d pg_catalog.pg_namespace");
    assert!(system.contains("nspname|name||"), "{system}");
}

#[tokio::test]
async fn queries_of_the_catalog_are_ordinary_queries() {
    let cluster = with_tables();
    let client = cluster.connect().await;
    client.batch_execute("INSERT INTO item VALUES (1, 'x', 2.00)").await.unwrap();
    // Joined with a table of a user, with aggregates, and with names of types from three sources.
    let sql = "SELECT i.name, c.relname, count(*)
        FROM item i, pg_catalog.pg_class c
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' GROUP BY 1, 2 ORDER BY 2";
    let rows = client.query(sql, &[]).await.unwrap();
    let rows: Vec<(String, String, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let row = |table: &str, columns| ("x".to_owned(), table.to_owned(), columns);
    assert_eq!(rows, [row("item", 3), row("word", 6)]);
    let sql = "SELECT count(*) FROM pg_class WHERE oid = 'item'::regclass
        AND oid::regclass::text = 'item' AND pg_get_userbyid(relowner) = current_user";
    assert_eq!(client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0), 1);
    let sql = "SELECT current_schema(), current_setting('server_encoding'),
        has_table_privilege('item', 'select'), quote_ident('Big'), format_type(1043, 24)";
    let row = client.query_one(sql, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "public");
    assert_eq!(row.get::<_, &str>(1), "UTF8");
    assert!(row.get::<_, bool>(2));
    assert_eq!(row.get::<_, &str>(3), "\"Big\"");
    assert_eq!(row.get::<_, &str>(4), "character varying(20)");
}

#[tokio::test]
async fn correlated_subqueries_give_one_value_null_or_an_error() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    client
        .batch_execute(
            "CREATE TABLE o (k int, v int); INSERT INTO o VALUES (1, 10), (2, 20), (NULL, 30);
             CREATE TABLE i (k int, w int); INSERT INTO i VALUES (1, 5), (3, 7), (9, NULL)",
        )
        .await
        .unwrap();
    let values = |rows: Vec<tokio_postgres::Row>| -> Vec<Option<i32>> {
        rows.iter().map(|row| row.get(0)).collect()
    };
    let sql = "SELECT (SELECT i.w + o.v FROM i WHERE i.k = o.k) FROM o ORDER BY v";
    assert_eq!(values(client.query(sql, &[]).await.unwrap()), [Some(15), None, None]);
    // A condition that is no equality, and one on the outside alone.
    let sql = "SELECT (SELECT i.w FROM i WHERE i.k > o.k AND i.k < 5 AND o.v < 25) FROM o \
        WHERE v > 10 ORDER BY v";
    assert_eq!(values(client.query(sql, &[]).await.unwrap()), [Some(7), None]);
    let sql = "SELECT v FROM o WHERE (SELECT i.w FROM i WHERE i.k = o.k) = 5 OR v = 30 ORDER BY v";
    assert_eq!(values(client.query(sql, &[]).await.unwrap()), [Some(10), Some(30)]);
    let error =
        client.query("SELECT (SELECT i.w FROM i WHERE i.k > o.k) FROM o", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "21000", "{error:?}");
}

#[tokio::test]
async fn the_system_catalog_cannot_be_changed() {
    let cluster = Cluster::start();
    if cluster.is_foreign() {
        return; // a superuser of PostgreSQL may do some of this
    }
    let client = cluster.connect().await;
    for (sql, code) in [
        ("INSERT INTO pg_catalog.pg_user VALUES ('x')", "42501"),
        ("INSERT INTO pg_class (relname) VALUES ('x')", "42501"),
        ("DROP TABLE pg_class", "42501"),
        ("TRUNCATE pg_type", "42501"),
        ("CREATE TABLE pg_catalog.mine (a int)", "42501"),
        ("CREATE SCHEMA pg_mine", "42939"),
        ("DROP SCHEMA pg_catalog CASCADE", "2BP01"),
        ("SELECT * FROM pg_catalog.nothing", "42P01"),
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), code, "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn numbers_of_objects_stay_over_a_restart() {
    let mut cluster = Cluster::start_own(crate::support::cluster::Options::default());
    let sql = "SELECT relname, oid::bigint FROM pg_class ORDER BY relname";
    let listed = async |cluster: &Cluster| -> Vec<(String, i64)> {
        let rows = cluster.connect().await.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    command(&cluster, TABLES);
    let before = listed(&cluster).await;
    cluster.kill();
    cluster.restart();
    assert_eq!(listed(&cluster).await, before);
    assert!(before.iter().any(|(name, _)| name == "item"), "{before:?}");
}

#[tokio::test]
async fn keys_are_listed_and_shown() {
    let cluster = Cluster::start();
    let client = cluster.connect().await;
    let create = "CREATE TABLE p (a int, b int, PRIMARY KEY (a, b));
        CREATE TABLE f (x int UNIQUE, y int, FOREIGN KEY (x, y) REFERENCES p (a, b))";
    client.batch_execute(create).await.unwrap();
    let sql = "SELECT conname, contype::text, pg_get_constraintdef(c.oid), t.relname
        FROM pg_constraint c LEFT JOIN pg_class t ON t.oid = c.confrelid
        WHERE conrelid IN ('p'::regclass, 'f'::regclass) ORDER BY conname";
    let rows = client.query(sql, &[]).await.unwrap();
    let rows: Vec<(String, String, String, Option<String>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let row = |name: &str, kind: &str, text: &str, table: Option<&str>| {
        (name.to_owned(), kind.to_owned(), text.to_owned(), table.map(str::to_owned))
    };
    let foreign = "FOREIGN KEY (x, y) REFERENCES p(a, b)";
    assert_eq!(
        rows,
        [
            row("f_x_key", "u", "UNIQUE (x)", None),
            row("f_x_y_fkey", "f", foreign, Some("p")),
            row("p_pkey", "p", "PRIMARY KEY (a, b)", None),
        ]
    );
}
