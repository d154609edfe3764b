//! Configurations: the documented examples, every reason for refusal, changes, and explanations.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::{Element, Error};
use crate::rule::{Metric, Operator, Predicate, RuleAction, Threshold};

/// The example of three manual queues with short query acceleration.
const EXAMPLE: &str = r#"[
  {"query_group":["report"],"query_group_wild_card":1,"user_group":[],"user_group_wild_card":0,
   "query_concurrency":4,"max_execution_time":20000,"memory_percent_to_use":25,
   "concurrency_scaling":"auto","queue_type":"manual",
   "rules":[{"rule_name":"r1","predicate":[{"metric_name":"query_execution_time","operator":">",
   "value":50}],"action":"abort"}]},
  {"user_group":["admin","dba"],"query_group":[],"query_concurrency":5,
   "memory_percent_to_use":40,"concurrency_scaling":"off","queue_type":"manual"},
  {"query_concurrency":5,"memory_percent_to_use":35,"concurrency_scaling":"auto",
   "queue_type":"manual"},
  {"short_query_queue":true} ]"#;

fn parse(json: &str) -> Config {
    parsed(json).config
}

fn parsed(json: &str) -> Parsed {
    Config::parse(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

#[test]
fn the_documented_example() {
    let Parsed { config, notices } = parsed(EXAMPLE);
    assert_eq!(config.mode(), Mode::Manual);
    assert_eq!(config.short_queries(), Some(ShortQueryLimit::Dynamic));
    let [report, admin, default] = config.queues() else { panic!("three queues") };
    assert_eq!((report.concurrency, report.memory_percent), (4, Some(25)));
    assert_eq!(report.max_execution_time, Some(Duration::from_secs(20)));
    assert!(report.query_groups.contains("REPORT") && report.concurrency_scaling);
    let predicate = Predicate {
        metric: Metric::QueryExecutionTime,
        operator: Operator::Greater,
        threshold: Threshold::Number(50.0),
    };
    assert_eq!(report.rules[0].predicates, [predicate]);
    assert_eq!(report.rules[0].action, RuleAction::Abort);
    assert!(admin.user_groups.contains("dba") && !admin.user_groups.contains("DBA"));
    assert_eq!((&*report.name, &*default.name), ("Queue 1", "Default queue"));
    assert_eq!(
        notices,
        [Notice::NoConcurrencyScaling(Element(1)), Notice::NoConcurrencyScaling(Element(3))]
    );
    let classes: Vec<u16> = (0..3).map(|index| config.service_class(QueueId(index)).0).collect();
    assert_eq!(classes, [6, 7, 8]);
}

#[test]
fn defaults_are_the_documented_ones() {
    let classic = parse(r#"[{"query_concurrency":5}]"#);
    assert_eq!(classic, Config::classic());
    assert_eq!(parse(r#"{"query_concurrency":5}"#), classic, "one object stands for itself");
    assert_eq!(parse("[{}]"), classic);
    let automatic = parse(r#"[{"auto_wlm":true},{"short_query_queue":true}]"#);
    assert_eq!(automatic, Config::automatic());
    assert_eq!(automatic.service_class(QueueId(0)), ServiceClass::FIRST_AUTO);
    assert_eq!(parse(r#"[{"auto_wlm":true}]"#).short_queries(), None);
}

#[test]
fn memory_is_shared_as_documented() {
    const GB: u64 = 1 << 30;
    let half = parse(
        r#"[{"query_concurrency":4,"memory_percent_to_use":50,"user_group":["a"]},
                         {"memory_percent_to_use":50}]"#,
    );
    assert_eq!(half.slot_bytes(QueueId(0), 200 * GB), 25 * GB);
    let equal = parse(r#"[{"user_group":"a"},{"user_group":"b"},{}]"#);
    assert_eq!(equal.queue_bytes(QueueId(2), 300 * GB), 100 * GB);
    assert_eq!(equal.slot_bytes(QueueId(2), 300 * GB), 20 * GB);
}

#[test]
fn keys_take_the_forms_that_are_found_in_the_field() {
    let config = parse(
        r#"[{"user_group":"g1","user_group_wild_card":true,"query_concurrency":"7",
             "name":"Load_1","priority":"HIGHEST","new_key":1}, {},
            {"short_query_queue":true,"max_execution_time":5000}]"#,
    );
    assert_eq!((config.queues()[0].concurrency, &*config.queues()[0].name), (7, "Load_1"));
    assert!(config.queues()[0].user_groups.contains("G1"));
    let limit = ShortQueryLimit::Fixed(Duration::from_secs(5));
    assert_eq!(config.short_queries(), Some(limit));
    let off = parse(r#"[{}, {"short_query_queue":false}]"#);
    assert_eq!(off.short_queries(), None);
    let auto = parse(
        r#"[{"user_group":["a"],"queue_type":"auto","priority":"low"},
            {"auto_wlm":true,"priority":"high"}]"#,
    );
    assert_eq!(auto.mode(), Mode::Auto);
    assert_eq!(
        (auto.queues()[0].priority, auto.queues()[1].priority),
        (Priority::Low, Priority::High)
    );
}

#[test]
fn what_has_no_effect_is_noticed() {
    let notices =
        |json| -> Vec<String> { parsed(json).notices.iter().map(ToString::to_string).collect() };
    assert_eq!(
        notices(r#"[{"auto_wlm":true,"query_concurrency":5,"max_execution_time":0}]"#),
        ["element 1: \"query_concurrency\" has no effect in automatic workload management"]
    );
    assert_eq!(
        notices(r#"[{"priority":"low","colour":"red"}]"#),
        [
            "element 1: key \"colour\" is unknown and ignored",
            "element 1: \"priority\" has no effect in manual workload management"
        ]
    );
    let hop = with_rule(r#""query_queue_time","operator":">","value":5"#, r#""hop""#);
    assert_eq!(notices(&hop), ["rule \"r\": hop is ignored with the metric query_queue_time"]);
}

/// A manual configuration with one rule.
fn with_rule(predicate: &str, action: &str) -> String {
    format!(
        r#"[{{"rules":[{{"rule_name":"r","predicate":[{{"metric_name":{predicate}}}],
             "action":{action}}}]}}]"#
    )
}

fn check_refused(json: &str, message: &str) {
    let error = Config::parse(json).expect_err(json);
    assert_eq!(error.to_string(), message, "{json}");
}

#[test]
fn bad_structures_are_refused() {
    check_refused(
        &" ".repeat(8_001),
        "configuration has 8001 characters, at most 8000 are allowed",
    );
    check_refused(
        "[",
        "configuration is not valid JSON: EOF while parsing a list at line 1 column 1",
    );
    check_refused("[1]", "configuration must be a JSON array of objects");
    check_refused("\"x\"", "configuration must be a JSON array of objects");
    check_refused("[]", "configuration has no queue");
    check_refused(r#"[{"short_query_queue":true}]"#, "configuration has no queue");
    check_refused(
        r#"[{},{"short_query_queue":true},{"short_query_queue":true}]"#,
        "element 3: \"short_query_queue\" is set a second time",
    );
    check_refused(
        r#"[{},{"short_query_queue":true,"query_concurrency":3}]"#,
        "element 2: \"query_concurrency\" does not belong to the element of \"short_query_queue\"",
    );
    let queues = |count: usize| {
        let queue = r#"{"user_group":["g"],"query_concurrency":1},"#;
        format!("[{}{{\"query_concurrency\":1}}]", queue.repeat(count - 1))
    };
    assert_eq!(parse(&queues(8)).queues().len(), 8);
    check_refused(&queues(9), "configuration has 9 queues, at most 8 are allowed");
    check_refused(
        r#"[{"user_group":["a"]},{"auto_wlm":false},{"auto_wlm":true}]"#,
        "element 3: automatic and manual queues cannot be mixed",
    );
    check_refused(
        r#"[{"queue_type":"manual","auto_wlm":true}]"#,
        "element 1: automatic and manual queues cannot be mixed",
    );
}

#[test]
fn bad_queues_are_refused() {
    check_refused(
        r#"[{},{"query_group":["x"]}]"#,
        "element 2: the last queue is the default queue and takes no query groups",
    );
    check_refused(
        r#"[{"query_concurrency":0}]"#,
        "element 1: \"query_concurrency\" is 0, it must be from 1 to 50",
    );
    check_refused(
        r#"[{"query_concurrency":2.5}]"#,
        "element 1: \"query_concurrency\" must be a whole number",
    );
    check_refused(
        r#"[{"user_group":"a","query_concurrency":46},{}]"#,
        "all queues together have 51 slots, at most 50 are allowed",
    );
    check_refused(
        r#"[{"user_group":"a","memory_percent_to_use":40},{}]"#,
        "element 2: \"memory_percent_to_use\" must be given for every queue or for none",
    );
    check_refused(
        r#"[{"user_group":"a","memory_percent_to_use":60},{"memory_percent_to_use":41}]"#,
        "all queues together have 101 % of memory",
    );
    check_refused(
        r#"[{"name":"a-b"}]"#,
        "element 1: queue name \"a-b\" must have 1 to 64 letters, digits, underscores or spaces",
    );
    check_refused(
        r#"[{"user_group":[""]},{}]"#,
        "element 1: \"user_group\" must be a name or an array of names, none of them empty",
    );
    check_refused(
        r#"[{"concurrency_scaling":"on"}]"#,
        "element 1: \"concurrency_scaling\" must be \"auto\" or \"off\"",
    );
    check_refused(
        r#"[{"auto_wlm":true,"priority":"critical"}]"#,
        "element 1: \"priority\" must be highest, high, normal, low or lowest",
    );
    check_refused(
        r#"[{"user_group_wild_card":2}]"#,
        "element 1: \"user_group_wild_card\" must be true or false (or 1 or 0)",
    );
    check_refused(
        r#"[{},{"short_query_queue":true,"max_execution_time":999}]"#,
        "element 2: \"max_execution_time\" is 999, it must be from 1000 to 20000",
    );
}

#[test]
fn bad_rules_are_refused() {
    let cpu = r#""query_cpu_time","operator":">","value":1"#;
    check_refused(
        &with_rule(r#""cpu","operator":">","value":1"#, "\"log\""),
        "rule \"r\": there is no metric \"cpu\"",
    );
    check_refused(
        &with_rule(r#""query_cpu_time","operator":">=","value":1"#, "\"log\""),
        "rule \"r\": operator \">=\" must be =, < or >",
    );
    check_refused(
        &with_rule(r#""query_cpu_time","operator":">","value":1000000"#, "\"log\""),
        "rule \"r\": the value of query_cpu_time must be a whole number from 0 to 999999",
    );
    check_refused(
        &with_rule(r#""query_blocks_read","operator":">","value":1.5"#, "\"log\""),
        "rule \"r\": the value of query_blocks_read must be a whole number from 0 to 1048575",
    );
    check_refused(
        &with_rule(r#""io_skew","operator":">","value":100"#, "\"log\""),
        "rule \"r\": the value of io_skew must be a number from 0 to 99",
    );
    check_refused(&with_rule(cpu, "\"stop\""), "rule \"r\": there is no action \"stop\"");
    check_refused(
        &with_rule(cpu, r#""change_query_priority","value":"low""#),
        "rule \"r\": action change_query_priority needs automatic workload management",
    );
    check_refused(
        &with_rule(r#""query_priority","operator":"=","value":"high""#, "\"log\""),
        "rule \"r\": metric query_priority needs automatic workload management",
    );
    check_refused(
        &with_rule(cpu, "\"hop\"").replace("[{\"rules", "[{\"auto_wlm\":true,\"rules"),
        "rule \"r\": action hop needs manual workload management",
    );
    check_refused(
        &with_rule(cpu, "\"log\"").replace("\"r\"", "\"r 1\""),
        "element 1: rule name \"r 1\" must have 1 to 32 letters, digits or underscores",
    );
    check_refused(
        &with_rule(cpu, "\"log\"").replace("\"action\"", "\"act\""),
        "element 1: a rule lacks \"action\"",
    );
}

#[test]
fn rules_are_counted_over_all_queues() {
    let rules = |names: std::ops::Range<usize>, predicates: usize| {
        let predicate = r#"{"metric_name":"io_skew","operator":">","value":1.3}"#;
        let predicates = vec![predicate; predicates].join(",");
        let rule = |name| {
            format!(r#"{{"rule_name":"r{name}","predicate":[{predicates}],"action":"log"}}"#)
        };
        names.map(rule).collect::<Vec<_>>().join(",")
    };
    let two_queues = |first: String, second: String| {
        format!(r#"[{{"user_group":"a","rules":[{first}]}},{{"rules":[{second}]}}]"#)
    };
    assert_eq!(parse(&two_queues(rules(0..12, 3), rules(12..25, 1))).queues()[1].rules.len(), 13);
    check_refused(
        &two_queues(rules(0..12, 1), rules(12..26, 1)),
        "configuration has 26 rules, at most 25 are allowed",
    );
    check_refused(&two_queues(rules(0..2, 1), rules(1..2, 1)), "rule name \"r1\" is used twice");
    check_refused(
        &two_queues(rules(0..1, 4), rules(1..2, 1)),
        "rule \"r0\" has 4 predicates, it must have 1 to 3",
    );
}

#[test]
fn hints_say_what_to_do_where_the_message_does_not() {
    let hint = |json: &str| Config::parse(json).unwrap_err().hint();
    assert!(hint(r#"[{"user_group":"a"}]"#).unwrap().starts_with("add a last queue"));
    let serverless = with_rule(r#""max_query_cpu_time","operator":">","value":1"#, "\"log\"");
    assert_eq!(hint(&serverless), Some("metrics of a cluster have no prefix \"max_\""));
    assert_eq!(hint("["), None);
    let too_small = Error::SlotTooSmall { queue: "q".to_owned(), slot_bytes: 5 };
    assert!(too_small.hint().is_some());
}

fn keys(properties: &[Property]) -> Vec<String> {
    properties.iter().map(ToString::to_string).collect()
}

#[test]
fn dynamic_properties_change_at_once_and_static_ones_wait() {
    let old =
        parse(r#"[{"user_group":["a"],"memory_percent_to_use":50},{"memory_percent_to_use":50}]"#);
    let check = |new: &str, at_once: &[&str], after_restart: &[&str]| {
        let change = Change::between(&old, &parse(new));
        assert_eq!(keys(&change.at_once), at_once, "{new}");
        assert_eq!(keys(&change.after_restart), after_restart, "{new}");
    };
    check(
        r#"[{"user_group":["a"],"memory_percent_to_use":60,"query_concurrency":3},
            {"memory_percent_to_use":40,"max_execution_time":1000},{"short_query_queue":true}]"#,
        &[
            "short_query_queue",
            "query_concurrency of queue 1",
            "memory_percent_to_use of queue 1",
            "memory_percent_to_use of queue 2",
            "max_execution_time of queue 2",
        ],
        &[],
    );
    check(
        r#"[{"user_group":["b"],"memory_percent_to_use":60},{"memory_percent_to_use":40}]"#,
        &[],
        &[
            "user_group of queue 1",
            "memory_percent_to_use of queue 1",
            "memory_percent_to_use of queue 2",
        ],
    );
    check(
        r#"[{"user_group":["a"],"user_group_wild_card":1,"memory_percent_to_use":50,"rules":[
            {"rule_name":"r","predicate":[{"metric_name":"cpu_skew","operator":">","value":9}],
             "action":"log"}]},{"memory_percent_to_use":50}]"#,
        &["rules of queue 1"],
        &["user_group of queue 1"],
    );
    check(
        r#"[{"auto_wlm":true}]"#,
        &[],
        &[
            "auto_wlm",
            "number of queues",
            "memory_percent_to_use of queue 1",
            "name of queue 1",
            "user_group of queue 1",
        ],
    );
}

#[test]
fn in_automatic_mode_everything_changes_at_once() {
    let old = parse(r#"[{"auto_wlm":true,"user_group":["a"]},{"priority":"low"}]"#);
    let new = parse(r#"[{"auto_wlm":true,"user_role":["b"]},{"query_group":["c"]},{}]"#);
    let change = Change::between(&old, &new);
    assert!(change.after_restart.is_empty(), "{change:?}");
    assert!(keys(&change.at_once).contains(&"number of queues".to_owned()), "{change:?}");
    assert_eq!(Change::between(&old, &old.clone()), Change::default());
}

#[test]
fn a_configuration_in_words() {
    let expected = "\
manual workload management: 3 user queues, 14 slots
short query acceleration is on: a SELECT or CREATE TABLE AS that would have to wait and is \
predicted to be short runs in the short query queue (service class 14) for a time chosen from the \
history of queries
superuser queue (service class 5): 1 slot, for superusers after SET query_group TO 'superuser'
1. Queue 1 (service class 6): 4 slots with 6.25 % of the memory of queries each (25 % in all)
   takes queries with query_group 'report' (* and ? as wildcards, in any case)
   after 20 s of running, a SELECT or CREATE TABLE AS goes to the next queue that takes it or is \
cancelled; INSERT, UPDATE, DELETE, UNLOAD and queries with user-defined functions are cancelled; \
COPY, VACUUM and ANALYZE go on
   rule r1: when query_execution_time > 50 s, abort the query
2. Queue 2 (service class 7): 5 slots with 8.00 % of the memory of queries each (40 % in all)
   takes users in group 'admin' or 'dba'
3. Default queue (service class 8): 5 slots with 7.00 % of the memory of queries each (35 % in all)
   takes every query that no other queue takes
notice: element 1: \"concurrency_scaling\" is accepted, but there are no further clusters: queries \
wait in their queue
notice: element 3: \"concurrency_scaling\" is accepted, but there are no further clusters: queries \
wait in their queue
";
    assert_eq!(explain(&parsed(EXAMPLE)), expected);
    let auto = explain(&parsed(
        r#"[{"auto_wlm":true,"user_role":["etl"],"priority":"highest","rules":[{"rule_name":"slow",
            "predicate":[{"metric_name":"segment_execution_time","operator":">","value":120},
            {"metric_name":"io_skew","operator":">","value":1.30}],
            "action":"change_query_priority","value":"low"}]},{}]"#,
    ));
    assert!(auto.contains("1. Queue 1 (service class 100): priority highest\n"), "{auto}");
    assert!(auto.contains("takes users with role 'etl'\n"), "{auto}");
    let rule = "rule slow: when segment_execution_time > 120 s and io_skew > 1.3, give the query \
                priority low\n";
    assert!(auto.contains(rule), "{auto}");
    assert!(auto.contains("short query acceleration is off\n"), "{auto}");
}

/// JSON of any shape, with the keys that mean something.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let key = prop_oneof![
        Just("query_concurrency"),
        Just("user_group"),
        Just("memory_percent_to_use"),
        Just("max_execution_time"),
        Just("short_query_queue"),
        Just("auto_wlm"),
        Just("rules"),
        Just("rule_name"),
        Just("predicate"),
        Just("metric_name"),
        Just("operator"),
        Just("value"),
        Just("action"),
        Just("other"),
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        (-5_i64..60).prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        prop_oneof![Just("log"), Just(">"), Just("query_cpu_time"), Just("")]
            .prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| {
                map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            }),
        ]
    })
}

proptest! {
    /// Whatever is configured is refused with a reason or keeps the limits.
    #[test]
    fn nothing_out_of_limits_is_accepted(json in any_json()) {
        if let Ok(Parsed { config, .. }) = Config::parse(&json.to_string()) {
            prop_assert!((1..=QUEUES_MAX).contains(&config.queues().len()));
            let slots: u32 = config.queues().iter().map(|queue| queue.concurrency).sum();
            prop_assert!(config.mode() == Mode::Auto || slots <= SLOTS_MAX);
            let percent: u32 = config.queues().iter().filter_map(|queue| queue.memory_percent).sum();
            prop_assert!(percent <= 100);
            let rules: usize = config.queues().iter().map(|queue| queue.rules.len()).sum();
            prop_assert!(rules <= RULES_MAX);
            let whole = 1 << 40;
            let bytes: u64 = (0..config.queues().len())
                .map(|index| config.queue_bytes(QueueId(index), whole))
                .sum();
            prop_assert!(bytes <= whole);
        }
    }

    #[test]
    fn no_text_makes_the_parser_fail_otherwise_than_by_an_error(text in ".{0,200}") {
        let _ = Config::parse(&text);
    }
}
