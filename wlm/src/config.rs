//! The configuration: `wlm_json_configuration` with Redshift's keys, defaults and limits.
//!
//! A [`Config`] exists only if it is valid: it has 1 to 8 user queues, the last of them without
//! groups; at most 50 slots; shares of memory for all queues or none, not above 100 %; and rules
//! that fit its [`Mode`]. It does not change; a new one replaces it ([`Change`] says how).

mod change;
mod explain;
mod parse;
mod parse_rule;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use change::{Change, Property};
pub use explain::explain;
pub use parse::{Notice, Parsed};

use crate::classifier::Names;
use crate::error::Result;
use crate::ids::{QueueId, ServiceClass};
use crate::priority::Priority;
use crate::rule::Rule;

/// The longest configuration.
pub const CONFIG_CHARACTERS_MAX: usize = 8_000;
/// User queues, the default queue among them.
pub const QUEUES_MAX: usize = 8;
/// Slots of all user queues together; the superuser queue has its own.
pub const SLOTS_MAX: u32 = 50;
/// Slots of a queue that says nothing else.
pub const CONCURRENCY_DEFAULT: u32 = 5;
/// The longest name of a queue.
pub const QUEUE_NAME_CHARACTERS_MAX: usize = 64;
/// Query monitoring rules of all queues together.
pub const RULES_MAX: usize = 25;
/// Predicates of one rule.
pub const PREDICATES_MAX: usize = 3;
/// The longest name of a rule.
pub const RULE_NAME_CHARACTERS_MAX: usize = 32;
/// The least fixed limit of short query acceleration.
pub const SHORT_QUERY_LIMIT_MS_MIN: u64 = 1_000;
/// The greatest fixed limit of short query acceleration.
pub const SHORT_QUERY_LIMIT_MS_MAX: u64 = 20_000;

/// Who decides how many queries run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The configuration: each queue has slots.
    Manual,
    /// The scheduler, from predictions: each queue has a priority.
    Auto,
}

/// How long a query may run in the short query queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShortQueryLimit {
    /// Chosen from the history of run times.
    Dynamic,
    /// As configured.
    Fixed(Duration),
}

/// One user queue.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueConfig {
    /// The name shown in system tables.
    pub name: Arc<str>,
    /// Slots; without meaning in automatic mode.
    pub concurrency: u32,
    /// Its share of the memory of queries. `None`: all queues share equally.
    pub memory_percent: Option<u32>,
    /// Members of these groups are its users.
    pub user_groups: Names,
    /// Holders of these roles are its users.
    pub user_roles: Names,
    /// Queries with these labels are its queries.
    pub query_groups: Names,
    /// How long a query may run here; manual mode only.
    pub max_execution_time: Option<Duration>,
    /// The priority of its queries; `Normal` in manual mode.
    pub priority: Priority,
    /// Whether the configuration asks for concurrency scaling. It has no effect: there is no
    /// second cluster.
    pub concurrency_scaling: bool,
    /// Watched while its queries wait and run.
    pub rules: Vec<Rule>,
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    mode: Mode,
    queues: Vec<QueueConfig>,
    short_queries: Option<ShortQueryLimit>,
}

impl Config {
    /// Reads a `wlm_json_configuration`.
    ///
    /// # Errors
    /// Whatever Redshift would refuse, and names why.
    pub fn parse(json: &str) -> Result<Parsed> {
        parse::parse(json)
    }

    /// What holds when nothing is configured: one queue of five slots, as Redshift's classic
    /// default.
    pub fn classic() -> Self {
        Self {
            mode: Mode::Manual,
            queues: vec![QueueConfig::with_defaults(Self::default_queue_name())],
            short_queries: None,
        }
    }

    /// Automatic workload management with short query acceleration: Redshift's default for new
    /// clusters, and what it falls back to when a stored configuration cannot be read.
    pub fn automatic() -> Self {
        Self {
            mode: Mode::Auto,
            queues: vec![QueueConfig::with_defaults(Self::default_queue_name())],
            short_queries: Some(ShortQueryLimit::Dynamic),
        }
    }

    /// Manual or automatic.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The user queues in order; the last is the default queue.
    pub fn queues(&self) -> &[QueueConfig] {
        &self.queues
    }

    /// One user queue. Its id must come from this configuration.
    pub fn queue(&self, queue: QueueId) -> &QueueConfig {
        &self.queues[queue.0]
    }

    /// The queue that takes what no other takes.
    pub fn default_queue(&self) -> QueueId {
        QueueId(self.queues.len() - 1)
    }

    /// Whether and how short queries are accelerated.
    pub fn short_queries(&self) -> Option<ShortQueryLimit> {
        self.short_queries
    }

    /// The number of a user queue in system tables.
    pub fn service_class(&self, queue: QueueId) -> ServiceClass {
        let first = match self.mode {
            Mode::Manual => ServiceClass::FIRST_MANUAL,
            Mode::Auto => ServiceClass::FIRST_AUTO,
        };
        let offset = u16::try_from(queue.0).expect("a configuration has at most 8 queues");
        ServiceClass(first.0 + offset)
    }

    /// The user queue with this number, if it is one.
    pub fn queue_of(&self, class: ServiceClass) -> Option<QueueId> {
        let queues = (0..self.queues.len()).map(QueueId);
        queues.into_iter().find(|queue| self.service_class(*queue) == class)
    }

    /// What a queue gets of `query_bytes` for all its slots together; manual mode.
    pub fn queue_bytes(&self, queue: QueueId, query_bytes: u64) -> u64 {
        match self.queue(queue).memory_percent {
            Some(percent) => query_bytes / 100 * u64::from(percent),
            None => query_bytes / self.queues.len() as u64,
        }
    }

    /// What a slot of a queue gets of `query_bytes`; manual mode.
    pub fn slot_bytes(&self, queue: QueueId, query_bytes: u64) -> u64 {
        self.queue_bytes(queue, query_bytes) / u64::from(self.queue(queue).concurrency)
    }

    /// Whether any queue has a rule.
    pub fn has_rules(&self) -> bool {
        self.queues.iter().any(|queue| !queue.rules.is_empty())
    }

    /// This configuration with the rules of `other`, which has as many queues and the same mode.
    pub(crate) fn with_rules_of(&self, other: &Self) -> Self {
        assert_eq!((self.mode, self.queues.len()), (other.mode, other.queues.len()));
        let mut mixed = self.clone();
        for (queue, source) in mixed.queues.iter_mut().zip(&other.queues) {
            queue.rules.clone_from(&source.rules);
        }
        mixed
    }

    fn default_queue_name() -> Arc<str> {
        Arc::from("Default queue")
    }
}

impl QueueConfig {
    /// A queue as it is when its element says nothing.
    fn with_defaults(name: Arc<str>) -> Self {
        Self {
            name,
            concurrency: CONCURRENCY_DEFAULT,
            memory_percent: None,
            user_groups: Names::default(),
            user_roles: Names::default(),
            query_groups: Names::default(),
            max_execution_time: None,
            priority: Priority::Normal,
            concurrency_scaling: false,
            rules: Vec::new(),
        }
    }
}
