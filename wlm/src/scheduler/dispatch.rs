//! Dispatch: who gets what is free.
//!
//! The queues first, then the short query queue, for those that would have to wait.

use super::live::{Moving, Phase, Running, Short, Stop};
use super::{Action, Mode, QueryId, Scheduler};
use crate::classifier::Home;
use crate::ids::{QueueId, ServiceClass};
use crate::memory::{AUTO_QUERIES_MAX, Hold, LOAD_OF_LONG_QUERY, LOAD_OF_SHORT_QUERY, Lane};
use crate::queue::Line;
use crate::time::micros;

/// A query predicted to run this long counts as a whole long one, in milliseconds.
const LONG_QUERY_MS: u64 = 10_000;
/// The part of the surplus that a query gets if nobody else waits. The surplus is what is free
/// beyond half of the memory: the other half is for predicted needs only.
const SHARE_OF_SURPLUS: u64 = 2;
/// The part of all memory that one query gets at most: half, so that any two can run.
const SHARE_OF_ALL: u64 = 2;

impl Scheduler {
    pub(super) fn dispatch(&mut self, actions: &mut Vec<Action>) {
        self.memory.grow();
        loop {
            self.dispatch_slots(Lane::Superuser, actions);
            match self.config.mode() {
                Mode::Manual => {
                    for index in 0..self.config.queues().len() {
                        self.dispatch_slots(Lane::Queue(QueueId(index)), actions);
                    }
                }
                Mode::Auto => self.dispatch_auto(actions),
            }
            // Who leaves for the short query queue may have been in somebody's way.
            if !self.dispatch_short(actions) {
                break;
            }
        }
        self.vacate_short_slots(actions);
    }

    pub(super) fn line(&self, lane: Lane) -> &Line {
        match lane {
            Lane::Superuser => &self.lines.superuser,
            Lane::Short => &self.lines.short,
            Lane::Queue(queue) => self.lines.queue(queue),
        }
    }

    /// First come, first served: until the head does not fit.
    fn dispatch_slots(&mut self, lane: Lane, actions: &mut Vec<Action>) {
        while let Some(id) = self.line(lane).head() {
            let query = self.query(id);
            let class = self.class_of(query.home);
            let (slots, expected_bytes) =
                (query.slots_needed(), query.prediction.memory_bytes_upper);
            if self.memory.slots(lane).idle_count() < slots {
                return;
            }
            let fits = query.used_bytes() <= self.slot_bytes(lane, slots);
            if !query.is_waiting() && !fits {
                self.give_up_moving(id, actions);
                continue;
            }
            let hold = self.memory.take_slots(lane, class, slots, expected_bytes);
            self.seat(id, hold.expect("enough slots are idle"), actions);
        }
    }

    /// Memory of so many slots of a lane.
    pub(super) fn slot_bytes(&self, lane: Lane, slots: u32) -> u64 {
        self.memory.slots(lane).target_bytes() * u64::from(slots)
    }

    fn dispatch_auto(&mut self, actions: &mut Vec<Action>) {
        while let Some(id) = self.next_of_auto() {
            let query = self.query(id);
            let class = self.class_of(query.home);
            let mut bytes = self.auto_bytes(id);
            if self.lines.fair.len() == 1 {
                let reserved = self.memory.auto_budget_bytes() / 2;
                let surplus = self.memory.auto_free_bytes().saturating_sub(reserved);
                bytes = bytes.max(surplus / SHARE_OF_SURPLUS);
            }
            let hold = self.memory.take_auto(class, bytes, self.auto_load(id));
            self.seat(id, hold.expect("it was picked because it fits"), actions);
        }
    }

    /// Who starts next in automatic mode, if anybody does.
    pub(super) fn next_of_auto(&self) -> Option<QueryId> {
        let fits = |id| self.memory.has_room(self.auto_bytes(id), self.auto_load(id));
        self.lines.fair.pick(fits)
    }

    /// Memory that a query needs in automatic mode: what it is expected to use, within bounds, and
    /// at least what it uses already.
    fn auto_bytes(&self, id: QueryId) -> u64 {
        let query = self.query(id);
        let budget = self.memory.auto_budget_bytes();
        // As many as may run at once fit into the half that is kept for predicted needs.
        let min = budget / 2 / u64::from(AUTO_QUERIES_MAX);
        let expected = query.prediction.memory_bytes_upper;
        expected.clamp(min, budget / SHARE_OF_ALL).max(query.used_bytes())
    }

