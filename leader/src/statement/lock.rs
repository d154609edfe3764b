//! LOCK: nobody else writes to the tables until the transaction ends.

use sql::statement::TableName;

use super::command;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::session::Session;

/// Takes the locks one after another. It takes no snapshot: the first statement after it sees what
/// all holders before have committed.
pub(super) async fn run(session: &mut Session, tables: &[TableName]) -> Result<Execution> {
    if !session.in_block() {
        let message = "LOCK TABLE can only be used in transaction blocks";
        return Err(Error::statement(code::NO_ACTIVE_SQL_TRANSACTION, message));
    }
    let is_fresh = session.transaction()?.is_fresh();
    for table in tables {
        session.lock_table(table).await?;
        if is_fresh {
            session.transaction()?.forget_snapshot();
        }
    }
    Ok(command("LOCK TABLE"))
}
