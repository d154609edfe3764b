//! COMMENT ON: a text about an object, for `pg_description` and those who read it. Nobody waits for it
//! and it changes no table.

use sql::statement::{Comment, CommentedObject, TableName};

use super::command;
use crate::catalog::change::undefined_schema;
use crate::catalog::{Change, Commented, TableEntry};
use crate::engine::{DATABASE, SUPERUSER};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::session::{Session, undefined_table};

/// Gives an object a comment, or takes it away.
pub(super) fn run(session: &mut Session, statement: &Comment) -> Result<Execution> {
    let object = match &statement.object {
        CommentedObject::Table(name) => Commented::Table(own_table(session, name)?.id),
        CommentedObject::Column(name, column) => {
            let entry = own_table(session, name)?;
            Commented::Column(entry.id, entry.columns[entry.position(column)?].id)
        }
        CommentedObject::Constraint(name, table) => {
            let entry = own_table(session, table)?;
            let known = entry.constraints.iter().find(|constraint| constraint.name == *name);
            let known = known.ok_or_else(|| {
                let message =
                    format!("constraint \"{name}\" for table \"{}\" does not exist", entry.name);
                Error::statement(code::UNDEFINED_OBJECT, message)
            })?;
            Commented::Constraint(entry.id, known.oid)
        }
        CommentedObject::Database(name) if name == DATABASE => {
            session.check_owner(SUPERUSER, "database", name)?;
            Commented::Database
        }
        CommentedObject::Database(name) => {
            let message = format!("database \"{name}\" does not exist");
            return Err(Error::statement("3D000", message));
        }
        CommentedObject::Schema(name) => {
            let view = session.transaction()?.view();
            let schema = view.schema(name).ok_or_else(|| undefined_schema(name))?;
            session.check_owner(&schema.owner, "schema", name)?;
            Commented::Schema(schema.oid)
        }
    };
    // An empty comment is none, as in PostgreSQL.
    let text = statement.text.clone().filter(|text| !text.is_empty());
    session.transaction()?.change(Change::PutComment(object, text))?;
    Ok(command("COMMENT"))
}

fn own_table(session: &mut Session, name: &TableName) -> Result<std::sync::Arc<TableEntry>> {
    let view = session.transaction()?.view();
    let entry = session.find_table(&view, name)?.ok_or_else(|| undefined_table(name))?;
    session.check_owner(&entry.owner, "relation", &entry.name)?;
    Ok(entry)
}
