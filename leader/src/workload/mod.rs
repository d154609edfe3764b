//! Workload management in the server: holds the state machine of the `wlm` crate, tells it what
//! happens, and does what it answers.
//!
//! ```text
//!   session --admit--> Scheduler --Start--> Admission: memory, orders --> query threads
//!                        ^   |                                |
//!                        |   +--Stop, Restart, Move-----------+
//!                        +------Ended, when the last owner has gone and the memory is free
//! ```
//!
//! The scheduler is behind a lock that is held for microseconds; whoever has something to tell it
//! also does what it answers, in order, under the same lock. One task of this module rings its timer,
//! samples what running queries do, and watches for memory that outlives its query.
//!
//! Invariant: each query that was started is reported as ended exactly once, whatever became of it:
//! [`Admission`] says so when it is dropped, and it cannot be copied.

mod admission;
mod features;
mod figures;
mod history;
mod load;
mod seat;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use compute::memory::QueryMemory;
use datafusion::common::runtime::JoinSet;
use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use storage::ids::Xid;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use wlm::view::QueryStateRow;
use wlm::{
    Action, CancelCause, Config, EndReason, Event, Grant, Outcome, Parsed, Pool, Priority,
    PriorityScope, Property, QueryId, QueryMetrics, Request, Scheduler, SessionId, Time,
};

use crate::error::{Error, Result, code};
use crate::session::Clock;
use crate::transaction::lock::PlaceWaits;
pub use admission::{Admission, Order, Orders, Returning};
use admission::{Started, Ticket};
pub use features::{features, is_managed};
pub use figures::Figures;
pub use history::History;
use load::ProcessorLoad;
pub use seat::{Claim, Seat};

/// The parameter that holds the configuration.
pub const CONFIGURATION: &str = "wlm_json_configuration";

/// The part of memory that queries without compute nodes share: one of so many.
const LEADER_SHARE: usize = 16;
/// How often running queries are looked at.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// How often memory is looked at that should be free by now.
const LINGER_INTERVAL: Duration = Duration::from_millis(2);
/// After this long a query's place is given away although its memory is not all free.
const LINGER_MAX: Duration = Duration::from_secs(30);

/// Decides which query runs.
pub struct Workload {
    clock: Clock,
    /// What queries share that run on the leader alone.
    leader_memory: QueryMemory,
    inner: Mutex<Inner>,
    alarm: Notify,
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload").finish_non_exhaustive()
    }
}

struct Inner {
    scheduler: Scheduler,
    /// Whose spill space and caches queries share.
    base: Arc<RuntimeEnv>,
    /// On so many a query runs.
    nodes: usize,
    waiting: HashMap<QueryId, oneshot::Sender<Verdict>>,
    running: HashMap<QueryId, Arc<Ticket>>,
    lingering: Vec<Lingering>,
    history: History,
    next_query: u64,
}

/// What a waiting query is told.
type Verdict = std::result::Result<Started, EndReason>;

/// A query that has ended but whose memory is not all free.
struct Lingering {
    query: QueryId,
    outcome: Outcome,
    metrics: Option<Box<QueryMetrics>>,
    memory: QueryMemory,
    since: Time,
}

/// What became of a new configuration.
#[derive(Debug, Default)]
pub struct Reconfigured {
    /// What waits for a restart.
    pub after_restart: Vec<Property>,
}

impl Workload {
    /// Workload management of so many nodes, each with `memory_bytes`; `base` is the environment of
    /// this process.
    ///
    /// # Errors
    /// If the memory is too small for the configuration.
    pub fn new(
        config: Config,
        nodes: usize,
        memory_bytes: usize,
        base: Arc<RuntimeEnv>,
        clock: Clock,
    ) -> Result<Arc<Self>> {
        let leader_bytes = memory_bytes / LEADER_SHARE;
        let leader_memory = QueryMemory::new(&base, leader_bytes)?;
        let pool = Pool::new((memory_bytes - leader_bytes) as u64);
        let now = time(&clock);
        let scheduler = Scheduler::new(config, pool, now)
            .map_err(|error| Error::Config(format!("{CONFIGURATION}: {error}")))?;
        let inner = Inner {
            scheduler,
            base,
            nodes,
            waiting: HashMap::new(),
            running: HashMap::new(),
            lingering: Vec::new(),
            history: History::default(),
            next_query: 1,
        };
        Ok(Arc::new(Self {
            clock,
            leader_memory,
            inner: Mutex::new(inner),
            alarm: Notify::new(),
            tasks: Mutex::new(JoinSet::new()),
        }))
    }

