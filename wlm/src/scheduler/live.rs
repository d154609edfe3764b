//! A query between its arrival and its end.

use std::sync::Arc;
use std::time::Duration;

use crate::classifier::Home;
use crate::event::{EndReason, Grant};
use crate::ids::TaskId;
use crate::memory::Hold;
use crate::metrics::QueryMetrics;
use crate::predictor::Prediction;
use crate::priority::Priority;
use crate::query::Request;
use crate::queue::Place;
use crate::rule::Facts;
use crate::time::Time;

/// A live query. It stands in the line of its home if it waits or is overdue, in the line of the
/// short query queue if it waits and is a candidate, and in no other.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) task: TaskId,
    pub(crate) request: Arc<Request>,
    pub(crate) home: Home,
    pub(crate) place: Place,
    pub(crate) priority: Priority,
    /// Whether its priority was set for it and does not follow its queue's.
    pub(crate) is_priority_pinned: bool,
    pub(crate) prediction: Prediction,
    pub(crate) short: Short,
    /// When it entered its service class.
    pub(crate) entered: Time,
    /// When it last began to wait.
    pub(crate) waiting_since: Time,
    /// How long it waited before it ran.
    pub(crate) waited: Duration,
    /// How often later arrivals had started before it when it last left the line; automatic mode.
    pub(crate) overtaken: u32,
    /// Rules that have had their one row for this query.
    pub(crate) logged_rules: Vec<Arc<str>>,
    /// Its last report; empty while it waits.
    pub(crate) metrics: QueryMetrics,
    pub(crate) phase: Phase,
    /// When its statement timeout strikes; as the timers have it.
    pub(crate) statement_deadline: Option<Time>,
    /// When the time limit of its service class strikes; as the timers have it.
    pub(crate) limit_deadline: Option<Time>,
}

/// Whether the short query queue may take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    /// It cannot.
    No,
    /// It could, and is predicted to be short if `candidate`.
    Eligible { candidate: bool },
    /// It has been there. Nobody goes there twice.
    Used,
}

#[derive(Debug)]
pub(crate) enum Phase {
    Waiting,
    Running(Running),
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) hold: Hold,
    /// Where it is going, while the nodes have not yet said that it is there.
    pub(crate) moving: Option<Moving>,
    pub(crate) started: Time,
    pub(crate) in_class_since: Time,
    /// Rows have gone to the client.
    pub(crate) is_returning: bool,
    /// It ran longer than a short query may.
    pub(crate) is_overdue: bool,
    /// The limit of its service class has struck, and it was let go on.
    pub(crate) is_limit_spent: bool,
    pub(crate) stop: Stop,
}

/// The place a running query moves to. Until the move is done it holds both places.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) hold: Hold,
    pub(crate) to: Home,
}

/// Whether a running query is being taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    No,
    /// To be started again.
    Restart {
        to: Home,
        keeps_place: bool,
    },
    Final(EndReason),
}

impl Query {
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting)
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        match &self.phase {
            Phase::Waiting => None,
            Phase::Running(running) => Some(running),
        }
    }

    pub(crate) fn running_mut(&mut self) -> Option<&mut Running> {
        match &mut self.phase {
            Phase::Waiting => None,
            Phase::Running(running) => Some(running),
        }
    }

    /// Whether it stands in the line of its home.
    pub(crate) fn is_in_line(&self) -> bool {
        self.running().is_none_or(|running| running.is_overdue)
    }

    /// Whether it stands in the line of the short query queue.
    pub(crate) fn is_short_candidate(&self) -> bool {
        self.is_waiting() && self.short == Short::Eligible { candidate: true }
    }

    /// Slots that it needs in its home.
    pub(crate) fn slots_needed(&self) -> u32 {
        match self.home {
            Home::Superuser => 1,
            Home::Queue(_) => self.request.slot_count,
        }
    }

    /// Memory that it uses now, as far as it has reported.
    pub(crate) fn used_bytes(&self) -> u64 {
        let granted = self.running().map_or(0, |running| running.hold.bytes());
        self.metrics.memory_bytes.min(granted)
    }

    /// Time in the queue, up to now if it waits.
    pub(crate) fn queue_time(&self, now: Time) -> Duration {
        if self.is_waiting() { self.waited + now.since(self.waiting_since) } else { self.waited }
    }

    pub(crate) fn facts(&self, now: Time) -> Facts<'_> {
        Facts {
            metrics: &self.metrics,
            execution_time: self.running().map(|running| now.since(running.started)),
            queue_time: self.queue_time(now),
            priority: self.priority,
        }
    }

    /// What it has with `hold`.
    pub(crate) fn grant(&self, hold: &Hold) -> Grant {
        Grant {
            service_class: hold.class,
            slots: hold.slots(),
            memory_bytes: hold.bytes(),
            priority: self.priority,
            cpu_share: self.cpu_share(hold),
            expected_time: self.prediction.time_upper,
        }
    }

    /// Short queries and those of the superuser queue must not starve beside long ones.
    pub(crate) fn cpu_share(&self, hold: &Hold) -> u32 {
        let least = match self.home {
            Home::Superuser => Priority::Critical,
            Home::Queue(_) if hold.is_short() => Priority::Highest,
            Home::Queue(_) => Priority::Lowest,
        };
        self.priority.max(least).cpu_share()
    }
}

impl Running {
    /// Whether it may be taken down to be started again.
    pub(crate) fn can_restart(&self, request: &Request) -> bool {
        request.kind.is_restartable() && !self.is_returning && self.moving.is_none()
    }

    /// Whether it goes on as it is: neither stopped nor on its way.
    pub(crate) fn is_settled(&self) -> bool {
        self.stop == Stop::No && self.moving.is_none()
    }
}
