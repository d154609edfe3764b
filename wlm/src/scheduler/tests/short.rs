//! Short query acceleration.

use std::time::Duration;

use super::harness::{Cluster, Describe, GB, of, select};
use crate::{Event, QueryId, QueryKind, QueryMetrics};

const ONE_SLOT: &str = r#"[{"query_concurrency":1},
                           {"short_query_queue":true,"max_execution_time":5000}]"#;

/// Plans of shape 1 are known to be short, those of shape 2 to be long.
fn cluster(json: &str) -> Cluster {
    let mut cluster = Cluster::new(json);
    cluster.teach(1, Duration::from_millis(50), 1 << 20);
    cluster.teach(2, Duration::from_secs(60), 1 << 20);
    cluster
}

fn short() -> Describe {
    select().shape(1)
}

fn long() -> Describe {
    select().shape(2)
}

#[test]
fn a_short_query_that_would_wait_is_accelerated() {
    let mut cluster = cluster(ONE_SLOT);
    assert_eq!(cluster.arrive(1, &short()), ["queue 1 in 6", "start 1 in 6"], "it need not wait");
    assert_eq!(cluster.arrive(2, &short()), ["queue 2 in 6", "start 2 in 14"]);
    assert_eq!(cluster.granted_gb(2), 1.0);
    assert_eq!(cluster.arrive(3, &long()), ["queue 3 in 6"]);
    let rows = cluster.scheduler.service_class_config_rows();
    let row = rows.last().unwrap();
    assert_eq!((row.service_class.0, row.max_execution_time), (14, 5_000_000));
}

#[test]
fn only_reading_queries_with_one_slot_and_little_memory_are_accelerated() {
    let mut cluster = cluster(r#"[{"query_concurrency":3},{"short_query_queue":true}]"#);
    cluster.teach(3, Duration::from_millis(50), 5 * GB);
    cluster.arrive(1, &long().slots(3));
    assert_eq!(
        cluster.arrive(2, &of(QueryKind::CreateTableAs).shape(1)).last().unwrap(),
        "start 2 in 14"
    );
    for (id, query) in [
        (3, of(QueryKind::Write).shape(1)),
        (4, of(QueryKind::SelectWithUdf).shape(1)),
        (5, of(QueryKind::Copy).shape(1)),
        (6, short().slots(2)),
        (7, select().shape(3)),
    ] {
        assert_eq!(cluster.arrive(id, &query), [format!("queue {id} in 6")]);
    }
    let superuser = || short().superuser().group("superuser");
    cluster.arrive(8, &superuser());
    assert_eq!(cluster.arrive(9, &superuser()), ["queue 9 in 5"]);
}

#[test]
fn short_queries_wait_for_whichever_slot_is_free_first() {
    let mut cluster = cluster(ONE_SLOT);
    cluster.arrive(1, &long());
    for id in 2..=9 {
        cluster.arrive(id, &short());
    }
    let running = cluster.scheduler.task_state_rows().len();
    assert_eq!(running, 7, "one slot of the queue and six light ones");
    assert_eq!(cluster.end(3), ["start 8 in 14"]);
    assert_eq!(cluster.end(1), ["start 9 in 6"]);
}

#[test]
fn an_overdue_query_moves_to_its_own_queue_when_a_slot_is_free() {
    let mut cluster = cluster(ONE_SLOT);
    cluster.arrive(1, &long());
    cluster.arrive(2, &short());
    cluster.arrive(3, &long());
    assert_eq!(cluster.pass(30.0), [""; 0], "it goes on, in nobody's way");
    assert_eq!(cluster.end(1), ["move 2 to 6"], "at the place it had, before query 3");
    assert_eq!(cluster.tell(Event::Moved { query: QueryId(2) }), [""; 0]);
    assert_eq!(cluster.end(2), ["start 3 in 6"]);
    let short = cluster.scheduler.service_class_state_rows()[2];
    assert_eq!((short.num_serviced_queries, short.num_evicted_queries), (1, 1));
}

#[test]
fn an_overdue_query_is_restarted_when_short_ones_need_its_slot() {
    let mut cluster = cluster(ONE_SLOT);
    cluster.arrive(1, &long());
    for id in 2..=7 {
        cluster.arrive(id, &short());
    }
    cluster.tell(Event::Returning { query: QueryId(2) });
    cluster.pass(6.0);
    assert_eq!(cluster.arrive(8, &short()), ["queue 8 in 6", "restart 3 in 6"], "2 returns rows");
    assert_eq!(cluster.cancel(8), ["refuse 8: cancelled"]);
    assert_eq!(cluster.arrive(9, &short()), ["queue 9 in 6"], "one slot is being vacated");
    assert_eq!(cluster.stopped(3, 30), ["queue 30 in 6", "start 9 in 14"]);
    assert_eq!(cluster.end(1), ["move 2 to 6"], "it came before 30, which came before 9");
    let in_line = cluster.scheduler.queue_state_rows();
    assert_eq!(in_line.iter().map(|row| row.query.0).collect::<Vec<_>>(), [30]);
    cluster.tell(Event::Moved { query: QueryId(2) });
    assert_eq!(cluster.end(2), ["start 30 in 6"], "not accelerated twice");
}

#[test]
fn an_overdue_query_that_fits_no_slot_of_its_queue() {
    let json = r#"[{"query_concurrency":50},{"short_query_queue":true}]"#;
    let mut small = cluster(json);
    small.arrive(1, &long().slots(50));
    small.arrive(2, &short());
    let own = 194.0 / 50.0;
    assert!(small.granted_gb(2) < own, "here it would fit: 1 GB against 3.9 GB");

    // With most memory elsewhere its own slots are smaller than the light ones.
    let json = r#"[{"user_group":["a"],"memory_percent_to_use":90,"query_concurrency":1},
                   {"memory_percent_to_use":10,"query_concurrency":49},{"short_query_queue":true}]"#;
    let mut cluster = cluster(json);
    cluster.arrive(1, &long().slots(49));
    cluster.arrive(2, &short());
    cluster.arrive(3, &short());
    let using = |bytes| QueryMetrics { memory_bytes: bytes, ..QueryMetrics::default() };
    cluster.report(2, using(GB));
    cluster.report(3, using(GB));
    cluster.tell(Event::Returning { query: QueryId(3) });
    cluster.pass(6.0);
    assert_eq!(cluster.end(1), ["restart 2 in 7"], "3 returns rows and stays where it is");
    assert_eq!(cluster.stopped(2, 20), ["queue 20 in 7", "start 20 in 7"]);
}

