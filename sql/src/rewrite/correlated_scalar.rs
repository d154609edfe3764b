//! Correlated scalar subqueries that are no aggregates and compare with the outside by more than
//! `=`, which DataFusion refuses: `SELECT (SELECT x.v FROM x WHERE x.k > t.k) FROM t`. Those that
//! compare by `=` alone become aggregates in [`super::scalar_subquery`].
//!
//! The values that the subquery takes from outside are made a table of their own, without doubles;
//! the subquery becomes a join with it, grouped by them, and is joined back:
//!
//! ```text
//!   outer LEFT JOIN (SELECT o.*, single_value(v)
//!                    FROM (SELECT DISTINCT k AS o FROM outer) JOIN x ON x.k = o
//!                    GROUP BY o) ON outer.k IS NOT DISTINCT FROM o
//! ```
//!
//! A second row for the same outer values is the error that SQL asks for, no row is NULL, and the
//! conditions between inside and outside may be any. The outer input runs twice, so that it must give
//! the same values each time: one that may not is refused.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ExprSchema, Result, TableReference};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection,
    Subquery, binary_expr,
};
use std::sync::Arc;

use crate::error::Error;
use crate::functions::single_value;

/// The qualifier of the values from outside, inside.
const OUTER: &str = "__outer";
/// The qualifier of a subquery's result, before its number.
const RESULT: &str = "__scalar";
/// The name of the value there.
const VALUE: &str = "value";

/// Joins what the node's correlated subqueries give to its input, if there are any of this kind.
/// Beside it, of a filter, the columns that it had before.
pub(super) fn join(plan: LogicalPlan) -> Result<(LogicalPlan, Option<Vec<Expr>>)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let Projection { expr, input, .. } = &projection;
            let mut joined = Joined::new(input);
            let expressions =
                expr.iter().map(|expr| joined.expression(expr)).collect::<Result<Vec<_>>>()?;
            if joined.count == 0 {
                return Ok((LogicalPlan::Projection(projection), None));
            }
            Ok((LogicalPlanBuilder::from(joined.input).project(expressions)?.build()?, None))
        }
        LogicalPlan::Filter(filter) => {
            let Filter { predicate, input, .. } = &filter;
            let mut joined = Joined::new(input);
            let predicate = joined.expression(predicate)?;
            if joined.count == 0 {
                return Ok((LogicalPlan::Filter(filter), None));
            }
            let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
            let plan = LogicalPlanBuilder::from(joined.input).filter(predicate)?.build()?;
            Ok((plan, Some(columns)))
        }
        other => Ok((other, None)),
    }
}

/// A node's input, with the results of its subqueries beside it.
struct Joined {
    original: Arc<LogicalPlan>,
    input: LogicalPlan,
    count: usize,
}

impl Joined {
    fn new(input: &Arc<LogicalPlan>) -> Self {
        Self { original: Arc::clone(input), input: input.as_ref().clone(), count: 0 }
    }

    /// The expression with columns in place of its subqueries.
    fn expression(&mut self, expr: &Expr) -> Result<Expr> {
        let replaced = expr.clone().transform_up(|expr| match expr {
            Expr::ScalarSubquery(subquery) => match Parts::of(&subquery, &self.original)? {
                Some(parts) => self.result(parts).map(Transformed::yes),
                None => Ok(Transformed::no(Expr::ScalarSubquery(subquery))),
            },
            other => Ok(Transformed::no(other)),
        })?;
        Ok(replaced.data)
    }

    /// Joins the result of a subquery and gives its column.
    fn result(&mut self, parts: Parts) -> Result<Expr> {
        check_repeatable(&self.original, &parts.outer)?;
        let qualifier = TableReference::bare(format!("{RESULT}_{}", self.count));
        self.count += 1;
        let outer = parts.outer.iter().enumerate();
        let outer = outer.map(|(index, column)| {
            Expr::Column(column.clone()).alias_qualified(Some(OUTER), key_name(index))
        });
        let keys: Vec<Expr> =
            (0..parts.outer.len()).map(|index| Expr::Column(outer_column(index))).collect();
        let distinct =
            LogicalPlanBuilder::from(self.original.as_ref().clone()).project(outer)?.distinct()?;
        let matched = distinct.join_on(parts.source, JoinType::Inner, parts.conditions)?;
        let value = single_value().call(vec![parts.value]);
        let grouped = matched.aggregate(keys.clone(), vec![value])?.build()?;
        let mut columns = grouped.schema().columns();
        let value = columns.pop().map(Expr::Column);
        let outputs = (0..parts.outer.len())
            .map(|index| {
                Expr::Column(outer_column(index))
                    .alias_qualified(Some(qualifier.clone()), key_name(index))
            })
            .chain(value.map(|value| value.alias_qualified(Some(qualifier.clone()), VALUE)));
        let result = LogicalPlanBuilder::from(grouped).project(outputs)?.build()?;
        let same = parts.outer.into_iter().enumerate().map(|(index, column)| {
            let key = Column::new(Some(qualifier.clone()), key_name(index));
            binary_expr(Expr::Column(column), Operator::IsNotDistinctFrom, Expr::Column(key))
        });
        let input = std::mem::take(&mut self.input);
        self.input =
            LogicalPlanBuilder::from(input).join_on(result, JoinType::Left, same)?.build()?;
        Ok(Expr::Column(Column::new(Some(qualifier), VALUE)))
    }
}