    /// Begins to ring the scheduler's timer.
    pub fn watch(self: &Arc<Self>, handle: &Handle) {
        self.tasks.lock().spawn_on(run(Arc::downgrade(self)), handle);
    }

    /// The memory of queries that run on the leader alone.
    pub fn leader_memory(&self) -> &QueryMemory {
        &self.leader_memory
    }

    /// Waits until the query may run. Dropping the future gives its place in line up.
    ///
    /// # Errors
    /// If it will never run: it asks for too much, or it was cancelled in the line.
    pub async fn admit(self: &Arc<Self>, request: Request) -> Result<Admission> {
        let (sender, receiver) = oneshot::channel();
        let query = {
            let mut inner = self.inner.lock();
            let query = inner.next_query();
            inner.waiting.insert(query, sender);
            inner.tell(Event::Arrive { query, request: Arc::new(request) }, self.now());
            query
        };
        self.alarm.notify_one();
        self.wait(query, receiver).await
    }

    /// Waits for the verdict on a query that stands in line.
    async fn wait(
        self: &Arc<Self>,
        query: QueryId,
        receiver: oneshot::Receiver<Verdict>,
    ) -> Result<Admission> {
        let mut place = Place { workload: Arc::clone(self), query: Some(query) };
        let verdict = receiver.await;
        place.query = None;
        match verdict {
            Ok(Ok(started)) => Ok(Admission::new(Arc::clone(self), started)),
            Ok(Err(reason)) => Err(Error::Workload { query, reason }),
            Err(_) => Err(Error::Internal("workload management lost a query".into())),
        }
    }

    /// The work of a query that was told to restart has stopped: waits until it may run again,
    /// under a new number.
    async fn rejoin(self: &Arc<Self>, query: QueryId) -> Result<Admission> {
        let (sender, receiver) = oneshot::channel();
        let renamed = {
            let mut inner = self.inner.lock();
            let renamed = inner.next_query();
            inner.running.remove(&query);
            inner.waiting.insert(renamed, sender);
            inner.tell(Event::Stopped { query, renamed }, self.now());
            renamed
        };
        self.alarm.notify_one();
        self.wait(renamed, receiver).await
    }

    /// A number for a query that runs in the place of another.
    pub fn new_query(&self) -> QueryId {
        self.inner.lock().next_query()
    }

    /// Leaves the line, or what was started meanwhile.
    fn leave(&self, query: QueryId) {
        let mut inner = self.inner.lock();
        let event = if inner.waiting.remove(&query).is_some() {
            Event::Cancel { query, cause: CancelCause::User }
        } else if inner.running.remove(&query).is_some() {
            Event::Ended { query, outcome: Outcome::Stopped, metrics: None }
        } else {
            return;
        };
        inner.tell(event, self.now());
    }

    /// A query's work is over, but for what it may still hold of its memory.
    fn ended(
        &self,
        query: QueryId,
        outcome: Outcome,
        metrics: Option<Box<QueryMetrics>>,
        memory: QueryMemory,
    ) {
        let now = self.now();
        let mut inner = self.inner.lock();
        inner.running.remove(&query);
        if memory.reserved_bytes() == 0 {
            inner.tell(Event::Ended { query, outcome, metrics }, now);
        } else {
            inner.lingering.push(Lingering { query, outcome, metrics, memory, since: now });
            self.alarm.notify_one();
        }
    }

    /// The first row of a query has gone to its client: it can no longer be restarted.
    fn returning(&self, query: QueryId) {
        self.inner.lock().tell(Event::Returning { query }, self.now());
    }

