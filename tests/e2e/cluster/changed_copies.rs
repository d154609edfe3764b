//! Copies of deletion vectors and of what VACUUM writes: there before the commit, made again on a node
//! that was away, and read while another is.

use tokio_postgres::Client;

use super::kills::{make_numbers, node_process, wait_until_whole};
use super::mirrors::{files, node_directory, wait_until_lost};
use super::{expect, nodes};
use crate::support::cluster::{Cluster, Options, signal};

const TABLES: [(&str, &str); 3] =
    [("by_key", "DISTKEY(k)"), ("even", "DISTSTYLE EVEN"), ("whole", "DISTSTYLE ALL")];

/// Of each table: how many rows, the sum of `k`, how many rows were updated.
const STATE: &str = "count(*), sum(k), sum(CASE WHEN w = -1 THEN 1 ELSE 0 END)";

async fn make_tables(client: &Client) {
    make_numbers(client).await;
    for (name, style) in TABLES {
        expect(client, &format!("CREATE TABLE {name} {style} AS SELECT * FROM numbers")).await;
    }
}

async fn check(client: &Client, state: &str) {
    for (name, _) in TABLES {
        let sql = format!("SELECT {STATE} FROM {name}");
        assert_eq!(expect(client, &sql).await, [state], "{name}");
    }
}

/// Answers are the same whichever node is away.
async fn check_without_each(cluster: &Cluster, client: &Client, state: &str) {
    for node in [0, 1] {
        wait_until_whole(client).await;
        let process = node_process(cluster, node);
        signal(process, "STOP");
        wait_until_lost(client, node).await;
        check(client, state).await;
        signal(process, "CONT");
    }
    wait_until_whole(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_are_deleted_in_every_copy() {
    // Nobody else removes files while they are compared.
    let config = Some("[maintenance]\nautomatic_vacuum = false\n".to_owned());
    let arguments = ["--nodes", "2", "--slices", "2"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_own(Options { arguments, config, ..Options::default() });
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_tables(&client).await;
    for (name, _) in TABLES {
        expect(&client, &format!("DELETE FROM {name} WHERE MOD(k, 2) = 0")).await;
    }
    // At once, without a wait: the files are there when the statement is done.
    let [first, second] = [0, 1].map(|node| {
        let mut files = files(&node_directory(&cluster, node));
        files.retain(|file, _| file.extension().is_some_and(|end| end == "dv"));
        files
    });
    assert!(!first.is_empty(), "there are deletion vectors");
    assert_eq!(first, second);
    // The odd numbers below 2^18, and their sum.
    let state = "131072|17179869184|0";
    check(&client, state).await;
    check_without_each(&cluster, &client, state).await;
    for (name, _) in TABLES {
        expect(&client, &format!("UPDATE {name} SET w = -1 WHERE MOD(k, 4) = 1")).await;
    }
    check_without_each(&cluster, &client, "131072|17179869184|65536").await;
    for (name, _) in TABLES {
        expect(&client, &format!("VACUUM {name}")).await;
    }
    check_without_each(&cluster, &client, "131072|17179869184|65536").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_reach_a_node_that_was_away() {
    let mut cluster = nodes(2);
    cluster.expect_warnings();
    let client = cluster.connect().await;
    make_tables(&client).await;
    let process = node_process(&cluster, 1);
    signal(process, "STOP");
    // The first statement finds out that the node is away, and begins again.
    for (name, _) in TABLES {
        expect(&client, &format!("DELETE FROM {name} WHERE MOD(k, 2) = 0")).await;
        expect(&client, &format!("UPDATE {name} SET w = -1 WHERE MOD(k, 4) = 1")).await;
    }
    expect(&client, "VACUUM even").await;
    check(&client, "131072|17179869184|65536").await;
    signal(process, "CONT");
    check_without_each(&cluster, &client, "131072|17179869184|65536").await;
}
