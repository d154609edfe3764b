//! What an operator did, from the metrics of the nodes of the plan that it stands for.
//!
//! Rows are those that came out of a slice's share of the operator. Slices of one node may take work
//! from each other, so that the figure says what each has done, not what lies on it.

use std::collections::BTreeMap;
use std::time::Duration;

use compute::exchange::BYTES_RECEIVED;
use datafusion::physical_plan::metrics::{Metric, MetricValue, MetricsSet};
use datafusion_distributed::DISTRIBUTED_DATAFUSION_TASK_ID_LABEL;

use super::Plan;

/// More slices than this are summed up by node.
const SLICES_SHOWN_MAX: usize = 32;

/// The figures of an operator. Of several nodes of a plan: the rows of the uppermost, the sum of
/// what all of them used.
#[derive(Debug, Clone, Default)]
pub(super) struct Actual {
    /// By node and by slice of the node.
    rows: BTreeMap<(u64, usize), u64>,
    compute: Duration,
    memory_bytes: u64,
    spilled_bytes: u64,
    moved: Option<Moved>,
}

/// Rows that arrived somewhere else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Moved {
    rows: u64,
    /// Of the rows in memory.
    bytes: u64,
    /// As they came from other processes.
    network_bytes: u64,
}

impl Actual {
    /// What a node of a plan did.
    pub(super) fn of(plan: &Plan) -> Self {
        let metrics = plan.metrics().unwrap_or_default();
        let mut actual = Self::default();
        for metric in metrics.iter() {
            actual.add(metric);
        }
        actual
    }

    /// What came over a network boundary.
    pub(super) fn of_boundary(plan: &Plan) -> Self {
        let metrics = plan.metrics().unwrap_or_default();
        let moved = Moved {
            rows: metrics.output_rows().unwrap_or_default() as u64,
            bytes: sum(&metrics, |value| matches!(value, MetricValue::OutputBytes(_))),
            network_bytes: sum(&metrics, |value| value.name() == BYTES_RECEIVED),
        };
        Self { moved: Some(moved), ..Self::default() }
    }

    fn add(&mut self, metric: &Metric) {
        match metric.value() {
            MetricValue::OutputRows(count) => {
                let slice = (task_of(metric), metric.partition().unwrap_or_default());
                *self.rows.entry(slice).or_default() += count.value() as u64;
            }
            MetricValue::ElapsedCompute(time) => self.compute += nanoseconds(time.value()),
            MetricValue::Time { time, name } if name == "build_time" => {
                self.compute += nanoseconds(time.value());
            }
            MetricValue::SpilledBytes(count) => self.spilled_bytes += count.value() as u64,
            MetricValue::PeakMemoryUsage { gauge, .. } => self.memory_bytes += gauge.value() as u64,
            _ => {}
        }
    }

    /// With what the operator also used.
    pub(super) fn use_more(&mut self, other: &Self) {
        self.compute += other.compute;
        self.memory_bytes += other.memory_bytes;
        self.spilled_bytes += other.spilled_bytes;
        self.moved = self.moved.or(other.moved);
    }

    /// The rows of another, which is on top.
    pub(super) fn give(&mut self, top: &Self) {
        if !top.rows.is_empty() {
            self.rows.clone_from(&top.rows);
        }
    }

    /// The same rows, from an operator that does nothing itself.
    pub(super) fn rows_only(&self) -> Self {
        Self { rows: self.rows.clone(), ..Self::default() }
    }

    /// With what was moved from the operator.
    pub(super) fn note_moved(&mut self, moved: &Self) {
        self.moved = self.moved.or(moved.moved);
    }

    /// As lines of EXPLAIN ANALYZE.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.rows.is_empty() || self.moved.is_none() {
            lines.push(self.summary());
        }
        if self.rows.len() > 1 {
            lines.push(self.slices());
        }
        if let Some(Moved { rows, bytes, network_bytes }) = self.moved {
            lines.push(format!(
                "Moved: rows={rows} bytes={bytes} from other processes={network_bytes}"
            ));
        }
        lines
    }

    fn summary(&self) -> String {
        let rows: u64 = self.rows.values().sum();
        let time_ms = self.compute.as_secs_f64() * 1000.0;
        let mut text = format!("Actual: rows={rows} time={time_ms:.3} ms");
        if self.memory_bytes > 0 {
            text.push_str(&format!(" memory={} kB", self.memory_bytes.div_ceil(1024)));
        }
        if self.spilled_bytes > 0 {
            text.push_str(&format!(" spilled={} kB", self.spilled_bytes.div_ceil(1024)));
        }
        text
    }

    /// The rows of each slice, and how unevenly they are spread: the most against the average.
    fn slices(&self) -> String {
        let count = self.rows.len();
        let total: u64 = self.rows.values().sum();
        let min = self.rows.values().min().copied().unwrap_or_default();
        let max = self.rows.values().max().copied().unwrap_or_default();
        let skew = if total == 0 { 1.0 } else { max as f64 * count as f64 / total as f64 };
        let mut text = format!("Slices: {count} min={min} max={max} skew={skew:.2}");
        let mut nodes: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for ((node, _), rows) in &self.rows {
            nodes.entry(*node).or_default().push(*rows);
        }
        for (node, rows) in nodes {
            let sum: u64 = rows.iter().sum();
            text.push_str(&format!(" [node {node}: {sum}"));
            if count <= SLICES_SHOWN_MAX {
                let rows: Vec<String> = rows.iter().map(u64::to_string).collect();
                text.push_str(&format!(" = {}", rows.join(" + ")));
            }
            text.push(']');
        }
        text
    }
}

fn sum(metrics: &MetricsSet, wanted: impl Fn(&MetricValue) -> bool) -> u64 {
    let values = metrics.iter().map(|metric| metric.value()).filter(|value| wanted(value));
    values.map(|value| value.as_usize() as u64).sum()
}

/// The task whose metric it is; without one, the process itself.
pub(super) fn task_of(metric: &Metric) -> u64 {
    let label = metric.labels().iter().find(|l| l.name() == DISTRIBUTED_DATAFUSION_TASK_ID_LABEL);
    label.and_then(|label| label.value().parse().ok()).unwrap_or_default()
}

fn nanoseconds(count: usize) -> Duration {
    Duration::from_nanos(count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_the_most_against_the_average() {
        let rows = [((0, 0), 100), ((0, 1), 300), ((1, 0), 0), ((1, 1), 400)];
        let actual = Actual { rows: rows.into_iter().collect(), ..Actual::default() };
        let expected =
            "Slices: 4 min=0 max=400 skew=2.00 [node 0: 400 = 100 + 300] [node 1: 400 = 0 + 400]";
        assert_eq!(actual.lines()[1], expected);
        assert_eq!(actual.lines()[0], "Actual: rows=800 time=0.000 ms");
    }

    #[test]
    fn no_rows_are_not_skewed() {
        let actual = Actual { rows: [((0, 0), 0), ((0, 1), 0)].into(), ..Actual::default() };
        assert_eq!(actual.lines()[1], "Slices: 2 min=0 max=0 skew=1.00 [node 0: 0 = 0 + 0]");
    }
}
