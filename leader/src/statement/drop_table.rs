//! DROP TABLE: the tables go with the commit, their files with the last reader.

use std::collections::BTreeSet;

use sql::statement::DropTable;
use storage::ids::TableId;

use super::command;
use crate::catalog::dependency::ForeignKey;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;
use crate::transaction::lock::LockMode;

/// Drops tables, and with CASCADE the foreign keys of others that need them.
pub(super) async fn run(session: &mut Session, statement: &DropTable) -> Result<Execution> {
    let mut tables = BTreeSet::<TableId>::new();
    for name in &statement.tables {
        match session.lock_if_exists(name, LockMode::Exclusive).await? {
            Some(entry) => {
                tables.insert(entry.id);
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
    let keys = session.transaction()?.drop_tables(&tables, statement.cascade).await?;
    tell_of(session, &keys);
    Ok(command("DROP TABLE"))
}

/// Says which foreign keys CASCADE has dropped.
pub(super) fn tell_of(session: &mut Session, keys: &[ForeignKey]) {
    for key in keys {
        session.notice(Severity::Notice, format!("drop cascades to {}", key.title));
    }
}
