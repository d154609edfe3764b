//! Random configurations, as JSON, and random changes of them.

use serde_json::{Map, Value, json};
use wlm::{Config, Mode};

use crate::random::Random;

pub(crate) const GROUPS: &[&str] = &["etl", "etl_night", "bi", "Analysts"];
pub(crate) const ROLES: &[&str] = &["sys:dba", "loader"];
pub(crate) const QUERY_GROUPS: &[&str] = &["report", "Report_daily", "dash", "superuser"];

const GROUP_PATTERNS: &[&str] = &["etl*", "?i", "ANALYSTS", "*"];
const QUERY_GROUP_PATTERNS: &[&str] = &["report*", "REPORT", "da?h", "*_daily"];

/// A valid configuration, kept as JSON so that it can be changed.
#[derive(Clone)]
pub(crate) struct RandomConfig {
    elements: Vec<Map<String, Value>>,
    is_auto: bool,
}

impl RandomConfig {
    pub(crate) fn new(random: &mut Random) -> Self {
        let is_auto = random.percent(35);
        let count = usize::try_from(random.within(1, 8)).unwrap();
        let elements = (0..count).map(|index| queue(random, is_auto, index, count));
        let mut config = Self { elements: elements.collect(), is_auto };
        config.share_slots_and_memory(random);
        if random.percent(60) {
            config.elements.push(short_query_queue(random));
        }
        config
    }

    pub(crate) fn parse(&self) -> Config {
        let json = Value::from(self.elements.clone()).to_string();
        let parsed = Config::parse(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        let expected = if self.is_auto { Mode::Auto } else { Mode::Manual };
        assert_eq!(parsed.config.mode(), expected);
        parsed.config
    }

    /// Changes what can be changed at once: slots, memory, limits, rules, acceleration.
    pub(crate) fn change_dynamic(&mut self, random: &mut Random) {
        if random.percent(30) {
            self.elements.retain(|element| !element.contains_key("short_query_queue"));
            if random.percent(50) {
                self.elements.push(short_query_queue(random));
            }
        }
        if random.percent(60) {
            self.share_slots_and_memory(random);
        }
        for (index, element) in self.elements.iter_mut().enumerate() {
            if element.contains_key("short_query_queue") || random.percent(60) {
                continue;
            }
            element.insert("rules".to_owned(), random_rules(random, self.is_auto, index));
            if self.is_auto {
                element.insert("priority".to_owned(), priority(random));
            } else {
                element.insert("max_execution_time".to_owned(), limit(random));
            }
        }
    }

    /// Slots within 50, and either no shares of memory or shares within 100 %.
    fn share_slots_and_memory(&mut self, random: &mut Random) {
        if self.is_auto {
            return;
        }
        let queues = self.elements.iter_mut();
        let mut queues: Vec<_> =
            queues.filter(|element| !element.contains_key("short_query_queue")).collect();
        let count = queues.len() as u64;
        let with_percent = random.percent(60);
        let percent_max = 100 / count;
        for queue in &mut queues {
            let slots = random.within(1, 50 / count);
            queue.insert("query_concurrency".to_owned(), json!(slots));
            queue.remove("memory_percent_to_use");
            if with_percent {
                let percent = random.within((percent_max / 2).max(1), percent_max);
                queue.insert("memory_percent_to_use".to_owned(), json!(percent));
            }
        }
    }
}

fn queue(random: &mut Random, is_auto: bool, index: usize, count: usize) -> Map<String, Value> {
    let mut queue = Map::new();
    let mut set = |key: &str, value: Value| queue.insert(key.to_owned(), value);
    if is_auto {
        set("auto_wlm", json!(true));
        set("priority", priority(random));
    } else {
        set("max_execution_time", limit(random));
    }
    if index + 1 < count {
        for (key, names, patterns) in [
            ("user_group", GROUPS, GROUP_PATTERNS),
            ("query_group", QUERY_GROUPS, QUERY_GROUP_PATTERNS),
            ("user_role", ROLES, ROLES),
        ] {
            if random.percent(60) {
                let wild = random.percent(40);
                let list = if wild { patterns } else { names };
                set(key, json!([random.pick(list), random.pick(list)]));
                set(&format!("{key}_wild_card"), json!(u8::from(wild)));
            }
        }
    }
    set("rules", random_rules(random, is_auto, index));
    queue
}

fn priority(random: &mut Random) -> Value {
    json!(random.pick(&["highest", "high", "normal", "low", "lowest"]))
}

fn limit(random: &mut Random) -> Value {
    let limit = if random.percent(50) { 0 } else { random.spread(500, 60_000) };
    json!(limit)
}

fn short_query_queue(random: &mut Random) -> Map<String, Value> {
    let limit = if random.percent(50) { 0 } else { random.within(1_000, 20_000) };
    let element = json!({"short_query_queue": true, "max_execution_time": limit});
    element.as_object().unwrap().clone()
}

/// Up to two rules.
fn random_rules(random: &mut Random, is_auto: bool, queue: usize) -> Value {
    let mut rules = Vec::new();
    while rules.len() < 2 && random.percent(45) {
        let mut predicates = vec![predicate(random)];
        if random.percent(30) {
            predicates.push(predicate(random));
        }
        let name = format!("r{queue}_{}", rules.len());
        let mut rule = json!({"rule_name": name, "predicate": predicates});
        let other = if is_auto { "change_query_priority" } else { "hop" };
        let action = *random.pick(&["log", "abort", other, other]);
        rule["action"] = json!(action);
        if is_auto {
            rule["value"] = priority(random);
        }
        rules.push(rule);
    }
    Value::from(rules)
}

fn predicate(random: &mut Random) -> Value {
    let (metric, max) = *random.pick(&[
        ("query_execution_time", 60),
        ("query_queue_time", 60),
        ("query_cpu_time", 100),
        ("query_cpu_usage_percent", 200),
        ("query_blocks_read", 1_000),
        ("query_temp_blocks_to_disk", 1_000),
        ("scan_row_count", 1_000_000),
        ("join_row_count", 1_000_000),
        ("nested_loop_join_row_count", 100),
        ("return_row_count", 1_000),
        ("segment_execution_time", 30),
        ("cpu_skew", 4),
        ("io_skew", 4),
    ]);
    let operator = if random.percent(85) { ">" } else { "<" };
    json!({"metric_name": metric, "operator": operator, "value": random.within(0, max)})
}
