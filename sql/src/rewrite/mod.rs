//! What happens to a plan after DataFusion's planner: types of literals, casts, constants, scalar
//! subqueries; and the optimizer rules that are safe.

mod constant;
mod correlated_scalar;
mod eliminate_duplicated;
mod expression;
mod optimizer;
mod scalar_subquery;
mod share_sums;

use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::error::Result;
pub use optimizer::optimizer_rules;

/// The value of an expression over literals; the expression itself if it cannot be computed now.
pub(crate) fn fold(expr: Expr) -> Result<Expr> {
    Ok(constant::fold(expr)?)
}

/// Finishes a plan, its subqueries included.
pub(crate) fn finish(plan: LogicalPlan) -> Result<LogicalPlan> {
    let finished = plan.transform_up_with_subqueries(finish_node)?;
    Ok(finished.data)
}

fn finish_node(plan: LogicalPlan) -> datafusion::common::Result<Transformed<LogicalPlan>> {
    // The numbers of LIMIT are no values.
    if matches!(plan, LogicalPlan::Limit(_)) {
        return Ok(Transformed::no(plan));
    }
    let plan = correlated_scalar::join(plan)?.data;
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&scan.projected_schema);
    }
    let names = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let finished = expression::finish(expr, &schema)?;
        Ok(finished.update_data(|expr| name.restore(expr)))
    })?;
    // Also without a change here: an input may have changed the types of its columns.
    Ok(Transformed::yes(rewritten.data.recompute_schema()?))
}
