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

/// Checks the value and keeps it. It is committed after the statement, whoever waits, and acts then.
pub(super) fn run(session: &mut Session, statement: &AlterSystem) -> Result<Execution> {
    session.require_superuser("set parameters of the cluster")?;
    session.check_alone("ALTER SYSTEM")?;
    // Statements of the same batch of messages are of one transaction too.
    if !session.transaction()?.is_fresh() {
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
    session.commit_after_statement();
    if let Some(parsed) = workload {
        for notice in parsed.notices {
            session.notice(Severity::Notice, notice.to_string());
        }
        session.reconfigure_after_commit(parsed.config);
    }
    Ok(command("ALTER SYSTEM"))
}
