//! Copies of segments on other nodes: where they are, what is read from them while a node is away, and
//! how they come back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::kills::{make_numbers, node_process, wait_until_whole};
use super::{answer, expect, nodes, nodes_with};
use crate::support::cluster::{Cluster, signal};
use crate::support::object_store::ObjectStore;

const COUNT: &str = "SELECT count(*), sum(k) FROM numbers";
const COUNTED: &str = "262144|34359607296";
/// How long a node that is stopped may go unnoticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn node_directory(cluster: &Cluster, node: usize) -> PathBuf {
    cluster.data_directory().join(format!("node{node}"))
}

/// The files of tables on a node, by slice and name, with their bytes.
pub(super) fn files(directory: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for slice in std::fs::read_dir(directory).unwrap().flatten() {
        if !slice.file_name().to_string_lossy().starts_with("slice_") {
            continue;
        }
        for file in std::fs::read_dir(slice.path()).unwrap().flatten() {
            let name = file.path().strip_prefix(directory).unwrap().to_owned();
            found.insert(name, std::fs::read(file.path()).unwrap());
        }
    }
    found
}

/// Waits until the cluster does without a node.
pub(super) async fn wait_until_lost(client: &Client, node: usize) {
    let sql = format!(
        "SELECT count(*) FROM stv_blueshift_replication WHERE node = {node} AND state = 'lost'"
    );
    let deadline = Instant::now() + NOTICED_WITHIN;
    while expect(client, &sql).await == ["0"] {
        assert!(Instant::now() < deadline, "node {node} is missed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_segment_has_a_copy_before_its_commit_is_acknowledged() {
    let store = ObjectStore::start().await;
    store.put("rows/1", (0..5000).map(|k| format!("{k}|x\n")).collect::<String>());
    let cluster = nodes_with(3, store.environment());
    let client = cluster.connect().await;
    for (name, style) in
        [("by_key", "DISTKEY(k)"), ("even", "DISTSTYLE EVEN"), ("whole", "DISTSTYLE ALL")]
    {
        expect(&client, &format!("CREATE TABLE {name} (k bigint, w varchar(9)) {style}")).await;
        let copy = format!("COPY {name} FROM 's3://load/rows/' {} DELIMITER '|'", store.keys());
        expect(&client, &copy).await;
        expect(&client, &format!("INSERT INTO {name} SELECT k + 5000, 'y' FROM {name}")).await;
        let create = format!("CREATE TABLE made_{name} {style} AS SELECT * FROM {name}");
        expect(&client, &create).await;
        // At once, without a wait: the files are there when the statement is done.
        let nodes: Vec<_> = (0..3).map(|node| files(&node_directory(&cluster, node))).collect();
        for (file, bytes) in nodes.iter().flatten() {
            let copies: Vec<_> = nodes.iter().filter_map(|segments| segments.get(file)).collect();
            assert!(copies.len() >= 2, "{name}: {} has one copy", file.display());
            assert!(copies.iter().all(|copy| *copy == bytes), "{} differs", file.display());
        }
    }
    let view = "SELECT count(DISTINCT node), sum(under_replicated), min(state), max(state) \
                FROM stv_blueshift_replication";
    assert_eq!(expect(&client, view).await, ["3|0|whole|whole"]);
    // Slices 0 and 1 are on node 0 and copied to node 1, and so on; slice 0 is everywhere.
    let held = "SELECT node, slice, role FROM stv_blueshift_replication ORDER BY 1, 2";
    let expected = [
        "0|0|primary",
        "0|1|primary",
        "0|4|copy",
        "0|5|copy",
        "1|0|copy",
        "1|1|copy",
        "1|2|primary",
        "1|3|primary",
        "2|0|copy",
        "2|2|copy",
        "2|3|copy",
        "2|4|primary",
        "2|5|primary",
    ];
    assert_eq!(expect(&client, held).await, expected);
    // What is dropped goes from all nodes.
    for name in ["by_key", "even", "whole", "made_by_key", "made_even", "made_whole"] {
        expect(&client, &format!("DROP TABLE {name}")).await;
    }
    // The next commit removes what the last one may still have held.
    expect(&client, "CREATE SCHEMA last").await;
    let deadline = Instant::now() + NOTICED_WITHIN;
    while (0..3).any(|node| !files(&node_directory(&cluster, node)).is_empty()) {
        assert!(Instant::now() < deadline, "files of dropped tables");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_and_writes_go_on_while_a_node_is_away() {
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    let stopped = node_process(&cluster, 1);
    signal(stopped, "STOP");
    // Before anybody has noticed.
    assert_eq!(expect(&client, COUNT).await, [COUNTED]);
    wait_until_lost(&client, 1).await;
    for (name, style) in
        [("by_key", "DISTKEY(k)"), ("even", "DISTSTYLE EVEN"), ("whole", "DISTSTYLE ALL")]
    {
        let create = format!("CREATE TABLE {name} {style} AS SELECT * FROM numbers");
        expect(&client, &create).await;
        let count = format!("SELECT count(*), sum(k) FROM {name}");
        assert_eq!(expect(&client, &count).await, [COUNTED]);
    }
    expect(&client, "INSERT INTO by_key SELECT * FROM even WHERE k < 1000").await;
    expect(&client, "TRUNCATE even").await;
    let lacking = "SELECT sum(under_replicated) > 0 FROM stv_blueshift_replication WHERE node = 1";
    assert_eq!(expect(&client, lacking).await, ["t"]);
    signal(stopped, "CONT");
    wait_until_whole(&client).await;
    // Now the node that has come back is the only one.
    let other = node_process(&cluster, 0);
    signal(other, "STOP");
    wait_until_lost(&client, 0).await;
    assert_eq!(expect(&client, COUNT).await, [COUNTED]);
    assert_eq!(expect(&client, "SELECT count(*) FROM by_key").await, ["263144"]);
    assert_eq!(expect(&client, "SELECT count(*) FROM even").await, ["0"]);
    assert_eq!(expect(&client, "SELECT count(*), sum(k) FROM whole").await, [COUNTED]);
    signal(other, "CONT");
    wait_until_whole(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_its_rows_when_a_node_loses_its_disk() {
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    expect(&client, "CREATE TABLE later (LIKE numbers)").await;
    expect(&client, "BEGIN").await;
    expect(&client, "INSERT INTO later SELECT * FROM numbers").await;
    lose_disk(&cluster, 0).await;
    let other = cluster.connect().await;
    wait_until_whole(&other).await;
    // What is not committed yet was copied back too, or the other node's copy is read.
    assert_eq!(expect(&client, "SELECT count(*), sum(k) FROM later").await, [COUNTED]);
    lose_disk(&cluster, 1).await;
    wait_until_whole(&other).await;
    expect(&client, "COMMIT").await;
    assert_eq!(expect(&other, "SELECT count(*), sum(k) FROM later").await, [COUNTED]);
    assert_eq!(expect(&other, COUNT).await, [COUNTED]);
}

/// Kills a node and takes all its files away; it is started again at once. Waits until the leader has
/// noticed, since until then everything looks whole.
async fn lose_disk(cluster: &Cluster, node: usize) {
    let before = losses_noticed(cluster);
    let directory = node_directory(cluster, node);
    let gone = directory.with_extension("gone");
    signal(node_process(cluster, node), "KILL");
    std::fs::rename(&directory, &gone).unwrap();
    std::fs::remove_dir_all(gone).unwrap();
    wait_until_noticed(cluster, node, before).await;
}

fn losses_noticed(cluster: &Cluster) -> usize {
    cluster.log().matches("lost a compute node").count()
}

/// Waits until one more loss was noticed than before.
async fn wait_until_noticed(cluster: &Cluster, node: usize, before: usize) {
    let deadline = Instant::now() + NOTICED_WITHIN;
    while losses_noticed(cluster) == before {
        assert!(Instant::now() < deadline, "node {node} is missed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_lost_under_load_costs_no_row() {
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    expect(&client, "CREATE TABLE grown (k bigint, w bigint) DISTSTYLE EVEN").await;
    let load = Arc::new(Load::default());
    let mut running = Vec::new();
    for _ in 0..2 {
        let (load, session) = (Arc::clone(&load), cluster.connect().await);
        running.push(tokio::spawn(async move { load.run(&session).await }));
    }
    for node in [0, 1] {
        tokio::time::sleep(Duration::from_millis(500)).await;
        lose_disk(&cluster, node).await;
        wait_until_whole(&client).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    for run in running {
        run.await.unwrap();
    }
    let inserted = load.inserted.load(Ordering::Relaxed);
    assert!(inserted > 0 && load.asked.load(Ordering::Relaxed) > 0);
    wait_until_whole(&client).await;
    // Each node by itself has every row.
    for node in [0, 1] {
        let process = node_process(&cluster, node);
        signal(process, "STOP");
        wait_until_lost(&client, node).await;
        assert_eq!(expect(&client, COUNT).await, [COUNTED]);
        let grown = expect(&client, "SELECT count(*) FROM grown").await;
        assert_eq!(grown, [(inserted * 1000).to_string()]);
        signal(process, "CONT");
        wait_until_whole(&client).await;
    }
}

/// Queries and inserts, one after the other, of which none may fail.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    asked: AtomicUsize,
    inserted: AtomicUsize,
}

impl Load {
    async fn run(&self, session: &Client) {
        while !self.stop.load(Ordering::Relaxed) {
            assert_eq!(expect(session, COUNT).await, [COUNTED]);
            self.asked.fetch_add(1, Ordering::Relaxed);
            let insert = "INSERT INTO grown SELECT k, w FROM numbers WHERE k < 1000";
            expect(session, insert).await;
            self.inserted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_vanishes_under_a_running_node_is_filled_again() {
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    // Nothing of it is in memory.
    expect(&client, "CREATE TABLE unread DISTKEY(k) AS SELECT * FROM numbers").await;
    let directory = node_directory(&cluster, 1);
    for slice in 0..4 {
        std::fs::remove_dir_all(directory.join(format!("slice_{slice}"))).unwrap();
    }
    std::fs::remove_file(directory.join("membership")).unwrap();
    // The next query finds out, and is answered all the same; so is the next write.
    assert_eq!(expect(&client, "SELECT count(*), sum(k) FROM unread").await, [COUNTED]);
    expect(&client, "INSERT INTO unread SELECT * FROM numbers WHERE k < 5").await;
    wait_until_whole(&client).await;
    assert_eq!(files(&directory), files(&node_directory(&cluster, 0)));
    // The node knows again whose it is: it is taken back after a restart.
    let before = losses_noticed(&cluster);
    signal(node_process(&cluster, 1), "KILL");
    wait_until_noticed(&cluster, 1, before).await;
    wait_until_whole(&client).await;
    // It answers alone, with all that it has.
    signal(node_process(&cluster, 0), "STOP");
    wait_until_lost(&client, 0).await;
    assert_eq!(expect(&client, COUNT).await, [COUNTED]);
    signal(node_process(&cluster, 0), "CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_everything_finds_all_copies() {
    let mut cluster = nodes(3);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_numbers(&client).await;
    cluster.kill();
    // While all was down, a disk was replaced.
    std::fs::remove_dir_all(node_directory(&cluster, 2)).unwrap();
    cluster.restart();
    let client = cluster.connect().await;
    assert_eq!(expect(&client, COUNT).await, [COUNTED]);
    wait_until_whole(&client).await;
    assert_eq!(expect(&client, "SELECT count(*) FROM small").await, ["100"]);
    assert!(answer(&client, "SELECT 1 FROM nowhere").await.is_err());
}
