//! ALTER TABLE: another definition of the same rows.
//!
//! A column has a number for life and segments are read by it: a new column is NULL in the rows that
//! are there, a dropped one is not read any more, and neither touches a file. Only a DEFAULT for a
//! new column is written, as an UPDATE of all rows would.

use std::sync::Arc;

use sql::statement::{
    AlterTable, ColumnDefinition, NamedConstraint, Statement, TableChange, TableName, Update,
};
use sql::types::SqlType;
use storage::ids::ColumnId;
use storage::schema::EncodeName;

use super::create_table::{self, check_defaults, column};
use super::drop_table::tell_of;
use super::{append, change_rows, command, rearrange};
use crate::catalog::constraint::ConstraintKind;
use crate::catalog::dependency::is_needed;
use crate::catalog::{Change, Definition, DistributionStyle, TableEntry};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::session::{Session, SessionStatement};

/// Most columns of a table.
const COLUMNS_MAX: usize = 1_600;

/// Changes the definition of a table.
pub(super) async fn run(session: &mut Session, statement: &AlterTable) -> Result<Execution> {
    if let TableChange::Widen { .. } = &statement.change {
        session.check_alone("ALTER TABLE ... ALTER COLUMN ... TYPE")?;
    }
    if let TableChange::Append { source, unmatched } = &statement.change {
        append::run(session, &statement.table, source, *unmatched).await?;
        return Ok(command("ALTER TABLE APPEND"));
    }
    if let TableChange::Arrange(arrangement) = &statement.change {
        rearrange::run(session, &statement.table, arrangement).await?;
        return Ok(command("ALTER TABLE"));
    }
    let entry = session.lock_table(&statement.table).await?;
    let entry = drop_dependents(session, entry, &statement.change).await?;
    let mut next = TableEntry::clone(&entry);
    match &statement.change {
        TableChange::AddColumn(definition) => add_column(session, &mut next, definition)?,
        TableChange::DropColumn { name, .. } => drop_column(&mut next, name)?,
        TableChange::RenameColumn { from, to } => rename_column(&mut next, from, to)?,
        TableChange::Rename(name) => name.clone_into(&mut next.name),
        TableChange::Owner(owner) => change_owner(session, &mut next, owner)?,
        TableChange::AddConstraint(named) => add_constraint(session, &mut next, named).await?,
        TableChange::DropConstraint { name, .. } => drop_constraint(&mut next, name)?,
        TableChange::Widen { column, length } => {
            session.transaction()?.check_sees_all_rows(entry.id)?;
            widen(&mut next, column, *length)?;
        }
        TableChange::Arrange(_) | TableChange::Append { .. } => {}
    }
    if next.name == entry.name && matches!(statement.change, TableChange::Rename(_)) {
        let message = format!("relation \"{}\" already exists", entry.name);
        return Err(Error::statement(code::DUPLICATE_TABLE, message));
    }
    let added = match &statement.change {
        TableChange::AddColumn(added) if default_of(added).is_some() && entry.row_count() > 0 => {
            added
        }
        _ => {
            define(session, &entry, next)?;
            return Ok(command("ALTER TABLE"));
        }
    };
    // The rows that are there have no value for it until they are written again.
    let is_not_null = added.not_null;
    next.columns.iter_mut().filter(|column| column.name == added.name).for_each(|column| {
        column.nullable = true;
    });
    define(session, &entry, next)?;
    set_to_default(session, &entry, &added.name).await?;
    if is_not_null {
        let view = session.transaction()?.view();
        let written = view.table_by_id(entry.id).map(Arc::clone);
        let written = written.ok_or_else(|| Error::Internal("the table is gone".into()))?;
        let mut next = TableEntry::clone(&written);
        next.columns.iter_mut().filter(|column| column.name == added.name).for_each(|column| {
            column.nullable = false;
        });
        define(session, &written, next)?;
    }
    Ok(command("ALTER TABLE"))
}