    /// Whether the configuration would be taken now.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn check(&self, json: &str) -> Result<Parsed> {
        let parsed = Config::parse(json).map_err(|error| refused(&error))?;
        self.inner.lock().scheduler.check(&parsed.config).map_err(|error| refused(&error))?;
        Ok(parsed)
    }

    /// Takes a configuration. The one in force stays if it is refused.
    ///
    /// # Errors
    /// With the reason why it was refused.
    pub fn reconfigure(&self, config: Config) -> Result<Reconfigured> {
        let mut inner = self.inner.lock();
        let answers = inner.tell(Event::Reconfigure { config: Box::new(config) }, self.now());
        drop(inner);
        self.alarm.notify_one();
        for answer in answers {
            match answer {
                Action::ReconfigureRefused { error } => return Err(refused(&error)),
                Action::Reconfigured { after_restart, .. } => {
                    return Ok(Reconfigured { after_restart });
                }
                _ => {}
            }
        }
        Ok(Reconfigured::default())
    }

    /// Changes a priority. Answers with what it was, if it was set, and what it is.
    ///
    /// # Errors
    /// If it cannot be changed now.
    pub fn set_priority(
        &self,
        scope: PriorityScope,
        priority: Option<Priority>,
    ) -> Result<(Option<Priority>, Option<Priority>)> {
        let answers = self.inner.lock().tell(Event::SetPriority { scope, priority }, self.now());
        self.alarm.notify_one();
        for answer in answers {
            match answer {
                Action::PrioritySet { from, to, .. } => return Ok((from, to)),
                Action::PriorityRefused { reason, .. } => {
                    let code = code::OBJECT_NOT_IN_PREREQUISITE_STATE;
                    return Err(Error::statement(code, reason.to_string()));
                }
                _ => {}
            }
        }
        Err(Error::Internal("a change of priority was not answered".into()))
    }

    /// A session is gone.
    pub fn session_ended(&self, process_id: i32) {
        let session = SessionId(process_id.cast_unsigned());
        self.inner.lock().tell(Event::SessionEnded { session }, self.now());
    }

    /// Reads the state as of now: for system tables.
    pub fn read<T>(&self, read: impl FnOnce(&Scheduler, &History) -> T) -> T {
        let mut inner = self.inner.lock();
        // So that spans are those of now.
        inner.tell(Event::Tick, self.now());
        let inner = &*inner;
        read(&inner.scheduler, &inner.history)
    }

    /// Transactions whose queries wait, each with those that have a place of the same queue.
    pub fn place_waits(&self) -> PlaceWaits {
        let states = self.read(|scheduler, _| scheduler.query_state_rows());
        let (waiting, running): (Vec<QueryStateRow>, Vec<QueryStateRow>) =
            states.into_iter().partition(QueryStateRow::is_waiting);
        let wait = |waiter: QueryStateRow| {
            let has_place = |row: &&QueryStateRow| row.service_class == waiter.service_class;
            let holders = running.iter().filter(has_place).map(|row| Xid(row.xid));
            (Xid(waiter.xid), holders.collect())
        };
        waiting.into_iter().map(wait).collect()
    }

    fn now(&self) -> Time {
        time(&self.clock)
    }

    /// Whether nothing waits, runs or lingers: for tests.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        let inner = self.inner.lock();
        inner.waiting.is_empty() && inner.running.is_empty() && inner.lingering.is_empty()
    }
}

/// A configuration in words.
///
/// # Errors
/// With the reason why it would be refused.
pub fn explain(json: &str) -> std::result::Result<String, String> {
    match Config::parse(json) {
        Ok(parsed) => Ok(wlm::explain(&parsed)),
        Err(error) => Err(match error.hint() {
            Some(hint) => format!("{error}\nhint: {hint}"),
            None => error.to_string(),
        }),
    }
}

/// The microseconds that the clock shows.
fn time(clock: &Clock) -> Time {
    Time(u64::try_from(clock().timestamp_micros()).unwrap_or(0))
}

fn refused(error: &wlm::Error) -> Error {
    let message = format!("invalid value for parameter \"{CONFIGURATION}\"");
    let refused =
        Error::statement(code::INVALID_PARAMETER_VALUE, message).with_detail(format!("{error}."));
    match error.hint() {
        Some(hint) => refused.with_hint(format!("{hint}.")),
        None => refused,
    }
}

/// A place in line; dropped, it is given up.
struct Place {
    workload: Arc<Workload>,
    query: Option<QueryId>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(query) = self.query {
            self.workload.leave(query);
        }
    }
}

impl Inner {
    fn next_query(&mut self) -> QueryId {
        let query = QueryId(self.next_query);
        self.next_query += 1;
        query
    }

