//! Short query acceleration: which queries count as short, and how long they may run.
//!
//! A query that would have to wait, and that four times of five runs for less than the limit,
//! takes one of the [`SHORT_QUERY_SLOTS`] light slots of service class 14. If it runs longer than
//! the limit it is *overdue*: it goes back into the line of its own queue, at the place it had, and
//! keeps running until a slot is free there (then it moves) or until another short query needs its
//! slot (then it is restarted in its own queue).
//!
//! A dynamic limit is the time that seven of ten recent queries stayed under, between 2 and 20
//! seconds. How often the decision was right is counted in [`ShortQueryRecord`].

use std::time::Duration;

use crate::config::ShortQueryLimit;
use crate::predictor::Prediction;
use crate::query::Request;
use crate::time::micros;

/// Slots of the short query queue.
pub const SHORT_QUERY_SLOTS: u32 = 6;
/// The limit before there is a history, and with too short a one.
pub const LIMIT_DEFAULT: Duration = Duration::from_secs(5);
/// The least dynamic limit.
pub const LIMIT_MIN: Duration = Duration::from_secs(2);
/// The greatest dynamic limit.
pub const LIMIT_MAX: Duration = Duration::from_secs(20);

/// Of this many hundredths of all queries the dynamic limit lies above.
const LIMIT_PERCENT: u64 = 70;
/// A dynamic limit needs this many observations.
const HISTORY_MIN: u64 = 50;
/// At this many observations all counts are halved, so that old ones fade.
const HISTORY_MAX: u64 = 2_000;
/// Times are counted in classes, each 19 % above the one before, from a millisecond up.
const CLASSES: usize = 96;
const CLASSES_PER_DOUBLING: f64 = 4.0;

/// How often the decision for or against acceleration was right, over completed queries that
/// could have been accelerated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShortQueryRecord {
    /// Predicted to be short, and were.
    pub short_and_predicted: u64,
    /// Predicted to be long, and were short.
    pub short_not_predicted: u64,
    /// Predicted to be short, and were long.
    pub long_but_predicted_short: u64,
    /// Predicted to be long, and were.
    pub long_and_predicted: u64,
}

/// The history of execution times, and the record.
#[derive(Debug, Clone)]
pub(crate) struct ShortQueries {
    counts: [u64; CLASSES],
    total: u64,
    record: ShortQueryRecord,
}

impl ShortQueries {
    pub(crate) fn new() -> Self {
        Self { counts: [0; CLASSES], total: 0, record: ShortQueryRecord::default() }
    }

    /// A query completed after `time`.
    pub(crate) fn observe(&mut self, time: Duration) {
        if self.total >= HISTORY_MAX {
            for count in &mut self.counts {
                *count /= 2;
            }
            self.total = self.counts.iter().sum();
        }
        self.counts[class_of(time)] += 1;
        self.total += 1;
    }

    /// Whether a completed query was rightly judged.
    pub(crate) fn judge(&mut self, predicted_short: bool, time: Duration, limit: Duration) {
        let record = &mut self.record;
        let count = match (predicted_short, time <= limit) {
            (true, true) => &mut record.short_and_predicted,
            (false, true) => &mut record.short_not_predicted,
            (true, false) => &mut record.long_but_predicted_short,
            (false, false) => &mut record.long_and_predicted,
        };
        *count += 1;
    }

    pub(crate) fn record(&self) -> ShortQueryRecord {
        self.record
    }

    /// How long a query may run in the short query queue.
    pub(crate) fn limit(&self, configured: ShortQueryLimit) -> Duration {
        match configured {
            ShortQueryLimit::Fixed(limit) => limit,
            ShortQueryLimit::Dynamic if self.total < HISTORY_MIN => LIMIT_DEFAULT,
            ShortQueryLimit::Dynamic => self.percentile().clamp(LIMIT_MIN, LIMIT_MAX),
        }
    }

    /// Whether a query may be accelerated at all, whatever is predicted.
    pub(crate) fn is_eligible(request: &Request) -> bool {
        request.kind.can_be_short() && request.slot_count == 1
    }

    /// Whether a query is expected to fit in time and memory.
    pub(crate) fn is_short(prediction: &Prediction, limit: Duration, slot_bytes: u64) -> bool {
        prediction.time_upper < limit && prediction.memory_bytes_upper <= slot_bytes
    }

    /// The upper end of the class in which the percentile lies.
    fn percentile(&self) -> Duration {
        let wanted = (self.total * LIMIT_PERCENT).div_ceil(100);
        let mut seen = 0;
        let class = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        let doublings = (class.unwrap_or(CLASSES - 1) + 1) as f64 / CLASSES_PER_DOUBLING;
        Duration::from_micros((1_000.0 * doublings.exp2()) as u64)
    }
}

fn class_of(time: Duration) -> usize {
    let milliseconds = (micros(time) as f64 / 1_000.0).max(1.0);
    ((milliseconds.log2() * CLASSES_PER_DOUBLING) as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_history(times_ms: impl Iterator<Item = u64>) -> ShortQueries {
        let mut history = ShortQueries::new();
        times_ms.for_each(|time| history.observe(Duration::from_millis(time)));
        history
    }

    /// Within a class, whose ends are 19 % apart.
    fn check_limit(history: &ShortQueries, expected_ms: u64) {
        let limit = history.limit(ShortQueryLimit::Dynamic).as_millis() as f64;
        let ratio = limit / expected_ms as f64;
        assert!((0.84..=1.2).contains(&ratio), "{limit} ms, expected about {expected_ms}");
    }

    #[test]
    fn the_dynamic_limit_is_the_seventieth_percentile_within_bounds() {
        check_limit(&with_history(0..0), 5_000);
        check_limit(&with_history((0..49).map(|_| 3_000)), 5_000);
        // 100 values from 100 ms to 10 s: seventy of them are at most 7 s.
        check_limit(&with_history((1..=100).map(|tenth| tenth * 100)), 7_000);
        check_limit(&with_history((0..100).map(|_| 5)), 2_000);
        check_limit(&with_history((0..100).map(|_| 600_000)), 20_000);
    }

    #[test]
    fn old_times_fade() {
        let mut history = with_history((0..10_000).map(|_| 15_000));
        check_limit(&history, 15_000);
        (0..10_000).for_each(|_| history.observe(Duration::from_millis(4_000)));
        check_limit(&history, 4_000);
        assert!(history.total <= HISTORY_MAX);
    }

    #[test]
    fn a_fixed_limit_stays() {
        let history = with_history((0..100).map(|_| 600_000));
        let fixed = Duration::from_millis(1_500);
        assert_eq!(history.limit(ShortQueryLimit::Fixed(fixed)), fixed);
    }
}