/// Before a column or a constraint goes: what needs it goes with CASCADE, or is the reason why it
/// stays. The table as it is then.
async fn drop_dependents(
    session: &mut Session,
    entry: Arc<TableEntry>,
    change: &TableChange,
) -> Result<Arc<TableEntry>> {
    let view = session.transaction()?.view();
    let (keys, cascade, what) = match change {
        TableChange::DropColumn { name, cascade } => {
            let keys = view.keys_to_column(&entry, entry.position(name)?);
            (keys, *cascade, format!("table {} column {name}", entry.name))
        }
        TableChange::DropConstraint { name, cascade } => {
            let known = entry.constraints.iter().find(|constraint| constraint.name == *name);
            let keys = known.map(|known| view.keys_to_constraint(&entry, known));
            let what = format!("constraint {name} on table {}", entry.name);
            (keys.unwrap_or_default(), *cascade, what)
        }
        _ => return Ok(entry),
    };
    drop(view);
    if keys.is_empty() {
        return Ok(entry);
    }
    if !cascade {
        return Err(is_needed(&what, &keys));
    }
    session.transaction()?.drop_foreign_keys(&keys).await?;
    tell_of(session, &keys);
    let view = session.transaction()?.view();
    view.table_by_id(entry.id)
        .map(Arc::clone)
        .ok_or_else(|| Error::Internal("the table is gone".into()))
}

fn define(session: &mut Session, before: &Arc<TableEntry>, after: TableEntry) -> Result<()> {
    let definition = Definition::change(before, Arc::new(after));
    session.transaction()?.change(Change::Define(before.id, definition))
}

/// DEFAULT NULL is none.
fn default_of(definition: &ColumnDefinition) -> Option<&str> {
    let default = definition.default.as_deref();
    default.filter(|text| !text.eq_ignore_ascii_case("null"))
}

fn add_column(
    session: &mut Session,
    entry: &mut TableEntry,
    definition: &ColumnDefinition,
) -> Result<()> {
    let (name, table) = (&definition.name, &entry.name);
    check_free(entry, name)?;
    if entry.columns.len() >= COLUMNS_MAX {
        let message = format!("tables can have at most {COLUMNS_MAX} columns");
        return Err(Error::statement("54011", message));
    }
    if definition.not_null || default_of(definition).is_some() {
        session.transaction()?.check_sees_all_rows(entry.id)?;
    }
    if definition.not_null && default_of(definition).is_none() && entry.row_count() > 0 {
        let message = "ALTER TABLE ADD COLUMN defined as NOT NULL must have a non-null default \
                       expression";
        let detail = format!("Table \"{table}\" has rows.");
        return Err(Error::statement("42P16", message).with_detail(detail));
    }
    // Not the next free number: segments may still have a column of that number that was dropped.
    let id = ColumnId(session.engine().transactions.new_oid());
    let mut column = column(definition);
    column.id = id;
    entry.columns.push(column);
    check_defaults(session, &entry.columns[entry.columns.len() - 1..])
}

fn check_free(entry: &TableEntry, name: &str) -> Result<()> {
    if entry.columns.iter().any(|column| column.name == name) {
        let message = format!("column \"{name}\" of relation \"{}\" already exists", entry.name);
        return Err(Error::statement("42701", message));
    }
    Ok(())
}

fn drop_column(entry: &mut TableEntry, name: &str) -> Result<()> {
    let dropped = entry.position(name)?;
    let key = match entry.distribution {
        DistributionStyle::Key(position) if position == dropped => Some("distkey"),
        _ if entry.sort_key.contains(&dropped) => Some("sortkey"),
        _ => None,
    };
    if let Some(key) = key {
        let message = format!("cannot drop {key} column \"{name}\"");
        return Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message));
    }
    if entry.columns.len() == 1 {
        let message = format!("cannot drop the only column of table \"{}\"", entry.name);
        return Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message));
    }
    entry.columns.remove(dropped);
    let shift = |position: &mut usize| *position -= usize::from(*position > dropped);
    if let DistributionStyle::Key(position) = &mut entry.distribution {
        shift(position);
    }
    entry.sort_key.iter_mut().for_each(shift);
    entry.constraints.retain(|constraint| !constraint.columns.contains(&dropped));
    entry.constraints.iter_mut().flat_map(|constraint| &mut constraint.columns).for_each(shift);
    Ok(())
}

