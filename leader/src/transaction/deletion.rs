//! Deleting rows: which conflicts there are, and when they are found.
//!
//! ```text
//! statement   finds its rows -> claims them (waits for who has one of them)
//!                            -> another transaction has deleted one since the snapshot? error
//!                            -> writes a vector for each segment: the one it sees, and its rows
//! commit      the vector that counts is not the one it began with? writes it anew: that one, and its
//!             rows -> changes the catalog
//! ```
//!
//! After the claim nobody else can delete these rows, and what was committed before is found by
//! looking; so a commit finds no conflict of rows any more, and other rows of the same segment are
//! no conflict at all. What replaces segments (VACUUM, TRUNCATE, DROP) holds the table alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use compute::NewDeletions;
use storage::deletion_vector::DeletionVectorInfo;
use storage::ids::{DeletionVectorId, SegmentId, SliceId, TableId};
use storage::row_set::RowSet;
use storage::statistics::SegmentInfo;
use tokio::sync::OwnedMutexGuard;

use super::Transaction;
use crate::catalog::{Change, Deletion, DistributionStyle, TableEntry};
use crate::error::{Error, Result};

type Vector = Option<Arc<DeletionVectorInfo>>;

impl Transaction {
    /// Deletes rows that a statement of this transaction has found; it holds the table's lock.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another transaction has deleted one of them.
    pub async fn delete_rows(
        &mut self,
        table: TableId,
        rows: Vec<(SegmentId, RowSet)>,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.check_writable()?;
        let rows: BTreeMap<SegmentId, Arc<RowSet>> =
            rows.into_iter().map(|(segment, rows)| (segment, Arc::new(rows))).collect();
        let rows = Arc::new(rows);
        let waited_for = self.locks.claim(table, Arc::clone(&rows)).await?;
        let other = || waited_for.or_else(|| self.manager.last_deleter(table));
        let conflict = || Error::Conflict { table, other: other() };
        let view = Arc::clone(&self.view);
        let latest = self.manager.snapshot();
        let (Some(seen), Some(committed)) = (view.table_by_id(table), latest.table_by_id(table))
        else {
            return self.delete_own(table, &rows).await;
        };
        let mut deletions = Vec::with_capacity(rows.len());
        for (segment, rows) in rows.iter() {
            let found = self.find(table, seen, committed, *segment, rows);
            deletions.push(found?.ok_or_else(conflict)?);
        }
        let written = self.write(table, deletions).await?;
        let deletions = written.ok_or_else(conflict)?;
        self.change(Change::DeleteRows(table, deletions))
    }

    /// Deletes rows of a table that only this transaction has.
    async fn delete_own(
        &mut self,
        table: TableId,
        rows: &BTreeMap<SegmentId, Arc<RowSet>>,
    ) -> Result<()> {
        let view = Arc::clone(&self.view);
        let Some(seen) = view.table_by_id(table) else {
            return Err(Error::Internal("rows of a table that is not there".into()));
        };
        let mut deletions = Vec::with_capacity(rows.len());
        for (segment, rows) in rows {
            deletions.push((Planned::new(seen, *segment, rows)?, None));
        }
        let written = self.write(table, deletions).await?;
        let deletions = written.ok_or_else(lost_row)?;
        self.change(Change::DeleteRows(table, deletions))
    }

    /// What is to be done in a segment, and the vector that another transaction has committed there
    /// since the snapshot; `None` if that took the segment away.
    fn find(
        &self,
        table: TableId,
        seen: &TableEntry,
        committed: &TableEntry,
        segment: SegmentId,
        rows: &Arc<RowSet>,
    ) -> Result<Option<(Planned, Vector)>> {
        let planned = Planned::new(seen, segment, rows)?;
        if self.added(table, segment) {
            return Ok(Some((planned, None)));
        }
        if committed.segment(segment).is_none() {
            return Ok(None);
        }
        let counting = committed.deletions.get(&segment);
        let began_with = match self.first_deletion(table, segment) {
            Some(first) => first.base.as_ref(),
            None => planned.base.as_ref(),
        };
        let is_known = counting.map(|vector| vector.id) == began_with.map(|vector| vector.id);
        let other = if is_known { None } else { counting.map(Arc::clone) };
        Ok(Some((planned, other)))
    }

