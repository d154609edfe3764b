//! A configuration in words, for `blueshift wlm check FILE`.

use std::fmt::Write;
use std::time::Duration;

use super::{Mode, Parsed, QueueConfig, ShortQueryLimit};
use crate::classifier::Names;
use crate::ids::{QueueId, ServiceClass};
use crate::rule::{Predicate, Rule, RuleAction, Threshold};

/// What the configuration means, one line per fact, with the notices at the end.
pub fn explain(parsed: &Parsed) -> String {
    let mut text = String::new();
    for line in lines(parsed) {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn lines(parsed: &Parsed) -> Vec<String> {
    let config = &parsed.config;
    let mut lines = vec![summary(parsed)];
    lines.push(match config.short_queries() {
        None => "short query acceleration is off".to_owned(),
        Some(limit) => format!(
            "short query acceleration is on: a SELECT or CREATE TABLE AS that would have to wait \
             and is predicted to be short runs in the short query queue (service class {}) for {}",
            ServiceClass::SHORT_QUERY,
            match limit {
                ShortQueryLimit::Dynamic => "a time chosen from the history of queries".to_owned(),
                ShortQueryLimit::Fixed(limit) => format!("at most {}", span(limit)),
            }
        ),
    });
    lines.push(format!(
        "superuser queue (service class {}): 1 slot, for superusers after SET query_group TO \
         'superuser'",
        ServiceClass::SUPERUSER
    ));
    for index in 0..config.queues().len() {
        queue_lines(parsed, QueueId(index), &mut lines);
    }
    lines.extend(parsed.notices.iter().map(|notice| format!("notice: {notice}")));
    lines
}

fn summary(parsed: &Parsed) -> String {
    let queues = parsed.config.queues();
    let count = plural(queues.len(), "user queue");
    match parsed.config.mode() {
        Mode::Manual => {
            let slots: u32 = queues.iter().map(|queue| queue.concurrency).sum();
            let percents: Option<u32> = queues.iter().map(|queue| queue.memory_percent).sum();
            let rest = match percents {
                Some(percent) if percent < 100 => {
                    format!("; {} % of memory is lent to queries that need more", 100 - percent)
                }
                Some(_) | None => String::new(),
            };
            format!("manual workload management: {count}, {}{rest}", plural(slots as usize, "slot"))
        }
        Mode::Auto => format!(
            "automatic workload management: {count}; concurrency and memory follow predictions"
        ),
    }
}

fn queue_lines(parsed: &Parsed, id: QueueId, lines: &mut Vec<String>) {
    let config = &parsed.config;
    let queue = config.queue(id);
    let class = config.service_class(id);
    let mut line = format!("{}. {} (service class {class}): ", id.0 + 1, queue.name);
    match config.mode() {
        Mode::Manual => line.push_str(&slots(queue, config.queues().len())),
        Mode::Auto => {
            let _ = write!(line, "priority {}", queue.priority.name().to_ascii_lowercase());
        }
    }
    lines.push(line);
    lines.push(format!("   takes {}", takes(queue, id == config.default_queue())));
    if let Some(limit) = queue.max_execution_time {
        lines.push(format!(
            "   after {} of running, a SELECT or CREATE TABLE AS goes to the next queue that takes \
             it or is cancelled; INSERT, UPDATE, DELETE, UNLOAD and queries with user-defined \
             functions are cancelled; COPY, VACUUM and ANALYZE go on",
            span(limit)
        ));
    }
    lines.extend(queue.rules.iter().map(|rule| format!("   {}", rule_text(rule))));
}

fn slots(queue: &QueueConfig, queues: usize) -> String {
    let slots = plural(queue.concurrency as usize, "slot");
    let (share, each) = match queue.memory_percent {
        Some(percent) => {
            let each = f64::from(percent) / f64::from(queue.concurrency);
            (format!("{percent} %"), format!("{each:.2} %"))
        }
        None => {
            let parts = queues * queue.concurrency as usize;
            (format!("1/{queues}"), format!("1/{parts}"))
        }
    };
    format!("{slots} with {each} of the memory of queries each ({share} in all)")
}

fn takes(queue: &QueueConfig, is_default: bool) -> String {
    if is_default {
        return "every query that no other queue takes".to_owned();
    }
    let lists = [
        ("users in group", &queue.user_groups),
        ("users with role", &queue.user_roles),
        ("queries with query_group", &queue.query_groups),
    ];
    let parts: Vec<String> = lists
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", list(names)))
        .collect();
    if parts.is_empty() {
        return "no query: it has no groups and is not the last queue".to_owned();
    }
    parts.join(", or ")
}

fn list(names: &Names) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    let wild = if names.has_wild_cards() { " (* and ? as wildcards, in any case)" } else { "" };
    format!("{}{wild}", quoted.join(" or "))
}

fn rule_text(rule: &Rule) -> String {
    let conditions: Vec<String> = rule.predicates.iter().map(predicate_text).collect();
    let action = match rule.action {
        RuleAction::Log => "log it".to_owned(),
        RuleAction::Hop => "move the query to the next queue that takes it".to_owned(),
        RuleAction::Abort => "abort the query".to_owned(),
        RuleAction::ChangePriority(priority) => {
            format!("give the query priority {}", priority.name().to_ascii_lowercase())
        }
    };
    format!("rule {}: when {}, {action}", rule.name, conditions.join(" and "))
}

fn predicate_text(predicate: &Predicate) -> String {
    let unit = predicate.metric.unit();
    let value = match predicate.threshold {
        Threshold::Number(number) => format!("{number}"),
        Threshold::Priority(priority) => priority.name().to_ascii_lowercase(),
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{} {} {value}{space}{unit}", predicate.metric.name(), predicate.operator.symbol())
}

fn span(span: Duration) -> String {
    if span.subsec_millis() == 0 {
        format!("{} s", span.as_secs())
    } else {
        format!("{} ms", span.as_millis())
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
