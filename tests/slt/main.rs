//! Runs the `.slt` files of this folder over the wire: each file on a fresh server, each record
//! counted, failures printed with file and line. The closing line is `N passed, N failed`.
//!
//! Arguments are parts of file names; without any, all files run.
//! `--complete` with `BLUESHIFT_TEST_URL` writes the answers of that server into the files: with
//! PostgreSQL behind it this makes expected answers that are not our own. Read what it wrote.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program"
)]

#[path = "../support/cluster.rs"]
#[expect(dead_code, reason = "shared with the end-to-end suite, which uses all of it")]
mod cluster;
#[path = "../support/program.rs"]
#[expect(dead_code, reason = "shared with the end-to-end suite, which uses all of it")]
mod program;
mod session;

/// The shared files name each other as in the end-to-end suite.
mod support {
    pub(crate) use crate::{cluster, program};
}

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sqllogictest::{
    Record, Runner, default_normalizer, default_validator, strict_column_validator,
};

use session::{Session, ValueType};
use support::cluster::{Address, Cluster};

/// Servers at one time; each uses all cores for its queries, and starting one is mostly waiting.
const PARALLEL: usize = 2;

/// What became of one file.
#[derive(Clone, Copy, Default)]
struct Count {
    passed: usize,
    failed: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS; // asked by nextest, which cannot run this suite's records
    }
    let complete = arguments.iter().any(|argument| argument == "--complete");
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&home, &mut files);
    files.sort();
    files.retain(|file| {
        let name = file.strip_prefix(&home).unwrap().to_string_lossy().into_owned();
        filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
    });

    let queue = Arc::new(Mutex::new(VecDeque::from(files)));
    let mut workers = Vec::new();
    for _ in 0..PARALLEL {
        let (queue, home) = (Arc::clone(&queue), home.clone());
        workers.push(std::thread::spawn(move || work(&queue, &home, complete)));
    }
    let mut total = Count::default();
    for worker in workers {
        // A worker that panicked has not counted its file: that is a failure.
        let count = worker.join().unwrap_or(Count { passed: 0, failed: 1 });
        total.passed += count.passed;
        total.failed += count.failed;
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 && total.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Takes files from the queue until it is empty.
fn work(queue: &Mutex<VecDeque<PathBuf>>, home: &Path, complete: bool) -> Count {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut total = Count::default();
    loop {
        let next = queue.lock().unwrap().pop_front();
        let Some(file) = next else { return total };
        let started = Instant::now();
        let count = runtime.block_on(run_file(&file, complete));
        println!(
            "{:4} {} ({} records, {:.1} s)",
            if count.failed == 0 { "ok" } else { "FAIL" },
            file.strip_prefix(home).unwrap().display(),
            count.passed + count.failed,
            started.elapsed().as_secs_f64()
        );
        total.passed += count.passed;
        total.failed += count.failed;
    }
}

async fn run_file(file: &Path, complete: bool) -> Count {
    let cluster = Cluster::start();
    let mut runner = new_runner(&cluster.address);
    if cluster.is_foreign() {
        runner.add_label("postgres");
    } else {
        runner.add_label("blueshift");
    }
    if complete {
        runner
            .update_test_file(
                file,
                " ",
                default_validator,
                default_normalizer,
                strict_column_validator,
            )
            .await
            .unwrap();
        runner.shutdown_async().await;
        return Count { passed: 1, failed: 0 };
    }
    let mut count = Count::default();
    let records = match sqllogictest::parse_file::<ValueType>(file) {
        Ok(records) => records,
        Err(error) => {
            eprintln!("{error}");
            return Count { passed: 0, failed: 1 };
        }
    };
    for record in records {
        let counts = matches!(record, Record::Statement { .. } | Record::Query { .. });
        match runner.run_async(record).await {
            Ok(_) => count.passed += usize::from(counts),
            Err(error) => {
                eprintln!("{}\n", error.display(false));
                count.failed += 1;
            }
        }
    }
    runner.shutdown_async().await;
    count
}

fn new_runner(
    address: &Address,
) -> Runner<Session, impl sqllogictest::MakeConnection<Conn = Session> + use<>> {
    let address = address.clone();
    let mut runner = Runner::new(move || {
        let address = address.clone();
        async move { Session::open(&address).await }
    });
    runner.with_column_validator(strict_column_validator);
    runner
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "slt") {
            files.push(path);
        }
    }
}
