//! PREPARE and EXECUTE.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use sql::statement::{Execute, Prepare};

use super::{Fields, command, describe, run};
use crate::error::{Error, Result};
use crate::pgwire::backend::Execution;
use crate::planner::on_large_stack;
use crate::session::{NamedStatement, Session, SessionStatement};

/// Keeps a statement under a name until DEALLOCATE or the end of the session.
pub(super) fn prepare(
    session: &mut Session,
    whole: &SessionStatement,
    statement: &Prepare,
) -> Result<Execution> {
    let named = SessionStatement {
        statement: (*statement.statement).clone(),
        parameter_types: statement.types.iter().map(|t| Some(t.arrow_type())).collect(),
        shown: Arc::clone(&whole.shown),
    };
    session.prepare_named(&statement.name, NamedStatement { statement: Arc::new(named) })?;
    Ok(command("PREPARE"))
}

/// Runs a named statement with the values of its arguments.
pub(super) async fn execute(session: &mut Session, statement: &Execute) -> Result<Execution> {
    let named = session.named_statement(&statement.name)?.statement;
    let types = describe(session, Arc::clone(&named)).await?.parameters;
    if types.len() != statement.arguments.len() {
        let message =
            format!("wrong number of parameters for prepared statement \"{}\"", statement.name);
        let detail =
            format!("Expected {} parameters but got {}.", types.len(), statement.arguments.len());
        return Err(Error::statement("42601", message).with_detail(detail));
    }
    let values = values(session, statement.arguments.clone(), types).await?;
    Box::pin(run(session, &named, values)).await
}

/// The values of the arguments, cast to the types of the parameters.
async fn values(
    session: &mut Session,
    arguments: Vec<sql::ast::Expr>,
    types: Vec<DataType>,
) -> Result<Vec<ScalarValue>> {
    // The statement itself takes the snapshot, after its locks.
    let peek = session.transaction()?.peek();
    let binding = session.binding_of(peek);
    on_large_stack(move || {
        let binder = binding.binder();
        let value = |(argument, data_type)| Ok(binder.constant(argument, data_type)?);
        arguments.iter().zip(&types).map(value).collect()
    })
    .await
}

/// The result columns of a named statement.
pub(super) async fn fields(session: &mut Session, statement: &Execute) -> Result<Fields> {
    let named = session.named_statement(&statement.name)?.statement;
    Ok(describe(session, named).await?.fields)
}

/// DEALLOCATE; None is ALL.
pub(super) fn deallocate(session: &mut Session, name: Option<&str>) -> Execution {
    session.deallocate(name);
    command(if name.is_none() { "DEALLOCATE ALL" } else { "DEALLOCATE" })
}
