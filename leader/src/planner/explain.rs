//! EXPLAIN: a physical plan in Redshift's words.
//!
//! Redshift's plan has fewer nodes than ours. What only prepares rows for another operator has no line
//! of its own (projections, local repartitions, guards); a filter is a line of the operator below it;
//! what moves below a join is said by the join's label. Whatever else crosses the network is an
//! `XN Network`.
//!
//! The same tree shows what happened, if the plan has run ([`describe_run`]): then each operator has
//! the figures of the nodes of our plan that it stands for.

mod actual;
mod aggregate;
mod estimate;
mod expression;
mod input;
mod join;
mod measured;
mod operator;
mod step;

pub(crate) use measured::{
    memory_by_node, slice_of, wait_for_metrics, with_metrics, with_metrics_so_far,
};

use std::sync::Arc;

use compute::layout::Layout;
use compute::plan::slice_scan::SliceScanExec;
use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::DistributedLeafExec;

type Plan = Arc<dyn ExecutionPlan>;

/// What operators are called that run on compute nodes.
const ON_NODES: &str = "XN ";
/// Said of plans that compare each row with each other row.
const NESTED_LOOP_WARNING: &str = "----- Nested Loop Join in the query plan - review the join \
                                   predicates to avoid Cartesian products -----";

/// The lines of EXPLAIN for a plan as it would run.
pub(crate) fn describe(plan: &Plan, layout: Layout) -> Result<Vec<String>> {
    Describer::new(plan, layout, false)?.lines(plan)
}

/// The lines of EXPLAIN ANALYZE for a plan that has run.
pub(crate) fn describe_run(plan: &Plan, layout: Layout) -> Result<Vec<String>> {
    Describer::new(plan, layout, true)?.lines(plan)
}

/// The table that a leaf reads.
fn scan_of(leaf: &Plan) -> Option<&SliceScanExec> {
    match leaf.downcast_ref::<DistributedLeafExec>() {
        Some(leaf) => leaf.original().downcast_ref(),
        None => leaf.downcast_ref(),
    }
}

/// Turns the nodes of a plan into what EXPLAIN shows.
struct Describer {
    layout: Layout,
    /// Whether columns have the name of their table before them: with one table they need none.
    qualifies: bool,
    /// What stands before the name of each operator.
    prefix: &'static str,
    /// Whether the plan has run.
    has_run: bool,
    /// Network boundaries above the node that is looked at.
    boundaries: usize,
    has_nested_loop: bool,
}

impl Describer {
    fn new(plan: &Plan, layout: Layout, has_run: bool) -> Result<Self> {
        let mut scans = 0;
        plan.apply(|node| {
            scans += usize::from(scan_of(node).is_some());
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Self {
            layout,
            qualifies: scans > 1,
            prefix: if scans > 0 { ON_NODES } else { "" },
            has_run,
            boundaries: 0,
            has_nested_loop: false,
        })
    }

    fn lines(mut self, plan: &Plan) -> Result<Vec<String>> {
        let step = self.step(plan)?;
        let mut lines = step.lines(self.prefix);
        if self.has_nested_loop {
            lines.push(NESTED_LOOP_WARNING.to_owned());
        }
        Ok(lines)
    }
}
