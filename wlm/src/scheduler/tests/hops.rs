//! Hops: reassignment, restart, and what each kind of query may suffer.

use super::harness::{Cluster, GB, of, select};
use crate::{Event, QueryId, QueryKind, QueryMetrics};

/// A limit of ten seconds; slots of 50 GB; the next queue has slots of 40 GB.
const LIMITED: &str = r#"[{"user_group":["a"],"max_execution_time":10000,"query_concurrency":2,
                           "memory_percent_to_use":50},
                          {"query_group":["q"],"query_concurrency":2,"memory_percent_to_use":40},
                          {"query_concurrency":1,"memory_percent_to_use":10}]"#;

fn limited() -> Cluster {
    Cluster::new(LIMITED)
}

fn using(bytes: u64) -> QueryMetrics {
    QueryMetrics { memory_bytes: bytes, ..QueryMetrics::default() }
}

#[test]
fn a_query_is_restarted_if_the_next_queue_is_full() {
    let mut cluster = limited();
    let there = select().group("q");
    cluster.arrive(1, &there);
    cluster.arrive(2, &there);
    cluster.arrive(3, &select().user_group("a").group("q"));
    assert_eq!(cluster.pass(10.0), ["restart 3 in 7"]);
    assert_eq!(cluster.scheduler.query_state_rows()[2].state, "Evicting");
    assert_eq!(cluster.stopped(3, 30), ["queue 30 in 7"]);
    let row = cluster.scheduler.query_state_rows()[2];
    assert_eq!((row.query, row.task.0, row.state), (QueryId(30), 3, "QueuedWaiting"));
    assert_eq!(cluster.end(1), ["start 30 in 7"]);
}

#[test]
fn a_query_is_restarted_if_it_uses_more_memory_than_the_next_queue_gives() {
    let mut cluster = limited();
    let query = select().user_group("a").group("q");
    cluster.arrive(1, &query);
    cluster.arrive(2, &query);
    assert_eq!(cluster.granted_gb(1), 50.0);
    cluster.report(1, using(41 * GB));
    cluster.report(2, using(40 * GB));
    assert_eq!(cluster.pass(10.0), ["restart 1 in 7", "move 2 to 7"]);
    assert_eq!(cluster.granted_gb(2), 40.0);
}

#[test]
fn nobody_is_reassigned_past_those_who_wait() {
    let mut cluster = limited();
    let there = select().group("q");
    cluster.arrive(1, &there);
    cluster.arrive(2, &there.clone().slots(2));
    cluster.arrive(3, &select().user_group("a").group("q"));
    let told = cluster.pass(10.0);
    assert_eq!(told, ["restart 3 in 7"], "one slot is free, but query 2 waits for two");
}

#[test]
fn a_move_holds_both_places_until_it_is_done() {
    let mut cluster = limited();
    let query = select().user_group("a").group("q");
    cluster.arrive(1, &query);
    cluster.pass(10.0);
    cluster.arrive(2, &query);
    assert_eq!(cluster.arrive(3, &query), ["queue 3 in 6"], "the first place is still taken");
    assert_eq!(cluster.tell(Event::Moved { query: QueryId(1) }), ["start 3 in 6"]);
}

#[test]
fn a_move_that_fails_becomes_a_restart() {
    let mut cluster = limited();
    let query = select().user_group("a").group("q");
    cluster.arrive(1, &query);
    assert_eq!(cluster.pass(10.0), ["move 1 to 7"]);
    assert_eq!(cluster.tell(Event::MoveFailed { query: QueryId(1) }), ["restart 1 in 7"]);
    assert_eq!(cluster.stopped(1, 10), ["queue 10 in 7", "start 10 in 7"]);
    assert_eq!(cluster.tell(Event::Moved { query: QueryId(10) }), [""; 0], "nobody asked");
    assert_eq!(cluster.scheduler.ignored_events(), 1);
}

#[test]
fn a_query_that_ends_or_is_cancelled_on_its_way_frees_both_places() {
    let mut cluster = limited();
    let idle = cluster.scheduler.allocated_bytes();
    let query = select().user_group("a").group("q");
    cluster.arrive(1, &query);
    cluster.arrive(2, &query);
    assert_eq!(cluster.pass(10.0), ["move 1 to 7", "move 2 to 7"]);
    cluster.end(1);
    assert_eq!(cluster.cancel(2), ["stop 2: cancelled"]);
    cluster.end(2);
    assert_eq!(cluster.scheduler.allocated_bytes(), idle);
    assert_eq!(cluster.scheduler.task_state_rows(), []);
    cluster.arrive(3, &select().group("q").slots(2));
    assert_eq!(cluster.granted_gb(3), 80.0, "both slots are free");
}

