//! How many rows a logical plan gives, and how many distinct values a column of it has: estimates
//! from table statistics, for choosing a join order. Nothing here decides what a query means.
//!
//! The rules are the textbook ones (Selinger et al., "Access Path Selection in a Relational
//! Database Management System", 1979): uniform values, independent conditions, containment of
//! join keys.

use std::collections::HashMap;

use datafusion::common::stats::Precision;
use datafusion::common::{Column, ScalarValue, Statistics};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Join, JoinType, LogicalPlan, Operator, TableScan,
};

/// What a condition lets through when nothing is known of it.
const SELECTIVITY_UNKNOWN: f64 = 0.25;
/// What LIKE lets through.
const SELECTIVITY_LIKE: f64 = 0.1;
/// What HAVING and conditions on aggregates let through.
const SELECTIVITY_HAVING: f64 = 0.1;
/// Rows of a source without statistics.
const ROWS_UNKNOWN: f64 = 1_000_000.0;

/// What is known of one column.
#[derive(Debug, Clone)]
struct ColumnEstimate {
    distinct: f64,
    min: Option<f64>,
    max: Option<f64>,
}

/// What is known of a plan's output.
#[derive(Debug, Clone)]
pub(super) struct Estimate {
    /// Rows, at least 1.
    pub rows: f64,
    columns: HashMap<Column, ColumnEstimate>,
}

impl Estimate {
    fn unknown(rows: f64) -> Self {
        Self { rows: rows.max(1.0), columns: HashMap::new() }
    }

    /// Distinct values of a column: never more than rows; all rows when nothing is known.
    pub(super) fn distinct(&self, column: &Column) -> f64 {
        let known = self.columns.get(column).map_or(self.rows, |known| known.distinct);
        known.min(self.rows).max(1.0)
    }

    /// The rows that pass the conditions.
    pub(super) fn filtered<'a>(mut self, conditions: impl Iterator<Item = &'a Expr>) -> Self {
        let selectivity: f64 = conditions.map(|condition| self.selectivity(condition)).product();
        self.rows = (self.rows * selectivity).max(1.0);
        self
    }

    /// The share of rows that pass a condition.
    fn selectivity(&self, condition: &Expr) -> f64 {
        match condition {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                self.selectivity(left) * self.selectivity(right)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                let (a, b) = (self.selectivity(left), self.selectivity(right));
                a + b - a * b
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => self.comparison(left, *op, right),
            Expr::Not(inner) => 1.0 - self.selectivity(inner),
            Expr::InList(InList { expr, list, negated }) => {
                let share = (list.len() as f64 * self.equality(expr)).min(1.0);
                if *negated { 1.0 - share } else { share }
            }
            Expr::Between(between) => {
                let low = self.comparison(&between.expr, Operator::GtEq, &between.low);
                let high = self.comparison(&between.expr, Operator::LtEq, &between.high);
                let share = (low + high - 1.0).clamp(0.0, 1.0);
                if between.negated { 1.0 - share } else { share }
            }
            Expr::Like(like) if like.negated => 1.0 - SELECTIVITY_LIKE,
            Expr::Like(_) => SELECTIVITY_LIKE,
            Expr::IsNotNull(_) => 1.0,
            Expr::IsNull(_) => SELECTIVITY_LIKE,
            _ => SELECTIVITY_UNKNOWN,
        }
    }

    fn comparison(&self, left: &Expr, operator: Operator, right: &Expr) -> f64 {
        match (left, right) {
            (Expr::Column(column), Expr::Literal(value, _)) => {
                self.with_constant(column, operator, value)
            }
            (Expr::Literal(value, _), Expr::Column(column)) => {
                let swapped = operator.swap().unwrap_or(operator);
                self.with_constant(column, swapped, value)
            }
            _ => match operator {
                Operator::Eq => self.equality(left).min(self.equality(right)),
                Operator::NotEq => 1.0,
                Operator::LikeMatch => SELECTIVITY_LIKE,
                _ => SELECTIVITY_UNKNOWN,
            },
        }
    }

    /// The share of one value.
    fn equality(&self, expression: &Expr) -> f64 {
        match expression {
            Expr::Column(column) if self.columns.contains_key(column) => {
                1.0 / self.distinct(column)
            }
            Expr::Cast(cast) => self.equality(&cast.expr),
            _ => SELECTIVITY_LIKE,
        }
    }

    fn with_constant(&self, column: &Column, operator: Operator, value: &ScalarValue) -> f64 {
        let known = self.columns.get(column);
        match operator {
            Operator::Eq => 1.0 / self.distinct(column),
            Operator::NotEq => 1.0 - 1.0 / self.distinct(column),
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => {
                let range = known.and_then(|known| Some((known.min?, known.max?)));
                let (Some((min, max)), Some(value)) = (range, number(value)) else {
                    return SELECTIVITY_UNKNOWN;
                };
                let below =
                    if max > min { ((value - min) / (max - min)).clamp(0.0, 1.0) } else { 0.5 };
                match operator {
                    Operator::Lt | Operator::LtEq => below,
                    _ => 1.0 - below,
                }
            }
            _ => SELECTIVITY_UNKNOWN,
        }
    }
}

