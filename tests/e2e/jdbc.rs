//! JDBC: a Java program on pgjdbc, compiled here, one scenario per test.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::cluster::Cluster;
use crate::support::program::run;

/// Where Debian's libpostgresql-jdbc-java puts the driver.
const DRIVER: &str = "/usr/share/java/postgresql.jar";

#[test]
fn prepared_statements() {
    run_scenario("prepared");
}

#[test]
fn values_and_metadata_of_every_type() {
    run_scenario("types");
}

#[test]
fn fetch_sizes_from_one_to_the_largest() {
    run_scenario("fetch");
}

#[test]
fn query_timeout() {
    run_scenario("timeout");
}

#[test]
fn cancel_from_another_thread() {
    run_scenario("cancel");
}

#[test]
fn batch_insert() {
    run_scenario("batch");
}

#[test]
fn transactions() {
    run_scenario("transaction");
}

fn run_scenario(name: &str) {
    assert!(
        Path::new(DRIVER).try_exists().unwrap(),
        "{DRIVER} is missing; tests/run installs libpostgresql-jdbc-java"
    );
    let classes = compile();
    let cluster = Cluster::start();
    let address = &cluster.address;
    let url = format!(
        "jdbc:postgresql://{}:{}/{}?user={}&password={}&sslmode=disable",
        address.host, address.port, address.database, address.user, address.password
    );
    let path = format!("{}:{DRIVER}", classes.path().display());
    let mut java = Command::new("java");
    java.args(["-XX:TieredStopAtLevel=1", "-cp", &path, "Client", &url, name]);
    let output = run(&mut java, "").expect_success();
    assert_eq!(output.trim(), "ok");
}

fn compile() -> TempDir {
    let classes = tempfile::tempdir().unwrap();
    let mut javac = Command::new("javac");
    javac.args(["-encoding", "UTF-8", "-d"]).arg(classes.path()).arg(source());
    run(&mut javac, "").expect_success();
    classes
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/Client.java")
}
