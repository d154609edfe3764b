//! Figures of queries: `stv_query_metrics` and `stl_query_metrics` (the same columns, of running
//! and of ended queries), `svl_query_metrics` and `svl_query_metrics_summary`.
//!
//! Rows exist for the query as a whole (segment and step -1), for each segment (step -1) and for
//! each step.

use std::sync::Arc;

use crate::ids::{QueryId, ServiceClass, UserId};
use crate::metrics::{QueryMetrics, SegmentMetrics, StepKind, StepMetrics, Work};
use crate::priority::Priority;
use crate::rule::cpu_usage_percent;
use crate::scheduler::{Query, Scheduler};
use crate::time::{Time, micros};
use crate::view::WlmQueryRow;

/// Whose figures they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsOwner {
    /// The user.
    pub userid: UserId,
    /// The query.
    pub query: QueryId,
    /// Where it runs or ran.
    pub service_class: ServiceClass,
    /// The name of the service class.
    pub service_class_name: Arc<str>,
    /// When it began to run.
    pub starttime: Time,
    /// Its priority.
    pub query_priority: Priority,
    /// Time in the queue, in microseconds.
    pub query_queue_time: u64,
    /// Time it has run, in microseconds.
    pub query_execution_time: u64,
}

/// A row of `stv_query_metrics` or `stl_query_metrics`. Of the two, only the latter shows the name
/// of the service class. Columns that do not apply to a row are -1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryMetricsRow {
    /// Whose.
    pub owner: MetricsOwner,
    /// The segment, or -1.
    pub segment: i64,
    /// The step, or -1.
    pub step: i64,
    /// What the step does, or -1.
    pub step_type: i64,
    /// Slices.
    pub slices: u32,
    /// Rows processed by the step.
    pub rows: i64,
    /// The most that one slice processed.
    pub max_rows: i64,
    /// CPU time in microseconds.
    pub cpu_time: i64,
    /// Of the busiest slice.
    pub max_cpu_time: i64,
    /// Blocks of 1 MB read.
    pub blocks_read: i64,
    /// Of the slice that read most.
    pub max_blocks_read: i64,
    /// Run time in microseconds.
    pub run_time: i64,
    /// Of the slice that ran longest.
    pub max_run_time: i64,
    /// Blocks of 1 MB written to disk for want of memory.
    pub blocks_to_disk: i64,
    /// Of the slice that wrote most.
    pub max_blocks_to_disk: i64,
    /// Megabytes read from external tables.
    pub query_scan_size: i64,
    /// The same: slices do not report it apart.
    pub max_query_scan_size: i64,
}

/// A row of `svl_query_metrics_summary`: the metrics of rules, for a whole query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricsSummaryRow {
    /// The user.
    pub userid: UserId,
    /// The query.
    pub query: QueryId,
    /// Where it ran.
    pub service_class: ServiceClass,
    /// In seconds.
    pub query_cpu_time: u64,
    /// In blocks of 1 MB.
    pub query_blocks_read: u64,
    /// In seconds.
    pub query_execution_time: u64,
    /// In percent.
    pub query_cpu_usage_percent: u64,
    /// In blocks of 1 MB.
    pub query_temp_blocks_to_disk: u64,
    /// Of the segment that ran longest, in seconds.
    pub segment_execution_time: u64,
    /// Of the most skewed segment, in hundredths.
    pub cpu_skew_hundredths: u64,
    /// Of the most skewed segment, in hundredths.
    pub io_skew_hundredths: u64,
    /// Of the scan that read most.
    pub scan_row_count: u64,
    /// Of the join that processed most.
    pub join_row_count: u64,
    /// Of the join without equality that processed most.
    pub nested_loop_join_row_count: u64,
    /// Rows sent to the client.
    pub return_row_count: u64,
    /// Rows from external tables.
    pub spectrum_scan_row_count: u64,
    /// Megabytes from external tables.
    pub spectrum_scan_size_mb: u64,
    /// In seconds.
    pub query_queue_time: u64,
}

