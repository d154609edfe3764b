//! LOCK: nobody else writes to the tables until the transaction ends.

use sql::statement::TableName;

use super::command;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::session::Session;

/// Takes the locks one after another. As the first statement of a transaction it waits before the
/// snapshot is taken, so that what follows sees what the holders before have committed.
pub(super) async fn run(session: &mut Session, tables: &[TableName]) -> Result<Execution> {
    if !session.in_block() {
        let message = "LOCK TABLE can only be used in transaction blocks";
        return Err(Error::statement(code::NO_ACTIVE_SQL_TRANSACTION, message));
    }
    for table in tables {
        session.lock_table(table).await?;
    }
    Ok(command("LOCK TABLE"))
}
