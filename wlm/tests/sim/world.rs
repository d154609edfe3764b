//! A world: a scheduler, and a cluster that does what it is told, with accidents.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use wlm::{
    CancelCause, Event, Identity, Mode, Outcome, PlanFeatures, Pool, Priority, PriorityScope,
    QueryId, QueryKind, QueryMetrics, QueueConfig, Request, Scheduler, SegmentMetrics,
    ServiceClass, SessionId, StepKind, StepMetrics, Time, UserId, Work,
};

use crate::configs::{GROUPS, QUERY_GROUPS, ROLES, RandomConfig};
use crate::judge::{Consequence, Counts, Judge};
use crate::model::{Model, State, Stopping, Truth};
use crate::random::Random;

const ARRIVALS_PER_WORLD: u64 = 3_000;
/// Ticks in a row, with nothing else happening, after which the world counts as stuck.
const TICKS_IN_A_ROW_MAX: u32 = 5_000;

/// Something that will happen in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrival,
    Progress(QueryId),
    Returning(QueryId),
    Finish(QueryId),
    TakenDown(QueryId),
    MoveDone(QueryId),
    Accident,
}

pub(crate) struct World {
    random: Random,
    scheduler: Scheduler,
    /// Told the same, it must answer the same.
    twin: Option<Scheduler>,
    judge: Judge,
    config: RandomConfig,
    pool: Pool,
    now: Time,
    agenda: BinaryHeap<Reverse<(Time, u64, Happening)>>,
    next_happening: u64,
    next_query: u64,
    arrivals_left: u64,
    /// Sessions: no more queries than that are there at once.
    sessions: usize,
    mean_gap_us: u64,
    /// How much longer than usual everything takes here.
    slowness: u64,
    identities: Vec<Arc<Identity>>,
    totals: Totals,
}

/// What happened in one world or in many.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) worlds: u64,
    pub(crate) arrivals: u64,
    pub(crate) events: u64,
    pub(crate) most_waiting: usize,
    reconfigured: u64,
    reconfigure_pending: u64,
    cancels: u64,
    nodes_lost: u64,
    moves_failed: u64,
    stopped_too_late: u64,
    counts: Counts,
}

impl World {
    pub(crate) fn new(seed: u64, with_twin: bool) -> Self {
        let mut random = Random::new(seed);
        let config = RandomConfig::new(&mut random);
        let pool = Pool::new(random.spread(1 << 30, 1 << 40));
        let now = Time(random.within(0, 1 << 50));
        let scheduler = || Scheduler::new(config.parse(), pool, now).unwrap();
        let identities = (0..12).map(|_| identity(&mut random)).collect();
        let sessions = usize::try_from(random.spread(3, 150)).unwrap();
        let slowness = random.spread(1, 16);
        let mean_gap_us = slowness * random.spread(20_000, 2_000_000);
        let mut world = Self {
            scheduler: scheduler(),
            twin: with_twin.then(scheduler),
            judge: Judge::new(config.parse(), pool.bytes()),
            config,
            pool,
            now,
            agenda: BinaryHeap::new(),
            next_happening: 0,
            next_query: 1,
            arrivals_left: ARRIVALS_PER_WORLD,
            sessions,
            mean_gap_us,
            slowness,
            identities,
            totals: Totals { worlds: 1, ..Totals::default() },
            random,
        };
        world.plan(Duration::ZERO, Happening::Arrival);
        world.plan(Duration::from_secs(1), Happening::Accident);
        world
    }

    /// Lets everything happen until the last query is gone.
    pub(crate) fn run(mut self) -> Totals {
        let mut ticks = 0;
        while self.arrivals_left > 0 || !self.judge.queries.is_empty() {
            let next = self.agenda.peek().map(|Reverse((time, _, _))| *time);
            let deadline = self.scheduler.next_deadline();
            if let Some(deadline) = deadline
                && next.is_none_or(|next| deadline <= next)
            {
                self.now = deadline;
                self.tell(Event::Tick);
                ticks += 1;
                assert!(ticks < TICKS_IN_A_ROW_MAX, "nothing happens, but queries are there");
                continue;
            }
            ticks = 0;
            let Reverse((time, _, happening)) =
                self.agenda.pop().expect("queries are there, but nothing will ever happen");
            self.now = time;
            self.happen(happening);
        }
        self.check_all_is_free();
        self.totals.counts = self.judge.counts;
        self.totals
    }

