//! DROP TABLE: the tables go with the commit, their files with the last reader.

use sql::statement::DropTable;

use super::command;
use crate::catalog::Change;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;
use crate::transaction::lock::LockMode;

/// Drops tables. Nothing depends on a table yet, so CASCADE and RESTRICT mean the same.
pub(super) async fn run(session: &mut Session, statement: &DropTable) -> Result<Execution> {
    for name in &statement.tables {
        match session.lock_if_exists(name, LockMode::Exclusive).await? {
            Some(entry) => {
                session.transaction()?.change(Change::DropTable(entry.id))?;
            }
            None if statement.if_exists => {
                let text = format!("Table \"{name}\" does not exist and will be skipped");
                session.notice(Severity::Info, text);
            }
            None => {
                let message = format!("table \"{name}\" does not exist");
                return Err(Error::statement(code::UNDEFINED_TABLE, message));
            }
        }
    }
    Ok(command("DROP TABLE"))
}
