//! What the simulated leader knows of its queries, independent of the scheduler's own state.

use std::sync::Arc;
use std::time::Duration;

use wlm::{Config, Grant, Identity, Priority, QueryKind, Request, ServiceClass, Time};

/// A query of the simulated cluster, from arrival to end.
pub(crate) struct Model {
    pub(crate) request: Arc<Request>,
    /// What it really takes. Nobody tells the scheduler before.
    pub(crate) truth: Truth,
    /// The class in whose line it stands or stood last; the short query queue has no line of its
    /// own here.
    pub(crate) home: ServiceClass,
    /// Its place in line: lower came earlier.
    pub(crate) key: u64,
    pub(crate) priority: Priority,
    /// Later arrivals of its priority that started before it.
    pub(crate) overtaken: u32,
    /// Whether it has been in the short query queue.
    pub(crate) was_short: bool,
    pub(crate) hops: usize,
    pub(crate) state: State,
    /// Which execution it is; what was planned for an earlier one no longer counts.
    pub(crate) execution: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct Truth {
    pub(crate) time: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) panics: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The scheduler was told, and has not yet put it in line.
    Arriving,
    Waiting,
    Running(Running),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) grant: Grant,
    pub(crate) moving: Option<Grant>,
    pub(crate) stopping: Stopping,
    pub(crate) is_returning: bool,
    /// When it began to run where it is, or a little later.
    pub(crate) since: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopping {
    No,
    Restart(ServiceClass),
    Final,
}

impl Model {
    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.state {
            State::Running(running) => Some(running),
            State::Arriving | State::Waiting => None,
        }
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.state {
            State::Running(running) => Some(running),
            State::Arriving | State::Waiting => None,
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.request.statement_timeout.map(|timeout| self.request.statement_started.plus(timeout))
    }
}

pub(crate) fn is_protected(kind: QueryKind) -> bool {
    matches!(kind, QueryKind::Copy | QueryKind::Maintenance)
}

pub(crate) fn can_restart(kind: QueryKind) -> bool {
    matches!(kind, QueryKind::Select | QueryKind::CreateTableAs)
}

/// The assignment rules once more, by the letter of the documentation.
pub(crate) fn expected_class(config: &Config, request: &Request) -> ServiceClass {
    let Identity { groups, roles, is_superuser } = &*request.identity;
    if *is_superuser && request.query_group.as_deref() == Some("superuser") {
        return ServiceClass(5);
    }
    let first = if config.mode() == wlm::Mode::Manual { 6 } else { 100 };
    let last = config.queues().len() - 1;
    let matching = config.queues().iter().position(|queue| {
        let listed = |names: &wlm::Names, own: &[String]| {
            names.iter().any(|name| own.iter().any(|own| like(name, own, names.has_wild_cards())))
        };
        let group: Vec<String> = request.query_group.iter().map(ToString::to_string).collect();
        listed(&queue.user_groups, groups)
            || listed(&queue.user_roles, roles)
            || listed(&queue.query_groups, &group)
    });
    ServiceClass(first + u16::try_from(matching.unwrap_or(last)).unwrap())
}

fn like(pattern: &str, text: &str, wild: bool) -> bool {
    if !wild {
        return pattern == text;
    }
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => matches(rest, text),
            (Some((b'*', rest)), Some((_, tail))) => matches(rest, text) || matches(pattern, tail),
            (Some((b'?', rest)), Some((_, tail))) => matches(rest, tail),
            (Some((p, rest)), Some((t, tail))) => p == t && matches(rest, tail),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    matches(pattern.to_lowercase().as_bytes(), text.to_lowercase().as_bytes())
}
