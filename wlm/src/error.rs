//! Why a configuration is refused. The superuser or operator who wrote it acts; the configuration
//! in force stays.

use std::fmt;

use crate::config::{
    CONFIG_CHARACTERS_MAX, PREDICATES_MAX, QUEUE_NAME_CHARACTERS_MAX, QUEUES_MAX,
    RULE_NAME_CHARACTERS_MAX, RULES_MAX, SLOTS_MAX,
};

/// The result of reading or applying a configuration.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which element of the JSON array, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element(pub usize);

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "element {}", self.0)
    }
}

/// What is wrong with a `wlm_json_configuration`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is longer than Redshift takes.
    #[error("configuration has {0} characters, at most {CONFIG_CHARACTERS_MAX} are allowed")]
    TooLong(usize),
    /// The text is not JSON.
    #[error("configuration is not valid JSON: {0}")]
    NotJson(String),
    /// JSON, but neither an array of objects nor an object.
    #[error("configuration must be a JSON array of objects")]
    NotAnArray,
    /// A value of the wrong type.
    #[error("{element}: \"{key}\" must be {expected}")]
    WrongType {
        /// Where.
        element: Element,
        /// Which key.
        key: String,
        /// What it must be.
        expected: &'static str,
    },
    /// A number out of its range.
    #[error("{element}: \"{key}\" is {value}, it must be from {min} to {max}")]
    OutOfRange {
        /// Where.
        element: Element,
        /// Which key.
        key: String,
        /// What was given.
        value: i64,
        /// The least allowed.
        min: i64,
        /// The most allowed.
        max: i64,
    },
    /// No element describes a queue.
    #[error("configuration has no queue")]
    NoQueue,
    /// More user queues than there are service classes for.
    #[error("configuration has {0} queues, at most {QUEUES_MAX} are allowed")]
    TooManyQueues(usize),
    /// The concurrency of all queues together is too high.
    #[error("all queues together have {0} slots, at most {SLOTS_MAX} are allowed")]
    TooManySlots(u32),
    /// The last queue is the default queue; groups or roles on it would leave queries without one.
    #[error("{element}: the last queue is the default queue and takes no {key}")]
    DefaultQueueHasGroups {
        /// Where.
        element: Element,
        /// Which key.
        key: &'static str,
    },
    /// Short query acceleration is set twice.
    #[error("{0}: \"short_query_queue\" is set a second time")]
    ShortQueryQueueTwice(Element),
    /// A short query queue has no properties of a user queue.
    #[error("{element}: \"{key}\" does not belong to the element of \"short_query_queue\"")]
    NotForShortQueryQueue {
        /// Where.
        element: Element,
        /// Which key.
        key: String,
    },
    /// Automatic and manual queues do not mix.
    #[error("{0}: automatic and manual queues cannot be mixed")]
    MixedModes(Element),
    /// A queue's name has characters that names cannot have, or too many.
    #[error(
        "{element}: queue name \"{name}\" must have 1 to {QUEUE_NAME_CHARACTERS_MAX} letters, \
         digits, underscores or spaces"
    )]
    QueueName {
        /// Where.
        element: Element,
        /// What was given.
        name: String,
    },
    /// Some queues have a share of memory and this one has none.
    #[error("{0}: \"memory_percent_to_use\" must be given for every queue or for none")]
    MemoryIncomplete(Element),
    /// The shares of memory exceed the whole.
    #[error("all queues together have {0} % of memory")]
    MemoryOver(i64),
    /// A slot's memory would be too small to run anything.
    #[error("a slot of queue \"{queue}\" would have {slot_bytes} bytes of memory, too few to run")]
    SlotTooSmall {
        /// The queue's name.
        queue: String,
        /// What a slot would get on each node.
        slot_bytes: u64,
    },
    /// A required key of a rule is missing.
    #[error("{element}: a rule lacks \"{key}\"")]
    RuleIncomplete {
        /// Where.
        element: Element,
        /// Which key.
        key: &'static str,
    },
    /// A rule's name has characters that names cannot have, or too many.
    #[error(
        "{element}: rule name \"{name}\" must have 1 to {RULE_NAME_CHARACTERS_MAX} letters, \
         digits or underscores"
    )]
    RuleName {
        /// Where.
        element: Element,
        /// What was given.
        name: String,
    },
    /// Two rules have one name.
    #[error("rule name \"{0}\" is used twice")]
    RuleNameTwice(String),
    /// More rules than allowed in all queues together.
    #[error("configuration has {0} rules, at most {RULES_MAX} are allowed")]
    TooManyRules(usize),
    /// A rule has no predicate or too many.
    #[error("rule \"{rule}\" has {count} predicates, it must have 1 to {PREDICATES_MAX}")]
    PredicateCount {
        /// Which rule.
        rule: String,
        /// How many it has.
        count: usize,
    },
    /// No metric has this name.
    #[error("rule \"{rule}\": there is no metric \"{metric}\"")]
    UnknownMetric {
        /// Which rule.
        rule: String,
        /// What was given.
        metric: String,
    },
    /// The operator is not one of =, < and >.
    #[error("rule \"{rule}\": operator \"{operator}\" must be =, < or >")]
    UnknownOperator {
        /// Which rule.
        rule: String,
        /// What was given.
        operator: String,
    },
    /// The threshold does not fit the metric.
    #[error("rule \"{rule}\": the value of {metric} must be {expected}")]
    MetricValue {
        /// Which rule.
        rule: String,
        /// Which metric.
        metric: &'static str,
        /// What fits.
        expected: String,
    },
    /// No action has this name.
    #[error("rule \"{rule}\": there is no action \"{action}\"")]
    UnknownAction {
        /// Which rule.
        rule: String,
        /// What was given.
        action: String,
    },
    /// The action or metric belongs to the other kind of workload management.
    #[error("rule \"{rule}\": {what} needs {needs} workload management")]
    WrongMode {
        /// Which rule.
        rule: String,
        /// Action or metric.
        what: &'static str,
        /// "automatic" or "manual".
        needs: &'static str,
    },
}

