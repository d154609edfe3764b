//! What happens at a time: statement timeouts, time limits of service classes, and the period in
//! which rules are looked at.

use std::collections::BTreeSet;

use super::{Action, QueryId, Scheduler, Time};
use crate::event::EndReason;
use crate::rule::RULE_PERIOD;

/// All deadlines, the earliest first.
#[derive(Debug, Default)]
pub(super) struct Timers {
    deadlines: BTreeSet<(Time, QueryId, Timer)>,
    /// When rules are looked at next; set while there are rules and queries.
    next_rules: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    Statement,
    Limit,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Time> {
        let first = self.deadlines.first().map(|(time, _, _)| *time);
        [first, self.next_rules].into_iter().flatten().min()
    }

    pub(super) fn next_rules(&self) -> Option<Time> {
        self.next_rules
    }

    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }

    pub(super) fn has(&self, time: Time, query: QueryId, timer: Timer) -> bool {
        self.deadlines.contains(&(time, query, timer))
    }
}

impl Scheduler {
    pub(super) fn set_statement_timer(&mut self, id: QueryId, deadline: Option<Time>) {
        let before = std::mem::replace(&mut self.query_mut(id).statement_deadline, deadline);
        self.set_timer(id, Timer::Statement, before, deadline);
    }

    pub(super) fn set_limit_timer(&mut self, id: QueryId, deadline: Option<Time>) {
        let before = std::mem::replace(&mut self.query_mut(id).limit_deadline, deadline);
        self.set_timer(id, Timer::Limit, before, deadline);
    }

    fn set_timer(&mut self, id: QueryId, timer: Timer, old: Option<Time>, new: Option<Time>) {
        if let Some(old) = old {
            let was_set = self.timers.deadlines.remove(&(old, id, timer));
            assert!(was_set, "a query's deadlines are in the timers");
        }
        if let Some(new) = new {
            self.timers.deadlines.insert((new, id, timer));
        }
    }

    /// Starts or stops the period of the rules, as there are any.
    pub(super) fn watch_rules(&mut self) {
        let wanted = self.config.has_rules() && !self.live.is_empty();
        self.timers.next_rules = match self.timers.next_rules {
            Some(next) if wanted => Some(next),
            None if wanted => Some(self.now.plus(RULE_PERIOD)),
            Some(_) | None => None,
        };
    }

    /// Does all that is due.
    pub(super) fn fire_due(&mut self, actions: &mut Vec<Action>) {
        while let Some((time, query, timer)) = self.timers.deadlines.first().copied()
            && time <= self.now
        {
            match timer {
                Timer::Statement => {
                    self.set_statement_timer(query, None);
                    self.put_down(query, EndReason::StatementTimeout, actions);
                }
                Timer::Limit => {
                    self.set_limit_timer(query, None);
                    self.limit_reached(query, actions);
                }
            }
        }
        if self.timers.next_rules.is_some_and(|next| next <= self.now) {
            self.timers.next_rules = None;
            self.evaluate_rules(actions);
            self.watch_rules();
        }
    }
}
