//! Judges every action of the scheduler by what it promises. It knows only what a leader knows:
//! the events that it sent and the actions that came back.

use std::collections::{BTreeMap, HashMap};

use wlm::fair::{OVERTAKEN_MAX, passed_over_max};
use wlm::view::{FinalState, RuleActionTaken};
use wlm::{
    Action, Config, EndReason, FinishedQuery, Grant, Mode, Priority, PriorityScope, QueryId,
    QueryKind, ServiceClass, SessionId, Time, UserId,
};

use crate::model::{Model, Running, State, Stopping, can_restart, expected_class, is_protected};

const SHORT: ServiceClass = ServiceClass::SHORT_QUERY;

/// What the world has to do next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Consequence {
    Started(QueryId),
    Move(QueryId),
    /// Take it down; then it ends or, if it is to be restarted, is said to have stopped.
    TakeDown(QueryId),
    Gone,
}

pub(crate) struct Judge {
    pub(crate) config: Config,
    pub(crate) pool_bytes: u64,
    pub(crate) queries: HashMap<QueryId, Model>,
    granted_bytes: u64,
    slots: BTreeMap<ServiceClass, u32>,
    next_key: u64,
    waiting_of: [u32; 5],
    passed_over: [u32; 5],
    pub(crate) session_priorities: BTreeMap<SessionId, Priority>,
    user_priorities: BTreeMap<UserId, Priority>,
    pub(crate) counts: Counts,
}

/// How often things happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) bypassed: u64,
    pub(crate) started: u64,
    pub(crate) started_short: u64,
    pub(crate) started_superuser: u64,
    pub(crate) started_auto: u64,
    pub(crate) started_multi_slot: u64,
    pub(crate) moved: u64,
    pub(crate) restarted: u64,
    pub(crate) stopped: u64,
    pub(crate) refused: u64,
    pub(crate) rules_logged: u64,
    pub(crate) priorities_changed: u64,
}

