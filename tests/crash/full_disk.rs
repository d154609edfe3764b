//! A start on a full disk. What was acknowledged is answered, what has to be written is refused with
//! 53100, and when there is space again it is written, without another start.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use tokio_postgres::Client;

use crate::disk::Disk;
use crate::server::Server;
use crate::worker::rows;

const DISK_BYTES: u64 = 64 << 20;
const FULL: &str = "53100 ";
const COUNT: &str = "SELECT count(*), sum(n) FROM t";

/// How the server ended before the disk was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself: all is in the catalog's file.
    Stop,
    /// By SIGKILL: the last commits are in the catalog's write-ahead log.
    Kill,
}

/// A server of one node that ends, finds its disk full and gets space again.
///
/// # Errors
/// Tells what is wrong, and what the server had to say.
pub(crate) async fn check(end: End) -> Result<(), String> {
    let directory = tempfile::Builder::new().prefix("blueshift-full-").tempdir().unwrap();
    let disk = Disk::new(directory.path(), DISK_BYTES, false);
    let arguments = vec!["--slices".to_owned(), "2".to_owned()];
    let data = disk.path().join("data");
    let mut server = Server::new(data, directory.path(), arguments, Vec::new());
    let done = go(&mut server, &disk, end).await;
    server.kill();
    done.map_err(|complaint| format!("{complaint}\n{}", server.last_words()))
}

async fn go(server: &mut Server, disk: &Disk, end: End) -> Result<(), String> {
    server.start(&[])?;
    let client = connect(server).await?;
    for sql in [
        "CREATE TABLE t (n bigint, word varchar(20))",
        "INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four')",
        "DELETE FROM t WHERE n = 3",
    ] {
        rows(&client, sql).await?;
    }
    drop(client);
    match end {
        End::Stop => server.stop()?,
        End::Kill => server.kill(),
    }
    fill(disk.path());
    server.start(&[]).map_err(|reason| format!("no start on a full disk: {reason}"))?;
    let client = connect(server).await?;
    // What the start has given back, as by emptying the write-ahead log.
    let filler = fill(disk.path());
    for _ in 0..3 {
        expect(&client, COUNT, &["3", "7"]).await?;
        for sql in [
            "INSERT INTO t VALUES (5, 'five')",
            "DELETE FROM t WHERE n = 1",
            "UPDATE t SET word = 'other' WHERE n = 2",
            "CREATE TABLE other (n int)",
            "CREATE TABLE other AS SELECT * FROM t",
        ] {
            match rows(&client, sql).await {
                Err(error) if error.starts_with(FULL) => {}
                answer => return Err(format!("{sql} on a full disk: {answer:?}")),
            }
        }
        expect(&client, "SELECT word FROM t WHERE n = 2", &["two"]).await?;
    }
    std::fs::remove_file(filler).unwrap();
    File::open(disk.path()).and_then(|root| root.sync_all()).unwrap();
    rows(&client, "INSERT INTO t VALUES (5, 'five')").await?;
    rows(&client, "DELETE FROM t WHERE n = 1").await?;
    rows(&client, "CREATE TABLE other AS SELECT * FROM t").await?;
    expect(&client, COUNT, &["3", "11"]).await?;
    drop(client);
    // All of it is durable, and nothing else is there.
    server.kill();
    if let Some(damage) = server.damage() {
        return Err(damage);
    }
    server.start(&[])?;
    let client = connect(server).await?;
    expect(&client, COUNT, &["3", "11"]).await?;
    expect(&client, "SELECT count(*), sum(n) FROM other", &["3", "11"]).await?;
    drop(client);
    server.stop()
}

async fn connect(server: &Server) -> Result<Client, String> {
    server.connect().await.map_err(|error| format!("no session: {error}"))
}

async fn expect(client: &Client, sql: &str, row: &[&str]) -> Result<(), String> {
    let found = rows(client, sql).await?;
    if found.len() == 1 && found[0] == row { Ok(()) } else { Err(format!("{sql}: {found:?}")) }
}

/// Takes all the space of a disk. The file that has it.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::options().create(true).append(true).open(&path).unwrap();
    // Large pieces first: the last block is taken too.
    for piece in [1 << 20, 1 << 12, 1] {
        let piece = vec![7; piece];
        loop {
            match file.write_all(&piece).and_then(|()| file.sync_all()) {
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                written => written.unwrap(),
            }
        }
    }
    path
}
