//! ROW_NUMBER, RANK, DENSE_RANK and NTILE are BIGINT in Redshift; DataFusion's are unsigned.

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, LogicalPlanBuilder};

/// The plan, with ranks as BIGINT under the same names.
pub(super) fn with_bigint_ranks(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Window(_) = &plan else { return Ok(plan) };
    let schema = plan.schema();
    if schema.fields().iter().all(|field| *field.data_type() != DataType::UInt64) {
        return Ok(plan);
    }
    let columns = schema.fields().iter().zip(schema.columns()).map(|(field, column)| {
        if *field.data_type() != DataType::UInt64 {
            return Expr::Column(column);
        }
        let (relation, name) = (column.relation.clone(), column.name.clone());
        Expr::Cast(Cast::new(Box::new(Expr::Column(column)), DataType::Int64))
            .alias_qualified(relation, name)
    });
    let columns: Vec<Expr> = columns.collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}
