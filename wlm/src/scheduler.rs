//! The scheduler: events and the time go in, actions come out.
//!
//! [`Scheduler::handle`] does, in this order: fire what was due, take the event, fire what the
//! event made due, then *dispatch*: give free slots and memory to those whose turn it is. All
//! decisions follow from the state, the event and the time passed in; there is no clock, no
//! randomness, and every loop runs over ordered collections, so equal events give equal actions.
//!
//! What it promises ([`Scheduler::verify`] checks it, the simulation in `tests/sim` after every
//! event):
//!
//! * granted memory never exceeds the pool, and no queue runs more slots than it has;
//! * every query that arrives is refused, or started and then released exactly once;
//! * a free slot never stays free while the head of its line fits it;
//! * no starvation: in a queue of slots nobody passes anybody, apart from queries that the short
//!   query queue takes; in automatic mode a query is overtaken only as often as [`crate::fair`]
//!   says. Both hold as long as queries that run end, and are told to have ended.

mod arrive;
mod dispatch;
mod end;
mod hop;
mod live;
mod reconfigure;
mod rules;
mod set_priority;
mod timers;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::classifier::Home;
use crate::config::{Config, Mode, ShortQueryLimit};
use crate::error::Result;
use crate::event::{Action, Event};
use crate::ids::{QueryId, ServiceClass, TaskId};
use crate::memory::{Memory, Pool};
use crate::predictor::{PredictionError, Predictor};
use crate::queue::{Lines, Place};
use crate::short_query::{ShortQueries, ShortQueryRecord};
use crate::time::Time;

pub(crate) use live::{Phase, Query, Stop};
use set_priority::Overrides;
use timers::Timers;
pub use verify::Violation;

/// Workload management of a cluster.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Arc<Config>,
    /// A configuration that waits for a restart.
    pending: Option<Config>,
    /// The latest time seen: a clock that goes back does not move it.
    pub(crate) now: Time,
    pub(crate) memory: Memory,
    pub(crate) lines: Lines,
    /// Queries from arrival to end. As many as there are sessions at most.
    pub(crate) live: BTreeMap<QueryId, Query>,
    timers: Timers,
    predictor: Predictor,
    short_queries: ShortQueries,
    overrides: Overrides,
    pub(crate) counters: BTreeMap<ServiceClass, Counters>,
    next_place: Place,
    next_task: TaskId,
    ignored_events: u64,
}

/// What a service class has seen since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Queries that entered it.
    pub(crate) serviced: u64,
    /// Queries that ended in it after running.
    pub(crate) executed: u64,
    /// Queries that left it for another.
    pub(crate) evicted: u64,
}

impl Scheduler {
    /// Workload management with nothing to manage yet.
    ///
    /// # Errors
    /// The pool is too small for the configuration's slots.
    pub fn new(config: Config, pool: Pool, now: Time) -> Result<Self> {
        let memory = Memory::new(pool, &config)?;
        let lines = match config.mode() {
            Mode::Manual => Lines::new(config.queues().len()),
            Mode::Auto => Lines::new(0),
        };
        Ok(Self {
            config: Arc::new(config),
            pending: None,
            now,
            memory,
            lines,
            live: BTreeMap::new(),
            timers: Timers::default(),
            predictor: Predictor::new(),
            short_queries: ShortQueries::new(),
            overrides: Overrides::default(),
            counters: BTreeMap::new(),
            next_place: Place(0),
            next_task: TaskId(1),
            ignored_events: 0,
        })
    }

    /// Takes an event and answers with what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = self.now.max(now);
        self.fire_due(&mut actions);
        self.take(event, &mut actions);
        self.fire_due(&mut actions);
        self.dispatch(&mut actions);
        actions
    }

    /// Whether a configuration would be of use with the memory there is.
    ///
    /// # Errors
    /// A slot would be too small.
    pub fn check(&self, config: &Config) -> Result<()> {
        self.memory.check(config)
    }

    /// When [`Event::Tick`] is wanted, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The configuration that waits for a restart, if there is one.
    pub fn pending_config(&self) -> Option<&Config> {
        self.pending.as_ref()
    }

    /// Memory that is taken from the pool now, idle slots included.
    pub fn allocated_bytes(&self) -> u64 {
        self.memory.allocated_bytes()
    }

    /// How good predictions of execution time have been.
    pub fn prediction_error(&self) -> PredictionError {
        self.predictor.error()
    }

    /// How good the choice of short queries has been.
    pub fn short_query_record(&self) -> ShortQueryRecord {
        self.short_queries.record()
    }

    /// Events that named a query or a request of which nothing was known: a cancel that came too
    /// late, for example.
    pub fn ignored_events(&self) -> u64 {
        self.ignored_events
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Arrive { query, request } => self.arrive(query, request, actions),
            Event::Progress { query, metrics } => match self.live.get_mut(&query) {
                Some(known) if !known.is_waiting() => known.metrics = *metrics,
                Some(_) | None => self.ignored_events += 1,
            },
            Event::Returning { query } => self.returning(query),
            Event::Ended { query, outcome, metrics } => {
                self.ended(query, outcome, metrics, actions);
            }
            Event::Stopped { query, renamed } => self.stopped(query, renamed, actions),
            Event::Moved { query } => self.moved(query, actions),
            Event::MoveFailed { query } => self.move_failed(query, actions),
            Event::Cancel { query, cause } => self.cancel(query, cause, actions),
            Event::NodeLost { queries } => self.node_lost(&queries, actions),
            Event::SetPriority { scope, priority } => self.set_priority(scope, priority, actions),
            Event::SessionEnded { session } => self.overrides.forget_session(session),
            Event::Reconfigure { config } => self.reconfigure(*config, actions),
            Event::NodeLoad { busy_percent } => {
                let queries_wait = self.lines.len() > 0;
                self.memory.adapt_load_limit(busy_percent, queries_wait);
            }
            Event::Tick => {}
        }
    }

    fn returning(&mut self, query: QueryId) {
        match self.live.get_mut(&query).map(|known| &mut known.phase) {
            Some(Phase::Running(running)) => running.is_returning = true,
            Some(Phase::Waiting) | None => self.ignored_events += 1,
        }
    }

    /// How long a query may run in the short query queue now.
    pub(crate) fn short_query_limit(&self, configured: ShortQueryLimit) -> Duration {
        self.short_queries.limit(configured)
    }

    /// The number under which system tables show a queue.
    pub(crate) fn class_of(&self, home: Home) -> ServiceClass {
        match home {
            Home::Superuser => ServiceClass::SUPERUSER,
            Home::Queue(queue) => self.config.service_class(queue),
        }
    }

    /// The name of a service class.
    pub(crate) fn name_of(&self, class: ServiceClass) -> Arc<str> {
        match self.config.queue_of(class) {
            Some(queue) => Arc::clone(&self.config.queue(queue).name),
            None if class == ServiceClass::SUPERUSER => Arc::from("Service class for super user"),
            None => Arc::from("Short query queue"),
        }
    }

    fn counters_of(&mut self, class: ServiceClass) -> &mut Counters {
        self.counters.entry(class).or_default()
    }

    fn draw_place(&mut self) -> Place {
        let place = self.next_place;
        self.next_place = Place(place.0 + 1);
        place
    }

    fn query(&self, id: QueryId) -> &Query {
        self.live.get(&id).expect("the caller holds the number of a live query")
    }

    fn query_mut(&mut self, id: QueryId) -> &mut Query {
        self.live.get_mut(&id).expect("the caller holds the number of a live query")
    }
}
