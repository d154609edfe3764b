//! What happens to a plan after DataFusion's planner: types of literals and parameters, casts,
//! constants, comparisons, subqueries; and the optimizer rules that are safe.

mod blanks;
mod comparison;
mod constant;
mod correlated_scalar;
mod eliminate_duplicated;
mod expression;
mod grouping_sets;
mod marks;
mod moment;
mod optimizer;
mod placeholder;
mod scalar_subquery;
mod set_operation;
mod share_sums;
mod subquery;
mod window;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use std::cell::Cell;

use crate::error::{Error, ErrorKind, Result};
pub use optimizer::optimizer_rules;

/// The value of an expression over literals; the expression itself if it cannot be computed now.
pub(crate) fn fold(expr: Expr) -> Result<Expr> {
    Ok(constant::fold(expr)?)
}

/// What the rules need to know beside the plan.
struct Context<'a> {
    /// The time zone of the session.
    zone: &'a str,
    /// How many names were made up.
    names: Cell<usize>,
}

impl Context<'_> {
    /// A name that no text can have.
    fn new_name(&self) -> String {
        let number = self.names.get() + 1;
        self.names.set(number);
        format!("__subquery_{number}")
    }
}

/// Finishes a plan, its subqueries included, for a session in that time zone.
pub(crate) fn finish(plan: LogicalPlan, zone: &str) -> Result<LogicalPlan> {
    let context = Context { zone, names: Cell::new(0) };
    let plan = placeholder::from_casts(plan)?;
    let finished = plan.transform_up_with_subqueries(|node| finish_node(node, &context))?;
    Ok(placeholder::finish(finished.data, zone)?)
}

fn finish_node(
    plan: LogicalPlan,
    context: &Context<'_>,
) -> datafusion::common::Result<Transformed<LogicalPlan>> {
    // The numbers of LIMIT are no values.
    if matches!(plan, LogicalPlan::Limit(_)) {
        return Ok(Transformed::no(plan));
    }
    if let LogicalPlan::Filter(filter) = &plan
        && filter.predicate.exists(|expr| Ok(matches!(expr, Expr::WindowFunction(_))))?
    {
        let message = "window functions are not allowed in WHERE";
        return Err(Error::new(ErrorKind::Windowing, message).into());
    }
    let plan = grouping_sets::over_columns(plan, |node| Ok(finish_node(node, context)?.data))?;
    let plan = set_operation::keep_work_table(plan)?;
    let (plan, kept_columns) = correlated_scalar::join(plan)?;
    let schema = input_schema(&plan)?;
    let names = NamePreserver::new(&plan);
    let rewritten = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let finished = expression::finish(expr, &schema, context)?;
        Ok(finished.update_data(|expr| name.restore(expr)))
    })?;
    let plan = blanks::strip_order(rewritten.data, &schema)?;
    let plan = subquery::rewrite(plan, context)?;
    let plan = set_operation::check(plan, context)?;
    let plan = blanks::strip_keys(plan, context)?;
    if let LogicalPlan::Values(values) = plan {
        let plan = LogicalPlanBuilder::values(values.values)?.build()?;
        return Ok(Transformed::yes(plan));
    }
    // Also without a change here: an input may have changed the types of its columns.
    let plan = window::with_bigint_ranks(plan.recompute_schema()?)?;
    Ok(Transformed::yes(match kept_columns {
        Some(columns) => LogicalPlanBuilder::from(plan).project(columns)?.build()?,
        None => plan,
    }))
}

/// The columns that the expressions of a node may name.
fn input_schema(plan: &LogicalPlan) -> datafusion::common::Result<DFSchema> {
    if let LogicalPlan::TableScan(scan) = plan {
        return Ok(scan.projected_schema.as_ref().clone());
    }
    let mut schemas = plan.inputs().into_iter().map(marks::schema);
    let Some(first) = schemas.next() else { return Ok(DFSchema::empty()) };
    let mut schema = first?;
    for other in schemas {
        schema.merge(&other?);
    }
    Ok(schema)
}