    /// Whether the transaction has written the segment itself.
    fn added(&self, table: TableId, segment: SegmentId) -> bool {
        self.changes.iter().any(|change| {
            let Change::AddSegments(id, _, segments) = change else { return false };
            *id == table && segments.iter().any(|(_, added)| added.id == segment)
        })
    }

    /// The first change of this transaction that deletes rows of the segment.
    fn first_deletion(&self, table: TableId, segment: SegmentId) -> Option<&Deletion> {
        self.deletions_of(table, segment).next()
    }

    /// Writes the vectors; `None` if a row is deleted already.
    async fn write(
        &self,
        table: TableId,
        planned: Vec<(Planned, Vector)>,
    ) -> Result<Option<Vec<Deletion>>> {
        let everywhere = planned.iter().any(|(planned, _)| planned.everywhere);
        let mut new = Vec::new();
        let mut deletions = Vec::with_capacity(planned.len());
        for (planned, apart_from) in planned {
            if planned.counts_a_row_twice() {
                return Ok(None);
            }
            if planned.leaves_nothing() {
                // Whatever another transaction has deleted is among the rows.
                if apart_from.is_some() {
                    return Ok(None);
                }
            } else {
                new.push(planned.order(apart_from));
            }
            deletions.push(planned);
        }
        let mut written = Vec::new();
        if !new.is_empty() {
            match self.manager.write_deletions(table, new, everywhere).await? {
                Some(vectors) => written = vectors,
                None => return Ok(None),
            }
        }
        let mut written = written.into_iter();
        let mut finished = Vec::with_capacity(deletions.len());
        for planned in deletions {
            let vector = if planned.leaves_nothing() { None } else { written.next() };
            finished.push(planned.finish(vector)?);
        }
        Ok(Some(finished))
    }

    /// Before a commit that deletes rows: where other vectors count by now than those that the
    /// transaction began with, its rows are added to these. What it answers with is to be held until
    /// the commit has ended.
    pub(super) async fn bring_up_to_date(&mut self) -> Result<Option<OwnedMutexGuard<()>>> {
        if !self.changes.iter().any(|change| matches!(change, Change::DeleteRows(..))) {
            return Ok(None);
        }
        let deleting = self.manager.begin_deleting().await;
        let latest = self.manager.snapshot();
        let mut outdated: BTreeMap<TableId, Vec<SegmentId>> = BTreeMap::new();
        for change in &self.changes {
            let Change::DeleteRows(table, deletions) = change else { continue };
            let Some(committed) = latest.table_by_id(*table) else { continue };
            for deletion in deletions {
                let segment = deletion.segment.id;
                let first = self.first_deletion(*table, segment);
                let is_first = first.is_some_and(|first| std::ptr::eq(first, deletion));
                let counting = committed.deletions.get(&segment).map(|vector| vector.id);
                let began_with = deletion.base.as_ref().map(|vector| vector.id);
                if is_first && counting != began_with && !self.added(*table, segment) {
                    outdated.entry(*table).or_default().push(segment);
                }
            }
        }
        for (table, segments) in outdated {
            let committed = latest.table_by_id(table).map(Arc::clone);
            self.renew(table, committed.as_deref(), &segments).await?;
        }
        Ok(Some(deleting))
    }

    /// Puts all that the transaction deletes of these segments into its first change of each, on top
    /// of what counts now.
    async fn renew(
        &mut self,
        table: TableId,
        committed: Option<&TableEntry>,
        segments: &[SegmentId],
    ) -> Result<()> {
        let conflict = || Error::Conflict { table, other: self.manager.last_deleter(table) };
        let mut planned = Vec::with_capacity(segments.len());
        for segment in segments {
            let mut all: Option<RowSet> = None;
            for deletion in self.deletions_of(table, *segment) {
                all = Some(all.map_or_else(
                    || RowSet::clone(&deletion.rows),
                    |rows| rows.union(&deletion.rows),
                ));
            }
            let committed = committed.filter(|entry| entry.segment(*segment).is_some());
            let (Some(rows), Some(committed)) = (all, committed) else { return Err(conflict()) };
            planned.push((Planned::new(committed, *segment, &Arc::new(rows))?, None));
        }
        let renewed = self.write(table, planned).await?.ok_or_else(conflict)?;
        let mut renewed: HashMap<SegmentId, Deletion> =
            renewed.into_iter().map(|deletion| (deletion.segment.id, deletion)).collect();
        let mut superseded = Vec::new();
        for change in &mut self.changes {
            let Change::DeleteRows(id, deletions) = change else { continue };
            if *id != table {
                continue;
            }
            deletions.retain_mut(|deletion| {
                if !segments.contains(&deletion.segment.id) {
                    return true;
                }
                let kept = renewed.remove(&deletion.segment.id);
                let old = match kept {
                    Some(new) => std::mem::replace(deletion, new),
                    None => {
                        superseded.push(deletion.clone());
                        return false;
                    }
                };
                superseded.push(old);
                true
            });
        }
        self.forget_vectors(table, superseded);
        Ok(())
    }

