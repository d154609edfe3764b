//! ALTER TABLE target APPEND FROM source: the rows of one table become rows of another.
//!
//! Segments belong to their table for life, so the rows are written anew; readers see them in one of
//! the two at any time.

use std::collections::BTreeSet;
use std::sync::Arc;

use sql::statement::{Statement, TableName, Unmatched};
use sql::{Limits, TargetTable};
use wlm::QueryKind;

use super::identity::Numbered;
use super::insert;
use crate::catalog::{Change, TableColumn, TableEntry};
use crate::error::{Error, Result, code};
use crate::execution::Replan;
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
    let numbered = append_target(session, &target, &columns)?;
    let open = numbered.open();
    let rows = rows(session, numbered.target, &source, &columns)?;
    let moved = insert::write(session, &target, rows, QueryKind::Write).await?;
    Numbered::finish(session, &target, open, moved)?;
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
        if [&found, column].iter().any(|c| c.identity.is_some_and(|i| !i.by_default)) {
            let message = format!("identity column \"{}\" cannot be appended", column.name);
            return Err(refused(message));
        }
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

/// The target, whose identity columns count unless the source has values for them.
fn append_target(
    session: &mut Session,
    target: &TableEntry,
    columns: &[String],
) -> Result<Numbered> {
    let mut numbered = Numbered::of_query(session, target)?;
    let given = numbered.target.columns.iter_mut().filter(|own| columns.contains(&own.name));
    given.for_each(|column| column.identity = None);
    Ok(numbered)
}

fn rows(
    session: &mut Session,
    target: TargetTable,
    source: &TableEntry,
    columns: &[String],
) -> Result<Replan> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = |schema: &str, name: &str| format!("{}.{}", quoted(schema), quoted(name));
    let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let columns = columns.join(", ");
    let into = table(&target.schema, &target.name);
    let from = table(&source.schema, &source.name);
    let text = format!("INSERT INTO {into} ({columns}) SELECT {columns} FROM {from}");
    let parsed = sql::parse(&text, &Limits::default())?.into_iter().next();
    let Some(Statement::Insert(insert)) = parsed.map(|parsed| parsed.statement) else {
        return Err(Error::Internal("the rows of a table cannot be asked for".into()));
    };
    let binding = session.binding()?;
    Ok(Arc::new(move || {
        let plan = binding.binder().bind_insert(&insert, &target, &[])?;
        binding.source(plan, Vec::new())
    }))
}