    fn plan(&mut self, span: Duration, happening: Happening) {
        let number = self.next_happening;
        self.next_happening += 1;
        self.agenda.push(Reverse((self.now.plus(span), number, happening)));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrival => self.arrival(),
            Happening::Accident => self.accident(),
            Happening::Progress(id) => {
                let metrics = Box::new(self.metrics(id));
                self.tell(Event::Progress { query: id, metrics });
            }
            Happening::Returning(id) => {
                let running = self.judge.queries.get_mut(&id).and_then(Model::running_mut);
                if let Some(running) = running {
                    running.is_returning = true;
                    self.tell(Event::Returning { query: id });
                }
            }
            Happening::Finish(id) => self.finish(id),
            Happening::TakenDown(id) => self.taken_down(id),
            Happening::MoveDone(id) => self.move_done(id),
        }
    }

    /// Tells the scheduler, judges its answer, and plans what follows.
    fn tell(&mut self, event: Event) {
        self.totals.events += 1;
        // Clocks go back at times.
        let back = if self.random.percent(1) { 50_000 } else { 0 };
        let told = Time(self.now.0.saturating_sub(back));
        let reconfigures = matches!(event, Event::Reconfigure { .. });
        let twin = self.twin.as_mut().map(|twin| twin.handle(event.clone(), told));
        let actions = self.scheduler.handle(event, told);
        if let Some(twin) = twin {
            assert_eq!(actions, twin, "equal events give equal actions");
        }
        if reconfigures {
            self.judge.config = self.scheduler.config().clone();
        }
        for action in &actions {
            if let Some(consequence) = self.judge.judge(action, self.now) {
                self.follow(consequence);
            }
        }
        if let Err(violation) = self.scheduler.verify() {
            panic!("{violation}");
        }
        let next = self.scheduler.next_deadline();
        assert!(next.is_none_or(|next| next > told), "{next:?} is not ahead of {told:?}");
        if self.totals.events.is_multiple_of(16) {
            self.check_views(told);
        }
    }

    fn follow(&mut self, consequence: Consequence) {
        match consequence {
            Consequence::Gone => {}
            Consequence::Started(id) => {
                let Truth { time, .. } = self.judge.queries[&id].truth;
                self.plan(time, Happening::Finish(id));
                if self.random.percent(30) {
                    self.plan(time.mul_f64(0.5), Happening::Progress(id));
                }
                if self.random.percent(40) {
                    let part = self.random.within(1, 9) as f64 / 10.0;
                    self.plan(time.mul_f64(part), Happening::Returning(id));
                }
            }
            Consequence::Move(id) => {
                let delay = self.random.span_us(100, 500_000);
                self.plan(delay, Happening::MoveDone(id));
            }
            Consequence::TakeDown(id) => {
                let delay = self.random.span_us(100, 500_000);
                self.plan(delay, Happening::TakenDown(id));
            }
        }
    }

    fn arrival(&mut self) {
        if self.arrivals_left == 0 {
            return;
        }
        let gap = self.random.within(0, 2 * self.mean_gap_us);
        self.plan(Duration::from_micros(gap), Happening::Arrival);
        if self.judge.queries.len() >= self.sessions {
            return;
        }
        self.arrivals_left -= 1;
        self.totals.arrivals += 1;
        let (request, truth) = self.request();
        let id = self.draw_id();
        let model = Model {
            home: ServiceClass(0),
            key: 0,
            priority: Priority::Normal,
            overtaken: 0,
            was_short: false,
            hops: 0,
            state: State::Arriving,
            execution: 0,
            truth,
            request: Arc::new(request),
        };
        let request = Arc::clone(&model.request);
        self.judge.queries.insert(id, model);
        self.tell(Event::Arrive { query: id, request });
    }

    fn draw_id(&mut self) -> QueryId {
        let id = QueryId(self.next_query);
        self.next_query += 1;
        id
    }

    fn request(&mut self) -> (Request, Truth) {
        let random = &mut self.random;
        let rows = random.spread(1, 1_000_000_000);
        let joins = u32::try_from(random.within(0, 6)).unwrap();
        let shape = if random.percent(90) { random.within(1, 200) } else { random.next() };
        let features = PlanFeatures {
            shape,
            rows,
            bytes: rows * random.within(4, 100),
            working_bytes: u64::from(joins) * rows,
            scans: joins + 1,
            joins,
            aggregates: 1,
            sorts: u32::from(random.percent(50)),
        };
        let typical_us = (1_000 + rows / 50).min(20_000_000) * (1 + shape % 3) * self.slowness;
        // Now and then a plan is far worse than it looks, and no prediction can know.
        let surprise = if random.percent(8) { random.spread(10, 300) } else { 1 };
        let usual = random.span_us(typical_us / 2, typical_us * 2);
        let truth = Truth {
            time: (usual * u32::try_from(surprise).unwrap()).min(Duration::from_secs(3_600)),
            memory_bytes: random.spread(1 << 20, 1 << 31),
            panics: random.percent(2),
        };
        let kind = match random.within(0, 99) {
            0..3 => QueryKind::LeaderOnly,
            3..6 => QueryKind::CachedResult,
            6..60 => QueryKind::Select,
            60..70 => QueryKind::CreateTableAs,
            70..75 => QueryKind::SelectWithUdf,
            75..85 => QueryKind::Write,
            85..90 => QueryKind::Unload,
            90..96 => QueryKind::Copy,
            _ => QueryKind::Maintenance,
        };
        let planning = random.span_us(10, 50_000);
        let has_timeout = random.percent(15);
        let request = Request {
            user: UserId(u32::try_from(random.within(100, 120)).unwrap()),
            session: SessionId(u32::try_from(random.within(1, 200)).unwrap()),
            xid: random.next(),
            identity: Arc::clone(random.pick(&self.identities)),
            query_group: random.percent(50).then(|| Arc::from(*random.pick(QUERY_GROUPS))),
            kind,
            slot_count: match random.within(0, 99) {
                0..80 => 1,
                80..98 => u32::try_from(random.within(1, 4)).unwrap(),
                _ => u32::try_from(random.within(1, 50)).unwrap(),
            },
            statement_started: Time(self.now.0.saturating_sub(planning.as_micros() as u64)),
            statement_timeout: has_timeout.then(|| random.span_us(1_000, 120_000_000)),
            features,
        };
        (request, truth)
    }

    /// Figures of a query that runs, or ran.
    fn metrics(&mut self, id: QueryId) -> QueryMetrics {
        let peak = self.judge.queries.get(&id).map_or(1, |model| model.truth.memory_bytes);
        let random = &mut self.random;
        let mut work = || {
            let (cpu_us, blocks) = (random.spread(1, 100_000_000), random.spread(1, 2_000));
            Work {
                cpu_time: Duration::from_micros(cpu_us),
                cpu_time_max: Duration::from_micros(cpu_us / 3),
                blocks_read: blocks,
                blocks_read_max: blocks / 2,
                temp_blocks: blocks / 2,
                temp_blocks_max: blocks / 4,
                run_time: Duration::from_micros(cpu_us),
                run_time_max: Duration::from_micros(cpu_us / 4),
            }
        };
        let (total, in_segment) = (work(), work());
        let kinds = [
            StepKind::Scan,
            StepKind::HashJoin,
            StepKind::NestedLoop,
            StepKind::Aggregate,
            StepKind::ReturnToClient,
        ];
        let rows = random.spread(1, 10_000_000);
        let step = StepMetrics { step: 0, kind: *random.pick(&kinds), rows, rows_max: rows / 2 };
        QueryMetrics {
            slices: 4,
            memory_bytes: random.within(0, peak),
            memory_bytes_peak: peak,
            total,
            spectrum_rows: 0,
            spectrum_mb: 0,
            segments: vec![SegmentMetrics { segment: 0, work: in_segment, steps: vec![step] }],
        }
    }

    /// A query ends by itself, unless it was taken down before.
    fn finish(&mut self, id: QueryId) {
        let Some(model) = self.judge.queries.get(&id) else { return };
        if model.running().is_none() {
            return;
        }
        let outcome = if model.truth.panics { Outcome::Failed } else { Outcome::Completed };
        self.end(id, outcome);
    }

    fn end(&mut self, id: QueryId, outcome: Outcome) {
        let metrics = Some(Box::new(self.metrics(id))).filter(|_| outcome == Outcome::Completed);
        self.judge.release(id);
        self.tell(Event::Ended { query: id, outcome, metrics });
        if self.random.percent(2) {
            // It is said twice, or too late.
            let metrics = None;
            let ignored = self.scheduler.ignored_events();
            self.tell(Event::Ended { query: id, outcome, metrics });
            self.tell(Event::Returning { query: id });
            self.tell(Event::Moved { query: id });
            assert_eq!(self.scheduler.ignored_events(), ignored + 3);
        }
    }

    fn taken_down(&mut self, id: QueryId) {
        let Some(running) = self.judge.queries.get(&id).and_then(Model::running).copied() else {
            return;
        };
        match running.stopping {
            Stopping::No => panic!("nobody asked for that"),
            Stopping::Final if self.random.percent(95) => self.end(id, Outcome::Stopped),
            Stopping::Restart(_) if self.random.percent(3) => self.end(id, Outcome::Completed),
            Stopping::Final if running.moving.is_some() => self.end(id, Outcome::Failed),
            Stopping::Final | Stopping::Restart(_) => {
                // In the first case the cancel came while the restart was under way.
                let renamed = self.draw_id();
                self.totals.stopped_too_late += u64::from(running.stopping == Stopping::Final);
                self.judge.requeue(id, renamed);
                self.tell(Event::Stopped { query: id, renamed });
            }
        }
    }

    fn move_done(&mut self, id: QueryId) {
        let running = self.judge.queries.get_mut(&id).and_then(Model::running_mut);
        let Some(running) = running else { return };
        let Some(target) = running.moving.take() else { return };
        let shrinks = target.memory_bytes < running.grant.memory_bytes;
        if shrinks && self.random.percent(25) {
            self.judge.give_back(target);
            self.totals.moves_failed += 1;
            self.tell(Event::MoveFailed { query: id });
            return;
        }
        let before = std::mem::replace(&mut running.grant, target);
        running.since = self.now;
        let model = self.judge.queries.get_mut(&id).unwrap();
        if self.judge.config.mode() == Mode::Manual {
            model.hops += usize::from(model.home != target.service_class);
            model.home = target.service_class;
        }
        self.judge.give_back(before);
        self.tell(Event::Moved { query: id });
    }

    /// Something from outside: a cancel, a lost node, a new configuration, a new priority.
    /// Not after the last arrival, so that a query which can only leave by accident is noticed.
    fn accident(&mut self) {
        if self.arrivals_left == 0 {
            return;
        }
        let pause = self.random.span_us(10_000, 20_000_000);
        self.plan(pause.mul_f64(self.slowness as f64), Happening::Accident);
        let mut ids: Vec<QueryId> = self.judge.queries.keys().copied().collect();
        ids.sort_unstable();
        let some = if ids.is_empty() { QueryId(1) } else { *self.random.pick(&ids) };
        match self.random.within(0, 99) {
            0..50 => {
                let causes =
                    [CancelCause::User, CancelCause::Terminated, CancelCause::Disconnected];
                let cause = *self.random.pick(&causes);
                self.totals.cancels += 1;
                self.tell(Event::Cancel { query: some, cause });
                self.judge.check_put_down(some);
            }
            50..55 => {
                let runs = |id: &QueryId| self.judge.queries[id].running().is_some();
                let lost = ids.into_iter().filter(|id| runs(id) && self.random.percent(50));
                let lost: Vec<QueryId> = lost.collect();
                self.totals.nodes_lost += 1;
                self.tell(Event::NodeLost { queries: lost.clone() });
                for id in lost {
                    self.judge.check_put_down(id);
                }
            }
            55..75 => self.reconfigure(),
            75..80 => {
                let busy_percent = u8::try_from(self.random.within(0, 100)).unwrap();
                self.tell(Event::NodeLoad { busy_percent });
            }
            80..85 => {
                let session = SessionId(u32::try_from(self.random.within(1, 200)).unwrap());
                self.judge.session_priorities.remove(&session);
                self.tell(Event::SessionEnded { session });
            }
            _ => self.set_priority(some),
        }
    }

    fn set_priority(&mut self, query: QueryId) {
        let scope = match self.random.within(0, 9) {
            0..7 => PriorityScope::Query(query),
            7..9 => PriorityScope::Session(SessionId(
                u32::try_from(self.random.within(1, 200)).unwrap(),
            )),
            _ => PriorityScope::User(UserId(u32::try_from(self.random.within(100, 120)).unwrap())),
        };
        let levels = [
            None,
            Some(Priority::Lowest),
            Some(Priority::Low),
            Some(Priority::Normal),
            Some(Priority::High),
            Some(Priority::Highest),
            Some(Priority::Critical),
        ];
        let priority = *self.random.pick(&levels);
        self.tell(Event::SetPriority { scope, priority });
    }

    fn reconfigure(&mut self) {
        let before = self.scheduler.config().clone();
        let is_dynamic = self.random.percent(80);
        let config = if is_dynamic {
            let mut config = self.config.clone();
            config.change_dynamic(&mut self.random);
            config
        } else {
            RandomConfig::new(&mut self.random)
        };
        let new = config.parse();
        let both_auto = before.mode() == Mode::Auto && new.mode() == Mode::Auto;
        self.tell(Event::Reconfigure { config: Box::new(new.clone()) });
        let in_force = self.scheduler.config();
        if self.scheduler.pending_config().is_none() {
            assert_eq!(*in_force, new, "it is taken as a whole");
            self.config = config;
            self.totals.reconfigured += 1;
        } else {
            assert!(!is_dynamic && !both_auto, "dynamic changes act at once");
            assert_eq!(in_force.short_queries(), before.short_queries());
            assert_eq!(in_force.queues().len(), before.queues().len());
            for (now, then) in in_force.queues().iter().zip(before.queues()) {
                let rules = now.rules.clone();
                assert_eq!(*now, QueueConfig { rules, ..then.clone() }, "only rules change");
            }
            self.totals.reconfigure_pending += 1;
        }
    }

    fn check_views(&mut self, told: Time) {
        self.judge.check_deadlines(told);
        let waiting = self.judge.queries.values().filter(|model| model.is_waiting()).count();
        self.totals.most_waiting = self.totals.most_waiting.max(waiting);
        let states = self.scheduler.query_state_rows();
        assert_eq!(states.len(), self.judge.queries.len(), "every query is there, and no other");
        assert_eq!(self.scheduler.queue_state_rows().len(), waiting);
        assert_eq!(self.scheduler.task_state_rows().len(), states.len() - waiting);
    }

    /// After the last query every slot is idle and as configured.
    fn check_all_is_free(&self) {
        let fresh = Scheduler::new(self.scheduler.config().clone(), self.pool, self.now).unwrap();
        assert_eq!(self.scheduler.allocated_bytes(), fresh.allocated_bytes());
        for row in self.scheduler.service_class_state_rows() {
            assert_eq!((row.num_queued_queries, row.num_executing_queries), (0, 0));
        }
        for row in self.scheduler.service_class_config_rows() {
            assert_eq!(row.num_query_tasks, row.target_num_query_tasks, "{row:?}");
            assert_eq!(row.query_working_mem, row.target_query_working_mem, "{row:?}");
        }
    }
}

