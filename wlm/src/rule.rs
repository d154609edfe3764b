//! Query monitoring rules: when a query has done too much, and what then.
//!
//! A rule fires if all its predicates hold. A predicate about a segment or step holds if it holds
//! for one of them; predicates about segments in one rule must hold for the same segment, since
//! "ran for two minutes and was skewed" means one segment that was both. Figures are compared in
//! whole units as the system tables show them (seconds, blocks, rows), ratios in hundredths.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{QueryMetrics, SegmentMetrics, StepKind};
use crate::priority::Priority;

/// How often rules are looked at.
pub const RULE_PERIOD: Duration = Duration::from_secs(10);

/// The greatest threshold of a metric that counts rows.
const ROWS_MAX: f64 = 999_999_999_999_999.0;

/// A rule of a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Unique in the configuration.
    pub name: Arc<str>,
    /// 1 to 3; all must hold.
    pub predicates: Vec<Predicate>,
    /// What happens then.
    pub action: RuleAction,
}

/// One condition.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Predicate {
    /// What is compared.
    pub metric: Metric,
    /// How.
    pub operator: Operator,
    /// With what.
    pub threshold: Threshold,
}

/// The value that a metric is compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// Of every metric but the priority.
    Number(f64),
    /// Of the priority.
    Priority(Priority),
}

/// How a metric is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// =
    Equal,
    /// <
    Less,
    /// >
    Greater,
}

/// What happens when a rule fires, mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleAction {
    /// A row in `stl_wlm_rule_action`, once per query.
    Log,
    /// Another priority; automatic mode only.
    ChangePriority(Priority),
    /// To the next queue that takes the query; manual mode only.
    Hop,
    /// The query is cancelled.
    Abort,
}

/// What rules can look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// CPU time of all slices.
    QueryCpuTime,
    /// Blocks read by all slices.
    QueryBlocksRead,
    /// Rows that a scan step read.
    ScanRowCount,
    /// Time since the query began to run.
    QueryExecutionTime,
    /// Time in the queue.
    QueryQueueTime,
    /// CPU time relative to execution time.
    QueryCpuUsagePercent,
    /// Temporary blocks of all slices.
    QueryTempBlocksToDisk,
    /// Busiest slice relative to the average, by CPU, in a segment.
    CpuSkew,
    /// Busiest slice relative to the average, by blocks, in a segment.
    IoSkew,
    /// Rows that a join step processed.
    JoinRowCount,
    /// Rows that a join step without equality processed.
    NestedLoopJoinRowCount,
    /// Rows returned to the client.
    ReturnRowCount,
    /// Time that a segment ran.
    SegmentExecutionTime,
    /// Rows read from external tables.
    SpectrumScanRowCount,
    /// Megabytes read from external tables.
    SpectrumScanSizeMb,
    /// The query's priority.
    QueryPriority,
}

/// Name, unit, greatest threshold.
type Description = (Metric, &'static str, &'static str, Option<f64>);

const METRICS: &[Description] = &[
    (Metric::QueryCpuTime, "query_cpu_time", "s", Some(999_999.0)),
    (Metric::QueryBlocksRead, "query_blocks_read", "MB", Some(1_048_575.0)),
    (Metric::ScanRowCount, "scan_row_count", "rows", Some(ROWS_MAX)),
    (Metric::QueryExecutionTime, "query_execution_time", "s", Some(86_399.0)),
    (Metric::QueryQueueTime, "query_queue_time", "s", Some(86_399.0)),
    (Metric::QueryCpuUsagePercent, "query_cpu_usage_percent", "%", Some(6_399.0)),
    (Metric::QueryTempBlocksToDisk, "query_temp_blocks_to_disk", "MB", Some(319_815_679.0)),
    (Metric::CpuSkew, "cpu_skew", "", Some(99.0)),
    (Metric::IoSkew, "io_skew", "", Some(99.0)),
    (Metric::JoinRowCount, "join_row_count", "rows", Some(ROWS_MAX)),
    (Metric::NestedLoopJoinRowCount, "nested_loop_join_row_count", "rows", Some(ROWS_MAX)),
    (Metric::ReturnRowCount, "return_row_count", "rows", Some(ROWS_MAX)),
    (Metric::SegmentExecutionTime, "segment_execution_time", "s", Some(86_388.0)),
    (Metric::SpectrumScanRowCount, "spectrum_scan_row_count", "rows", Some(ROWS_MAX)),
    (Metric::SpectrumScanSizeMb, "spectrum_scan_size_mb", "MB", Some(ROWS_MAX)),
    (Metric::QueryPriority, "query_priority", "", None),
];

impl Metric {
    /// The metric with this name.
    pub fn parse(name: &str) -> Option<Self> {
        METRICS.iter().find(|(_, known, _, _)| *known == name).map(|(metric, _, _, _)| *metric)
    }

