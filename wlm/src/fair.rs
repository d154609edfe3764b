//! The line of automatic mode: all user queues together, by priority, and nobody waits forever.
//!
//! There is one level per priority. Within a level the query that is predicted to be shortest goes
//! first; between levels the highest goes first. What does not fit now is passed over in favour of
//! what does. Two counters keep that from starving anyone:
//!
//! * A query that [`OVERTAKEN_MAX`] later arrivals of its level have overtaken is *aged*: from then
//!   on nobody of its level passes it, and aged queries go in order of arrival.
//! * A level that was passed over a number of times in a row is *due*: from then on no other level
//!   is served before it, except those that were due earlier. Each level is passed over at most
//!   [`passed_over_max`] times in a row.
//!
//! So a query starts after a bounded number of other starts, whatever arrives, provided that
//! running queries end. A critical query goes before everything and counts for neither: there is
//! at most one, and a superuser put it there.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::QueryId;
use crate::priority::Priority;
use crate::queue::Place;

/// How many later arrivals of its own priority may overtake a query.
pub const OVERTAKEN_MAX: u32 = 32;

const LEVELS: usize = Priority::OF_QUEUES.len();

/// When a level becomes due, by rank: the lowest waits longest.
const DUE_AFTER: [u32; LEVELS] = [32, 16, 8, 4, 4];

/// How many starts of other priorities may in a row precede one of this priority while a query of
/// it waits. `Critical` is never passed over.
pub fn passed_over_max(priority: Priority) -> u32 {
    // Levels that were due before it, each once: afterwards they are due later than it.
    let others = u32::try_from(LEVELS - 1).expect("a handful");
    DUE_AFTER.get(priority.rank()).map_or(0, |due_after| due_after + others)
}

/// A query in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) query: QueryId,
    /// Predicted execution time.
    pub(crate) predicted_us: u64,
    /// Later arrivals of its level that started before it.
    pub(crate) overtaken: u32,
}

/// The line.
#[derive(Debug, Default)]
pub(crate) struct FairLine {
    levels: [Level; LEVELS],
    critical: BTreeMap<Place, Waiter>,
    /// Starts so far: the clock by which levels become due.
    starts: u64,
}

#[derive(Debug, Default)]
struct Level {
    waiters: BTreeMap<Place, Waiter>,
    /// Waiters that are not aged, shortest first.
    by_time: BTreeSet<(u64, Place)>,
    aged: BTreeSet<Place>,
    /// Starts of other levels since this one was served, while it was not empty.
    passed_over: u32,
    due_since: Option<u64>,
}

impl FairLine {
    pub(crate) fn enter(&mut self, priority: Priority, place: Place, waiter: Waiter) {
        let before = match self.level_mut(priority) {
            None => self.critical.insert(place, waiter),
            Some(level) => level.enter(place, waiter),
        };
        assert!(before.is_none(), "a place is drawn once");
    }

    /// A query leaves without being started. Answers with how often it was overtaken, if it was
    /// in line.
    pub(crate) fn leave(&mut self, priority: Priority, place: Place) -> Option<u32> {
        let waiter = match self.level_mut(priority) {
            None => self.critical.remove(&place),
            Some(level) => level.leave(place),
        };
        waiter.map(|waiter| waiter.overtaken)
    }

    /// A query leaves because it starts: those that it overtakes or passes over are counted.
    pub(crate) fn start(&mut self, priority: Priority, place: Place) {
        self.leave(priority, place).expect("what starts was in line");
        if priority == Priority::Critical {
            return;
        }
        self.starts += 1;
        let starts = self.starts;
        for (rank, level) in self.levels.iter_mut().enumerate() {
            if rank == priority.rank() {
                level.served(place);
            } else if !level.waiters.is_empty() {
                level.passed_over += 1;
                if level.passed_over >= DUE_AFTER[rank] {
                    level.due_since.get_or_insert(starts);
                }
            }
        }
    }

    /// Who starts next, among those that fit now.
    pub(crate) fn pick(&self, mut fits: impl FnMut(QueryId) -> bool) -> Option<QueryId> {
        if let Some(waiter) = self.critical.values().next() {
            return Some(waiter.query).filter(|query| fits(*query));
        }
        // Of levels that became due by the same start, the higher one: `min_by_key` keeps the first.
        let due = self.levels.iter().rev().filter(|level| level.due_since.is_some());
        if let Some(level) = due.min_by_key(|level| level.due_since) {
            return level.pick(&mut fits);
        }
        self.levels.iter().rev().find_map(|level| level.pick(&mut fits))
    }

    pub(crate) fn len(&self) -> usize {
        self.critical.len() + self.levels.iter().map(|level| level.waiters.len()).sum::<usize>()
    }

    /// All queries in line, with their priority, highest first and then by place.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Priority, Place, QueryId)> {
        let critical = (Priority::Critical, &self.critical);
        let levels = Priority::OF_QUEUES.into_iter().zip(&self.levels).rev();
        let levels = levels.map(|(priority, level)| (priority, &level.waiters));
        std::iter::once(critical).chain(levels).flat_map(|(priority, waiters)| {
            waiters.iter().map(move |(place, waiter)| (priority, *place, waiter.query))
        })
    }

    fn level_mut(&mut self, priority: Priority) -> Option<&mut Level> {
        self.levels.get_mut(priority.rank())
    }
}

impl Level {
    fn enter(&mut self, place: Place, waiter: Waiter) -> Option<Waiter> {
        self.line_up(place, &waiter);
        self.waiters.insert(place, waiter)
    }

