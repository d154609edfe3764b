//! Computes AVG(x) from SUM(x) and COUNT(x) where an aggregation keeps those anyway.
//!
//! `SUM(x), AVG(x), COUNT(*)` with an `x` that is never NULL keeps one sum and one count per group
//! and not two of each.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable, LogicalPlan, Projection};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};
use std::collections::HashSet;
use std::sync::Arc;

use crate::functions;

/// The rule.
#[derive(Debug)]
pub(super) struct ShareSums;

impl OptimizerRule for ShareSums {
    fn name(&self) -> &str {
        "share_sums"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        match plan {
            LogicalPlan::Aggregate(aggregate) => share(aggregate),
            other => Ok(Transformed::no(other)),
        }
    }
}

fn share(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let shared: Vec<Option<Parts>> = aggregate
        .aggr_expr
        .iter()
        .map(|expr| parts_of_average(expr, &aggregate))
        .collect::<Result<_>>()?;
    if shared.iter().all(Option::is_none) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let Some(kept) = kept_aggregates(&aggregate.aggr_expr, &shared) else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    let inner = Aggregate::try_new(
        Arc::clone(&aggregate.input),
        aggregate.group_expr.clone(),
        kept.clone(),
    )?;
    let columns = inner.schema.columns();
    let groups = columns.len() - kept.len();
    let column_of = |expr: &Expr| {
        let position = kept.iter().position(|kept| kept == expr).unwrap_or_default();
        Expr::Column(columns[groups + position].clone())
    };
    let mut outputs: Vec<Expr> = columns[..groups].iter().cloned().map(Expr::Column).collect();
    for ((expr, parts), output) in
        aggregate.aggr_expr.iter().zip(&shared).zip(&aggregate.schema.columns()[groups..])
    {
        outputs.push(match parts {
            Some(parts) => functions::average_of()
                .call(vec![column_of(&parts.sum), column_of(&parts.count)])
                .alias_qualified(output.relation.clone(), output.name.clone()),
            None => column_of(expr),
        });
    }
    let whole = Projection::try_new(outputs, Arc::new(LogicalPlan::Aggregate(inner)))?;
    Ok(Transformed::yes(LogicalPlan::Projection(whole)))
}

/// The aggregates that are left, each once. None if two of them have one name: names leave out
/// casts.
fn kept_aggregates(aggregates: &[Expr], shared: &[Option<Parts>]) -> Option<Vec<Expr>> {
    let mut kept: Vec<Expr> = Vec::new();
    for (expr, parts) in aggregates.iter().zip(shared) {
        let needed = match parts {
            Some(parts) => vec![&parts.sum, &parts.count],
            None => vec![expr],
        };
        for expr in needed {
            if !kept.contains(expr) {
                kept.push(expr.clone());
            }
        }
    }
    let names: HashSet<String> = kept.iter().map(|expr| expr.schema_name().to_string()).collect();
    (names.len() == kept.len()).then_some(kept)
}

/// What an AVG is computed from.
struct Parts {
    sum: Expr,
    count: Expr,
}

/// None if the expression is no plain AVG, or the aggregation has not the same SUM.
fn parts_of_average(expr: &Expr, aggregate: &Aggregate) -> Result<Option<Parts>> {
    let Expr::AggregateFunction(average) = expr else { return Ok(None) };
    let params = &average.params;
    let plain = !params.distinct && params.order_by.is_empty() && params.null_treatment.is_none();
    let [argument] = params.args.as_slice() else { return Ok(None) };
    if average.func.name() != "avg" || !plain {
        return Ok(None);
    }
    let same_rows = |other: &AggregateFunctionParams| {
        !other.distinct && other.filter == params.filter && other.order_by.is_empty()
    };
    let sum = aggregate.aggr_expr.iter().find(|expr| match expr {
        Expr::AggregateFunction(other) => {
            other.func.name() == "sum"
                && same_rows(&other.params)
                && other.params.args == params.args
        }
        _ => false,
    });
    let count = count_of(argument, average, aggregate)?;
    let has_count = aggregate.aggr_expr.contains(&count);
    // A sum that nobody asked for may overflow where the average does not.
    let exact = matches!(argument.get_type(aggregate.input.schema())?, DataType::Decimal128(..));
    Ok(match sum {
        Some(sum) => Some(Parts { sum: sum.clone(), count }),
        None if has_count && exact => {
            Some(Parts { sum: with_function(average, functions::sum()), count })
        }
        None => None,
    })
}

/// COUNT of the same rows; of all rows if the argument is never NULL.
fn count_of(argument: &Expr, average: &AggregateFunction, aggregate: &Aggregate) -> Result<Expr> {
    let count = functions::count();
    let counted = if argument.nullable(aggregate.input.schema())? {
        without_cast(argument).clone()
    } else {
        Expr::Literal(ScalarValue::Int64(Some(1)), None)
    };
    let params = AggregateFunctionParams { args: vec![counted], ..average.params.clone() };
    Ok(Expr::AggregateFunction(AggregateFunction { func: count, params }))
}

/// What a coercion casts: it is NULL where the result is.
fn without_cast(expr: &Expr) -> &Expr {
    match expr {
        Expr::Cast(cast) => &cast.expr,
        other => other,
    }
}

fn with_function(
    average: &AggregateFunction,
    func: Arc<datafusion::logical_expr::AggregateUDF>,
) -> Expr {
    Expr::AggregateFunction(AggregateFunction { func, params: average.params.clone() })
}
