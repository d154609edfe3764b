//! Joins: DataFusion's left side is what Redshift calls inner, the side that is hashed; the right one
//! is the outer side, which passes by.

use std::sync::Arc;

use datafusion::common::{JoinSide, JoinType, NullEquality, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};

use super::aggregate::fitted;
use super::estimate::{ColumnEstimate, Cost, Estimate, inner_rows};
use super::expression::{Text, conjunction, text_over};
use super::input::{Input, Motion};
use super::step::{Kind, Step};
use super::{Describer, Plan};
use crate::planner::distribution::label;

/// What a condition that is no equality lets through.
const SELECTIVITY_FILTER: f64 = 0.25;

type Keys<'p> = &'p [(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)];

/// A join as the nodes of a plan describe it.
struct Join<'p> {
    left: &'p Plan,
    right: &'p Plan,
    join_type: JoinType,
    on: Keys<'p>,
    filter: Option<&'p JoinFilter>,
    projection: Option<&'p [usize]>,
}

/// The two sides, by what they do.
struct Sides {
    outer: Step,
    inner: Step,
}

impl Describer {
    pub(super) fn hash_join(&mut self, plan: &Plan, join: &HashJoinExec) -> Result<Step> {
        let is_set_operation = join.null_equality() == NullEquality::NullEqualsNull;
        let name = match (hash_join_name(*join.join_type()), is_set_operation) {
            ("Hash IN Join", true) => "Hash Intersect",
            ("Hash NOT IN Join", true) => "SetOp Except",
            (name, _) => name,
        };
        let join = Join {
            left: join.left(),
            right: join.right(),
            join_type: *join.join_type(),
            on: join.on(),
            filter: join.filter(),
            projection: join.projection.as_deref(),
        };
        let mut sides = self.sides(&join)?;
        let mut hash = Step::over("Hash", sides.inner);
        hash.cost = hash.cost.hashed();
        hash.actual = hash.inputs[0].actual.as_ref().map(|actual| actual.rows_only());
        sides.inner = hash;
        self.joined(plan, &join, sides, (name, "Hash Cond"))
    }

    pub(super) fn merge_join(&mut self, plan: &Plan, join: &SortMergeJoinExec) -> Result<Step> {
        let name = match join.join_type() {
            JoinType::Inner => "Merge Join",
            JoinType::Right => "Merge Left Join",
            JoinType::Left => "Merge Right Join",
            JoinType::Full => "Merge Full Join",
            JoinType::LeftSemi | JoinType::RightSemi => "Merge IN Join",
            JoinType::LeftAnti | JoinType::RightAnti => "Merge NOT IN Join",
            JoinType::LeftMark | JoinType::RightMark => "Merge Mark Join",
        };
        let join = Join {
            left: join.left(),
            right: join.right(),
            join_type: join.join_type(),
            on: join.on(),
            filter: join.filter().as_ref(),
            projection: None,
        };
        let sides = self.sides(&join)?;
        self.joined(plan, &join, sides, (name, "Merge Cond"))
    }

    pub(super) fn nested_loop(&mut self, plan: &Plan, join: &NestedLoopJoinExec) -> Result<Step> {
        let join = Join {
            left: join.left(),
            right: join.right(),
            join_type: *join.join_type(),
            on: &[],
            filter: join.filter(),
            projection: join.projection().as_deref(),
        };
        self.looped(plan, &join)
    }

    pub(super) fn cross_join(&mut self, plan: &Plan, left: &Plan, right: &Plan) -> Result<Step> {
        let join = Join {
            left,
            right,
            join_type: JoinType::Inner,
            on: &[],
            filter: None,
            projection: None,
        };
        self.looped(plan, &join)
    }

    fn looped(&mut self, plan: &Plan, join: &Join<'_>) -> Result<Step> {
        let name = match join.join_type {
            JoinType::Inner => "Nested Loop",
            JoinType::Right => "Nested Loop Left Join",
            JoinType::Left => "Nested Loop Right Join",
            JoinType::Full => "Nested Loop Full Join",
            JoinType::LeftSemi | JoinType::RightSemi => "Nested Loop IN Join",
            JoinType::LeftAnti | JoinType::RightAnti => "Nested Loop NOT IN Join",
            JoinType::LeftMark | JoinType::RightMark => "Nested Loop Mark Join",
        };
        self.has_nested_loop = true;
        let sides = self.sides(join)?;
        self.joined(plan, join, sides, (name, "Join Filter"))
    }

    /// What each side gives. The label tells of motions, but for an outer side that goes to every
    /// node, which has none of its own.
    fn sides(&mut self, join: &Join<'_>) -> Result<Sides> {
        let inner = self.input(join.left)?;
        let outer = self.input(join.right)?;
        let is_broadcast = outer.motion == Some(Motion::Broadcast);
        let outer = if is_broadcast { self.settle(outer) } else { self.silent(outer) };
        Ok(Sides { outer, inner: self.silent(inner) })
    }

    /// The motion costs, and has no line.
    fn silent(&self, input: Input) -> Step {
        let bytes = self.moved_bytes(&input);
        let mut step = input.step;
        step.note_moved(input.moved);
        step.cost = step.cost.then_moved(bytes);
        step
    }

