//! TRUNCATE: an empty table, committed at once.

use sql::statement::TableName;

use super::command;
use crate::catalog::Change;
use crate::error::Result;
use crate::pgwire::backend::Execution;
use crate::session::Session;

/// Removes all rows of a table. As in Redshift it commits the transaction it runs in.
pub(super) async fn run(session: &mut Session, name: &TableName) -> Result<Execution> {
    let entry = session.lock_table(name).await?;
    session.transaction()?.change(Change::Truncate(entry.id))?;
    session.commit_after_statement();
    Ok(command("TRUNCATE TABLE"))
}
