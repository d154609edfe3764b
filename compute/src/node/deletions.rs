//! Deletion vectors of a node: written for the leader's commit, and laid over segments for scans.

use std::borrow::Cow;
use std::sync::Arc;

use faults::Defect;
use storage::deletion_vector::{DeletionVector, DeletionVectorInfo, write_deletion_vector};
use storage::ids::{DeletionVectorId, SegmentId, SliceId, TableId};
use storage::row_set::RowSet;
use storage::schema::TableSchema;
use storage::segment::Segment;
use storage::statistics::SegmentInfo;

use super::{FileInfo, Node, StoredFile};
use crate::error::Error;

/// A deletion vector that the leader wants to have.
#[derive(Debug, Clone)]
pub struct NewDeletions {
    /// The slice of the segment.
    pub slice: SliceId,
    /// The segment; of what is known about its rows only their number counts.
    pub segment: Arc<SegmentInfo>,
    /// The vector that counts so far, whose rows stay deleted.
    pub base: Option<DeletionVectorInfo>,
    /// A vector of another transaction, with which the rows may have nothing in common.
    pub apart_from: Option<DeletionVectorInfo>,
    /// The rows to delete, all live so far.
    pub rows: Arc<RowSet>,
    /// The id of the new vector, given once.
    pub id: DeletionVectorId,
}

/// What became of [`NewDeletions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionsOutcome {
    /// The vector is durable, and counts when a commit says so.
    Written(DeletionVectorInfo),
    /// A row is deleted already; nothing was written.
    Conflict,
}

impl Node {
    /// Writes a deletion vector, durably, unless one of its rows is deleted already. On an error, and
    /// on a conflict, no file is left, or an orphan that the next start removes.
    ///
    /// # Errors
    /// When an earlier vector cannot be read or the new one not be written, and when the leader has
    /// given the id up.
    pub fn write_deletions(
        &self,
        table: TableId,
        new: &NewDeletions,
    ) -> Result<DeletionsOutcome, Error> {
        let read =
            |info: &DeletionVectorInfo| self.deletion_vector(table, new.slice, &new.segment, info);
        let base = new.base.as_ref().map(read).transpose()?;
        let other = new.apart_from.as_ref().map(read).transpose()?;
        let is_deleted = |vector: &Arc<DeletionVector>| vector.deleted().intersects(&new.rows);
        if base.iter().chain(&other).any(is_deleted) && !faults::planted(Defect::SkipRowConflicts) {
            return Ok(DeletionsOutcome::Conflict);
        }
        let rows = match faults::planted(Defect::DeleteNextRow) {
            true => Cow::Owned(next_rows(&new.rows)),
            false => Cow::Borrowed(new.rows.as_ref()),
        };
        let vector = match base {
            Some(base) => base.union(new.id, &rows),
            None => DeletionVector::new(new.id, &new.segment, rows.into_owned()),
        };
        let file = StoredFile::DeletionVector(new.segment.id, new.id);
        let path = self.file_path(table, new.slice, file);
        let info = write_deletion_vector(self.io().as_ref(), &path, &vector)?;
        if let Err(error) = self.check_written(&path, &FileInfo::Deletions(Arc::new(info))) {
            self.io().remove(&path)?;
            return Err(error.into());
        }
        // Asked after the file is there: who gives the id up removes what is there by then.
        if self.is_abandoned(file.number()) {
            self.io().remove(&path)?;
            return Err(Error::GivenUp);
        }
        Ok(DeletionsOutcome::Written(info))
    }

    /// A segment without the rows that its deletion vector deletes.
    pub(crate) fn live_segment(
        &self,
        table: TableId,
        slice: SliceId,
        info: &SegmentInfo,
        deletions: Option<&DeletionVectorInfo>,
        schema: &Arc<TableSchema>,
    ) -> Result<Segment, Error> {
        let segment = self.segment(table, slice, info, schema)?;
        let Some(deletions) = deletions else { return Ok(segment) };
        let vector = self.deletion_vector(table, slice, info, deletions)?;
        Ok(segment.with_deletions(vector))
    }

    /// A deletion vector, read and checked. Open vectors are kept until their file is removed.
    fn deletion_vector(
        &self,
        table: TableId,
        slice: SliceId,
        segment: &SegmentInfo,
        info: &DeletionVectorInfo,
    ) -> Result<Arc<DeletionVector>, storage::error::Error> {
        let known = self.vectors.lock().get(&info.id).map(Arc::clone);
        if let Some(vector) = known.filter(|vector| vector.is_for(segment)) {
            return Ok(vector);
        }
        let file = StoredFile::DeletionVector(SegmentId(segment.id.0), info.id);
        let path = self.file_path(table, slice, file);
        let vector = Arc::new(DeletionVector::open(self.io().as_ref(), &path, info, segment)?);
        self.vectors.lock().insert(info.id, Arc::clone(&vector));
        Ok(vector)
    }
}

/// The rows after these; the first one after the last.
fn next_rows(rows: &RowSet) -> RowSet {
    let mut next: Vec<u32> = rows
        .rows()
        .map(|row| if u64::from(row) + 1 < rows.segment_rows() { row + 1 } else { 0 })
        .collect();
    next.sort_unstable();
    let mut set = RowSet::new(rows.segment_rows());
    set.insert(&next);
    set
}
