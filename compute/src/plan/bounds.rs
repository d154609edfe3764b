//! Ranges that an expression implies: every row for which it is true has its columns in them.
//!
//! For expressions without an exact native form, above all those that run-time filters are made
//! of: a disjunction over slices, a lexicographic comparison of a sort key. The ranges prune zones
//! and thin out rows; the expression itself still decides.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, InListExpr, IsNullExpr};
use storage::predicate::{Comparison, Condition, Constant, Predicate};
use storage::schema::TableSchema;

use super::constants::{compare, to_constant};
use super::native::{as_column, column_comparison, constant_value};

/// What is known about the rows for which an expression is true.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Implied {
    /// There are none.
    Never,
    /// Their columns are not NULL and lie in these ranges; other columns may hold anything.
    Ranges(BTreeMap<usize, Range>),
}

/// Both ends included; at least one is there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Range {
    low: Option<Constant>,
    high: Option<Constant>,
}

/// What `expr` being true implies. Columns of `expr` are positions in `schema`.
pub(crate) fn implied(expr: &Arc<dyn PhysicalExpr>, schema: &TableSchema) -> Implied {
    if let Some(value) = constant_value(expr) {
        return match value {
            ScalarValue::Boolean(Some(true)) => anything(),
            ScalarValue::Boolean(_) => Implied::Never,
            _ => anything(),
        };
    }
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::And => both(implied(binary.left(), schema), implied(binary.right(), schema)),
            Operator::Or => either(implied(binary.left(), schema), implied(binary.right(), schema)),
            _ => comparison(binary, schema),
        };
    }
    if let Some(case) = expr.downcast_ref::<CaseExpr>() {
        return any_branch(case, schema);
    }
    if let Some(list) = expr.downcast_ref::<InListExpr>() {
        return list_range(list, schema).unwrap_or_else(anything);
    }
    if let Some(null) = expr.downcast_ref::<IsNullExpr>()
        && let Some(column) = as_column(null.arg()).and_then(|column| schema.columns.get(column))
        && !column.nullable
    {
        return Implied::Never;
    }
    anything()
}

/// The ranges as native predicates.
pub(crate) fn to_predicates(ranges: BTreeMap<usize, Range>) -> Vec<Predicate> {
    let to_predicate = |(column, range): (usize, Range)| {
        let condition = match (range.low, range.high) {
            (Some(low), Some(high)) => Condition::Between(low, high),
            (Some(low), None) => Condition::Compare(Comparison::GreaterOrEqual, low),
            (None, Some(high)) => Condition::Compare(Comparison::LessOrEqual, high),
            (None, None) => return None,
        };
        Some(Predicate { column, condition })
    };
    ranges.into_iter().filter_map(to_predicate).collect()
}

fn anything() -> Implied {
    Implied::Ranges(BTreeMap::new())
}

fn comparison(binary: &BinaryExpr, schema: &TableSchema) -> Implied {
    let Some((column, comparison, constant)) = column_comparison(binary, schema) else {
        return anything();
    };
    let range = match comparison {
        Comparison::Equal => Range { low: Some(constant.clone()), high: Some(constant) },
        Comparison::Less | Comparison::LessOrEqual => Range { low: None, high: Some(constant) },
        Comparison::Greater | Comparison::GreaterOrEqual => {
            Range { low: Some(constant), high: None }
        }
        Comparison::NotEqual => return anything(),
    };
    Implied::Ranges(BTreeMap::from([(column, range)]))
}

fn list_range(list: &InListExpr, schema: &TableSchema) -> Option<Implied> {
    if list.negated() {
        return None;
    }
    let column = as_column(list.expr())?;
    let column_type = schema.columns.get(column)?.column_type;
    let mut hull: Option<Range> = None;
    for item in list.list() {
        let value = constant_value(item)?;
        if value.is_null() {
            continue;
        }
        let constant = to_constant(&value, column_type)?;
        let point = Range { low: Some(constant.clone()), high: Some(constant) };
        hull = match hull {
            None => Some(point),
            Some(hull) => Some(hull_of(hull, point)?),
        };
    }
    Some(hull.map_or(Implied::Never, |hull| Implied::Ranges(BTreeMap::from([(column, hull)]))))
}

/// A CASE is true where one of its results is. Its conditions only narrow that further.
fn any_branch(case: &CaseExpr, schema: &TableSchema) -> Implied {
    let results = case.when_then_expr().iter().map(|(_, then)| then).chain(case.else_expr());
    results.map(|result| implied(result, schema)).reduce(either).unwrap_or(Implied::Never)
}

fn both(left: Implied, right: Implied) -> Implied {
    let (Implied::Ranges(mut ranges), Implied::Ranges(right)) = (left, right) else {
        return Implied::Never;
    };
    for (column, range) in right {
        let narrowed = match ranges.remove(&column) {
            None => range,
            Some(other) => match intersection(other, range) {
                Some(range) => range,
                None => return Implied::Never,
            },
        };
        ranges.insert(column, narrowed);
    }
    Implied::Ranges(ranges)
}

fn either(left: Implied, right: Implied) -> Implied {
    let (mut left, mut right) = match (left, right) {
        (Implied::Never, other) | (other, Implied::Never) => return other,
        (Implied::Ranges(left), Implied::Ranges(right)) => (left, right),
    };
    left.retain(|column, _| right.contains_key(column));
    let hulls = left.into_iter().filter_map(|(column, range)| {
        let hull = hull_of(range, right.remove(&column)?)?;
        (hull.low.is_some() || hull.high.is_some()).then_some((column, hull))
    });
    Implied::Ranges(hulls.collect())
}

/// None if it is empty.
fn intersection(left: Range, right: Range) -> Option<Range> {
    let low = tighter(left.low, right.low, Ordering::Greater);
    let high = tighter(left.high, right.high, Ordering::Less);
    if let (Some(low), Some(high)) = (&low, &high)
        && compare(low, high) == Some(Ordering::Greater)
    {
        return None;
    }
    Some(Range { low, high })
}

/// The end that cuts off more; `order` is how it compares with the other one.
fn tighter(left: Option<Constant>, right: Option<Constant>, order: Ordering) -> Option<Constant> {
    match (left, right) {
        (Some(left), Some(right)) => {
            Some(if compare(&right, &left) == Some(order) { right } else { left })
        }
        (end, None) | (None, end) => end,
    }
}

/// The smallest range around both; none if they cannot be compared.
fn hull_of(left: Range, right: Range) -> Option<Range> {
    Some(Range {
        low: wider(left.low, right.low, Ordering::Less)?,
        high: wider(left.high, right.high, Ordering::Greater)?,
    })
}

fn wider(
    left: Option<Constant>,
    right: Option<Constant>,
    order: Ordering,
) -> Option<Option<Constant>> {
    let (Some(left), Some(right)) = (left, right) else { return Some(None) };
    Some(Some(if compare(&right, &left)? == order { right } else { left }))
}
