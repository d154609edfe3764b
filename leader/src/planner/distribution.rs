//! Which kind each hash join is, by the bytes that it moves between nodes.
//!
//! A join can be made partition by partition, when both sides lie on the slices by the hash of its
//! keys, or have to be brought there; or one side goes to every node whole. What lies where already
//! is looked up in the plan below ([`placements`]); how much there is comes from statistics.
//!
//! | label | moves |
//! |---|---|
//! | DS_DIST_NONE | nothing: both sides are placed by the join keys |
//! | DS_DIST_ALL_NONE | nothing: one side is on every node |
//! | DS_DIST_INNER, DS_DIST_OUTER | the hashed side, the probing side |
//! | DS_DIST_BOTH | both |
//! | DS_BCAST_INNER | the hashed side, to every node |
//! | DS_DIST_ALL_INNER | the hashed side, to one slice: the other is on every node and must be whole |
//!
//! The rule runs before DataFusion adds repartitions; it sets the mode and swaps sides, and what has
//! to move then follows.

mod placed;

use std::fmt;
use std::sync::Arc;

use compute::Distribution;
use compute::layout::Layout;
use compute::plan::guard::GuardExec;
use compute::plan::slice_scan::SliceScanExec;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, Result};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion_distributed::{
    BroadcastExec, DistributedLeafExec, NetworkBroadcastExec, NetworkCoalesceExec,
    NetworkShuffleExec,
};

use super::motion::is_made_anywhere;
use placed::{are_colocated, is_placed_by_keys};

type Plan = Arc<dyn ExecutionPlan>;

/// Rows of a relation of which nothing is known.
const UNKNOWN_ROWS: usize = 1_000_000;

/// Each row of the right side is joined in one task, where the left side is whole.
pub(super) fn right_may_stream(join_type: JoinType) -> bool {
    matches!(
        join_type,
        JoinType::Inner
            | JoinType::Right
            | JoinType::RightSemi
            | JoinType::RightAnti
            | JoinType::RightMark
    )
}

/// Each row of the left side is joined in one task, where the right side is whole.
pub(super) fn left_may_stay(join_type: JoinType) -> bool {
    matches!(
        join_type,
        JoinType::Inner
            | JoinType::Left
            | JoinType::LeftSemi
            | JoinType::LeftAnti
            | JoinType::LeftMark
    )
}

/// Chooses the kind of each hash join. Goes directly after DataFusion's choice of build sides.
#[derive(Debug)]
pub(super) struct DistributionRule {
    pub(super) layout: Layout,
}

impl PhysicalOptimizerRule for DistributionRule {
    fn optimize(&self, plan: Plan, _: &ConfigOptions) -> Result<Plan> {
        plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else {
                return Ok(Transformed::no(node));
            };
            // NOT IN over NULLs must see its whole right side: DataFusion knows one way.
            if join.null_aware {
                return Ok(Transformed::no(node));
            }
            self.choose(join).map(Transformed::yes)
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "distribution"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl DistributionRule {
    fn choose(&self, join: &HashJoinExec) -> Result<Plan> {
        let (left, right) = (join.left(), join.right());
        let (left_everywhere, right_everywhere) = (is_everywhere(left), is_everywhere(right));
        let nodes = self.layout.nodes() as f64;
        let (left_bytes, right_bytes) = (bytes(left), bytes(right));
        let colocated = are_colocated(join);
        let to_slices = |everywhere: bool, placed: bool, bytes: f64| {
            if everywhere || placed || colocated { 0.0 } else { bytes * (nodes - 1.0) / nodes }
        };
        let partitioned = to_slices(left_everywhere, is_placed_by_keys(join, true), left_bytes)
            + to_slices(right_everywhere, is_placed_by_keys(join, false), right_bytes);
        // Every node hashes a side that goes everywhere, not only its part of it.
        let to_all = |may: bool, everywhere: bool, bytes: f64| match (may, everywhere) {
            (false, _) => f64::INFINITY,
            (true, true) => 0.0,
            (true, false) => bytes * nodes,
        };
        let join_type = *join.join_type();
        let left_to_all = to_all(right_may_stream(join_type), left_everywhere, left_bytes);
        let swapped = right_may_stream(join_type.swap());
        let right_to_all = to_all(swapped, right_everywhere, right_bytes);
        // What is on every node is hashed there, and the other side stays where it is, placed as
        // it was: later joins by its key need that.
        if right_everywhere && !left_everywhere && swapped {
            join.swap_inputs(PartitionMode::CollectLeft)
        } else if left_to_all <= partitioned && left_to_all <= right_to_all && !colocated {
            with_mode(join, PartitionMode::CollectLeft)
        } else if right_to_all < partitioned {
            join.swap_inputs(PartitionMode::CollectLeft)
        } else {
            with_mode(join, PartitionMode::Partitioned)
        }
    }
}

fn with_mode(join: &HashJoinExec, mode: PartitionMode) -> Result<Plan> {
    join.builder().with_partition_mode(mode).recompute_properties().build_exec()
}

/// Whether every node has all rows of the plan without anybody sending any.
fn is_everywhere(plan: &Plan) -> bool {
    if let Some(leaf) = plan.downcast_ref::<DistributedLeafExec>() {
        return is_everywhere(leaf.original());
    }
    if let Some(scan) = plan.downcast_ref::<SliceScanExec>() {
        return scan.version().distribution == Distribution::All && scan.fetch().is_none();
    }
    let one_task = plan.fetch().is_some()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>();
    if plan.children().is_empty() {
        return is_made_anywhere(plan);
    }
    !one_task && plan.children().into_iter().all(is_everywhere)
}

/// What the rows of a plan take on the way, as far as statistics tell.
fn bytes(plan: &Plan) -> f64 {
    let statistics = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new());
    let rows = statistics.ok().and_then(|known| known.num_rows.get_value().copied());
    rows.unwrap_or(UNKNOWN_ROWS).max(1) as f64 * row_bytes(&plan.schema())
}

fn row_bytes(schema: &Schema) -> f64 {
    const TEXT_BYTES: usize = 32;
    let width = |data_type: &DataType| data_type.primitive_width().unwrap_or(TEXT_BYTES);
    schema.fields().iter().map(|field| width(field.data_type())).sum::<usize>().max(1) as f64
}

/// What a join moves, in Redshift's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// Nothing.
    None,
    /// Nothing: one side is on every node.
    AllNone,
    /// The hashed side goes to every node.
    BroadcastInner,
    /// The hashed side is redistributed.
    Inner,
    /// The probing side is redistributed.
    Outer,
    /// Both sides are redistributed.
    Both,
    /// The hashed side goes to one slice, where one copy of the other, which is on every node, is.
    AllInner,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "DS_DIST_NONE",
            Self::AllNone => "DS_DIST_ALL_NONE",
            Self::BroadcastInner => "DS_BCAST_INNER",
            Self::Inner => "DS_DIST_INNER",
            Self::Outer => "DS_DIST_OUTER",
            Self::Both => "DS_DIST_BOTH",
            Self::AllInner => "DS_DIST_ALL_INNER",
        })
    }
}