impl Error {
    /// What the writer of the configuration can do, where that is not plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::DefaultQueueHasGroups { .. } => {
                Some("add a last queue without user groups, query groups and roles")
            }
            Self::MixedModes(_) => {
                Some("give every queue the same \"queue_type\" and \"auto_wlm\"")
            }
            Self::MemoryOver(_) => Some("lower \"memory_percent_to_use\" to 100 in all"),
            Self::TooManySlots(_) => Some("lower \"query_concurrency\""),
            Self::SlotTooSmall { .. } => {
                Some("lower \"query_concurrency\" or raise \"memory_percent_to_use\"")
            }
            Self::UnknownMetric { metric, .. } if metric.starts_with("max_") => {
                Some("metrics of a cluster have no prefix \"max_\"")
            }
            Self::UnknownAction { .. } => {
                Some("actions are log, hop, abort and change_query_priority")
            }
            Self::TooLong(_)
            | Self::NotJson(_)
            | Self::NotAnArray
            | Self::WrongType { .. }
            | Self::OutOfRange { .. }
            | Self::NoQueue
            | Self::TooManyQueues(_)
            | Self::ShortQueryQueueTwice(_)
            | Self::NotForShortQueryQueue { .. }
            | Self::QueueName { .. }
            | Self::MemoryIncomplete(_)
            | Self::RuleIncomplete { .. }
            | Self::RuleName { .. }
            | Self::RuleNameTwice(_)
            | Self::TooManyRules(_)
            | Self::PredicateCount { .. }
            | Self::UnknownMetric { .. }
            | Self::UnknownOperator { .. }
            | Self::MetricValue { .. }
            | Self::WrongMode { .. } => None,
        }
    }
}