#[test]
fn acceleration_is_switched_on_and_off_while_queries_wait() {
    let off = r#"[{"query_concurrency":1}]"#;
    let mut cluster = cluster(off);
    cluster.arrive(1, &long());
    assert_eq!(cluster.arrive(2, &short()), ["queue 2 in 6"]);
    assert_eq!(cluster.reconfigure(ONE_SLOT), ["reconfigured"], "the memory is still in use");
    assert_eq!(cluster.arrive(3, &short()), ["queue 3 in 6"]);
    let told = cluster.end(1);
    assert_eq!(told, ["start 2 in 6", "start 3 in 14"], "memory for light slots is free now");
    cluster.arrive(4, &short());
    assert_eq!(cluster.reconfigure(off), ["reconfigured"]);
    assert_eq!(cluster.arrive(5, &short()), ["queue 5 in 6"]);
    cluster.end(3);
    cluster.end(4);
    assert_eq!(cluster.end(2), ["start 5 in 6"]);
    assert_eq!(cluster.granted_gb(5), 200.0, "all memory is back");
}

#[test]
fn the_choice_is_measured() {
    let mut cluster = cluster(ONE_SLOT);
    cluster.arrive(1, &short());
    cluster.pass(0.1);
    cluster.end(1);
    cluster.arrive(2, &long());
    cluster.pass(1.0);
    cluster.end(2);
    cluster.arrive(3, &short());
    cluster.pass(8.0);
    cluster.end(3);
    let record = cluster.scheduler.short_query_record();
    assert_eq!((record.short_and_predicted, record.short_not_predicted), (1, 1));
    assert_eq!((record.long_but_predicted_short, record.long_and_predicted), (1, 0));
}
