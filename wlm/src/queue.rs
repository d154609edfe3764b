//! The lines in which queries wait.
//!
//! A line of slots is first come, first served: the head waits until enough slots are free for
//! all that it asked for, and nobody passes it. A query's place is the number it drew when it
//! entered the line; one that comes back from the short query queue keeps its number.
//!
//! Lines of automatic mode are in [`crate::fair`].

use std::collections::BTreeMap;

use crate::fair::FairLine;
use crate::ids::{QueryId, QueueId};

/// A place in line: drawn on entering, unique, lower is earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place(pub(crate) u64);

/// First come, first served.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(BTreeMap<Place, QueryId>);

impl Line {
    pub(crate) fn enter(&mut self, place: Place, query: QueryId) {
        let before = self.0.insert(place, query);
        assert!(before.is_none(), "a place is drawn once");
    }

    /// Answers whether the query was in line.
    pub(crate) fn leave(&mut self, place: Place) -> bool {
        self.0.remove(&place).is_some()
    }

    pub(crate) fn head(&self) -> Option<QueryId> {
        self.0.first_key_value().map(|(_, query)| *query)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Place, QueryId)> {
        self.0.iter().map(|(place, query)| (*place, *query))
    }
}

/// All lines.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) superuser: Line,
    /// Waiting queries that the short query queue would take too. They stand in their own line as
    /// well; whichever has a slot first takes them.
    pub(crate) short: Line,
    /// One per user queue in manual mode.
    queues: Vec<Line>,
    /// Of all user queues in automatic mode.
    pub(crate) fair: FairLine,
}

impl Lines {
    /// Empty lines, `queues` of them for user queues of manual mode.
    pub(crate) fn new(queues: usize) -> Self {
        Self {
            superuser: Line::default(),
            short: Line::default(),
            queues: vec![Line::default(); queues],
            fair: FairLine::default(),
        }
    }

    pub(crate) fn queue(&self, queue: QueueId) -> &Line {
        &self.queues[queue.0]
    }

    pub(crate) fn queue_mut(&mut self, queue: QueueId) -> &mut Line {
        &mut self.queues[queue.0]
    }

    /// Queries in the lines of all queues. Those that also wait for a short query slot count once.
    pub(crate) fn len(&self) -> usize {
        let queues: usize = self.queues.iter().map(Line::len).sum();
        self.superuser.len() + queues + self.fair.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_served_by_place_not_by_time_of_entry() {
        let mut line = Line::default();
        line.enter(Place(2), QueryId(20));
        line.enter(Place(3), QueryId(30));
        line.enter(Place(1), QueryId(10));
        assert_eq!(line.head(), Some(QueryId(10)), "it came back to its old place");
        assert!(line.leave(Place(1)) && !line.leave(Place(1)));
        assert!(line.leave(Place(3)));
        assert_eq!((line.head(), line.len()), (Some(QueryId(20)), 1));
    }
}
