//! What a task has measured, on its way to the leader.
//!
//! Metrics are listed by operator of the task's plan, from the top, each before its inputs, as the
//! leader lists the operators of the stage. What only the node has put into the plan is left out
//! ([`crate::plan::stop`]).

use std::borrow::Cow;
use std::sync::Arc;

use chrono::DateTime;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::metrics::{
    Count, Gauge, Metric, MetricValue, MetricsSet, Time, Timestamp,
};
use datafusion_distributed::TaskMetrics;

use super::messages::{Measured, MetricKind, MetricMessage, OperatorMetrics};
use crate::memory::QueryMemory;

/// The metric with the bytes that a network boundary got from other processes.
pub const BYTES_RECEIVED: &str = "bytes_received";
/// The metric, of the first operator of a task, with the most memory that all tasks of the query had
/// reserved on the node.
pub const QUERY_MEMORY_PEAK: &str = "query_memory_peak";
/// The same of the memory that they have reserved now.
pub const QUERY_MEMORY: &str = "query_memory";

/// What the operators of a task have measured so far. Memory is not known of a query without a grant.
pub(super) fn measured(plan: &Arc<dyn ExecutionPlan>, memory: Option<&QueryMemory>) -> Measured {
    let mut operators = Vec::new();
    collect(plan, &mut operators);
    if let (Some(first), Some(memory)) = (operators.first_mut(), memory) {
        let gauge = |name: &str, bytes: usize| MetricMessage {
            kind: MetricKind::Gauge.into(),
            name: name.to_owned(),
            value: bytes as u64,
            partition: None,
        };
        first.metrics.push(gauge(QUERY_MEMORY_PEAK, memory.peak_bytes()));
        first.metrics.push(gauge(QUERY_MEMORY, memory.reserved_bytes()));
    }
    Measured { operators }
}

fn collect(plan: &Arc<dyn ExecutionPlan>, operators: &mut Vec<OperatorMetrics>) {
    if !is_of_node(plan) {
        let metrics = plan.metrics().unwrap_or_default();
        let metrics = metrics.iter().filter_map(|metric| to_message(metric)).collect();
        operators.push(OperatorMetrics { metrics });
    }
    for child in plan.children() {
        collect(child, operators);
    }
}

/// Whether the node has put the operator into the plan: what lets a join be stopped.
fn is_of_node(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.downcast_ref::<CooperativeExec>().is_some_and(|cooperative| {
        let input = cooperative.input();
        input.is::<HashJoinExec>()
            || input.is::<NestedLoopJoinExec>()
            || input.is::<CrossJoinExec>()
            || input.is::<SortMergeJoinExec>()
    })
}

/// As the library takes it at the leader.
pub(super) fn to_task_metrics(measured: Measured) -> TaskMetrics {
    let of_operator = |operator: OperatorMetrics| {
        let mut metrics = MetricsSet::new();
        for message in operator.metrics {
            if let Some(metric) = from_message(message) {
                metrics.push(Arc::new(metric));
            }
        }
        metrics
    };
    TaskMetrics {
        pre_order_plan_metrics: measured.operators.into_iter().map(of_operator).collect(),
        task_metrics: MetricsSet::new(),
    }
}

/// The metric as it travels; None if the leader has no use for it.
fn to_message(metric: &Metric) -> Option<MetricMessage> {
    let value = metric.value();
    let kind = match value {
        MetricValue::OutputRows(_) => MetricKind::OutputRows,
        MetricValue::OutputBytes(_) => MetricKind::OutputBytes,
        MetricValue::ElapsedCompute(_) => MetricKind::ElapsedCompute,
        MetricValue::SpilledBytes(_) => MetricKind::SpilledBytes,
        MetricValue::Count { .. } => MetricKind::Count,
        MetricValue::Gauge { .. } => MetricKind::Gauge,
        MetricValue::PeakMemoryUsage { .. } => MetricKind::PeakMemory,
        MetricValue::Time { .. } => MetricKind::Time,
        MetricValue::StartTimestamp(_) => MetricKind::Started,
        MetricValue::EndTimestamp(_) => MetricKind::Ended,
        MetricValue::SpillCount(_)
        | MetricValue::OutputBatches(_)
        | MetricValue::SpilledRows(_)
        | MetricValue::CurrentMemoryUsage(_)
        | MetricValue::PruningMetrics { .. }
        | MetricValue::Ratio { .. }
        | MetricValue::Custom { .. } => return None,
    };
    Some(MetricMessage {
        kind: kind.into(),
        name: value.name().to_owned(),
        value: value.as_usize() as u64,
        partition: metric.partition().map(|partition| partition as u64),
    })
}

/// None for a kind that this process does not know.
fn from_message(message: MetricMessage) -> Option<Metric> {
    let kind = MetricKind::try_from(message.kind).ok()?;
    let value = usize::try_from(message.value).unwrap_or(usize::MAX);
    let name: Cow<'static, str> = Cow::Owned(message.name);
    let count = || {
        let count = Count::new();
        count.add(value);
        count
    };
    let gauge = || {
        let gauge = Gauge::new();
        gauge.set(value);
        gauge
    };
    let time = || {
        let time = Time::new();
        time.add_duration(std::time::Duration::from_nanos(message.value));
        time
    };
    let timestamp = || {
        let timestamp = Timestamp::new();
        if value > 0 {
            timestamp.set(DateTime::from_timestamp_nanos(i64::try_from(value).unwrap_or(i64::MAX)));
        }
        timestamp
    };
    let value = match kind {
        MetricKind::OutputRows => MetricValue::OutputRows(count()),
        MetricKind::OutputBytes => MetricValue::OutputBytes(count()),
        MetricKind::ElapsedCompute => MetricValue::ElapsedCompute(time()),
        MetricKind::SpilledBytes => MetricValue::SpilledBytes(count()),
        MetricKind::Count => MetricValue::Count { name, count: count() },
        MetricKind::Gauge => MetricValue::Gauge { name, gauge: gauge() },
        MetricKind::PeakMemory => MetricValue::PeakMemoryUsage { name, gauge: gauge() },
        MetricKind::Time => MetricValue::Time { name, time: time() },
        MetricKind::Started => MetricValue::StartTimestamp(timestamp()),
        MetricKind::Ended => MetricValue::EndTimestamp(timestamp()),
    };
    let partition = message.partition.and_then(|partition| usize::try_from(partition).ok());
    Some(Metric::new(value, partition))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder};

    #[test]
    fn metrics_arrive_as_they_were() {
        let metrics = ExecutionPlanMetricsSet::new();
        MetricBuilder::new(&metrics).output_rows(1).add(7);
        MetricBuilder::new(&metrics).spilled_bytes(0).add(8);
        MetricBuilder::new(&metrics).counter("rows_scanned", 1).add(9);
        MetricBuilder::new(&metrics).peak_memory_usage("build_mem_used", 1).add(10);
        MetricBuilder::new(&metrics).global_counter(BYTES_RECEIVED).add(11);
        let nanoseconds = std::time::Duration::from_nanos(12);
        MetricBuilder::new(&metrics).elapsed_compute(0).add_duration(nanoseconds);
        MetricBuilder::new(&metrics).start_timestamp(1).record();
        // Of what has not ended.
        MetricBuilder::new(&metrics).end_timestamp(1);
        for metric in metrics.clone_inner().iter() {
            let arrived = from_message(to_message(metric).unwrap()).unwrap();
            assert_eq!(arrived.value(), metric.value());
            assert_eq!(arrived.partition(), metric.partition());
        }
    }
}
