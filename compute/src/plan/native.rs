//! Conjuncts of a query as native predicates, which storage evaluates on encoded data and prunes
//! zones with.
//!
//! A translation is exact: the predicate passes precisely the rows for which the expression is
//! true. What has no exact translation stays an expression.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NotExpr,
};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_common::physical_expr::is_volatile;
use storage::predicate::{Comparison, Condition, Constant, Predicate};
use storage::schema::TableSchema;

use super::constants::{compare, to_constant};
use super::runtime_filter::is_runtime_filter;

/// The predicate that passes exactly the rows for which `expr` is true, if there is one. Columns
/// of `expr` are positions in `schema`.
pub(crate) fn translate(expr: &Arc<dyn PhysicalExpr>, schema: &TableSchema) -> Option<Predicate> {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::Or => translate_or(expr, schema),
            _ => translate_comparison(binary, schema),
        };
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        return translate_list(list, schema);
    }
    if let Some(like) = expr.downcast_ref::<LikeExpr>() {
        return translate_like(like, schema);
    }
    if let Some(null) = expr.downcast_ref::<IsNullExpr>() {
        return condition(null.arg(), schema, |_| Some(Condition::IsNull));
    }
    if let Some(not_null) = expr.downcast_ref::<IsNotNullExpr>() {
        return condition(not_null.arg(), schema, |_| Some(Condition::IsNotNull));
    }
    if let Some(not) = expr.downcast_ref::<NotExpr>() {
        return translate_boolean(not.arg(), false, schema);
    }
    translate_boolean(expr, true, schema)
}

/// Joins `>=` and `<=` on the same column into BETWEEN, which is one pass instead of two.
pub(crate) fn join_ranges(predicates: Vec<Predicate>) -> Vec<Predicate> {
    let mut joined: Vec<Predicate> = Vec::with_capacity(predicates.len());
    for predicate in predicates {
        let partner = joined.iter_mut().find_map(|earlier| {
            let between = between(earlier, &predicate)?;
            Some((earlier, between))
        });
        match partner {
            Some((earlier, between)) => earlier.condition = between,
            None => joined.push(predicate),
        }
    }
    joined
}

fn between(left: &Predicate, right: &Predicate) -> Option<Condition> {
    if left.column != right.column {
        return None;
    }
    match (&left.condition, &right.condition) {
        (
            Condition::Compare(Comparison::GreaterOrEqual, low),
            Condition::Compare(Comparison::LessOrEqual, high),
        )
        | (
            Condition::Compare(Comparison::LessOrEqual, high),
            Condition::Compare(Comparison::GreaterOrEqual, low),
        ) if compare(low, high)?.is_le() => Some(Condition::Between(low.clone(), high.clone())),
        _ => None,
    }
}

/// The position of the column, if the expression is a bare column.
pub(crate) fn as_column(expr: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    expr.downcast_ref::<Column>().map(Column::index)
}

/// The value of an expression without columns: a literal, or what can be computed before the scan,
/// such as the result of a scalar subquery that has run. An expression that fails has no value
/// here; it fails where it is evaluated.
pub(crate) fn constant_value(expr: &Arc<dyn PhysicalExpr>) -> Option<ScalarValue> {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return Some(literal.value().clone());
    }
    if !collect_columns(expr).is_empty() || is_volatile(expr) || is_runtime_filter(expr) {
        return None;
    }
    let one_row = RecordBatchOptions::new().with_row_count(Some(1));
    let batch = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &one_row);
    let value = expr.evaluate(&batch.ok()?).ok()?.into_array(1).ok()?;
    ScalarValue::try_from_array(&value, 0).ok()
}

/// A comparison of a bare column with a constant, written with the column on the left.
pub(crate) fn column_comparison(
    binary: &BinaryExpr,
    schema: &TableSchema,
) -> Option<(usize, Comparison, Constant)> {
    let comparison = comparison(*binary.op())?;
    let (column, comparison, value) = match (as_column(binary.left()), as_column(binary.right())) {
        (Some(column), None) => (column, comparison, constant_value(binary.right())?),
        (None, Some(column)) => (column, flip(comparison), constant_value(binary.left())?),
        _ => return None,
    };
    let constant = to_constant(&value, schema.columns.get(column)?.column_type)?;
    Some((column, comparison, constant))
}

