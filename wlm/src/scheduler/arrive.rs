//! Arrival: from the request to a place in line.

use std::sync::Arc;
use std::time::Duration;

use super::live::Short;
use super::{Action, Mode, Phase, Query, QueryId, Scheduler, TaskId};
use crate::classifier::{Home, classify};
use crate::event::EndReason;
use crate::fair::Waiter;
use crate::memory::Lane;
use crate::metrics::QueryMetrics;
use crate::priority::Priority;
use crate::query::Request;
use crate::short_query::ShortQueries;
use crate::time::micros;
use crate::view::{FinalState, WlmErrorRow};

impl Scheduler {
    pub(super) fn arrive(&mut self, id: QueryId, request: Arc<Request>, actions: &mut Vec<Action>) {
        assert!(!self.live.contains_key(&id), "a query arrives once");
        assert!(request.slot_count > 0, "the session checks wlm_query_slot_count");
        if !request.kind.is_managed() {
            actions.push(Action::Bypass { query: id });
            return;
        }
        let task = self.next_task;
        self.next_task = TaskId(task.0 + 1);
        let home = classify(&self.config, &request.identity, request.query_group.as_deref());
        let eligible = matches!(home, Home::Queue(_)) && ShortQueries::is_eligible(&request);
        let (priority, is_priority_pinned) = self.first_priority(&request, home);
        let query = Query {
            task,
            home,
            place: self.draw_place(),
            priority,
            is_priority_pinned,
            prediction: self.predictor.predict(&request.features),
            short: if eligible { Short::Eligible { candidate: false } } else { Short::No },
            entered: self.now,
            waiting_since: self.now,
            waited: Duration::ZERO,
            overtaken: 0,
            logged_rules: Vec::new(),
            metrics: QueryMetrics::default(),
            phase: Phase::Waiting,
            statement_deadline: None,
            limit_deadline: None,
            request,
        };
        self.enter(id, query, actions);
    }

    /// Puts a waiting query in its line, or refuses it if its queue can never run it.
    pub(super) fn enter(&mut self, id: QueryId, query: Query, actions: &mut Vec<Action>) {
        assert!(query.is_waiting());
        let service_class = self.class_of(query.home);
        self.counters_of(service_class).serviced += 1;
        if let Some(reason) = self.lacks_slots(&query) {
            self.log_query(id, &query, service_class, FinalState::Rejected, actions);
            actions.push(Action::LogError(Box::new(WlmErrorRow {
                userid: query.request.user,
                recordtime: self.now,
                pid: query.request.session,
                error_string: reason.message(id),
            })));
            actions.push(Action::Refuse { query: id, reason });
            return;
        }
        let deadline = query.request.statement_deadline();
        let before = self.live.insert(id, query);
        assert!(before.is_none(), "a number is used once");
        self.set_statement_timer(id, deadline);
        self.join_line(id);
        self.consider_short(id);
        self.watch_rules();
        actions.push(Action::Queue { query: id, service_class });
    }

    /// Why the queue can never run the query, if it asks for more slots than there are.
    pub(super) fn lacks_slots(&self, query: &Query) -> Option<EndReason> {
        let Home::Queue(queue) = query.home else { return None };
        let (asked, available) = (query.request.slot_count, self.config.queue(queue).concurrency);
        let lacks = self.config.mode() == Mode::Manual && asked > available;
        lacks.then_some(EndReason::TooManySlots { asked, available })
    }

    /// Enters the line of its home.
    pub(super) fn join_line(&mut self, id: QueryId) {
        let query = self.query(id);
        let overtaken = query.overtaken;
        let (home, place, priority) = (query.home, query.place, query.priority);
        let predicted_us = micros(query.prediction.time);
        match (home, self.config.mode()) {
            (Home::Superuser, _) => self.lines.superuser.enter(place, id),
            (Home::Queue(queue), Mode::Manual) => self.lines.queue_mut(queue).enter(place, id),
            (Home::Queue(_), Mode::Auto) => {
                self.lines.fair.enter(
                    priority,
                    place,
                    Waiter { query: id, predicted_us, overtaken },
                );
            }
        }
    }

    /// Leaves the lines that it stands in, without being started there.
    pub(super) fn leave_lines(&mut self, id: QueryId) {
        let query = self.query(id);
        let (home, place, priority) = (query.home, query.place, query.priority);
        if query.is_short_candidate() {
            assert!(self.lines.short.leave(place), "a candidate stands in the short line");
        }
        if !self.query(id).is_in_line() {
            return;
        }
        let overtaken = match (home, self.config.mode()) {
            (Home::Superuser, _) => self.lines.superuser.leave(place).then_some(0),
            (Home::Queue(queue), Mode::Manual) => {
                self.lines.queue_mut(queue).leave(place).then_some(0)
            }
            (Home::Queue(_), Mode::Auto) => self.lines.fair.leave(priority, place),
        };
        self.query_mut(id).overtaken = overtaken.expect("it stands in the line of its home");
    }

    /// Decides whether the short query queue would take a waiting query.
    pub(super) fn consider_short(&mut self, id: QueryId) {
        let limit = self.config.short_queries().map(|limit| self.short_queries.limit(limit));
        let slot_bytes = self.memory.slots(Lane::Short).target_bytes();
        let query = self.query_mut(id);
        let Short::Eligible { candidate: before } = query.short else { return };
        let candidate =
            limit.is_some_and(|limit| ShortQueries::is_short(&query.prediction, limit, slot_bytes));
        query.short = Short::Eligible { candidate };
        let place = query.place;
        match (before, candidate) {
            (false, true) => self.lines.short.enter(place, id),
            (true, false) => assert!(self.lines.short.leave(place), "it was a candidate"),
            (false, false) | (true, true) => {}
        }
    }

    /// The priority that a query starts with, and whether it was set for its user or session.
    fn first_priority(&self, request: &Request, home: Home) -> (Priority, bool) {
        match (home, self.config.mode()) {
            (Home::Superuser, _) | (Home::Queue(_), Mode::Manual) => (Priority::Normal, false),
            (Home::Queue(queue), Mode::Auto) => match self.override_of(request, None) {
                None => (self.config.queue(queue).priority, false),
                Some(priority) => (priority, true),
            },
        }
    }
}