/// A row of `svl_query_metrics` about a segment or step; the row about the query is
/// [`MetricsSummaryRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepMetricsRow {
    /// `segment` or `step`.
    pub dimension: &'static str,
    /// The segment.
    pub segment: u32,
    /// The step, of a step.
    pub step: Option<u32>,
    /// What the step does.
    pub step_label: Option<&'static str>,
    /// In seconds, of a segment.
    pub segment_execution_time: Option<u64>,
    /// In hundredths, of a segment.
    pub cpu_skew_hundredths: Option<u64>,
    /// In hundredths, of a segment.
    pub io_skew_hundredths: Option<u64>,
    /// Of a scan.
    pub scan_row_count: Option<u64>,
    /// Of a join.
    pub join_row_count: Option<u64>,
    /// Of a join without equality.
    pub nested_loop_join_row_count: Option<u64>,
    /// Of the return to the client.
    pub return_row_count: Option<u64>,
}

impl From<&WlmQueryRow> for MetricsOwner {
    fn from(row: &WlmQueryRow) -> Self {
        Self {
            userid: row.userid,
            query: row.query,
            service_class: row.service_class,
            service_class_name: Arc::clone(&row.service_class_name),
            starttime: row.exec_start_time.unwrap_or(row.queue_end_time),
            query_priority: row.query_priority,
            query_queue_time: row.total_queue_time,
            query_execution_time: row.total_exec_time,
        }
    }
}

impl Scheduler {
    /// The rows of `stv_query_metrics`.
    pub fn query_metrics_rows(&self) -> Vec<QueryMetricsRow> {
        let rows = |(id, query): (&QueryId, &Query)| {
            let running = query.running()?;
            let owner = MetricsOwner {
                userid: query.request.user,
                query: *id,
                service_class: running.hold.class,
                service_class_name: self.name_of(running.hold.class),
                starttime: running.started,
                query_priority: query.priority,
                query_queue_time: micros(query.waited),
                query_execution_time: micros(self.now.since(running.started)),
            };
            Some(metrics_rows(&owner, &query.metrics))
        };
        self.live.iter().filter_map(rows).flatten().collect()
    }
}

/// The rows of a query in `stv_query_metrics` or `stl_query_metrics`.
pub fn metrics_rows(owner: &MetricsOwner, metrics: &QueryMetrics) -> Vec<QueryMetricsRow> {
    let whole = work_row(owner, metrics, -1, &metrics.total);
    let spectrum = signed(metrics.spectrum_mb);
    let whole =
        QueryMetricsRow { query_scan_size: spectrum, max_query_scan_size: spectrum, ..whole };
    let mut rows = vec![whole];
    for segment in &metrics.segments {
        let number = i64::from(segment.segment);
        rows.push(work_row(owner, metrics, number, &segment.work));
        rows.extend(segment.steps.iter().map(|step| step_row(owner, metrics, number, step)));
    }
    rows
}

/// The row of a query in `svl_query_metrics_summary`.
pub fn metrics_summary(owner: &MetricsOwner, metrics: &QueryMetrics) -> MetricsSummaryRow {
    let most = |of: fn(&SegmentMetrics, u32) -> u64| {
        let segments = metrics.segments.iter();
        segments.map(|segment| of(segment, metrics.slices)).max().unwrap_or(0)
    };
    let execution_time = std::time::Duration::from_micros(owner.query_execution_time);
    MetricsSummaryRow {
        userid: owner.userid,
        query: owner.query,
        service_class: owner.service_class,
        query_cpu_time: metrics.total.cpu_time.as_secs(),
        query_blocks_read: metrics.total.blocks_read,
        query_execution_time: execution_time.as_secs(),
        query_cpu_usage_percent: cpu_usage_percent(metrics.total.cpu_time, execution_time),
        query_temp_blocks_to_disk: metrics.total.temp_blocks,
        segment_execution_time: most(|segment, _| segment.work.run_time_max.as_secs()),
        cpu_skew_hundredths: most(|segment, slices| segment.work.cpu_skew_hundredths(slices)),
        io_skew_hundredths: most(|segment, slices| segment.work.io_skew_hundredths(slices)),
        scan_row_count: metrics.rows_of(|kind| kind == StepKind::Scan),
        join_row_count: metrics.rows_of(StepKind::is_join),
        nested_loop_join_row_count: metrics.rows_of(|kind| kind == StepKind::NestedLoop),
        return_row_count: metrics.rows_of(|kind| kind == StepKind::ReturnToClient),
        spectrum_scan_row_count: metrics.spectrum_rows,
        spectrum_scan_size_mb: metrics.spectrum_mb,
        query_queue_time: owner.query_queue_time / 1_000_000,
    }
}

