//! SELECT and everything else that is a query.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use sql::statement::Statement;

use super::Fields;
use crate::error::{Error, Result};
use crate::execution::stream_rows;
use crate::pgwire::backend::Execution;
use crate::planner::on_large_stack;
use crate::session::{Session, SessionStatement};

/// Plans the query and starts it.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let plan = plan(session, whole, parameters).await?;
    let schema = plan.schema();
    Ok(Execution::Rows { schema, stream: stream_rows(session.engine(), plan)?, tag: "SELECT" })
}

/// Plans the query of the statement.
pub(super) async fn plan(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let binding = session.binding()?;
    let whole = Arc::clone(whole);
    on_large_stack(move || {
        let query = query_of(&whole)?;
        let plan = binding.binder().bind_query(query, &whole.parameter_types)?;
        binding.physical(plan, parameters)
    })
    .await
}

/// The types of its parameters and its result columns.
pub(super) async fn describe(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
) -> Result<(Vec<DataType>, Fields)> {
    let binding = session.binding()?;
    let whole = Arc::clone(whole);
    on_large_stack(move || {
        let query = query_of(&whole)?;
        let plan = binding.binder().bind_query(query, &whole.parameter_types)?;
        let parameters = sql::parameter_types(&plan, &whole.parameter_types)?;
        let plan = binding.optimize(&plan)?;
        let schema: SchemaRef = Arc::clone(plan.schema().inner());
        Ok((parameters, Some(schema)))
    })
    .await
}

fn query_of(whole: &SessionStatement) -> Result<&sql::ast::Query> {
    match &whole.statement {
        Statement::Query(query) => Ok(query),
        Statement::DeclareCursor(cursor) => Ok(&cursor.query),
        _ => Err(Error::Internal("not a query".into())),
    }
}
