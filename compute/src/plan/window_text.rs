//! Keeps windows from holding the text of all rows that have gone through them.
//!
//! `BoundedWindowAggExec` joins each batch to the rows of earlier ones that it still needs, and then
//! cuts off those that it has done with. Joined string views refer to the buffers of both, and what is
//! cut off takes no buffer with it (arrow 59): after a while the rows of a moment hold the text of
//! the whole input, which no memory pool knows of. Plain strings are copied when they are joined.
//!
//! [`shrink`] has text go through such windows as plain strings. Columns that a window function
//! computes with stay as they are, since it was made for their type, and so do those of PARTITION BY:
//! the window must see that its input is in their order, which a cast hides.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::windows::BoundedWindowAggExec;

/// The plan with plain strings below its windows, and views again above. Goes after all rules that
/// look at orders or distributions, which do not see through a cast.
///
/// # Errors
/// If the plan is not consistent.
pub fn shrink(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let children = plan.children().into_iter().map(|child| shrink(Arc::clone(child)));
    let children = children.collect::<Result<Vec<_>>>()?;
    let plan =
        if children.is_empty() { plan } else { replace_children_if_necessary(plan, children)? };
    match plan.downcast_ref::<BoundedWindowAggExec>() {
        Some(window) => with_plain_text(window).map(|changed| changed.unwrap_or(plan)),
        None => Ok(plan),
    }
}

fn with_plain_text(window: &BoundedWindowAggExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let input = window.input();
    let kept: HashSet<usize> = window.window_expr().iter().flat_map(kept_columns).collect();
    // A FILTER is no part of the expressions that can be asked for.
    let has_filter = window.window_expr().iter().any(|expr| expr.name().contains("FILTER"));
    let schema = input.schema();
    let is_cast: Vec<bool> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(at, field)| *field.data_type() == DataType::Utf8View && !kept.contains(&at))
        .collect();
    if has_filter || !is_cast.contains(&true) {
        return Ok(None);
    }
    let plain = project(input, |at| {
        is_cast.get(at).is_some_and(|cast| *cast).then_some(DataType::LargeUtf8)
    })?;
    let windowed = Arc::new(BoundedWindowAggExec::try_new(
        window.window_expr().to_vec(),
        plain,
        window.input_order_mode.clone(),
        !window.partition_keys().is_empty(),
    )?) as Arc<dyn ExecutionPlan>;
    let views = project(&windowed, |at| {
        is_cast.get(at).is_some_and(|cast| *cast).then_some(DataType::Utf8View)
    })?;
    Ok(Some(views))
}

/// Columns that are more to the window than something to order by or to hand on.
fn kept_columns(window: &Arc<dyn WindowExpr>) -> Vec<usize> {
    let all = window.all_expressions();
    let computed = all.order_by_exprs.iter().filter(|key| !key.is::<Column>());
    let kept = computed.chain(&all.partition_by_exprs).chain(&all.args);
    kept.flat_map(collect_columns).map(|column| column.index()).collect()
}

/// All columns, some of them cast to another type.
fn project(
    input: &Arc<dyn ExecutionPlan>,
    cast_to: impl Fn(usize) -> Option<DataType>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let column = Arc::new(Column::new(field.name(), at)) as Arc<dyn PhysicalExpr>;
        let expr = match cast_to(at) {
            Some(to) => Arc::new(CastExpr::new(column, to, None)) as Arc<dyn PhysicalExpr>,
            None => column,
        };
        (expr, field.name().clone())
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, Arc::clone(input))?))
}
