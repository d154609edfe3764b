//! Puts [`crate::functions::single_value`] on top of scalar subqueries that could have several rows,
//! and around correlated ones what does the same for each outer row.

use datafusion::common::Result;
use datafusion::logical_expr::{Expr, FetchType, LogicalPlan, LogicalPlanBuilder, Subquery};
use std::sync::Arc;

use crate::error::Error;
use crate::functions::{few_values, only_value, single_value};

/// The value of the subquery, which has one row at most or fails.
pub(super) fn guard(subquery: Subquery) -> Result<Expr> {
    let is_correlated = !subquery.outer_ref_columns.is_empty();
    let columns = subquery.subquery.schema().columns();
    if columns.len() > 1 {
        return Err(Error::syntax("subquery must return only one column").into());
    }
    let Some(column) = columns.into_iter().next() else {
        return Ok(Expr::ScalarSubquery(subquery));
    };
    if has_one_row(&subquery.subquery) {
        return Ok(Expr::ScalarSubquery(subquery));
    }
    let plan = subquery.subquery.as_ref().clone();
    let aggregate = if is_correlated { few_values() } else { single_value() };
    let value = aggregate.call(vec![Expr::Column(column.clone())]);
    let name = column.name.clone();
    let guarded =
        LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), vec![value])?.build()?;
    let output = guarded.schema().columns().into_iter().next();
    let Some(output) = output else { return Ok(Expr::ScalarSubquery(subquery)) };
    let guarded = LogicalPlanBuilder::from(guarded)
        .project(vec![Expr::Column(output).alias(name)])?
        .build()?;
    let guarded = Subquery { subquery: Arc::new(guarded), ..subquery };
    let value = Expr::ScalarSubquery(guarded);
    Ok(if is_correlated { only_value().call(vec![value]) } else { value })
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
