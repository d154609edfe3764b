//! The process: how it starts, what it leaves on disk, how it stops.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::support::cluster::{Cluster, Options, binary};

#[tokio::test]
async fn sigterm_ends_it_cleanly_and_the_data_stays() {
    let mut cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    client.batch_execute("CREATE TABLE t (a bigint); INSERT INTO t VALUES (41)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let status = cluster.stop();
    assert_eq!(status.code(), Some(0), "also with a session and a transaction open");
    cluster.restart();
    let client = cluster.connect().await;
    let row = client.query_one("SELECT sum(a)::bigint FROM t", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 41);
}

#[tokio::test]
async fn sigint_ends_it_cleanly() {
    let mut cluster = Cluster::start_own(Options::default());
    assert_eq!(cluster.stop_with("INT").code(), Some(0));
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let cluster = Cluster::start_own(Options::default());
    let output = Command::new(binary())
        .args(["start", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(cluster.data_directory())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("ready:"));
    cluster.connect().await.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn without_a_password_one_is_made_and_only_the_owner_can_read_it() {
    let mut options = Options::default();
    options.environment.push(("BLUESHIFT_PASSWORD".to_owned(), String::new()));
    let mut cluster = Cluster::start_own(options);
    let file = cluster.data_directory().join("initial-password");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let password = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(password.len() >= 12, "{} characters", password.len());
    assert!(!cluster.log().contains(&password), "the log is no place for a password");
    cluster.address.password = password;
    cluster.connect().await.simple_query("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn the_password_is_not_kept_in_clear() {
    let cluster = Cluster::start_own(Options::default());
    cluster.connect().await.simple_query("SELECT 1").await.unwrap();
    let password = crate::support::cluster::PASSWORD.as_bytes();
    for file in files_below(&cluster.data_directory()) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(password.len()).any(|window| window == password);
        assert!(!found, "{} holds the password", file.display());
    }
}

#[tokio::test]
async fn the_first_query_after_a_restart_does_not_wait_for_the_data() {
    let mut cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    crate::native::digits(&client).await;
    let sql = "CREATE TABLE big AS SELECT a.d * 100000 + b.d * 10000 + c.d * 1000 + d.d * 100
        + e.d * 10 + f.d AS n FROM digits a, digits b, digits c, digits d, digits e, digits f";
    client.batch_execute(sql).await.unwrap();
    assert_eq!(cluster.stop().code(), Some(0));
    let begun = std::time::Instant::now();
    cluster.restart();
    let client = cluster.connect().await;
    let row = client.query_one("SELECT count(*) FROM big", &[]).await.unwrap();
    let took = begun.elapsed();
    assert_eq!(row.get::<_, i64>(0), 1_000_000);
    eprintln!("first answer {took:?} after the restart began");
    assert!(took < std::time::Duration::from_secs(15), "{took:?}");
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files
}