fn identity(random: &mut Random) -> Arc<Identity> {
    let mut some = |list: &[&str], chance| -> Vec<String> {
        list.iter().filter(|_| random.percent(chance)).map(|name| (*name).to_owned()).collect()
    };
    let (groups, roles) = (some(GROUPS, 30), some(ROLES, 20));
    Arc::new(Identity { groups, roles, is_superuser: random.percent(25) })
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.worlds += other.worlds;
        self.arrivals += other.arrivals;
        self.events += other.events;
        self.most_waiting = self.most_waiting.max(other.most_waiting);
        self.reconfigured += other.reconfigured;
        self.reconfigure_pending += other.reconfigure_pending;
        self.cancels += other.cancels;
        self.nodes_lost += other.nodes_lost;
        self.moves_failed += other.moves_failed;
        self.stopped_too_late += other.stopped_too_late;
        self.counts.add(&other.counts);
    }

    /// A simulation in which something never happens proves nothing about it.
    pub(crate) fn assert_everything_happened(&self) {
        let counts = &self.counts;
        for (what, count) in [
            ("bypassed", counts.bypassed),
            ("started short", counts.started_short),
            ("started in the superuser queue", counts.started_superuser),
            ("started in automatic mode", counts.started_auto),
            ("started with several slots", counts.started_multi_slot),
            ("moved", counts.moved),
            ("moves failed", self.moves_failed),
            ("restarted", counts.restarted),
            ("stopped", counts.stopped),
            ("stopped too late", self.stopped_too_late),
            ("refused", counts.refused),
            ("rules logged", counts.rules_logged),
            ("priorities changed", counts.priorities_changed),
            ("reconfigured", self.reconfigured),
            ("reconfigured after a restart", self.reconfigure_pending),
            ("cancels", self.cancels),
            ("nodes lost", self.nodes_lost),
        ] {
            assert!(count > 0, "it never happened: {what}");
        }
    }
}
