//! What an operator gets: an operator below it, and how its rows come from there.

use compute::plan::guard::GuardExec;
use compute::plan::on_task::OnTaskExec;
use compute::plan::take_slices::TakeSlicesExec;
use datafusion::common::Result;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion_distributed::{
    BroadcastExec, DistributedExec, NetworkBoundaryExt, NetworkBroadcastExec, NetworkShuffleExec,
};

use super::actual::Actual;
use super::estimate::{ColumnEstimate, broadcast_bytes, distributed_bytes};
use super::expression::{output, text};
use super::step::{Kind, Step};
use super::{Describer, Plan, scan_of};
use crate::planner::stages::WatchedExec;

/// What HAVING and its like let through, and any other condition of which nothing is known.
const SELECTIVITY_HAVING: f64 = 0.1;
const SELECTIVITY_UNKNOWN: f64 = 0.25;

/// How rows come from one operator to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Motion {
    /// Each to the slice of its key.
    Distribute,
    /// All to every node.
    Broadcast,
    /// All to one place.
    Gather {
        /// To the leader, else to the first slice.
        to_leader: bool,
    },
}

/// An operator and how its rows come from there, None if they stay where they are.
pub(super) struct Input {
    pub(super) step: Step,
    pub(super) motion: Option<Motion>,
    /// What was moved, if the plan has run.
    pub(super) moved: Option<Actual>,
}

impl Describer {
    /// What a plan gives, a motion at its top apart.
    pub(super) fn input(&mut self, plan: &Plan) -> Result<Input> {
        if plan.is_network_boundary() {
            return self.boundary(plan);
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            return self.projection(plan, projection);
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let step = self.filter(plan, filter)?;
            return Ok(self.limited(filter.fetch(), step));
        }
        if passes_rows(plan) {
            let mut input = self.input(plan.children()[0])?;
            if self.is_one_node() && is_hash_repartition(plan) {
                input.motion.get_or_insert(Motion::Distribute);
            }
            let fetch = plan.downcast_ref::<CoalescePartitionsExec>().and_then(|node| node.fetch());
            if fetch.is_some() {
                let step = self.settle(input);
                return Ok(self.limited(fetch, step));
            }
            return Ok(input);
        }
        let step = self.operator(plan)?;
        Ok(self.limited(fetch_of(plan), step))
    }

    /// What a plan gives, with a line for a motion at its top.
    pub(super) fn step(&mut self, plan: &Plan) -> Result<Step> {
        let input = self.input(plan)?;
        Ok(self.settle(input))
    }

    /// A line for the motion. Rows that only come together have none, and neither have those that
    /// change slices within one node.
    pub(super) fn settle(&self, input: Input) -> Step {
        match input.motion {
            Some(Motion::Distribute | Motion::Broadcast) if !self.is_one_node() => {
                self.network(input)
            }
            _ => {
                let mut step = input.step;
                step.note_moved(input.moved);
                step
            }
        }
    }

    /// A line for the motion, whatever it is.
    pub(super) fn network(&self, input: Input) -> Step {
        let detail = match input.motion {
            Some(Motion::Distribute) => "Distribute",
            Some(Motion::Broadcast) => "Broadcast",
            Some(Motion::Gather { to_leader: false }) => "Send to slice 0",
            Some(Motion::Gather { to_leader: true }) | None => "Send to leader",
        };
        let bytes = self.moved_bytes(&input);
        let mut network = Step::over("Network", input.step);
        network.details.push(detail.to_owned());
        network.cost = network.cost.then_moved(bytes);
        network.actual = input.moved;
        network
    }

    /// Bytes that cross the network.
    pub(super) fn moved_bytes(&self, input: &Input) -> f64 {
        let bytes = input.step.estimate.bytes();
        let nodes = self.layout.nodes();
        match input.motion {
            _ if self.is_one_node() => 0.0,
            Some(Motion::Distribute) => distributed_bytes(bytes, nodes),
            Some(Motion::Broadcast) => broadcast_bytes(bytes, nodes),
            Some(Motion::Gather { .. }) => bytes,
            None => 0.0,
        }
    }

    pub(super) fn is_one_node(&self) -> bool {
        self.layout.nodes() == 1
    }

