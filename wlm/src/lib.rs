//! Workload management: which query runs now, with how much memory, and for how long. Pure: events
//! and the time go in, actions come out; no clock, no threads, no DataFusion, so that millions of
//! arrivals can be simulated.
//!
//! A query's states, with the events (capitals) and actions (in brackets) between them:
//!
//! ```text
//!          ARRIVE
//!            |------------------------> [Bypass]   leader only, or from the result cache
//!            v
//!        classified ------------------> [Refuse]   asks for more slots than its queue has
//!            | [Queue]
//!            v
//!   +---> waiting --------------------> [Refuse]   cancel, statement timeout, rule on queue time
//!   |        | [Start], in its own queue, or in the short query queue
//!   |        v
//!   |     running --+ [Move]: reassigned by a hop, or from the short query queue to its own;
//!   |      | | ^    |         it holds both places until MOVED or MOVE FAILED
//!   |      | | +----+
//!   |      | |
//!   |      | | [Restart]: a hop or a short query's overrun, where no move is possible
//!   |      | v
//!   +--- evicting                                  STOPPED: same task, new query number
//!          |
//!          | [Stop]: cancel, timeout, abort, node lost
//!          v
//!        ENDED     slots and memory are free, exactly once
//! ```
//!
//! Reading order: [`Event`] and [`Action`] are the whole conversation with the leader;
//! [`Scheduler`] holds it. [`Config`] is what it goes by. Slots and memory are kept in `slot` and
//! `memory`, lines in `queue` (first come, first served) and [`fair`] (by priority). [`predictor`]
//! and [`short_query`] say what a query is expected to take. [`view`] has rows for system tables.

mod classifier;
mod config;
mod error;
mod event;
pub mod fair;
mod ids;
mod memory;
mod metrics;
pub mod predictor;
mod priority;
mod query;
mod queue;
mod rule;
mod scheduler;
pub mod short_query;
mod slot;
mod time;
pub mod view;

pub use classifier::{Home, Names, SUPERUSER_QUERY_GROUP, classify, next_queue};
pub use config::{
    CONCURRENCY_DEFAULT, CONFIG_CHARACTERS_MAX, Change, Config, Mode, Notice, PREDICATES_MAX,
    Parsed, Property, QUEUE_NAME_CHARACTERS_MAX, QUEUES_MAX, QueueConfig, RULE_NAME_CHARACTERS_MAX,
    RULES_MAX, SHORT_QUERY_LIMIT_MS_MAX, SHORT_QUERY_LIMIT_MS_MIN, SLOTS_MAX, ShortQueryLimit,
    explain,
};
pub use error::{Element, Error, Result};
pub use event::{
    Action, CancelCause, EndReason, Event, FinishedQuery, Grant, Outcome, PriorityRefusal,
    PriorityScope,
};
pub use ids::{QueryId, QueueId, ServiceClass, SessionId, TaskId, UserId};
pub use memory::{AUTO_QUERIES_MAX, Pool, SLOT_BYTES_MIN};
pub use metrics::{QueryMetrics, SegmentMetrics, StepKind, StepMetrics, Work};
pub use priority::Priority;
pub use query::{Identity, PlanFeatures, QueryKind, Request};
pub use rule::{Metric, Operator, Predicate, RULE_PERIOD, Rule, RuleAction, Threshold};
pub use scheduler::{Scheduler, Violation};
pub use time::Time;
