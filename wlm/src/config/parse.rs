//! From JSON text to a valid [`Config`], or to the reason why not.
//!
//! Unknown keys are kept out and noticed, because newer consoles write keys that older engines do
//! not know. Everything else that is not as it should be is an error.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::parse_rule::parse_rules;
use super::{
    CONFIG_CHARACTERS_MAX, Config, Mode, QUEUE_NAME_CHARACTERS_MAX, QUEUES_MAX, QueueConfig,
    RULES_MAX, SHORT_QUERY_LIMIT_MS_MAX, SHORT_QUERY_LIMIT_MS_MIN, SLOTS_MAX, ShortQueryLimit,
};
use crate::classifier::Names;
use crate::error::{Element, Error, Result};
use crate::priority::Priority;

/// The longest execution time that can be configured, in milliseconds.
const EXECUTION_TIME_MS_MAX: i64 = i32::MAX as i64;

/// Keys of a user queue; what else an element holds is unknown.
const QUEUE_KEYS: &[&str] = &[
    "auto_wlm",
    "concurrency_scaling",
    "max_execution_time",
    "memory_percent_to_use",
    "name",
    "priority",
    "query_concurrency",
    "query_group",
    "query_group_wild_card",
    "queue_type",
    "rules",
    "user_group",
    "user_group_wild_card",
    "user_role",
    "user_role_wild_card",
];
const SHORT_QUERY_KEYS: &[&str] =
    &["auto_wlm", "max_execution_time", "queue_type", "short_query_queue"];

/// A configuration and what its writer should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The configuration.
    pub config: Config,
    /// What was accepted without effect.
    pub notices: Vec<Notice>,
}

/// Something in a configuration that is accepted and has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A key that means nothing here.
    UnknownKey(Element, String),
    /// A key of manual workload management in an automatic configuration.
    ManualOnly(Element, &'static str),
    /// A key of automatic workload management in a manual configuration.
    AutoOnly(Element, &'static str),
    /// Concurrency scaling is asked for.
    NoConcurrencyScaling(Element),
    /// A rule that would hop because of its time in the queue.
    NoHopWhileQueued(Arc<str>),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(element, key) => {
                write!(f, "{element}: key \"{key}\" is unknown and ignored")
            }
            Self::ManualOnly(element, key) => {
                write!(f, "{element}: \"{key}\" has no effect in automatic workload management")
            }
            Self::AutoOnly(element, key) => {
                write!(f, "{element}: \"{key}\" has no effect in manual workload management")
            }
            Self::NoConcurrencyScaling(element) => write!(
                f,
                "{element}: \"concurrency_scaling\" is accepted, but there are no further \
                 clusters: queries wait in their queue"
            ),
            Self::NoHopWhileQueued(rule) => {
                write!(f, "rule \"{rule}\": hop is ignored with the metric query_queue_time")
            }
        }
    }
}

/// Reads a configuration.
pub(super) fn parse(json: &str) -> Result<Parsed> {
    let characters = json.chars().count();
    if characters > CONFIG_CHARACTERS_MAX {
        return Err(Error::TooLong(characters));
    }
    let value: Value =
        serde_json::from_str(json).map_err(|error| Error::NotJson(error.to_string()))?;
    let elements = match value {
        Value::Array(elements) => elements,
        Value::Object(_) => vec![value],
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(Error::NotAnArray);
        }
    };
    let mut sections = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let map = element.as_object().ok_or(Error::NotAnArray)?;
        sections.push(Section { element: Element(index + 1), map });
    }
    Parser::default().run(&sections)
}

/// One element of the array.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub(super) element: Element,
    pub(super) map: &'a Map<String, Value>,
}

#[derive(Default)]
struct Parser {
    notices: Vec<Notice>,
}