    fn boundary(&mut self, plan: &Plan) -> Result<Input> {
        let motion = if plan.is::<NetworkShuffleExec>() {
            Motion::Distribute
        } else if plan.is::<NetworkBroadcastExec>() {
            Motion::Broadcast
        } else {
            Motion::Gather { to_leader: self.boundaries == 0 }
        };
        self.boundaries += 1;
        let step = self.step(plan.children()[0]);
        self.boundaries -= 1;
        let moved = self.has_run.then(|| Actual::of_boundary(plan));
        Ok(Input { step: step?, motion: Some(motion), moved })
    }

    fn projection(&mut self, plan: &Plan, projection: &ProjectionExec) -> Result<Input> {
        let mut input = self.input(projection.input())?;
        let step = &mut input.step;
        let schema = plan.schema();
        let (mut columns, mut estimates, mut computed) = (Vec::new(), Vec::new(), 0);
        for (at, expr) in projection.expr().iter().map(|output| &output.expr).enumerate() {
            columns.push(output(expr, &step.columns));
            let mut estimate = ColumnEstimate::unknown(schema.field(at).data_type());
            if let Some(column) = expr.downcast_ref::<Column>() {
                estimate = step.estimate.columns.get(column.index()).copied().unwrap_or(estimate);
            } else if expr.is::<Literal>() {
                estimate.distinct = 1.0;
            } else {
                computed += 1;
            }
            estimates.push(estimate);
        }
        step.columns = columns;
        step.estimate.columns = estimates;
        step.cost = step.cost.then_compute(step.estimate.rows, computed);
        self.add_run(step, plan);
        Ok(input)
    }

    /// A condition is a line of the operator below it, if that can have one.
    fn filter(&mut self, plan: &Plan, filter: &FilterExec) -> Result<Step> {
        let input = self.step(filter.input())?;
        let takes = matches!(input.kind, Kind::Scan | Kind::Aggregate { .. } | Kind::Join);
        let mut step = if takes { input } else { Step::over("Subquery Scan", input) };
        let selectivity = match step.kind {
            Kind::Aggregate { .. } => SELECTIVITY_HAVING,
            _ => SELECTIVITY_UNKNOWN,
        };
        step.filters.push(text(filter.predicate(), &step.columns));
        step.cost = step.cost.then_compute(step.estimate.rows, 1);
        step.estimate.rows = (step.estimate.rows * selectivity).max(1.0).min(step.estimate.rows);
        if let Some(kept) = filter.projection().as_deref() {
            step.columns = kept.iter().map(|at| step.columns[*at].clone()).collect();
            step.estimate.columns = kept.iter().map(|at| step.estimate.columns[*at]).collect();
        }
        self.replace_run(&mut step, plan);
        Ok(step)
    }

    /// A line for a limit, unless there is one.
    fn limited(&self, fetch: Option<usize>, step: Step) -> Input {
        let step = match fetch {
            Some(rows) => self.limit(rows as f64, step),
            None => step,
        };
        Input { step, motion: None, moved: None }
    }

    /// The rows that a limit lets through; two limits are the upper one.
    pub(super) fn limit(&self, rows: f64, mut input: Step) -> Step {
        if input.kind == Kind::Limit {
            input.estimate.rows = input.estimate.rows.min(rows);
            return input;
        }
        let rows = rows.min(input.estimate.rows);
        let part = rows / input.estimate.rows.max(1.0);
        let actual = input.actual.as_ref().map(Actual::rows_only);
        let mut step = Step::over("Limit", input);
        step.kind = Kind::Limit;
        step.cost = step.cost.part(part);
        step.estimate.rows = rows;
        step.actual = actual;
        step
    }
}

/// The rows that an operator stops after. It is asked itself: a plan with the metrics of a run wraps
/// its operators, and a wrapper has no limit.
fn fetch_of(plan: &Plan) -> Option<usize> {
    if let Some(scan) = scan_of(plan) {
        return scan.fetch();
    }
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        return sort.fetch();
    }
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
        return merge.fetch();
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return join.fetch();
    }
    None
}

/// Whether the node gives the rows of its input as they are, in whatever partitions.
fn passes_rows(plan: &Plan) -> bool {
    plan.is::<GuardExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<BroadcastExec>()
        || plan.is::<OnTaskExec>()
        || plan.is::<TakeSlicesExec>()
        || plan.is::<WatchedExec>()
        || plan.is::<DistributedExec>()
}

pub(super) fn is_hash_repartition(plan: &Plan) -> bool {
    plan.downcast_ref::<RepartitionExec>()
        .is_some_and(|repartition| matches!(repartition.partitioning(), Partitioning::Hash(..)))
}
