//! SET and RESET.

use sql::statement::{Reset, Set, SetValue};

use super::command;
use crate::error::Result;
use crate::pgwire::backend::Execution;
use crate::session::Session;

/// SET name TO value.
pub(super) fn run(session: &mut Session, statement: &Set) -> Result<Execution> {
    match &statement.value {
        SetValue::Default => session.reset(Some(&statement.name))?,
        SetValue::Values(values) => {
            session.set(&statement.name, &values.join(", "), statement.local)?;
        }
    }
    Ok(command("SET"))
}

/// RESET name and RESET ALL.
pub(super) fn reset(session: &mut Session, statement: &Reset) -> Result<Execution> {
    session.reset(statement.name.as_deref())?;
    Ok(command("RESET"))
}
