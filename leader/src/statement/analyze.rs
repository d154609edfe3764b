//! ANALYZE. Statistics are made when a segment is written and merged when a table is planned, so
//! they are never old: the statement checks its names and has nothing else to do.

use sql::statement::Analyze;

use super::command;
use crate::error::Result;
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::{Session, undefined_table};

/// Checks that the table and the columns exist.
pub(super) fn run(session: &mut Session, statement: &Analyze) -> Result<Execution> {
    let view = session.transaction()?.view();
    if let Some(name) = &statement.table {
        let entry = session.find_table(&view, name)?.ok_or_else(|| undefined_table(name))?;
        for column in &statement.columns {
            entry.position(column)?;
        }
    }
    if statement.verbose {
        session.notice(Severity::Info, "statistics are up to date: every load makes its own");
    }
    Ok(command("ANALYZE"))
}