impl Judge {
    pub(crate) fn new(config: Config, pool_bytes: u64) -> Self {
        Self {
            config,
            pool_bytes,
            queries: HashMap::new(),
            granted_bytes: 0,
            slots: BTreeMap::new(),
            next_key: 0,
            waiting_of: [0; 5],
            passed_over: [0; 5],
            session_priorities: BTreeMap::new(),
            user_priorities: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Judges an action and does the model's part of it.
    pub(crate) fn judge(&mut self, action: &Action, now: Time) -> Option<Consequence> {
        match action {
            Action::Bypass { query } => {
                let model = self.queries.remove(query).unwrap();
                let kind = model.request.kind;
                assert!(matches!(kind, QueryKind::LeaderOnly | QueryKind::CachedResult));
                self.counts.bypassed += 1;
                Some(Consequence::Gone)
            }
            Action::Queue { query, service_class } => {
                self.queue(*query, *service_class);
                None
            }
            Action::Start { query, grant } => {
                self.start(*query, *grant, now);
                Some(Consequence::Started(*query))
            }
            Action::Move { query, grant } => {
                self.move_to(*query, *grant);
                Some(Consequence::Move(*query))
            }
            Action::Restart { query, service_class } => {
                self.restart(*query, *service_class);
                Some(Consequence::TakeDown(*query))
            }
            Action::Stop { query, reason } => {
                self.stop(*query, reason);
                Some(Consequence::TakeDown(*query))
            }
            Action::Refuse { query, reason } => {
                self.refuse(*query, reason);
                Some(Consequence::Gone)
            }
            Action::ChangePriority { query, priority, .. } => {
                self.change_priority(*query, *priority);
                None
            }
            Action::LogRule(row) => {
                self.counts.rules_logged += 1;
                let protected = |model: &Model| is_protected(model.request.kind);
                // A rule's row comes after what it did: a refused query is gone.
                if self.queries.get(&row.query).is_some_and(protected) {
                    let harmless = [
                        RuleActionTaken::Log,
                        RuleActionTaken::ChangeQueryPriority,
                        RuleActionTaken::None,
                    ];
                    assert!(harmless.contains(&row.action), "{row:?}");
                }
                None
            }
            Action::LogQuery(finished) => {
                check_row(finished);
                None
            }
            Action::PrioritySet { scope, to, .. } => {
                self.remember_priority(*scope, *to);
                None
            }
            Action::LogError(_)
            | Action::PriorityRefused { .. }
            | Action::Reconfigured { .. }
            | Action::ReconfigureRefused { .. } => None,
        }
    }

    /// A query's work has ended: its grants are free.
    pub(crate) fn release(&mut self, id: QueryId) -> Model {
        let model = self.queries.remove(&id).unwrap();
        let running = *model.running().expect("only running queries are released");
        self.give_back(running.grant);
        if let Some(grant) = running.moving {
            self.give_back(grant);
        }
        model
    }

    pub(crate) fn give_back(&mut self, grant: Grant) {
        self.granted_bytes -= grant.memory_bytes;
        *self.slots.get_mut(&grant.service_class).unwrap() -= grant.slots;
    }

    /// A running query has become one that waits, under a new number.
    pub(crate) fn requeue(&mut self, id: QueryId, renamed: QueryId) {
        let mut model = self.release(id);
        model.state = State::Arriving;
        model.execution += 1;
        self.queries.insert(renamed, model);
    }

    /// Statement timeouts and time limits strike in time.
    pub(crate) fn check_deadlines(&self, now: Time) {
        for (id, model) in &self.queries {
            let is_down = model.running().is_some_and(|r| r.stopping == Stopping::Final);
            let late = model.deadline().is_some_and(|deadline| deadline <= now);
            assert!(is_down || !late, "{id} outlived its statement timeout");
            self.check_time_limit(*id, now);
        }
    }

    /// Except for those who may go on, nobody runs in a queue for longer than its limit.
    fn check_time_limit(&self, id: QueryId, now: Time) {
        let model = &self.queries[&id];
        let Some(running) = model.running() else { return };
        let (kind, class) = (model.request.kind, running.grant.service_class);
        let may_go_on = is_protected(kind) || can_restart(kind) && running.is_returning;
        let goes_on = running.stopping == Stopping::No && running.moving.is_none();
        if may_go_on || !goes_on || !self.is_manual(class) {
            return;
        }
        let queue = &self.config.queues()[usize::from(class.0 - 6)];
        let late = queue.max_execution_time.is_some_and(|limit| now.since(running.since) >= limit);
        assert!(!late, "{id}, a {kind:?}, outlived the time limit of {class}");
    }

    /// A query that was cancelled or lost a node is gone or on its way out.
    pub(crate) fn check_put_down(&self, id: QueryId) {
        let Some(model) = self.queries.get(&id) else { return };
        let is_down = model.running().is_some_and(|running| running.stopping == Stopping::Final);
        assert!(is_down, "{id} was to end and goes on: {:?}", model.state);
    }

    fn queue(&mut self, id: QueryId, class: ServiceClass) {
        let first_priority = self.first_priority(id);
        let model = self.queries.get_mut(&id).unwrap();
        let expected = expected_class(&self.config, &model.request);
        match model.state {
            State::Arriving if model.execution == 0 => {
                assert_eq!(class, expected, "{:?}", model.request);
                (model.home, model.key) = (class, self.next_key);
                model.priority = first_priority;
                self.next_key += 1;
            }
            State::Arriving => {
                // After a restart: where the restart said, at the old place if that is its own
                // queue and a new one after a hop. In automatic mode queues may have changed.
                if self.config.mode() == Mode::Auto {
                    assert_eq!(class, expected, "{:?}", model.request);
                } else if class != model.home {
                    assert!(class > model.home, "a hop goes forward");
                    model.hops += 1;
                    model.key = self.next_key;
                    self.next_key += 1;
                }
                model.home = class;
            }
            State::Waiting => {
                assert_eq!(self.config.mode(), Mode::Auto, "only there queues change");
                assert_eq!(class, expected, "{:?}", model.request);
                model.home = class;
                return;
            }
            State::Running(_) => panic!("{id} is queued while it runs"),
        }
        let most = u32::try_from(self.config.queues().len()).unwrap();
        assert!(model.hops < most as usize, "{id} hops in circles");
        model.state = State::Waiting;
        self.count_waiting(id, 1);
    }

    /// The priority of a query that arrives: set for its session or user, or its queue's.
    fn first_priority(&self, id: QueryId) -> Priority {
        let request = &self.queries[&id].request;
        let class = expected_class(&self.config, request);
        if class < ServiceClass::FIRST_AUTO {
            return Priority::Normal;
        }
        let of_session = self.session_priorities.get(&request.session);
        let is_critical = |model: &Model| model.priority == Priority::Critical;
        match of_session.or_else(|| self.user_priorities.get(&request.user)) {
            None => self.config.queues()[usize::from(class.0 - 100)].priority,
            Some(Priority::Critical) if self.queries.values().any(is_critical) => Priority::Highest,
            Some(priority) => *priority,
        }
    }

    fn remember_priority(&mut self, scope: PriorityScope, priority: Option<Priority>) {
        match (scope, priority) {
            (PriorityScope::Query(_), _) => {}
            (PriorityScope::Session(id), Some(to)) => {
                self.session_priorities.insert(id, to);
            }
            (PriorityScope::Session(id), None) => {
                self.session_priorities.remove(&id);
            }
            (PriorityScope::User(id), Some(to)) => {
                self.user_priorities.insert(id, to);
            }
            (PriorityScope::User(id), None) => {
                self.user_priorities.remove(&id);
            }
        }
    }

    fn start(&mut self, id: QueryId, grant: Grant, now: Time) {
        let model = &self.queries[&id];
        assert!(model.is_waiting(), "{id} is started in state {:?}", model.state);
        let request = &model.request;
        let slots = if self.is_manual(grant.service_class) { request.slot_count } else { 1 };
        assert_eq!(grant.slots, slots);
        assert_eq!(grant.priority, model.priority);
        if grant.service_class == SHORT {
            assert!(self.config.short_queries().is_some(), "acceleration is off");
            assert!(can_restart(request.kind) && request.slot_count == 1);
            assert!(!model.was_short, "{id} is accelerated a second time");
            self.counts.started_short += 1;
        } else {
            assert_eq!(grant.service_class, model.home);
            self.check_turn(id);
        }
        self.counts.started += 1;
        self.counts.started_multi_slot += u64::from(grant.slots > 1);
        self.counts.started_auto += u64::from(grant.service_class >= ServiceClass::FIRST_AUTO);
        self.counts.started_superuser += u64::from(grant.service_class == ServiceClass::SUPERUSER);
        self.count_waiting(id, -1);
        self.take(grant);
        let model = self.queries.get_mut(&id).unwrap();
        model.was_short |= grant.service_class == SHORT;
        model.state = State::Running(Running {
            grant,
            moving: None,
            stopping: Stopping::No,
            is_returning: false,
            since: now,
        });
    }

    fn move_to(&mut self, id: QueryId, grant: Grant) {
        let model = &self.queries[&id];
        let running = *model.running().expect("only running queries move");
        assert_eq!((running.moving, running.stopping), (None, Stopping::No));
        let kind = model.request.kind;
        assert!(!is_protected(kind) && kind != QueryKind::SelectWithUdf, "{kind:?} moves");
        if self.config.mode() == Mode::Manual && grant.service_class != model.home {
            assert!(grant.service_class > model.home, "a hop goes forward");
            let waits = |other: &Model| other.is_waiting() && other.home == grant.service_class;
            assert!(!self.queries.values().any(waits), "{id} hops past queries that wait");
        } else {
            assert_eq!(running.grant.service_class, SHORT, "only short queries come home");
            self.check_turn(id);
        }
        self.take(grant);
        let running = self.queries.get_mut(&id).and_then(Model::running_mut).unwrap();
        running.moving = Some(grant);
        self.counts.moved += 1;
    }

    fn restart(&mut self, id: QueryId, class: ServiceClass) {
        let model = self.queries.get_mut(&id).unwrap();
        let kind = model.request.kind;
        assert!(can_restart(kind), "{kind:?} is restarted");
        let running = model.running_mut().expect("only running queries restart");
        assert_eq!((running.moving, running.stopping), (None, Stopping::No));
        assert!(!running.is_returning, "{id} has returned rows and is restarted");
        running.stopping = Stopping::Restart(class);
        self.counts.restarted += 1;
    }

    fn stop(&mut self, id: QueryId, reason: &EndReason) {
        let model = self.queries.get_mut(&id).unwrap();
        check_reason(model, reason);
        let running = model.running_mut().expect("only running queries are stopped");
        assert_ne!(running.stopping, Stopping::Final, "{id} is stopped twice");
        running.stopping = Stopping::Final;
        self.counts.stopped += 1;
    }

    fn refuse(&mut self, id: QueryId, reason: &EndReason) {
        let model = &self.queries[&id];
        check_reason(model, reason);
        match model.state {
            State::Arriving => {}
            State::Waiting => self.count_waiting(id, -1),
            State::Running(_) => panic!("{id} is refused while it runs"),
        }
        self.queries.remove(&id);
        self.counts.refused += 1;
    }

    fn change_priority(&mut self, id: QueryId, priority: Priority) {
        let waits = self.queries[&id].is_waiting();
        if waits {
            self.count_waiting(id, -1);
        }
        let model = self.queries.get_mut(&id).unwrap();
        assert_ne!(model.priority, priority);
        model.priority = priority;
        if waits {
            self.count_waiting(id, 1);
        }
        self.counts.priorities_changed += 1;
        let critical = self.queries.values().filter(|m| m.priority == Priority::Critical).count();
        assert!(critical <= 1, "{critical} critical queries");
    }

    /// It is the query's turn: first come, first served, or fair.
    fn check_turn(&mut self, id: QueryId) {
        let model = &self.queries[&id];
        let (home, key, priority) = (model.home, model.key, model.priority);
        if home < ServiceClass::FIRST_AUTO {
            let earlier =
                |other: &Model| other.is_waiting() && other.home == home && other.key < key;
            assert!(!self.queries.values().any(earlier), "{id} passes others in {home}");
            return;
        }
        if priority == Priority::Critical {
            return;
        }
        for (other, model) in &mut self.queries {
            let same = model.is_waiting() && model.priority == priority && *other != id;
            if same && model.home >= ServiceClass::FIRST_AUTO && model.key < key {
                model.overtaken += 1;
                assert!(model.overtaken <= OVERTAKEN_MAX, "{other} is overtaken without end");
            }
        }
        for (level, level_priority) in Priority::OF_QUEUES.into_iter().enumerate() {
            if level_priority == priority || self.waiting_of[level] == 0 {
                self.passed_over[level] = 0;
            } else {
                self.passed_over[level] += 1;
                let passed = self.passed_over[level];
                assert!(passed <= passed_over_max(level_priority), "{level_priority} starves");
            }
        }
    }

    fn take(&mut self, grant: Grant) {
        assert!(grant.memory_bytes > 0);
        self.granted_bytes += grant.memory_bytes;
        assert!(self.granted_bytes <= self.pool_bytes, "more memory granted than there is");
        let class = grant.service_class;
        let slots = self.slots.entry(class).or_default();
        *slots += grant.slots;
        let allowed = match class {
            ServiceClass::SUPERUSER => 1,
            SHORT => wlm::short_query::SHORT_QUERY_SLOTS,
            ServiceClass(number) => match self.config.mode() {
                Mode::Manual => self.config.queues()[usize::from(number - 6)].concurrency,
                Mode::Auto => wlm::AUTO_QUERIES_MAX,
            },
        };
        assert!(*slots <= allowed, "{slots} slots in {class}, {allowed} allowed");
    }

    fn is_manual(&self, class: ServiceClass) -> bool {
        class > ServiceClass::SUPERUSER && class < SHORT
    }

    fn count_waiting(&mut self, id: QueryId, by: i32) {
        let model = &self.queries[&id];
        let level = Priority::OF_QUEUES.iter().position(|level| *level == model.priority);
        if let (Some(level), true) = (level, model.home >= ServiceClass::FIRST_AUTO) {
            self.waiting_of[level] = self.waiting_of[level].checked_add_signed(by).unwrap();
            if self.waiting_of[level] == 0 {
                self.passed_over[level] = 0;
            }
        }
    }
}

/// No time limit and no rule stops what it may not stop.
fn check_reason(model: &Model, reason: &EndReason) {
    let kind = model.request.kind;
    match reason {
        EndReason::ExecutionTimeLimit | EndReason::RuleAbort { .. } => {
            assert!(!is_protected(kind), "{kind:?} ends for {reason:?}");
        }
        EndReason::RuleHop { .. } => assert!(can_restart(kind), "{kind:?} ends for {reason:?}"),
        EndReason::TooManySlots { asked, available } => assert!(asked > available),
        EndReason::Cancelled(_) | EndReason::StatementTimeout | EndReason::NodeLost => {}
    }
}

fn check_row(finished: &FinishedQuery) {
    let row = &finished.row;
    assert!(row.queue_start_time <= row.queue_end_time);
    assert!(row.queue_end_time <= row.service_class_end_time);
    assert_eq!(row.total_queue_time, row.queue_end_time.0 - row.queue_start_time.0);
    match row.final_state {
        FinalState::Rejected => assert_eq!((row.exec_start_time, row.total_exec_time), (None, 0)),
        FinalState::Completed | FinalState::Evicted => {
            let (start, end) = (row.exec_start_time.unwrap(), row.exec_end_time.unwrap());
            assert!(row.queue_end_time <= start);
            assert_eq!(row.total_exec_time, end.0 - start.0);
        }
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.bypassed += other.bypassed;
        self.started += other.started;
        self.started_short += other.started_short;
        self.started_superuser += other.started_superuser;
        self.started_auto += other.started_auto;
        self.started_multi_slot += other.started_multi_slot;
        self.moved += other.moved;
        self.restarted += other.restarted;
        self.stopped += other.stopped;
        self.refused += other.refused;
        self.rules_logged += other.rules_logged;
        self.priorities_changed += other.priorities_changed;
    }
}
