//! What a query has done, from the metrics of its operators here and on other nodes.
//!
//! An operator is a step; steps that run as one pipeline are a segment, and partitions count as
//! slices. Processor time is what operators measured while they were polled. Other nodes say every
//! two seconds what they have done so far, and at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use compute::exchange::{QUERY_MEMORY, QUERY_MEMORY_PEAK};
use compute::layout::Layout;
use compute::memory::QueryMemory;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::metrics::{MetricValue, MetricsSet};
use datafusion::physical_plan::sorts::sort::SortExec;
use wlm::{QueryMetrics, SegmentMetrics, StepKind, StepMetrics, Work};

use crate::planner::explain::{memory_by_node, slice_of, wait_for_metrics, with_metrics_so_far};
use crate::session::Clock;

/// Segments that are told apart; plans of clients have no bound of their own.
const SEGMENTS_MAX: usize = 256;

/// How long to wait for the last figures of nodes. Their last words come before the last row, and
/// have only to be put together.
const SETTLED_WITHIN: Duration = Duration::from_millis(100);

/// The figures of a query that runs.
pub struct Figures {
    /// As it is executed; None if it has none.
    plan: Option<Arc<dyn ExecutionPlan>>,
    layout: Layout,
    rows_returned: AtomicU64,
    clock: Clock,
}

impl std::fmt::Debug for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Figures").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Figures {
    /// Of a plan as this process executes it, on its own slices or with other nodes.
    pub fn new(plan: Option<Arc<dyn ExecutionPlan>>, layout: Layout, clock: Clock) -> Arc<Self> {
        Arc::new(Self { plan, layout, rows_returned: AtomicU64::new(0), clock })
    }

    /// Waits for the last words of all nodes, after the last row.
    pub async fn settle(&self) {
        if let Some(plan) = &self.plan {
            // Who has said nothing by then is left out.
            let _ = tokio::time::timeout(SETTLED_WITHIN, wait_for_metrics(plan)).await;
        }
    }

    /// Rows have gone to the client.
    pub fn add_returned(&self, rows: usize) {
        self.rows_returned.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Whether the client may have seen any of the rows.
    pub fn has_returned(&self) -> bool {
        self.rows_returned.load(Ordering::Relaxed) > 0
    }

    /// All figures so far.
    pub fn metrics(&self, memory: &QueryMemory) -> QueryMetrics {
        let slices_per_node = self.layout.slices_per_node();
        let mut segments =
            Segments { list: vec![Segment::default()], now: (self.clock)(), slices_per_node };
        let mut metrics = QueryMetrics {
            slices: u32::try_from(self.layout.slices()).unwrap_or(u32::MAX),
            memory_bytes: memory.reserved_bytes() as u64,
            memory_bytes_peak: memory.peak_bytes() as u64,
            ..QueryMetrics::default()
        };
        let mut total = Work::default();
        if let Some(plan) = self.plan.as_ref().and_then(with_metrics_so_far) {
            segments.add(&plan, 0);
            // Of the node that has the most: a grant is for each of them.
            let most = |gauge| {
                let nodes = memory_by_node(&plan, gauge).unwrap_or_default();
                nodes.into_values().max().unwrap_or(0)
            };
            metrics.memory_bytes = metrics.memory_bytes.max(most(QUERY_MEMORY));
            metrics.memory_bytes_peak = metrics.memory_bytes_peak.max(most(QUERY_MEMORY_PEAK));
        }
        for (number, segment) in (0..).zip(segments.list) {
            let segment = segment.finish(number);
            add_work(&mut total, &segment.work);
            metrics.segments.push(segment);
        }
        metrics.total = total;
        let rows = self.rows_returned.load(Ordering::Relaxed);
        if let Some(first) = metrics.segments.first_mut() {
            let step = u32::try_from(first.steps.len()).unwrap_or(u32::MAX);
            first.steps.push(StepMetrics {
                step,
                kind: StepKind::ReturnToClient,
                rows,
                rows_max: rows,
            });
        }
        metrics
    }
}

fn add_work(total: &mut Work, work: &Work) {
    total.cpu_time += work.cpu_time;
    total.cpu_time_max += work.cpu_time_max;
    total.blocks_read += work.blocks_read;
    total.blocks_read_max += work.blocks_read_max;
    total.temp_blocks += work.temp_blocks;
    total.temp_blocks_max += work.temp_blocks_max;
    total.run_time += work.run_time;
    total.run_time_max = total.run_time_max.max(work.run_time_max);
}

struct Segments {
    list: Vec<Segment>,
    now: DateTime<Utc>,
    slices_per_node: usize,
}

/// A segment while its steps are collected.
#[derive(Default)]
struct Segment {
    slices: Vec<SliceWork>,
    steps: Vec<(StepKind, u64, u64)>,
}

/// What a slice did in a segment.
#[derive(Debug, Clone, Copy, Default)]
struct SliceWork {
    cpu_ns: u64,
    bytes_read: u64,
    bytes_spilled: u64,
    started: Option<DateTime<Utc>>,
    ended: Option<DateTime<Utc>>,
}

