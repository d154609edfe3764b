//! DISCARD ALL: the session as it was when it began.

use super::command;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::session::Session;

/// Forgets cursors, temporary tables, prepared statements and settings.
pub(super) async fn run(session: &mut Session) -> Result<Execution> {
    if session.in_block() {
        let message = "DISCARD ALL cannot run inside a transaction block";
        return Err(Error::statement(code::ACTIVE_SQL_TRANSACTION, message));
    }
    session.close_cursor(None)?;
    session.drop_temporary().await?;
    session.deallocate(None);
    session.reset(None)?;
    Ok(command("DISCARD ALL"))
}
