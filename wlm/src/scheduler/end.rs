//! The end of queries, and of their stay in a service class.

use std::time::Duration;

use super::live::{Phase, Stop};
use super::{Action, Query, QueryId, Scheduler};
use crate::config::Mode;
use crate::event::{CancelCause, EndReason, FinishedQuery, Outcome};
use crate::ids::ServiceClass;
use crate::metrics::QueryMetrics;
use crate::short_query::ShortQueries;
use crate::time::micros;
use crate::view::{FinalState, WlmQueryRow};

impl Scheduler {
    /// A query is over: what it held is free.
    pub(super) fn ended(
        &mut self,
        id: QueryId,
        outcome: Outcome,
        metrics: Option<Box<QueryMetrics>>,
        actions: &mut Vec<Action>,
    ) {
        let Some(query) = self.live.get_mut(&id) else {
            self.ignored_events += 1;
            return;
        };
        if let Some(metrics) = metrics {
            query.metrics = *metrics;
        }
        let query = self.remove(id);
        match query.running() {
            None => {
                let class = self.class_of(query.home);
                self.log_query(id, &query, class, FinalState::Rejected, actions);
            }
            Some(running) => {
                let class = running.hold.class;
                let time = self.now.since(running.started);
                self.learn(&query, outcome, time);
                self.counters_of(class).executed += 1;
                self.log_query(id, &query, class, FinalState::Completed, actions);
            }
        }
        self.release(query);
    }

    pub(super) fn cancel(&mut self, id: QueryId, cause: CancelCause, actions: &mut Vec<Action>) {
        if self.live.contains_key(&id) {
            self.put_down(id, EndReason::Cancelled(cause), actions);
        } else {
            self.ignored_events += 1;
        }
    }

    pub(super) fn node_lost(&mut self, queries: &[QueryId], actions: &mut Vec<Action>) {
        for id in queries {
            match self.live.get(id) {
                Some(query) if !query.is_waiting() => {
                    self.put_down(*id, EndReason::NodeLost, actions);
                }
                Some(_) | None => self.ignored_events += 1,
            }
        }
    }

    /// Refuses a waiting query, or has a running one stopped. The first reason stands.
    pub(super) fn put_down(&mut self, id: QueryId, reason: EndReason, actions: &mut Vec<Action>) {
        let query = self.query(id);
        match query.running().map(|running| &running.stop) {
            None => {
                let query = self.remove(id);
                let class = self.class_of(query.home);
                self.log_query(id, &query, class, FinalState::Rejected, actions);
                actions.push(Action::Refuse { query: id, reason });
            }
            Some(Stop::Final(_)) => {}
            Some(Stop::No | Stop::Restart { .. }) => {
                self.leave_lines(id);
                self.set_limit_timer(id, None);
                actions.push(Action::Stop { query: id, reason: reason.clone() });
                let running = self.query_mut(id).running_mut().expect("it runs");
                running.is_overdue = false;
                running.stop = Stop::Final(reason);
            }
        }
    }

    /// The work of a query that is to be restarted has stopped: it goes to the line of its new
    /// queue.
    pub(super) fn stopped(&mut self, id: QueryId, renamed: QueryId, actions: &mut Vec<Action>) {
        let Some(running) = self.live.get(&id).and_then(Query::running) else {
            self.ignored_events += 1;
            return;
        };
        let (class, time) = (running.hold.class, self.now.since(running.started));
        let (to, keeps_place) = match running.stop.clone() {
            Stop::Restart { to, keeps_place } => (to, keeps_place),
            Stop::Final(reason) => {
                // It was cancelled after it was told to restart: nobody goes on.
                self.ended(id, Outcome::Stopped, None, actions);
                actions.push(Action::Refuse { query: renamed, reason });
                return;
            }
            Stop::No => {
                self.ignored_events += 1;
                return;
            }
        };
        let mut query = self.remove(id);
        self.learn(&query, Outcome::Stopped, time);
        self.counters_of(class).evicted += 1;
        self.log_query(id, &query, class, FinalState::Evicted, actions);
        let phase = std::mem::replace(&mut query.phase, Phase::Waiting);
        self.release_phase(phase);
        query.home = to;
        if !keeps_place {
            query.place = self.draw_place();
        }
        query.prediction = self.predictor.predict(&query.request.features);
        (query.entered, query.waiting_since, query.waited) = (self.now, self.now, Duration::ZERO);
        query.metrics = QueryMetrics::default();
        query.logged_rules.clear();
        self.enter(renamed, query, actions);
    }

    /// Takes a query out of all lines, timers and the list of live queries. What it holds comes
    /// along and must be released.
    pub(super) fn remove(&mut self, id: QueryId) -> Query {
        self.leave_lines(id);
        self.set_statement_timer(id, None);
        self.set_limit_timer(id, None);
        let query = self.live.remove(&id).expect("the caller holds the number of a live query");
        self.watch_rules();
        query
    }

    fn release(&mut self, query: Query) {
        self.release_phase(query.phase);
    }

    fn release_phase(&mut self, phase: Phase) {
        let Phase::Running(running) = phase else { return };
        self.memory.release(running.hold);
        if let Some(moving) = running.moving {
            self.memory.release(moving.hold);
        }
    }

    /// Teaches the predictor what an execution has shown.
    fn learn(&mut self, query: &Query, outcome: Outcome, time: Duration) {
        let features = &query.request.features;
        match outcome {
            Outcome::Completed => {
                let peak = query.metrics.memory_bytes_peak;
                let memory = (peak > 0).then_some(peak);
                if let Some(limit) = self.config.short_queries()
                    && ShortQueries::is_eligible(&query.request)
                {
                    let limit = self.short_queries.limit(limit);
                    let predicted_short = query.prediction.time_upper < limit;
                    self.short_queries.judge(predicted_short, time, limit);
                }
                self.short_queries.observe(time);
                self.predictor.learn(features, &query.prediction, time, memory);
            }
            Outcome::Failed | Outcome::Stopped => {
                self.predictor.learn_at_least(features, &query.prediction, time);
            }
        }
    }

    /// The row of a query that leaves a service class.
    pub(super) fn log_query(
        &mut self,
        id: QueryId,
        query: &Query,
        class: ServiceClass,
        final_state: FinalState,
        actions: &mut Vec<Action>,
    ) {
        let now = self.now;
        let exec_start = query.running().map(|running| running.in_class_since);
        // After a move the query enters its class running.
        let queue_end = exec_start.unwrap_or(now);
        let slots = match self.config.mode() {
            Mode::Manual => query.slots_needed(),
            Mode::Auto => 1,
        };
        let row = WlmQueryRow {
            userid: query.request.user,
            xid: query.request.xid,
            task: query.task,
            query: id,
            service_class: class,
            slot_count: query.running().map_or(slots, |running| running.hold.slots()),
            service_class_start_time: query.entered,
            queue_start_time: query.entered,
            queue_end_time: queue_end,
            total_queue_time: micros(queue_end.since(query.entered)),
            exec_start_time: exec_start,
            exec_end_time: exec_start.map(|_| now),
            total_exec_time: exec_start.map_or(0, |start| micros(now.since(start))),
            service_class_end_time: now,
            final_state,
            est_peak_mem: query.prediction.memory_bytes_upper,
            query_priority: query.priority,
            service_class_name: self.name_of(class),
        };
        let finished = FinishedQuery { row, metrics: query.metrics.clone() };
        actions.push(Action::LogQuery(Box::new(finished)));
    }
}
