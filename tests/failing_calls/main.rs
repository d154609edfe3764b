//! Lets each call on files of a server fail, one run for each: the first open, the second open, and
//! so on until a run is through without its call having been reached. What a client is told must
//! then be true, at once and after a restart (`docs/failing-calls.md`).
//!
//! Arguments are beginnings of names of cases (`one/write/EIO/once/17`); without any, a sample of all
//! cases runs, `BLUESHIFT_ALL_CALLS=1` runs each. `BLUESHIFT_CALLS_AT_ONCE` is how many run at a time,
//! each with its own directory, servers and pages. The closing line is `N passed, N failed`.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test program")]

mod case;
mod codes;
mod control;
mod model;
#[path = "../support/object_store.rs"]
#[expect(dead_code, reason = "shared with the end-to-end suite, which uses all of it")]
mod object_store;
mod plan;
mod run;
mod scenario;
mod server;
mod session;

use std::process::ExitCode;
use std::sync::Mutex;

use plan::{Choice, Plan};
use run::Bench;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS; // asked by nextest, which cannot run this suite's cases
    }
    let filters = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("BLUESHIFT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let is_all = std::env::var_os("BLUESHIFT_ALL_CALLS").is_some();
    println!("seed {seed} (BLUESHIFT_SEED repeats the choice)");
    let plan = Mutex::new(Plan::new(Choice::new(filters, is_all, seed)));
    assert!(
        std::env::var_os("BLUESHIFT_BINARY_WITH_FAULTS").is_some()
            || !plan.lock().unwrap().has_messages(),
        "BLUESHIFT_BINARY_WITH_FAULTS is a server with the feature faults"
    );
    let processors = std::thread::available_parallelism().unwrap().get() as u64;
    let at_once = number("BLUESHIFT_CALLS_AT_ONCE").unwrap_or(processors);
    std::thread::scope(|scope| {
        for number in 0..at_once {
            let plan = &plan;
            scope.spawn(move || work(plan, number == 0));
        }
    });
    let (passed, failed) = plan.into_inner().unwrap().tally();
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs cases until there are no more. A run waits for processes, with a runtime of its own.
#[tokio::main]
async fn work(plan: &Mutex<Plan>, says_counts: bool) {
    let mut bench = Bench::new(says_counts).await;
    loop {
        let Some((series, case)) = plan.lock().unwrap().take() else { return };
        let verdict = bench.run(&case).await;
        plan.lock().unwrap().ran(series, &case, verdict);
    }
}
