//! Keeps windows from holding the text of all rows that have gone through them, and sorts from
//! counting it over and over.
//!
//! `BoundedWindowAggExec` joins each batch to the rows of earlier ones that it still needs, and then
//! cuts off those that it has done with. Joined string views refer to the buffers of both, and what is
//! cut off takes no buffer with it (arrow 59): after a while the rows of a moment hold the text of
//! the whole input, which no memory pool knows of. Plain strings are copied when they are joined.
//!
//! `SortExec` sorts what it holds as one batch and cuts the result into small ones, each with views into
//! all buffers of the whole, which it counts for each (DataFusion 55): a sort of some hundred
//! megabytes asks its pool for gigabytes.
//!
//! [`shrink`] has text go through both as plain strings. Columns that a window function
//! computes with stay as they are, since it was made for their type, and so do those of PARTITION BY:
//! the window must see that its input is in their order, which a cast hides.
//! A sort with a limit holds few rows and stays as it is.

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
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};

/// The plan with plain strings below its windows and sorts, and views again above. Goes after all
/// rules that look at orders or distributions, which do not see through a cast.
///
/// # Errors
/// If the plan is not consistent.
pub fn shrink(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    walk(plan, false)
}

/// `needs_order`: an operator above must see the order of text columns.
fn walk(plan: Arc<dyn ExecutionPlan>, needs_order: bool) -> Result<Arc<dyn ExecutionPlan>> {
    let below = needs_order || partitions_by_text(&plan);
    let children = plan.children().into_iter().map(|child| walk(Arc::clone(child), below));
    let children = children.collect::<Result<Vec<_>>>()?;
    let plan =
        if children.is_empty() { plan } else { replace_children_if_necessary(plan, children)? };
    let changed = if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        with_plain_text(window)?
    } else if let Some(sort) = plan.downcast_ref::<SortExec>() {
        sorted_plain(sort, needs_order)?
    } else {
        None
    };
    Ok(changed.unwrap_or(plan))
}

/// Whether the operator is a window with text in its PARTITION BY.
fn partitions_by_text(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let windows = if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
        window.window_expr()
    } else if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
        window.window_expr()
    } else {
        return false;
    };
    let schema = plan.schema();
    let is_text = |column: Column| *schema.field(column.index()).data_type() == DataType::Utf8View;
    let mut keys = windows.iter().flat_map(|window| window.partition_by());
    keys.any(|key| collect_columns(key).into_iter().any(is_text))
}

fn sorted_plain(sort: &SortExec, needs_order: bool) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if sort.fetch().is_some() {
        return Ok(None);
    }
    let keys = sort.expr().iter().map(|key| &key.expr);
    let kept = keys.filter(|key| needs_order || !key.is::<Column>());
    let kept = kept.flat_map(collect_columns).map(|column| column.index()).collect();
    let is_cast = text_columns(sort.input(), &kept);
    if !is_cast.contains(&true) {
        return Ok(None);
    }
    let sorted = SortExec::new(sort.expr().clone(), project(sort.input(), &is_cast, PLAIN)?)
        .with_preserve_partitioning(sort.preserve_partitioning());
    let sorted = Arc::new(sorted) as Arc<dyn ExecutionPlan>;
    Ok(Some(project(&sorted, &is_cast, DataType::Utf8View)?))
}

/// Strings that are copied when arrays are joined or taken from; of any size together.
const PLAIN: DataType = DataType::LargeUtf8;

/// Which columns are string views, apart from those that are kept.
fn text_columns(input: &Arc<dyn ExecutionPlan>, kept: &HashSet<usize>) -> Vec<bool> {
    let schema = input.schema();
    let fields = schema.fields().iter().enumerate();
    fields
        .map(|(at, field)| *field.data_type() == DataType::Utf8View && !kept.contains(&at))
        .collect()
}

fn with_plain_text(window: &BoundedWindowAggExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let input = window.input();
    let kept: HashSet<usize> = window.window_expr().iter().flat_map(kept_columns).collect();
    // A FILTER is no part of the expressions that can be asked for.
    let has_filter = window.window_expr().iter().any(|expr| expr.name().contains("FILTER"));
    let is_cast = text_columns(input, &kept);
    if has_filter || !is_cast.contains(&true) {
        return Ok(None);
    }
    let plain = project(input, &is_cast, PLAIN)?;
    let windowed = Arc::new(BoundedWindowAggExec::try_new(
        window.window_expr().to_vec(),
        plain,
        window.input_order_mode.clone(),
        !window.partition_keys().is_empty(),
    )?) as Arc<dyn ExecutionPlan>;
    Ok(Some(project(&windowed, &is_cast, DataType::Utf8View)?))
}

/// Columns that are more to the window than something to order by or to hand on.
fn kept_columns(window: &Arc<dyn WindowExpr>) -> Vec<usize> {
    let all = window.all_expressions();
    let computed = all.order_by_exprs.iter().filter(|key| !key.is::<Column>());
    let kept = computed.chain(&all.partition_by_exprs).chain(&all.args);
    kept.flat_map(collect_columns).map(|column| column.index()).collect()
}

/// All columns, those that are marked cast to a type; columns behind the marks stay as they are.
fn project(
    input: &Arc<dyn ExecutionPlan>,
    is_cast: &[bool],
    to: DataType,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = input.schema();
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let column = Arc::new(Column::new(field.name(), at)) as Arc<dyn PhysicalExpr>;
        let expr = if is_cast.get(at).is_some_and(|is_cast| *is_cast) {
            Arc::new(CastExpr::new(column, to.clone(), None)) as Arc<dyn PhysicalExpr>
        } else {
            column
        };
        (expr, field.name().clone())
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, Arc::clone(input))?))
}