fn rename_column(entry: &mut TableEntry, from: &str, to: &str) -> Result<()> {
    let position = entry.position(from)?;
    check_free(entry, to)?;
    to.clone_into(&mut entry.columns[position].name);
    Ok(())
}

fn change_owner(session: &mut Session, entry: &mut TableEntry, owner: &str) -> Result<()> {
    if session.transaction()?.view().user(owner).is_none() {
        let message = format!("user \"{owner}\" does not exist");
        return Err(Error::statement(code::UNDEFINED_OBJECT, message));
    }
    if owner != session.user() && !session.is_superuser() {
        let message = "must be superuser to give a table to another user";
        return Err(Error::statement(code::INSUFFICIENT_PRIVILEGE, message));
    }
    owner.clone_into(&mut entry.owner);
    Ok(())
}

async fn add_constraint(
    session: &mut Session,
    entry: &mut TableEntry,
    named: &NamedConstraint,
) -> Result<()> {
    create_table::add_constraint(session, entry, named).await?;
    let Some(new) = entry.constraints.last() else { return Ok(()) };
    if new.kind == ConstraintKind::PrimaryKey {
        let mut columns = new.columns.iter().map(|position| &entry.columns[*position]);
        if let Some(column) = columns.find(|column| column.nullable) {
            let message = format!("column \"{}\" of a primary key must be NOT NULL", column.name);
            return Err(Error::statement("42P16", message));
        }
    }
    Ok(())
}

fn drop_constraint(entry: &mut TableEntry, name: &str) -> Result<()> {
    let position = entry.constraints.iter().position(|constraint| constraint.name == name);
    let position = position.ok_or_else(|| {
        let message =
            format!("constraint \"{name}\" of relation \"{}\" does not exist", entry.name);
        Error::statement(code::UNDEFINED_OBJECT, message)
    })?;
    entry.constraints.remove(position);
    Ok(())
}

/// Gives a VARCHAR another length.
fn widen(entry: &mut TableEntry, name: &str, length: u32) -> Result<()> {
    let position = entry.position(name)?;
    let is_empty = entry.row_count() == 0;
    let refuse = |reason: &str| {
        let message =
            format!("cannot alter column \"{name}\" of relation \"{}\", {reason}", entry.name);
        Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message))
    };
    let column = &entry.columns[position];
    let SqlType::VarChar(before) = column.sql_type else {
        return refuse("only the length of a VARCHAR can be altered");
    };
    if column.default.is_some() {
        return refuse("it has a default");
    }
    if entry.constraints.iter().any(|constraint| constraint.columns.contains(&position)) {
        return refuse("it is part of a key");
    }
    let fixed =
        [EncodeName::Bytedict, EncodeName::Runlength, EncodeName::Text255, EncodeName::Text32k];
    if fixed.contains(&column.encode) {
        return refuse("its encoding does not allow it");
    }
    if length == before {
        return refuse("target column size should be different");
    }
    if length < before && !is_empty {
        return refuse("a column of a table with rows can only become longer");
    }
    entry.columns[position].sql_type = SqlType::VarChar(length);
    Ok(())
}

/// Writes the default of a new column into the rows that are there.
async fn set_to_default(session: &mut Session, entry: &TableEntry, column: &str) -> Result<()> {
    let (schema, name) = (Some(entry.schema.clone()), entry.name.clone());
    let table = TableName { database: None, schema, name };
    let update = Statement::Update(Update::to_default(table, column));
    let whole = Arc::new(SessionStatement::part(update));
    change_rows::run(session, &whole, Vec::new()).await?;
    Ok(())
}