impl Parser {
    fn run(mut self, sections: &[Section<'_>]) -> Result<Parsed> {
        let mode = mode(sections)?;
        let (short, queues): (Vec<Section<'_>>, Vec<Section<'_>>) =
            sections.iter().partition(|section| section.map.contains_key("short_query_queue"));
        let short_queries = self.short_queries(&short)?;
        if queues.is_empty() {
            return Err(Error::NoQueue);
        }
        if queues.len() > QUEUES_MAX {
            return Err(Error::TooManyQueues(queues.len()));
        }
        let mut parsed = Vec::new();
        for (index, section) in queues.iter().enumerate() {
            let name: Arc<str> = if index + 1 == queues.len() {
                Config::default_queue_name()
            } else {
                Arc::from(format!("Queue {}", index + 1))
            };
            parsed.push(self.queue(*section, mode, QueueConfig::with_defaults(name))?);
        }
        check_default_queue(&queues, &parsed)?;
        if mode == Mode::Manual {
            check_slots_and_memory(&queues, &parsed)?;
        }
        check_rules(&parsed)?;
        let config = Config { mode, queues: parsed, short_queries };
        Ok(Parsed { config, notices: self.notices })
    }

    fn short_queries(&mut self, sections: &[Section<'_>]) -> Result<Option<ShortQueryLimit>> {
        if let Some(second) = sections.get(1) {
            return Err(Error::ShortQueryQueueTwice(second.element));
        }
        let Some(section) = sections.first() else { return Ok(None) };
        for key in section.map.keys() {
            if SHORT_QUERY_KEYS.contains(&key.as_str()) {
                continue;
            }
            if QUEUE_KEYS.contains(&key.as_str()) {
                let (element, key) = (section.element, key.clone());
                return Err(Error::NotForShortQueryQueue { element, key });
            }
            self.notices.push(Notice::UnknownKey(section.element, key.clone()));
        }
        let (min, max) = (SHORT_QUERY_LIMIT_MS_MIN, SHORT_QUERY_LIMIT_MS_MAX);
        let limit = match section.unsigned("max_execution_time", 0, i64::MAX)? {
            None | Some(0) => ShortQueryLimit::Dynamic,
            Some(value) if (min..=max).contains(&value) => {
                ShortQueryLimit::Fixed(Duration::from_millis(value))
            }
            Some(value) => {
                let (min, max) = (min.cast_signed(), max.cast_signed());
                return Err(section.out_of_range("max_execution_time", value, min, max));
            }
        };
        Ok(section.flag("short_query_queue")?.unwrap_or(false).then_some(limit))
    }

    fn queue(
        &mut self,
        section: Section<'_>,
        mode: Mode,
        defaults: QueueConfig,
    ) -> Result<QueueConfig> {
        for key in section.map.keys().filter(|key| !QUEUE_KEYS.contains(&key.as_str())) {
            self.notices.push(Notice::UnknownKey(section.element, key.clone()));
        }
        let mut queue = defaults;
        if let Some(name) = section.text("name")? {
            queue.name = queue_name(section.element, name)?;
        }
        queue.user_groups = section.names("user_group", "user_group_wild_card")?;
        queue.user_roles = section.names("user_role", "user_role_wild_card")?;
        queue.query_groups = section.names("query_group", "query_group_wild_card")?;
        if let Some(text) = section.text("concurrency_scaling")? {
            queue.concurrency_scaling = match text {
                "auto" => true,
                "off" => false,
                _ => return Err(section.wrong_type("concurrency_scaling", "\"auto\" or \"off\"")),
            };
            if queue.concurrency_scaling {
                self.notices.push(Notice::NoConcurrencyScaling(section.element));
            }
        }
        self.queue_limits(section, mode, &mut queue)?;
        if let Some(rules) = section.map.get("rules") {
            queue.rules = parse_rules(section, mode, rules, &mut self.notices)?;
        }
        Ok(queue)
    }

    /// The keys that have a meaning in one mode only. They are checked in both.
    fn queue_limits(
        &mut self,
        section: Section<'_>,
        mode: Mode,
        queue: &mut QueueConfig,
    ) -> Result<()> {
        let slots = section.unsigned("query_concurrency", 1, i64::from(SLOTS_MAX))?;
        let percent = section.unsigned("memory_percent_to_use", 1, 100)?;
        let limit = section.unsigned("max_execution_time", 0, EXECUTION_TIME_MS_MAX)?;
        let priority = match section.text("priority")? {
            None => None,
            Some(name) => Some(Priority::parse(name).ok_or_else(|| {
                section.wrong_type("priority", "highest, high, normal, low or lowest")
            })?),
        };
        match mode {
            Mode::Manual => {
                let narrow = |value: u64| u32::try_from(value).expect("checked to be at most 100");
                queue.concurrency = slots.map_or(queue.concurrency, narrow);
                queue.memory_percent = percent.map(narrow);
                queue.max_execution_time = limit.filter(|ms| *ms > 0).map(Duration::from_millis);
                if priority.is_some() {
                    self.notices.push(Notice::AutoOnly(section.element, "priority"));
                }
            }
            Mode::Auto => {
                queue.priority = priority.unwrap_or(Priority::Normal);
                let manual = [
                    ("query_concurrency", slots),
                    ("memory_percent_to_use", percent),
                    ("max_execution_time", limit.filter(|ms| *ms > 0)),
                ];
                for (key, _) in manual.into_iter().filter(|(_, value)| value.is_some()) {
                    self.notices.push(Notice::ManualOnly(section.element, key));
                }
            }
        }
        Ok(())
    }
}

/// Automatic if any element says so; elements that say nothing follow the others.
fn mode(sections: &[Section<'_>]) -> Result<Mode> {
    let mut stated = None;
    for section in sections {
        let by_flag =
            section.flag("auto_wlm")?.map(|on| if on { Mode::Auto } else { Mode::Manual });
        let by_type = match section.text("queue_type")? {
            None => None,
            Some("auto") => Some(Mode::Auto),
            Some("manual") => Some(Mode::Manual),
            Some(_) => return Err(section.wrong_type("queue_type", "\"auto\" or \"manual\"")),
        };
        for mode in [by_flag, by_type].into_iter().flatten() {
            if *stated.get_or_insert(mode) != mode {
                return Err(Error::MixedModes(section.element));
            }
        }
    }
    Ok(stated.unwrap_or(Mode::Manual))
}

fn check_default_queue(sections: &[Section<'_>], queues: &[QueueConfig]) -> Result<()> {
    let (Some(section), Some(queue)) = (sections.last(), queues.last()) else {
        return Err(Error::NoQueue);
    };
    let lists = [
        ("user groups", &queue.user_groups),
        ("user roles", &queue.user_roles),
        ("query groups", &queue.query_groups),
    ];
    match lists.into_iter().find(|(_, names)| !names.is_empty()) {
        Some((key, _)) => Err(Error::DefaultQueueHasGroups { element: section.element, key }),
        None => Ok(()),
    }
}

fn check_slots_and_memory(sections: &[Section<'_>], queues: &[QueueConfig]) -> Result<()> {
    let slots: u32 = queues.iter().map(|queue| queue.concurrency).sum();
    if slots > SLOTS_MAX {
        return Err(Error::TooManySlots(slots));
    }
    let with_share = queues.iter().filter(|queue| queue.memory_percent.is_some()).count();
    let without = queues.iter().position(|queue| queue.memory_percent.is_none());
    if let (1.., Some(index)) = (with_share, without) {
        return Err(Error::MemoryIncomplete(sections[index].element));
    }
    let percent: i64 = queues.iter().filter_map(|queue| queue.memory_percent).map(i64::from).sum();
    if percent > 100 {
        return Err(Error::MemoryOver(percent));
    }
    Ok(())
}

fn check_rules(queues: &[QueueConfig]) -> Result<()> {
    let mut names: Vec<&str> =
        queues.iter().flat_map(|queue| &queue.rules).map(|rule| &*rule.name).collect();
    if names.len() > RULES_MAX {
        return Err(Error::TooManyRules(names.len()));
    }
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::RuleNameTwice(pair[0].to_owned())),
        None => Ok(()),
    }
}

fn queue_name(element: Element, name: &str) -> Result<Arc<str>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ' ';
    let length = 1..=QUEUE_NAME_CHARACTERS_MAX;
    if length.contains(&name.chars().count()) && name.chars().all(allowed) {
        Ok(Arc::from(name))
    } else {
        Err(Error::QueueName { element, name: name.to_owned() })
    }
}

impl<'a> Section<'a> {
    pub(super) fn wrong_type(self, key: &str, expected: &'static str) -> Error {
        Error::WrongType { element: self.element, key: key.to_owned(), expected }
    }

    fn out_of_range(self, key: &str, value: u64, min: i64, max: i64) -> Error {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        Error::OutOfRange { element: self.element, key: key.to_owned(), value, min, max }
    }

    fn text(self, key: &str) -> Result<Option<&'a str>> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong_type(key, "a string")),
        }
    }

