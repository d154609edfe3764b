//! `stv_wlm_classification_config`: the assignment rules as text.

use crate::classifier::SUPERUSER_QUERY_GROUP;
use crate::config::Config;
use crate::ids::{QueueId, ServiceClass};

/// A row of `stv_wlm_classification_config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassificationRow {
    /// Its place in the order of the rules.
    pub id: u32,
    /// Which queries it is about.
    pub condition: String,
    /// Always 0: a rule has one action.
    pub action_seq: u32,
    /// Always `assign`.
    pub action: &'static str,
    /// Where they go.
    pub action_service_class: ServiceClass,
}

/// The assignment rules of a configuration, in the order in which they are tried.
pub fn classification_rows(config: &Config) -> Vec<ClassificationRow> {
    let superuser = format!("(super user) and (query group: {SUPERUSER_QUERY_GROUP})");
    let mut rules = vec![(superuser, ServiceClass::SUPERUSER)];
    for (index, queue) in config.queues().iter().enumerate() {
        let class = config.service_class(QueueId(index));
        let lists = [
            ("query group", &queue.query_groups),
            ("user group", &queue.user_groups),
            ("user role", &queue.user_roles),
        ];
        for (kind, names) in lists {
            rules.extend(names.iter().map(|name| (format!("({kind}: {name})"), class)));
        }
    }
    let default_class = config.service_class(config.default_queue());
    rules.push(("(querytype: any)".to_owned(), default_class));
    let row = |(id, (condition, action_service_class))| ClassificationRow {
        id,
        condition,
        action_seq: 0,
        action: "assign",
        action_service_class,
    };
    (1..).zip(rules).map(row).collect()
}
