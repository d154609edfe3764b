//! IN, EXISTS, ANY and ALL over subqueries.
//!
//! DataFusion turns them into joins, which is right where NULL and false are the same: for `x IN
//! (...)` and EXISTS in a filter, under AND and OR, and for `x NOT IN (...)` as a whole condition.
//! Everywhere else its answer has two values where SQL has three, or it has none. There `x IN (S)`
//! becomes
//!
//! ```sql
//! CASE WHEN x IN (S) THEN true                                   -- the join
//!      WHEN (SELECT min(CASE WHEN s IS NULL THEN 0 ELSE 1 END) FROM S)  -- NULL without a row
//!           < CASE WHEN x IS NULL THEN 2 ELSE 1 END THEN NULL
//!      ELSE false END
//! ```
//!
//! and `x < ANY (S)` the same with `x < (SELECT max(s) FROM S)` in front. ALL is the opposite of ANY
//! with the opposite operator. Outside of filters the join is made here.

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType, Result, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::expr::{Exists, InSubquery, SetComparison, SetQuantifier};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, LogicalPlan, LogicalPlanBuilder, Operator, Subquery,
    lit, when,
};
use std::sync::Arc;

use super::{Context, comparison, input_schema, marks};
use crate::error::{Error, ErrorKind};

/// What is asked of a condition at its place in a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The whole condition, or one side of an AND that is.
    Whole,
    /// NULL and false are the same.
    True,
    /// NULL and false differ.
    Exact,
}

/// Most nodes of a subquery that is needed twice.
const NODES_MAX: usize = 2_000;

/// Rewrites the subqueries of a node where DataFusion's joins do not fit.
pub(super) fn rewrite(plan: LogicalPlan, context: &Context<'_>) -> Result<LogicalPlan> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        found |= has_predicate(expr)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    if !found {
        return Ok(plan);
    }
    match plan {
        LogicalPlan::Filter(filter) => {
            let schema = marks::schema(&filter.input)?;
            let predicate = placed(filter.predicate, Place::Whole, &schema, context)?;
            Ok(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?))
        }
        plan if plan.inputs().len() == 1 => outside_of_filters(plan, context),
        plan => Ok(plan),
    }
}

fn has_predicate(expr: &Expr) -> Result<bool> {
    expr.exists(|expr| {
        Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    })
}

fn placed(expr: Expr, place: Place, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    if !has_predicate(&expr)? {
        return Ok(expr);
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let below = match (op, place) {
                (Operator::Or, Place::Whole) => Place::True,
                _ => place,
            };
            let left = placed(*left, below, schema, context)?;
            let right = placed(*right, below, schema, context)?;
            Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
        }
        Expr::Not(inner) => match *inner {
            Expr::InSubquery(found) => {
                let negated = InSubquery { negated: !found.negated, ..found };
                placed(Expr::InSubquery(negated), place, schema, context)
            }
            Expr::Exists(Exists { subquery, negated }) => {
                Ok(Expr::Exists(Exists { subquery, negated: !negated }))
            }
            other => Ok(Expr::Not(Box::new(placed(other, Place::Exact, schema, context)?))),
        },
        Expr::InSubquery(found) => {
            let fits = match place {
                Place::Whole => !found.negated || found.subquery.outer_ref_columns.is_empty(),
                Place::True => !found.negated,
                Place::Exact => false,
            };
            let InSubquery { expr, subquery, negated } = found;
            let expr = placed(*expr, Place::Exact, schema, context)?;
            let found = InSubquery { expr: Box::new(expr), subquery, negated };
            if fits || !may_be_null(&found, schema)? {
                return Ok(Expr::InSubquery(found));
            }
            let matched = InSubquery { negated: false, ..found.clone() };
            three_valued(&found, Expr::InSubquery(matched))
        }
        Expr::Exists(_) => Ok(expr),
        Expr::SetComparison(comparison) => {
            let comparison = quantified(comparison, schema, context)?;
            placed(comparison, place, schema, context)
        }
        other => other
            .map_children(|child| {
                placed(child, Place::Exact, schema, context).map(Transformed::yes)
            })
            .map(|children| children.data),
    }
}

fn may_be_null(found: &InSubquery, schema: &DFSchema) -> Result<bool> {
    let is_nullable = |field: &arrow::datatypes::FieldRef| field.is_nullable();
    Ok(found.expr.nullable(schema)?
        || found.subquery.subquery.schema().fields().first().is_none_or(is_nullable))
}

/// The CASE of the head of this file; `matched` is its first condition.
fn three_valued(found: &InSubquery, matched: Expr) -> Result<Expr> {
    check_size(&found.subquery)?;
    let least = aggregate(&found.subquery, |value| {
        Ok(min(when(value.is_null(), lit(0)).otherwise(lit(1))?))
    })?;
    let is_null = found.expr.as_ref().clone().is_null();
    let bound = when(is_null, lit(2)).otherwise(lit(1))?;
    let answer = when(matched, lit(true))
        .when(least.lt(bound), lit(ScalarValue::Boolean(None)))
        .otherwise(lit(false))?;
    Ok(if found.negated { Expr::Not(Box::new(answer)) } else { answer })
}

