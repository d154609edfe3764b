//! How many rows a scan's filters let through, estimated from the table's statistics.
//!
//! The planner decides with it which side of a join to build and whether to broadcast it. Values of
//! a column are taken as evenly spread and columns as independent.

use std::sync::Arc;

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, LikeExpr, NotExpr};
use storage::predicate::{Comparison, Condition, Constant, Predicate};
use storage::schema::TableSchema;

use super::constants::{magnitude, to_constant};
use super::native::{as_column, translate};

/// For a filter that nothing is known about.
const UNKNOWN: f64 = 0.25;
/// For a range of a column without numeric bounds.
const RANGE: f64 = 0.3;
/// LIKE with a pattern that begins with text.
const LIKE_PREFIX: f64 = 0.05;
/// LIKE with any other pattern.
const LIKE_ANYWHERE: f64 = 0.1;

/// The statistics of a scan's output: of one partition if there are several `parts`.
pub(crate) fn scan_statistics(
    schema: &TableSchema,
    table: &Statistics,
    filters: &[Arc<dyn PhysicalExpr>],
    projection: &[usize],
    limit: Option<usize>,
    parts: usize,
) -> Statistics {
    let mut statistics = table.clone().project(Some(&projection));
    let bytes = statistics.column_statistics.iter().map(|column| column.byte_size);
    statistics.total_byte_size = bytes.fold(Precision::Exact(0), |sum, bytes| sum.add(&bytes));
    let part: f64 = filters.iter().map(|filter| selectivity(filter, schema, table)).product();
    let part = part.clamp(0.0, 1.0) / parts.max(1) as f64;
    let all = table.num_rows.get_value().copied().unwrap_or(0);
    if !filters.is_empty() || parts > 1 {
        // At least one row: a plan that relies on none is far off if there are some.
        let rows = ((all as f64 * part).ceil() as usize).max(usize::from(all > 0));
        statistics = scale(statistics, rows, part);
    }
    if let Some(limit) = limit
        && statistics.num_rows.get_value().is_some_and(|rows| *rows > limit)
    {
        let rows = statistics.num_rows.get_value().copied().unwrap_or(1).max(1);
        statistics = scale(statistics, limit, limit as f64 / rows as f64);
    }
    statistics
}

fn scale(statistics: Statistics, rows: usize, part: f64) -> Statistics {
    let shrink = |bytes: Precision<usize>| {
        bytes.map(|bytes| (bytes as f64 * part).ceil() as usize).to_inexact()
    };
    let mut statistics = statistics.to_inexact();
    statistics.num_rows = Precision::Inexact(rows);
    statistics.total_byte_size = shrink(statistics.total_byte_size);
    for column in &mut statistics.column_statistics {
        column.null_count = shrink(column.null_count);
        column.byte_size = shrink(column.byte_size);
        column.distinct_count = column.distinct_count.map(|count| count.min(rows));
    }
    statistics
}

/// The part of the rows for which the filter is true, 0 to 1.
fn selectivity(filter: &Arc<dyn PhysicalExpr>, schema: &TableSchema, table: &Statistics) -> f64 {
    if let Some(predicate) = translate(filter, schema) {
        return of_predicate(&predicate, schema, table);
    }
    if let Some(binary) = filter.downcast_ref::<BinaryExpr>() {
        let of = |side: &Arc<dyn PhysicalExpr>| selectivity(side, schema, table);
        return match binary.op() {
            Operator::And => of(binary.left()) * of(binary.right()),
            Operator::Or => {
                let (left, right) = (of(binary.left()), of(binary.right()));
                left + right - left * right
            }
            Operator::Eq => of_equal_columns(binary, table),
            Operator::NotEq => 1.0 - of_equal_columns(binary, table),
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => RANGE,
            _ => UNKNOWN,
        };
    }
    if let Some(not) = filter.downcast_ref::<NotExpr>() {
        return 1.0 - selectivity(not.arg(), schema, table);
    }
    match filter.downcast_ref::<LikeExpr>() {
        Some(like) if like.negated() => 1.0 - LIKE_ANYWHERE,
        Some(_) => LIKE_ANYWHERE,
        None => UNKNOWN,
    }
}

fn of_equal_columns(binary: &BinaryExpr, table: &Statistics) -> f64 {
    let distinct = [binary.left(), binary.right()].into_iter().filter_map(|side| {
        table.column_statistics.get(as_column(side)?)?.distinct_count.get_value().copied()
    });
    distinct.max().map_or(UNKNOWN, |count| 1.0 / count.max(1) as f64)
}

fn of_predicate(predicate: &Predicate, schema: &TableSchema, table: &Statistics) -> f64 {
    let Some(column) = table.column_statistics.get(predicate.column) else { return UNKNOWN };
    let rows = table.num_rows.get_value().copied().unwrap_or(0).max(1) as f64;
    let nulls = column.null_count.get_value().copied().unwrap_or(0) as f64 / rows;
    let one = match column.distinct_count.get_value() {
        Some(count) => 1.0 / (*count).max(1) as f64,
        None => 0.1,
    };
    let position = |constant: &Constant| position(constant, column, schema, predicate.column);
    let of_values = match &predicate.condition {
        Condition::IsNull => return nulls,
        Condition::IsNotNull => 1.0,
        Condition::Compare(Comparison::Equal, value) => within(position(value), one),
        Condition::Compare(Comparison::NotEqual, value) => 1.0 - within(position(value), one),
        Condition::Compare(Comparison::Less | Comparison::LessOrEqual, high) => {
            position(high).map_or(RANGE, clamp)
        }
        Condition::Compare(Comparison::Greater | Comparison::GreaterOrEqual, low) => {
            position(low).map_or(RANGE, |low| 1.0 - clamp(low))
        }
        Condition::Between(low, high) => match (position(low), position(high)) {
            (Some(low), Some(high)) => (clamp(high) - clamp(low)).max(one.min(1.0)),
            _ => RANGE,
        },
        Condition::In(values) => values.iter().map(|value| within(position(value), one)).sum(),
        Condition::NotIn(values) => 1.0 - one * values.len() as f64,
        Condition::Like(pattern) => of_pattern(pattern, one),
        Condition::NotLike(pattern) => 1.0 - of_pattern(pattern, one),
    };
    clamp(of_values) * (1.0 - nulls)
}

fn clamp(part: f64) -> f64 {
    part.clamp(0.0, 1.0)
}

/// The part of the rows with one value: none if the value is outside of the column's bounds.
fn within(position: Option<f64>, one: f64) -> f64 {
    match position {
        Some(position) if !(0.0..=1.0).contains(&position) => 0.0,
        _ => one,
    }
}

/// Where a constant lies between the column's bounds: 0 at the least value, 1 at the greatest.
fn position(
    constant: &Constant,
    column: &ColumnStatistics,
    schema: &TableSchema,
    index: usize,
) -> Option<f64> {
    let column_type = schema.columns.get(index)?.column_type;
    let low = magnitude(&to_constant(column.min_value.get_value()?, column_type)?)?;
    let high = magnitude(&to_constant(column.max_value.get_value()?, column_type)?)?;
    let value = magnitude(constant)?;
    if high > low {
        return Some((value - low) / (high - low));
    }
    // One value only: before it, at it, or after it.
    Some(if value < low {
        -1.0
    } else if value > low {
        2.0
    } else {
        0.5
    })
}

fn of_pattern(pattern: &str, one: f64) -> f64 {
    match pattern.find(['%', '_']) {
        None => one,
        Some(0) => LIKE_ANYWHERE,
        Some(_) => LIKE_PREFIX,
    }
}