/// Every row of the documented table, for the time limit of a queue.
#[test]
fn what_a_time_limit_does_to_each_kind() {
    let check = |kind, returning: bool, expected: &[&str]| {
        let mut cluster = limited();
        cluster.arrive(1, &of(kind).user_group("a").group("q"));
        if returning {
            cluster.tell(Event::Returning { query: QueryId(1) });
        }
        assert_eq!(cluster.pass(500.0), expected, "{kind:?} {returning}");
    };
    check(QueryKind::Select, false, &["move 1 to 7"]);
    check(QueryKind::CreateTableAs, false, &["move 1 to 7"]);
    check(QueryKind::Select, true, &[]);
    check(QueryKind::Write, false, &["stop 1: ExecutionTimeLimit"]);
    check(QueryKind::Unload, false, &["stop 1: ExecutionTimeLimit"]);
    check(QueryKind::SelectWithUdf, false, &["stop 1: ExecutionTimeLimit"]);
    check(QueryKind::Copy, false, &[]);
    check(QueryKind::Maintenance, false, &[]);
}

/// Every row of the documented table, for the hop of a rule; with a next queue that is free, one
/// that is full, and none.
#[test]
fn what_a_hop_does_to_each_kind() {
    const RULE: &str = r#"[{"user_group":["a"],"rules":[{"rule_name":"h","predicate":[
        {"metric_name":"query_execution_time","operator":">","value":5}],"action":"hop"}]},
        {"query_group":["q"],"query_concurrency":1},{}]"#;
    let check = |kind, returning: bool, free: &str, full: &str, none: &str| {
        for (group, is_full, expected) in
            [("q", false, free), ("q", true, full), ("-", false, none)]
        {
            let mut cluster = Cluster::new(RULE);
            if is_full {
                cluster.arrive(2, &select().group("q"));
            }
            cluster.arrive(1, &of(kind).user_group("a").group(group));
            if returning {
                cluster.tell(Event::Returning { query: QueryId(1) });
            }
            let told = cluster.pass(10.0);
            assert_eq!(told.join(", "), expected, "{kind:?} {returning} {group} {is_full}");
        }
    };
    let moves = "move 1 to 7, rule h on 1: hop(reassign)";
    let restarts = "restart 1 in 7, rule h on 1: hop(restart)";
    let cancels = "stop 1: nowhere to hop for h, rule h on 1: abort";
    let none = "rule h on 1: none";
    check(QueryKind::Select, false, moves, restarts, cancels);
    check(QueryKind::CreateTableAs, false, moves, restarts, cancels);
    check(QueryKind::Select, true, moves, none, none);
    check(QueryKind::Write, false, moves, none, none);
    check(QueryKind::Unload, false, moves, none, none);
    check(QueryKind::SelectWithUdf, false, none, none, none);
    check(QueryKind::Copy, false, none, none, none);
    check(QueryKind::Maintenance, false, none, none, none);
}

#[test]
fn hops_go_forward_until_there_is_no_queue_left() {
    let json = r#"[{"user_group":["a"],"max_execution_time":1000},
                   {"user_group":["a"],"max_execution_time":2000},
                   {"user_group":["a"],"max_execution_time":3000},{}]"#;
    let mut cluster = Cluster::new(json);
    cluster.arrive(1, &select().user_group("a"));
    let moved = || Event::Moved { query: QueryId(1) };
    assert_eq!(cluster.pass(1.0), ["move 1 to 7"]);
    cluster.tell(moved());
    assert_eq!(cluster.pass(2.0), ["move 1 to 8"], "time counts from the move");
    cluster.tell(moved());
    let told = cluster.pass(3.0);
    assert_eq!(told, ["stop 1: ExecutionTimeLimit"], "the default queue takes no hop");
}

/// A write that a rule moves, whose time limit strikes on the way, and whose move fails.
#[test]
fn a_limit_that_strikes_on_the_way_is_not_forgotten() {
    let json = r#"[{"user_group":["a"],"max_execution_time":12000,"rules":[{"rule_name":"h",
        "predicate":[{"metric_name":"query_execution_time","operator":">","value":5}],
        "action":"hop"}]},{"query_group":["q"]},{}]"#;
    let mut cluster = Cluster::new(json);
    cluster.arrive(1, &of(QueryKind::Write).user_group("a").group("q"));
    assert_eq!(cluster.pass(10.0), ["move 1 to 7", "rule h on 1: hop(reassign)"]);
    assert_eq!(cluster.pass(5.0), [""; 0]);
    let told = cluster.tell(Event::MoveFailed { query: QueryId(1) });
    assert_eq!(told, ["stop 1: ExecutionTimeLimit"]);
}