    /// A whole number, not negative, also as a string of digits.
    fn unsigned(self, key: &str, min: i64, max: i64) -> Result<Option<u64>> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let value = number.ok_or_else(|| self.wrong_type(key, "a whole number"))?;
        if !(min..=max).contains(&value) {
            let (element, key) = (self.element, key.to_owned());
            return Err(Error::OutOfRange { element, key, value, min, max });
        }
        Ok(u64::try_from(value).ok())
    }

    /// 0 or 1, or JSON's booleans.
    fn flag(self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        match (value.as_bool(), value.as_i64(), value.as_str()) {
            (Some(flag), _, _) => Ok(Some(flag)),
            (_, Some(0), _) | (_, _, Some("0" | "false")) => Ok(Some(false)),
            (_, Some(1), _) | (_, _, Some("1" | "true")) => Ok(Some(true)),
            (None, _, _) => Err(self.wrong_type(key, "true or false (or 1 or 0)")),
        }
    }

    /// A list of names, or one name.
    fn names(self, key: &str, wild_card_key: &str) -> Result<Names> {
        let wrong = || self.wrong_type(key, "a name or an array of names, none of them empty");
        let list: Vec<&str> = match self.map.get(key) {
            None => Vec::new(),
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => {
                names.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(wrong)?
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
                return Err(wrong());
            }
        };
        if list.iter().any(|name| name.is_empty()) {
            return Err(wrong());
        }
        Ok(Names::new(&list, self.flag(wild_card_key)?.unwrap_or(false)))
    }
}
