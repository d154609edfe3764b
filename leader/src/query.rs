//! The way of a statement from its text to its result. Each step is a call to the module that owns
//! it; nothing here knows a statement's details.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use sql::Limits;

use crate::error::{Error, Result, code};
use crate::pgwire::backend::{CancelHandle, Execution, Prepared};
use crate::planner::on_large_stack;
use crate::session::alone::LoneCommit;
use crate::session::{Session, SessionStatement};
use crate::statement;

/// How often a statement that is alone in its transaction is done, if others are quicker.
const LONE_ATTEMPTS_MAX: usize = 5;

/// Parses a text into its statements, on a large stack.
pub async fn parse(
    text: String,
    parameter_types: Vec<Option<DataType>>,
) -> Result<Vec<SessionStatement>> {
    let parsed = on_large_stack(move || Ok(sql::parse(&text, &Limits::default())?)).await?;
    let statement = |parsed: sql::Parsed| SessionStatement {
        statement: parsed.statement,
        parameter_types: parameter_types.clone(),
        shown: Arc::from(parsed.shown),
    };
    Ok(parsed.into_iter().map(statement).collect())
}

/// Parses the one statement of an extended-protocol Parse and describes it.
pub async fn prepare(
    session: &mut Session,
    text: &str,
    parameter_types: Vec<Option<DataType>>,
) -> Result<Prepared<Arc<SessionStatement>>> {
    let mut statements = parse(text.to_owned(), parameter_types).await?;
    let Some(first) = statements.pop() else {
        return Ok(Prepared { statement: None, parameters: Vec::new(), fields: None });
    };
    if !statements.is_empty() {
        let message = "cannot insert multiple commands into a prepared statement";
        return Err(Error::statement(code::SYNTAX_ERROR, message));
    }
    statement::describe(session, Arc::new(first)).await
}

/// Runs a statement. Returns soon after a cancel, with [`Error::Canceled`].
pub async fn execute(
    session: &mut Session,
    statement: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
    cancel: &CancelHandle,
) -> Result<Execution> {
    if statement::ends_block(&statement.statement) {
        return statement::end_block(session, &statement.statement).await;
    }
    session.check_not_failed()?;
    let result = match session.is_alone() {
        true => execute_alone(session, statement, parameters, cancel).await,
        false => execute_once(session, statement, parameters, cancel).await,
    };
    result.map_err(|error| {
        session.engine().transactions.fence_after(&error);
        session.named(error)
    })
}

async fn execute_once(
    session: &mut Session,
    statement: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
    cancel: &CancelHandle,
) -> Result<Execution> {
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::Canceled),
        result = statement::run(session, statement, parameters) => result,
    };
    // Once begun a commit goes on whoever waits, and so its outcome must be told.
    if session.takes_commit_after_statement() && result.is_ok() {
        let committed = session.commit_and_go_on().await;
        return session.after_commit(committed).and(result);
    }
    result
}

/// A statement that is alone in its transaction is committed here if its commit may be in vain, and
/// done again if it was, or if another transaction was quicker before that.
async fn execute_alone(
    session: &mut Session,
    statement: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
    cancel: &CancelHandle,
) -> Result<Execution> {
    for _ in 1..LONE_ATTEMPTS_MAX {
        let tables = match execute_once(session, statement, parameters.clone(), cancel).await {
            Ok(execution) if !session.can_lose() => return Ok(execution),
            Ok(execution) => match session.commit_alone().await? {
                LoneCommit::Done => return Ok(execution),
                LoneCommit::Lost(tables) => tables,
            },
            Err(Error::Conflict { table, .. }) => session.begin_alone_again(table)?,
            Err(error) => return Err(error),
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::Canceled),
            locked = session.lock_ahead(&tables) => locked?,
        }
    }
    // The last attempt ends as any transaction does.
    execute_once(session, statement, parameters, cancel).await
}