/// What a join of a finished plan moves, `left` being the side that is hashed. With one node rows
/// move between its slices, in memory; with several it is the network that counts.
pub(super) fn label(left: &Plan, right: &Plan, nodes: usize) -> Label {
    let everywhere = is_everywhere(left) || is_everywhere(right);
    let (left_moves, right_moves) = match nodes {
        1 => (motion_in_node(left), motion_in_node(right)),
        _ => (motion(left), motion(right)),
    };
    let is_gathered = left_moves == Some(Motion::Gather);
    match (left_moves, right_moves) {
        (None, _) | (_, None) if nodes == 1 && everywhere => Label::AllNone,
        (Some(Motion::Broadcast), _) => Label::BroadcastInner,
        (Some(_), _) if is_gathered && is_everywhere(below_gather(right)) => Label::AllInner,
        (Some(_), Some(_)) => Label::Both,
        (Some(_), None) => Label::Inner,
        (None, Some(_)) => Label::Outer,
        (None, None) if everywhere => Label::AllNone,
        (None, None) => Label::None,
    }
}

/// How the rows of a side of a join come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Motion {
    /// By the hash of the keys.
    Shuffle,
    /// To every node.
    Broadcast,
    /// To one task.
    Gather,
}

fn motion(side: &Plan) -> Option<Motion> {
    let side = below_helpers(side);
    if side.is::<NetworkBroadcastExec>() || side.is::<BroadcastExec>() {
        return Some(Motion::Broadcast);
    }
    if side.is::<NetworkShuffleExec>() {
        return Some(Motion::Shuffle);
    }
    side.is::<NetworkCoalesceExec>().then_some(Motion::Gather)
}

/// The same between the slices of one node. A side that is collected is one hash table, which all
/// slices look into where it is: nothing is moved.
fn motion_in_node(side: &Plan) -> Option<Motion> {
    let mut side = side;
    while side.is::<CooperativeExec>() || side.is::<GuardExec>() {
        side = side.children()[0];
    }
    let repartition = side.downcast_ref::<RepartitionExec>()?;
    matches!(repartition.partitioning(), Partitioning::Hash(..)).then_some(Motion::Shuffle)
}

/// The node below those that move no rows.
fn below_helpers(plan: &Plan) -> &Plan {
    let mut plan = plan;
    while plan.is::<GuardExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<RepartitionExec>()
    {
        plan = plan.children()[0];
    }
    plan
}

/// What is gathered, if the plan is a gather.
fn below_gather(plan: &Plan) -> &Plan {
    let gather = below_helpers(plan);
    if gather.is::<NetworkCoalesceExec>() { below_helpers(gather.children()[0]) } else { plan }
}
