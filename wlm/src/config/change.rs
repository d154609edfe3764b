//! What a new configuration changes, and what of it can be had without a restart.
//!
//! Redshift calls a property dynamic if it acts at once and static if it needs a restart. Dynamic
//! are: in manual mode concurrency, memory, execution time limits and concurrency scaling; in
//! automatic mode everything; in both short query acceleration and names. The rest is static, the
//! mode itself among it. A change of both kinds waits for the restart as a whole. Rules never
//! need one: they act at once whenever the queues they belong to are still the same ones.

use std::fmt;

use super::{Config, Mode};
use crate::ids::QueueId;

/// One changed property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Property {
    /// Whose; `None`: the configuration's.
    pub queue: Option<QueueId>,
    /// Its key in the JSON.
    pub key: &'static str,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.queue {
            Some(queue) => write!(f, "{} of queue {}", self.key, queue.0 + 1),
            None => f.write_str(self.key),
        }
    }
}

/// The difference between the configuration in force and a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What acts at once.
    pub at_once: Vec<Property>,
    /// What waits for a restart.
    pub after_restart: Vec<Property>,
}

impl Change {
    /// Compares the configuration in force with a new one.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut dynamic = Vec::new();
        let mut fixed = Vec::new();
        let whole = |key| Property { queue: None, key };
        if old.mode != new.mode {
            fixed.push(whole("auto_wlm"));
        }
        if old.short_queries != new.short_queries {
            dynamic.push(whole("short_query_queue"));
        }
        let same_queues = old.mode == new.mode && old.queues.len() == new.queues.len();
        if old.queues.len() != new.queues.len() {
            let list = if new.mode == Mode::Auto { &mut dynamic } else { &mut fixed };
            list.push(whole("number of queues"));
        }
        let mut rules = Vec::new();
        for index in 0..old.queues.len().min(new.queues.len()) {
            compare_queues(old, new, QueueId(index), &mut dynamic, &mut fixed);
            if old.queues[index].rules != new.queues[index].rules {
                rules.push(Property { queue: Some(QueueId(index)), key: "rules" });
            }
        }
        if fixed.is_empty() {
            dynamic.append(&mut rules);
            return Self { at_once: dynamic, after_restart: fixed };
        }
        fixed.append(&mut dynamic);
        if same_queues {
            return Self { at_once: rules, after_restart: fixed };
        }
        fixed.append(&mut rules);
        Self { at_once: rules, after_restart: fixed }
    }
}

fn compare_queues(
    old: &Config,
    new: &Config,
    id: QueueId,
    dynamic: &mut Vec<Property>,
    fixed: &mut Vec<Property>,
) {
    let (before, after) = (old.queue(id), new.queue(id));
    let properties = [
        ("query_concurrency", before.concurrency == after.concurrency, true),
        ("memory_percent_to_use", before.memory_percent == after.memory_percent, true),
        ("max_execution_time", before.max_execution_time == after.max_execution_time, true),
        ("concurrency_scaling", before.concurrency_scaling == after.concurrency_scaling, true),
        ("name", before.name == after.name, true),
        ("priority", before.priority == after.priority, true),
        ("user_group", before.user_groups == after.user_groups, false),
        ("user_role", before.user_roles == after.user_roles, false),
        ("query_group", before.query_groups == after.query_groups, false),
    ];
    for (key, same, at_once) in properties {
        if !same {
            let at_once = at_once || new.mode == Mode::Auto;
            let list = if at_once { &mut *dynamic } else { &mut *fixed };
            list.push(Property { queue: Some(id), key });
        }
    }
}
