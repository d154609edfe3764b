//! Numbers for the rows of a statement, for the values of identity columns.
//!
//! A statement that knows its rows takes as many numbers as they are, beside others that do the same.
//! One that does not know them holds the table alone, gives them the next numbers and says
//! afterwards how many there were.

use std::sync::Arc;

use sql::NewNumbers;
use sql::statement::Insert;
use sql::{Identity, TargetTable};
use storage::predicate::Constant;

use crate::catalog::TableEntry;
use crate::error::Result;
use crate::session::Session;
use crate::session::binding::target_table;
use crate::transaction::Written;

/// Takes the lock of the table of an INSERT, and gives the table as the statement sees it.
pub(super) async fn lock_to_insert(
    session: &mut Session,
    insert: &Insert,
) -> Result<Arc<TableEntry>> {
    let peek = session.transaction()?.peek();
    let found = session.find_table(&peek, &insert.table)?;
    let alone = found.is_some_and(|entry| needs(&entry, insert) == NewNumbers::AllOfQuery);
    let reads_target = insert.may_read_target();
    let entry = session.lock_to_insert(&insert.table, reads_target || alone).await?;
    // The name may have become another table's.
    if !alone && needs(&entry, insert) == NewNumbers::AllOfQuery {
        return session.lock_table(&insert.table).await;
    }
    Ok(entry)
}

/// Whether the rows of the table have numbers.
pub(super) fn has_identity(entry: &TableEntry) -> bool {
    entry.columns.iter().any(|column| column.identity.is_some())
}

fn needs(entry: &TableEntry, insert: &Insert) -> NewNumbers {
    match has_identity(entry) {
        true => NewNumbers::of(insert, &target_table(entry)),
        false => NewNumbers::None,
    }
}

/// A table that rows are written to, with the number that the next one gets.
pub(super) struct Numbered {
    pub(super) target: TargetTable,
    /// Whether it is not known yet how many rows there will be.
    is_open: bool,
}

impl Numbered {
    /// For an INSERT into a table that is locked for it.
    pub(super) fn of_insert(
        session: &mut Session,
        entry: &TableEntry,
        insert: &Insert,
    ) -> Result<Self> {
        match needs(entry, insert) {
            NewNumbers::None => Ok(Self { target: target_table(entry), is_open: false }),
            NewNumbers::Rows(count) => {
                let next_number = session.transaction()?.take_numbers(entry, count)?;
                let target = TargetTable { next_number, ..target_table(entry) };
                Ok(Self { target, is_open: false })
            }
            NewNumbers::AllOfQuery => Self::of_query(session, entry),
        }
    }

    /// For rows of a query. If they have numbers, the table must be the session's alone.
    pub(super) fn of_query(session: &mut Session, entry: &TableEntry) -> Result<Self> {
        let is_open = has_identity(entry);
        let mut target = target_table(entry);
        if is_open {
            target.next_number = session.transaction()?.take_numbers(entry, 0)?;
        }
        Ok(Self { target, is_open })
    }

    /// So many rows were written.
    pub(super) fn finish(
        session: &mut Session,
        entry: &TableEntry,
        open: Option<u64>,
        row_count: u64,
    ) -> Result<()> {
        let Some(first) = open else { return Ok(()) };
        session.transaction()?.take_numbers_until(entry, first.saturating_add(row_count))
    }

    /// The first number of rows that are yet to be counted, for [`Numbered::finish`].
    pub(super) fn open(&self) -> Option<u64> {
        self.is_open.then_some(self.target.next_number)
    }
}

/// Takes the numbers that rows have by the values of their identity columns at these positions.
pub(super) fn finish_written(
    session: &mut Session,
    entry: &TableEntry,
    positions: &[usize],
    written: &Written,
) -> Result<()> {
    let mut end = 0;
    for position in positions {
        let column = &entry.columns[*position];
        let Some(identity) = column.identity else { continue };
        for (_, segment) in written.segments() {
            let Some(statistics) = segment.column(column.id) else { continue };
            let last = if identity.step > 0 { &statistics.max } else { &statistics.min };
            end = end.max(end_of(identity, last.as_ref()));
        }
    }
    session.transaction()?.take_numbers_until(entry, end)
}

fn end_of(identity: Identity, last: Option<&Constant>) -> u64 {
    match last {
        Some(Constant::Int(value)) => {
            identity.number(*value).map_or(0, |number| number.saturating_add(1))
        }
        _ => 0,
    }
}
