//! Which cases run: all of each series up to the first that is not reached, or a sample of them; and
//! what came of them.

use std::collections::BTreeMap;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::case::{Case, Place, all_series};
use crate::run::Verdict;

/// A sample takes every so-manieth case, more rarely where a run takes longer.
const EVERY_FIRST: u64 = 12;
const EVERY_ONE: u64 = 45;
const EVERY_TWO: u64 = 300;
/// The same where all cases run, for calls on files.
const EVERY_TWO_OF_ALL: u64 = 23;

/// What was asked for.
pub(crate) struct Choice {
    /// Beginnings of names; none chooses all.
    filters: Vec<String>,
    is_all: bool,
    /// Of calls on files of two nodes every so-manieth runs where all do.
    every_of_two: u64,
    random: StdRng,
}

impl Choice {
    pub(crate) fn new(filters: Vec<String>, is_all: bool, seed: u64) -> Choice {
        let every_of_two = std::env::var("BLUESHIFT_EVERY_CALL_OF_TWO").ok();
        let every_of_two = every_of_two.map_or(EVERY_TWO_OF_ALL, |text| text.parse().unwrap());
        Choice { filters, is_all, every_of_two, random: StdRng::seed_from_u64(seed) }
    }

    fn has_part_of(&self, series: &str) -> bool {
        let fits = |filter: &String| series.starts_with(filter) || filter.starts_with(series);
        self.filters.is_empty() || self.filters.iter().any(fits)
    }

    /// Series that are not in a sample: statements of a cluster whose calls go on failing wait long for
    /// nodes.
    fn leaves_out(&self, series: &str) -> bool {
        let is_sample = !self.is_all && self.filters.is_empty();
        is_sample && series.starts_with("two/") && series.contains("/sticky")
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
            Place::Two if is_all && case.is_file() => self.every_of_two,
            _ if is_all => 1,
            Place::First => EVERY_FIRST,
            Place::One => EVERY_ONE,
            Place::Two => EVERY_TWO,
        };
        (self.random.random_range(1..=every), Some(every))
    }
}

/// The series, in the order in which they run.
pub(crate) struct Plan {
    series: Vec<Series>,
}

/// Cases that differ only in their number.
struct Series {
    /// The next to run.
    next: Case,
    /// The number of the first that runs.
    first: u64,
    step: Option<u64>,
    /// From here on there is nothing more to run.
    end: u64,
    running: usize,
    passed: usize,
    failed: usize,
    codes: BTreeMap<String, usize>,
    begun: Option<Instant>,
}

impl Plan {
    pub(crate) fn new(mut choice: Choice) -> Plan {
        let mut series = Vec::new();
        for (place, fault) in all_series() {
            let mut next = Case { place, fault, nth: 0 };
            if choice.has_part_of(&next.series()) && !choice.leaves_out(&next.series()) {
                let (first, step) = choice.numbers(&next);
                next.nth = first;
                series.push(Series::new(next, step));
            }
        }
        Plan { series }
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.series.iter().any(|series| !series.next.is_file())
    }

    /// The next case to run, and which series it is of.
    pub(crate) fn take(&mut self) -> Option<(usize, Case)> {
        let is_left = |series: &Series| series.next.nth < series.end;
        let index = self.series.iter().position(is_left)?;
        Some((index, self.series[index].take()))
    }

    /// A case that was taken has run.
    pub(crate) fn ran(&mut self, series: usize, case: &Case, verdict: Verdict) {
        self.series[series].ran(case, verdict);
    }

    /// How many have passed, and how many have not.
    pub(crate) fn tally(&self) -> (usize, usize) {
        let count = |number: fn(&Series) -> usize| self.series.iter().map(number).sum();
        (count(|series| series.passed), count(|series| series.failed))
    }
}

impl Series {
    fn new(next: Case, step: Option<u64>) -> Series {
        Series {
            next,
            first: next.nth,
            step,
            end: u64::MAX,
            running: 0,
            passed: 0,
            failed: 0,
            codes: BTreeMap::new(),
            begun: None,
        }
    }

    fn take(&mut self) -> Case {
        let case = self.next;
        match self.step {
            Some(step) => self.next.nth += step,
            None => self.end = case.nth,
        }
        self.running += 1;
        self.begun.get_or_insert_with(Instant::now);
        case
    }

    fn ran(&mut self, case: &Case, verdict: Verdict) {
        self.running -= 1;
        match verdict {
            Verdict::NotReached(calls) => self.not_reached(case, calls),
            Verdict::Passed(codes) => {
                self.passed += 1;
                codes.into_iter().for_each(|code| *self.codes.entry(code).or_default() += 1);
            }
            Verdict::Failed(text) => {
                println!("FAIL {case}: {text}");
                self.failed += 1;
            }
        }
        if self.running == 0 && self.next.nth >= self.end {
            self.close();
        }
    }

    /// A series ends with its first case that is not reached. A sample that begins behind the end takes
    /// one before it.
    fn not_reached(&mut self, case: &Case, calls: u64) {
        self.end = self.end.min(case.nth);
        if case.nth == self.first && (1..case.nth).contains(&calls) && self.step.is_some() {
            self.first = 1 + (self.first - 1) % calls;
            self.next.nth = self.first;
            self.end = calls + 1;
        }
    }

    fn close(&self) {
        let state = if self.failed == 0 { "ok" } else { "FAIL" };
        let codes = self.codes.iter().map(|(code, count)| format!(", {count} times {code}"));
        let seconds = self.begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        println!(
            "{state:4} {}: {} passed, {} failed, to call {}{} ({seconds:.1} s)",
            self.next.series(),
            self.passed,
            self.failed,
            self.end,
            codes.collect::<String>(),
        );
    }
}
