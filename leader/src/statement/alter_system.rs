//! ALTER SYSTEM SET: a parameter of the whole cluster. What it sets is kept over restarts and goes
//! above the configuration file.

use sql::statement::{AlterSystem, SetValue};

use super::command;
use crate::catalog::Change;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;
use crate::workload::CONFIGURATION;

/// Checks the value, keeps it, and has it act. It commits at once.
pub(super) async fn run(session: &mut Session, statement: &AlterSystem) -> Result<Execution> {
    session.require_superuser("set parameters of the cluster")?;
    if session.in_block() {
        let message = "ALTER SYSTEM cannot run inside a transaction block";
        return Err(Error::statement(code::ACTIVE_SQL_TRANSACTION, message));
    }
    let name = &statement.name;
    let value = match &statement.value {
        SetValue::Default => None,
        SetValue::Values(values) => Some(values.join(", ")),
    };
    let mut parameters = session.engine().config.file.parameters.clone();
    match &value {
        Some(value) => parameters.set(name, value)?,
        // Only whether there is such a parameter.
        None => parameters.clone().set(name, "1")?,
    }
    let workload = if name == CONFIGURATION {
        let json = parameters.wlm_json_configuration.take();
        Some(match json {
            Some(json) => session.engine().workload.check(&json)?,
            None => session.engine().workload.check("[{}]")?,
        })
    } else {
        None
    };
    session.transaction()?.change(Change::PutParameter(name.clone(), value))?;
    session.commit_and_go_on().await?;
    let Some(parsed) = workload else { return Ok(command("ALTER SYSTEM")) };
    for notice in parsed.notices {
        session.notice(Severity::Notice, notice.to_string());
    }
    let changed = session.engine().workload.reconfigure(parsed.config)?;
    if !changed.after_restart.is_empty() {
        let list: Vec<_> = changed.after_restart.iter().map(ToString::to_string).collect();
        let text = format!("takes effect after a restart of the server: {}", list.join(", "));
        session.notice(Severity::Notice, text);
    }
    Ok(command("ALTER SYSTEM"))
}
