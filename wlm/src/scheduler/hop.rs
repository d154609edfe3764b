//! Time limits, hops, restarts and moves: how a running query comes to another queue.
//!
//! What a time limit or a hop may do depends on the query:
//!
//! ```text
//!   query                      time limit of the queue   hop of a rule
//!   SELECT, CTAS               reassign or restart       reassign or restart
//!   the same, returning rows   goes on                   reassign or go on
//!   INSERT, UPDATE, DELETE     cancel                    reassign or go on
//!   UNLOAD                     cancel                    reassign or go on
//!   with user-defined function cancel                    goes on
//!   COPY, VACUUM, ANALYZE      goes on                   goes on
//! ```
//!
//! *Reassign*: to the next queue that takes the query, if nobody waits there, enough slots are
//! free and they have the memory that the query uses. *Restart*: in that queue, from the
//! beginning. A query that could restart and has no next queue is cancelled. Since a hop only goes
//! forward, a query hops fewer times than there are queues.

use std::time::Duration;

use super::live::{Moving, Stop};
use super::{Action, Query, QueryId, Scheduler};
use crate::classifier::{Home, next_queue};
use crate::event::EndReason;
use crate::memory::{Hold, Lane};
use crate::query::QueryKind;
use crate::view::FinalState;

/// What became of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hop {
    Reassigned,
    Restarted,
    Cancelled,
    /// The query goes on where it is.
    None,
}

impl Scheduler {
    /// How long a query of `home` may run with `hold`.
    pub(super) fn time_limit(&self, home: Home, hold: &Hold) -> Option<Duration> {
        if hold.is_short() {
            // Acceleration may have been switched off since.
            return self.config.short_queries().map(|limit| self.short_queries.limit(limit));
        }
        match home {
            Home::Queue(queue) if hold.is_of_queue() => self.config.queue(queue).max_execution_time,
            Home::Queue(_) | Home::Superuser => None,
        }
    }

    /// A query has run for as long as its service class allows.
    pub(super) fn limit_reached(&mut self, id: QueryId, actions: &mut Vec<Action>) {
        let query = self.query_mut(id);
        let kind = query.request.kind;
        let running = query.running_mut().expect("a limit is set when a query starts");
        running.is_limit_spent = true;
        if !running.is_settled() {
            return;
        }
        if running.hold.is_short() {
            running.is_overdue = true;
            self.join_line(id);
            return;
        }
        if running.is_returning && kind.is_restartable() {
            return;
        }
        match kind {
            QueryKind::Select | QueryKind::CreateTableAs => {
                self.hop(id, EndReason::ExecutionTimeLimit, actions);
            }
            QueryKind::SelectWithUdf | QueryKind::Write | QueryKind::Unload => {
                self.put_down(id, EndReason::ExecutionTimeLimit, actions);
            }
            QueryKind::Copy
            | QueryKind::Maintenance
            | QueryKind::LeaderOnly
            | QueryKind::CachedResult => {}
        }
    }

    /// Hops a running query, or cancels it for `reason` if it must hop and cannot.
    pub(super) fn hop(&mut self, id: QueryId, reason: EndReason, actions: &mut Vec<Action>) -> Hop {
        let query = self.query(id);
        let request = &query.request;
        let running = query.running().expect("only running queries hop");
        if request.kind.is_protected() || request.kind == QueryKind::SelectWithUdf {
            return Hop::None;
        }
        let Home::Queue(current) = query.home else { return Hop::None };
        let must_leave = running.can_restart(request);
        let group = request.query_group.as_deref();
        let Some(target) = next_queue(&self.config, &request.identity, group, current) else {
            if must_leave {
                self.put_down(id, reason, actions);
                return Hop::Cancelled;
            }
            return Hop::None;
        };
        let (slots, lane) = (query.slots_needed(), Lane::Queue(target));
        let fits = self.lines.queue(target).is_empty()
            && self.memory.slots(lane).idle_count() >= slots
            && self.slot_bytes(lane, slots) >= query.used_bytes();
        if fits {
            let class = self.class_of(Home::Queue(target));
            let expected_bytes = query.prediction.memory_bytes_upper;
            let hold = self.memory.take_slots(lane, class, slots, expected_bytes);
            self.leave_lines(id);
            let hold = hold.expect("enough slots are idle");
            self.begin_move(id, hold, Home::Queue(target), actions);
            Hop::Reassigned
        } else if must_leave {
            self.restart(id, Home::Queue(target), false, actions);
            Hop::Restarted
        } else {
            Hop::None
        }
    }

    /// Has a running query taken down, to be started again.
    pub(super) fn restart(
        &mut self,
        id: QueryId,
        to: Home,
        keeps_place: bool,
        actions: &mut Vec<Action>,
    ) {
        self.leave_lines(id);
        self.set_limit_timer(id, None);
        actions.push(Action::Restart { query: id, service_class: self.class_of(to) });
        let running = self.query_mut(id).running_mut().expect("only running queries restart");
        assert!(running.is_settled(), "one thing at a time");
        running.is_overdue = false;
        running.stop = Stop::Restart { to, keeps_place };
    }

    /// A query has arrived at the place it moved to.
    pub(super) fn moved(&mut self, id: QueryId, actions: &mut Vec<Action>) {
        let Some(moving) = self.take_moving(id) else { return };
        let Moving { hold, to } = moving;
        let class = self.query(id).running().expect("it moved").hold.class;
        self.counters_of(class).evicted += 1;
        self.counters_of(hold.class).serviced += 1;
        let query = self.live.remove(&id).expect("it moved");
        self.log_query(id, &query, class, FinalState::Evicted, actions);
        self.live.insert(id, query);

        let now = self.now;
        let limit = self.time_limit(to, &hold).map(|limit| now.plus(limit));
        let query = self.query_mut(id);
        query.home = to;
        query.entered = now;
        let running = query.running_mut().expect("it moved");
        running.in_class_since = now;
        running.is_limit_spent = false;
        let stays = running.stop == Stop::No;
        let before = std::mem::replace(&mut running.hold, hold);
        self.memory.release(before);
        self.set_limit_timer(id, limit.filter(|_| stays));
    }

    /// A query uses more memory than it would have where it was to go.
    pub(super) fn move_failed(&mut self, id: QueryId, actions: &mut Vec<Action>) {
        let Some(moving) = self.take_moving(id) else { return };
        self.memory.release(moving.hold);
        let query = self.query(id);
        let running = query.running().expect("it was to move");
        if running.stop != Stop::No {
            return;
        }
        if running.can_restart(&query.request) {
            let keeps_place = moving.to == query.home;
            self.restart(id, moving.to, keeps_place, actions);
        } else if running.is_limit_spent && !running.hold.is_short() {
            // Its time limit struck on the way and was not acted on.
            self.limit_reached(id, actions);
        }
    }

    fn take_moving(&mut self, id: QueryId) -> Option<Moving> {
        let running = self.live.get_mut(&id).and_then(Query::running_mut);
        let moving = running.and_then(|running| running.moving.take());
        if moving.is_none() {
            self.ignored_events += 1;
        }
        moving
    }
}
