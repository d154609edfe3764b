//! A new configuration while queries wait and run. [`Change`] says what acts at once.

use std::sync::Arc;

use super::live::{Short, Stop};
use super::{Action, Config, Mode, Query, QueryId, Scheduler};
use crate::classifier::{Home, classify};
use crate::config::Change;
use crate::view::FinalState;

impl Scheduler {
    pub(super) fn reconfigure(&mut self, new: Config, actions: &mut Vec<Action>) {
        if let Err(error) = self.memory.check(&new) {
            actions.push(Action::ReconfigureRefused { error });
            return;
        }
        let Change { at_once, after_restart } = Change::between(&self.config, &new);
        if after_restart.is_empty() {
            self.pending = None;
            self.apply(new, actions);
        } else {
            if !at_once.is_empty() {
                self.config = Arc::new(self.config.with_rules_of(&new));
                self.watch_rules();
            }
            self.pending = Some(new);
        }
        actions.push(Action::Reconfigured { at_once, after_restart });
    }

    fn apply(&mut self, new: Config, actions: &mut Vec<Action>) {
        self.config = Arc::new(new);
        self.memory.retarget(&self.config).expect("the sizes were checked");
        let ids: Vec<QueryId> = self.live.keys().copied().collect();
        for id in ids {
            match self.config.mode() {
                Mode::Manual => self.refuse_if_too_big(id, actions),
                Mode::Auto => self.reclassify(id, actions),
            }
        }
        self.renew_time_limits();
        self.renew_candidates();
        self.watch_rules();
    }

    /// A waiting query may now ask for more slots than its queue has.
    fn refuse_if_too_big(&mut self, id: QueryId, actions: &mut Vec<Action>) {
        let query = self.query(id);
        if !query.is_waiting() {
            return;
        }
        if let Some(reason) = self.lacks_slots(query) {
            let class = self.class_of(query.home);
            let query = self.remove(id);
            self.log_query(id, &query, class, FinalState::Rejected, actions);
            actions.push(Action::Refuse { query: id, reason });
        }
    }

    /// In automatic mode queues come and go: every query takes its place among the new ones.
    fn reclassify(&mut self, id: QueryId, actions: &mut Vec<Action>) {
        let query = self.query(id);
        if query.home == Home::Superuser {
            return;
        }
        let request = &query.request;
        let home = classify(&self.config, &request.identity, request.query_group.as_deref());
        // Who was routed to a user queue stays in one, whatever the session has set since.
        let Home::Queue(queue) = home else { return };
        let service_class = self.config.service_class(queue);
        let query = self.query_mut(id);
        let changed = query.home != home;
        query.home = home;
        if let Some(running) = query.running_mut() {
            if running.hold.is_auto() {
                running.hold.class = service_class;
            }
            if let Some(moving) = &mut running.moving {
                moving.hold.class = service_class;
                moving.to = home;
            }
            if let Stop::Restart { to, .. } = &mut running.stop {
                *to = home;
            }
        } else if changed {
            actions.push(Action::Queue { query: id, service_class });
        }
        self.follow_queue(id, actions);
    }

    /// Time limits of running queries follow the queues' new ones, counted from when they began.
    fn renew_time_limits(&mut self) {
        let ids: Vec<QueryId> = self.live.keys().copied().collect();
        for id in ids {
            let query = self.query(id);
            let Some(running) = query.running() else { continue };
            let open = running.stop == Stop::No && !running.is_limit_spent;
            if !open || running.hold.is_short() {
                continue;
            }
            let limit = self.time_limit(query.home, &running.hold);
            let deadline = limit.map(|limit| running.in_class_since.plus(limit));
            self.set_limit_timer(id, deadline);
        }
    }

    /// Who may be accelerated depends on the limit and the slots of the short query queue.
    fn renew_candidates(&mut self) {
        let eligible = |query: &Query| matches!(query.short, Short::Eligible { .. });
        let waiting = self.live.iter().filter(|(_, query)| query.is_waiting() && eligible(query));
        let ids: Vec<QueryId> = waiting.map(|(id, _)| *id).collect();
        for id in ids {
            self.consider_short(id);
        }
    }
}
