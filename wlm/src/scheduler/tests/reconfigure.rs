//! New configurations while queries wait and run.

use super::harness::{Cluster, GB, select};

#[test]
fn static_properties_wait_for_a_restart_and_going_back_forgets_them() {
    let old = r#"[{"user_group":["a"],"query_concurrency":2},{"query_concurrency":1}]"#;
    let mut cluster = Cluster::new(old);
    cluster.arrive(1, &select());
    cluster.arrive(2, &select());
    let new = r#"[{"user_group":["b"],"query_concurrency":2},{"query_concurrency":5}]"#;
    assert_eq!(cluster.reconfigure(new), ["reconfigured after a restart"]);
    assert_eq!(cluster.scheduler.task_state_rows().len(), 1, "nothing has changed");
    assert!(cluster.scheduler.pending_config().is_some());
    assert_eq!(cluster.reconfigure(old), ["reconfigured"]);
    assert!(cluster.scheduler.pending_config().is_none());
    let auto = r#"[{"auto_wlm":true}]"#;
    assert_eq!(cluster.reconfigure(auto), ["reconfigured after a restart"]);
}

#[test]
fn more_slots_start_waiting_queries_as_memory_allows() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":2}]"#);
    for id in 1..=5 {
        cluster.arrive(id, &select());
    }
    let told = cluster.reconfigure(r#"[{"query_concurrency":4}]"#);
    assert_eq!(told, ["reconfigured"], "two queries hold all the memory");
    assert_eq!(cluster.end(1), ["start 3 in 6", "start 4 in 6"]);
    assert_eq!(cluster.granted_gb(4), 50.0);
}

#[test]
fn a_waiting_query_that_can_never_run_any_more_is_refused() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":5}]"#);
    cluster.arrive(1, &select().slots(3));
    cluster.arrive(2, &select().slots(5));
    cluster.arrive(3, &select().slots(2));
    let told = cluster.reconfigure(r#"[{"query_concurrency":3}]"#);
    assert_eq!(told, ["refuse 2: TooManySlots { asked: 5, available: 3 }", "reconfigured"]);
    assert_eq!(cluster.end(1), ["start 3 in 6"]);
}

#[test]
fn memory_moves_between_queues_only_as_it_becomes_free() {
    let shares = |first: u32, second: u32| {
        format!(
            r#"[{{"query_group":["a"],"query_concurrency":1,"memory_percent_to_use":{first}}},
                {{"query_concurrency":1,"memory_percent_to_use":{second}}}]"#
        )
    };
    let mut cluster = Cluster::new(&shares(20, 80));
    cluster.arrive(1, &select());
    cluster.reconfigure(&shares(80, 20));
    assert_eq!(cluster.arrive(2, &select().group("a")), ["queue 2 in 6"], "query 1 has 160 GB");
    assert_eq!(cluster.end(1), ["start 2 in 6"]);
    assert_eq!(cluster.granted_gb(2), 160.0);
    assert_eq!(cluster.scheduler.allocated_bytes(), 201 * GB);
}

#[test]
fn a_new_time_limit_counts_from_the_start_of_the_query() {
    let mut cluster = Cluster::new("[{}]");
    cluster.arrive(1, &select());
    cluster.pass(30.0);
    let told = cluster.reconfigure(r#"[{"max_execution_time":40000}]"#);
    assert_eq!(told, ["reconfigured"]);
    assert_eq!(cluster.pass(9.0), [""; 0]);
    assert_eq!(cluster.pass(1.0), ["stop 1: ExecutionTimeLimit"]);
    cluster.arrive(2, &select());
    cluster.pass(30.0);
    let told = cluster.reconfigure(r#"[{"max_execution_time":10000}]"#);
    assert_eq!(told, ["reconfigured", "stop 2: ExecutionTimeLimit"], "it is over already");
}

#[test]
fn slots_too_small_to_run_are_refused_and_the_old_configuration_stays() {
    let pool = crate::Pool::with_reserves(10 << 20, 1 << 20, 0);
    let config = super::harness::config("[{}]");
    let mut scheduler = crate::Scheduler::new(config.clone(), pool, crate::Time(0)).unwrap();
    let new = super::harness::config(
        r#"[{"query_group":["a"],"memory_percent_to_use":1},
                                         {"memory_percent_to_use":99}]"#,
    );
    let event = crate::Event::Reconfigure { config: Box::new(new) };
    let actions = scheduler.handle(event, crate::Time(1));
    assert!(matches!(actions[..], [crate::Action::ReconfigureRefused { .. }]), "{actions:?}");
    assert_eq!(*scheduler.config(), config);
}
