//! The expression rules of [`super::finish`], applied from the leaves up.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{InSubquery, ScalarFunction, SetComparison, SetQuantifier};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlanBuilder, Operator, Subquery};
use std::sync::Arc;

use super::{Context, blanks, comparison, constant, marks, moment, placeholder, scalar_subquery};
use crate::error::Error;
use crate::functions::{
    Arithmetic, CastMode, UTC, cast_call, cast_value, is_arithmetic, negate, tightest,
};
use crate::types::{SqlType, TYPE_METADATA_KEY};

/// Finishes an expression.
pub(super) fn finish(
    expr: Expr,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<Transformed<Expr>> {
    // The offset of a window function stays a plain number.
    if let Expr::WindowFunction(_) = expr {
        let finished = expr.map_children(|child| match child {
            literal @ Expr::Literal(..) => Ok(Transformed::no(literal)),
            child => child.transform_up(|expr| rule(expr, schema, context)),
        })?;
        return match finished.data {
            Expr::WindowFunction(function) => {
                blanks::window_keys(function, schema).map(Transformed::yes)
            }
            other => Ok(Transformed::yes(other)),
        };
    }
    expr.transform_up(|expr| rule(expr, schema, context))
}

fn rule(expr: Expr, schema: &DFSchema, context: &Context<'_>) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => {
            Ok(match i32::try_from(value) {
                Ok(narrow) => {
                    Transformed::yes(Expr::Literal(ScalarValue::Int32(Some(narrow)), metadata))
                }
                Err(_) => Transformed::no(Expr::Literal(ScalarValue::Int64(Some(value)), metadata)),
            })
        }
        Expr::Literal(ScalarValue::UInt64(Some(value)), metadata) => {
            let decimal = ScalarValue::Decimal128(Some(i128::from(value)), 20, 0);
            Ok(Transformed::yes(Expr::Literal(decimal, metadata)))
        }
        Expr::Literal(ScalarValue::Utf8(Some(text)), metadata) => {
            Ok(Transformed::yes(Expr::Literal(ScalarValue::Utf8View(Some(text)), metadata)))
        }
        Expr::Cast(cast) => finish_cast(cast, schema, context).map(Transformed::yes),
        Expr::Negative(operand) => fold_constant(negate().call(vec![*operand])),
        Expr::ScalarFunction(function) => call(function, schema, context),
        Expr::BinaryExpr(binary) => {
            comparison::binary(binary, schema, context).map(Transformed::yes)
        }
        Expr::Between(between) => {
            comparison::between(between, schema, context).map(Transformed::yes)
        }
        Expr::InList(list) => comparison::in_list(list, schema, context).map(Transformed::yes),
        Expr::Case(case) => {
            let case = placeholder::results(case, schema)?;
            comparison::case(case, schema, context).map(Transformed::yes)
        }
        Expr::InSubquery(found) => in_subquery(found, schema, context).map(Transformed::yes),
        Expr::SetComparison(comparison) => {
            set_comparison(comparison, schema, context).map(Transformed::yes)
        }
        Expr::AggregateFunction(function) => {
            blanks::distinct_arguments(function, schema).map(Transformed::yes)
        }
        Expr::ScalarSubquery(subquery) => scalar_subquery::guard(subquery).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    }
}

