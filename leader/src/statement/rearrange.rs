//! ALTER TABLE of distribution, sort key and encodings: the rows are written anew as they shall lie.
//!
//! The first statement of a transaction does most of it before it takes the table's lock: readers and
//! writers go on ([`new_rows`]). Later in a transaction, or where another ALTER TABLE came in between,
//! writers wait until the transaction ends.

mod new_rows;

use std::sync::Arc;

use sql::statement::{Arrangement, DistStyle, SortKey, TableName};
use storage::schema::EncodeName;

use super::change_rows::row_count;
use super::create_table::{encode_name, unplaced};
use super::insert;
use crate::catalog::{Change, Definition, DistributionStyle, SegmentList, TableEntry};
use crate::error::{Error, Result, code};
use crate::session::Session;
use new_rows::{NewRows, ROWS_AT_ONCE_MAX};

/// Rows that are not worth another round before the table is locked.
const FEW_ROWS: u64 = 50_000;
/// Rounds in which writers go on. Each should have less to do than the one before.
const ROUNDS_MAX: usize = 5;
/// Rounds of looking for deleted rows in which writers go on.
const DELETION_ROUNDS_MAX: usize = 2;

/// Writes the rows of a table anew.
///
/// # Errors
/// If the transaction does not see the table as it is: rows of others would be lost, and rows that
/// others have deleted would be back.
pub(super) async fn run(
    session: &mut Session,
    table: &TableName,
    arrangement: &Arrangement,
) -> Result<()> {
    let ahead = ahead(session, table, arrangement).await?;
    let entry = session.lock_table(table).await?;
    let mut next = TableEntry::clone(&entry);
    arrange(session, &mut next, arrangement)?;
    session.transaction()?.check_is_latest(entry.id)?;
    let engine = Arc::clone(session.engine());
    let ahead = ahead.filter(|rows| rows.fit(&entry));
    let mut rows = ahead.unwrap_or_else(|| NewRows::new(&engine, &entry, &next, false));
    rows.write(session, &entry).await?;
    let gone = rows.gone(session, &entry).await?;
    next.slices.iter_mut().for_each(SegmentList::clear);
    next.deletions = compute::Deletions::default();
    let transaction = session.transaction()?;
    transaction.change(Change::Truncate(entry.id))?;
    transaction.change(Change::Define(entry.id, Definition::change(&entry, Arc::new(next))))?;
    let (written_for, written) = rows.finish();
    let gone_count = row_count(&gone);
    let written = match written {
        Some(written) => insert::record(session, &written_for, written)?,
        None => 0,
    };
    session.transaction()?.delete_rows(entry.id, gone).await?;
    if written.checked_sub(gone_count) != Some(entry.row_count()) {
        let text = format!(
            "{} rows were to be written anew, {written} were, of which {gone_count} are gone",
            entry.row_count()
        );
        return Err(Error::Internal(text));
    }
    Ok(())
}

/// Writes the rows while others go on, if this is the first statement of its transaction.
async fn ahead(
    session: &mut Session,
    table: &TableName,
    arrangement: &Arrangement,
) -> Result<Option<NewRows>> {
    let transaction = session.transaction()?;
    if !transaction.is_fresh() || transaction.is_read_only() {
        return Ok(None);
    }
    let peek = transaction.peek();
    let Some(entry) = session.find_table(&peek, table)? else { return Ok(None) };
    session.check_owner(&entry.owner, "relation", &entry.name)?;
    let mut next = TableEntry::clone(&entry);
    arrange(session, &mut next, arrangement)?;
    let engine = Arc::clone(session.engine());
    let mut rows = NewRows::new(&engine, &entry, &next, true);
    let id = entry.id;
    drop((peek, entry));
    for round in 0..ROUNDS_MAX {
        let latest = engine.transactions.snapshot().table_by_id(id).map(Arc::clone);
        let Some(latest) = latest.filter(|latest| rows.fit(latest)) else { return Ok(None) };
        if round > 0 && rows.missing(&latest) < FEW_ROWS {
            break;
        }
        rows.write(session, &latest).await?;
    }
    for _ in 0..DELETION_ROUNDS_MAX {
        let latest = engine.transactions.snapshot().table_by_id(id).map(Arc::clone);
        let Some(latest) = latest.filter(|latest| rows.fit(latest)) else { return Ok(None) };
        if rows.changed_rows(&latest) <= ROWS_AT_ONCE_MAX {
            break;
        }
        rows.forget_gone(session, &latest).await?;
    }
    Ok(Some(rows))
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
