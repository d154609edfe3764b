//! Removes repeated sort keys and repeated group keys.
//!
//! DataFusion's rule of this purpose also drops sort keys that depend on others by functional
//! dependencies. Those are carried through joins and aggregations too far, so that the rule can drop
//! a key on which the order depends. This one removes only what is literally repeated.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, Sort};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// The rule.
#[derive(Debug)]
pub(super) struct EliminateDuplicatedSafely;

impl EliminateDuplicatedSafely {
    /// The name of the rule it replaces.
    pub(super) const REPLACED: &'static str = "eliminate_duplicated_expr";
}

impl OptimizerRule for EliminateDuplicatedSafely {
    fn name(&self) -> &str {
        Self::REPLACED
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
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
            LogicalPlan::Sort(sort) => Ok(without_repeated_keys(sort)),
            LogicalPlan::Aggregate(aggregate) => without_repeated_groups(aggregate),
            other => Ok(Transformed::no(other)),
        }
    }
}

/// A key after an equal one decides nothing, whatever its direction.
fn without_repeated_keys(sort: Sort) -> Transformed<LogicalPlan> {
    let count = sort.expr.len();
    let mut keys = Vec::with_capacity(count);
    for key in sort.expr {
        let is_new =
            keys.iter().all(|kept: &datafusion::logical_expr::SortExpr| kept.expr != key.expr);
        if is_new {
            keys.push(key);
        }
    }
    let shrunk = keys.len() < count;
    let plan = LogicalPlan::Sort(Sort { expr: keys, input: sort.input, fetch: sort.fetch });
    if shrunk { Transformed::yes(plan) } else { Transformed::no(plan) }
}

fn without_repeated_groups(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut groups: Vec<Expr> = Vec::with_capacity(aggregate.group_expr.len());
    for group in &aggregate.group_expr {
        if !groups.contains(group) {
            groups.push(group.clone());
        }
    }
    if groups.len() == aggregate.group_expr.len() {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let aggregate = Aggregate::try_new(aggregate.input, groups, aggregate.aggr_expr)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}
