//! SELECT and everything else that is a query.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;
use sql::statement::Statement;
use wlm::{PlanFeatures, QueryKind};

use super::Fields;
use crate::error::{Error, Result};
use crate::execution::{Planned, Replan, stream_rows};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Report;
use crate::planner::on_large_stack;
use crate::session::{Session, SessionStatement};
use crate::workload::{features, is_managed};

/// Plans the query, waits for its turn and starts it.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let (schema, stream) = start(session, whole, parameters).await?;
    Ok(Execution::Rows { schema, stream, tag: "SELECT" })
}

/// Plans the query of the statement, waits for its turn and starts it: its columns and its rows.
pub(super) async fn start(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<(SchemaRef, Rows)> {
    let (planned, kind, features) = plan(session, whole, parameters).await?;
    // The claim goes with the rows.
    let (seat, _claim) = session.seat(kind, features).await?;
    let schema = planned.plan.schema();
    Ok((schema, stream_rows(session.engine(), planned, seat)))
}

type Rows = BoxStream<'static, Result<RecordBatch, Report>>;

/// Plans the query of the statement, and says what workload management needs to know.
async fn plan(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<(Planned, QueryKind, PlanFeatures)> {
    let binding = session.binding()?;
    let whole = Arc::clone(whole);
    let make: Replan = Arc::new(move || {
        let query = query_of(&whole)?;
        let plan = binding.binder().bind_query(query, &whole.parameter_types)?;
        binding.physical(plan, parameters.clone())
    });
    let again = Arc::clone(&make);
    let nodes = session.engine().cluster.layout().nodes();
    on_large_stack(move || {
        let plan = make()?;
        let is_managed = is_managed(&plan);
        let kind = if is_managed { QueryKind::Select } else { QueryKind::LeaderOnly };
        let features = if is_managed { features(&plan, nodes) } else { PlanFeatures::default() };
        Ok((Planned { plan, again: Some(again), is_source: false }, kind, features))
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