/// The subquery will be there twice, and what is nested in it four times, and so on.
fn check_size(subquery: &Subquery) -> Result<()> {
    let mut nodes = 0_usize;
    subquery.subquery.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(match nodes > NODES_MAX {
            true => TreeNodeRecursion::Stop,
            false => TreeNodeRecursion::Continue,
        })
    })?;
    if nodes > NODES_MAX {
        let message = "IN, ANY or ALL of subqueries nested too deeply";
        return Err(Error::new(ErrorKind::StatementTooComplex, message)
            .with_hint("Use EXISTS, or joins.")
            .into());
    }
    Ok(())
}

/// An aggregate of the column of a subquery, as a scalar subquery.
fn aggregate(subquery: &Subquery, function: impl FnOnce(Expr) -> Result<Expr>) -> Result<Expr> {
    let plan = subquery.subquery.as_ref().clone();
    let Some(column) = plan.schema().columns().into_iter().next() else {
        return Err(Error::syntax("subquery has no columns").into());
    };
    let plan = LogicalPlanBuilder::from(plan)
        .aggregate(Vec::<Expr>::new(), vec![function(Expr::Column(column))?])?
        .build()?;
    Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), ..subquery.clone() }))
}

/// expr op ANY (S) and expr op ALL (S).
fn quantified(comparison: SetComparison, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    let (op, negated) = match quantifier {
        SetQuantifier::Any => (op, false),
        SetQuantifier::All => match op.negate() {
            Some(opposite) => (opposite, true),
            None => return Err(unsupported(op).into()),
        },
    };
    let found = InSubquery { expr, subquery, negated };
    if op == Operator::Eq {
        return Ok(Expr::InSubquery(found));
    }
    let compare = |other: Expr| -> Result<Expr> {
        let (left, right) =
            comparison::operands(found.expr.as_ref().clone(), other, op, schema, context)?;
        Ok(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
    };
    let matched = match op {
        Operator::Lt | Operator::LtEq => {
            compare(aggregate(&found.subquery, |value| Ok(max(value)))?)?
        }
        Operator::Gt | Operator::GtEq => {
            compare(aggregate(&found.subquery, |value| Ok(min(value)))?)?
        }
        // Different from any: from the least or from the largest.
        Operator::NotEq => compare(aggregate(&found.subquery, |value| Ok(min(value)))?)?
            .or(compare(aggregate(&found.subquery, |value| Ok(max(value)))?)?),
        _ => return Err(unsupported(op).into()),
    };
    three_valued(&found, matched)
}

fn unsupported(op: Operator) -> Error {
    Error::not_supported(format!("{op} with ANY or ALL of a subquery"))
}

/// A node with one input that is no filter: the joins go under it.
fn outside_of_filters(plan: LogicalPlan, context: &Context<'_>) -> Result<LogicalPlan> {
    let schema = input_schema(&plan)?;
    let old_columns = plan.schema().columns();
    let mut input = plan.inputs()[0].clone();
    let names = datafusion::logical_expr::expr_rewriter::NamePreserver::new(&plan);
    let mut expressions = Vec::new();
    for expr in plan.expressions() {
        let name = names.save(&expr);
        let placed = placed(expr, Place::Exact, &schema, context)?;
        let joined = placed.transform_up(|expr| match expr {
            Expr::Exists(Exists { subquery, negated }) => {
                let rows = aggregate(&subquery, |_| Ok(count(lit(1_i64))))?;
                let zero = lit(0_i64);
                Ok(Transformed::yes(if negated { rows.eq(zero) } else { rows.gt(zero) }))
            }
            Expr::InSubquery(found) => {
                let (joined, mark) = mark(input.clone(), found, context)?;
                input = joined;
                Ok(Transformed::yes(mark))
            }
            other => Ok(Transformed::no(other)),
        })?;
        expressions.push(name.restore(joined.data));
    }
    let plan = plan.with_new_exprs(expressions, vec![input])?;
    if !matches!(plan, LogicalPlan::Sort(_)) || plan.schema().columns() == old_columns {
        return Ok(plan);
    }
    // A sort passes the columns of the joins on, and may have nothing above it that chooses.
    let columns = old_columns.into_iter().map(Expr::Column);
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

/// Joins a subquery so that a column says whether there is a match.
fn mark(
    input: LogicalPlan,
    found: InSubquery,
    context: &Context<'_>,
) -> Result<(LogicalPlan, Expr)> {
    if !found.subquery.outer_ref_columns.is_empty() {
        return Err(Error::not_supported("IN with a correlated subquery outside of a condition")
            .with_hint("Use EXISTS, or a scalar subquery with COUNT.")
            .into());
    }
    let name = context.new_name();
    let subquery = found.subquery.subquery.as_ref().clone();
    let right = LogicalPlanBuilder::from(subquery).alias(name.as_str())?.build()?;
    let Some(column) = right.schema().columns().into_iter().next() else {
        return Err(Error::syntax("subquery has no columns").into());
    };
    let condition = (*found.expr).eq(Expr::Column(column));
    let plan = LogicalPlanBuilder::from(input)
        .join_on(right, JoinType::LeftMark, Some(condition))?
        .build()?;
    let mark = Expr::Column(Column::new(Some(name), "mark"));
    Ok((plan, if found.negated { Expr::Not(Box::new(mark)) } else { mark }))
}
