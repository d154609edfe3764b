//! Puts network boundaries into a finished physical plan, and nothing else does.
//!
//! DataFusion has planned for one node with P partitions, where partition `p` of a table stands for
//! the slices with that index on all nodes. Bottom up, every part of the plan has a [`Locus`]: where
//! its rows are when each node executes that part. Where an operator needs rows elsewhere, a boundary
//! goes below it:
//!
//! ```text
//! repartition by hash      Sliced -> shuffle           rows go to the slice of their new key
//! one side of a join       Sliced -> broadcast         every node gets all rows
//! merge, limit, root       Sliced -> gather            all rows in one task
//! all tasks flow together  Everywhere -> one task, or each its slices
//! ```
//!
//! Invariants:
//! * rows that every task has (`Everywhere`) are used once: an operator that could choose
//!   differently on each node (a limit, a window over ties, an aggregate that depends on the order of
//!   rows, a volatile function) runs in one task;
//! * only a merge or a limit is right above a gather: the library moves a parent's fetch below it;
//! * a sliced part with one partition claims to be all rows, and is gathered at once;
//! * every stage has a [`GuardExec`] at its root;
//! * a window's order is in the plan as a sort right below it: orders that DataFusion knows from
//!   equivalences do not travel.

mod join;
mod write;

use std::sync::Arc;

use compute::Distribution;
use compute::layout::Layout;
use compute::plan::delete_rows::RowTarget;
use compute::plan::guard::GuardExec;
use compute::plan::load::LoadExec;
use compute::plan::on_task::OnTaskExec;
use compute::plan::slice_scan::SliceScanExec;
use compute::plan::take_slices::TakeSlicesExec;
use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, not_impl_err};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::expressions::UnKnownColumn;
use datafusion::physical_expr::{LexOrdering, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use datafusion_distributed::{
    BroadcastExec, NetworkBroadcastExec, NetworkCoalesceExec, NetworkShuffleExec,
};

pub(crate) use write::WriteEnd;

type Plan = Arc<dyn ExecutionPlan>;

/// Where the rows of a part of a plan are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locus {
    /// Divided among the slices of all nodes.
    Sliced,
    /// All of them in each task of a stage.
    Everywhere,
    /// In one task, which any process can be.
    Single,
    /// In one task, which must be the leader.
    Leader,
}

use Locus::{Everywhere, Leader, Single, Sliced};

/// A plan whose rows arrive at the leader in one partition.
pub(super) fn place(plan: Plan, layout: Layout) -> Result<Plan> {
    if !reads_nodes(&plan)? {
        return Ok(plan);
    }
    let motions = Motions { nodes: layout.nodes() };
    let (plan, locus) = motions.place(plan)?;
    let (plan, _) = motions.to_one(plan, locus)?;
    merge(plan)
}

/// A plan that writes the rows of `source` on the nodes and gives the segments to the leader.
pub(super) fn place_write(source: Plan, end: &WriteEnd, layout: Layout) -> Result<Plan> {
    let motions = Motions { nodes: layout.nodes() };
    motions.write(source, end, layout)
}

/// A plan that finds the rows that `source` names and tells the leader.
pub(super) fn place_delete(source: Plan, target: RowTarget, layout: Layout) -> Result<Plan> {
    Motions { nodes: layout.nodes() }.delete(source, target, layout)
}

/// Whether the plan is a leaf that gives the same rows wherever it runs.
pub(super) fn is_made_anywhere(leaf: &Plan) -> bool {
    let rows_of_plan = leaf
        .downcast_ref::<DataSourceExec>()
        .is_some_and(|source| source.data_source().is::<MemorySourceConfig>());
    rows_of_plan || leaf.is::<EmptyExec>() || leaf.is::<PlaceholderRowExec>()
}

/// Whether anything of the plan can only run on nodes.
fn reads_nodes(plan: &Plan) -> Result<bool> {
    plan.exists(|node| Ok(node.is::<SliceScanExec>() || node.is::<LoadExec>()))
}

/// The rule, for a number of nodes.
struct Motions {
    nodes: usize,
}

impl Motions {
    fn place(&self, plan: Plan) -> Result<(Plan, Locus)> {
        let (plan, locus) = self.place_node(plan)?;
        let chooses = plan.fetch().is_some()
            || plan.is::<GlobalLimitExec>()
            || plan.is::<WindowAggExec>()
            || plan.is::<BoundedWindowAggExec>()
            || aggregates_by_order(&plan)?
            || computes_volatile(&plan)?;
        let claims_all = plan.output_partitioning().partition_count() == 1;
        match locus {
            Everywhere if chooses => self.to_one(plan, locus),
            Sliced if claims_all => self.to_one(plan, locus),
            _ => Ok((plan, locus)),
        }
    }