    fn joined(
        &mut self,
        plan: &Plan,
        join: &Join<'_>,
        Sides { outer, inner }: Sides,
        (name, condition): (&str, &str),
    ) -> Result<Step> {
        let name = if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{name} {}", label(join.left, join.right, self.layout.nodes()))
        };
        let mut details = Vec::new();
        let keys = conditions(join, &outer, &inner);
        if !keys.is_empty() {
            details.push(format!("{condition}: {}", conjunction(&keys)));
        }
        if let Some(filter) = join.filter {
            details.push(format!("Join Filter: {}", filter_text(filter, &outer, &inner)));
        }
        let estimate = estimate(plan, join, &outer, &inner);
        let (o, i) = ((outer.cost, outer.estimate.rows), (inner.cost, inner.estimate.rows));
        let cost = if join.on.is_empty() {
            Cost::nested_loop(o, i, estimate.rows)
        } else {
            Cost::hash_join(o, i, join.filter.map_or(0, |_| 1), estimate.rows)
        };
        let mut step = Step {
            name,
            kind: Kind::Join,
            details,
            filters: Vec::new(),
            cost,
            estimate,
            columns: columns(plan, join, &outer, &inner),
            actual: None,
            inputs: vec![outer, inner],
        };
        self.set_run(&mut step, plan);
        Ok(step)
    }
}

/// Redshift names a join by what happens to the rows of its outer side.
fn hash_join_name(join_type: JoinType) -> &'static str {
    match join_type {
        JoinType::Inner => "Hash Join",
        JoinType::Right => "Hash Left Join",
        JoinType::Left => "Hash Right Join",
        JoinType::Full => "Hash Full Join",
        JoinType::LeftSemi | JoinType::RightSemi => "Hash IN Join",
        JoinType::LeftAnti | JoinType::RightAnti => "Hash NOT IN Join",
        JoinType::LeftMark | JoinType::RightMark => "Hash Mark Join",
    }
}

/// `("outer".a = "inner".b)` for each pair of keys.
fn conditions(join: &Join<'_>, outer: &Step, inner: &Step) -> Vec<String> {
    let side = |key: &Arc<dyn PhysicalExpr>, step: &Step, side: &str| {
        let names: Vec<String> = step.columns.iter().map(|column| column.of_side(side)).collect();
        text_over(key, &names.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let pair = |(left, right): &(Arc<dyn PhysicalExpr>, Arc<dyn PhysicalExpr>)| {
        format!("({} = {})", side(right, outer, "outer"), side(left, inner, "inner"))
    };
    join.on.iter().map(pair).collect()
}

fn filter_text(filter: &JoinFilter, outer: &Step, inner: &Step) -> String {
    let column = |side: JoinSide, index: usize| match side {
        JoinSide::Left => inner.columns.get(index).map(|column| column.of_side("inner")),
        JoinSide::Right => outer.columns.get(index).map(|column| column.of_side("outer")),
        JoinSide::None => None,
    };
    let columns = filter.column_indices().iter();
    let columns: Vec<String> =
        columns.map(|from| column(from.side, from.index).unwrap_or_default()).collect();
    text_over(filter.expression(), &columns.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The output before a projection: of which sides it is made.
fn both<T: Clone>(join_type: JoinType, left: &[T], right: &[T]) -> Vec<T> {
    match join_type {
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
            [left, right].concat()
        }
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left.to_vec(),
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right.to_vec(),
    }
}

fn columns(plan: &Plan, join: &Join<'_>, outer: &Step, inner: &Step) -> Vec<Text> {
    let mut all = both(join.join_type, &inner.columns, &outer.columns);
    if matches!(join.join_type, JoinType::LeftMark | JoinType::RightMark) {
        all.push(Text::computed("mark".to_owned()));
    }
    match join.projection {
        Some(kept) => fitted(kept.iter().filter_map(|at| all.get(*at)).cloned().collect(), plan),
        None => fitted(all, plan),
    }
}

fn estimate(plan: &Plan, join: &Join<'_>, outer: &Step, inner: &Step) -> Estimate {
    let (o, i) = (&outer.estimate, &inner.estimate);
    let distinct = |key: &Arc<dyn PhysicalExpr>, side: &Estimate| {
        let column = key.downcast_ref::<Column>();
        column.map_or_else(|| side.rows.max(1.0), |column| side.distinct(column.index()))
    };
    let keys: Vec<(f64, f64)> =
        join.on.iter().map(|(left, right)| (distinct(right, o), distinct(left, i))).collect();
    let filtered = if join.filter.is_some() { SELECTIVITY_FILTER } else { 1.0 };
    let matched = inner_rows(o.rows, i.rows, &keys) * filtered;
    let (first_o, first_i) = keys.first().copied().unwrap_or((2.0, 1.0));
    let found_of_outer = (first_i / first_o).min(1.0);
    let found_of_inner = (first_o / first_i).min(1.0);
    let rows = match join.join_type {
        JoinType::Inner => matched,
        JoinType::Right => matched.max(o.rows),
        JoinType::Left => matched.max(i.rows),
        JoinType::Full => matched.max(o.rows).max(i.rows),
        JoinType::RightSemi => o.rows * found_of_outer,
        JoinType::LeftSemi => i.rows * found_of_inner,
        JoinType::RightAnti => o.rows * (1.0 - found_of_outer).max(0.1),
        JoinType::LeftAnti => i.rows * (1.0 - found_of_inner).max(0.1),
        JoinType::RightMark => o.rows,
        JoinType::LeftMark => i.rows,
    };
    let has_rows = o.rows > 0.0 && i.rows > 0.0;
    let rows = if has_rows { rows.max(1.0) } else { rows };
    let mut estimate = Estimate::unknown(rows, &plan.schema());
    let all = both(join.join_type, &i.columns, &o.columns);
    let kept: Vec<ColumnEstimate> = match join.projection {
        Some(kept) => kept.iter().filter_map(|at| all.get(*at)).copied().collect(),
        None => all,
    };
    for (own, known) in estimate.columns.iter_mut().zip(kept) {
        *own = known;
    }
    estimate
}