fn call(
    function: ScalarFunction,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<Transformed<Expr>> {
    let mut function = placeholder::arguments(function, schema)?;
    if is_arithmetic(&function.func) {
        function = decimal_literals(function, schema)?;
    }
    if context.zone == UTC {
        return fold_constant(Expr::ScalarFunction(function));
    }
    if let Some(truncated) = moment::truncated(&function, schema, context)? {
        return Ok(Transformed::yes(truncated));
    }
    let is_moment = moment::gives_moment(&function, schema)?;
    let local = Expr::ScalarFunction(moment::in_zone(function, schema, context)?);
    if is_moment {
        return fold_constant(cast_call(
            local,
            SqlType::TimestampTz,
            CastMode::Explicit,
            context.zone,
        ));
    }
    fold_constant(local)
}

/// expr IN (subquery): both sides as comparisons want them.
fn in_subquery(found: InSubquery, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    let InSubquery { expr, subquery, negated } = found;
    let (expr, subquery) = subquery_operands(*expr, subquery, Operator::Eq, schema, context)?;
    Ok(Expr::InSubquery(InSubquery { expr: Box::new(expr), subquery, negated }))
}

/// expr op ANY (subquery) and expr op ALL (subquery): = ANY is IN, <> ALL is NOT IN.
fn set_comparison(
    comparison: SetComparison,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<Expr> {
    let SetComparison { expr, subquery, op, quantifier } = comparison;
    let (expr, subquery) = subquery_operands(*expr, subquery, op, schema, context)?;
    let expr = Box::new(expr);
    Ok(match (op, quantifier) {
        (Operator::Eq, SetQuantifier::Any) => {
            Expr::InSubquery(InSubquery { expr, subquery, negated: false })
        }
        (Operator::NotEq, SetQuantifier::All) => {
            Expr::InSubquery(InSubquery { expr, subquery, negated: true })
        }
        _ => Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }),
    })
}

/// Both sides of a comparison with the rows of a subquery.
fn subquery_operands(
    expr: Expr,
    subquery: Subquery,
    op: Operator,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<(Expr, Subquery)> {
    let inner_schema = marks::schema(&subquery.subquery)?;
    let Some(column) = inner_schema.columns().into_iter().next() else {
        return Err(Error::syntax("subquery has no columns").into());
    };
    if inner_schema.fields().len() > 1 {
        return Err(Error::syntax("subquery has too many columns").into());
    }
    // Both schemas together would be ambiguous; the sides are looked at one by one.
    let inner_type = inner_schema.field(0).data_type().clone();
    let outer_type = expr.get_type(schema)?;
    let sample = |data_type: &DataType| -> Result<Expr> {
        Ok(Expr::Literal(ScalarValue::try_from(data_type)?, None))
    };
    let outer = comparison::operands(expr, sample(&inner_type)?, op, schema, context)?.0;
    let value = Expr::Column(column.clone());
    let inner =
        comparison::operands(sample(&outer_type)?, value.clone(), op, &inner_schema, context)?.1;
    if inner == value {
        return Ok((outer, subquery));
    }
    let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone())
        .project(vec![inner.alias(column.name)])?
        .build()?;
    Ok((outer, Subquery { subquery: Arc::new(plan), ..subquery }))
}

/// An integer literal beside a decimal is a decimal of its own digits only.
fn decimal_literals(function: ScalarFunction, schema: &DFSchema) -> Result<ScalarFunction> {
    let ScalarFunction { func, args } = function;
    let is_decimal = |expr: &Expr| matches!(expr.get_type(schema), Ok(DataType::Decimal128(..)));
    // The scale of a quotient follows from the digits that the type of the divisor has.
    if !args.iter().any(is_decimal) || func.name() == Arithmetic::Divide.name() {
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
fn finish_cast(cast: Cast, schema: &DFSchema, context: &Context<'_>) -> Result<Expr> {
    let Some(sql_type) = asked_type(&cast.field) else { return Ok(Expr::Cast(cast)) };
    let Cast { expr, .. } = cast;
    if let Expr::Literal(value, metadata) = expr.as_ref() {
        let value = cast_value(value, sql_type, CastMode::Explicit, context.zone)?;
        return Ok(Expr::Literal(value, metadata.clone()));
    }
    let source = expr.get_type(schema)?;
    if is_exact(&source, sql_type) && !has_system_type(&expr, schema)? {
        return Ok(Expr::Cast(Cast::new(expr, sql_type.arrow_type())));
    }
    Ok(cast_call(*expr, sql_type, CastMode::Explicit, context.zone))
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
