//! The expression rules of [`super::finish`], applied from the leaves up.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable};

use super::{constant, scalar_subquery};
use crate::functions::{CastMode, cast_call, cast_value, is_arithmetic, negate, tightest};
use crate::types::{SqlType, TYPE_METADATA_KEY};

/// Finishes an expression.
pub(super) fn finish(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    // The offset of a window function stays a plain number.
    if matches!(expr, Expr::WindowFunction(_)) {
        return expr.map_children(|child| match child {
            literal @ Expr::Literal(..) => Ok(Transformed::no(literal)),
            child => child.transform_up(|expr| rule(expr, schema)),
        });
    }
    expr.transform_up(|expr| rule(expr, schema))
}

fn rule(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => {
            Ok(match i32::try_from(value) {
                Ok(narrow) => {
                    Transformed::yes(Expr::Literal(ScalarValue::Int32(Some(narrow)), metadata))
                }
                Err(_) => Transformed::no(Expr::Literal(ScalarValue::Int64(Some(value)), metadata)),
            })
        }
        Expr::Literal(ScalarValue::Utf8(Some(text)), metadata) => {
            Ok(Transformed::yes(Expr::Literal(ScalarValue::Utf8View(Some(text)), metadata)))
        }
        Expr::Cast(cast) => finish_cast(cast, schema).map(Transformed::yes),
        Expr::Negative(operand) => fold_constant(negate().call(vec![*operand])),
        Expr::ScalarFunction(function) if is_arithmetic(&function.func) => {
            let function = decimal_literals(function, schema)?;
            fold_constant(Expr::ScalarFunction(function))
        }
        Expr::ScalarFunction(function) => fold_constant(Expr::ScalarFunction(function)),
        Expr::BinaryExpr(binary) => constant::compare_dates(binary, schema).map(Transformed::yes),
        Expr::Between(between) => {
            Ok(Transformed::yes(Expr::Between(constant::between_dates(between, schema))))
        }
        Expr::ScalarSubquery(subquery) => {
            Ok(Transformed::yes(Expr::ScalarSubquery(scalar_subquery::guard(subquery)?)))
        }
        other => Ok(Transformed::no(other)),
    }
}

/// An integer literal beside a decimal is a decimal of its own digits only.
fn decimal_literals(function: ScalarFunction, schema: &DFSchema) -> Result<ScalarFunction> {
    let ScalarFunction { func, args } = function;
    let is_decimal = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Decimal128(..)));
    if !args.iter().any(is_decimal) {
        return Ok(ScalarFunction { func, args });
    }
    let args = args.into_iter().map(|argument| match argument {
        Expr::Literal(ScalarValue::Int32(Some(value)), metadata) => {
            Expr::Literal(tightest(i64::from(value)), metadata)
        }
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => {
            Expr::Literal(tightest(value), metadata)
        }
        other => other,
    });
    Ok(ScalarFunction { func, args: args.collect() })
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(..))
}

/// A call of an immutable function over literals is its value, unless it fails.
fn fold_constant(expr: Expr) -> Result<Transformed<Expr>> {
    let foldable = match &expr {
        Expr::ScalarFunction(function) => {
            !function.args.is_empty()
                && function.args.iter().all(is_literal)
                && function.func.signature().volatility
                    == datafusion::logical_expr::Volatility::Immutable
        }
        _ => false,
    };
    if foldable { constant::fold(expr).map(Transformed::yes) } else { Ok(Transformed::yes(expr)) }
}

/// A cast that the text asked for.
fn finish_cast(cast: Cast, schema: &DFSchema) -> Result<Expr> {
    let Some(sql_type) = asked_type(&cast.field) else { return Ok(Expr::Cast(cast)) };
    let Cast { expr, .. } = cast;
    if let Expr::Literal(value, metadata) = expr.as_ref() {
        let value = cast_value(value, sql_type, CastMode::Explicit)?;
        return Ok(Expr::Literal(value, metadata.clone()));
    }
    let source = expr.get_type(schema)?;
    if is_exact(&source, sql_type) && !has_system_type(&expr, schema)? {
        return Ok(Expr::Cast(Cast::new(expr, sql_type.arrow_type())));
    }
    Ok(cast_call(*expr, sql_type, CastMode::Explicit))
}

/// Whether the value has a type of the system catalog, such as oid: a cast to the type that it is
/// kept in changes what it is.
fn has_system_type(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let (_, field) = expr.to_field(schema)?;
    let declared = field.metadata().get(TYPE_METADATA_KEY);
    Ok(declared.is_some_and(|text| SqlType::from_display(text).is_none()))
}

fn asked_type(field: &FieldRef) -> Option<SqlType> {
    field.metadata().get(TYPE_METADATA_KEY).and_then(|text| SqlType::from_display(text))
}

/// Whether every value keeps its meaning, so that the optimizer may see through the cast.
fn is_exact(source: &DataType, target: SqlType) -> bool {
    match (source, target) {
        (DataType::Int16, SqlType::Integer | SqlType::BigInt)
        | (DataType::Int32, SqlType::BigInt) => true,
        (DataType::Date32, SqlType::Timestamp) => true,
        (DataType::Float32 | DataType::Int16 | DataType::Int32, SqlType::Double) => true,
        (source, target) => {
            *source == target.arrow_type()
                && !matches!(target, SqlType::Char(_) | SqlType::VarChar(_))
        }
    }
}
