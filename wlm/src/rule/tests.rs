//! When rules fire: the documented templates, levels, units and operators.

use super::*;
use crate::metrics::{StepMetrics, Work};

fn predicate(metric: Metric, operator: Operator, number: f64) -> Predicate {
    Predicate { metric, operator, threshold: Threshold::Number(number) }
}

fn rule(predicates: Vec<Predicate>) -> Rule {
    Rule { name: Arc::from("r"), predicates, action: RuleAction::Log }
}

fn above(metric: Metric, number: f64) -> Rule {
    rule(vec![predicate(metric, Operator::Greater, number)])
}

fn facts(metrics: &QueryMetrics) -> Facts<'_> {
    Facts {
        metrics,
        execution_time: Some(Duration::from_secs(50)),
        queue_time: Duration::from_secs(7),
        priority: Priority::Normal,
    }
}

fn step(kind: StepKind, rows: u64) -> StepMetrics {
    StepMetrics { step: 0, kind, rows, rows_max: rows }
}

fn segment(segment: u32, work: Work, steps: Vec<StepMetrics>) -> SegmentMetrics {
    SegmentMetrics { segment, work, steps }
}

#[test]
fn every_metric_is_described_once_and_found_by_name() {
    for (metric, name, _, _) in METRICS {
        assert_eq!(Metric::parse(name), Some(*metric));
        assert_eq!(metric.name(), *name);
    }
    assert_eq!(METRICS.len(), 16);
    assert_eq!(Metric::parse("QUERY_CPU_TIME"), None);
}

/// The templates that the console offers.
#[test]
fn documented_templates_fire_where_they_should() {
    let check = |rule: &Rule, below: StepKind, rows: u64, expected: bool| {
        let metrics = QueryMetrics {
            segments: vec![segment(0, Work::default(), vec![step(below, rows)])],
            ..QueryMetrics::default()
        };
        assert_eq!(rule.fires(&facts(&metrics)), expected, "{rule:?} {below:?} {rows}");
    };
    let nested_loop = above(Metric::NestedLoopJoinRowCount, 100.0);
    check(&nested_loop, StepKind::NestedLoop, 101, true);
    check(&nested_loop, StepKind::NestedLoop, 100, false);
    check(&nested_loop, StepKind::HashJoin, 101, false);
    let returned = above(Metric::ReturnRowCount, 1_000_000.0);
    check(&returned, StepKind::ReturnToClient, 1_000_001, true);
    check(&returned, StepKind::ReturnToLeader, 1_000_001, false);
    let joined = above(Metric::JoinRowCount, 1_000_000_000.0);
    check(&joined, StepKind::HashJoin, 1_000_000_001, true);
    check(&joined, StepKind::MergeJoin, 1_000_000_001, true);
    check(&joined, StepKind::Scan, 1_000_000_001, false);
    let scanned = above(Metric::ScanRowCount, 5.0);
    check(&scanned, StepKind::Scan, 6, true);
}

#[test]
fn figures_of_the_query_are_compared_in_their_units() {
    let metrics = QueryMetrics {
        slices: 4,
        total: Work {
            cpu_time: Duration::from_millis(75_900),
            blocks_read: 30,
            temp_blocks: 8,
            ..Work::default()
        },
        spectrum_rows: 3,
        spectrum_mb: 2,
        ..QueryMetrics::default()
    };
    let check = |metric, value: f64| {
        let facts = facts(&metrics);
        for (operator, threshold, expected) in [
            (Operator::Equal, value, true),
            (Operator::Greater, value, false),
            (Operator::Greater, value - 1.0, true),
            (Operator::Less, value, false),
            (Operator::Less, value + 1.0, true),
        ] {
            let rule = rule(vec![predicate(metric, operator, threshold)]);
            assert_eq!(rule.fires(&facts), expected, "{metric:?} {operator:?} {threshold}");
        }
    };
    check(Metric::QueryCpuTime, 75.0);
    check(Metric::QueryBlocksRead, 30.0);
    check(Metric::QueryTempBlocksToDisk, 8.0);
    check(Metric::QueryExecutionTime, 50.0);
    check(Metric::QueryQueueTime, 7.0);
    check(Metric::QueryCpuUsagePercent, 151.0);
    check(Metric::SpectrumScanRowCount, 3.0);
    check(Metric::SpectrumScanSizeMb, 2.0);
}

/// `segment_execution_time > 120 AND io_skew > 1.30` is about one segment that was both.
#[test]
fn predicates_about_segments_hold_for_the_same_segment() {
    let slow = |seconds| Work { run_time_max: Duration::from_secs(seconds), ..Work::default() };
    let skewed = Work { blocks_read: 400, blocks_read_max: 131, ..Work::default() };
    let rule = rule(vec![
        predicate(Metric::SegmentExecutionTime, Operator::Greater, 120.0),
        predicate(Metric::IoSkew, Operator::Greater, 1.30),
        predicate(Metric::QueryExecutionTime, Operator::Greater, 49.0),
    ]);
    let fires = |segments| {
        let metrics = QueryMetrics { slices: 4, segments, ..QueryMetrics::default() };
        rule.fires(&facts(&metrics))
    };
    let both = Work { run_time_max: Duration::from_secs(121), ..skewed };
    assert!(!fires(vec![segment(0, slow(121), vec![]), segment(1, skewed, vec![])]));
    assert!(fires(vec![segment(0, slow(1), vec![]), segment(1, both, vec![])]));
    let even = Work { blocks_read_max: 130, ..both };
    assert!(!fires(vec![segment(0, even, vec![])]), "1.30 is not above 1.30");
}

#[test]
fn skew_is_the_busiest_slice_over_the_average() {
    let work = Work {
        cpu_time: Duration::from_secs(40),
        cpu_time_max: Duration::from_secs(25),
        ..Work::default()
    };
    assert_eq!(work.cpu_skew_hundredths(4), 250, "25 s where the average slice has 10 s");
    assert_eq!(work.io_skew_hundredths(4), 0, "nothing was read");
}

#[test]
fn priorities_are_ordered() {
    let metrics = QueryMetrics::default();
    let check = |operator, priority, expected| {
        let threshold = Threshold::Priority(priority);
        let rule = rule(vec![Predicate { metric: Metric::QueryPriority, operator, threshold }]);
        assert_eq!(rule.fires(&facts(&metrics)), expected, "{operator:?} {priority}");
    };
    check(Operator::Equal, Priority::Normal, true);
    check(Operator::Greater, Priority::Low, true);
    check(Operator::Less, Priority::High, true);
    check(Operator::Less, Priority::Normal, false);
}

#[test]
fn a_waiting_query_has_only_its_time_in_the_queue() {
    let metrics = QueryMetrics::default();
    let waiting = Facts { execution_time: None, ..facts(&metrics) };
    assert!(above(Metric::QueryQueueTime, 6.0).fires(&waiting));
    let both = rule(vec![
        predicate(Metric::QueryQueueTime, Operator::Greater, 6.0),
        predicate(Metric::QueryCpuTime, Operator::Less, 5.0),
    ]);
    assert!(!both.fires(&waiting), "it has used no CPU because it has not begun");
    assert!(both.fires(&facts(&metrics)));
}
