//! ALTER TABLE of distribution, sort key and encodings: the rows are written anew as they shall lie.
//!
//! Readers go on with the rows as they were; writers wait until the transaction ends.

use std::sync::Arc;

use sql::Limits;
use sql::statement::{Arrangement, DistStyle, SortKey, Statement};
use wlm::QueryKind;

use super::create_table::{encode_name, unplaced};
use super::insert;
use crate::catalog::{Change, Definition, DistributionStyle, TableEntry};
use crate::error::{Error, Result, code};
use crate::execution::Replan;
use crate::session::Session;
use crate::session::binding::target_of_own_rows;
use storage::schema::EncodeName;

/// Writes the rows of a locked table anew.
///
/// # Errors
/// If the transaction does not see the table as it is: rows of others would be lost, and rows that
/// others have deleted would be back.
pub(super) async fn run(
    session: &mut Session,
    entry: &Arc<TableEntry>,
    arrangement: &Arrangement,
) -> Result<()> {
    let mut next = TableEntry::clone(entry);
    arrange(session, &mut next, arrangement)?;
    session.transaction()?.check_is_latest(entry.id)?;
    let is_empty = entry.slices.iter().all(Vec::is_empty);
    let source = if is_empty { None } else { Some(all_rows(session, entry)?) };
    next.slices.iter_mut().for_each(Vec::clear);
    next.deletions = compute::Deletions::default();
    let next = Arc::new(next);
    let transaction = session.transaction()?;
    transaction.change(Change::Truncate(entry.id))?;
    transaction.change(Change::Define(entry.id, Definition::change(entry, Arc::clone(&next))))?;
    let Some(source) = source else { return Ok(()) };
    let rows = insert::write(session, &next, source, QueryKind::Write).await?;
    if rows != entry.row_count() {
        let text = format!("{} rows were to be written anew, {rows} were", entry.row_count());
        return Err(Error::Internal(text));
    }
    Ok(())
}

fn arrange(session: &Session, entry: &mut TableEntry, arrangement: &Arrangement) -> Result<()> {
    if let Some((style, key)) = &arrangement.distribution {
        let style = match (style, key) {
            (DistStyle::Auto, _) => {
                entry.is_automatic = true;
                unplaced(session.engine())
            }
            (style, key) => {
                entry.is_automatic = false;
                match (style, key) {
                    (DistStyle::All, _) => DistributionStyle::All,
                    (DistStyle::Key, Some(key)) => DistributionStyle::Key(entry.position(key)?),
                    _ => DistributionStyle::Even,
                }
            }
        };
        entry.distribution = style;
    }
    match &arrangement.sort_key {
        None => {}
        Some(SortKey::Auto) => entry.sort_key.clear(),
        Some(SortKey::Compound(names)) => {
            let positions = names.iter().map(|name| entry.position(name));
            entry.sort_key = positions.collect::<Result<_>>()?;
        }
        Some(SortKey::Interleaved(_)) => {
            let message = "INTERLEAVED SORTKEY is not supported";
            return Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message));
        }
    }
    if arrangement.encode_auto {
        entry.columns.iter_mut().for_each(|column| column.encode = EncodeName::Auto);
    }
    for (name, encoding) in &arrangement.encodings {
        let position = entry.position(name)?;
        sql::check_encoding(name, entry.columns[position].sql_type, *encoding)?;
        entry.columns[position].encode = encoding.map_or(EncodeName::Auto, encode_name);
    }
    Ok(())
}

/// The rows of the table as the transaction sees it now, whatever it changes afterwards.
fn all_rows(session: &mut Session, entry: &TableEntry) -> Result<Replan> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = format!("{}.{}", quoted(&entry.schema), quoted(&entry.name));
    let text = format!("INSERT INTO {table} SELECT * FROM {table}");
    let parsed = sql::parse(&text, &Limits::default())?.into_iter().next();
    let Some(Statement::Insert(insert)) = parsed.map(|parsed| parsed.statement) else {
        return Err(Error::Internal("the rows of a table cannot be asked for".into()));
    };
    let (binding, target) = (session.binding()?, target_of_own_rows(entry));
    Ok(Arc::new(move || {
        let plan = binding.binder().bind_insert(&insert, &target, &[])?;
        binding.source(plan, Vec::new())
    }))
}
