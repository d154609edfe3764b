//! What the planner knows of a query before it runs: the ground for predictions, and whether compute
//! nodes work on it at all.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use compute::plan::load::LoadExec;
use compute::plan::slice_scan::SliceScanExec;
use datafusion::common::Statistics;
use datafusion::common::stats::Precision;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion_distributed::NetworkBoundaryExt as _;
use wlm::PlanFeatures;

/// Bytes that a value is taken to have where nothing better is known.
const VALUE_BYTES: u64 = 16;

/// Whether compute nodes work on the plan: it reads a table, or part of it is sent to them.
pub fn is_managed(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<SliceScanExec>()
        || plan.is::<LoadExec>()
        || plan.is_network_boundary()
        || plan.children().into_iter().any(is_managed)
}

/// The features of a plan, whose tables are divided among so many nodes.
pub fn features(plan: &Arc<dyn ExecutionPlan>, nodes: usize) -> PlanFeatures {
    let mut visitor = Visitor {
        features: PlanFeatures::default(),
        shape: DefaultHasher::new(),
        statistics: StatisticsContext::new(),
    };
    visitor.visit(plan);
    let mut features = visitor.features;
    features.working_bytes /= nodes.max(1) as u64;
    // 0 would mean that the shape is not known.
    features.shape = visitor.shape.finish().max(1);
    features
}

struct Visitor {
    features: PlanFeatures,
    shape: DefaultHasher,
    statistics: StatisticsContext,
}

impl Visitor {
    fn visit(&mut self, plan: &Arc<dyn ExecutionPlan>) {
        let (features, shape) = (&mut self.features, &mut self.shape);
        let children = plan.children();
        (plan.name(), children.len(), plan.schema().fields().len()).hash(shape);
        if let Some(scan) = plan.downcast_ref::<SliceScanExec>() {
            let version = scan.version();
            (version.table.0, scan.projection()).hash(shape);
            let rows = version.row_count();
            features.scans += 1;
            features.rows = features.rows.saturating_add(rows);
            let bytes =
                rows.saturating_mul(VALUE_BYTES).saturating_mul(scan.projection().len() as u64);
            features.bytes = features.bytes.saturating_add(bytes);
        }
        match plan.name() {
            "HashJoinExec" => {
                features.joins += 1;
                if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
                    join.join_type().hash(shape);
                }
                self.holds(children.first().copied());
            }
            "NestedLoopJoinExec" | "CrossJoinExec" | "SortMergeJoinExec" => {
                features.joins += 1;
                self.holds(children.first().copied());
            }
            "AggregateExec" => {
                features.aggregates += 1;
                self.holds(Some(plan));
            }
            "SortExec" | "WindowAggExec" | "BoundedWindowAggExec" => {
                features.sorts += 1;
                self.holds(children.first().copied());
            }
            _ => {}
        }
        for child in children {
            self.visit(child);
        }
    }

    /// The rows of this plan are kept in memory.
    fn holds(&mut self, plan: Option<&Arc<dyn ExecutionPlan>>) {
        let Some(plan) = plan else { return };
        let statistics = self.statistics.compute(plan.as_ref(), &StatisticsArgs::new());
        let bytes = statistics.map_or(0, |statistics| bytes_of(&statistics, plan));
        self.features.working_bytes = self.features.working_bytes.saturating_add(bytes);
    }
}

fn bytes_of(statistics: &Statistics, plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let columns = plan.schema().fields().len() as u64;
    match statistics.num_rows {
        Precision::Exact(rows) | Precision::Inexact(rows) => {
            (rows as u64).saturating_mul(columns).saturating_mul(VALUE_BYTES)
        }
        Precision::Absent => 0,
    }
}