fn key_name(index: usize) -> String {
    format!("key_{index}")
}

fn outer_column(index: usize) -> Column {
    Column::new(Some(OUTER), key_name(index))
}

/// The parts of a subquery of the shape that is joined here.
struct Parts {
    /// What it selects from, free of the outside.
    source: LogicalPlan,
    conditions: Vec<Expr>,
    value: Expr,
    /// The columns from outside.
    outer: Vec<Column>,
}

impl Parts {
    /// None for a subquery that is an aggregate, takes nothing from this node's input, or takes it
    /// in a place where it cannot be moved.
    fn of(subquery: &Subquery, input: &LogicalPlan) -> Result<Option<Self>> {
        let LogicalPlan::Projection(projection) = subquery.subquery.as_ref() else {
            return Ok(None);
        };
        let ([value], false) = (projection.expr.as_slice(), subquery.outer_ref_columns.is_empty())
        else {
            return Ok(None);
        };
        let (source, conditions) = match projection.input.as_ref() {
            LogicalPlan::Filter(filter) => {
                (filter.input.as_ref(), split_conjunction_owned(filter.predicate.clone()))
            }
            other => (other, Vec::new()),
        };
        if matches!(source, LogicalPlan::Aggregate(_) | LogicalPlan::Limit(_))
            || refers_to_outside(source)?
        {
            return Ok(None);
        }
        if !projection.expr.iter().any(Expr::contains_outer)
            && conditions
                .iter()
                .all(|condition| !condition.contains_outer() || is_simple(condition))
        {
            return Ok(None);
        }
        let mut outer = Vec::new();
        let conditions = conditions
            .into_iter()
            .map(|condition| without_outside(condition, &mut outer))
            .collect::<Result<Vec<_>>>()?;
        let value = without_outside(value.clone().unalias(), &mut outer)?;
        let is_known = outer.iter().all(|column| input.schema().has_column(column));
        if outer.is_empty() || !is_known {
            return Ok(None);
        }
        Ok(Some(Self { source: source.clone(), conditions, value, outer }))
    }
}

/// Whether it is an equality that DataFusion groups an aggregate by: of a column inside and a value
/// from outside.
fn is_simple(condition: &Expr) -> bool {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else {
        return false;
    };
    let is_column = |expr: &Expr| match expr {
        Expr::Column(_) => true,
        Expr::Cast(cast) => matches!(cast.expr.as_ref(), Expr::Column(_)),
        _ => false,
    };
    (is_column(left) && !right.any_column_refs()) || (is_column(right) && !left.any_column_refs())
}

/// Fails for an input whose second run may give other values of these columns.
fn check_repeatable(input: &LogicalPlan, columns: &[Column]) -> Result<()> {
    let (mut varies, mut sums) = (false, false);
    input.apply_with_subqueries(|node| {
        varies |= matches!(node, LogicalPlan::Limit(_) | LogicalPlan::Window(_));
        sums |= matches!(node, LogicalPlan::Aggregate(_));
        node.apply_expressions(|expr| {
            varies |= expr.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    // The sum of floats depends on their order.
    for column in columns {
        varies |= sums && input.schema().data_type(column)?.is_floating();
    }
    if varies {
        let what = "this correlated subquery over a query whose rows may change between two runs";
        return Err(Error::not_supported(what)
            .with_hint("Compare with the outer columns by = alone, or write a join.")
            .into());
    }
    Ok(())
}

/// Whether a plan takes something from outside, also below a further subquery.
fn refers_to_outside(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.contains_outer();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// The expression with plain columns in place of those from outside.
fn without_outside(expr: Expr, outer: &mut Vec<Column>) -> Result<Expr> {
    let replaced = expr.transform_up(|expr| match expr {
        Expr::OuterReferenceColumn(_, column) => {
            let known = outer.iter().position(|known| *known == column);
            let index = known.unwrap_or_else(|| {
                outer.push(column);
                outer.len() - 1
            });
            Ok(Transformed::yes(Expr::Column(outer_column(index))))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(replaced.data)
}
