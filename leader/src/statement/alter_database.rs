//! ALTER DATABASE ... ISOLATION LEVEL.

use sql::statement::AlterDatabase;

use super::command;
use crate::catalog::Change;
use crate::engine::DATABASE;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::session::Session;
use crate::transaction::isolation::{DATABASE_ISOLATION, Isolation};

/// Sets the level that transactions get at least which begin from now on. Those that are there keep
/// theirs.
pub(super) fn run(session: &mut Session, statement: &AlterDatabase) -> Result<Execution> {
    if statement.name != DATABASE {
        let message = format!("database \"{}\" does not exist", statement.name);
        return Err(Error::statement(code::UNDEFINED_DATABASE, message));
    }
    session.require_superuser("change the isolation level of the database")?;
    session.check_alone("ALTER DATABASE ISOLATION LEVEL")?;
    let words = Isolation::of(statement.isolation).words().to_owned();
    session
        .transaction()?
        .change(Change::PutParameter(DATABASE_ISOLATION.to_owned(), Some(words)))?;
    Ok(command("ALTER DATABASE"))
}
