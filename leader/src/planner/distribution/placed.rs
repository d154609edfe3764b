//! By which columns the rows of a plan lie on slices, or will lie once DataFusion has added the
//! repartitions that the plan below needs.

use std::sync::Arc;

use datafusion::common::{JoinSide, JoinType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};

type Plan = Arc<dyn ExecutionPlan>;

/// Positions of output columns: a row's slice is the hash of these.
type Columns = Vec<usize>;

/// Whether both sides lie by the same of the join's keys.
pub(super) fn are_colocated(join: &HashJoinExec) -> bool {
    share_keys(join, &placements(join.left()), &placements(join.right()))
}

fn share_keys(join: &HashJoinExec, left: &[Columns], right: &[Columns]) -> bool {
    let pairs = key_columns(join);
    left.iter().any(|left| {
        let partners: Option<Columns> = left
            .iter()
            .map(|column| pairs.iter().find(|(own, _)| own == column).map(|(_, other)| *other))
            .collect();
        partners.is_some_and(|partners| right.contains(&partners))
    })
}

/// Whether one side lies by all of the join's keys, so that only the other has to move.
pub(super) fn is_placed_by_keys(join: &HashJoinExec, left: bool) -> bool {
    let pairs = key_columns(join);
    if pairs.len() != join.on().len() {
        return false;
    }
    let own = |(left_key, right_key): &(usize, usize)| if left { *left_key } else { *right_key };
    let mut keys: Columns = pairs.iter().map(own).collect();
    keys.sort_unstable();
    let side = if left { join.left() } else { join.right() };
    placements(side).into_iter().any(|mut columns| {
        columns.sort_unstable();
        columns == keys
    })
}

/// The keys that are plain columns on both sides.
fn key_columns(join: &HashJoinExec) -> Vec<(usize, usize)> {
    let pair = |(left, right): &(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)| {
        Some((position(left)?, position(right)?))
    };
    join.on().iter().filter_map(pair).collect()
}

fn position(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// All that is known; several where columns are equal.
fn placements(plan: &Plan) -> Vec<Columns> {
    if plan.children().is_empty() {
        return match plan.output_partitioning() {
            Partitioning::Hash(keys, _) => {
                keys.iter().map(position).collect::<Option<Columns>>().into_iter().collect()
            }
            _ => vec![],
        };
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let outputs: Vec<Option<usize>> =
            projection.expr().iter().map(|output| position(&output.expr)).collect();
        let moved = |column: usize| outputs.iter().position(|from| *from == Some(column));
        return mapped(placements(projection.input()), moved);
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let below = placements(filter.input());
        return match filter.projection().as_deref() {
            None => below,
            Some(kept) => mapped(below, |column| kept.iter().position(|from| *from == column)),
        };
    }
    if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
        return of_aggregate(aggregate);
    }
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        return of_join(join);
    }
    let passes = plan.is::<CooperativeExec>()
        || plan.is::<WindowAggExec>()
        || plan.is::<BoundedWindowAggExec>();
    if passes { placements(plan.children()[0]) } else { vec![] }
}

fn mapped(placements: Vec<Columns>, to: impl Fn(usize) -> Option<usize>) -> Vec<Columns> {
    let moved = |columns: Columns| columns.into_iter().map(&to).collect::<Option<Columns>>();
    placements.into_iter().filter_map(moved).collect()
}

/// Groups stay where their rows are if they are made of the columns by which these lie; else they
/// go by their keys.
fn of_aggregate(aggregate: &AggregateExec) -> Vec<Columns> {
    let keys = aggregate.group_expr().expr();
    let columns: Vec<Option<usize>> = keys.iter().map(|(key, _)| position(key)).collect();
    let to_group = |column: usize| columns.iter().position(|from| *from == Some(column));
    let kept = mapped(placements(aggregate.input()), to_group);
    let is_partial =
        matches!(aggregate.mode(), AggregateMode::Partial | AggregateMode::PartialReduce);
    if is_partial || !kept.is_empty() || keys.is_empty() {
        return kept;
    }
    vec![(0..keys.len()).collect()]
}

fn of_join(join: &HashJoinExec) -> Vec<Columns> {
    let left_columns = join.left().schema().fields().len();
    let (left_out, right_out) = match join.join_type() {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            (Some(0), Some(left_columns))
        }
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (Some(0), None),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => (None, Some(0)),
    };
    let (left, right) = (placements(join.left()), placements(join.right()));
    let moves =
        *join.partition_mode() == PartitionMode::Partitioned && !share_keys(join, &left, &right);
    let pairs = key_columns(join);
    let mut found = Vec::new();
    for side in kept_sides(join) {
        let (columns, offset) = match side {
            JoinSide::Left => (&left, left_out),
            JoinSide::Right | JoinSide::None => (&right, right_out),
        };
        let Some(offset) = offset else { continue };
        let own = |pair: &(usize, usize)| match side {
            JoinSide::Left => pair.0,
            JoinSide::Right | JoinSide::None => pair.1,
        };
        let columns = match moves {
            false => columns.clone(),
            true if pairs.len() == join.on().len() => vec![pairs.iter().map(own).collect()],
            true => vec![],
        };
        found.extend(mapped(columns, |column| Some(column + offset)));
    }
    match join.projection.as_deref() {
        None => found,
        Some(kept) => mapped(found, |column| kept.iter().position(|from| *from == column)),
    }
}

/// The sides whose rows stay where they are in the result, none of them made up for the other.
fn kept_sides(join: &HashJoinExec) -> &'static [JoinSide] {
    let partitioned = *join.partition_mode() == PartitionMode::Partitioned;
    match join.join_type() {
        JoinType::Inner if partitioned => &[JoinSide::Left, JoinSide::Right],
        JoinType::Inner | JoinType::Right => &[JoinSide::Right],
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => &[JoinSide::Right],
        JoinType::Left | JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark
            if partitioned =>
        {
            &[JoinSide::Left]
        }
        _ => &[],
    }
}
