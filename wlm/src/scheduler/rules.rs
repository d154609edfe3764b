//! Query monitoring rules at work: every ten seconds, on every query of a user queue.
//!
//! Of the rules that fire the most severe one acts. A rule that cannot act on this query (an abort
//! of a COPY, a hop without a free slot) leaves one row with action `none`, and the next one has
//! its turn. A `log` acts once per query.

use std::sync::Arc;

use super::hop::Hop;
use super::{Action, Query, QueryId, Scheduler};
use crate::classifier::Home;
use crate::event::EndReason;
use crate::priority::Priority;
use crate::rule::{Metric, Rule, RuleAction};
use crate::view::{RuleActionRow, RuleActionTaken};

impl Scheduler {
    pub(super) fn evaluate_rules(&mut self, actions: &mut Vec<Action>) {
        let ids: Vec<QueryId> = self.live.keys().copied().collect();
        for id in ids {
            for rule in self.firing_rules(id) {
                if self.act(id, &rule, actions) {
                    break;
                }
            }
        }
    }

    /// The rules that fire for a query, the most severe first, as configured among equals.
    fn firing_rules(&self, id: QueryId) -> Vec<Rule> {
        let query = self.query(id);
        let Home::Queue(queue) = query.home else { return Vec::new() };
        if query.running().is_some_and(|running| !running.is_settled()) {
            return Vec::new();
        }
        let facts = query.facts(self.now);
        let rules = self.config.queue(queue).rules.iter();
        let mut firing: Vec<Rule> =
            rules.filter(|rule| is_wanted(query, rule) && rule.fires(&facts)).cloned().collect();
        firing.sort_by_key(|rule| std::cmp::Reverse(rule.action.severity()));
        firing
    }

    /// Does what a rule says. Answers whether it did anything.
    fn act(&mut self, id: QueryId, rule: &Rule, actions: &mut Vec<Action>) -> bool {
        let name = Arc::clone(&rule.name);
        let row = self.rule_row(id, rule);
        let taken = match rule.action {
            RuleAction::Log => RuleActionTaken::Log,
            RuleAction::ChangePriority(priority) => {
                self.pin_priority(id, priority, actions);
                RuleActionTaken::ChangeQueryPriority
            }
            RuleAction::Abort if self.query(id).request.kind.is_protected() => {
                RuleActionTaken::None
            }
            RuleAction::Abort => {
                self.put_down(id, EndReason::RuleAbort { rule: name }, actions);
                RuleActionTaken::Abort
            }
            RuleAction::Hop => match self.hop(id, EndReason::RuleHop { rule: name }, actions) {
                Hop::Reassigned => RuleActionTaken::HopReassign,
                Hop::Restarted => RuleActionTaken::HopRestart,
                Hop::Cancelled => RuleActionTaken::Abort,
                Hop::None => RuleActionTaken::None,
            },
        };
        let did_nothing = taken == RuleActionTaken::None;
        if did_nothing && self.query(id).logged_rules.contains(&rule.name) {
            return false;
        }
        if did_nothing || taken == RuleActionTaken::Log {
            self.query_mut(id).logged_rules.push(Arc::clone(&rule.name));
        }
        actions.push(Action::LogRule(Box::new(RuleActionRow { action: taken, ..row })));
        !did_nothing
    }

    /// Sets the priority of a query, which then no longer follows its queue.
    pub(super) fn pin_priority(
        &mut self,
        id: QueryId,
        priority: Priority,
        actions: &mut Vec<Action>,
    ) {
        self.query_mut(id).is_priority_pinned = true;
        self.change_priority(id, priority, actions);
    }

    fn rule_row(&self, id: QueryId, rule: &Rule) -> RuleActionRow {
        let query = self.query(id);
        let class = match query.running() {
            Some(running) => running.hold.class,
            None => self.class_of(query.home),
        };
        let action_value = match rule.action {
            RuleAction::ChangePriority(priority) => Some(priority),
            RuleAction::Log | RuleAction::Hop | RuleAction::Abort => None,
        };
        RuleActionRow {
            userid: query.request.user,
            query: id,
            service_class: class,
            rule: Arc::clone(&rule.name),
            action: RuleActionTaken::None,
            recordtime: self.now,
            action_value,
            service_class_name: self.name_of(class),
        }
    }
}

/// Whether the rule has anything left to do for the query.
fn is_wanted(query: &Query, rule: &Rule) -> bool {
    match rule.action {
        RuleAction::Log => !query.logged_rules.contains(&rule.name),
        RuleAction::ChangePriority(priority) => query.priority != priority,
        RuleAction::Abort => true,
        RuleAction::Hop => {
            let by_queue_time =
                rule.predicates.iter().any(|predicate| predicate.metric == Metric::QueryQueueTime);
            !query.is_waiting() && !by_queue_time
        }
    }
}
