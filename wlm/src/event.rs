//! What the scheduler is told, and what it answers.
//!
//! The caller's part:
//!
//! * every [`Action::Start`] is answered in the end by one [`Event::Ended`], whatever becomes of
//!   the query: success, error, panic, lost node, or the stop that an [`Action::Stop`] asked for.
//!   Only then are slots and memory free again, so it is said when the work has really stopped on
//!   every node;
//! * [`Action::Restart`] is answered by [`Event::Stopped`] when the work has stopped, or by
//!   [`Event::Ended`] if the query ended by itself before;
//! * [`Action::Move`] is answered by [`Event::Moved`] when the new limit of memory holds on every
//!   node, or by [`Event::MoveFailed`] if the query already uses more;
//! * after each call one timer is set to [`crate::Scheduler::next_deadline`]; when it rings, the
//!   event is [`Event::Tick`].

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Property};
use crate::error::Error;
use crate::ids::{QueryId, ServiceClass, SessionId, UserId};
use crate::metrics::QueryMetrics;
use crate::priority::Priority;
use crate::query::Request;
use crate::view::{RuleActionRow, WlmErrorRow, WlmQueryRow};

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A query is planned and wants to run.
    Arrive {
        /// Its number, never used before.
        query: QueryId,
        /// What is known of it.
        request: Arc<Request>,
    },
    /// A running query reports its figures.
    Progress {
        /// Which.
        query: QueryId,
        /// All figures so far.
        metrics: Box<QueryMetrics>,
    },
    /// A query has sent its first row to the client: it can no longer be restarted.
    Returning {
        /// Which.
        query: QueryId,
    },
    /// A query has ended and its work has stopped on every node.
    Ended {
        /// Which.
        query: QueryId,
        /// How.
        outcome: Outcome,
        /// Its final figures, if there are any.
        metrics: Option<Box<QueryMetrics>>,
    },
    /// The work of a query that is to be restarted has stopped on every node.
    Stopped {
        /// Which.
        query: QueryId,
        /// The new number under which it goes on.
        renamed: QueryId,
    },
    /// A query has the memory of its new place on every node.
    Moved {
        /// Which.
        query: QueryId,
    },
    /// A query uses more memory than its new place has.
    MoveFailed {
        /// Which.
        query: QueryId,
    },
    /// Someone wants a query cancelled.
    Cancel {
        /// Which.
        query: QueryId,
        /// Who.
        cause: CancelCause,
    },
    /// A node is gone.
    NodeLost {
        /// The queries whose work was on it.
        queries: Vec<QueryId>,
    },
    /// A superuser changes a priority.
    SetPriority {
        /// Whose.
        scope: PriorityScope,
        /// To what; `None`: back to the queue's.
        priority: Option<Priority>,
    },
    /// A session is gone; it has no query any more.
    SessionEnded {
        /// Which.
        session: SessionId,
    },
    /// A new configuration.
    Reconfigure {
        /// Already parsed.
        config: Box<Config>,
    },
    /// How busy the nodes' processors have been since the last report.
    NodeLoad {
        /// 0 to 100, of the busiest node.
        busy_percent: u8,
    },
    /// The timer rang.
    Tick,
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what it was to do.
    Completed,
    /// With an error of its own, or a panic.
    Failed,
    /// Because it was stopped.
    Stopped,
}

/// Who wanted a query cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CancelCause {
    /// CANCEL, pg_cancel_backend, or the protocol's CancelRequest.
    User,
    /// pg_terminate_backend: the session ends too.
    Terminated,
    /// The client is gone.
    Disconnected,
    /// The session was idle for too long, or the server stops.
    Shutdown,
}

