//! Rows of system tables, against the documented columns and the documented examples.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::{
    Config, Event, Identity, Outcome, PlanFeatures, Pool, Priority, QueryId, QueryKind,
    QueryMetrics, Request, Scheduler, SegmentMetrics, ServiceClass, SessionId, StepKind,
    StepMetrics, Time, UserId, Work,
};

const CONFIG: &str = r#"[
    {"query_group":["querygroup1"],"user_group":["usergroup1","u*"],"user_group_wild_card":1,
     "query_concurrency":2,"max_execution_time":5000,"concurrency_scaling":"auto",
     "rules":[{"rule_name":"skewed","predicate":[
        {"metric_name":"segment_execution_time","operator":">","value":120},
        {"metric_name":"io_skew","operator":">","value":1.30}],"action":"log"}]},
    {"user_role":["r"],"name":"Loads","query_concurrency":3}, {"query_concurrency":4},
    {"short_query_queue":true,"max_execution_time":5000}]"#;

fn config(json: &str) -> Config {
    Config::parse(json).unwrap().config
}

fn scheduler(json: &str) -> Scheduler {
    let pool = Pool::with_reserves(30 << 30, 1 << 30, 6 << 30);
    Scheduler::new(config(json), pool, Time(1_000)).unwrap()
}

fn arrive(scheduler: &mut Scheduler, id: u64, group: Option<&str>, now: Time) {
    let request = Request {
        user: UserId(100),
        session: SessionId(7),
        xid: 500 + id,
        identity: Arc::new(Identity::default()),
        query_group: group.map(Arc::from),
        kind: QueryKind::Write,
        slot_count: 2,
        statement_started: now,
        statement_timeout: None,
        features: PlanFeatures::default(),
    };
    scheduler.handle(Event::Arrive { query: QueryId(id), request: Arc::new(request) }, now);
}

#[test]
fn assignment_rules_read_as_documented() {
    let rows = classification_rows(&config(CONFIG));
    let texts: Vec<_> = rows
        .iter()
        .map(|row| (row.id, row.condition.as_str(), row.action, row.action_service_class.0))
        .collect();
    assert_eq!(
        texts,
        [
            (1, "(super user) and (query group: superuser)", "assign", 5),
            (2, "(query group: querygroup1)", "assign", 6),
            (3, "(user group: usergroup1)", "assign", 6),
            (4, "(user group: u*)", "assign", 6),
            (5, "(user role: r)", "assign", 7),
            (6, "(querytype: any)", "assign", 8),
        ]
    );
}

#[test]
fn rules_have_a_row_per_predicate() {
    let rows = qmr_config_rows(&config(CONFIG));
    assert_eq!(rows.len(), 2);
    let row = &rows[1];
    assert_eq!((row.service_class.0, &*row.rule_name, row.action), (6, "skewed", "log"));
    assert_eq!((row.metric_name, row.metric_operator, row.metric_value), ("io_skew", ">", 1.3));
    let auto = qmr_config_rows(&config(
        r#"[{"auto_wlm":true,"rules":[{"rule_name":"r","predicate":[{"metric_name":
            "query_priority","operator":"=","value":"high"}],
            "action":"change_query_priority","value":"lowest"}]}]"#,
    ));
    assert_eq!((auto[0].metric_value, auto[0].action_value), (4.0, Some(Priority::Lowest)));
}