fn translate_comparison(binary: &BinaryExpr, schema: &TableSchema) -> Option<Predicate> {
    let (column, comparison, constant) = column_comparison(binary, schema)?;
    Some(Predicate { column, condition: Condition::Compare(comparison, constant) })
}

/// `a = 1 OR a = 2 OR a IN (3, 4)`: DataFusion writes short IN lists so.
fn translate_or(expr: &Arc<dyn PhysicalExpr>, schema: &TableSchema) -> Option<Predicate> {
    let mut values = Vec::new();
    let column = collect_alternatives(expr, schema, &mut values)?;
    Some(Predicate { column, condition: Condition::In(values) })
}

fn collect_alternatives(
    expr: &Arc<dyn PhysicalExpr>,
    schema: &TableSchema,
    values: &mut Vec<Constant>,
) -> Option<usize> {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
        && *binary.op() == Operator::Or
    {
        let left = collect_alternatives(binary.left(), schema, values)?;
        let right = collect_alternatives(binary.right(), schema, values)?;
        return (left == right).then_some(left);
    }
    let predicate = translate(expr, schema)?;
    match predicate.condition {
        Condition::Compare(Comparison::Equal, constant) => values.push(constant),
        Condition::In(constants) => values.extend(constants),
        _ => return None,
    }
    Some(predicate.column)
}

fn translate_list(list: &InListExpr, schema: &TableSchema) -> Option<Predicate> {
    condition(list.expr(), schema, |column| {
        let column_type = schema.columns[column].column_type;
        let mut constants = Vec::with_capacity(list.len());
        for item in list.list() {
            let value = constant_value(item)?;
            if value.is_null() {
                // `x IN (.., NULL)` is true for the same rows as without the NULL, but
                // `x NOT IN (.., NULL)` is never true.
                if list.negated() {
                    return None;
                }
                continue;
            }
            constants.push(to_constant(&value, column_type)?);
        }
        if constants.is_empty() {
            return None;
        }
        Some(if list.negated() { Condition::NotIn(constants) } else { Condition::In(constants) })
    })
}

fn translate_like(like: &LikeExpr, schema: &TableSchema) -> Option<Predicate> {
    if like.case_insensitive() {
        return None;
    }
    let value = constant_value(like.pattern())?;
    let pattern = value.try_as_str().flatten()?.to_owned();
    if ends_in_escape(&pattern) {
        return None;
    }
    condition(like.expr(), schema, |_| {
        Some(if like.negated() { Condition::NotLike(pattern) } else { Condition::Like(pattern) })
    })
}

/// Whether the pattern ends in a backslash that escapes nothing.
fn ends_in_escape(pattern: &str) -> bool {
    pattern.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// A bare boolean column, wanted true or false.
fn translate_boolean(
    expr: &Arc<dyn PhysicalExpr>,
    wanted: bool,
    schema: &TableSchema,
) -> Option<Predicate> {
    condition(expr, schema, |column| {
        let constant = to_constant(&wanted.into(), schema.columns[column].column_type)?;
        Some(Condition::Compare(Comparison::Equal, constant))
    })
}

fn condition(
    column: &Arc<dyn PhysicalExpr>,
    schema: &TableSchema,
    make: impl FnOnce(usize) -> Option<Condition>,
) -> Option<Predicate> {
    let column = as_column(column).filter(|column| *column < schema.columns.len())?;
    Some(Predicate { column, condition: make(column)? })
}

fn comparison(operator: Operator) -> Option<Comparison> {
    match operator {
        Operator::Eq => Some(Comparison::Equal),
        Operator::NotEq => Some(Comparison::NotEqual),
        Operator::Lt => Some(Comparison::Less),
        Operator::LtEq => Some(Comparison::LessOrEqual),
        Operator::Gt => Some(Comparison::Greater),
        Operator::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

fn flip(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal | Comparison::NotEqual => comparison,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
    }
}
