//! CHANGE_QUERY_PRIORITY, CHANGE_SESSION_PRIORITY and CHANGE_USER_PRIORITY.
//!
//! `Critical` belongs to one query at a time. A session may have it: then the query that it runs
//! is the critical one, unless there is one already.

use std::collections::BTreeMap;

use super::{Action, Mode, QueryId, Scheduler};
use crate::classifier::Home;
use crate::event::{PriorityRefusal, PriorityScope};
use crate::ids::{SessionId, UserId};
use crate::priority::Priority;
use crate::query::Request;

/// Priorities set for users and sessions.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    users: BTreeMap<UserId, Priority>,
    sessions: BTreeMap<SessionId, Priority>,
}

impl Overrides {
    /// The priority set for a session, or else for its user.
    pub(super) fn of(&self, session: SessionId, user: UserId) -> Option<Priority> {
        self.sessions.get(&session).or_else(|| self.users.get(&user)).copied()
    }

    pub(super) fn forget_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }
}

fn replace<K: Ord>(
    map: &mut BTreeMap<K, Priority>,
    key: K,
    value: Option<Priority>,
) -> Option<Priority> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

impl Scheduler {
    pub(super) fn set_priority(
        &mut self,
        scope: PriorityScope,
        priority: Option<Priority>,
        actions: &mut Vec<Action>,
    ) {
        if let Err(reason) = self.may_set_priority(scope, priority) {
            actions.push(Action::PriorityRefused { scope, reason });
            return;
        }
        let from = match scope {
            PriorityScope::Query(id) => Some(self.query(id).priority),
            PriorityScope::Session(id) => replace(&mut self.overrides.sessions, id, priority),
            PriorityScope::User(id) => replace(&mut self.overrides.users, id, priority),
        };
        for id in self.queries_of(scope) {
            let set = match scope {
                PriorityScope::Query(_) => priority,
                PriorityScope::Session(_) | PriorityScope::User(_) => {
                    self.override_of(&self.query(id).request, Some(id))
                }
            };
            match set {
                Some(priority) => self.pin_priority(id, priority, actions),
                None => {
                    self.query_mut(id).is_priority_pinned = false;
                    self.follow_queue(id, actions);
                }
            }
        }
        let to = match scope {
            PriorityScope::Query(id) => Some(self.query(id).priority),
            PriorityScope::Session(_) | PriorityScope::User(_) => priority,
        };
        actions.push(Action::PrioritySet { scope, from, to });
    }

    /// Gives a query that has no priority of its own that of its queue.
    pub(super) fn follow_queue(&mut self, id: QueryId, actions: &mut Vec<Action>) {
        let query = self.query(id);
        if let Home::Queue(queue) = query.home
            && !query.is_priority_pinned
        {
            let priority = self.config.queue(queue).priority;
            self.change_priority(id, priority, actions);
        }
    }

    /// Changes the priority of a query, and with it its level in line.
    pub(super) fn change_priority(
        &mut self,
        id: QueryId,
        priority: Priority,
        actions: &mut Vec<Action>,
    ) {
        let query = self.query(id);
        if query.priority == priority {
            return;
        }
        let (is_in_line, was_candidate) = (query.is_in_line(), query.is_short_candidate());
        self.leave_lines(id);
        self.query_mut(id).priority = priority;
        if is_in_line {
            self.join_line(id);
        }
        if was_candidate {
            let place = self.query(id).place;
            self.lines.short.enter(place, id);
        }
        let query = self.query(id);
        let cpu_share = match query.running() {
            Some(running) => query.cpu_share(&running.hold),
            None => priority.cpu_share(),
        };
        actions.push(Action::ChangePriority { query: id, priority, cpu_share });
    }

    /// The priority set for the session or user of a request: of the query with this id, or of one
    /// that arrives. Where another query is critical it is the highest one below.
    pub(super) fn override_of(&self, request: &Request, id: Option<QueryId>) -> Option<Priority> {
        let set = self.overrides.of(request.session, request.user)?;
        let is_taken = self.critical().is_some_and(|critical| Some(critical) != id);
        if set == Priority::Critical && is_taken { Some(Priority::Highest) } else { Some(set) }
    }

    /// The critical query, if there is one.
    pub(super) fn critical(&self) -> Option<QueryId> {
        let is_critical = |query: &super::Query| query.priority == Priority::Critical;
        self.live.iter().find(|(_, query)| is_critical(query)).map(|(id, _)| *id)
    }

    fn may_set_priority(
        &self,
        scope: PriorityScope,
        priority: Option<Priority>,
    ) -> Result<(), PriorityRefusal> {
        if self.config.mode() == Mode::Manual {
            return Err(PriorityRefusal::ManualMode);
        }
        let concerned = self.queries_of(scope);
        if matches!(scope, PriorityScope::Query(_)) && concerned.is_empty() {
            return Err(PriorityRefusal::NoSuchQuery);
        }
        if priority == Some(Priority::Critical) {
            if matches!(scope, PriorityScope::User(_)) {
                return Err(PriorityRefusal::CriticalForUser);
            }
            let other = self.critical().is_some_and(|id| !concerned.contains(&id));
            if other || concerned.len() > 1 {
                return Err(PriorityRefusal::CriticalTaken);
            }
        }
        Ok(())
    }

    /// The queries of user queues that a change is about.
    fn queries_of(&self, scope: PriorityScope) -> Vec<QueryId> {
        let concerned = self.live.iter().filter(|(id, query)| match scope {
            PriorityScope::Query(wanted) => **id == wanted,
            PriorityScope::Session(session) => query.request.session == session,
            PriorityScope::User(user) => query.request.user == user,
        });
        let managed = concerned.filter(|(_, query)| matches!(query.home, Home::Queue(_)));
        managed.map(|(id, _)| *id).collect()
    }
}
