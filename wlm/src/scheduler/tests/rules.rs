//! Monitoring rules at work: severity, one row per rule, waiting queries, protected ones.

use super::harness::{Cluster, of, select};
use crate::{QueryKind, QueryMetrics, Work};

fn with_rules(rules: &[(&str, &str, &str)]) -> Cluster {
    let rule = |(name, condition, action): &(&str, &str, &str)| {
        let (metric, value) = condition.split_once('>').unwrap();
        format!(
            r#"{{"rule_name":"{name}","predicate":[{{"metric_name":"{}","operator":">",
                "value":{}}}],"action":"{action}"}}"#,
            metric.trim(),
            value.trim()
        )
    };
    let rules: Vec<String> = rules.iter().map(rule).collect();
    Cluster::new(&format!(r#"[{{"query_concurrency":1,"rules":[{}]}}]"#, rules.join(",")))
}

#[test]
fn the_most_severe_rule_acts() {
    let mut cluster = with_rules(&[
        ("note", "query_execution_time > 5", "log"),
        ("kill", "query_execution_time > 5", "abort"),
    ]);
    cluster.arrive(1, &select());
    assert_eq!(cluster.pass(10.0), ["stop 1: aborted by kill", "rule kill on 1: abort"]);
}

#[test]
fn a_log_is_written_once_per_query() {
    let mut cluster = with_rules(&[("note", "query_execution_time > 5", "log")]);
    cluster.arrive(1, &select());
    assert_eq!(cluster.pass(100.0), ["rule note on 1: log"]);
    cluster.end(1);
    cluster.arrive(2, &select());
    assert_eq!(cluster.pass(100.0), ["rule note on 2: log"]);
}

#[test]
fn a_copy_cannot_be_aborted_and_milder_rules_still_have_their_turn() {
    let mut cluster = with_rules(&[
        ("kill", "query_execution_time > 5", "abort"),
        ("note", "query_execution_time > 5", "log"),
    ]);
    cluster.arrive(1, &of(QueryKind::Copy));
    assert_eq!(cluster.pass(30.0), ["rule kill on 1: none", "rule note on 1: log"]);
    cluster.end(1);
    cluster.arrive(2, &of(QueryKind::Maintenance));
    assert_eq!(cluster.pass(30.0), ["rule kill on 2: none", "rule note on 2: log"]);
}

#[test]
fn time_in_the_queue_aborts_queries_that_wait() {
    let mut cluster = with_rules(&[("late", "query_queue_time > 14", "abort")]);
    cluster.arrive(1, &select());
    cluster.arrive(2, &select());
    assert_eq!(cluster.pass(10.0), [""; 0]);
    assert_eq!(cluster.pass(10.0), ["refuse 2: aborted by late", "rule late on 2: abort"]);
    assert_eq!(cluster.pass(100.0), [""; 0], "query 1 never waited");
}

#[test]
fn a_hop_for_time_in_the_queue_is_ignored() {
    let mut cluster = with_rules(&[("late", "query_queue_time > 5", "hop")]);
    cluster.arrive(1, &select());
    cluster.arrive(2, &select());
    assert_eq!(cluster.pass(100.0), [""; 0]);
    cluster.end(1);
    assert_eq!(cluster.pass(100.0), [""; 0], "also when it runs");
}

#[test]
fn reported_figures_fire_rules() {
    let mut cluster = with_rules(&[("cpu", "query_cpu_time > 600", "abort")]);
    cluster.arrive(1, &select());
    let cpu = |seconds| {
        let cpu_time = std::time::Duration::from_secs(seconds);
        QueryMetrics { total: Work { cpu_time, ..Work::default() }, ..QueryMetrics::default() }
    };
    cluster.report(1, cpu(600));
    assert_eq!(cluster.pass(10.0), [""; 0]);
    assert_eq!(cluster.report(1, cpu(601)), [""; 0], "rules are looked at every ten seconds");
    assert_eq!(cluster.pass(10.0), ["stop 1: aborted by cpu", "rule cpu on 1: abort"]);
}

#[test]
fn rules_change_at_once_even_if_the_rest_waits_for_a_restart() {
    let mut cluster = Cluster::new(r#"[{"user_group":["a"]},{}]"#);
    cluster.arrive(1, &select());
    let told = cluster.reconfigure(
        r#"[{"user_group":["b"]},{"query_concurrency":9,"rules":[{"rule_name":"r","predicate":[
            {"metric_name":"query_execution_time","operator":">","value":5}],"action":"log"}]}]"#,
    );
    assert_eq!(told, ["reconfigured after a restart"]);
    assert_eq!(cluster.pass(10.0), ["rule r on 1: log"]);
    let config = cluster.scheduler.config();
    assert_eq!(config.queues()[1].concurrency, 5, "the rest is as it was");
    assert_eq!(cluster.scheduler.pending_config().unwrap().queues()[1].concurrency, 9);
}
