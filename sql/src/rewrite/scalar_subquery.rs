//! Puts [`crate::functions::single_value`] on top of scalar subqueries that could have several rows.

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, LogicalPlanBuilder, Subquery};
use std::sync::Arc;

use crate::functions::single_value;

/// The subquery, sure to have one row or to fail. A correlated one is left alone: the planner
/// accepts it only if it is an aggregate.
pub(super) fn guard(subquery: Subquery) -> Result<Subquery> {
    if !subquery.outer_ref_columns.is_empty() || has_one_row(&subquery.subquery) {
        return Ok(subquery);
    }
    let plan = subquery.subquery.as_ref().clone();
    let Some(column) = plan.schema().columns().into_iter().next() else { return Ok(subquery) };
    let value = single_value().call(vec![Expr::Column(column.clone())]);
    let name = column.name.clone();
    let guarded =
        LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), vec![value])?.build()?;
    let output = guarded.schema().columns().into_iter().next();
    let Some(output) = output else { return Ok(subquery) };
    let guarded = LogicalPlanBuilder::from(guarded)
        .project(vec![Expr::Column(output).alias(name)])?
        .build()?;
    Ok(Subquery { subquery: Arc::new(guarded), ..subquery })
}

fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => has_one_row(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => has_one_row(&alias.input),
        LogicalPlan::Sort(sort) => has_one_row(&sort.input),
        LogicalPlan::Filter(filter) => has_one_row(&filter.input),
        LogicalPlan::Aggregate(aggregate) => aggregate.group_expr.is_empty(),
        LogicalPlan::Limit(limit) => {
            matches!(limit.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1))))
        }
        LogicalPlan::EmptyRelation(_) => true,
        _ => false,
    }
}