    /// Its name in configurations and system tables.
    pub fn name(self) -> &'static str {
        self.description().1
    }

    /// What it counts; empty for ratios and priorities.
    pub fn unit(self) -> &'static str {
        self.description().2
    }

    /// The greatest threshold; `None` for the priority, which is no number.
    pub fn max(self) -> Option<f64> {
        self.description().3
    }

    /// Whether thresholds may have decimals.
    pub fn is_ratio(self) -> bool {
        matches!(self, Self::CpuSkew | Self::IoSkew)
    }

    /// The thresholds it takes, in words.
    pub(crate) fn expected_value(self) -> String {
        match self.max() {
            None => "highest, high, normal, low or lowest".to_owned(),
            Some(max) if self.is_ratio() => format!("a number from 0 to {max}"),
            Some(max) => format!("a whole number from 0 to {max}"),
        }
    }

    /// Whether it has a value while a query waits.
    fn is_known_while_waiting(self) -> bool {
        matches!(self, Self::QueryQueueTime | Self::QueryPriority)
    }

    /// Whether it is about single segments.
    fn is_of_segment(self) -> bool {
        matches!(self, Self::CpuSkew | Self::IoSkew | Self::SegmentExecutionTime)
    }

    fn description(self) -> &'static Description {
        let found = METRICS.iter().find(|(metric, _, _, _)| *metric == self);
        found.expect("every metric has a row in METRICS, which a test checks")
    }
}

impl Operator {
    /// As it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Less => "<",
            Self::Greater => ">",
        }
    }

    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::Greater => left > right,
        }
    }
}

impl RuleAction {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::ChangePriority(_) => "change_query_priority",
            Self::Hop => "hop",
            Self::Abort => "abort",
        }
    }

    /// How severe it is: the most severe of several rules wins.
    pub(crate) fn severity(self) -> u8 {
        match self {
            Self::Log => 0,
            Self::ChangePriority(_) => 1,
            Self::Hop => 2,
            Self::Abort => 3,
        }
    }
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The last report of the query.
    pub(crate) metrics: &'a QueryMetrics,
    /// `None`: the query waits.
    pub(crate) execution_time: Option<Duration>,
    /// How long it waited, or has waited so far.
    pub(crate) queue_time: Duration,
    /// Its priority now.
    pub(crate) priority: Priority,
}

impl Rule {
    /// Whether all predicates hold.
    pub(crate) fn fires(&self, facts: &Facts<'_>) -> bool {
        if facts.execution_time.is_none() {
            let known = |predicate: &Predicate| predicate.metric.is_known_while_waiting();
            if !self.predicates.iter().all(known) {
                return false;
            }
        }
        let of_segment = |predicate: &&Predicate| predicate.metric.is_of_segment();
        let by_query = |predicate: &Predicate| facts.holds(predicate);
        let rest_holds =
            self.predicates.iter().filter(|predicate| !of_segment(predicate)).all(by_query);
        if !rest_holds || !self.predicates.iter().any(|predicate| of_segment(&predicate)) {
            return rest_holds;
        }
        facts.metrics.segments.iter().any(|segment| {
            self.predicates
                .iter()
                .filter(of_segment)
                .all(|predicate| facts.holds_for_segment(predicate, segment))
        })
    }
}

impl Facts<'_> {
    /// A predicate about the query or its steps.
    fn holds(&self, predicate: &Predicate) -> bool {
        let number = match predicate.threshold {
            Threshold::Priority(priority) => {
                return predicate.operator.holds(self.priority, priority);
            }
            Threshold::Number(number) => number,
        };
        let metrics = self.metrics;
        let any_step = |wanted: fn(StepKind) -> bool| {
            let mut rows = metrics.steps().filter(|step| wanted(step.kind)).map(|step| step.rows);
            rows.any(|rows| predicate.operator.holds(rows as f64, number))
        };
        let value = match predicate.metric {
            Metric::ScanRowCount => return any_step(|kind| kind == StepKind::Scan),
            Metric::JoinRowCount => return any_step(StepKind::is_join),
            Metric::NestedLoopJoinRowCount => return any_step(|kind| kind == StepKind::NestedLoop),
            Metric::ReturnRowCount => return any_step(|kind| kind == StepKind::ReturnToClient),
            Metric::QueryCpuTime => metrics.total.cpu_time.as_secs(),
            Metric::QueryBlocksRead => metrics.total.blocks_read,
            Metric::QueryExecutionTime => self.execution_time.unwrap_or_default().as_secs(),
            Metric::QueryQueueTime => self.queue_time.as_secs(),
            Metric::QueryCpuUsagePercent => {
                cpu_usage_percent(metrics.total.cpu_time, self.execution_time.unwrap_or_default())
            }
            Metric::QueryTempBlocksToDisk => metrics.total.temp_blocks,
            Metric::SpectrumScanRowCount => metrics.spectrum_rows,
            Metric::SpectrumScanSizeMb => metrics.spectrum_mb,
            Metric::CpuSkew
            | Metric::IoSkew
            | Metric::SegmentExecutionTime
            | Metric::QueryPriority => return false,
        };
        predicate.operator.holds(value as f64, number)
    }

    fn holds_for_segment(&self, predicate: &Predicate, segment: &SegmentMetrics) -> bool {
        let Threshold::Number(number) = predicate.threshold else { return false };
        let slices = self.metrics.slices;
        let value = if predicate.metric == Metric::CpuSkew {
            segment.work.cpu_skew_hundredths(slices) as f64 / 100.0
        } else if predicate.metric == Metric::IoSkew {
            segment.work.io_skew_hundredths(slices) as f64 / 100.0
        } else {
            segment.work.run_time_max.as_secs() as f64
        };
        predicate.operator.holds(value, number)
    }
}

/// CPU time in percent of the time that the query ran, over all slices.
pub(crate) fn cpu_usage_percent(cpu_time: Duration, execution_time: Duration) -> u64 {
    (cpu_time.as_micros() * 100)
        .checked_div(execution_time.as_micros())
        .map_or(0, |percent| u64::try_from(percent).unwrap_or(u64::MAX))
}
