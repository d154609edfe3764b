//! Python drivers on libpq: psycopg 3 speaks the extended protocol, psycopg2 the simple one.

use std::path::Path;
use std::process::Command;

use crate::support::cluster::Cluster;
use crate::support::program::{libpq_environment, python, run};

#[test]
fn psycopg3_reads_and_writes_every_type_as_text_and_binary() {
    run_scenario("psycopg3_types");
}

#[test]
fn psycopg3_prepares_statements() {
    run_scenario("psycopg3_prepared");
}

#[test]
fn psycopg3_streams_rows() {
    run_scenario("psycopg3_stream");
}

#[test]
fn psycopg3_sends_statements_in_a_pipeline() {
    run_scenario("psycopg3_pipeline");
}

#[test]
fn psycopg3_cancels() {
    run_scenario("psycopg3_cancel");
}

#[test]
fn psycopg3_undoes_a_transaction() {
    run_scenario("psycopg3_transaction");
}

#[test]
fn psycopg3_reads_a_server_cursor() {
    run_scenario("psycopg3_server_cursor");
}

#[test]
fn psycopg3_nests_transactions() {
    run_scenario("psycopg3_savepoint");
}

#[test]
fn psycopg2_reads_a_server_cursor() {
    run_scenario("psycopg2_server_cursor");
}

#[test]
fn psycopg2_reads_and_writes_every_type() {
    run_scenario("psycopg2_types");
}

#[test]
fn psycopg2_undoes_a_transaction() {
    run_scenario("psycopg2_transaction");
}

#[test]
fn psycopg2_cancels() {
    run_scenario("psycopg2_cancel");
}

/// Runs one function of the Python program against a server of its own.
pub(crate) fn run_scenario(name: &str) {
    let cluster = Cluster::start();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/programs/client.py");
    let mut command = Command::new(python());
    command.arg(program).arg(name).envs(libpq_environment(&cluster.address));
    let output = run(&mut command, "").expect_success();
    assert_eq!(output.trim(), "ok");
}
