//! The documented scenarios: queue assignment, dynamic memory, time limits, slot counts, rules.

use super::harness::{Cluster, GB, config, of, select};
use crate::{Pool, QueryKind, QueryMetrics, Scheduler, Time};

/// Scenario 1: who lands where.
#[test]
fn queue_assignment() {
    let mut cluster = Cluster::new(
        r#"[{"user_group":["admin"]},{"query_group":["QG_B"]},{"user_group":["analysts"]},
            {"query_group":["QG_C"]},{}]"#,
    );
    let superuser = select().superuser().group("superuser");
    assert_eq!(cluster.arrive(1, &superuser), ["queue 1 in 5", "start 1 in 5"]);
    let cases = [
        (select().user_group("admin"), 6),
        (select().group("QG_B"), 7),
        (select().user_group("analysts").group("QG_B"), 7),
        (select().group("QG_C"), 9),
        (select(), 10),
        (select().group("superuser"), 10),
        (select().superuser(), 10),
    ];
    for (number, (query, class)) in (2..).zip(cases) {
        let told = cluster.arrive(number, &query);
        assert_eq!(
            told,
            [format!("queue {number} in {class}"), format!("start {number} in {class}")]
        );
    }
}

/// Scenario 2: 50 % in four slots become 75 % in three while four queries run.
#[test]
fn dynamic_memory() {
    let before = r#"[{"query_group":["a"],"query_concurrency":4,"memory_percent_to_use":50},
                     {"query_concurrency":2,"memory_percent_to_use":25}]"#;
    let after = r#"[{"query_group":["a"],"query_concurrency":3,"memory_percent_to_use":75},
                    {"query_concurrency":2,"memory_percent_to_use":25}]"#;
    let mut cluster = Cluster::new(before);
    let query = select().group("a");
    for id in 1..=6 {
        cluster.arrive(id, &query);
    }
    assert_eq!(cluster.granted_gb(4), 25.0);
    let slots = |cluster: &Cluster| {
        let row = &cluster.scheduler.service_class_config_rows()[1];
        let mb = |value: i64| value / 1024;
        (
            (row.num_query_tasks, row.target_num_query_tasks),
            (mb(row.query_working_mem), mb(row.target_query_working_mem)),
        )
    };
    assert_eq!(slots(&cluster), ((4, 4), (25, 25)));
    assert_eq!(cluster.reconfigure(after), ["reconfigured"]);
    assert_eq!(slots(&cluster), ((4, 3), (25, 50)), "in transition");
    assert_eq!(cluster.end(1), [""; 0], "three slots are left, as many as there shall be");
    assert_eq!(slots(&cluster), ((3, 3), (25, 50)));
    assert_eq!(cluster.end(2), ["start 5 in 6"]);
    assert_eq!(cluster.granted_gb(5), 50.0);
    assert_eq!(cluster.end(3), ["start 6 in 6"]);
    assert_eq!(slots(&cluster), ((3, 3), (25, 50)), "query 4 still has 25 GB");
    assert_eq!(cluster.end(4), [""; 0]);
    assert_eq!(slots(&cluster), ((3, 3), (50, 50)), "the transition is over");
    assert_eq!(cluster.scheduler.allocated_bytes(), 201 * GB);
}

/// Scenario 3: a time limit of the queue. A SELECT goes to the next queue that takes it or is
/// cancelled; a COPY goes on; a DELETE is cancelled.
#[test]
fn time_limit() {
    let json = r#"[{"user_group":["a"],"max_execution_time":20000},{"query_group":["q"]},{}]"#;
    let mut cluster = Cluster::new(json);
    let query = select().user_group("a");
    cluster.arrive(1, &query.clone().group("q"));
    assert_eq!(cluster.pass(19.9), [""; 0]);
    assert_eq!(cluster.pass(0.1), ["move 1 to 7"]);
    let moved = crate::Event::Moved { query: crate::QueryId(1) };
    assert_eq!(cluster.tell(moved), [""; 0]);
    assert_eq!(cluster.scheduler.task_state_rows()[0].service_class.0, 7);
    assert_eq!(cluster.pass(1_000.0), [""; 0], "its new queue has no limit");

    cluster.arrive(2, &query);
    cluster.arrive(3, &of(QueryKind::Copy).user_group("a").group("q"));
    cluster.arrive(4, &of(QueryKind::Write).user_group("a").group("q"));
    let told = cluster.pass(20.0);
    assert_eq!(told, ["stop 2: ExecutionTimeLimit", "stop 4: ExecutionTimeLimit"]);
    assert_eq!(cluster.pass(1_000.0), [""; 0], "the COPY goes on");
}

/// Scenario 4: with five slots, a query that takes three leaves two to others.
#[test]
fn slot_count() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":5}]"#);
    assert_eq!(cluster.arrive(1, &select().slots(3)), ["queue 1 in 6", "start 1 in 6"]);
    assert_eq!(cluster.granted_gb(1), 120.0);
    assert_eq!(cluster.arrive(2, &select()), ["queue 2 in 6", "start 2 in 6"]);
    assert_eq!(cluster.arrive(3, &select()), ["queue 3 in 6", "start 3 in 6"]);
    assert_eq!(cluster.arrive(4, &select()), ["queue 4 in 6"]);
    assert_eq!(cluster.end(1), ["start 4 in 6"]);
    assert_eq!(cluster.granted_gb(4), 40.0);
}

