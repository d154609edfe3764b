//! CREATE SCHEMA: a new schema and its owner.

use sql::statement::CreateSchema;

use super::command;
use crate::catalog::user::undefined;
use crate::catalog::{Change, SchemaEntry};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;

/// Makes a schema, owned by AUTHORIZATION or the user.
pub(super) fn run(session: &mut Session, statement: &CreateSchema) -> Result<Execution> {
    let name = &statement.name;
    session.require_superuser("create schemas")?;
    let owner = statement.owner.clone().unwrap_or_else(|| session.user().to_owned());
    if session.transaction()?.view().user(&owner).is_none() {
        return Err(undefined("user", &owner));
    }
    if statement.if_not_exists && session.transaction()?.view().schema(name).is_some() {
        session.notice(
            Severity::Info,
            format!("Schema \"{name}\" already exists and will be skipped"),
        );
        return Ok(command("CREATE SCHEMA"));
    }
    if name.starts_with("pg_") {
        let message = format!("unacceptable schema name \"{name}\"");
        return Err(Error::statement(code::RESERVED_NAME, message)
            .with_detail("The prefix \"pg_\" is reserved for system schemas."));
    }
    let entry =
        SchemaEntry { oid: session.engine().transactions.new_oid(), name: name.clone(), owner };
    session.transaction()?.change(Change::CreateSchema(entry))?;
    Ok(command("CREATE SCHEMA"))
}
