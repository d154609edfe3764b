//! Statements made to break a planner or the memory: flat chains and nests of tens of thousands of
//! terms, results of gigabytes out of one function call. Each must end in an answer or in an error
//! with a proper code, in bounded time and memory, and the process must live.
//!
//! Twenty kilobytes of such text end a process that plans on ordinary stacks.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::native::digits;
use crate::support::cluster::{Cluster, Options};

/// Codes that a refusal may carry: too complex, a limit, no memory, syntax, too long, timeout.
const REFUSALS: &[&str] =
    &["54000", "54001", "54011", "53200", "53400", "42601", "22001", "22003", "57014", "0A000"];

const ANSWERED_WITHIN: Duration = Duration::from_secs(100);

/// Far below the memory of the machine, far above what a refusal needs.
const GROWTH_BYTES_MAX: u64 = 3 << 30;

#[tokio::test]
async fn flat_chains_of_operators() {
    for terms in [2_000, 10_000, 100_000] {
        let chain = |first: &str, operator: &str, term: &str| {
            format!("SELECT {first}{}", format!(" {operator} {term}").repeat(terms))
        };
        check(&[
            chain("1", "+", "1"),
            chain("true", "AND", "true"),
            chain("false", "OR", "1 = 2"),
            chain("'a'", "||", "'b'"),
            format!("SELECT 1{}", "::int".repeat(terms)),
        ])
        .await;
    }
}

#[tokio::test]
async fn flat_chains_over_a_column() {
    for terms in [2_000, 10_000, 100_000] {
        let equal: Vec<String> = (0..terms).map(|n| format!("d = {n}")).collect();
        check(&[
            format!("SELECT count(*) FROM digits WHERE {}", equal.join(" OR ")),
            format!("SELECT d{} FROM digits", " + d".repeat(terms)),
            format!("SELECT CASE {} END FROM digits", "WHEN d = 1 THEN 2 ".repeat(terms)),
        ])
        .await;
    }
}

#[tokio::test]
async fn chains_of_queries() {
    for terms in [1_000, 10_000] {
        let links: Vec<String> =
            (1..terms).map(|n| format!("c{n} AS (SELECT * FROM c{})", n - 1)).collect();
        check(&[
            format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(terms)),
            format!("SELECT 1{}", " EXCEPT SELECT 2".repeat(terms)),
            format!("SELECT count(*) FROM digits{}", ", digits".repeat(terms)),
            format!("WITH c0 AS (SELECT 1), {} SELECT * FROM c{}", links.join(", "), terms - 1),
        ])
        .await;
    }
}

#[tokio::test]
async fn deep_nests() {
    for depth in [100, 1_000, 10_000, 100_000] {
        let nest = |open: &str, inner: &str, close: &str| {
            format!("SELECT {}{inner}{}", open.repeat(depth), close.repeat(depth))
        };
        check(&[
            nest("(", "1", ")"),
            nest("NOT ", "true", ""),
            nest("- ", "1", ""),
            nest("abs(", "1", ")"),
            nest("CASE WHEN true THEN ", "1", " END"),
            nest("(SELECT ", "1", ")"),
            format!(
                "SELECT * FROM {}digits{}",
                "(SELECT * FROM ".repeat(depth),
                ") t".repeat(depth)
            ),
            "(".repeat(depth),
        ])
        .await;
    }
}

#[tokio::test]
async fn wide_statements() {
    let columns: Vec<String> = (0..10_000).map(|n| format!("c{n} int")).collect();
    let numbers: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let rows: Vec<String> = (0..20_000).map(|n| format!("({n})")).collect();
    check(&[
        format!("CREATE TABLE wide ({})", columns.join(", ")),
        format!("SELECT {} FROM digits", vec!["d"; 20_000].join(", ")),
        format!("SELECT count(*) FROM digits WHERE d IN ({})", numbers.join(", ")),
        format!("INSERT INTO digits VALUES {}", rows.join(", ")),
        format!("SELECT '{}'", "x".repeat(20 << 20)),
        format!("SELECT coalesce({})", vec!["NULL"; 50_000].join(", ")),
        format!("SELECT d AS {} FROM digits", "n".repeat(100_000)),
    ])
    .await;
}

#[tokio::test]
async fn functions_whose_result_is_gigabytes() {
    check(
        &[
            "SELECT repeat('x', 2000000000)",
            "SELECT length(repeat('x', 2000000000))",
            "SELECT repeat(repeat('x', 60000), 60000)",
            "SELECT lpad('x', 2000000000)",
            "SELECT rpad('x', 2000000000, 'yz')",
            "SELECT replace(repeat('x', 60000), 'x', repeat('y', 60000))",
            "SELECT repeat('x', 2000000000) FROM digits a, digits b",
            "SELECT max(repeat('x', 60000000 + d)) FROM digits",
        ]
        .map(str::to_owned),
    )
    .await;
}

/// Runs each statement on a server with a time limit and asserts what this file promises.
async fn check(statements: &[String]) {
    let mut cluster = Cluster::start_own(Options::default());
    let client = cluster.connect().await;
    digits(&client).await;
    client.batch_execute("SET statement_timeout TO 60000").await.unwrap();
    let before = cluster.resident_bytes();
    for statement in statements {
        let shape: String = statement.chars().take(60).collect();
        eprintln!("{} bytes: {shape}", statement.len());
        let begun = Instant::now();
        let outcome = outcome(&client, statement).await;
        eprintln!("  {outcome} after {:?}", begun.elapsed());
        assert!(cluster.is_alive(), "{shape} ended the server: {}", cluster.log());
        assert!(begun.elapsed() < ANSWERED_WITHIN, "{shape} took {:?}", begun.elapsed());
        let allowed = outcome == "answered" || REFUSALS.contains(&outcome.as_str());
        assert!(allowed, "{shape}: {outcome}");
        let grown = cluster.resident_bytes().saturating_sub(before);
        assert!(grown < GROWTH_BYTES_MAX, "{shape}: memory grew by {grown} bytes");
        // The session is whole, and so are the others.
        client.simple_query("SELECT count(*) FROM digits").await.expect(&shape);
        cluster.connect().await.simple_query("SELECT 1").await.unwrap();
    }
}

/// `answered`, or the SQLSTATE of the refusal.
async fn outcome(client: &Client, statement: &str) -> String {
    match client.simple_query(statement).await {
        Ok(_) => "answered".to_owned(),
        Err(error) => match error.code() {
            Some(code) => code.code().to_owned(),
            None => format!("{error:?}"),
        },
    }
}
