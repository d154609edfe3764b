//! Strings are equal if they are without the blanks at their end: what compares them is given
//! [`crate::functions::blank_stripped`], unless the strings are known to have no such blanks.

use arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, Sort, WindowFunction};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, Join, JoinConstraint, LogicalPlan, LogicalPlanBuilder,
};
use std::sync::Arc;

use super::Context;
use super::comparison::is_string;
use super::marks::{self, has_no_blanks, is_without_blanks};
use crate::functions::{self, blank_stripped};

/// The aggregate that says which keys a row is grouped by: its arguments are keys.
const GROUPING: &str = "grouping";

/// The expression without the blanks at the end of its strings; the schema is one from
/// [`marks::schema`].
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
        _ => {}
    }
    let is_bare = is_without_blanks(&expr, schema)?;
    Ok(if is_bare { expr } else { blank_stripped().call(vec![expr]) })
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

/// The keys of PARTITION BY and ORDER BY.
pub(super) fn window_keys(mut function: Box<WindowFunction>, schema: &DFSchema) -> Result<Expr> {
    let keys = std::mem::take(&mut function.params.partition_by);
    function.params.partition_by =
        keys.into_iter().map(|key| stripped(key, schema)).collect::<Result<_>>()?;
    function.params.order_by = sort_keys(std::mem::take(&mut function.params.order_by), schema)?;
    Ok(Expr::WindowFunction(function))
}

fn sort_keys(keys: Vec<Sort>, schema: &DFSchema) -> Result<Vec<Sort>> {
    let bare = |key: Sort| Ok(Sort { expr: stripped(key.expr, schema)?, ..key });
    keys.into_iter().map(bare).collect()
}

/// The keys of ORDER BY.
pub(super) fn strip_order(plan: LogicalPlan, schema: &DFSchema) -> Result<LogicalPlan> {
    let LogicalPlan::Sort(mut sort) = plan else { return Ok(plan) };
    sort.expr = sort_keys(sort.expr, schema)?;
    Ok(LogicalPlan::Sort(sort))
}

/// The keys of joins, GROUP BY and DISTINCT.
pub(super) fn strip_keys(plan: LogicalPlan, context: &Context<'_>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Aggregate(aggregate) => match aggregate.group_expr.as_slice() {
            [Expr::GroupingSet(_)] => strip_grouping_sets(aggregate, context),
            _ => strip_groups(aggregate),
        },
        LogicalPlan::Distinct(Distinct::All(input)) => strip_distinct(input),
        LogicalPlan::Join(join) => strip_join(join),
        other => Ok(other),
    }
}

/// The keys of the sets become columns of their own, under the aggregate, so that its arguments see
/// the strings as they are; above it they have their names again.
fn strip_grouping_sets(aggregate: Aggregate, context: &Context<'_>) -> Result<LogicalPlan> {
    let schema = marks::schema(&aggregate.input)?;
    let mut keys: Vec<(Expr, Expr)> = Vec::new();
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    for key in grouping_set_to_exprlist(&aggregate.group_expr)? {
        let bare = stripped(key.clone(), &schema)?;
        if bare != *key {
            let name = context.new_name();
            columns.push(bare.alias(name.as_str()));
            keys.push((key.clone(), Expr::Column(name.into())));
        }
    }
    if keys.is_empty() {
        return Ok(LogicalPlan::Aggregate(aggregate));
    }
    // Keys as a whole: what one key is computed from stays as it is in another.
    let replace = |expr: Expr| {
        let replaced = expr.map_children(|part| {
            Ok(match keys.iter().find(|(key, _)| *key == part) {
                Some((_, column)) => Transformed::yes(column.clone()),
                None => Transformed::no(part),
            })
        });
        replaced.map(|replaced| replaced.data)
    };
    let old_columns = aggregate.schema.columns();
    let Aggregate { input, group_expr, aggr_expr, .. } = aggregate;
    let groups = group_expr.into_iter().map(replace).collect::<Result<Vec<_>>>()?;
    let functions = aggr_expr.into_iter().map(|function| match &function {
        Expr::AggregateFunction(called) if called.func.name() == GROUPING => {
            let (qualifier, name) = function.qualified_name();
            Ok(replace(function)?.alias_qualified(qualifier, name))
        }
        _ => Ok(function),
    });
    let functions = functions.collect::<Result<Vec<_>>>()?;
    let input = LogicalPlanBuilder::from(input).project(columns)?.build()?;
    let aggregate = Aggregate::try_new(Arc::new(input), groups, functions)?;
    let columns = aggregate.schema.columns().into_iter().zip(old_columns);
    let outputs: Vec<Expr> = columns
        .map(|(new, old)| match new == old {
            true => Expr::Column(new),
            false => Expr::Column(new).alias_qualified(old.relation, old.name),
        })
        .filter(|output| output.schema_name().to_string() != Aggregate::INTERNAL_GROUPING_ID)
        .collect();
    LogicalPlanBuilder::from(LogicalPlan::Aggregate(aggregate)).project(outputs)?.build()
}

fn strip_groups(aggregate: Aggregate) -> Result<LogicalPlan> {
    let schema = marks::schema(&aggregate.input)?;
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
    let schema = marks::schema(&input)?;
    if !schema.fields().iter().any(|field| may_have_blanks(field)) {
        return Ok(LogicalPlan::Distinct(Distinct::All(input)));
    }
    let groups = schema.columns().into_iter().map(Expr::Column).collect();
    group_by_stripped(Aggregate::try_new(input, groups, vec![])?, &schema)
}

fn strip_join(mut join: Join) -> Result<LogicalPlan> {
    let (left_schema, right_schema) = (marks::schema(&join.left)?, marks::schema(&join.right)?);
    let mut changed = false;
    let mut pairs = Vec::with_capacity(join.on.len());
    for (left, right) in join.on {
        let stripped_left = stripped(left.clone(), &left_schema)?;
        let stripped_right = stripped(right.clone(), &right_schema)?;
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
