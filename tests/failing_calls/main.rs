//! Lets each call on files of a server fail, one run for each: the first open, the second open, and
//! so on until a run is through without its call having been reached. What a client is told must
//! then be true, at once and after a restart (`docs/failing-calls.md`).
//!
//! Arguments are beginnings of names of cases (`one/write/EIO/once/17`); without any, a sample of all
//! cases runs, `BLUESHIFT_ALL_CALLS=1` runs each. The closing line is `N passed, N failed`.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test program")]

mod case;
mod control;
mod model;
#[path = "../support/object_store.rs"]
#[expect(dead_code, reason = "shared with the end-to-end suite, which uses all of it")]
mod object_store;
mod run;
mod scenario;
mod server;
mod session;

use std::process::ExitCode;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use case::{Case, Place, all_series};
use run::{Bench, Verdict};

/// A sample takes every so-manieth case, more rarely where a run takes longer.
const EVERY_FIRST: u64 = 12;
const EVERY_ONE: u64 = 45;
const EVERY_TWO: u64 = 300;
/// The same where all cases run, for calls on files.
const EVERY_TWO_OF_ALL: u64 = 23;

/// Which cases run.
struct Choice {
    /// Beginnings of names; none chooses all.
    filters: Vec<String>,
    is_all: bool,
    random: StdRng,
}

impl Choice {
    fn has_part_of(&self, series: &str) -> bool {
        let fits = |filter: &String| series.starts_with(filter) || filter.starts_with(series);
        self.filters.is_empty() || self.filters.iter().any(fits)
    }

    /// The first number of a series that runs, and the step to the next.
    fn numbers(&mut self, case: &Case) -> (u64, Option<u64>) {
        let series = case.series();
        let exact = self.filters.iter().filter_map(|filter| filter.strip_prefix(&series));
        if let Some(nth) = exact.filter_map(|rest| rest.strip_prefix('/')?.parse().ok()).next() {
            return (nth, None);
        }
        let is_all = self.is_all || !self.filters.is_empty();
        let every = match case.place {
            // All of them would be many hours, nearly all of it the same calls of each node.
            Place::Two if is_all && case.is_file() => EVERY_TWO_OF_ALL,
            _ if is_all => 1,
            Place::First => EVERY_FIRST,
            Place::One => EVERY_ONE,
            Place::Two => EVERY_TWO,
        };
        (self.random.random_range(1..=every), Some(every))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS; // asked by nextest, which cannot run this suite's cases
    }
    let filters = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    let seed = std::env::var("BLUESHIFT_SEED").ok().map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let is_all = std::env::var_os("BLUESHIFT_ALL_CALLS").is_some();
    println!("seed {seed} (BLUESHIFT_SEED repeats the choice)");
    let mut choice = Choice { filters, is_all, random: StdRng::seed_from_u64(seed) };
    let mut bench = Bench::new().await;
    let (mut passed, mut failed) = (0, 0);
    for (place, fault) in all_series() {
        let mut case = Case { place, fault, nth: 0 };
        if !choice.has_part_of(&case.series()) {
            continue;
        }
        assert!(
            case.is_file() || bench.has_messages(),
            "BLUESHIFT_BINARY_WITH_FAULTS is a server with the feature faults"
        );
        let (first, step) = choice.numbers(&case);
        case.nth = first;
        let (good, bad) = run_series(&mut bench, case, step).await;
        passed += good;
        failed += bad;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the cases of a series from the first on until one is not reached.
async fn run_series(bench: &mut Bench, mut case: Case, step: Option<u64>) -> (usize, usize) {
    let started = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    loop {
        match bench.run(&case).await {
            Verdict::NotReached => break,
            Verdict::Passed => passed += 1,
            Verdict::Failed(text) => {
                println!("FAIL {case}: {text}");
                failed += 1;
            }
        }
        let Some(step) = step else { break };
        case.nth += step;
    }
    let name = case.series();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{:4} {name}: {passed} passed, {failed} failed, to call {} ({seconds:.1} s)",
        if failed == 0 { "ok" } else { "FAIL" },
        case.nth
    );
    (passed, failed)
}
