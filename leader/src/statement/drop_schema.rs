//! DROP SCHEMA, with CASCADE also of the tables in it.

use std::collections::BTreeSet;

use sql::statement::DropSchema;

use super::command;
use super::drop_table::tell_of;
use crate::catalog::Change;
use crate::catalog::change::undefined_schema;
use crate::catalog::system::PG_CATALOG;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::Session;
use crate::session::temporary::is_temporary;
use crate::transaction::lock::LockMode;

/// Drops schemas; with CASCADE their tables too.
pub(super) async fn run(session: &mut Session, statement: &DropSchema) -> Result<Execution> {
    for name in &statement.schemas {
        if name == PG_CATALOG || is_temporary(name) {
            let message =
                format!("cannot drop schema {name} because it is required by the database system");
            return Err(Error::statement(code::DEPENDENT_OBJECTS_STILL_EXIST, message));
        }
        let view = session.transaction()?.view();
        if view.schema(name).is_none() {
            if !statement.if_exists {
                return Err(undefined_schema(name));
            }
            let text = format!("Schema \"{name}\" does not exist and will be skipped");
            session.notice(Severity::Info, text);
            continue;
        }
        if let Some(schema) = view.schema(name) {
            session.check_owner(&schema.owner, "schema", name)?;
        }
        if statement.cascade {
            let tables: BTreeSet<_> = view.tables_of(name).map(|table| table.id).collect();
            let transaction = session.transaction()?;
            for id in &tables {
                transaction.lock(*id, LockMode::Exclusive).await?;
            }
            let keys = transaction.drop_tables(&tables, true).await?;
            tell_of(session, &keys);
        }
        session.transaction()?.change(Change::DropSchema(name.clone()))?;
    }
    Ok(command("DROP SCHEMA"))
}