    /// Tells the scheduler, and does what it answers. Gives back what only the caller can use.
    fn tell(&mut self, event: Event, now: Time) -> Vec<Action> {
        let mut events = VecDeque::from([event]);
        let mut answers = Vec::new();
        while let Some(event) = events.pop_front() {
            for action in self.scheduler.handle(event, now) {
                match action {
                    Action::Start { query, grant } => events.extend(self.start(query, grant)),
                    Action::Refuse { query, reason } => {
                        if let Some(waiting) = self.waiting.remove(&query) {
                            // Who has gone meanwhile does not need to know.
                            let _ = waiting.send(Err(reason));
                        }
                    }
                    Action::Stop { query, reason } => self.order(query, Order::Stop(reason)),
                    Action::Restart { query, .. } => self.order(query, Order::Restart),
                    Action::Move { query, grant } => {
                        let moved = self.running.get(&query);
                        let moved = moved.is_some_and(|ticket| ticket.resize(grant, self.nodes));
                        events.push_back(if moved {
                            Event::Moved { query }
                        } else {
                            Event::MoveFailed { query }
                        });
                    }
                    Action::LogQuery(row) => self.history.add_query(*row),
                    Action::LogRule(row) => self.history.add_rule(*row),
                    Action::LogError(row) => self.history.add_error(*row),
                    Action::ChangePriority { query, cpu_share, .. } => {
                        if let Some(ticket) = self.running.get(&query) {
                            ticket.share(cpu_share);
                        }
                    }
                    Action::Queue { .. } | Action::Bypass { .. } => {}
                    Action::PrioritySet { .. }
                    | Action::PriorityRefused { .. }
                    | Action::Reconfigured { .. }
                    | Action::ReconfigureRefused { .. } => answers.push(action),
                }
            }
        }
        answers
    }

    /// Lets a query run; if that cannot be, it has ended.
    fn start(&mut self, query: QueryId, grant: Grant) -> Option<Event> {
        let waiting = self.waiting.remove(&query)?;
        match Ticket::start(query, grant, &self.base) {
            Ok(started) => {
                self.running.insert(query, Arc::clone(&started.ticket));
                // If nobody waits any more, the place in line says so when it is dropped.
                let _ = waiting.send(Ok(started));
                None
            }
            Err(error) => {
                // The sender is dropped, and with it the query fails.
                tracing::error!(%error, "a query's memory could not be set up");
                Some(Event::Ended { query, outcome: Outcome::Failed, metrics: None })
            }
        }
    }

    fn order(&self, query: QueryId, order: Order) {
        if let Some(ticket) = self.running.get(&query) {
            ticket.order(order);
        }
    }
}

/// Rings the timer, samples running queries, and frees places whose memory is free.
async fn run(workload: Weak<Workload>) {
    let mut load = ProcessorLoad::default();
    let mut next_sample = tokio::time::Instant::now() + SAMPLE_INTERVAL;
    loop {
        let Some(strong) = workload.upgrade() else { return };
        let pause = strong.pause();
        let sleep = tokio::time::sleep(pause.min(SAMPLE_INTERVAL));
        tokio::select! {
            () = sleep => {}
            () = strong.alarm.notified() => {}
        }
        if tokio::time::Instant::now() >= next_sample {
            next_sample = tokio::time::Instant::now() + SAMPLE_INTERVAL;
            strong.sample(&mut load);
        }
        strong.tick();
    }
}

impl Workload {
    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let inner = self.inner.lock();
        if !inner.lingering.is_empty() {
            return LINGER_INTERVAL;
        }
        inner.scheduler.next_deadline().map_or(SAMPLE_INTERVAL, |at| at.since(self.now()))
    }

    fn tick(&self) {
        let now = self.now();
        let mut inner = self.inner.lock();
        for ended in std::mem::take(&mut inner.lingering) {
            let overdue = now.since(ended.since) > LINGER_MAX;
            if ended.memory.reserved_bytes() > 0 && !overdue {
                inner.lingering.push(ended);
                continue;
            }
            if overdue {
                let (query, bytes) = (ended.query.0, ended.memory.reserved_bytes());
                tracing::error!(query, bytes, "a query has ended and its memory is not free");
            }
            let Lingering { query, outcome, metrics, .. } = ended;
            inner.tell(Event::Ended { query, outcome, metrics }, now);
        }
        inner.tell(Event::Tick, now);
    }

    /// Reports what running queries have done so far, and how busy the machine is.
    fn sample(&self, load: &mut ProcessorLoad) {
        let tickets: Vec<_> = self.inner.lock().running.values().map(Arc::clone).collect();
        let figures = tickets.iter().filter_map(|ticket| Some((ticket.query(), ticket.figures()?)));
        let figures: Vec<_> = figures.collect();
        let busy = load.busy_percent();
        let now = self.now();
        let mut inner = self.inner.lock();
        for (query, metrics) in figures {
            inner.tell(Event::Progress { query, metrics: Box::new(metrics) }, now);
        }
        if let Some(busy_percent) = busy {
            inner.tell(Event::NodeLoad { busy_percent }, now);
        }
    }
}

#[cfg(test)]
mod tests;
