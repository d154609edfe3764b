//! Admission: which query runs now. Pure: events in, actions out; no clock, no threads, no
//! DataFusion, so that millions of arrivals can be simulated.
//!
//! A query's states:
//!
//! ```text
//!   arrive -> waiting -> running -> (gone)
//!                 \---------------> (gone)     cancelled while it waited
//! ```
//!
//! Now there is one queue: first come, first served, with a fixed number of slots; it is what
//! Redshift's default configuration is.
//!
//! Invariants: no more queries run than there are slots; a waiting query is started as soon as a
//! slot is free; every query that was started is released exactly once.

use std::collections::{HashSet, VecDeque};

/// A query, from its arrival to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueryId(pub u64);

/// The concurrency of the default queue.
pub const DEFAULT_CONCURRENCY: usize = 5;

/// One queue with a fixed number of slots.
#[derive(Debug)]
pub struct Queue {
    concurrency: usize,
    running: HashSet<QueryId>,
    waiting: VecDeque<QueryId>,
}

impl Queue {
    /// A queue with `concurrency` slots, at least one.
    pub fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self { concurrency, running: HashSet::new(), waiting: VecDeque::new() }
    }

    /// A query arrived. True: it runs now; false: it waits for its turn.
    pub fn arrive(&mut self, query: QueryId) -> bool {
        assert!(!self.running.contains(&query), "a query arrives once");
        let starts = self.running.len() < self.concurrency && self.waiting.is_empty();
        if starts {
            self.running.insert(query);
        } else {
            self.waiting.push_back(query);
        }
        starts
    }

    /// A query ended, or gave up waiting. Answers with the query whose turn it is now, if any.
    pub fn leave(&mut self, query: QueryId) -> Option<QueryId> {
        if !self.running.remove(&query) {
            self.waiting.retain(|other| *other != query);
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.running.insert(next);
        assert!(self.running.len() <= self.concurrency, "no more queries run than slots");
        Some(next)
    }

    /// Queries that run.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Queries that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_start_in_the_order_of_arrival() {
        let mut queue = Queue::new(2);
        assert!(queue.arrive(QueryId(1)));
        assert!(queue.arrive(QueryId(2)));
        assert!(!queue.arrive(QueryId(3)));
        assert!(!queue.arrive(QueryId(4)));
        assert_eq!(queue.leave(QueryId(1)), Some(QueryId(3)));
        assert_eq!(queue.leave(QueryId(4)), None, "it only waited");
        assert_eq!(queue.leave(QueryId(3)), None);
        assert_eq!((queue.running(), queue.waiting()), (1, 0));
    }

    /// Random arrivals and departures, against the invariants of the header.
    #[test]
    fn slots_are_never_exceeded_nor_left_empty() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut queue = Queue::new(5);
        let mut present: Vec<QueryId> = Vec::new();
        for number in 0..200_000 {
            if present.is_empty() || random() % 2 == 0 {
                queue.arrive(QueryId(number));
                present.push(QueryId(number));
            } else {
                let at = usize::try_from(random() % present.len() as u64).unwrap();
                queue.leave(present.swap_remove(at));
            }
            assert_eq!(queue.running(), present.len().min(5));
            assert_eq!(queue.running() + queue.waiting(), present.len());
        }
    }
}
