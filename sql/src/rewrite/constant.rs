//! Constants: folding them, and comparing dates with moments so that the column stays bare.

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, ExprSchemable, Operator};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use std::sync::Arc;

/// Microseconds of a day.
const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// The value of an expression over literals; the expression itself if it cannot be computed now,
/// in which case it fails when it runs.
pub(super) fn fold(expr: Expr) -> Result<Expr> {
    let schema = Arc::new(DFSchema::empty());
    let context = SimplifyContext::builder().with_schema(Arc::clone(&schema)).build();
    let simplifier = ExprSimplifier::new(context);
    let coerced = simplifier.coerce(expr, &schema)?;
    simplifier.simplify(coerced)
}

/// DATE op TIMESTAMP literal as DATE op DATE literal, where that is exact.
pub(super) fn compare_dates(binary: BinaryExpr, schema: &DFSchema) -> Result<Expr> {
    let BinaryExpr { left, op, right } = binary;
    if let Some(moment) = moment(&right)
        && is_date(&left, schema)
        && let Some((op, date)) = date_comparison(op, moment)
    {
        return Ok(Expr::BinaryExpr(BinaryExpr::new(left, op, Box::new(date))));
    }
    if let Some(moment) = moment(&left)
        && is_date(&right, schema)
        && let Some(swapped) = op.swap()
        && let Some((op, date)) = date_comparison(swapped, moment)
    {
        return Ok(Expr::BinaryExpr(BinaryExpr::new(right, op, Box::new(date))));
    }
    Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
}

/// As [`compare_dates`] for BETWEEN.
pub(super) fn between_dates(between: Between, schema: &DFSchema) -> Between {
    if !is_date(&between.expr, schema) {
        return between;
    }
    let low = moment(&between.low).map(|low| -(-low).div_euclid(DAY_MICROSECONDS));
    let high = moment(&between.high).map(|high| high.div_euclid(DAY_MICROSECONDS));
    let bound = |days: Option<i64>, old: Box<Expr>| match days.and_then(date_literal) {
        Some(date) => Box::new(date),
        None => old,
    };
    Between {
        low: bound(low, between.low),
        high: bound(high, between.high),
        expr: between.expr,
        negated: between.negated,
    }
}

fn is_date(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(arrow::datatypes::DataType::Date32))
}

fn moment(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(microseconds), None), _) => {
            Some(*microseconds)
        }
        _ => None,
    }
}

fn date_literal(days: i64) -> Option<Expr> {
    let days = i32::try_from(days).ok()?;
    Some(Expr::Literal(ScalarValue::Date32(Some(days)), None))
}

/// A date is compared as its midnight.
fn date_comparison(op: Operator, moment: i64) -> Option<(Operator, Expr)> {
    let date = date_literal(moment.div_euclid(DAY_MICROSECONDS))?;
    if moment.rem_euclid(DAY_MICROSECONDS) == 0 {
        let exact = matches!(
            op,
            Operator::Eq
                | Operator::NotEq
                | Operator::Lt
                | Operator::LtEq
                | Operator::Gt
                | Operator::GtEq
        );
        return exact.then_some((op, date));
    }
    match op {
        Operator::Lt | Operator::LtEq => Some((Operator::LtEq, date)),
        Operator::Gt | Operator::GtEq => Some((Operator::Gt, date)),
        _ => None,
    }
}