/// The estimate of a plan.
pub(super) fn estimate(plan: &LogicalPlan) -> Estimate {
    match plan {
        LogicalPlan::TableScan(scan) => scan_estimate(scan),
        LogicalPlan::Filter(filter) => {
            let input = estimate(&filter.input);
            let having = matches!(filter.input.as_ref(), LogicalPlan::Aggregate(_));
            if having {
                let rows = input.rows * SELECTIVITY_HAVING;
                return Estimate { rows: rows.max(1.0), ..input };
            }
            input.filtered(split_conjunction(&filter.predicate).into_iter())
        }
        LogicalPlan::Projection(projection) => {
            let input = estimate(&projection.input);
            let outputs = projection.schema.columns();
            renamed(input, projection.expr.iter().zip(outputs))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = estimate(&alias.input);
            let inner: Vec<Expr> =
                alias.input.schema().columns().into_iter().map(Expr::Column).collect();
            renamed(input, inner.iter().zip(alias.schema.columns()))
        }
        LogicalPlan::Aggregate(aggregate) => aggregate_estimate(aggregate),
        LogicalPlan::Join(join) => join_estimate(join),
        LogicalPlan::Limit(_) | LogicalPlan::Sort(_) | LogicalPlan::Distinct(_) => {
            plan.inputs().first().map_or_else(|| Estimate::unknown(1.0), |input| estimate(input))
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Estimate::unknown(1.0),
        _ => {
            let rows = plan.inputs().iter().map(|input| estimate(input).rows).sum::<f64>();
            Estimate::unknown(if rows > 0.0 { rows } else { ROWS_UNKNOWN })
        }
    }
}

fn scan_estimate(scan: &TableScan) -> Estimate {
    let Ok(provider) = source_as_provider(&scan.source) else {
        return Estimate::unknown(ROWS_UNKNOWN);
    };
    let Some(statistics) = provider.statistics() else {
        return Estimate::unknown(ROWS_UNKNOWN);
    };
    let rows = amount(&statistics.num_rows).unwrap_or(ROWS_UNKNOWN);
    let mut columns = HashMap::new();
    for (at, field) in provider.schema().fields().iter().enumerate() {
        let column = Column::new(Some(scan.table_name.clone()), field.name());
        columns.insert(column, column_estimate(&statistics, at, rows));
    }
    Estimate { rows: rows.max(1.0), columns }.filtered(scan.filters.iter())
}

fn column_estimate(statistics: &Statistics, at: usize, rows: f64) -> ColumnEstimate {
    let Some(known) = statistics.column_statistics.get(at) else {
        return ColumnEstimate { distinct: rows, min: None, max: None };
    };
    let bound = |value: &Precision<ScalarValue>| value.get_value().and_then(number);
    ColumnEstimate {
        distinct: amount(&known.distinct_count).unwrap_or(rows),
        min: bound(&known.min_value),
        max: bound(&known.max_value),
    }
}

fn amount(value: &Precision<usize>) -> Option<f64> {
    value.get_value().map(|value| *value as f64)
}

/// The output columns under their new names; expressions have no estimate.
fn renamed<'a>(input: Estimate, outputs: impl Iterator<Item = (&'a Expr, Column)>) -> Estimate {
    let mut columns = HashMap::new();
    for (expression, output) in outputs {
        let inner = match expression {
            Expr::Alias(alias) => alias.expr.as_ref(),
            other => other,
        };
        if let Expr::Column(column) = inner
            && let Some(known) = input.columns.get(column)
        {
            columns.insert(output, known.clone());
        }
    }
    Estimate { rows: input.rows, columns }
}

