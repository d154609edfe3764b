//! Every way in which a query ends, and that each frees what it held, once.

use super::harness::{Cluster, select};
use crate::{CancelCause, Event, Outcome, QueryId};

fn one_slot() -> Cluster {
    Cluster::new(r#"[{"query_concurrency":1}]"#)
}

#[test]
fn a_cancelled_query_keeps_its_slot_until_its_work_has_stopped() {
    let mut cluster = one_slot();
    cluster.arrive(1, &select());
    cluster.arrive(2, &select());
    assert_eq!(cluster.cancel(1), ["stop 1: cancelled"]);
    assert_eq!(cluster.cancel(1), [""; 0], "once is enough");
    let (query, outcome) = (QueryId(1), Outcome::Stopped);
    let told = cluster.tell(Event::Ended { query, outcome, metrics: None });
    assert_eq!(told, ["start 2 in 6"]);
}

#[test]
fn a_waiting_query_is_cancelled_at_once_and_the_line_moves_up() {
    let mut cluster = Cluster::new(r#"[{"query_concurrency":2}]"#);
    cluster.arrive(1, &select());
    cluster.arrive(2, &select().slots(2));
    cluster.arrive(3, &select());
    assert_eq!(cluster.cancel(2), ["refuse 2: cancelled", "start 3 in 6"]);
    assert_eq!(cluster.cancel(2), [""; 0]);
    assert_eq!(cluster.scheduler.ignored_events(), 1);
}

#[test]
fn a_panic_frees_the_slot_as_any_end_does() {
    let mut cluster = one_slot();
    cluster.arrive(1, &select());
    cluster.arrive(2, &select());
    let (query, outcome) = (QueryId(1), Outcome::Failed);
    let event = Event::Ended { query, outcome, metrics: None };
    assert_eq!(cluster.tell(event.clone()), ["start 2 in 6"]);
    assert_eq!(cluster.tell(event), [""; 0], "a second end frees nothing");
    assert_eq!(cluster.scheduler.ignored_events(), 1);
}

#[test]
fn a_lost_node_stops_what_ran_on_it_and_nothing_that_waits() {
    let mut cluster = one_slot();
    cluster.arrive(1, &select());
    cluster.arrive(2, &select());
    let queries = vec![QueryId(1), QueryId(2)];
    assert_eq!(cluster.tell(Event::NodeLost { queries }), ["stop 1: NodeLost"]);
    assert_eq!(cluster.end(1), ["start 2 in 6"]);
}

#[test]
fn the_statement_timeout_counts_waiting_and_running() {
    let mut cluster = one_slot();
    cluster.arrive(1, &select().timeout(10));
    cluster.pass(4.0);
    cluster.arrive(2, &select().timeout(5));
    cluster.arrive(3, &select().timeout(60));
    assert_eq!(cluster.pass(5.0), ["refuse 2: StatementTimeout"]);
    assert_eq!(cluster.pass(1.0), ["stop 1: StatementTimeout"]);
    assert_eq!(cluster.end(1), ["start 3 in 6"]);
    assert_eq!(cluster.pass(49.0), [""; 0]);
    assert_eq!(cluster.pass(5.0), ["stop 3: StatementTimeout"]);
}

#[test]
fn planning_counts_against_the_statement_timeout() {
    let mut cluster = one_slot();
    let mut query = select().timeout(5);
    query.0.statement_started = crate::Time(cluster.now.0 - 6_000_000);
    let request = std::sync::Arc::new(query.0);
    let told = cluster.tell(Event::Arrive { query: QueryId(1), request });
    assert_eq!(told, ["queue 1 in 6", "refuse 1: StatementTimeout"]);
}

#[test]
fn the_lower_of_statement_timeout_and_time_limit_strikes() {
    let json = r#"[{"max_execution_time":10000}]"#;
    let mut cluster = Cluster::new(json);
    cluster.arrive(1, &select().timeout(5));
    cluster.arrive(2, &select().timeout(15));
    let told = cluster.pass(20.0);
    assert_eq!(told, ["stop 1: StatementTimeout", "stop 2: ExecutionTimeLimit"]);
}

#[test]
fn a_cancel_overtakes_a_restart() {
    let json = r#"[{"user_group":["a"],"max_execution_time":1000},
                   {"query_group":["q"],"query_concurrency":1},{}]"#;
    let mut cluster = Cluster::new(json);
    cluster.arrive(1, &select().group("q"));
    cluster.arrive(2, &select().user_group("a").group("q"));
    assert_eq!(cluster.pass(1.0), ["restart 2 in 7"]);
    assert_eq!(cluster.cancel(2), ["stop 2: cancelled"]);
    let told = cluster.stopped(2, 20);
    assert_eq!(told, ["refuse 20: cancelled"], "it had been taken down for the restart already");
    assert_eq!(cluster.scheduler.query_state_rows().len(), 1);
}

#[test]
fn a_query_that_ends_before_its_restart_has_ended() {
    let json = r#"[{"user_group":["a"],"max_execution_time":1000},
                   {"query_group":["q"],"query_concurrency":1},{}]"#;
    let mut cluster = Cluster::new(json);
    cluster.arrive(1, &select().group("q"));
    cluster.arrive(2, &select().user_group("a").group("q"));
    cluster.pass(1.0);
    assert_eq!(cluster.end(2), [""; 0]);
    assert_eq!(cluster.stopped(2, 20), [""; 0]);
    assert_eq!(cluster.scheduler.query_state_rows().len(), 1);
}

#[test]
fn a_session_that_goes_away_while_its_query_waits() {
    let mut cluster = one_slot();
    cluster.arrive(1, &select());
    cluster.arrive(2, &select());
    let (query, cause) = (QueryId(2), CancelCause::Disconnected);
    assert_eq!(cluster.tell(Event::Cancel { query, cause }), ["refuse 2: Cancelled(Disconnected)"]);
    cluster.arrive(3, &select());
    assert_eq!(cluster.end(3), [""; 0], "an end of a query that waits ends it too");
    assert_eq!(cluster.scheduler.query_state_rows().len(), 1);
}

#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let mut cluster = one_slot();
    cluster.arrive(1, &select().timeout(10));
    cluster.pass(5.0);
    cluster.now = crate::Time(0);
    assert_eq!(cluster.arrive(2, &select()), ["queue 2 in 6"]);
    let state = &cluster.scheduler.query_state_rows()[0];
    assert_eq!(state.exec_time, 5_000_000);
}