    fn deletions_of(
        &self,
        table: TableId,
        segment: SegmentId,
    ) -> impl Iterator<Item = &Deletion> + '_ {
        let of_table = self.changes.iter().filter_map(move |change| {
            let Change::DeleteRows(id, deletions) = change else { return None };
            (*id == table).then_some(deletions)
        });
        of_table.flatten().filter(move |deletion| deletion.segment.id == segment)
    }

    /// Has vectors of this transaction removed that will never count.
    fn forget_vectors(&mut self, table: TableId, superseded: Vec<Deletion>) {
        // The view holds them too. It is not read any more: the transaction is being committed.
        self.view = Arc::default();
        self.savepoints.clear();
        self.manager.discard(vec![Change::DeleteRows(table, superseded)]);
    }
}

/// Rows of one segment that are to be deleted.
struct Planned {
    slice: SliceId,
    /// Of a table that every node has.
    everywhere: bool,
    segment: Arc<SegmentInfo>,
    base: Vector,
    rows: Arc<RowSet>,
}

impl Planned {
    fn new(entry: &TableEntry, segment: SegmentId, rows: &Arc<RowSet>) -> Result<Self> {
        let Some((slice, info)) = entry.segment(segment) else {
            return Err(Error::Internal(format!("segment {} is not there", segment.0)));
        };
        if rows.segment_rows() != info.row_count || rows.is_empty() {
            return Err(Error::Internal("rows of another segment are deleted".into()));
        }
        Ok(Self {
            slice,
            everywhere: entry.distribution == DistributionStyle::All,
            segment: Arc::clone(info),
            base: entry.deletions.get(&segment).map(Arc::clone),
            rows: Arc::clone(rows),
        })
    }

    /// Whether more rows would be deleted than there are: another transaction deleted some of them.
    fn counts_a_row_twice(&self) -> bool {
        let before = self.base.as_ref().map_or(0, |vector| vector.deleted_rows);
        before + self.rows.len() > self.segment.row_count
    }

    /// Whether all rows of the segment are deleted then.
    fn leaves_nothing(&self) -> bool {
        let before = self.base.as_ref().map_or(0, |vector| vector.deleted_rows);
        before + self.rows.len() >= self.segment.row_count
    }

    fn order(&self, apart_from: Vector) -> NewDeletions {
        NewDeletions {
            slice: self.slice,
            segment: Arc::clone(&self.segment),
            base: self.base.as_deref().copied(),
            apart_from: apart_from.as_deref().copied(),
            rows: Arc::clone(&self.rows),
            id: DeletionVectorId(0),
        }
    }

    fn finish(self, vector: Vector) -> Result<Deletion> {
        if let Some(vector) = &vector {
            let before = self.base.as_ref().map_or(0, |vector| vector.deleted_rows);
            if vector.segment != self.segment.id || vector.deleted_rows != before + self.rows.len()
            {
                return Err(Error::Internal("a deletion vector has other rows".into()));
            }
        } else if !self.leaves_nothing() {
            return Err(Error::Internal("a deletion vector was not written".into()));
        }
        Ok(Deletion {
            slice: self.slice,
            segment: self.segment,
            base: self.base,
            vector,
            rows: self.rows,
        })
    }
}

fn lost_row() -> Error {
    Error::Internal("a row was deleted twice".into())
}
