//! DECLARE, FETCH and CLOSE.

use std::sync::Arc;

use datafusion::scalar::ScalarValue;
use sql::statement::{DeclareCursor, Fetch};

use super::{command, select};
use crate::error::Result;
use crate::pgwire::backend::Execution;
use crate::session::{Session, SessionStatement};

/// Plans the query and starts it; its rows wait for FETCH.
pub(super) async fn declare(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    statement: &DeclareCursor,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    session.check_declare(&statement.name, statement.with_hold)?;
    let (schema, stream) = select::start(session, whole, parameters).await?;
    session.declare(&statement.name, statement.with_hold, schema, stream)?;
    Ok(command("DECLARE CURSOR"))
}

/// The next rows.
pub(super) fn fetch(session: &Session, statement: &Fetch) -> Result<Execution> {
    let schema = session.cursor_schema(&statement.name)?;
    let stream = session.fetch(&statement.name, statement.rows)?;
    Ok(Execution::Rows { schema, stream, tag: "FETCH" })
}

/// Ends one cursor or all of them.
pub(super) fn close(session: &mut Session, name: Option<&str>) -> Result<Execution> {
    session.close_cursor(name)?;
    Ok(command(if name.is_none() { "CLOSE CURSOR ALL" } else { "CLOSE CURSOR" }))
}
