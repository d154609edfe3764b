//! One file per statement; here only the tables that say which file it is.

mod alter_database;
mod alter_system;
mod alter_table;
mod analyze;
mod append;
mod cancel;
mod change_rows;
mod comment;
mod copy;
mod create_schema;
pub(crate) mod create_table;
mod create_table_as;
mod cursor;
mod discard;
mod drop_schema;
mod drop_table;
mod explain;
mod group;
mod identity;
mod insert;
mod lock;
mod placement;
mod prepare;
mod rearrange;
mod role;
mod rows;
mod select;
mod set;
mod show;
mod truncate;
mod user;
mod vacuum;

pub(crate) use cancel::check_right;

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use sql::statement::Statement;

use crate::error::Result;
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
        Statement::CreateTable(statement) => create_table::run(session, statement).await,
        Statement::CreateTableAs(_) => create_table_as::run(session, whole, parameters).await,
        Statement::AlterTable(statement) => alter_table::run(session, statement).await,
        Statement::Comment(statement) => comment::run(session, statement),
        Statement::DropTable(statement) => drop_table::run(session, statement).await,
        Statement::CreateSchema(statement) => create_schema::run(session, statement),
        Statement::DropSchema(statement) => drop_schema::run(session, statement).await,
        Statement::Truncate(table) => truncate::run(session, table).await,
        Statement::Lock(tables) => lock::run(session, tables).await,
        Statement::Explain(statement) => explain::run(session, whole, statement, parameters).await,
        Statement::Set(statement) => set::run(session, statement),
        Statement::SetTransaction(modes) => {
            session.set_transaction(modes)?;
            Ok(command("SET"))
        }
        Statement::SetSessionTransactions(modes) => {
            session.set_session_transactions(modes)?;
            Ok(command("SET"))
        }
        Statement::Show(statement) => show::run(session, statement),
        Statement::Reset(statement) => set::reset(session, statement),
        Statement::Copy(statement) => copy::run(session, statement).await,
        Statement::Analyze(statement) => analyze::run(session, statement),
        Statement::Begin(modes) => {
            session.begin_block(modes);
            Ok(command("BEGIN"))
        }
        Statement::Prepare(statement) => prepare::prepare(session, whole, statement),
        Statement::Execute(statement) => prepare::execute(session, statement).await,
        Statement::Deallocate(name) => Ok(prepare::deallocate(session, name.as_deref())),
        Statement::DiscardAll => discard::run(session).await,
        Statement::Savepoint(name) => {
            session.set_savepoint(name)?;
            Ok(command("SAVEPOINT"))
        }
        Statement::Release(name) => {
            session.release_savepoint(name)?;
            Ok(command("RELEASE"))
        }
        Statement::Commit | Statement::Rollback | Statement::RollbackTo(_) => {
            end_block(session, &whole.statement).await
        }
        Statement::Delete(_) | Statement::Update(_) | Statement::Merge(_) => {
            change_rows::run(session, whole, parameters).await
        }
        Statement::Vacuum(statement) => vacuum::run(session, statement).await,
        Statement::AlterDatabase(statement) => alter_database::run(session, statement),
        Statement::AlterSystem(statement) => alter_system::run(session, statement),
        Statement::DeclareCursor(statement) => {
            cursor::declare(session, whole, statement, parameters).await
        }
        Statement::Fetch(statement) => cursor::fetch(session, statement),
        Statement::Close(name) => cursor::close(session, name.as_deref()),
        Statement::Cancel(statement) => cancel::run(session, statement),
        Statement::CreateUser(statement) => user::create(session, statement),
        Statement::AlterUser(statement) => user::alter(session, statement),
        Statement::DropUser(statement) => user::drop(session, statement),
        Statement::CreateGroup(statement) => group::create(session, statement),
        Statement::AlterGroup(statement) => group::alter(session, statement),
        Statement::DropGroup(statement) => group::drop(session, statement),
        Statement::CreateRole(name) => role::create(session, name),
        Statement::AlterRole(statement) => role::alter(session, statement),
        Statement::DropRole(statement) => role::drop(session, statement),
        Statement::GrantRole(statement) => role::grant(session, statement),
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
        Statement::Delete(_) | Statement::Update(_) | Statement::Merge(_) => {
            (change_rows::parameters(session, &whole).await?, None)
        }
        Statement::Explain(_) => (Vec::new(), Some(explain::schema())),
        Statement::Show(statement) => (Vec::new(), Some(show::schema(statement))),
        Statement::DeclareCursor(_) => (select::describe(session, &whole).await?.0, None),
        Statement::Fetch(statement) => (Vec::new(), Some(session.cursor_schema(&statement.name)?)),
        Statement::Execute(statement) => {
            (Vec::new(), Box::pin(prepare::fields(session, statement)).await?)
        }
        _ => (Vec::new(), None),
    };
    Ok(Prepared { statement: Some(whole), parameters, fields })
}

/// COMMIT, ROLLBACK and ROLLBACK TO: allowed in a failed block, and never canceled half way.
pub(crate) fn ends_block(statement: &Statement) -> bool {
    matches!(statement, Statement::Commit | Statement::Rollback | Statement::RollbackTo(_))
}

/// Runs COMMIT, ROLLBACK or ROLLBACK TO.
pub(crate) async fn end_block(session: &mut Session, statement: &Statement) -> Result<Execution> {
    match statement {
        Statement::Commit => return Ok(command(session.commit_block().await?)),
        Statement::RollbackTo(name) => session.roll_back_to(name)?,
        _ => session.rollback_block(),
    }
    Ok(command("ROLLBACK"))
}

/// The answer of a statement without rows.
fn command(tag: impl Into<String>) -> Execution {
    Execution::Command { tag: tag.into() }
}

/// The result columns of a statement without a query.
type Fields = Option<SchemaRef>;