/// Whose priority is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PriorityScope {
    /// One query.
    Query(QueryId),
    /// All queries of a session, now and later.
    Session(SessionId),
    /// All queries of a user, now and later.
    User(UserId),
}

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The query is not managed: run it.
    Bypass {
        /// Which.
        query: QueryId,
    },
    /// The query stands in line. If it can start at once, the start follows.
    Queue {
        /// Which.
        query: QueryId,
        /// In which line.
        service_class: ServiceClass,
    },
    /// Run the query.
    Start {
        /// Which.
        query: QueryId,
        /// With what.
        grant: Grant,
    },
    /// Give a running query another place; it keeps what it has done.
    Move {
        /// Which.
        query: QueryId,
        /// What it has from now on.
        grant: Grant,
    },
    /// Take down a running query, to be started again under a new number.
    Restart {
        /// Which.
        query: QueryId,
        /// In which queue.
        service_class: ServiceClass,
    },
    /// Take down a running query for good.
    Stop {
        /// Which.
        query: QueryId,
        /// What its client is told.
        reason: EndReason,
    },
    /// A waiting query will never run: tell its client.
    Refuse {
        /// Which.
        query: QueryId,
        /// Why.
        reason: EndReason,
    },
    /// A query has another priority.
    ChangePriority {
        /// Which.
        query: QueryId,
        /// What.
        priority: Priority,
        /// Its weight when CPU is divided, if it runs.
        cpu_share: u32,
    },
    /// The priority was changed as asked.
    PrioritySet {
        /// Whose.
        scope: PriorityScope,
        /// Before; of a session or user the one that was set before, if any was.
        from: Option<Priority>,
        /// Now.
        to: Option<Priority>,
    },
    /// The priority was not changed.
    PriorityRefused {
        /// Whose.
        scope: PriorityScope,
        /// Why.
        reason: PriorityRefusal,
    },
    /// A configuration was taken.
    Reconfigured {
        /// What holds from now on.
        at_once: Vec<Property>,
        /// What waits for a restart.
        after_restart: Vec<Property>,
    },
    /// A configuration was refused; the old one stays.
    ReconfigureRefused {
        /// Why.
        error: Error,
    },
    /// A row for `stl_wlm_rule_action`.
    LogRule(Box<RuleActionRow>),
    /// A row for `stl_wlm_error`: a query could not be managed as it asked.
    LogError(Box<WlmErrorRow>),
    /// A query left a service class: a row for `stl_wlm_query`, with the last figures for
    /// `stl_query_metrics`.
    LogQuery(Box<FinishedQuery>),
}

/// What a query has while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Under which number system tables show it.
    pub service_class: ServiceClass,
    /// Slots; 1 in automatic mode.
    pub slots: u32,
    /// The most memory it may use on each node.
    pub memory_bytes: u64,
    /// Its priority.
    pub priority: Priority,
    /// Its weight when CPU is divided among running queries.
    pub cpu_share: u32,
    /// Execution time that four of five such queries stay under.
    pub expected_time: Duration,
}

/// What a query left behind when it left a service class.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedQuery {
    /// The row for `stl_wlm_query`.
    pub row: WlmQueryRow,
    /// The last figures it reported.
    pub metrics: QueryMetrics,
}

/// Why a query does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Someone cancelled it.
    Cancelled(CancelCause),
    /// `statement_timeout`.
    StatementTimeout,
    /// `max_execution_time` of its queue, and no further queue takes it.
    ExecutionTimeLimit,
    /// A rule's abort.
    RuleAbort {
        /// Which rule.
        rule: Arc<str>,
    },
    /// A rule's hop, and no further queue takes it.
    RuleHop {
        /// Which rule.
        rule: Arc<str>,
    },
    /// A node is gone that worked on it.
    NodeLost,
    /// It asks for more slots than its queue has.
    TooManySlots {
        /// `wlm_query_slot_count`.
        asked: u32,
        /// The queue's concurrency.
        available: u32,
    },
}

impl EndReason {
    /// The message that Redshift's clients know for it.
    pub fn message(&self, query: QueryId) -> String {
        match self {
            Self::Cancelled(_) => format!("Query ({query}) canceled on user's request"),
            Self::StatementTimeout => "canceling statement due to statement timeout".to_owned(),
            Self::ExecutionTimeLimit => {
                format!("Query ({query}) cancelled by WLM timeout: no other queue takes it")
            }
            Self::RuleAbort { rule } => format!(
                "Query ({query}) cancelled by WLM abort action of Query Monitoring Rule \"{rule}\"."
            ),
            Self::RuleHop { rule } => format!(
                "Query ({query}) cancelled by WLM hop action of Query Monitoring Rule \"{rule}\": \
                 no other queue takes it"
            ),
            Self::NodeLost => format!("Query ({query}) failed: a compute node was lost"),
            Self::TooManySlots { asked, available } => format!(
                "query asks for {asked} slots (wlm_query_slot_count), its queue has {available}"
            ),
        }
    }
}

/// Why a priority was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PriorityRefusal {
    /// Only automatic workload management has priorities.
    #[error("priorities can be changed only in automatic workload management")]
    ManualMode,
    /// The query is not there, or it is in the superuser queue.
    #[error("query is not waiting or running in a user queue")]
    NoSuchQuery,
    /// Another query is critical.
    #[error("another query has priority critical")]
    CriticalTaken,
    /// Critical is for single queries and sessions.
    #[error("priority critical cannot be given to a user")]
    CriticalForUser,
}
