//! One file per statement; here only the tables that say which file it is.

mod analyze;
mod copy;
mod create_schema;
mod create_table;
mod create_table_as;
mod drop_schema;
mod drop_table;
mod explain;
mod insert;
mod prepare;
mod rows;
mod select;
mod set;
mod show;
mod truncate;

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use sql::statement::Statement;

use crate::error::{Error, Result, code};
use crate::pgwire::backend::{Execution, Prepared};
use crate::session::{Session, SessionStatement};

/// Runs any statement but those that end a transaction block.
pub(crate) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    match &whole.statement {
        Statement::Query(_) => select::run(session, whole, parameters).await,
        Statement::Insert(_) => insert::run(session, whole, parameters).await,
        Statement::CreateTable(statement) => create_table::run(session, statement),
        Statement::CreateTableAs(_) => create_table_as::run(session, whole, parameters).await,
        Statement::DropTable(statement) => drop_table::run(session, statement).await,
        Statement::CreateSchema(statement) => create_schema::run(session, statement),
        Statement::DropSchema(statement) => drop_schema::run(session, statement).await,
        Statement::Truncate(table) => truncate::run(session, table).await,
        Statement::Explain(statement) => explain::run(session, whole, statement, parameters).await,
        Statement::Set(statement) => set::run(session, statement),
        Statement::SetTransaction => Ok(command("SET")),
        Statement::Show(statement) => show::run(session, statement),
        Statement::Reset(statement) => set::reset(session, statement),
        Statement::Copy(statement) => copy::run(session, statement).await,
        Statement::Analyze(statement) => analyze::run(session, statement),
        Statement::Begin(begin) => {
            session.begin_block(begin.read_only);
            Ok(command("BEGIN"))
        }
        Statement::Prepare(statement) => prepare::prepare(session, statement),
        Statement::Execute(statement) => prepare::execute(session, statement).await,
        Statement::Deallocate(name) => {
            session.deallocate(name.as_deref());
            Ok(command("DEALLOCATE"))
        }
        Statement::Commit | Statement::Rollback => end_block(session, &whole.statement).await,
        Statement::Delete(_) => Err(not_yet("DELETE")),
        Statement::Vacuum(_) => Err(not_yet("VACUUM")),
        Statement::AlterSystem(_) => Err(not_yet("ALTER SYSTEM")),
        Statement::DeclareCursor(_) => Err(not_yet("DECLARE CURSOR")),
        Statement::Fetch(_) => Err(not_yet("FETCH")),
        Statement::Close(_) => Err(not_yet("CLOSE")),
        Statement::Cancel(_) => Err(not_yet("CANCEL")),
    }
}

/// The parameters and result columns of a statement.
pub(crate) async fn describe(
    session: &mut Session,
    whole: Arc<SessionStatement>,
) -> Result<Prepared<Arc<SessionStatement>>> {
    let (parameters, fields) = match &whole.statement {
        Statement::Query(_) => select::describe(session, &whole).await?,
        Statement::Insert(_) => (insert::parameters(session, &whole).await?, None),
        Statement::Explain(_) => (Vec::new(), Some(explain::schema())),
        Statement::Show(statement) => (Vec::new(), Some(show::schema(statement))),
        Statement::Execute(statement) => {
            (Vec::new(), Box::pin(prepare::fields(session, statement)).await?)
        }
        _ => (Vec::new(), None),
    };
    Ok(Prepared { statement: Some(whole), parameters, fields })
}

/// COMMIT and ROLLBACK: allowed in a failed block, and never canceled half way.
pub(crate) fn ends_block(statement: &Statement) -> bool {
    matches!(statement, Statement::Commit | Statement::Rollback)
}

/// Runs COMMIT or ROLLBACK.
pub(crate) async fn end_block(session: &mut Session, statement: &Statement) -> Result<Execution> {
    if matches!(statement, Statement::Commit) {
        return Ok(command(session.commit_block().await?));
    }
    session.rollback_block();
    Ok(command("ROLLBACK"))
}

/// The answer of a statement without rows.
fn command(tag: impl Into<String>) -> Execution {
    Execution::Command { tag: tag.into() }
}

/// The result columns of a statement without a query.
type Fields = Option<SchemaRef>;

fn not_yet(what: &str) -> Error {
    Error::statement(code::FEATURE_NOT_SUPPORTED, format!("{what} is not supported yet"))
}
