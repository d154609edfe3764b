//! CANCEL: stops what another session runs. It never waits in a queue.

use sql::statement::Cancel;

use super::command;
use crate::engine::Engine;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;

/// Cancels the statement of the session with that process id.
pub(super) fn run(session: &mut Session, statement: &Cancel) -> Result<Execution> {
    let engine = session.engine();
    check_right(engine, session.user_oid(), session.is_superuser(), statement.pid)?;
    if !engine.registry.cancel(statement.pid, statement.message.clone()) {
        let text = format!("PID {} is not a server process", statement.pid);
        session.notice(Severity::Warning, text);
    }
    Ok(command("CANCEL"))
}

/// Only a superuser reaches into sessions of others.
pub(crate) fn check_right(
    engine: &Engine,
    user: u32,
    is_superuser: bool,
    process_id: i32,
) -> Result<()> {
    let is_others = engine.activity.session(process_id).is_some_and(|it| it.user != user);
    if is_others && !is_superuser {
        let message = "must be superuser to cancel or end sessions of other users";
        return Err(Error::statement(code::INSUFFICIENT_PRIVILEGE, message));
    }
    Ok(())
}