#[test]
fn service_classes_as_configured() {
    let rows = scheduler(CONFIG).service_class_config_rows();
    let numbers: Vec<u16> = rows.iter().map(|row| row.service_class.0).collect();
    assert_eq!(numbers, [5, 6, 7, 8, 14], "14 is there because acceleration is on");
    let names: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
    assert_eq!(
        names,
        ["Service class for super user", "Queue 1", "Loads", "Default queue", "Short query queue"]
    );
    let first = &rows[1];
    assert_eq!((first.num_query_tasks, first.target_num_query_tasks), (2, 2));
    assert_eq!((first.query_working_mem, first.target_query_working_mem), (4_096, 4_096));
    assert_eq!((first.evictable, first.eviction_threshold), (true, 5_000_000));
    assert_eq!(first.max_execution_time, 5_000_000);
    assert!(first.user_group_wild_card && !first.query_group_wild_card);
    assert_eq!((first.concurrency_scaling, rows[2].concurrency_scaling), ("auto", "off"));
    assert_eq!((rows[0].num_query_tasks, rows[0].query_working_mem), (1, 1_024));

    let auto = scheduler(r#"[{"auto_wlm":true,"priority":"high"}]"#);
    let rows = auto.service_class_config_rows();
    let numbers: Vec<u16> = rows.iter().map(|row| row.service_class.0).collect();
    assert_eq!(numbers, [5, 100]);
    assert_eq!((rows[1].num_query_tasks, rows[1].query_working_mem), (-1, -1));
    assert_eq!(rows[1].query_priority, Priority::High);
}

#[test]
fn queries_that_wait_and_run() {
    let mut scheduler = scheduler(CONFIG);
    for id in 1..=4 {
        arrive(&mut scheduler, id, Some("querygroup1"), Time(id * 1_000_000));
    }
    scheduler.handle(Event::Tick, Time(5_500_000));
    let running = scheduler.task_state_rows();
    assert_eq!(running.len(), 1);
    let row = running[0];
    assert_eq!((row.query.0, row.task.0, row.service_class.0, row.slot_count), (1, 1, 6, 2));
    assert_eq!((row.start_time, row.exec_time), (Time(1_000_000), 4_500_000));
    let waiting = scheduler.queue_state_rows();
    let places: Vec<_> = waiting.iter().map(|row| (row.position, row.query.0)).collect();
    assert_eq!(places, [(1, 2), (2, 3), (3, 4)]);
    assert_eq!((waiting[1].start_time, waiting[1].queue_time), (Time(3_000_000), 2_500_000));
    let all = scheduler.query_state_rows();
    assert_eq!((all[0].state, all[1].state, all[1].xid), ("Running", "QueuedWaiting", 502));
    scheduler.handle(Event::Returning { query: QueryId(1) }, Time(5_600_000));
    assert_eq!(scheduler.query_state_rows()[0].state, "Returning");
    let state = scheduler.service_class_state_rows()[1];
    assert_eq!((state.num_queued_queries, state.num_executing_queries), (3, 1));
    assert_eq!((state.num_serviced_queries, state.num_executed_queries), (4, 0));
}

fn metrics() -> QueryMetrics {
    let work = Work {
        cpu_time: Duration::from_secs(12),
        cpu_time_max: Duration::from_secs(6),
        blocks_read: 100,
        blocks_read_max: 40,
        temp_blocks: 9,
        temp_blocks_max: 5,
        run_time: Duration::from_secs(20),
        run_time_max: Duration::from_secs(8),
    };
    let step = |step, kind, rows| StepMetrics { step, kind, rows, rows_max: rows / 2 };
    QueryMetrics {
        slices: 4,
        memory_bytes: 0,
        memory_bytes_peak: 0,
        total: work,
        spectrum_rows: 0,
        spectrum_mb: 3,
        segments: vec![SegmentMetrics {
            segment: 1,
            work,
            steps: vec![
                step(0, StepKind::Scan, 1_000),
                step(1, StepKind::NestedLoop, 50),
                step(2, StepKind::HashJoin, 70),
                step(3, StepKind::ReturnToClient, 8),
            ],
        }],
    }
}

#[test]
fn figures_have_rows_for_query_segments_and_steps() {
    let mut scheduler = scheduler(CONFIG);
    arrive(&mut scheduler, 1, None, Time(1_000_000));
    let progress = Event::Progress { query: QueryId(1), metrics: Box::new(metrics()) };
    scheduler.handle(progress, Time(9_000_000));
    let rows = scheduler.query_metrics_rows();
    let places: Vec<_> = rows.iter().map(|row| (row.segment, row.step, row.step_type)).collect();
    assert_eq!(places, [(-1, -1, -1), (1, -1, -1), (1, 0, 1), (1, 1, 15), (1, 2, 10), (1, 3, 37)]);
    assert_eq!((rows[0].cpu_time, rows[0].max_cpu_time), (12_000_000, 6_000_000));
    assert_eq!((rows[0].blocks_read, rows[0].max_blocks_to_disk), (100, 5));
    assert_eq!((rows[0].query_scan_size, rows[1].query_scan_size), (3, -1));
    assert_eq!((rows[2].rows, rows[2].max_rows, rows[2].cpu_time), (1_000, 500, -1));
    assert_eq!(rows[0].owner.query_execution_time, 8_000_000);
    assert_eq!(rows[0].owner.starttime, Time(1_000_000));

    let ended = Event::Ended { query: QueryId(1), outcome: Outcome::Completed, metrics: None };
    let actions = scheduler.handle(ended, Time(17_000_000));
    let finished = actions.iter().find_map(|action| match action {
        crate::Action::LogQuery(finished) => Some(finished),
        _ => None,
    });
    let finished = finished.unwrap();
    let owner = MetricsOwner::from(&finished.row);
    assert_eq!(metrics_rows(&owner, &finished.metrics).len(), 6);
    let summary = metrics_summary(&owner, &finished.metrics);
    assert_eq!((summary.query_cpu_time, summary.query_execution_time), (12, 16));
    assert_eq!(summary.query_cpu_usage_percent, 75);
    assert_eq!((summary.query_blocks_read, summary.query_temp_blocks_to_disk), (100, 9));
    assert_eq!((summary.cpu_skew_hundredths, summary.io_skew_hundredths), (200, 160));
    assert_eq!((summary.scan_row_count, summary.join_row_count), (1_000, 70));
    assert_eq!((summary.nested_loop_join_row_count, summary.return_row_count), (50, 8));
    assert_eq!((summary.segment_execution_time, summary.spectrum_scan_size_mb), (8, 3));
    assert_eq!(summary.service_class, ServiceClass(8));
    let details = metrics_detail_rows(&finished.metrics);
    assert_eq!((details[0].dimension, details[0].cpu_skew_hundredths), ("segment", Some(200)));
    assert_eq!((details[1].step_label, details[1].scan_row_count), (Some("scan"), Some(1_000)));
    assert_eq!((details[2].join_row_count, details[2].scan_row_count), (Some(50), None));
}
