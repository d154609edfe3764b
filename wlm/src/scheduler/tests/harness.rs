//! A cluster for tests: queries are told by number, and what the scheduler answers is written down
//! in a short form.

use std::sync::Arc;
use std::time::Duration;

use crate::{
    Action, CancelCause, Config, EndReason, Event, Identity, Outcome, PlanFeatures, Pool, QueryId,
    QueryKind, QueryMetrics, Request, Scheduler, SessionId, Time, UserId,
};

pub(super) const GB: u64 = 1 << 30;

pub(super) struct Cluster {
    pub(super) scheduler: Scheduler,
    pub(super) now: Time,
    /// Everything answered so far.
    pub(super) actions: Vec<Action>,
}

/// A query as tests describe it.
#[derive(Clone)]
pub(super) struct Describe(pub(super) Request);

impl Cluster {
    /// With 200 GB for user queues, 1 GB for the superuser queue, and 6 GB for short queries when
    /// acceleration is on.
    pub(super) fn new(json: &str) -> Self {
        let now = Time(1_000_000_000);
        let pool = Pool::with_reserves(200 * GB, GB, 6 * GB);
        let scheduler = Scheduler::new(config(json), pool, now).unwrap();
        Self { scheduler, now, actions: Vec::new() }
    }

    /// Tells an event; answers with the actions about queries in short form.
    pub(super) fn tell(&mut self, event: Event) -> Vec<String> {
        let actions = self.scheduler.handle(event, self.now);
        self.scheduler.verify().unwrap();
        let told = actions.iter().filter_map(short).collect();
        self.actions.extend(actions);
        told
    }

    pub(super) fn arrive(&mut self, id: u64, query: &Describe) -> Vec<String> {
        let mut request = query.0.clone();
        request.statement_started = self.now;
        self.tell(Event::Arrive { query: QueryId(id), request: Arc::new(request) })
    }

    pub(super) fn end(&mut self, id: u64) -> Vec<String> {
        let (query, outcome) = (QueryId(id), Outcome::Completed);
        self.tell(Event::Ended { query, outcome, metrics: None })
    }

    pub(super) fn stopped(&mut self, id: u64, renamed: u64) -> Vec<String> {
        self.tell(Event::Stopped { query: QueryId(id), renamed: QueryId(renamed) })
    }

    pub(super) fn cancel(&mut self, id: u64) -> Vec<String> {
        self.tell(Event::Cancel { query: QueryId(id), cause: CancelCause::User })
    }

    pub(super) fn report(&mut self, id: u64, metrics: QueryMetrics) -> Vec<String> {
        self.tell(Event::Progress { query: QueryId(id), metrics: Box::new(metrics) })
    }

    pub(super) fn reconfigure(&mut self, json: &str) -> Vec<String> {
        self.tell(Event::Reconfigure { config: Box::new(config(json)) })
    }

    /// Lets time pass; the timer rings whenever it was set to.
    pub(super) fn pass(&mut self, seconds: f64) -> Vec<String> {
        let end = self.now.plus(Duration::from_secs_f64(seconds));
        let mut told = Vec::new();
        while let Some(deadline) = self.scheduler.next_deadline().filter(|next| *next <= end) {
            self.now = deadline;
            told.extend(self.tell(Event::Tick));
        }
        self.now = end;
        told.extend(self.tell(Event::Tick));
        told
    }

    /// Has the predictor learn that plans of a shape take a time and an amount of memory.
    pub(super) fn teach(&mut self, shape: u64, time: Duration, memory_bytes: u64) {
        let features = features(shape);
        for _ in 0..60 {
            let predicted = self.scheduler.predictor.predict(&features);
            self.scheduler.predictor.learn(&features, &predicted, time, Some(memory_bytes));
        }
    }

    /// Memory in GB granted by the last start or move of a query.
    pub(super) fn granted_gb(&self, id: u64) -> f64 {
        let grant = self.actions.iter().rev().find_map(|action| match action {
            Action::Start { query, grant } | Action::Move { query, grant } if query.0 == id => {
                Some(grant)
            }
            _ => None,
        });
        grant.unwrap().memory_bytes as f64 / GB as f64
    }
}

