//! COPY from object storage, by the real S3 protocol: right counts and sums for every format,
//! errors that lead to the bad value, and nothing of a failed COPY to be seen.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use crate::support::cluster::{Cluster, Options};
use crate::support::object_store::ObjectStore;
use crate::support::program::{psql, python, run};

/// A server, an object store that it may use, and a session with an empty table:
/// `t (id bigint, name varchar(20), price decimal(10,2), day date, at timestamp)`.
struct Loading {
    store: ObjectStore,
    cluster: Cluster,
    client: Client,
}

impl Loading {
    async fn start() -> Loading {
        let store = ObjectStore::start().await;
        let options = Options { environment: store.environment(), ..Options::default() };
        let cluster = Cluster::start_own(options);
        let client = cluster.connect().await;
        let create = "CREATE TABLE t (id bigint, name varchar(20), price decimal(10,2), day date,
            at timestamp) DISTKEY(id) SORTKEY(day)";
        client.batch_execute(create).await.unwrap();
        Loading { store, cluster, client }
    }

    /// COPY t with these options after the keys.
    fn statement(&self, prefix: &str, options: &str) -> String {
        format!("COPY t FROM 's3://load/{prefix}' {} {options}", self.store.keys())
    }

    async fn copy(&self, prefix: &str, options: &str) {
        self.client.batch_execute(&self.statement(prefix, options)).await.unwrap();
    }

    async fn copy_error(&self, prefix: &str, options: &str) -> DbError {
        let error = self.client.batch_execute(&self.statement(prefix, options)).await.unwrap_err();
        error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).clone()
    }

    /// All rows as text, in order.
    async fn rows(&self) -> Vec<String> {
        let sql = "SELECT id, name, price, day, at FROM t ORDER BY id, name";
        let messages = self.client.simple_query(sql).await.unwrap();
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.map(|row| {
            let values = (0..row.len()).map(|column| row.get(column).unwrap_or("NULL"));
            values.collect::<Vec<&str>>().join("|")
        })
        .collect()
    }

    async fn count(&self) -> i64 {
        self.client.query_one("SELECT count(*) FROM t", &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn delimited_text_with_its_options() {
    let loading = Loading::start().await;
    loading
        .store
        .put("plain/a.tbl", "1|one|1.50|2024-02-29|2024-02-29 01:02:03\n2|\\N|\\N|\\N|\\N\n");
    loading.copy("plain/", "").await;
    let head = "number;name;price;day;at\n";
    let line = "3;nil;-0.05;12/31/1999;31.01.2001 23:59\n";
    loading.store.put("special/a.txt", format!("{head}{line}"));
    let options = "DELIMITER ';' IGNOREHEADER 1 NULL AS 'nil' DATEFORMAT 'MM/DD/YYYY' \
        TIMEFORMAT 'DD.MM.YYYY HH:MI'";
    loading.copy("special/", options).await;
    assert_eq!(
        loading.rows().await,
        [
            "1|one|1.50|2024-02-29|2024-02-29 01:02:03",
            "2|NULL|NULL|NULL|NULL",
            "3|NULL|-0.05|1999-12-31|2001-01-31 23:59:00",
        ]
    );
}

#[tokio::test]
async fn csv_with_quotes_and_line_ends_inside() {
    let loading = Loading::start().await;
    let text = "1,\"a,b\",1.00,2024-01-01,2024-01-01 00:00:00\r\n\
        2,\"say \"\"hi\"\"\",2.00,2024-01-02,2024-01-02 00:00:00\r\n\
        3,\"two\nlines\",3.00,2024-01-03,2024-01-03 00:00:00\r\n\
        4,caf\u{e9},4.00,2024-01-04,2024-01-04 00:00:00\r\n";
    loading.store.put("csv/a.csv", text);
    loading.copy("csv/", "CSV").await;
    let rows = loading.rows().await;
    let names: Vec<&str> = rows.iter().map(|row| row.split('|').nth(1).unwrap()).collect();
    assert_eq!(names, ["a,b", "say \"hi\"", "two\nlines", "caf\u{e9}"]);
}

#[tokio::test]
async fn gzip_and_zstd() {
    let loading = Loading::start().await;
    for (part, suffix) in ["a", "b", "c"].iter().enumerate() {
        let text = numbered_lines(part * 1_000, 1_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        loading.store.put(&format!("gzip/{suffix}.gz"), gzip.finish().unwrap());
        let text = numbered_lines(3_000 + part * 1_000, 1_000);
        let zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
        loading.store.put(&format!("zstd/{suffix}.zst"), zstd);
    }
    loading.copy("gzip/", "GZIP").await;
    assert_eq!(loading.count().await, 3_000);
    loading.copy("zstd/", "ZSTD").await;
    assert_eq!(sums(&loading.client).await, expected_sums(6_000));
}

/// Files made by DuckDB, with many row groups, so that slices share one file.
#[tokio::test]
async fn parquet_from_another_engine() {
    let loading = Loading::start().await;
    for file in 0..3 {
        let path = loading.store.path(&format!("parquet/{file}.parquet"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_parquet(&path, file * 50_000, 50_000);
    }
    loading.copy("parquet/", "FORMAT AS PARQUET").await;
    assert_eq!(sums(&loading.client).await, expected_sums(150_000));
}

#[tokio::test]
async fn a_large_text_file_is_split_and_no_line_is_lost_or_doubled() {
    let loading = Loading::start().await;
    loading.store.put("large/a.tbl", numbered_lines(0, 400_000));
    loading.store.put("large/b.tbl", numbered_lines(400_000, 3));
    loading.store.put("large/c.tbl", "");
    loading.copy("large/", "").await;
    assert_eq!(sums(&loading.client).await, expected_sums(400_003));
}

#[tokio::test]
async fn the_source_is_a_prefix_of_keys() {
    let loading = Loading::start().await;
    for (key, first) in [("day/1.tbl", 0), ("day/10.tbl", 10), ("day/2.tbl", 20), ("days.tbl", 30)]
    {
        loading.store.put(key, numbered_lines(first, 10));
    }
    loading.copy("day/1", "").await;
    assert_eq!(loading.count().await, 20, "day/1.tbl and day/10.tbl");
    loading.copy("day", "").await;
    assert_eq!(loading.count().await, 60, "all four");
    let error = loading.copy_error("nothing/here", "").await;
    assert!(error.message().contains("nothing/here"), "{error:?}");
}

#[tokio::test]
async fn a_list_of_columns_leaves_the_others_to_their_defaults() {
    let loading = Loading::start().await;
    let create =
        "CREATE TABLE c (a int, b varchar(10) DEFAULT 'none', c int, d int NOT NULL DEFAULT 7)";
    loading.client.batch_execute(create).await.unwrap();
    loading.store.put("columns/a.tbl", "1|2\n3|4\n");
    let sql = format!("COPY c (c, a) FROM 's3://load/columns/' {}", loading.store.keys());
    loading.client.batch_execute(&sql).await.unwrap();
    let rows = loading.client.query("SELECT a, b, c, d FROM c ORDER BY a", &[]).await.unwrap();
    let rows: Vec<(i32, String, i32, i32)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    assert_eq!(rows, [(2, "none".to_owned(), 1, 7), (4, "none".to_owned(), 3, 7)]);
}

/// Each line that cannot be loaded, with what the error must say: file, line, column, value, and a
/// word of the reason.
#[tokio::test]
async fn a_bad_row_is_named_exactly_and_nothing_is_loaded() {
    let loading = Loading::start().await;
    let cases = [
        ("x1|n|1.00|2024-01-01|2024-01-01 00:00:00", "id", "x1", "nvalid digit"),
        ("1|n|abc|2024-01-01|2024-01-01 00:00:00", "price", "abc", "nvalid digit"),
        ("1|n|123456789.00|2024-01-01|2024-01-01 00:00:00", "price", "123456789.00", ""),
        ("1|n|1.00|2024-13-01|2024-01-01 00:00:00", "day", "2024-13-01", "nvalid"),
        ("1|n|1.00|2024-01-01|yesterday", "at", "yesterday", "nvalid"),
        ("1|123456789012345678901|1.00|2024-01-01|2024-01-01 00:00:00", "name", "12345", ""),
        ("99999999999999999999|n|1.00|2024-01-01|2024-01-01 00:00:00", "id", "99999999999", ""),
        ("1|n|1.00|2024-01-01", "", "", "elimiter"),
        ("1|n|1.00|2024-01-01|2024-01-01 00:00:00|more", "", "", "xtra"),
    ];
    for (number, (line, column, value, reason)) in cases.into_iter().enumerate() {
        let good = numbered_lines(0, 500);
        loading.store.put(&format!("bad{number}/a.tbl"), numbered_lines(1_000, 2_000));
        loading.store.put(&format!("bad{number}/b.tbl"), format!("{good}{line}\n{good}"));
        let error = loading.copy_error(&format!("bad{number}/"), "").await;
        let text = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        for part in [&format!("bad{number}/b.tbl"), "501", column, value, reason] {
            assert!(text.contains(part), "{line}: {part:?} is not in {text:?}");
        }
        assert_eq!(loading.count().await, 0, "nothing of a failed COPY is visible");
    }
}

#[tokio::test]
async fn not_null_and_encoding_are_checked() {
    let loading = Loading::start().await;
    loading.client.batch_execute("CREATE TABLE n (a int NOT NULL, b varchar(5))").await.unwrap();
    loading.store.put("null/a.tbl", "1|a\n\\N|b\n");
    loading.store.put("utf8/a.tbl", b"1|a\n2|\xff\xfe\n");
    loading.store.put("bytes/a.tbl", "1|\u{e9}\u{e9}\n2|\u{e9}\u{e9}\u{e9}\n");
    for prefix in ["null", "utf8", "bytes"] {
        let sql = format!("COPY n FROM 's3://load/{prefix}/' {}", loading.store.keys());
        let error = loading.client.batch_execute(&sql).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        let text = format!("{} {}", error.message(), error.detail().unwrap_or_default());
        assert!(text.contains(&format!("{prefix}/a.tbl")) && text.contains('2'), "{text}");
    }
    let row = loading.client.query_one("SELECT count(*) FROM n", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn options_that_are_not_there_are_refused_by_name() {
    let loading = Loading::start().await;
    loading.store.put("ok/a.tbl", numbered_lines(0, 5));
    for (options, name) in [
        ("FROBNICATE ON", "frobnicate"),
        ("DELIMITER '|' READRATIO 50", "readratio"),
        ("CSV GZIP MAXIMUMERROR 5", "maximumerror"),
    ] {
        let error = loading.copy_error("ok/", options).await;
        let text = format!("{} {:?} {:?}", error.message(), error.detail(), error.hint());
        assert!(text.to_lowercase().contains(name), "{text}");
    }
    assert_eq!(loading.count().await, 0);
}

#[tokio::test]
async fn only_object_storage_can_be_a_source() {
    let loading = Loading::start().await;
    for source in [
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:1/x",
        "https://example.com/x",
        "s3:///x",
        "s3://load/../../etc/passwd",
        "gs://bucket/x",
    ] {
        let sql = format!("COPY t FROM '{source}' {}", loading.store.keys());
        let error = loading.client.batch_execute(&sql).await.unwrap_err();
        assert!(error.as_db_error().is_some(), "{source}: {error:?}");
        assert!(!error.to_string().contains("root:"), "{source}");
    }
    assert_eq!(loading.count().await, 0);
}

#[tokio::test]
async fn an_endpoint_that_the_operator_did_not_allow_is_refused() {
    let loading = Loading::start().await;
    loading.store.put("ok/a.tbl", numbered_lines(0, 5));
    for options in ["ENDPOINT 'http://127.0.0.1:1'", "ENDPOINT_URL 'http://127.0.0.1:1'"] {
        loading.copy_error("ok/", options).await;
    }
    let error = loading
        .client
        .batch_execute(&format!("COPY t FROM 's3://other-bucket/x' {}", loading.store.keys()))
        .await
        .unwrap_err();
    assert!(error.as_db_error().is_some(), "{error:?}");
}

#[tokio::test]
async fn keys_in_every_form_and_never_in_the_log() {
    let loading = Loading::start().await;
    loading.store.put("ok/a.tbl", numbered_lines(0, 10));
    let (access, secret) = (loading.store.access_key(), loading.store.secret_key());
    let credentials = format!("aws_access_key_id={access};aws_secret_access_key={secret}");
    for authorization in [
        loading.store.keys(),
        format!("CREDENTIALS '{credentials}'"),
        format!("WITH CREDENTIALS AS '{credentials}'"),
        "IAM_ROLE default".to_owned(),
        "IAM_ROLE 'arn:aws:iam::123456789012:role/loader'".to_owned(),
    ] {
        let sql = format!("COPY t FROM 's3://load/ok/' {authorization} DELIMITER '|'");
        loading.client.batch_execute(&sql).await.unwrap_or_else(|error| {
            panic!("{authorization}: {error:?}");
        });
    }
    assert_eq!(loading.count().await, 50);
    let wrong = format!("ACCESS_KEY_ID '{access}' SECRET_ACCESS_KEY 'wrongwrongwrongwrong'");
    let sql = format!("COPY t FROM 's3://load/ok/' {wrong}");
    let error = loading.client.batch_execute(&sql).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(!text.contains("wrongwrong"), "{text}");
    assert_eq!(loading.count().await, 50);
    let log = loading.cluster.log();
    assert!(!log.contains(secret) && !log.contains("wrongwrong"), "a key is in the log");
}

#[tokio::test]
async fn a_copy_is_part_of_its_transaction() {
    let loading = Loading::start().await;
    loading.store.put("ok/a.tbl", numbered_lines(0, 10));
    loading.client.batch_execute("BEGIN").await.unwrap();
    loading.copy("ok/", "").await;
    assert_eq!(loading.count().await, 10);
    loading.client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(loading.count().await, 0);
    loading.client.batch_execute("BEGIN").await.unwrap();
    loading.copy("ok/", "").await;
    loading.copy("ok/", "").await;
    loading.client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(loading.count().await, 20);
}

#[tokio::test]
async fn a_copy_that_is_cancelled_leaves_nothing() {
    let loading = Loading::start().await;
    let text = numbered_lines(0, 400_000);
    for file in 0..4 {
        loading.store.put(&format!("much/{file}.tbl"), &text);
    }
    let statement = loading.statement("much/", "");
    let begun = std::time::Instant::now();
    loading.client.batch_execute(&statement).await.unwrap();
    let whole = begun.elapsed();
    assert_eq!(loading.count().await, 1_600_000);
    let token = loading.client.cancel_token();
    let (result, ()) = futures::join!(loading.client.batch_execute(&statement), async {
        tokio::time::sleep(whole / 3).await;
        token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    });
    assert_eq!(result.unwrap_err().code().unwrap().code(), "57014");
    assert_eq!(loading.count().await, 1_600_000, "only the first COPY is there");
    loading.copy("much/0", "").await;
    assert_eq!(loading.count().await, 2_000_000);
}

/// The object store runs beside the test, which waits for psql without giving way.
#[tokio::test(flavor = "multi_thread")]
async fn psql_shows_how_many_rows_were_loaded() {
    let loading = Loading::start().await;
    loading.store.put("ok/a.tbl", numbered_lines(0, 10));
    let mut command = psql(&loading.cluster.address);
    let finished = run(command.arg("-c").arg(loading.statement("ok/", "")), "");
    let notice = "Load into table 't' completed, 10 record(s) loaded successfully.";
    assert!(finished.stderr.contains(notice), "{}", finished.stderr);
    assert!(finished.status.success());
}

#[tokio::test]
async fn damaged_files_are_errors() {
    let loading = Loading::start().await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(numbered_lines(0, 5_000).as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    loading.store.put("cut/a.gz", &gzip[..gzip.len() / 2]);
    loading.copy_error("cut/", "GZIP").await;
    loading.store.put("text/a.gz", "1|not compressed\n");
    loading.copy_error("text/", "GZIP").await;
    loading.store.put("zst/a.zst", "neither is this");
    loading.copy_error("zst/", "ZSTD").await;
    loading.store.put("parquet/a.parquet", "PAR1 and nothing more PAR1");
    loading.copy_error("parquet/", "FORMAT AS PARQUET").await;
    assert_eq!(loading.count().await, 0);
}

/// Lines of `t` with ids from `first`: the price is the id modulo 1000 in cents, the day counts on
/// from 2000-01-01.
fn numbered_lines(first: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * 60);
    for id in first..first + count {
        let (cents, day) = (id % 1_000, id % 28 + 1);
        text.push_str(&format!(
            "{id}|name {id}|{}.{:02}|2000-01-{day:02}|2000-01-{day:02} 12:00:00\n",
            cents / 100,
            cents % 100
        ));
    }
    text
}

/// The same rows as [`numbered_lines`], as DuckDB writes them.
fn write_parquet(path: &Path, first: usize, count: usize) {
    let select = format!(
        "SELECT i::BIGINT AS id, 'name ' || i AS name, (i % 1000 / 100.0)::DECIMAL(10,2) AS price, \
         DATE '2000-01-01' + (i % 28)::INTEGER AS day, \
         TIMESTAMP '2000-01-01 12:00:00' + to_days((i % 28)::INTEGER) AS at \
         FROM range({first}, {}) numbers(i)",
        first + count
    );
    let script = format!(
        "import duckdb\nduckdb.sql(\"\"\"COPY ({select}) TO '{}' (FORMAT parquet, \
         ROW_GROUP_SIZE 10240)\"\"\")\n",
        path.display()
    );
    run(Command::new(python()).args(["-c", &script]), "").expect_success();
}

/// Count, sum of ids, sum of prices, number of days, and the longest name.
async fn sums(client: &Client) -> (i64, i64, String, i64, i64) {
    let sql = "SELECT count(*), sum(id)::bigint, sum(price)::varchar, count(DISTINCT day),
        max(length(name))::bigint FROM t";
    let row = client.query_one(sql, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))
}

fn expected_sums(count: i64) -> (i64, i64, String, i64, i64) {
    let cents: i64 = (0..count).map(|id| id % 1_000).sum();
    let longest = format!("name {}", count - 1).len();
    (
        count,
        count * (count - 1) / 2,
        format!("{}.{:02}", cents / 100, cents % 100),
        28,
        i64::try_from(longest).unwrap(),
    )
}
