//! The processes of `start --nodes N`, and who ends them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::nodes;
use crate::support::cluster::binary;

const ENDS_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_start_ends_although_its_supervisor_lives() {
    let cluster = nodes(2);
    // Its directory is in use.
    let file = cluster.data_directory().join("cluster").join("node-0.toml");
    let mut second = Command::new(binary())
        .args(["compute", "--supervised", "--config"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + ENDS_WITHIN;
    let status = loop {
        if let Some(status) = second.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            second.kill().unwrap();
            second.wait().unwrap();
            panic!("it stays although it can do nothing");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(!status.success());
}
