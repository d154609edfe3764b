//! The whole run against PostgreSQL, whose answers owe nothing to DuckDB or to Parquet: the rows
//! go in as dbgen's text. It needs PostgreSQL's server programs (Debian package `postgresql`).

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures::SinkExt as _;
use tokio_postgres::NoTls;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
    PartSuppGenerator, RegionGenerator, SupplierGenerator,
};

use super::*;

const SCALE: f64 = 0.01;
/// PostgreSQL refuses to run as root: there it runs as `nobody`.
const NOBODY: u32 = 65_534;

/// Without these the correlated subqueries of Q17 and Q20 scan lineitem once per row.
const INDEXES: &str = "
    CREATE INDEX ON lineitem (l_orderkey); CREATE INDEX ON lineitem (l_partkey, l_suppkey);
    CREATE INDEX ON orders (o_orderkey); CREATE INDEX ON orders (o_custkey);
    CREATE INDEX ON partsupp (ps_partkey); CREATE INDEX ON part (p_partkey);
    CREATE INDEX ON supplier (s_suppkey); CREATE INDEX ON customer (c_custkey); ANALYZE";

/// A PostgreSQL server of its own, on a free port, gone when dropped.
struct Postgres {
    process: std::process::Child,
    url: String,
    _directory: TempDir,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Postgres {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = directory.path().join("data");
        let made = command("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "awsuser", "--auth=trust", "--locale=C", "-E", "UTF8", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = command("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "fsync=off"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("postgres://awsuser@127.0.0.1:{port}/postgres");
        let postgres = Self { process, url, _directory: directory };
        postgres.wait_until_ready().await;
        postgres
    }

    async fn wait_until_ready(&self) {
        for _ in 0..600 {
            if tokio_postgres::connect(&self.url, NoTls).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL did not become ready");
    }

    /// Make and fill the tables.
    async fn load(&self) {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(connection);
        client.batch_execute(&schema()).await.unwrap();
        copy(&client, "region", RegionGenerator::new(SCALE, 1, 1).iter()).await;
        copy(&client, "nation", NationGenerator::new(SCALE, 1, 1).iter()).await;
        copy(&client, "supplier", SupplierGenerator::new(SCALE, 1, 1).iter()).await;
        copy(&client, "customer", CustomerGenerator::new(SCALE, 1, 1).iter()).await;
        copy(&client, "part", PartGenerator::new(SCALE, 1, 1).iter()).await;
        copy(&client, "partsupp", PartSuppGenerator::new(SCALE, 1, 1).iter()).await;
        copy(&client, "orders", OrderGenerator::new(SCALE, 1, 1).iter()).await;
        copy(&client, "lineitem", LineItemGenerator::new(SCALE, 1, 1).iter()).await;
        client.batch_execute(INDEXES).await.unwrap();
    }
}

/// A server program, as a user that it accepts.
fn command(program: &str) -> Command {
    let path = find(program).expect("PostgreSQL is installed (apt-get install postgresql)");
    if !rustix::process::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]).arg(path);
    command.current_dir("/");
    command
}

fn find(program: &str) -> Option<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// `schema.sql` without what only Redshift knows.
fn schema() -> String {
    let lines = include_str!("../schema.sql").lines().map(|line| {
        if line.starts_with(')') {
            return ");".to_owned();
        }
        let comma = if line.ends_with(',') { "," } else { "" };
        line.split(" ENCODE ").next().unwrap().trim_end_matches(',').to_owned() + comma
    });
    lines.filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

async fn copy<R: Display>(
    client: &tokio_postgres::Client,
    table: &str,
    rows: impl Iterator<Item = R>,
) {
    let text: String =
        rows.map(|row| row.to_string().trim_end_matches('|').to_owned() + "\n").collect();
    let sql = format!("COPY {table} FROM STDIN (DELIMITER '|')");
    let sink = client.copy_in::<_, std::io::Cursor<Vec<u8>>>(&sql).await.unwrap();
    let mut sink = Box::pin(sink);
    sink.send(std::io::Cursor::new(text.into_bytes())).await.unwrap();
    sink.close().await.unwrap();
}

fn options(url: &str, json: &Path) -> Options {
    Options {
        scale: SCALE,
        nodes: None,
        slices: None,
        connect: Some(url.to_owned()),
        runs: 1,
        queries: None,
        json: Some(json.to_path_buf()),
        compare: None,
        bucket: "tpch".to_owned(),
        mixed_load: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_right_in_all_22_and_wrong_after_a_change() {
    let postgres = Postgres::start().await;
    postgres.load().await;
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("figures.json");
    let figures = || -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap()
    };
    let outcome = run(options(&postgres.url, &json)).await.unwrap();
    assert_eq!(outcome, Outcome { right: 22, wrong: 0, not_checked: 0 }, "{:#}", figures());
    assert!(outcome.is_success());
    assert!(figures()["queries"].as_array().unwrap().iter().all(|query| query["best_ms"].is_f64()));

    // One cent in one row that most queries over lineitem never show by itself.
    let config = tokio_postgres::Config::from_str(&postgres.url).unwrap();
    let client = Client::connect(config).await.unwrap();
    let change = "UPDATE lineitem SET l_extendedprice = l_extendedprice + 0.01 WHERE ctid = (
        SELECT ctid FROM lineitem WHERE l_shipdate = '1994-06-01' AND l_quantity < 24
        AND l_discount BETWEEN 0.05 AND 0.07 LIMIT 1)";
    client.execute(change).await.unwrap();
    let outcome = run(options(&postgres.url, &json)).await.unwrap();
    let answers = figures();
    for query in [1, 6] {
        assert_eq!(answers["queries"][query - 1]["answer"], "wrong", "Q{query}");
    }
    assert!(!outcome.is_success() && outcome.right > 0, "{outcome:?}");

    // A query that fails is wrong too, and a table of another size is refused.
    client.execute("ALTER TABLE region RENAME COLUMN r_name TO name").await.unwrap();
    run(options(&postgres.url, &json)).await.unwrap();
    let message = figures()["queries"][1]["difference"].as_str().unwrap().to_owned();
    assert!(message.contains("r_name") && message.contains("42703"), "{message}");
    client.execute("DELETE FROM nation WHERE n_nationkey = 7").await.unwrap();
    let refused = run(options(&postgres.url, &json)).await.unwrap_err().to_string();
    assert!(refused.contains("nation holds 24 rows, expected 25"), "{refused}");
}