fn aggregate_estimate(aggregate: &Aggregate) -> Estimate {
    let input = estimate(&aggregate.input);
    let distinct = |expression: &Expr| match expression {
        Expr::Column(column) => input.distinct(column),
        _ => input.rows.sqrt(),
    };
    let groups: f64 = aggregate.group_expr.iter().map(distinct).product();
    let outputs = aggregate.schema.columns();
    let rows = groups.min(input.rows);
    let keys = renamed(input, aggregate.group_expr.iter().zip(outputs));
    Estimate { rows: rows.max(1.0), columns: keys.columns }
}

fn join_estimate(join: &Join) -> Estimate {
    let (left, right) = (estimate(&join.left), estimate(&join.right));
    let keys: Vec<(f64, f64)> =
        join.on.iter().map(|(l, r)| (key_distinct(&left, l), key_distinct(&right, r))).collect();
    let inner = inner_rows(&left, &right, &keys);
    let matched = match keys.first() {
        Some((l, r)) => (r / l).min(1.0),
        None => 0.5,
    };
    let rows = match join.join_type {
        JoinType::Inner => inner,
        JoinType::Left => inner.max(left.rows),
        JoinType::Right => inner.max(right.rows),
        JoinType::Full => inner.max(left.rows).max(right.rows),
        JoinType::LeftSemi => left.rows * matched,
        JoinType::LeftAnti => left.rows * (1.0 - matched).max(0.1),
        JoinType::RightSemi | JoinType::RightAnti => right.rows * 0.5,
        JoinType::LeftMark => left.rows,
        JoinType::RightMark => right.rows,
    };
    let mut columns = left.columns;
    columns.extend(right.columns);
    Estimate { rows: rows.max(1.0), columns }
}

/// Distinct values of a join key.
pub(super) fn key_distinct(side: &Estimate, key: &Expr) -> f64 {
    match key {
        Expr::Column(column) => side.distinct(column),
        Expr::Cast(cast) => key_distinct(side, &cast.expr),
        _ => side.rows,
    }
}

/// Rows of an inner equi-join; `keys` are the distinct values on both sides of each condition.
/// Several conditions together cannot tell apart more than the rows of a side.
pub(super) fn inner_rows(left: &Estimate, right: &Estimate, keys: &[(f64, f64)]) -> f64 {
    let denominator = match keys {
        [] => 1.0,
        [(l, r)] => l.max(*r),
        _ => {
            let l = keys.iter().map(|(l, _)| l).product::<f64>().min(left.rows);
            let r = keys.iter().map(|(_, r)| r).product::<f64>().min(right.rows);
            l.min(r)
        }
    };
    (left.rows * right.rows / denominator.max(1.0)).max(1.0)
}

/// The joined columns of both sides with a new row count.
pub(super) fn joined(left: &Estimate, right: &Estimate, rows: f64) -> Estimate {
    let mut columns = left.columns.clone();
    columns.extend(right.columns.iter().map(|(name, known)| (name.clone(), known.clone())));
    Estimate { rows, columns }
}

/// A constant on a number line; None for text.
fn number(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Int8(v) => v.map(f64::from),
        ScalarValue::Int16(v) => v.map(f64::from),
        ScalarValue::Int32(v) | ScalarValue::Date32(v) => v.map(f64::from),
        ScalarValue::Int64(v)
        | ScalarValue::TimestampMicrosecond(v, _)
        | ScalarValue::Time64Microsecond(v) => v.map(|v| v as f64),
        ScalarValue::Float32(v) => v.map(f64::from),
        ScalarValue::Float64(v) => *v,
        ScalarValue::Decimal128(v, _, scale) => v.map(|v| v as f64 / 10f64.powi(i32::from(*scale))),
        _ => None,
    }
}