pub(super) fn config(json: &str) -> Config {
    Config::parse(json).unwrap_or_else(|error| panic!("{error}")).config
}

pub(super) fn features(shape: u64) -> PlanFeatures {
    PlanFeatures { shape, rows: 1_000, bytes: 100_000, scans: 1, ..PlanFeatures::default() }
}

/// A SELECT of a user without groups.
pub(super) fn select() -> Describe {
    of(QueryKind::Select)
}

pub(super) fn of(kind: QueryKind) -> Describe {
    Describe(Request {
        user: UserId(100),
        session: SessionId(1),
        xid: 1,
        identity: Arc::new(Identity::default()),
        query_group: None,
        kind,
        slot_count: 1,
        statement_started: Time(0),
        statement_timeout: None,
        features: PlanFeatures::default(),
    })
}

impl Describe {
    pub(super) fn group(mut self, query_group: &str) -> Self {
        self.0.query_group = Some(Arc::from(query_group));
        self
    }

    pub(super) fn user_group(mut self, group: &str) -> Self {
        Arc::make_mut(&mut self.0.identity).groups.push(group.to_owned());
        self
    }

    pub(super) fn superuser(mut self) -> Self {
        Arc::make_mut(&mut self.0.identity).is_superuser = true;
        self
    }

    pub(super) fn slots(mut self, count: u32) -> Self {
        self.0.slot_count = count;
        self
    }

    pub(super) fn shape(mut self, shape: u64) -> Self {
        self.0.features = features(shape);
        self
    }

    pub(super) fn timeout(mut self, seconds: u64) -> Self {
        self.0.statement_timeout = Some(Duration::from_secs(seconds));
        self
    }

    pub(super) fn session(mut self, session: u32) -> Self {
        self.0.session = SessionId(session);
        self
    }
}

fn short(action: &Action) -> Option<String> {
    let text = match action {
        Action::Bypass { query } => format!("bypass {query}"),
        Action::Queue { query, service_class } => format!("queue {query} in {service_class}"),
        Action::Start { query, grant } => format!("start {query} in {}", grant.service_class),
        Action::Move { query, grant } => format!("move {query} to {}", grant.service_class),
        Action::Restart { query, service_class } => format!("restart {query} in {service_class}"),
        Action::Stop { query, reason } => format!("stop {query}: {}", reason_name(reason)),
        Action::Refuse { query, reason } => format!("refuse {query}: {}", reason_name(reason)),
        Action::ChangePriority { query, priority, cpu_share } => {
            format!("priority of {query}: {priority}, share {cpu_share}")
        }
        Action::PrioritySet { from, to, .. } => {
            let name = |priority: &Option<crate::Priority>| {
                priority.map_or("none".to_owned(), |priority| priority.to_string())
            };
            format!("priority set from {} to {}", name(from), name(to))
        }
        Action::PriorityRefused { reason, .. } => format!("priority refused: {reason}"),
        Action::LogRule(row) => format!("rule {} on {}: {}", row.rule, row.query, row.action),
        Action::ReconfigureRefused { error } => format!("configuration refused: {error}"),
        Action::Reconfigured { after_restart, .. } if after_restart.is_empty() => {
            "reconfigured".to_owned()
        }
        Action::Reconfigured { .. } => "reconfigured after a restart".to_owned(),
        Action::LogQuery(_) | Action::LogError(_) => return None,
    };
    Some(text)
}

fn reason_name(reason: &EndReason) -> String {
    match reason {
        EndReason::Cancelled(CancelCause::User) => "cancelled".to_owned(),
        EndReason::RuleAbort { rule } => format!("aborted by {rule}"),
        EndReason::RuleHop { rule } => format!("nowhere to hop for {rule}"),
        other => format!("{other:?}"),
    }
}