    /// How much of the nodes' time a query is expected to take: short ones hardly count.
    fn auto_load(&self, id: QueryId) -> u32 {
        let expected_ms = micros(self.query(id).prediction.time) / 1_000;
        let load = expected_ms * u64::from(LOAD_OF_LONG_QUERY) / LONG_QUERY_MS;
        let load = u32::try_from(load).unwrap_or(u32::MAX);
        load.clamp(LOAD_OF_SHORT_QUERY, LOAD_OF_LONG_QUERY)
    }

    /// Starts waiting queries as short ones. Answers whether there were any.
    fn dispatch_short(&mut self, actions: &mut Vec<Action>) -> bool {
        let mut any = false;
        while let Some(id) = self.lines.short.head() {
            let class = ServiceClass::SHORT_QUERY;
            let Some(hold) = self.memory.take_slots(Lane::Short, class, 1, 0) else { break };
            self.leave_lines(id);
            self.query_mut(id).short = Short::Used;
            self.counters_of(class).serviced += 1;
            self.start(id, hold, actions);
            any = true;
        }
        any
    }

    /// Restarts overdue queries in their own queue if short ones need their slots.
    fn vacate_short_slots(&mut self, actions: &mut Vec<Action>) {
        let wanted = self.lines.short.len();
        if wanted == 0 {
            return;
        }
        let on_short_slot = |running: &Running| running.hold.is_short();
        let leaving = |running: &Running| running.stop != Stop::No || running.moving.is_some();
        let running = || self.live.values().filter_map(|query| query.running());
        let vacating = running().filter(|r| on_short_slot(r) && leaving(r)).count();
        let mut overdue: Vec<_> = self
            .live
            .iter()
            .filter_map(|(id, query)| {
                let running = query.running()?;
                let can_leave = running.is_overdue && running.can_restart(&query.request);
                can_leave.then_some((running.started, *id))
            })
            .collect();
        overdue.sort_unstable();
        for (_, id) in overdue.into_iter().take(wanted.saturating_sub(vacating)) {
            self.restart(id, self.query(id).home, true, actions);
        }
    }

    /// Gives the head of a line what was taken for it.
    fn seat(&mut self, id: QueryId, hold: Hold, actions: &mut Vec<Action>) {
        let query = self.query(id);
        let (home, place, priority) = (query.home, query.place, query.priority);
        if hold.is_auto() {
            if query.is_short_candidate() {
                assert!(self.lines.short.leave(place), "a candidate stands in the short line");
            }
            self.lines.fair.start(priority, place);
        } else {
            self.leave_lines(id);
        }
        if self.query(id).is_waiting() {
            self.start(id, hold, actions);
        } else {
            self.begin_move(id, hold, home, actions);
        }
    }

    /// A query that is in no line any more begins to run.
    fn start(&mut self, id: QueryId, hold: Hold, actions: &mut Vec<Action>) {
        let now = self.now;
        let limit = self.time_limit(self.query(id).home, &hold);
        let query = self.query_mut(id);
        query.waited += now.since(query.waiting_since);
        if let Short::Eligible { candidate } = &mut query.short {
            *candidate = false;
        }
        actions.push(Action::Start { query: id, grant: query.grant(&hold) });
        query.phase = Phase::Running(Running {
            hold,
            moving: None,
            started: now,
            in_class_since: now,
            is_returning: false,
            is_overdue: false,
            is_limit_spent: false,
            stop: Stop::No,
        });
        self.set_limit_timer(id, limit.map(|limit| now.plus(limit)));
    }

    /// A running query, in no line any more, is to go to the place that was taken for it.
    pub(super) fn begin_move(
        &mut self,
        id: QueryId,
        hold: Hold,
        to: Home,
        actions: &mut Vec<Action>,
    ) {
        let query = self.query_mut(id);
        actions.push(Action::Move { query: id, grant: query.grant(&hold) });
        let running = query.running_mut().expect("only running queries move");
        assert!(running.is_settled(), "one thing at a time");
        running.is_overdue = false;
        running.moving = Some(Moving { hold, to });
    }

    /// An overdue query whose own queue can never hold it: its slots have too little memory.
    fn give_up_moving(&mut self, id: QueryId, actions: &mut Vec<Action>) {
        let query = self.query(id);
        let running = query.running().expect("only running queries are overdue");
        if running.can_restart(&query.request) {
            self.restart(id, query.home, true, actions);
        } else {
            self.leave_lines(id);
            self.query_mut(id).running_mut().expect("it runs").is_overdue = false;
        }
    }
}
