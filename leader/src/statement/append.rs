//! ALTER TABLE target APPEND FROM source: the rows of one table become rows of another.
//!
//! Segments belong to their table for life, so the rows are written anew; readers see them in one of
//! the two at any time.

use std::collections::BTreeSet;
use std::sync::Arc;

use sql::Limits;
use sql::statement::{Statement, TableName, Unmatched};
use wlm::QueryKind;

use super::insert;
use crate::catalog::{Change, TableColumn, TableEntry};
use crate::error::{Error, Result, code};
use crate::execution::Replan;
use crate::session::binding::target_table;
use crate::session::temporary::is_temporary;
use crate::session::{Session, undefined_table};

/// Moves all rows. Both tables are the session's alone meanwhile.
pub(super) async fn run(
    session: &mut Session,
    target: &TableName,
    source: &TableName,
    unmatched: Unmatched,
) -> Result<()> {
    session.check_alone("ALTER TABLE APPEND")?;
    lock_both(session, target, source).await?;
    let target = session.lock_table(target).await?;
    let source = session.lock_table(source).await?;
    if target.id == source.id {
        return Err(refused("a table cannot be appended to itself"));
    }
    for entry in [&target, &source] {
        if is_temporary(&entry.schema) {
            let message = format!("\"{}\" is a temporary table", entry.name);
            return Err(refused(message));
        }
        session.transaction()?.check_is_latest(entry.id)?;
    }
    let columns = matched(&target, &source, unmatched)?;
    let rows = rows(session, &target, &source, &columns)?;
    let moved = insert::write(session, &target, rows, QueryKind::Write).await?;
    if moved != source.row_count() {
        let text = format!("{} rows were to be moved, {moved} were", source.row_count());
        return Err(Error::Internal(text));
    }
    session.transaction()?.change(Change::Truncate(source.id))
}

fn refused(message: impl Into<String>) -> Error {
    Error::statement(code::FEATURE_NOT_SUPPORTED, message)
}

/// Takes both before the snapshot, so that it shows them as they are.
async fn lock_both(session: &mut Session, target: &TableName, source: &TableName) -> Result<()> {
    let peek = session.transaction()?.peek();
    let mut ids = BTreeSet::new();
    for name in [target, source] {
        let entry = session.find_table(&peek, name)?.ok_or_else(|| undefined_table(name))?;
        session.check_owner(&entry.owner, "relation", &entry.name)?;
        ids.insert(entry.id);
    }
    if session.transaction()?.is_fresh() {
        session.lock_ahead(&ids).await?;
    }
    Ok(())
}

/// The columns that both tables have, which must be alike. Distribution and sort key need not be.
fn matched(target: &TableEntry, source: &TableEntry, unmatched: Unmatched) -> Result<Vec<String>> {
    let find = |entry: &TableEntry, name: &str| -> Option<TableColumn> {
        entry.columns.iter().find(|column| column.name == name).cloned()
    };
    let mut both = Vec::new();
    for column in &source.columns {
        let Some(found) = find(target, &column.name) else {
            if unmatched == Unmatched::IgnoreExtra {
                continue;
            }
            return Err(missing(&column.name, target, "IGNOREEXTRA"));
        };
        let is_alike = found.sql_type == column.sql_type
            && found.nullable == column.nullable
            && found.encode == column.encode;
        if !is_alike {
            let message = format!("column \"{}\" is not the same in both tables", column.name);
            return Err(Error::statement("42804", message)
                .with_detail("Type, NOT NULL and ENCODE must be the same."));
        }
        both.push(column.name.clone());
    }
    for column in &target.columns {
        if find(source, &column.name).is_none() && unmatched != Unmatched::FillTarget {
            return Err(missing(&column.name, source, "FILLTARGET"));
        }
    }
    if both.is_empty() {
        return Err(refused("the tables have no column in common"));
    }
    Ok(both)
}

fn missing(column: &str, entry: &TableEntry, option: &str) -> Error {
    let message = format!("table \"{}\" has no column \"{column}\"", entry.name);
    Error::statement("42703", message).with_hint(format!("See the option {option}."))
}

fn rows(
    session: &mut Session,
    target: &TableEntry,
    source: &TableEntry,
    columns: &[String],
) -> Result<Replan> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = |entry: &TableEntry| format!("{}.{}", quoted(&entry.schema), quoted(&entry.name));
    let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let columns = columns.join(", ");
    let (into, from) = (table(target), table(source));
    let text = format!("INSERT INTO {into} ({columns}) SELECT {columns} FROM {from}");
    let parsed = sql::parse(&text, &Limits::default())?.into_iter().next();
    let Some(Statement::Insert(insert)) = parsed.map(|parsed| parsed.statement) else {
        return Err(Error::Internal("the rows of a table cannot be asked for".into()));
    };
    let (binding, target) = (session.binding()?, target_table(target));
    Ok(Arc::new(move || {
        let plan = binding.binder().bind_insert(&insert, &target, &[])?;
        binding.source(plan, Vec::new())
    }))
}
