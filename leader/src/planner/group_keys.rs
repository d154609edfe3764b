//! Lets an aggregate that is joined by a key of its groups make only the groups that can be joined.
//!
//! ```sql
//! SELECT ... FROM lineitem, part,
//!     (SELECT l_partkey, avg(l_quantity) FROM lineitem GROUP BY l_partkey) a
//! WHERE p_partkey = l_partkey AND a.l_partkey = p_partkey AND p_brand = '...'
//! ```
//!
//! An output row needs its part in `part`, so groups of other parts are made in vain: the input of the
//! aggregate becomes `lineitem` with the parts of that brand only, by a semi join. This is the magic
//! set of one relation (Mumick and Pirahesh, "Implementation of Magic-sets in a Relational Database
//! System", 1994). A join filter found at run time would do the same, where it can be pushed through
//! the aggregate; it does not cross from node to node.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, ExprSchema as _, Result};
use datafusion::logical_expr::{
    Aggregate, Expr, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, Projection, SubqueryAlias,
};

/// The name of the semi join's right side, and of its column.
const KEYS: &str = "__group_keys";
const KEY: &str = "key";

/// Values that a key of groups can have.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    /// A plan that is cheap to run once more: see [`is_cheap`].
    pub(super) plan: LogicalPlan,
    /// Its column with the values.
    pub(super) column: Column,
}

/// Whether running the plan twice costs little and gives the same rows: a filtered scan.
pub(super) fn is_cheap(plan: &LogicalPlan) -> bool {
    let is_small = match plan {
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        LogicalPlan::Filter(Filter { input, .. })
        | LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => is_cheap(input),
        _ => false,
    };
    is_small && !is_volatile(plan)
}

fn is_volatile(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let looked = plan.apply_expressions(|expression| {
        found |= expression.is_volatile();
        Ok(TreeNodeRecursion::Continue)
    });
    found || looked.is_err()
}

/// The plan without the groups whose `column` has no value in `keys`; None if it is no aggregate by
/// that column.
///
/// # Errors
/// If the plan is not consistent.
pub(super) fn restrict(
    plan: &LogicalPlan,
    column: &Column,
    keys: &Keys,
) -> Result<Option<LogicalPlan>> {
    let at = plan.schema().index_of_column(column)?;
    match plan {
        LogicalPlan::SubqueryAlias(alias) => {
            let below = alias.input.schema().columns().swap_remove(at);
            let Some(input) = restrict(&alias.input, &below, keys)? else { return Ok(None) };
            let alias = SubqueryAlias::try_new(Arc::new(input), alias.alias.clone())?;
            Ok(Some(LogicalPlan::SubqueryAlias(alias)))
        }
        LogicalPlan::Projection(projection) => {
            let Some(below) = plain_column(&projection.expr[at]) else { return Ok(None) };
            let Some(input) = restrict(&projection.input, below, keys)? else { return Ok(None) };
            let projection = Projection::try_new(projection.expr.clone(), Arc::new(input))?;
            Ok(Some(LogicalPlan::Projection(projection)))
        }
        LogicalPlan::Filter(filter) => {
            let Some(input) = restrict(&filter.input, column, keys)? else { return Ok(None) };
            let filter = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
            Ok(Some(LogicalPlan::Filter(filter)))
        }
        LogicalPlan::Aggregate(aggregate) => restrict_input(aggregate, at, keys),
        _ => Ok(None),
    }
}

fn restrict_input(aggregate: &Aggregate, at: usize, keys: &Keys) -> Result<Option<LogicalPlan>> {
    let Some(column) = aggregate.group_expr.get(at).and_then(plain_column) else { return Ok(None) };
    let input = aggregate.input.schema();
    let data_type = input.field_from_column(column)?.data_type();
    let same_type = keys.plan.schema().field_from_column(&keys.column)?.data_type() == data_type;
    if !same_type || !is_compared_by_value(data_type) {
        return Ok(None);
    }
    let values = LogicalPlanBuilder::from(keys.plan.clone())
        .project([Expr::Column(keys.column.clone()).alias(KEY)])?
        .alias(KEYS)?
        .build()?;
    let key = Column::new(Some(KEYS), KEY);
    let input = LogicalPlanBuilder::from(Arc::clone(&aggregate.input))
        .join(values, JoinType::LeftSemi, (vec![column.clone()], vec![key]), None)?
        .build()?;
    let (groups, functions) = (aggregate.group_expr.clone(), aggregate.aggr_expr.clone());
    let restricted = Aggregate::try_new(Arc::new(input), groups, functions)?;
    Ok(Some(LogicalPlan::Aggregate(restricted)))
}

/// Types whose equal values are equal in every join; strings may differ in blanks.
fn is_compared_by_value(data_type: &DataType) -> bool {
    data_type.is_integer() || matches!(data_type, DataType::Date32)
}

fn plain_column(expression: &Expr) -> Option<&Column> {
    match expression {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => plain_column(&alias.expr),
        _ => None,
    }
}