    fn place_node(&self, plan: Plan) -> Result<(Plan, Locus)> {
        if plan.children().is_empty() {
            let locus = locus_of_leaf(&plan);
            return Ok((plan, locus));
        }
        let is_join = plan.is::<HashJoinExec>()
            || plan.is::<NestedLoopJoinExec>()
            || plan.is::<CrossJoinExec>()
            || plan.is::<SortMergeJoinExec>();
        if is_join {
            return self.join(plan);
        }
        if plan.is::<UnionExec>() || plan.is::<InterleaveExec>() {
            return self.union(plan);
        }
        if let [child] = plan.children()[..] {
            let (child, locus) = self.place(Arc::clone(child))?;
            return self.place_unary(plan, child, locus);
        }
        if reads_nodes(&plan)? {
            return not_impl_err!("{} over tables of a cluster is not supported", plan.name());
        }
        Ok((plan, Leader))
    }

    fn place_unary(&self, plan: Plan, child: Plan, locus: Locus) -> Result<(Plan, Locus)> {
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>()
            && let Partitioning::Hash(..) = repartition.partitioning()
        {
            return self.repartition(repartition.partitioning().clone(), child, locus);
        }
        if plan.is::<CoalescePartitionsExec>() || plan.is::<SortPreservingMergeExec>() {
            let chooses = locus == Everywhere && plan.fetch().is_some();
            if locus == Sliced || chooses && reads_nodes(&child)? {
                let gathered = self.gather(child, locus)?;
                return Ok((replace_children_if_necessary(plan, vec![gathered])?, Single));
            }
        }
        if plan.is::<WindowAggExec>() || plan.is::<BoundedWindowAggExec>() {
            let child = if locus == Leader { child } else { sorted_for(&plan, child) };
            return Ok((replace_children_if_necessary(plan, vec![child])?, locus));
        }
        Ok((replace_children_if_necessary(plan, vec![child])?, locus))
    }

    fn repartition(
        &self,
        partitioning: Partitioning,
        child: Plan,
        locus: Locus,
    ) -> Result<(Plan, Locus)> {
        let producers = match locus {
            Sliced => self.nodes,
            Single => 1,
            // Each task divides among its partitions what it has whole.
            Everywhere | Leader => {
                return Ok((Arc::new(RepartitionExec::try_new(child, partitioning)?), locus));
            }
        };
        // Orders are not kept over a shuffle; the plan has a sort above where it needs one.
        let stage = Arc::new(RepartitionExec::try_new(guarded(child), partitioning)?);
        Ok((Arc::new(NetworkShuffleExec::try_new(stage, producers)?), Sliced))
    }

    fn union(&self, plan: Plan) -> Result<(Plan, Locus)> {
        let children = plan.children().into_iter().map(|child| self.place(Arc::clone(child)));
        let children = children.collect::<Result<Vec<_>>>()?;
        let has = |locus| children.iter().any(|(_, own)| *own == locus);
        let out = match children.first() {
            Some((_, first)) if children.iter().all(|(_, locus)| locus == first) => *first,
            _ if has(Leader) => Leader,
            _ if has(Single) => Single,
            _ => Sliced,
        };
        let bring = |(child, locus): (Plan, Locus)| match out {
            _ if locus == out => Ok(child),
            Single | Leader => Ok(self.to_one(child, locus)?.0),
            Sliced | Everywhere => Ok(divided(child)),
        };
        let children = children.into_iter().map(bring).collect::<Result<Vec<_>>>()?;
        Ok((replace_children_if_necessary(plan, children)?, out))
    }

    /// All rows at the leader, in the partitions of all tasks.
    fn gather(&self, plan: Plan, locus: Locus) -> Result<Plan> {
        let stage = match locus {
            Single | Leader => return Ok(plan),
            Sliced => plan,
            Everywhere => Arc::new(OnTaskExec::new(0, plan)),
        };
        Ok(Arc::new(NetworkCoalesceExec::try_new(guarded(stage), self.nodes, 1)?))
    }

    /// All rows in one task, keeping what operators above rely on: one partition, or the hash.
    fn to_one(&self, plan: Plan, locus: Locus) -> Result<(Plan, Locus)> {
        match locus {
            Single | Leader => return Ok((plan, locus)),
            Everywhere if !reads_nodes(&plan)? => return Ok((plan, Single)),
            Sliced | Everywhere => {}
        }
        let partitioning = plan.output_partitioning().clone();
        let gathered = self.gather(plan, locus)?;
        let kept = match partitioning {
            partitioning if partitioning.partition_count() == 1 => merge(gathered)?,
            Partitioning::Hash(keys, count) if are_columns(&keys)? => {
                let partitioning = Partitioning::Hash(keys, count);
                let ordered = gathered.output_ordering().is_some();
                let repartition = RepartitionExec::try_new(gathered, partitioning)?;
                let kept = if ordered { repartition.with_preserve_order() } else { repartition };
                Arc::new(kept)
            }
            // The library moves the fetch of any parent of a bare gather into the stage below it,
            // also of a sort, which wants all rows.
            _ => guarded(gathered),
        };
        Ok((kept, Single))
    }

