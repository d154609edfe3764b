//! The leader's disk is lost: the catalog comes back from the nodes with every acknowledged commit.

use std::path::Path;
use std::time::Duration;

use rand::Rng;

use super::{answer, expect, nodes};
use crate::recovery::seeded;

/// How often the disk is lost.
const LOSSES: usize = 5;
/// Time for commits before the leader dies, at most.
const COMMITS_FOR: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_catalog_comes_back_with_every_acknowledged_commit() {
    let mut random = seeded();
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    expect(&client, "CREATE TABLE kept (n bigint) DISTKEY(n)").await;
    expect(&client, "CREATE TABLE everywhere (n bigint, s varchar(20)) DISTSTYLE ALL").await;
    expect(&client, "INSERT INTO everywhere VALUES (1, 'it''s'), (2, '; --')").await;
    expect(&client, "CREATE SCHEMA other").await;
    expect(&client, "CREATE TABLE other.dropped (n bigint)").await;
    expect(&client, "DROP TABLE other.dropped").await;
    let (mut acknowledged, mut next) = (Vec::new(), 0_i64);
    for loss in 0..LOSSES {
        let client = cluster.connect().await;
        let wait = COMMITS_FOR.mul_f64(random.random_range(0.1..1.0));
        let end = tokio::time::Instant::now() + wait;
        let mut in_flight = None;
        while tokio::time::Instant::now() < end {
            let insert = format!("INSERT INTO kept VALUES ({next})");
            in_flight = Some(next);
            next += 1;
            let told = tokio::time::timeout_at(end, answer(&client, &insert)).await;
            if let Ok(told) = told {
                told.unwrap();
                acknowledged.extend(in_flight.take());
            }
        }
        cluster.kill();
        remove_leader_files(&cluster.data_directory());
        cluster.restart_with(&["--restore-catalog"]);
        let client = cluster.connect().await;
        let found = expect(&client, "SELECT n FROM kept ORDER BY n").await;
        let found: Vec<i64> = found.iter().map(|text| text.parse().unwrap()).collect();
        // The commit that nobody was told of may be there.
        if let Some(unknown) = in_flight.filter(|unknown| found.contains(unknown)) {
            acknowledged.push(unknown);
        }
        assert_eq!(found, acknowledged, "after loss {loss}");
        let rows = expect(&client, "SELECT n, s FROM everywhere ORDER BY n").await;
        assert_eq!(rows, ["1|it's", "2|; --"]);
        assert!(answer(&client, "SELECT * FROM other.dropped").await.is_err());
        expect(&client, &format!("CREATE TABLE other.after{loss} (n bigint)")).await;
    }
    eprintln!("{LOSSES} losses of the leader's disk, {} commits kept", acknowledged.len());
    assert!(acknowledged.len() > LOSSES, "there were commits to lose");
    // A catalog that is there is never replaced.
    cluster.stop();
    let refused = cluster.refuses_to_start(&["--restore-catalog"]);
    assert!(refused.contains("only a lost catalog is restored"), "{refused}");
}

/// The disk that was given up comes back when the cluster has gone on without it, and so does an old
/// copy of the one that took its place: nodes have nothing to do with either.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_disk_of_the_leader_is_refused() {
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    expect(&client, "CREATE TABLE t (n bigint) DISTKEY(n)").await;
    cluster.kill();
    let old = tempfile::tempdir().unwrap();
    copy_leader_files(&cluster.data_directory(), old.path());
    remove_leader_files(&cluster.data_directory());
    cluster.restart_with(&["--restore-catalog"]);
    let client = cluster.connect().await;
    expect(&client, "INSERT INTO t VALUES (1)").await;
    cluster.stop();
    let kept = tempfile::tempdir().unwrap();
    copy_leader_files(&cluster.data_directory(), kept.path());
    remove_leader_files(&cluster.data_directory());
    copy_leader_files(old.path(), &cluster.data_directory());
    let refused = cluster.refuses_to_start(&[]);
    assert!(refused.contains("is another leader's"), "{refused}");

    // With the epoch of its successor it has an older catalog still.
    std::fs::copy(kept.path().join("epoch"), cluster.data_directory().join("epoch")).unwrap();
    let refused = cluster.refuses_to_start(&[]);
    assert!(refused.contains("the leader's catalog is older"), "{refused}");

    remove_leader_files(&cluster.data_directory());
    copy_leader_files(kept.path(), &cluster.data_directory());
    cluster.restart();
    let client = cluster.connect().await;
    assert_eq!(expect(&client, "SELECT n FROM t").await, ["1"]);
}

/// The shape of a cluster is that of its catalog: with another one rows would not be found.
#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_nodes_or_slices_is_refused() {
    let mut cluster = nodes(2);
    let client = cluster.connect().await;
    expect(&client, "CREATE TABLE t (n bigint) DISTKEY(n)").await;
    cluster.stop();
    for (arguments, reason) in [
        (["--nodes", "1", "--slices", "4"], "was made with 2 nodes of 2 slices"),
        (["--nodes", "2", "--slices", "3"], "holds a cluster of 2 nodes with 2 slices each"),
    ] {
        let refused = cluster.refuses_to_start_instead(&arguments);
        assert!(refused.contains(reason), "{arguments:?}: {refused}");
    }
    cluster.restart();
    cluster.connect().await;
}

fn is_leaders(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name != "cluster" && !name.starts_with("node")
}

fn copy_leader_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if is_leaders(&path) && path.is_file() {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// Everything but what the nodes have, and the addresses and keys by which the leader finds them.
fn remove_leader_files(data_directory: &Path) {
    for entry in std::fs::read_dir(data_directory).unwrap() {
        let path = entry.unwrap().path();
        if !is_leaders(&path) {
            continue;
        }
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
    }
}
