//! Keys of GROUPING SETS, ROLLUP and CUBE that are expressions.
//!
//! The columns above the aggregate are named after its keys, and what is finished inside of a set has
//! no alias that would keep its name. So such keys are computed below, under their names.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use std::sync::Arc;

/// The aggregate over columns only; `finish` is applied to the node that computes them.
pub(super) fn over_columns(
    plan: LogicalPlan,
    finish: impl FnOnce(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<LogicalPlan> {
    let LogicalPlan::Aggregate(aggregate) = plan else { return Ok(plan) };
    if !matches!(aggregate.group_expr.as_slice(), [Expr::GroupingSet(_)]) {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let mut keys: Vec<(Expr, Expr)> = Vec::new();
    for key in grouping_set_to_exprlist(&aggregate.group_expr)? {
        if !matches!(key, Expr::Column(_)) {
            let name = key.schema_name().to_string();
            keys.push((key.clone(), Expr::Column(Column::new_unqualified(name))));
        }
    }
    if keys.is_empty() {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let computed = keys.iter().map(|(key, _)| key.clone().alias(key.schema_name().to_string()));
    let columns: Vec<Expr> =
        input.schema().columns().into_iter().map(Expr::Column).chain(computed).collect();
    let input = finish(LogicalPlanBuilder::from(input).project(columns)?.build()?)?;
    // The aggregates see the input as it was, but GROUPING names keys.
    let replace = |expr: Expr| {
        let replaced = expr.transform_down(|part| {
            Ok(match keys.iter().find(|(key, _)| *key == part) {
                Some((_, column)) => Transformed::yes(column.clone()),
                None => Transformed::no(part),
            })
        });
        replaced.map(|replaced| replaced.data)
    };
    let groups = group_expr.into_iter().map(replace).collect::<Result<Vec<_>>>()?;
    let functions = aggr_expr
        .into_iter()
        .map(|function| {
            let (qualifier, name) = function.qualified_name();
            let replaced = replace(function)?;
            let is_named = replaced.qualified_name() == (qualifier.clone(), name.clone());
            Ok(if is_named { replaced } else { replaced.alias_qualified(qualifier, name) })
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, functions)?))
}