    /// All rows in each task; not for what only the leader has.
    fn to_all(&self, plan: Plan, locus: Locus) -> Result<Plan> {
        let producers = match locus {
            Everywhere | Leader => return Ok(plan),
            Sliced => self.nodes,
            Single => 1,
        };
        let stage = Arc::new(BroadcastExec::new(guarded(plan), 1));
        Ok(Arc::new(NetworkBroadcastExec::try_new(stage, producers)?))
    }
}

fn locus_of_leaf(leaf: &Plan) -> Locus {
    if let Some(scan) = leaf.downcast_ref::<SliceScanExec>() {
        return match scan.version().distribution {
            Distribution::All => Everywhere,
            Distribution::Even | Distribution::Key(_) => Sliced,
        };
    }
    if leaf.is::<LoadExec>() {
        return Sliced;
    }
    if is_made_anywhere(leaf) { Everywhere } else { Leader }
}

/// The root of a stage.
fn guarded(plan: Plan) -> Plan {
    Arc::new(GuardExec::new(plan))
}

/// One partition, in the order of the plan if it has one.
fn merge(plan: Plan) -> Result<Plan> {
    if plan.output_partitioning().partition_count() == 1 {
        return Ok(plan);
    }
    if let Some(order) = plan.output_ordering() {
        let order = order.clone();
        return Ok(Arc::new(SortPreservingMergeExec::new(order, plan)));
    }
    Ok(Arc::new(CoalescePartitionsExec::new(plan)))
}

/// Of rows that every task has, each in one task; a claim of a hash stays true.
fn divided(plan: Plan) -> Plan {
    match plan.output_partitioning().clone() {
        Partitioning::Hash(keys, count) if count > 1 && are_columns(&keys).unwrap_or(false) => {
            Arc::new(TakeSlicesExec::new(keys, plan))
        }
        _ => Arc::new(OnTaskExec::new(0, plan)),
    }
}

/// Whether a claimed hash can be computed again: columns that were projected away are no columns.
fn are_columns(keys: &[Arc<dyn PhysicalExpr>]) -> Result<bool> {
    for key in keys {
        if key.exists(|part| Ok(part.is::<UnKnownColumn>()))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the plan is an aggregate whose result depends on the order in which rows come: each node
/// reads its copy of a table in an order of its own.
fn aggregates_by_order(plan: &Plan) -> Result<bool> {
    let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else { return Ok(false) };
    for function in aggregate.aggr_expr() {
        let any_order = match function.fun().name() {
            "count" | "bit_and" | "bit_or" | "bit_xor" | "bool_and" | "bool_or" => true,
            // Sums of floats are rounded; texts that differ in blanks at the end are equal.
            "sum" | "avg" | "min" | "max" => {
                function.state_fields()?.iter().all(|field| is_exact(field.data_type()))
            }
            _ => false,
        };
        if !any_order {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether equal values of the type are the same, and sums of them exact.
fn is_exact(data_type: &DataType) -> bool {
    data_type.is_integer()
        || data_type.is_decimal()
        || data_type.is_temporal()
        || *data_type == DataType::Boolean
}

fn computes_volatile(plan: &Plan) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(&mut |expr| {
        found |= is_volatile(expr);
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The input of a window, sorted by exactly the columns that the window needs.
fn sorted_for(window: &Plan, child: Plan) -> Plan {
    let required = window.required_input_ordering().into_iter().next().flatten();
    let Some(required) = required else { return child };
    let order: LexOrdering = required.into_single().into();
    let (own, input) = match child.downcast_ref::<SortExec>() {
        Some(sort) if sort.fetch().is_none() => (Some(sort.expr()), sort.input()),
        Some(sort) => (Some(sort.expr()), &child),
        None => (child.downcast_ref::<SortPreservingMergeExec>().map(|m| m.expr()), &child),
    };
    if own.is_some_and(|own| {
        own.iter().zip(order.iter()).all(|(a, b)| a == b) && own.len() >= order.len()
    }) {
        return child;
    }
    let keeps_partitions = input.output_partitioning().partition_count() > 1;
    let sort = SortExec::new(order, Arc::clone(input));
    Arc::new(sort.with_preserve_partitioning(keeps_partitions))
}