#[test]
fn a_query_with_many_slots_waits_at_the_head_and_nobody_passes_it() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":5}]"#);
    for id in 1..=3 {
        cluster.arrive(id, &select());
    }
    assert_eq!(cluster.arrive(4, &select().slots(3)), ["queue 4 in 6"], "two slots are free");
    assert_eq!(cluster.arrive(5, &select()), ["queue 5 in 6"], "it does not pass");
    assert_eq!(cluster.end(1), ["start 4 in 6"]);
    assert_eq!(cluster.end(2), ["start 5 in 6"]);
}

#[test]
fn more_slots_than_the_queue_has_are_refused() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":5}]"#);
    let told = cluster.arrive(1, &select().slots(6));
    assert_eq!(told, ["refuse 1: TooManySlots { asked: 6, available: 5 }"]);
    let superuser = select().slots(6).superuser().group("superuser");
    assert_eq!(cluster.arrive(2, &superuser), ["queue 2 in 5", "start 2 in 5"]);
}

/// Scenario 5: a rule that aborts after 50 seconds, looked at every ten.
#[test]
fn monitoring_rule() {
    let mut cluster = Cluster::new(
        r#"[{"rules":[{"rule_name":"r1","predicate":[{"metric_name":"query_execution_time",
            "operator":">","value":50}],"action":"abort"}]}]"#,
    );
    cluster.arrive(1, &select());
    assert_eq!(cluster.pass(50.9), [""; 0]);
    let told = cluster.pass(9.1);
    assert_eq!(told, ["stop 1: aborted by r1", "rule r1 on 1: abort"]);
    assert_eq!(cluster.now, Time(1_000_000_000 + 60_000_000), "at the first look after 50 s");
    let crate::Action::Stop { reason, query } = &cluster.actions[cluster.actions.len() - 2] else {
        panic!("the stop comes before the row");
    };
    assert_eq!(
        reason.message(*query),
        "Query (1) cancelled by WLM abort action of Query Monitoring Rule \"r1\"."
    );
}

#[test]
fn the_superuser_queue_has_one_slot_of_its_own() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":1}]"#);
    cluster.arrive(1, &select());
    assert_eq!(cluster.arrive(2, &select()), ["queue 2 in 6"]);
    let superuser = select().superuser().group("superuser");
    assert_eq!(cluster.arrive(3, &superuser), ["queue 3 in 5", "start 3 in 5"]);
    assert_eq!(cluster.arrive(4, &superuser), ["queue 4 in 5"]);
    assert_eq!(cluster.end(1), ["start 2 in 6"]);
    assert_eq!(cluster.end(3), ["start 4 in 5"]);
}

#[test]
fn what_does_not_run_on_nodes_never_waits() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":1}]"#);
    cluster.arrive(1, &select());
    assert_eq!(cluster.arrive(2, &of(QueryKind::LeaderOnly)), ["bypass 2"]);
    assert_eq!(cluster.arrive(3, &of(QueryKind::CachedResult)), ["bypass 3"]);
    assert_eq!(cluster.scheduler.query_state_rows().len(), 1);
}

#[test]
fn memory_without_a_share_is_lent_to_queries_that_need_more() {
    let json = r#"[{"query_group":["a"],"query_concurrency":2,"memory_percent_to_use":20},
                   {"query_concurrency":2,"memory_percent_to_use":20}]"#;
    let mut cluster = Cluster::new(json);
    cluster.teach(7, std::time::Duration::from_secs(1), 100 * GB);
    cluster.arrive(1, &select().shape(7));
    assert!(cluster.granted_gb(1) > 95.0, "20 GB of its slot and a loan");
    cluster.arrive(2, &select().shape(7));
    let left = 20.0 + 120.0 - (cluster.granted_gb(1) - 20.0);
    assert!((cluster.granted_gb(2) - left).abs() < 0.01, "what is left of 120 GB");
    cluster.arrive(3, &select().group("a"));
    assert_eq!(cluster.granted_gb(3), 20.0, "a loan never takes a slot's memory");
    cluster.end(1);
    cluster.end(2);
    cluster.end(3);
    assert_eq!(cluster.scheduler.allocated_bytes(), 81 * GB);
}

#[test]
fn a_pool_too_small_for_its_slots_is_refused() {
    let many = config(r#"[{"query_concurrency":50}]"#);
    let error = Scheduler::new(many, Pool::new(2 << 20), Time(0)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a slot of queue \"Default queue\" would have 39845 bytes of memory, too few to run"
    );
}

#[test]
fn figures_of_a_stay_are_true() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":1}]"#);
    cluster.arrive(1, &select());
    cluster.pass(2.0);
    cluster.arrive(2, &select());
    cluster.pass(3.0);
    cluster.report(1, QueryMetrics { slices: 4, ..QueryMetrics::default() });
    cluster.end(1);
    cluster.pass(4.0);
    let state = &cluster.scheduler.query_state_rows()[0];
    assert_eq!((state.queue_time, state.exec_time, state.state), (3_000_000, 4_000_000, "Running"));
    cluster.end(2);
    let rows: Vec<_> = cluster
        .actions
        .iter()
        .filter_map(|action| match action {
            crate::Action::LogQuery(finished) => Some(&finished.row),
            _ => None,
        })
        .collect();
    assert_eq!((rows[0].total_queue_time, rows[0].total_exec_time), (0, 5_000_000));
    assert_eq!((rows[1].total_queue_time, rows[1].total_exec_time), (3_000_000, 4_000_000));
    assert_eq!(rows[1].task.0, 2);
    let counters = cluster.scheduler.service_class_state_rows()[1];
    assert_eq!((counters.num_serviced_queries, counters.num_executed_queries), (2, 2));
}