impl Segments {
    fn add(&mut self, plan: &Arc<dyn ExecutionPlan>, segment: usize) {
        let metrics = plan.metrics().unwrap_or_default();
        let now = self.now;
        let own = &mut self.list[segment];
        let kind = step_kind(plan);
        let rows = own.add(&metrics, kind, now, self.slices_per_node);
        if let Some(kind) = kind {
            own.steps.push((kind, rows.iter().sum(), rows.iter().copied().max().unwrap_or(0)));
        }
        let children = plan.children();
        for (index, child) in children.iter().enumerate() {
            let is_new = ends_pipeline(plan, index) && self.list.len() < SEGMENTS_MAX;
            let next = if is_new {
                self.list.push(Segment::default());
                self.list.len() - 1
            } else {
                segment
            };
            self.add(child, next);
        }
    }
}

impl Segment {
    /// Adds an operator's metrics. Answers with its rows, by slice.
    fn add(
        &mut self,
        metrics: &MetricsSet,
        kind: Option<StepKind>,
        now: DateTime<Utc>,
        slices_per_node: usize,
    ) -> Vec<u64> {
        let mut rows: Vec<u64> = Vec::new();
        for metric in metrics.iter() {
            let slice = slice_of(metric, slices_per_node);
            if slice >= self.slices.len() {
                self.slices.resize(slice + 1, SliceWork::default());
            }
            if slice >= rows.len() {
                rows.resize(slice + 1, 0);
            }
            let work = &mut self.slices[slice];
            match metric.value() {
                MetricValue::ElapsedCompute(time) => work.cpu_ns += time.value() as u64,
                MetricValue::SpilledBytes(count) => work.bytes_spilled += count.value() as u64,
                MetricValue::OutputRows(count) if kind != Some(StepKind::Scan) => {
                    rows[slice] += count.value() as u64;
                }
                MetricValue::Count { name, count } if name == "bytes_scanned" => {
                    work.bytes_read += count.value() as u64;
                }
                MetricValue::Count { name, count } if name == "rows_scanned" => {
                    rows[slice] += count.value() as u64;
                }
                MetricValue::StartTimestamp(at) => {
                    work.started = earliest(work.started, at.value());
                }
                MetricValue::EndTimestamp(at) => {
                    work.ended = work.ended.max(Some(at.value().unwrap_or(now)));
                }
                _ => {}
            }
        }
        rows
    }

    fn finish(self, number: u32) -> SegmentMetrics {
        const BLOCK: u64 = 1 << 20;
        let mut work = Work::default();
        for slice in &self.slices {
            let cpu_time = Duration::from_nanos(slice.cpu_ns);
            let (read, spilled) =
                (slice.bytes_read.div_ceil(BLOCK), slice.bytes_spilled.div_ceil(BLOCK));
            let run_time = slice.run_time();
            work.cpu_time += cpu_time;
            work.cpu_time_max = work.cpu_time_max.max(cpu_time);
            work.blocks_read += read;
            work.blocks_read_max = work.blocks_read_max.max(read);
            work.temp_blocks += spilled;
            work.temp_blocks_max = work.temp_blocks_max.max(spilled);
            work.run_time += run_time;
            work.run_time_max = work.run_time_max.max(run_time);
        }
        // The step nearest to the data comes first.
        let steps = (0..).zip(self.steps.into_iter().rev());
        let steps =
            steps.map(|(step, (kind, rows, rows_max))| StepMetrics { step, kind, rows, rows_max });
        SegmentMetrics { segment: number, work, steps: steps.collect() }
    }
}

impl SliceWork {
    fn run_time(&self) -> Duration {
        match (self.started, self.ended) {
            (Some(started), Some(ended)) => (ended - started).to_std().unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

fn earliest(known: Option<DateTime<Utc>>, new: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (known, new) {
        (Some(known), Some(new)) => Some(known.min(new)),
        (known, new) => known.or(new),
    }
}

/// Whether a child is consumed before its parent gives a row, or runs in tasks of its own.
fn ends_pipeline(plan: &Arc<dyn ExecutionPlan>, child: usize) -> bool {
    let builds =
        plan.is::<HashJoinExec>() || plan.is::<NestedLoopJoinExec>() || plan.is::<CrossJoinExec>();
    let gathers = matches!(
        plan.name(),
        "AggregateExec"
            | "SortExec"
            | "RepartitionExec"
            | "CoalescePartitionsExec"
            | "SortPreservingMergeExec"
    );
    gathers || (builds && child == 0) || (plan.is::<SortMergeJoinExec>() && child == 1)
}

/// What Redshift would call the step of an operator, if it counts as one.
fn step_kind(plan: &Arc<dyn ExecutionPlan>) -> Option<StepKind> {
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        let is_limited = sort.fetch().is_some();
        return Some(if is_limited { StepKind::SortLimit } else { StepKind::Sort });
    }
    Some(match plan.name() {
        // On several nodes it stands for the scans of all of them.
        "SliceScanExec" | "DistributedLeafExec" => StepKind::Scan,
        "AggregateExec" => StepKind::Aggregate,
        "SortPreservingMergeExec" => StepKind::Merge,
        "RepartitionExec" => StepKind::Distribute,
        "HashJoinExec" => StepKind::HashJoin,
        "SortMergeJoinExec" => StepKind::MergeJoin,
        "NestedLoopJoinExec" | "CrossJoinExec" => StepKind::NestedLoop,
        "ProjectionExec" => StepKind::Project,
        "GlobalLimitExec" | "LocalLimitExec" => StepKind::Limit,
        "WindowAggExec" | "BoundedWindowAggExec" => StepKind::Window,
        _ => return None,
    })
}
