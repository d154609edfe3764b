//! Automatic mode: concurrency from predictions, priorities, CRITICAL.

use std::time::Duration;

use super::harness::{Cluster, Describe, GB, select};
use crate::{Event, Priority, PriorityScope, QueryId, SessionId, UserId};

const LEVELS: &str = r#"[{"auto_wlm":true,"query_group":["low"],"priority":"low"},
                         {"query_group":["high"],"priority":"highest"},{}]"#;

/// Plans of shape 1 need a second and 60 GB; of shape 2 a minute and 1 GB; of shape 3 a tenth of a
/// second and 1 MB.
fn cluster(json: &str) -> Cluster {
    let mut cluster = Cluster::new(json);
    for _ in 0..3 {
        cluster.teach(1, Duration::from_secs(1), 60 * GB);
        cluster.teach(2, Duration::from_secs(60), GB);
        cluster.teach(3, Duration::from_millis(100), 1 << 20);
    }
    cluster
}

fn hungry() -> Describe {
    select().shape(1)
}

fn set(cluster: &mut Cluster, scope: PriorityScope, priority: Option<Priority>) -> Vec<String> {
    cluster.tell(Event::SetPriority { scope, priority })
}

#[test]
fn concurrency_follows_predicted_memory() {
    let mut cluster = cluster(r#"[{"auto_wlm":true}]"#);
    for id in 1..=3 {
        cluster.arrive(id, &hungry());
    }
    let running = cluster.scheduler.task_state_rows().len();
    assert_eq!(running, 3, "three times 60 GB fit into 200 GB");
    assert!((55.0..66.0).contains(&cluster.granted_gb(3)), "{}", cluster.granted_gb(3));
    assert_eq!(cluster.arrive(4, &hungry()), ["queue 4 in 100"]);
    assert_eq!(cluster.arrive(5, &select().shape(3)), ["queue 5 in 100", "start 5 in 100"]);
    assert_eq!(cluster.end(1), ["start 4 in 100"]);
}

#[test]
fn concurrency_follows_predicted_time_and_how_busy_the_nodes_are() {
    let mut cluster = cluster(r#"[{"auto_wlm":true}]"#);
    for id in 1..=6 {
        cluster.arrive(id, &select().shape(2));
    }
    assert_eq!(cluster.scheduler.task_state_rows().len(), 5, "five long ones at first");
    assert_eq!(cluster.tell(Event::NodeLoad { busy_percent: 50 }), [""; 0]);
    let told = cluster.tell(Event::NodeLoad { busy_percent: 50 });
    assert_eq!(told, ["start 6 in 100"], "the nodes have time left");
    cluster.arrive(7, &select().shape(2));
    cluster.tell(Event::NodeLoad { busy_percent: 99 });
    cluster.end(1);
    assert_eq!(cluster.scheduler.task_state_rows().len(), 5, "now they have not");

    let mut cluster = super::auto::cluster(r#"[{"auto_wlm":true}]"#);
    for id in 1..=60 {
        cluster.arrive(id, &select().shape(3));
    }
    assert_eq!(cluster.scheduler.task_state_rows().len(), 50, "short ones are many");
}

#[test]
fn a_query_alone_gets_a_generous_share() {
    let mut cluster = cluster(r#"[{"auto_wlm":true}]"#);
    cluster.arrive(1, &select().shape(3));
    assert_eq!(cluster.granted_gb(1), 50.0);
    cluster.arrive(2, &select().shape(3));
    assert_eq!(cluster.granted_gb(2), 25.0, "of the surplus, not of what is kept for needs");
}

#[test]
fn a_query_that_expects_more_than_there_is_gets_half() {
    let mut cluster = cluster(r#"[{"auto_wlm":true}]"#);
    cluster.teach(4, Duration::from_secs(1), 900 * GB);
    cluster.arrive(1, &select().shape(4));
    cluster.arrive(2, &select().shape(4));
    assert_eq!((cluster.granted_gb(1), cluster.granted_gb(2)), (100.0, 100.0));
}

#[test]
fn higher_priorities_start_first_and_have_larger_shares() {
    let mut cluster = cluster(LEVELS);
    for id in 1..=3 {
        cluster.arrive(id, &hungry());
    }
    cluster.arrive(4, &hungry().group("low"));
    cluster.arrive(5, &hungry());
    assert_eq!(cluster.arrive(6, &hungry().group("high")), ["queue 6 in 101"]);
    assert_eq!(cluster.end(1), ["start 6 in 101"]);
    assert_eq!(cluster.end(2), ["start 5 in 102"]);
    assert_eq!(cluster.end(3), ["start 4 in 100"]);
    let shares: Vec<u32> = cluster
        .actions
        .iter()
        .filter_map(|action| match action {
            crate::Action::Start { grant, .. } => Some(grant.cpu_share),
            _ => None,
        })
        .collect();
    assert_eq!(shares[3..], [16, 4, 2]);
}

#[test]
fn priorities_of_queries_are_changed_by_superusers() {
    let mut cluster = cluster(LEVELS);
    for id in 1..=3 {
        cluster.arrive(id, &hungry());
    }
    cluster.arrive(4, &hungry());
    cluster.arrive(5, &hungry());
    let query = |id| PriorityScope::Query(QueryId(id));
    let told = set(&mut cluster, query(5), Some(Priority::High));
    assert_eq!(told, ["priority of 5: High, share 8", "priority set from Normal to High"]);
    assert_eq!(cluster.end(1), ["start 5 in 102"], "it passes query 4");
    let told = set(&mut cluster, query(5), None);
    assert_eq!(told, ["priority of 5: Normal, share 4", "priority set from High to Normal"]);
    let told = set(&mut cluster, query(99), Some(Priority::High));
    assert_eq!(told, ["priority refused: query is not waiting or running in a user queue"]);
}

#[test]
fn one_query_at_a_time_is_critical() {
    let mut cluster = cluster(LEVELS);
    for id in 1..=3 {
        cluster.arrive(id, &hungry());
    }
    cluster.arrive(4, &hungry().group("high"));
    cluster.arrive(5, &hungry().group("low").session(8));
    let query = |id| PriorityScope::Query(QueryId(id));
    let told = set(&mut cluster, query(5), Some(Priority::Critical));
    assert_eq!(told, ["priority of 5: Critical, share 32", "priority set from Low to Critical"]);
    let refused = ["priority refused: another query has priority critical"];
    assert_eq!(set(&mut cluster, query(4), Some(Priority::Critical)), refused);
    let session = PriorityScope::Session(SessionId(1));
    assert_eq!(set(&mut cluster, session, Some(Priority::Critical)), refused);
    let user = PriorityScope::User(UserId(100));
    let told = set(&mut cluster, user, Some(Priority::Critical));
    assert_eq!(told, ["priority refused: priority critical cannot be given to a user"]);
    let told = cluster.arrive(6, &select().shape(3));
    assert_eq!(told, ["queue 6 in 102"], "a critical query that waits is passed by nobody");
    let told = cluster.end(1);
    assert_eq!(told, ["start 5 in 100", "start 6 in 102"]);
    cluster.end(5);
    let told = set(&mut cluster, query(6), Some(Priority::Critical));
    assert_eq!(told[1], "priority set from Normal to Critical");
}

#[test]
fn a_change_for_a_user_makes_no_second_query_critical() {
    let mut cluster = cluster(LEVELS);
    for session in [7, 8] {
        set(&mut cluster, PriorityScope::Session(SessionId(session)), Some(Priority::Critical));
    }
    cluster.arrive(1, &hungry().session(7));
    cluster.arrive(2, &hungry().session(8));
    let priorities = |cluster: &Cluster| {
        let rows = cluster.scheduler.query_state_rows();
        let of = |id| rows.iter().find(|row| row.query.0 == id).unwrap().query_priority;
        [of(1), of(2)]
    };
    assert_eq!(priorities(&cluster), [Priority::Critical, Priority::Highest]);
    set(&mut cluster, PriorityScope::User(UserId(100)), Some(Priority::Low));
    assert_eq!(priorities(&cluster), [Priority::Critical, Priority::Highest]);
}

#[test]
fn priorities_of_sessions_and_users_hold_for_later_queries() {
    let mut cluster = cluster(LEVELS);
    let session = |id| PriorityScope::Session(SessionId(id));
    let user = PriorityScope::User(UserId(100));
    let told = set(&mut cluster, session(7), Some(Priority::Lowest));
    assert_eq!(told, ["priority set from none to Lowest"]);
    set(&mut cluster, user, Some(Priority::High));
    let priority = |cluster: &Cluster, id| {
        let rows = cluster.scheduler.query_state_rows();
        rows.iter().find(|row| row.query.0 == id).unwrap().query_priority
    };
    cluster.arrive(1, &hungry().session(7));
    cluster.arrive(2, &hungry().session(8));
    assert_eq!((priority(&cluster, 1), priority(&cluster, 2)), (Priority::Lowest, Priority::High));
    let told = set(&mut cluster, user, None);
    assert_eq!(told, ["priority of 2: Normal, share 4", "priority set from High to none"]);
    cluster.tell(Event::SessionEnded { session: SessionId(7) });
    cluster.arrive(3, &hungry().session(7));
    assert_eq!(priority(&cluster, 3), Priority::Normal);
}

#[test]
fn in_manual_mode_there_are_no_priorities() {
    let mut cluster = Cluster::new("[{}]");
    cluster.arrive(1, &select());
    let told = set(&mut cluster, PriorityScope::Query(QueryId(1)), Some(Priority::High));
    let refused =
        "priority refused: priorities can be changed only in automatic workload management";
    assert_eq!(told, [refused]);
}

#[test]
fn a_rule_changes_the_priority_of_a_running_query() {
    let mut cluster = cluster(
        r#"[{"auto_wlm":true,"rules":[{"rule_name":"slow","predicate":[
            {"metric_name":"query_execution_time","operator":">","value":5}],
            "action":"change_query_priority","value":"lowest"}]}]"#,
    );
    cluster.arrive(1, &hungry());
    assert_eq!(
        cluster.pass(30.0),
        ["priority of 1: Lowest, share 1", "rule slow on 1: change_query_priority"]
    );
}