    fn leave(&mut self, place: Place) -> Option<Waiter> {
        let waiter = self.waiters.remove(&place)?;
        self.by_time.remove(&(waiter.predicted_us, place));
        self.aged.remove(&place);
        if self.waiters.is_empty() {
            (self.passed_over, self.due_since) = (0, None);
        }
        Some(waiter)
    }

    fn line_up(&mut self, place: Place, waiter: &Waiter) {
        if waiter.overtaken >= OVERTAKEN_MAX {
            self.aged.insert(place);
        } else {
            self.by_time.insert((waiter.predicted_us, place));
        }
    }

    /// The query at `place` was started.
    fn served(&mut self, place: Place) {
        (self.passed_over, self.due_since) = (0, None);
        let mut aged = Vec::new();
        for (earlier, waiter) in self.waiters.range_mut(..place) {
            waiter.overtaken += 1;
            if waiter.overtaken == OVERTAKEN_MAX {
                aged.push((waiter.predicted_us, *earlier));
            }
        }
        for (predicted_us, place) in aged {
            self.by_time.remove(&(predicted_us, place));
            self.aged.insert(place);
        }
    }

    fn pick(&self, fits: &mut impl FnMut(QueryId) -> bool) -> Option<QueryId> {
        if let Some(place) = self.aged.first() {
            return Some(self.waiters[place].query).filter(|query| fits(*query));
        }
        let mut in_order = self.by_time.iter().map(|(_, place)| self.waiters[place].query);
        in_order.find(|query| fits(*query))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(query: u64, predicted_us: u64) -> Waiter {
        Waiter { query: QueryId(query), predicted_us, overtaken: 0 }
    }

    fn enter(line: &mut FairLine, priority: Priority, query: u64, predicted_us: u64) {
        line.enter(priority, Place(query), waiter(query, predicted_us));
    }

    fn start_next(line: &mut FairLine, fits: impl FnMut(QueryId) -> bool) -> Option<u64> {
        let query = line.pick(fits)?;
        let (priority, place, _) = line.iter().find(|(_, _, other)| *other == query).unwrap();
        line.start(priority, place);
        Some(query.0)
    }

    #[test]
    fn higher_priorities_first_then_shorter_queries() {
        let mut line = FairLine::default();
        enter(&mut line, Priority::Low, 1, 1);
        enter(&mut line, Priority::Normal, 2, 50);
        enter(&mut line, Priority::Normal, 3, 10);
        enter(&mut line, Priority::Critical, 4, 900);
        let order: Vec<u64> = std::iter::from_fn(|| start_next(&mut line, |_| true)).collect();
        assert_eq!(order, [4, 3, 2, 1]);
    }

    #[test]
    fn what_does_not_fit_is_passed_over_until_it_is_aged() {
        let mut line = FairLine::default();
        enter(&mut line, Priority::Normal, 0, 1);
        let mut next = 1;
        for _ in 0..OVERTAKEN_MAX {
            enter(&mut line, Priority::Normal, next, 5);
            assert_eq!(start_next(&mut line, |query| query.0 != 0), Some(next));
            next += 1;
        }
        enter(&mut line, Priority::Normal, next, 5);
        assert_eq!(start_next(&mut line, |query| query.0 != 0), None, "nobody passes it now");
        assert_eq!(start_next(&mut line, |_| true), Some(0));
    }

    #[test]
    fn aged_queries_go_in_order_of_arrival() {
        let mut line = FairLine::default();
        enter(&mut line, Priority::Normal, 1, 1_000);
        enter(&mut line, Priority::Normal, 2, 900);
        for query in 3..3 + u64::from(OVERTAKEN_MAX) {
            enter(&mut line, Priority::Normal, query, 5);
            assert_eq!(start_next(&mut line, |_| true), Some(query));
        }
        enter(&mut line, Priority::Normal, 100, 5);
        let order: Vec<u64> = std::iter::from_fn(|| start_next(&mut line, |_| true)).collect();
        assert_eq!(order, [1, 2, 100]);
    }

    /// Under a flood of the highest priority every level is served within its bound.
    #[test]
    fn no_level_is_passed_over_more_often_than_promised() {
        let mut line = FairLine::default();
        let mut passed = [0_u32; LEVELS];
        let mut served = [0_u32; LEVELS];
        for query in 0..3_000 {
            for (rank, priority) in Priority::OF_QUEUES.into_iter().enumerate() {
                enter(&mut line, priority, query * 5 + rank as u64, 10);
            }
            let started = start_next(&mut line, |_| true).unwrap();
            let rank = usize::try_from(started % 5).unwrap();
            for (other, count) in passed.iter_mut().enumerate() {
                *count = if other == rank { 0 } else { *count + 1 };
                let max = passed_over_max(Priority::OF_QUEUES[other]);
                assert!(*count <= max, "rank {other} passed over {count} times");
            }
            served[rank] += 1;
        }
        assert!(served.is_sorted(), "higher priorities are served more often: {served:?}");
        assert!(served[0] > 75, "and the lowest too: {served:?}");
    }

    #[test]
    fn a_due_level_whose_query_does_not_fit_lets_nobody_pass() {
        let mut line = FairLine::default();
        enter(&mut line, Priority::Lowest, 1_000, 10);
        for query in 0..100 {
            enter(&mut line, Priority::Highest, query, 10);
        }
        let mut starts = 0;
        while start_next(&mut line, |query| query.0 != 1_000).is_some() {
            starts += 1;
        }
        assert_eq!(starts, 32);
        assert_eq!(start_next(&mut line, |_| true), Some(1_000));
    }
}
