//! Comparisons: which types can be compared, literals typed by the other side, strings without the
//! blanks at their end, moments in the zone of the session.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, ExprSchemable, Operator};

use super::{Context, blanks, constant};
use crate::error::{Error, ErrorKind};
use crate::functions::{CastMode, cast_call, cast_value, comparable_interval};
use crate::types::{DECIMAL_PRECISION_MAX, SqlType, type_name};

/// Whether the operator compares.
fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

/// left op right
pub(super) fn binary(binary: BinaryExpr, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    if !is_comparison(binary.op) {
        return Ok(Expr::BinaryExpr(binary));
    }
    let BinaryExpr { left, op, right } = binary;
    let (left, right) = operands(*left, *right, op, schema, context)?;
    constant::compare_dates(BinaryExpr::new(Box::new(left), op, Box::new(right)), schema)
}

/// expr BETWEEN low AND high
pub(super) fn between(between: Between, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    let Between { expr, negated, low, high } = between;
    let (_, low) = operands(expr.as_ref().clone(), *low, Operator::GtEq, schema, context)?;
    let (expr, high) = operands(*expr, *high, Operator::LtEq, schema, context)?;
    let between = Between::new(Box::new(expr), negated, Box::new(low), Box::new(high));
    Ok(Expr::Between(constant::between_dates(between, schema)))
}

/// expr IN (list)
pub(super) fn in_list(list: InList, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    let InList { expr, list, negated } = list;
    let mut tested = expr.as_ref().clone();
    let mut items = Vec::with_capacity(list.len());
    for item in list {
        let (left, right) = operands(expr.as_ref().clone(), item, Operator::Eq, schema, context)?;
        tested = left;
        items.push(right);
    }
    Ok(Expr::InList(InList { expr: Box::new(tested), list: items, negated }))
}

/// CASE expr WHEN value ...
pub(super) fn case(case: Case, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    let Some(expr) = case.expr else {
        for (when, _) in &case.when_then_expr {
            let data_type = when.get_type(schema)?;
            if !matches!(data_type, DataType::Boolean | DataType::Null) {
                let name = type_name(&data_type);
                return Err(Error::new(
                    ErrorKind::DatatypeMismatch,
                    format!("argument of CASE/WHEN must be type boolean, not type {name}"),
                )
                .into());
            }
        }
        return Ok(Expr::Case(case));
    };
    let mut tested = expr.as_ref().clone();
    let mut branches = Vec::with_capacity(case.when_then_expr.len());
    for (when, then) in case.when_then_expr {
        let (left, right) = operands(expr.as_ref().clone(), *when, Operator::Eq, schema, context)?;
        tested = left;
        branches.push((Box::new(right), then));
    }
    Ok(Expr::Case(Case::new(Some(Box::new(tested)), branches, case.else_expr)))
}

/// Both sides of a comparison, so that they can be compared.
pub(super) fn operands(
    left: Expr,
    right: Expr,
    op: Operator,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<(Expr, Expr)> {
    let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
    let left = typed_literal(left, &right_type, context)?;
    let right = typed_literal(right, &left_type, context)?;
    let (left_type, right_type) = (left.get_type(schema)?, right.get_type(schema)?);
    if !are_comparable(&left_type, &right_type) {
        return Err(undefined(op, &left_type, &right_type).into());
    }
    let left = in_zone(left, &left_type, &right_type, context);
    let right = in_zone(right, &right_type, &left_type, context);
    let are_intervals =
        [&left_type, &right_type].iter().all(|side| family(side) == Family::Interval);
    if are_intervals {
        let comparable = |side: Expr| comparable_interval().call(vec![side]);
        return Ok((comparable(left), comparable(right)));
    }
    if is_string(&left_type) && is_string(&right_type) {
        return Ok((blanks::stripped(left, schema)?, blanks::stripped(right, schema)?));
    }
    Ok((left, right))
}

/// A string literal beside another type is a literal of that type.
fn typed_literal(expr: Expr, other: &DataType, context: &Context<'_>) -> Result<Expr> {
    let Expr::Literal(ScalarValue::Utf8View(Some(text)) | ScalarValue::Utf8(Some(text)), _) = &expr
    else {
        return Ok(expr);
    };
    let sql_type = match other {
        // All the digits that are written count.
        DataType::Decimal128(..) => {
            let fraction = text.trim().split_once('.').map_or(0, |(_, digits)| digits.len());
            let scale = u8::try_from(fraction).unwrap_or(u8::MAX).min(DECIMAL_PRECISION_MAX - 1);
            SqlType::Decimal { precision: DECIMAL_PRECISION_MAX, scale }
        }
        DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::Timestamp(..) => match SqlType::from_arrow(other) {
            Some(sql_type) if sql_type != SqlType::TimeTz => sql_type,
            _ => return Ok(expr),
        },
        _ => return Ok(expr),
    };
    let text = ScalarValue::Utf8View(Some(text.clone()));
    Ok(Expr::Literal(cast_value(&text, sql_type, CastMode::Explicit, context.zone)?, None))
}

/// A local time beside a moment is a moment in the zone of the session.
fn in_zone(expr: Expr, own: &DataType, other: &DataType, context: &Context<'_>) -> Expr {
    let is_local = matches!(own, DataType::Timestamp(_, None) | DataType::Date32);
    if is_local && matches!(other, DataType::Timestamp(_, Some(_))) {
        return cast_call(expr, SqlType::TimestampTz, CastMode::Explicit, context.zone);
    }
    expr
}

/// What can be compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Number,
    Boolean,
    Date,
    Time,
    Interval,
    /// A string, NULL, or a type that DataFusion judges.
    Any,
}

fn family(data_type: &DataType) -> Family {
    match data_type {
        DataType::Boolean => Family::Boolean,
        DataType::Date32 | DataType::Timestamp(..) => Family::Date,
        DataType::Time64(_) => Family::Time,
        DataType::Interval(_) => Family::Interval,
        other if other.is_numeric() => Family::Number,
        _ => Family::Any,
    }
}

/// Whether values of the types can be compared, or be in one column.
pub(super) fn are_comparable(left: &DataType, right: &DataType) -> bool {
    let (left, right) = (family(left), family(right));
    left == right || left == Family::Any || right == Family::Any
}

/// Whether it is a string type.
pub(super) fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

fn undefined(op: Operator, left: &DataType, right: &DataType) -> Error {
    let op = match op {
        Operator::NotEq => "<>".to_owned(),
        other => other.to_string(),
    };
    Error::new(
        ErrorKind::UndefinedFunction,
        format!("operator does not exist: {} {op} {}", type_name(left), type_name(right)),
    )
    .with_hint(
        "No operator matches the given name and argument type(s). You may need to add explicit type casts.",
    )
}