/// The rows of a query in `svl_query_metrics` about its segments and steps.
pub fn metrics_detail_rows(metrics: &QueryMetrics) -> Vec<StepMetricsRow> {
    let empty = StepMetricsRow {
        dimension: "segment",
        segment: 0,
        step: None,
        step_label: None,
        segment_execution_time: None,
        cpu_skew_hundredths: None,
        io_skew_hundredths: None,
        scan_row_count: None,
        join_row_count: None,
        nested_loop_join_row_count: None,
        return_row_count: None,
    };
    let mut rows = Vec::new();
    for segment in &metrics.segments {
        rows.push(StepMetricsRow {
            segment: segment.segment,
            segment_execution_time: Some(segment.work.run_time_max.as_secs()),
            cpu_skew_hundredths: Some(segment.work.cpu_skew_hundredths(metrics.slices)),
            io_skew_hundredths: Some(segment.work.io_skew_hundredths(metrics.slices)),
            ..empty
        });
        rows.extend(segment.steps.iter().map(|step| {
            let rows_if = |wanted: bool| wanted.then_some(step.rows);
            StepMetricsRow {
                dimension: "step",
                segment: segment.segment,
                step: Some(step.step),
                step_label: Some(step.kind.label()),
                scan_row_count: rows_if(step.kind == StepKind::Scan),
                join_row_count: rows_if(step.kind.is_join()),
                nested_loop_join_row_count: rows_if(step.kind == StepKind::NestedLoop),
                return_row_count: rows_if(step.kind == StepKind::ReturnToClient),
                ..empty
            }
        }));
    }
    rows
}

fn work_row(
    owner: &MetricsOwner,
    metrics: &QueryMetrics,
    segment: i64,
    work: &Work,
) -> QueryMetricsRow {
    QueryMetricsRow {
        owner: owner.clone(),
        segment,
        step: -1,
        step_type: -1,
        slices: metrics.slices,
        rows: -1,
        max_rows: -1,
        cpu_time: signed(micros(work.cpu_time)),
        max_cpu_time: signed(micros(work.cpu_time_max)),
        blocks_read: signed(work.blocks_read),
        max_blocks_read: signed(work.blocks_read_max),
        run_time: signed(micros(work.run_time)),
        max_run_time: signed(micros(work.run_time_max)),
        blocks_to_disk: signed(work.temp_blocks),
        max_blocks_to_disk: signed(work.temp_blocks_max),
        query_scan_size: -1,
        max_query_scan_size: -1,
    }
}

fn step_row(
    owner: &MetricsOwner,
    metrics: &QueryMetrics,
    segment: i64,
    step: &StepMetrics,
) -> QueryMetricsRow {
    QueryMetricsRow {
        owner: owner.clone(),
        segment,
        step: i64::from(step.step),
        step_type: i64::from(step.kind.code()),
        slices: metrics.slices,
        rows: signed(step.rows),
        max_rows: signed(step.rows_max),
        cpu_time: -1,
        max_cpu_time: -1,
        blocks_read: -1,
        max_blocks_read: -1,
        run_time: -1,
        max_run_time: -1,
        blocks_to_disk: -1,
        max_blocks_to_disk: -1,
        query_scan_size: -1,
        max_query_scan_size: -1,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
