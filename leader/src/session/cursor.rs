//! Cursors that SQL declared. A cursor is a running query whose rows wait for FETCH; its memory is
//! that of any query whose client reads slowly.
//!
//! A cursor ends with the transaction or savepoint that it was declared in. One WITH HOLD lives on
//! after a commit, until CLOSE: its query reads an immutable snapshot, so that it just goes on.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::savepoint::no_block;
use super::{Session, State};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::ImplicitExtent;
use crate::pgwire::report::Report;

/// Most open cursors of a session: each may hold a running query.
const CURSORS_MAX: usize = 100;

/// The open cursors of a session.
#[derive(Default)]
pub(super) struct Cursors(HashMap<String, Cursor>);

struct Cursor {
    schema: SchemaRef,
    rows: Arc<Mutex<Rows>>,
    with_hold: bool,
    /// How many savepoints there were; None once its transaction has been committed.
    depth: Option<usize>,
}

/// What is left of a cursor's rows.
struct Rows {
    stream: BoxStream<'static, Result<RecordBatch, Report>>,
    /// The rest of a batch that was given in part.
    rest: Option<RecordBatch>,
}

impl Cursors {
    fn find(&self, name: &str) -> Result<&Cursor> {
        self.0.get(name).ok_or_else(|| {
            let message = format!("cursor \"{name}\" does not exist");
            Error::statement(code::INVALID_CURSOR_NAME, message)
        })
    }

    /// The columns of a cursor.
    pub(super) fn schema(&self, name: &str) -> Result<SchemaRef> {
        Ok(Arc::clone(&self.find(name)?.schema))
    }

    /// A commit begins: cursors that end with it in any case go.
    pub(super) fn before_commit(&mut self) {
        self.0.retain(|_, cursor| cursor.depth.is_none() || cursor.with_hold);
    }

    /// The transaction ends: cursors go, but those that a commit holds.
    pub(super) fn end_transaction(&mut self, committed: bool) {
        self.0.retain(|_, cursor| {
            let stays = cursor.depth.is_none() || (committed && cursor.with_hold);
            if stays {
                cursor.depth = None;
            }
            stays
        });
    }

    /// Cursors declared since the savepoint go.
    pub(super) fn roll_back_to_savepoint(&mut self, depth: usize) {
        self.0.retain(|_, cursor| cursor.depth.is_none_or(|declared| declared < depth));
    }

    /// Cursors declared since the savepoint belong to what is around it.
    pub(super) fn release_savepoint(&mut self, depth: usize) {
        for declared in self.0.values_mut().filter_map(|cursor| cursor.depth.as_mut()) {
            *declared = (*declared).min(depth - 1);
        }
    }
}

impl Session {
    /// Whether a cursor of that name can be declared now.
    pub fn check_declare(&mut self, name: &str, with_hold: bool) -> Result<()> {
        let has_transaction = match &self.state {
            State::Block(_) => true,
            State::Implicit(_) => self.implicit == ImplicitExtent::Several,
            State::Idle | State::Failed(_) => false,
        };
        if !has_transaction && !with_hold {
            return Err(no_block("DECLARE CURSOR"));
        }
        if self.cursors.0.contains_key(name) {
            let message = format!("cursor \"{name}\" already exists");
            return Err(Error::statement(code::DUPLICATE_CURSOR, message));
        }
        if self.cursors.0.len() >= CURSORS_MAX {
            let message = "too many cursors in this session";
            return Err(Error::statement(code::PROGRAM_LIMIT_EXCEEDED, message)
                .with_hint("Close those that are no longer needed."));
        }
        Ok(())
    }

    /// Keeps the rows of a query for FETCH.
    pub fn declare(
        &mut self,
        name: &str,
        with_hold: bool,
        schema: SchemaRef,
        stream: BoxStream<'static, Result<RecordBatch, Report>>,
    ) -> Result<()> {
        self.check_declare(name, with_hold)?;
        let depth = Some(self.transaction()?.savepoint_depth());
        // Asked again after its end, it must say so again.
        let stream = stream.fuse().boxed();
        let rows = Arc::new(Mutex::new(Rows { stream, rest: None }));
        self.cursors.0.insert(name.to_owned(), Cursor { schema, rows, with_hold, depth });
        Ok(())
    }

    /// The columns of a cursor.
    pub fn cursor_schema(&self, name: &str) -> Result<SchemaRef> {
        self.cursors.schema(name)
    }

    /// The next rows of a cursor; None is all of them.
    pub fn fetch(
        &self,
        name: &str,
        count: Option<u64>,
    ) -> Result<BoxStream<'static, Result<RecordBatch, Report>>> {
        let rows = Arc::clone(&self.cursors.find(name)?.rows);
        // Locked as long as the answer is read, which may be longer than this statement.
        let rows = rows.try_lock_owned().map_err(|_| {
            let message = format!("cursor \"{name}\" is being read by another portal");
            Error::statement(code::OBJECT_IN_USE, message)
        })?;
        let wanted = count.unwrap_or(u64::MAX);
        let next = |(rows, wanted): (OwnedMutexGuard<Rows>, u64)| next_rows(rows, wanted);
        Ok(stream::unfold((rows, wanted), next).boxed())
    }

    /// CLOSE; without a name ALL.
    pub fn close_cursor(&mut self, name: Option<&str>) -> Result<()> {
        match name {
            Some(name) => {
                self.cursors.find(name)?;
                self.cursors.0.remove(name);
            }
            None => self.cursors.0.clear(),
        }
        Ok(())
    }
}

type Next = Option<(Result<RecordBatch, Report>, (OwnedMutexGuard<Rows>, u64))>;

/// A batch of at most `wanted` rows.
async fn next_rows(mut rows: OwnedMutexGuard<Rows>, wanted: u64) -> Next {
    if wanted == 0 {
        return None;
    }
    let batch = match rows.rest.take() {
        Some(batch) => batch,
        None => match rows.stream.next().await? {
            Ok(batch) => batch,
            Err(report) => return Some((Err(report), (rows, 0))),
        },
    };
    let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(batch.num_rows());
    if count < batch.num_rows() {
        rows.rest = Some(batch.slice(count, batch.num_rows() - count));
    }
    let left = wanted - count as u64;
    Some((Ok(batch.slice(0, count)), (rows, left)))
}
