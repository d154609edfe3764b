//! The invariants, checked in full.

use super::live::{Query, Running, Stop};
use super::timers::Timer;
use super::{Mode, QueryId, Scheduler};
use crate::classifier::Home;
use crate::config::SLOTS_MAX;
use crate::ids::{QueueId, ServiceClass};
use crate::memory::{Hold, Lane};
use crate::priority::Priority;

/// A broken invariant: a defect of this crate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken invariant: {0}")]
pub struct Violation(String);

type Check = Result<(), Violation>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(Violation(what())) }
}

impl Scheduler {
    /// Checks every invariant against the whole state. Takes time in proportion to the number of
    /// live queries; meant for tests and for servers that run with assertions.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn verify(&self) -> Result<(), Violation> {
        self.verify_memory()?;
        self.verify_lines()?;
        self.verify_timers()?;
        self.verify_nothing_idles()?;
        for (id, query) in &self.live {
            self.verify_query(*id, query)?;
        }
        let critical = self.live.values().filter(|query| query.priority == Priority::Critical);
        let critical = critical.count();
        ensure(critical <= 1, || format!("{critical} critical queries"))
    }

    fn holds(&self) -> impl Iterator<Item = &Hold> + Clone {
        self.live.values().filter_map(Query::running).flat_map(|running| {
            let moving = running.moving.as_ref().map(|moving| &moving.hold);
            std::iter::once(&running.hold).chain(moving)
        })
    }

    fn verify_memory(&self) -> Check {
        self.memory.audit(self.holds()).map_err(Violation)?;
        if self.config.mode() == Mode::Manual {
            let slots: u32 = self.config.queues().iter().map(|queue| queue.concurrency).sum();
            ensure(slots <= SLOTS_MAX, || format!("{slots} slots configured"))?;
        }
        Ok(())
    }

    /// Who shall stand in a line stands there, and nobody else.
    fn verify_lines(&self) -> Check {
        let in_line = self.live.values().filter(|query| query.is_in_line()).count();
        let lines = self.lines.len();
        ensure(in_line == lines, || format!("{in_line} queries for {lines} places in line"))?;
        let candidates = self.live.values().filter(|query| query.is_short_candidate()).count();
        let short = self.lines.short.len();
        ensure(candidates == short, || format!("{candidates} candidates, {short} in line"))?;

        let stands = |id: QueryId, place, wanted: &dyn Fn(&Query) -> bool| {
            let query = self.live.get(&id);
            let right = query.is_some_and(|query| query.place == place && wanted(query));
            ensure(right, || format!("query {id} stands in a line: {query:?}"))
        };
        for (place, id) in self.lines.short.iter() {
            stands(id, place, &Query::is_short_candidate)?;
        }
        for (lane, home) in self.lanes_of_queues() {
            for (place, id) in self.line(lane).iter() {
                stands(id, place, &|query| query.is_in_line() && query.home == home)?;
            }
        }
        for (priority, place, id) in self.lines.fair.iter() {
            let is_user_query = |query: &Query| matches!(query.home, Home::Queue(_));
            let wanted = |query: &Query| query.is_in_line() && query.priority == priority;
            stands(id, place, &|query| wanted(query) && is_user_query(query))?;
        }
        Ok(())
    }

    fn verify_timers(&self) -> Check {
        let mut count = 0;
        for (id, query) in &self.live {
            let timers = [
                (query.statement_deadline, Timer::Statement),
                (query.limit_deadline, Timer::Limit),
            ];
            for (deadline, timer) in timers {
                let Some(deadline) = deadline else { continue };
                count += 1;
                let is_set = self.timers.has(deadline, *id, timer);
                ensure(is_set && deadline > self.now, || {
                    format!("query {id}: {timer:?} at {deadline:?}, now {:?}", self.now)
                })?;
            }
        }
        let timers = self.timers.len();
        ensure(count == timers, || format!("{count} deadlines, {timers} timers"))?;
        let rules_watched = self.timers.next_rules().is_some();
        let wanted = self.config.has_rules() && !self.live.is_empty();
        ensure(rules_watched == wanted, || "rules are not watched as they should".to_owned())?;
        let due = self.timers.next().is_some_and(|next| next <= self.now);
        ensure(!due, || "something is due and was not done".to_owned())
    }

    /// Nobody waits for what is free.
    fn verify_nothing_idles(&self) -> Check {
        ensure(!self.memory.can_grow(), || "memory is free for a slot that is missing".to_owned())?;
        for (lane, _) in self.lanes_of_queues() {
            let slots = self.memory.slots(lane);
            let idle = slots.idle_count();
            if let Some(id) = self.line(lane).head() {
                let needed = self.query(id).slots_needed();
                ensure(idle < needed, || format!("{lane:?}: {idle} idle, query {id} waits"))?;
                let target = slots.target_count();
                ensure(needed <= target, || format!("query {id} can never run in {lane:?}"))?;
            }
        }
        let idle = self.memory.slots(Lane::Short).idle_count();
        let waiting = self.lines.short.len();
        ensure(idle == 0 || waiting == 0, || format!("{idle} short slots idle, {waiting} wait"))?;
        if self.config.mode() == Mode::Auto {
            let next = self.next_of_auto();
            ensure(next.is_none(), || format!("query {next:?} fits and waits"))?;
        }
        Ok(())
    }

    fn verify_query(&self, id: QueryId, query: &Query) -> Check {
        let Some(running) = query.running() else { return Ok(()) };
        let class = running.hold.class;
        let right_class = match query.home {
            Home::Superuser => class == ServiceClass::SUPERUSER,
            Home::Queue(queue) => {
                let home = self.config.service_class(queue);
                class == home || class == ServiceClass::SHORT_QUERY
            }
        };
        ensure(right_class, || format!("query {id} of {:?} runs in {class}", query.home))?;
        ensure(running.hold.bytes() > 0, || format!("query {id} has no memory"))?;
        ensure(!running.is_overdue || may_be_overdue(running), || {
            format!("query {id} is overdue: {running:?}")
        })?;
        let may_restart = match &running.stop {
            Stop::Restart { .. } => query.request.kind.is_restartable(),
            Stop::No | Stop::Final(_) => true,
        };
        ensure(may_restart, || format!("query {id} restarts: {:?}", query.request.kind))
    }

    fn lanes_of_queues(&self) -> Vec<(Lane, Home)> {
        let mut lanes = vec![(Lane::Superuser, Home::Superuser)];
        if self.config.mode() == Mode::Manual {
            let queues = (0..self.config.queues().len()).map(QueueId);
            lanes.extend(queues.map(|queue| (Lane::Queue(queue), Home::Queue(queue))));
        }
        lanes
    }
}

fn may_be_overdue(running: &Running) -> bool {
    running.hold.is_short() && running.is_settled()
}
