//! SELECT and everything else that is a query.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;
use sql::statement::Statement;

use super::Fields;
use crate::error::{Error, Result};
use crate::execution::{Replan, stream_rows};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Report;
use crate::planner::on_large_stack;
use crate::session::{Session, SessionStatement};

/// Plans the query and starts it.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let (schema, stream) = start(session, whole, parameters).await?;
    Ok(Execution::Rows { schema, stream, tag: "SELECT" })
}

/// Plans the query of the statement and starts it.
pub(super) async fn start(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch, Report>>)> {
    let binding = session.binding()?;
    let whole = Arc::clone(whole);
    let plan: Replan = Arc::new(move || {
        let query = query_of(&whole)?;
        let plan = binding.binder().bind_query(query, &whole.parameter_types)?;
        binding.physical(plan, parameters.clone())
    });
    let first = Arc::clone(&plan);
    let first = on_large_stack(move || first()).await?;
    Ok((first.schema(), stream_rows(session.engine(), first, plan)?))
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
