//! Strings are equal if they are without the blanks at their end: what compares them is given
//! [`crate::functions::blank_stripped`], unless the strings are known to have no such blanks.

use arrow::datatypes::Field;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, Join, JoinConstraint, LogicalPlan, LogicalPlanBuilder,
};
use std::sync::Arc;

use super::comparison::is_string;
use crate::functions::{self, BLANK_STRIPPED, blank_stripped};
use crate::types::{BLANKS_METADATA_KEY, NO_BLANKS};

/// The expression without the blanks at the end of its strings.
pub(super) fn stripped(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    if !is_string(&expr.get_type(schema)?) {
        return Ok(expr);
    }
    match &expr {
        Expr::Literal(
            ScalarValue::Utf8View(Some(text)) | ScalarValue::Utf8(Some(text)),
            metadata,
        ) if text.ends_with(' ') => {
            let text = text.trim_end_matches(' ').to_owned();
            return Ok(Expr::Literal(ScalarValue::Utf8View(Some(text)), metadata.clone()));
        }
        Expr::Literal(..) => return Ok(expr),
        Expr::ScalarFunction(ScalarFunction { func, .. }) if func.name() == BLANK_STRIPPED => {
            return Ok(expr);
        }
        _ => {}
    }
    let (_, field) = expr.to_field(schema)?;
    if has_no_blanks(&field) { Ok(expr) } else { Ok(blank_stripped().call(vec![expr])) }
}

fn has_no_blanks(field: &Field) -> bool {
    field.metadata().get(BLANKS_METADATA_KEY).is_some_and(|value| value == NO_BLANKS)
}

/// Whether a column of a schema has strings that may end with blanks.
fn may_have_blanks(field: &Field) -> bool {
    is_string(field.data_type()) && !has_no_blanks(field)
}

/// The arguments of DISTINCT aggregates.
pub(super) fn distinct_arguments(
    mut function: AggregateFunction,
    schema: &DFSchema,
) -> Result<Expr> {
    if function.params.distinct {
        let args = std::mem::take(&mut function.params.args);
        function.params.args =
            args.into_iter().map(|arg| stripped(arg, schema)).collect::<Result<_>>()?;
        // DISTINCT is ordered by its own arguments.
        for key in &mut function.params.order_by {
            key.expr = stripped(std::mem::take(&mut key.expr), schema)?;
        }
    }
    Ok(Expr::AggregateFunction(function))
}

/// The keys of PARTITION BY.
pub(super) fn partition_keys(mut function: Box<WindowFunction>, schema: &DFSchema) -> Result<Expr> {
    let keys = std::mem::take(&mut function.params.partition_by);
    function.params.partition_by =
        keys.into_iter().map(|key| stripped(key, schema)).collect::<Result<_>>()?;
    Ok(Expr::WindowFunction(function))
}

/// The keys of joins, GROUP BY and DISTINCT.
pub(super) fn strip_keys(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => strip_groups(aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) => strip_distinct(input),
        LogicalPlan::Join(join) => strip_join(join),
        other => Ok(other),
    }
}

fn strip_groups(aggregate: Aggregate) -> Result<LogicalPlan> {
    let schema = Arc::clone(aggregate.input.schema());
    if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
        // The sets name the columns themselves, so that these change below.
        let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
        let named: Vec<Column> =
            group_expr.iter().flat_map(|expr| expr.column_refs().into_iter().cloned()).collect();
        let input = strip_some_columns(input, |column| named.contains(column))?;
        return Ok(LogicalPlan::Aggregate(Aggregate::try_new(input, group_expr, aggr_expr)?));
    }
    group_by_stripped(aggregate, &schema)
}

/// Groups by the strings without their blanks and shows one of the strings of each group as it is:
/// the least, so that it does not depend on the order of the rows.
fn group_by_stripped(aggregate: Aggregate, schema: &DFSchema) -> Result<LogicalPlan> {
    let mut groups = Vec::with_capacity(aggregate.group_expr.len());
    let mut shown = Vec::new();
    for (index, group) in aggregate.group_expr.iter().enumerate() {
        let whole = group.clone().unalias();
        let bare = stripped(whole.clone(), schema)?;
        if bare == whole {
            groups.push(group.clone());
            continue;
        }
        groups.push(bare.alias(format!("__bare_{index}")));
        let name = format!("__shown_{index}");
        shown.push((index, functions::min().call(vec![whole]).alias(name.as_str()), name));
    }
    if shown.is_empty() {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    let outputs = aggregate.schema.columns();
    let Aggregate { input, mut aggr_expr, .. } = aggregate;
    aggr_expr.extend(shown.iter().map(|(_, least, _)| least.clone()));
    let inner = Aggregate::try_new(input, groups, aggr_expr)?;
    let columns = inner.schema.columns().into_iter().zip(outputs).enumerate();
    let columns: Vec<Expr> = columns
        .map(|(index, (column, output))| {
            match shown.iter().find(|(position, _, _)| *position == index) {
                Some((_, _, name)) => Expr::Column(Column::from_name(name))
                    .alias_qualified(output.relation, output.name),
                None => Expr::Column(column),
            }
        })
        .collect();
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(inner)).project(columns)?.build()
}

/// DISTINCT as a grouping by all columns, if strings among them may end with blanks.
fn strip_distinct(input: Arc<LogicalPlan>) -> Result<LogicalPlan> {
    let schema = Arc::clone(input.schema());
    if !schema.fields().iter().any(|field| may_have_blanks(field)) {
        return Ok(LogicalPlan::Distinct(Distinct::All(input)));
    }
    let groups = schema.columns().into_iter().map(Expr::Column).collect();
    group_by_stripped(Aggregate::try_new(input, groups, vec![])?, &schema)
}

/// The input with the blanks taken off its columns that are meant, if they may have any.
fn strip_some_columns(
    input: Arc<LogicalPlan>,
    is_meant: impl Fn(&Column) -> bool,
) -> Result<Arc<LogicalPlan>> {
    let schema = Arc::clone(input.schema());
    let fields = schema.fields().iter().zip(schema.columns());
    let is_stripped = |field: &Field, column: &Column| may_have_blanks(field) && is_meant(column);
    if !fields.clone().any(|(field, column)| is_stripped(field, &column)) {
        return Ok(input);
    }
    let columns = fields.map(|(field, column)| {
        if !is_stripped(field, &column) {
            return Expr::Column(column);
        }
        let (relation, name) = (column.relation.clone(), column.name.clone());
        blank_stripped().call(vec![Expr::Column(column)]).alias_qualified(relation, name)
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(Arc::new(LogicalPlanBuilder::from(input).project(columns)?.build()?))
}

fn strip_join(mut join: Join) -> Result<LogicalPlan> {
    let mut changed = false;
    let mut pairs = Vec::with_capacity(join.on.len());
    for (left, right) in join.on {
        let stripped_left = stripped(left.clone(), join.left.schema())?;
        let stripped_right = stripped(right.clone(), join.right.schema())?;
        changed |= stripped_left != left || stripped_right != right;
        pairs.push((stripped_left, stripped_right));
    }
    join.on = pairs;
    if changed {
        // USING means columns; what it hides was settled when names were resolved.
        join.join_constraint = JoinConstraint::On;
    }
    Ok(LogicalPlan::Join(join))
}
