//! Rows of a table that are written anew while others go on to change it.
//!
//! ```text
//! write   the segments of a snapshot, as rows of the new arrangement     anybody writes
//! write   what has come since, until that is little                      anybody writes
//! gone    rows that were written, and are deleted by now, if many       anybody writes
//! lock    the table
//! write   what has come since                                            nobody writes
//! gone    rows that were written, and are deleted by now                 nobody writes
//! ```
//!
//! Each new row has, in a column that no definition names, the id of the row that it was made of, and
//! by that it is found again. Whatever moves rows meanwhile (VACUUM) is deletions and new segments as
//! any other: it costs time and no more. The column stays in the files until VACUUM writes them again.

use std::collections::HashSet;
use std::sync::Arc;

use compute::row_ids::Repeated;
use compute::{Deletions, ROW_ID_COLUMN};
use datafusion::common::{Column, JoinType, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use sql::types::SqlType;
use storage::ids::{ColumnId, SegmentId};
use storage::schema::EncodeName;
use storage::statistics::SegmentInfo;
use wlm::QueryKind;

use crate::catalog::{SegmentList, TableColumn, TableEntry};
use crate::cluster::Replaced;
use crate::engine::Engine;
use crate::error::Result;
use crate::execution::Replan;
use crate::session::Session;
use crate::statement::change_rows::find;
use crate::statement::{insert, placement};
use crate::transaction::Written;

/// The column of a new row that says which row it was; no name in a text can be that.
const OLD_ROW_COLUMN: &str = "\u{1e}old_row";
/// Old rows whose ids are looked for at once: so many are held in memory.
pub(super) const ROWS_AT_ONCE_MAX: u64 = 1 << 21;

/// New rows that nobody sees. Dropped, their files are removed.
pub(super) struct NewRows {
    engine: Arc<Engine>,
    /// The definition that they were read by.
    source: Arc<TableEntry>,
    /// As they shall lie, without segments.
    target: Arc<TableEntry>,
    has_old_ids: bool,
    /// What was read: segments, and the rows of them that were deleted then.
    read: TableEntry,
    written: Option<Written>,
    /// Those that were found to be gone.
    gone: Replaced,
}

impl NewRows {
    /// Rows of `source` as `next` has them, which are found again if `has_old_ids`; none yet.
    pub(super) fn new(
        engine: &Arc<Engine>,
        source: &Arc<TableEntry>,
        next: &TableEntry,
        has_old_ids: bool,
    ) -> Self {
        let is_large = placement::is_large(source.row_count(), 0);
        let mut target =
            TableEntry::clone(&placement::before_write(&Arc::new(empty(next)), is_large));
        if has_old_ids {
            target.columns.push(TableColumn {
                id: ColumnId(engine.transactions.new_oid()),
                name: OLD_ROW_COLUMN.to_owned(),
                sql_type: SqlType::BigInt,
                nullable: false,
                default: None,
                identity: None,
                encode: EncodeName::Auto,
            });
        }
        Self {
            engine: Arc::clone(engine),
            source: Arc::clone(source),
            target: Arc::new(target),
            has_old_ids,
            read: empty(source),
            written: None,
            gone: Replaced::new(),
        }
    }

    /// Whether the table is still what they were made of, but for its rows, and has not become too
    /// large for where they lie.
    pub(super) fn fit(&self, latest: &TableEntry) -> bool {
        let is_large = placement::is_large(latest.row_count(), 0);
        let placed = placement::before_write(&self.target, is_large).distribution;
        self.source.id == latest.id
            && self.source.is_defined_as(latest)
            && placed == self.target.distribution
    }

    /// Rows of segments that were not read yet.
    pub(super) fn missing(&self, latest: &TableEntry) -> u64 {
        self.unread(latest).row_count()
    }

    /// Writes the rows of all segments that were not read yet.
    pub(super) async fn write(&mut self, session: &mut Session, latest: &TableEntry) -> Result<()> {
        let unread = Arc::new(self.unread(latest));
        if unread.slices.iter().all(SegmentList::is_empty) {
            return Ok(());
        }
        let (engine, rows) = (Arc::clone(&self.engine), Arc::clone(&unread));
        let has_old_ids = self.has_old_ids;
        let source = self.replan(session, move || old_rows(&engine, &rows, has_old_ids))?;
        let admitted = insert::admit(session, source, QueryKind::Write).await?;
        // VACUUM would move rows that are written already. Should one be at work, that is what it costs.
        // Not taken earlier: who waits for VACUUM may have what this has waited for.
        let engine = Arc::clone(&self.engine);
        let _turn = engine.try_vacuum_turn();
        let written = insert::write_segments(&self.engine, &self.target, admitted).await?;
        match &mut self.written {
            Some(known) => known.append(written),
            None => self.written = Some(written),
        }
        for (known, new) in self.read.slices.iter_mut().zip(&unread.slices) {
            known.extend(new.iter().map(Arc::clone));
        }
        let vectors = unread.slices.iter().flatten().filter_map(|segment| {
            Some((segment.id, Arc::clone(unread.deletions.get(&segment.id)?)))
        });
        Arc::make_mut(&mut self.read.deletions).extend(vectors);
        Ok(())
    }

    /// Rows of segments that were read and have lost rows since.
    pub(super) fn changed_rows(&self, latest: &TableEntry) -> u64 {
        self.changed(latest).slices.iter().flatten().map(|segment| segment.row_count).sum()
    }

    /// Finds those that were made of rows that are deleted by now, so that it need not be done again.
    pub(super) async fn forget_gone(
        &mut self,
        session: &mut Session,
        latest: &TableEntry,
    ) -> Result<()> {
        let found = self.find_gone(session, latest).await?;
        self.gone.extend(found);
        let read: HashSet<SegmentId> =
            self.read.slices.iter().flatten().map(|segment| segment.id).collect();
        let deletions = Deletions::clone(&latest.deletions);
        self.read = TableEntry {
            deletions,
            slices: only(latest, |segment| read.contains(&segment.id)).slices,
            ..empty(&self.read)
        };
        Ok(())
    }

    /// Those that were made of rows that are deleted by now.
    pub(super) async fn gone(
        &mut self,
        session: &mut Session,
        latest: &TableEntry,
    ) -> Result<Replaced> {
        self.forget_gone(session, latest).await?;
        Ok(joined(std::mem::take(&mut self.gone)))
    }

    async fn find_gone(&self, session: &mut Session, latest: &TableEntry) -> Result<Replaced> {
        let mut found = Replaced::new();
        let written = Arc::new(self.with_segments());
        for part in parts(&self.changed(latest)) {
            let ids: HashSet<SegmentId> =
                part.slices.iter().flatten().map(|segment| segment.id).collect();
            let still = Arc::new(only(latest, |segment| ids.contains(&segment.id)));
            let (engine, written) = (Arc::clone(&self.engine), Arc::clone(&written));
            let (was, part_of) = (Arc::new(part), Arc::clone(&written));
            let source =
                self.replan(session, move || gone_rows(&engine, &written, &was, &still))?;
            found.extend(find(session, &part_of, source, Repeated::Never).await?);
        }
        Ok(found)
    }

    /// The table that they were written for, and the rows, if there are any.
    pub(super) fn finish(self) -> (Arc<TableEntry>, Option<Written>) {
        (self.target, self.written)
    }

    /// Plans may be made again: over the same entries.
    fn replan(
        &self,
        session: &Session,
        plan: impl Fn() -> Result<LogicalPlan> + Send + Sync + 'static,
    ) -> Result<Replan> {
        let binding = session.binding_of(self.engine.transactions.snapshot());
        Ok(Arc::new(move || binding.source(plan()?, Vec::new())))
    }

    fn unread(&self, latest: &TableEntry) -> TableEntry {
        let read: HashSet<SegmentId> =
            self.read.slices.iter().flatten().map(|segment| segment.id).collect();
        only(latest, |segment| !read.contains(&segment.id))
    }

    /// Segments of which rows were deleted since they were read, as they were.
    fn changed(&self, latest: &TableEntry) -> TableEntry {
        let there: HashSet<SegmentId> =
            latest.slices.iter().flatten().map(|segment| segment.id).collect();
        let vector = |entry: &TableEntry, id| entry.deletions.get(&id).map(|vector| vector.id);
        only(&self.read, |segment| {
            let id = segment.id;
            !there.contains(&id) || vector(&self.read, id) != vector(latest, id)
        })
    }

    /// The table with the new rows and no others.
    fn with_segments(&self) -> TableEntry {
        let mut written = TableEntry::clone(&self.target);
        for (slice, segment) in self.written.iter().flat_map(Written::segments) {
            written.slices[slice.0 as usize].push(Arc::clone(segment));
        }
        written
    }
}

/// The table without rows.
fn empty(entry: &TableEntry) -> TableEntry {
    let mut empty = TableEntry::clone(entry);
    empty.slices.iter_mut().for_each(SegmentList::clear);
    empty.deletions = Deletions::default();
    empty
}

/// The table with some of its segments.
fn only(entry: &TableEntry, is_wanted: impl Fn(&SegmentInfo) -> bool) -> TableEntry {
    let mut some = TableEntry::clone(entry);
    some.slices.iter_mut().for_each(|slice| slice.retain(|segment| is_wanted(segment)));
    some
}

/// The table in parts of so many rows as are looked for at once, or one segment.
fn parts(entry: &TableEntry) -> Vec<TableEntry> {
    let (mut parts, mut rows) = (Vec::<TableEntry>::new(), 0);
    for (slice, segments) in entry.slices.iter().enumerate() {
        for segment in segments {
            if parts.is_empty() || rows + segment.row_count > ROWS_AT_ONCE_MAX {
                let deletions = Deletions::clone(&entry.deletions);
                parts.push(TableEntry { deletions, ..empty(entry) });
                rows = 0;
            }
            rows += segment.row_count;
            if let Some(part) = parts.last_mut() {
                part.slices[slice].push(Arc::clone(segment));
            }
        }
    }
    parts
}

/// The rows of each segment once.
fn joined(found: Replaced) -> Replaced {
    let mut joined = std::collections::BTreeMap::new();
    for (segment, rows) in found {
        let all = match joined.remove(&segment) {
            Some(known) => rows.union(&known),
            None => rows,
        };
        joined.insert(segment, all);
    }
    joined.into_iter().collect()
}

/// All rows of a table, with their ids in the end if they are wanted.
fn old_rows(engine: &Engine, entry: &Arc<TableEntry>, with_ids: bool) -> Result<LogicalPlan> {
    let mut outputs: Vec<Expr> = entry.columns.iter().map(|own| column("old", &own.name)).collect();
    if with_ids {
        outputs.push(column("old", ROW_ID_COLUMN).alias(OLD_ROW_COLUMN));
    }
    Ok(scan(engine, entry, "old")?.project(outputs)?.build()?)
}

/// The ids of new rows that were made of a row of `was` that is not in `still`.
fn gone_rows(
    engine: &Engine,
    written: &Arc<TableEntry>,
    was: &Arc<TableEntry>,
    still: &Arc<TableEntry>,
) -> Result<LogicalPlan> {
    let ids = |name: &str, entry| -> Result<LogicalPlan> {
        Ok(scan(engine, entry, name)?.project(vec![column(name, ROW_ID_COLUMN)])?.build()?)
    };
    let on = |name: &str| (vec![named("new", OLD_ROW_COLUMN)], vec![named(name, ROW_ID_COLUMN)]);
    let plan = scan(engine, written, "new")?
        .project(vec![column("new", OLD_ROW_COLUMN), column("new", ROW_ID_COLUMN)])?
        .join(ids("was", was)?, JoinType::LeftSemi, on("was"), None)?
        .join(ids("still", still)?, JoinType::LeftAnti, on("still"), None)?;
    Ok(plan.project(vec![column("new", ROW_ID_COLUMN)])?.build()?)
}

/// A table with the ids of its rows.
fn scan(engine: &Engine, entry: &Arc<TableEntry>, name: &str) -> Result<LogicalPlanBuilder> {
    let source = provider_as_source(engine.target_table(entry));
    Ok(LogicalPlanBuilder::scan(TableReference::bare(name), source, None)?)
}

fn named(table: &str, name: &str) -> Column {
    Column::new(Some(TableReference::bare(table)), name)
}

fn column(table: &str, name: &str) -> Expr {
    Expr::Column(named(table, name))
}
