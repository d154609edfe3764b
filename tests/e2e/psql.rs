//! psql as people and scripts use it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::cluster::{Address, Cluster, signal};
use crate::support::program::{Finished, psql, run, start};

/// Much longer than a cancel takes, much shorter than the query that it ends.
const CANCELLED_WITHIN: Duration = Duration::from_secs(5);

const DIGITS: &str = "CREATE TABLE digits (d bigint);
INSERT INTO digits VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9);
";

#[test]
fn a_script_prints_what_it_selects() {
    let cluster = Cluster::start();
    let script = format!(
        "{DIGITS}SELECT sum(d), count(*) FROM digits;
CREATE TABLE names (id int NOT NULL, name varchar(20), price decimal(8,2), day date);
INSERT INTO names VALUES (1, 'caf\u{e9}', 1.50, '2024-02-29'), (2, NULL, -0.05, NULL);
\\pset null '<null>'
SELECT * FROM names ORDER BY id;
SELECT id FROM names WHERE false;
DROP TABLE names;
"
    );
    let output = run_script(&cluster.address, &script).expect_success();
    assert_eq!(output, "45|10\n1|caf\u{e9}|1.50|2024-02-29\n2|<null>|-0.05|<null>\n");
}

#[test]
fn timing_is_printed_for_each_statement() {
    let cluster = Cluster::start();
    let output =
        run_script(&cluster.address, "\\timing on\nSELECT 1;\nSELECT 2;\n").expect_success();
    let times = output.lines().filter(|line| line.starts_with("Time: ") && line.ends_with(" ms"));
    assert_eq!(times.count(), 2, "{output}");
}

#[test]
fn command_tags_are_those_that_tools_parse() {
    let cluster = Cluster::start();
    let script = "CREATE TABLE t (a int);
INSERT INTO t VALUES (1), (2);
BEGIN;
COMMIT;
SET statement_timeout TO 0;
TRUNCATE TABLE t;
DROP TABLE t;
";
    let mut command = psql(&cluster.address);
    command.args(["-v", "QUIET=off"]);
    let output = run(&mut command, script).expect_success();
    let expected = "CREATE TABLE\nINSERT 0 2\nBEGIN\nCOMMIT\nSET\nTRUNCATE TABLE\nDROP TABLE\n";
    assert_eq!(output, expected);
}

#[test]
fn an_error_has_code_and_message_and_the_session_goes_on() {
    let cluster = Cluster::start();
    let script =
        "SELECT nope;\nSELECT * FROM nowhere;\nSELEC 1;\nSELECT 1/0;\nSELECT 'still here';\n";
    let finished = run_script(&cluster.address, script);
    let errors: Vec<&str> =
        finished.stderr.lines().filter(|line| line.contains("ERROR:")).collect();
    assert_eq!(errors.len(), 4, "{}", finished.stderr);
    for (error, code) in errors.iter().zip(["42703", "42P01", "42601", "22012"]) {
        assert!(error.contains(code), "{error}: expected {code}");
    }
    assert!(errors[0].contains("column \"nope\" does not exist"), "{}", errors[0]);
    assert!(errors[1].contains("relation \"nowhere\" does not exist"), "{}", errors[1]);
    assert_eq!(finished.stdout, "still here\n");
}

#[test]
fn a_string_of_statements_is_one_transaction() {
    let cluster = Cluster::start();
    run_script(&cluster.address, "CREATE TABLE t (a int);\n").expect_success();
    let mut command = psql(&cluster.address);
    let finished = run(command.args(["-c", "INSERT INTO t VALUES (1); SELECT 1/0"]), "");
    assert!(finished.stderr.contains("22012"), "{}", finished.stderr);
    let mut command = psql(&cluster.address);
    let statements = "INSERT INTO t VALUES (2); INSERT INTO t VALUES (3); SELECT sum(a) FROM t";
    let output = run(command.args(["-c", statements]), "").expect_success();
    assert_eq!(output, "5\n", "the first string left nothing, the second all");
}

#[test]
fn stopping_at_the_first_error_gives_exit_status_three() {
    let cluster = Cluster::start();
    let mut command = psql(&cluster.address);
    command.args(["-v", "ON_ERROR_STOP=1"]);
    let finished = run(&mut command, "SELECT 1/0;\nSELECT 'not reached';\n");
    assert_eq!((finished.status.code(), finished.stdout.as_str()), (Some(3), ""));
}

#[test]
fn control_c_cancels_the_query() {
    let cluster = Cluster::start();
    run_script(&cluster.address, DIGITS).expect_success();
    let directory = tempfile::tempdir().unwrap();
    let begun = directory.path().join("begun");
    let script = format!("\\! touch {}\n{}\n", begun.display(), endless_query());
    let running = start(&mut psql(&cluster.address), &script);
    while !begun.try_exists().unwrap() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // The file is made just before the query is sent; the query then takes minutes.
    std::thread::sleep(Duration::from_millis(500));
    let cancelled = Instant::now();
    signal(running.pid(), "INT");
    let finished = running.finish();
    let took = cancelled.elapsed();
    assert!(finished.stderr.contains("57014"), "{}", finished.stderr);
    assert!(took < CANCELLED_WITHIN, "the cancel took {took:?}");
}

#[test]
fn the_connection_can_be_encrypted() {
    let cluster = Cluster::start();
    if cluster.is_foreign() {
        return; // a server from outside may have no certificate
    }
    let mut command = psql(&cluster.address);
    let finished = run(command.env("PGSSLMODE", "require"), "\\conninfo\nSELECT 1;\n");
    let output = finished.expect_success();
    assert!(output.contains("SSL connection (protocol: TLS"), "{output}");
    assert!(output.ends_with("1\n"), "{output}");
}

#[test]
fn copy_from_the_client_is_refused_and_the_session_goes_on() {
    let cluster = Cluster::start();
    if cluster.is_foreign() {
        return; // PostgreSQL has it
    }
    let script = "CREATE TABLE t (a int);\nCOPY t FROM STDIN;\nSELECT count(*) FROM t;\n";
    let finished = run_script(&cluster.address, script);
    assert!(finished.stderr.contains("ERROR:"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "0\n");
}

/// A query of some 10^11 steps, which no cancel has to be quick to catch.
pub(crate) fn endless_query() -> String {
    let tables: Vec<String> = ('a'..='k').map(|name| format!("digits {name}")).collect();
    format!("SELECT sum(a.d * b.d + c.d * k.d) FROM {};", tables.join(", "))
}

fn run_script(address: &Address, script: &str) -> Finished {
    let mut command: Command = psql(address);
    run(&mut command, script)
}
