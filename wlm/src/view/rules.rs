//! Query monitoring rules: `stv_wlm_qmr_config` and `stl_wlm_rule_action`.

use std::fmt;
use std::sync::Arc;

use crate::config::Config;
use crate::ids::{QueryId, QueueId, ServiceClass, UserId};
use crate::priority::Priority;
use crate::rule::{RuleAction, Threshold};
use crate::time::Time;

/// A row of `stv_wlm_qmr_config`: one predicate of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct QmrConfigRow {
    /// The queue of the rule.
    pub service_class: ServiceClass,
    /// Its name.
    pub rule_name: Arc<str>,
    /// Its action.
    pub action: &'static str,
    /// The metric of the predicate.
    pub metric_name: &'static str,
    /// Its operator.
    pub metric_operator: &'static str,
    /// Its threshold. Priorities count from 1, the lowest, to 5.
    pub metric_value: f64,
    /// The priority that the action sets.
    pub action_value: Option<Priority>,
}

/// A row of `stl_wlm_rule_action`: what a rule did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleActionRow {
    /// Whose query it was.
    pub userid: UserId,
    /// Which.
    pub query: QueryId,
    /// Where it waited or ran.
    pub service_class: ServiceClass,
    /// The rule.
    pub rule: Arc<str>,
    /// What it did.
    pub action: RuleActionTaken,
    /// When.
    pub recordtime: Time,
    /// The priority that was set.
    pub action_value: Option<Priority>,
    /// The name of the service class.
    pub service_class_name: Arc<str>,
}

/// What a rule did to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleActionTaken {
    /// It only left this row.
    Log,
    /// The query went to another queue and goes on.
    HopReassign,
    /// The query is restarted in another queue.
    HopRestart,
    /// The query is cancelled.
    Abort,
    /// The query has another priority.
    ChangeQueryPriority,
    /// It fired, but could do nothing to this query.
    None,
}

impl fmt::Display for RuleActionTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "log",
            Self::HopReassign => "hop(reassign)",
            Self::HopRestart => "hop(restart)",
            Self::Abort => "abort",
            Self::ChangeQueryPriority => "change_query_priority",
            Self::None => "none",
        })
    }
}

/// The rows of `stv_wlm_qmr_config`.
pub fn qmr_config_rows(config: &Config) -> Vec<QmrConfigRow> {
    let mut rows = Vec::new();
    for (index, queue) in config.queues().iter().enumerate() {
        for rule in &queue.rules {
            let action_value = match rule.action {
                RuleAction::ChangePriority(priority) => Some(priority),
                RuleAction::Log | RuleAction::Hop | RuleAction::Abort => None,
            };
            rows.extend(rule.predicates.iter().map(|predicate| QmrConfigRow {
                service_class: config.service_class(QueueId(index)),
                rule_name: Arc::clone(&rule.name),
                action: rule.action.name(),
                metric_name: predicate.metric.name(),
                metric_operator: predicate.operator.symbol(),
                metric_value: match predicate.threshold {
                    Threshold::Number(number) => number,
                    Threshold::Priority(priority) => priority.rank() as f64 + 1.0,
                },
                action_value,
            }));
        }
    }
    rows
}