#[test]
fn an_overdue_short_query_gets_a_grant_of_its_own_queue() {
    let json = r#"[{"auto_wlm":true},{"short_query_queue":true,"max_execution_time":5000}]"#;
    let mut cluster = cluster(json);
    for id in 1..=4 {
        cluster.arrive(id, &hungry());
    }
    set(&mut cluster, PriorityScope::Query(QueryId(4)), Some(Priority::Critical));
    let told = cluster.arrive(5, &select().shape(3));
    assert_eq!(told, ["queue 5 in 100", "start 5 in 14"], "query 4 lets nobody pass");
    assert_eq!(cluster.pass(6.0), [""; 0]);
    assert_eq!(cluster.end(1), ["start 4 in 100", "move 5 to 100"]);
    assert!(cluster.granted_gb(5) < 5.0);
}

#[test]
fn queues_come_and_go_while_queries_wait_and_run() {
    let mut cluster = cluster(LEVELS);
    for id in 1..=4 {
        cluster.arrive(id, &hungry());
    }
    let told = cluster.reconfigure(r#"[{"auto_wlm":true,"priority":"high"}]"#);
    assert_eq!(
        told,
        [
            "priority of 1: High, share 8",
            "priority of 2: High, share 8",
            "priority of 3: High, share 8",
            "queue 4 in 100",
            "priority of 4: High, share 8",
            "reconfigured",
        ]
    );
    assert!(cluster.scheduler.task_state_rows().iter().all(|row| row.service_class.0 == 100));
    assert_eq!(cluster.end(2), ["start 4 in 100"]);
}
