//! The `rules` of a queue: from JSON to [`Rule`]s that fit the mode of the configuration.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::parse::{Notice, Section};
use super::{Mode, PREDICATES_MAX, RULE_NAME_CHARACTERS_MAX};
use crate::error::{Error, Result};
use crate::priority::Priority;
use crate::rule::{Metric, Operator, Predicate, Rule, RuleAction, Threshold};

const RULE_KEYS: &[&str] = &["action", "predicate", "rule_name", "value"];

/// Reads the rules of one queue.
pub(super) fn parse_rules(
    section: Section<'_>,
    mode: Mode,
    rules: &Value,
    notices: &mut Vec<Notice>,
) -> Result<Vec<Rule>> {
    let wrong = || section.wrong_type("rules", "an array of objects");
    let mut parsed = Vec::new();
    for rule in rules.as_array().ok_or_else(wrong)? {
        let map = rule.as_object().ok_or_else(wrong)?;
        for key in map.keys().filter(|key| !RULE_KEYS.contains(&key.as_str())) {
            notices.push(Notice::UnknownKey(section.element, key.clone()));
        }
        let rule = parse_rule(section, mode, map)?;
        let queued = |predicate: &Predicate| predicate.metric == Metric::QueryQueueTime;
        if rule.action == RuleAction::Hop && rule.predicates.iter().any(queued) {
            notices.push(Notice::NoHopWhileQueued(Arc::clone(&rule.name)));
        }
        parsed.push(rule);
    }
    Ok(parsed)
}

fn parse_rule(section: Section<'_>, mode: Mode, map: &Map<String, Value>) -> Result<Rule> {
    let name = rule_name(section, text(section, map, "rule_name")?)?;
    let predicates = match map.get("predicate") {
        Some(Value::Array(predicates)) => predicates.as_slice(),
        Some(one @ Value::Object(_)) => std::slice::from_ref(one),
        None | Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
            return Err(Error::RuleIncomplete { element: section.element, key: "predicate" });
        }
    };
    if !(1..=PREDICATES_MAX).contains(&predicates.len()) {
        return Err(Error::PredicateCount { rule: name.to_string(), count: predicates.len() });
    }
    let predicates = predicates
        .iter()
        .map(|predicate| parse_predicate(section, mode, &name, predicate))
        .collect::<Result<_>>()?;
    let action = parse_action(section, mode, &name, map)?;
    Ok(Rule { name, predicates, action })
}

fn text<'a>(
    section: Section<'_>,
    map: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a str> {
    let missing = Error::RuleIncomplete { element: section.element, key };
    map.get(key).and_then(Value::as_str).ok_or(missing)
}

fn rule_name(section: Section<'_>, name: &str) -> Result<Arc<str>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let length = 1..=RULE_NAME_CHARACTERS_MAX;
    if length.contains(&name.chars().count()) && name.chars().all(allowed) {
        Ok(Arc::from(name))
    } else {
        Err(Error::RuleName { element: section.element, name: name.to_owned() })
    }
}

fn parse_predicate(
    section: Section<'_>,
    mode: Mode,
    rule: &str,
    predicate: &Value,
) -> Result<Predicate> {
    let missing = |key| Error::RuleIncomplete { element: section.element, key };
    let map = predicate.as_object().ok_or_else(|| missing("predicate"))?;
    let name = text(section, map, "metric_name")?;
    let unknown = || Error::UnknownMetric { rule: rule.to_owned(), metric: name.to_owned() };
    let metric = Metric::parse(name).ok_or_else(unknown)?;
    if metric == Metric::QueryPriority && mode == Mode::Manual {
        let (what, needs) = ("metric query_priority", "automatic");
        return Err(Error::WrongMode { rule: rule.to_owned(), what, needs });
    }
    let operator = match text(section, map, "operator")? {
        "=" => Operator::Equal,
        "<" => Operator::Less,
        ">" => Operator::Greater,
        other => {
            let (rule, operator) = (rule.to_owned(), other.to_owned());
            return Err(Error::UnknownOperator { rule, operator });
        }
    };
    let value = map.get("value").ok_or_else(|| missing("value"))?;
    let threshold = parse_threshold(metric, value).ok_or_else(|| Error::MetricValue {
        rule: rule.to_owned(),
        metric: metric.name(),
        expected: metric.expected_value(),
    })?;
    Ok(Predicate { metric, operator, threshold })
}

fn parse_threshold(metric: Metric, value: &Value) -> Option<Threshold> {
    let Some(max) = metric.max() else {
        return Some(Threshold::Priority(Priority::parse(value.as_str()?)?));
    };
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let whole = metric.is_ratio() || number.fract() == 0.0;
    (whole && (0.0..=max).contains(&number)).then_some(Threshold::Number(number))
}

fn parse_action(
    section: Section<'_>,
    mode: Mode,
    rule: &str,
    map: &Map<String, Value>,
) -> Result<RuleAction> {
    let wrong_mode = |what, needs| Error::WrongMode { rule: rule.to_owned(), what, needs };
    match (text(section, map, "action")?, mode) {
        ("log", _) => Ok(RuleAction::Log),
        ("abort", _) => Ok(RuleAction::Abort),
        ("hop", Mode::Manual) => Ok(RuleAction::Hop),
        ("hop", Mode::Auto) => Err(wrong_mode("action hop", "manual")),
        ("change_query_priority", Mode::Manual) => {
            Err(wrong_mode("action change_query_priority", "automatic"))
        }
        ("change_query_priority", Mode::Auto) => {
            let name = text(section, map, "value")?;
            let priority = Priority::parse(name).ok_or_else(|| Error::MetricValue {
                rule: rule.to_owned(),
                metric: "change_query_priority",
                expected: Metric::QueryPriority.expected_value(),
            })?;
            Ok(RuleAction::ChangePriority(priority))
        }
        (other, _) => Err(Error::UnknownAction { rule: rule.to_owned(), action: other.to_owned() }),
    }
}
