//! VACUUM of a table: its slices are rewritten while queries and writers go on, and each slice is
//! committed as soon as it is done.
//!
//! A commit needs that the segments are as they were read. It claims their rows, as a DELETE does, so
//! that nobody deletes one while it decides; what has changed by then, or is being changed, stays as
//! it is and is tried again. Whoever has found rows in a segment that is replaced meanwhile begins
//! again, or fails as after any other conflict.

pub(crate) mod automatic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use compute::plan::slice_write::SEGMENTS_PER_TASK;
use compute::{Node, RewriteGoal, RewriteRequest, RewrittenSegments};
use datafusion::common::runtime::SpawnedTask;
use faults::{Defect, Place};
use storage::ids::{SegmentId, SliceId, TableId};
use storage::row_set::RowSet;

use crate::catalog::{Change, Rewritten, TableEntry};
use crate::cluster::{self, Cluster, NewSegments};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::transaction::Start;
use crate::transaction::lock::{ClaimedRows, LockMode};

/// How often what was changed meanwhile is tried again.
const ATTEMPTS_MAX: usize = 3;
/// How long a rewrite waits for whoever has the table to himself; then it was in vain.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// What a VACUUM has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Segments that were replaced.
    pub sources: usize,
    /// Segments that replaced them.
    pub segments: usize,
    /// Segments that were rewritten in vain, because they were changed each time.
    pub left: usize,
    /// Somebody had the table to himself for so long that the rest of it was left as it is.
    pub was_locked: bool,
}

/// Brings a table to the goal, as far as others let it; it may pause while queries run.
///
/// # Errors
/// When segments cannot be read or written; what was committed by then stays.
pub async fn vacuum(
    engine: &Arc<Engine>,
    table: TableId,
    goal: RewriteGoal,
    gives_way: bool,
) -> Result<Vacuumed> {
    let mut done = Vacuumed::default();
    let slices = engine.cluster.layout().slices();
    'slices: for slice in (0u32..).take(slices).map(SliceId) {
        for attempt in 1..=ATTEMPTS_MAX {
            let Some(entry) = engine.transactions.snapshot().table_by_id(table).map(Arc::clone)
            else {
                return Ok(done);
            };
            let rewritten = rewrite(engine, &entry, slice, goal, gives_way).await?;
            if rewritten.is_empty() {
                break;
            }
            let committed = commit(engine, &entry, slice, rewritten).await?;
            done.sources += committed.sources;
            done.segments += committed.segments;
            if committed.was_locked {
                done.left += committed.left;
                done.was_locked = true;
                break 'slices;
            }
            if committed.left == 0 {
                break;
            }
            if attempt == ATTEMPTS_MAX {
                done.left += committed.left;
            }
        }
    }
    engine.transactions.sweep_garbage();
    Ok(done)
}

/// Writes the segments of a slice anew; nothing counts yet.
async fn rewrite(
    engine: &Arc<Engine>,
    entry: &TableEntry,
    slice: SliceId,
    goal: RewriteGoal,
    gives_way: bool,
) -> Result<Vec<NewSegments>> {
    let Some(segments) = entry.slices.get(slice.0 as usize).filter(|slice| !slice.is_empty())
    else {
        return Ok(Vec::new());
    };
    let first = engine.transactions.reserve_segment_ids(SEGMENTS_PER_TASK).await?;
    let with_vector = segments.iter().map(|segment| {
        let vector = entry.deletions.get(&segment.id).map(Arc::clone);
        (Arc::clone(segment), vector)
    });
    let request = RewriteRequest {
        table: entry.id,
        schema: Arc::new(entry.table_schema()),
        slice,
        segments: with_vector.collect(),
        goal,
        ids: first.0..first.0 + SEGMENTS_PER_TASK,
        gives_way,
        may_go_on: Arc::new(|| true),
    };
    match &engine.cluster {
        Cluster::Alone(node) => rewrite_here(node, request).await,
        Cluster::Nodes(nodes) => cluster::rewrite(engine, nodes, entry, request).await,
    }
}

/// Says that nobody waits for a rewrite any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn rewrite_here(node: &Arc<Node>, mut request: RewriteRequest) -> Result<Vec<NewSegments>> {
    let stop = StopOnDrop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    request.may_go_on = Arc::new(move || !stopped.load(Ordering::Relaxed));
    let node = Arc::clone(node);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // Once begun it runs until it is told to stop, and removes what nobody waits for any more.
    let _task = SpawnedTask::spawn_blocking(move || {
        let rewritten = node
            .rewrite_slice(&request)
            .map(|groups| groups.map(|groups| Unclaimed { node, request, groups }));
        // Whoever waits no longer leaves it unread, and with it the files go.
        let _ = sender.send(rewritten);
    });
    let lost = |_| Error::Internal("a rewrite did not end".into());
    let mut rewritten = receiver.await.map_err(lost)??.ok_or(Error::Canceled)?;
    Ok(std::mem::take(&mut rewritten.groups).into_iter().map(NewSegments::from).collect())
}

/// Segments that were written and that nobody has taken; dropped, they are removed.
struct Unclaimed {
    node: Arc<Node>,
    request: RewriteRequest,
    groups: Vec<RewrittenSegments>,
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let segments = self.groups.iter().flat_map(|group| &group.segments);
        let files = segments.map(|s| (self.request.slice, compute::StoredFile::Segment(s.id)));
        if let Err(error) = self.node.remove_stored(self.request.table, files) {
            tracing::warn!(%error, "cannot remove rewritten segments; the next start removes them");
        }
    }
}

/// Lets new segments take the place of those that are as they were read.
async fn commit(
    engine: &Arc<Engine>,
    entry: &TableEntry,
    slice: SliceId,
    rewritten: Vec<NewSegments>,
) -> Result<Vacuumed> {
    let mut done = Vacuumed::default();
    let mut unwanted = Unwanted { engine, table: entry.id, changes: Vec::new() };
    for group in rewritten {
        unwanted.changes.push(to_change(entry, slice, group)?);
    }
    let mut transaction = engine.transactions.begin(Start::default());
    let lock = transaction.lock(entry.id, LockMode::Shared);
    match tokio::time::timeout(LOCK_WAIT, lock).await {
        Ok(Ok(_)) => {}
        // The table was dropped.
        Ok(Err(_)) => return Ok(done),
        Err(_) => {
            done.left = unwanted.changes.iter().map(|change| change.sources.len()).sum();
            done.was_locked = true;
            return Ok(done);
        }
    }
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    for change in std::mem::take(&mut unwanted.changes) {
        let is_free = transaction.try_claim(entry.id, all_rows(&change));
        // Looked at after the claim: nobody changes them from here on.
        let latest = engine.transactions.snapshot();
        let forget = faults::planted(Defect::ForgetLateDeletions);
        if forget || is_free && is_unchanged(latest.table_by_id(entry.id), &change) {
            done.sources += change.sources.len();
            done.segments += change.segments.len();
            taken.push(change);
        } else {
            done.left += change.sources.len();
            left.push(change);
        }
    }
    engine.transactions.discard(vec![Change::Rewrite(entry.id, left)]);
    if taken.is_empty() {
        return Ok(done);
    }
    transaction.begin_statement_anew();
    transaction.change(Change::Rewrite(entry.id, taken))?;
    faults::point(Place::VacuumWritten);
    transaction.commit().await?;
    Ok(done)
}

/// Segments that have not taken the place of others: dropped, they are removed.
struct Unwanted<'a> {
    engine: &'a Engine,
    table: TableId,
    changes: Vec<Rewritten>,
}

impl Drop for Unwanted<'_> {
    fn drop(&mut self) {
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            self.engine.transactions.discard(vec![Change::Rewrite(self.table, changes)]);
        }
    }
}

fn to_change(entry: &TableEntry, slice: SliceId, group: NewSegments) -> Result<Rewritten> {
    let mut sources = Vec::with_capacity(group.sources.len());
    let mut live_rows = 0;
    for id in group.sources {
        let (_, segment) = entry
            .segment(id)
            .ok_or_else(|| Error::Internal(format!("segment {} was not to be read", id.0)))?;
        let vector = entry.deletions.get(&id).map(Arc::clone);
        live_rows += segment.row_count - vector.as_ref().map_or(0, |v| v.deleted_rows);
        sources.push((Arc::clone(segment), vector));
    }
    let rows: u64 = group.segments.iter().map(|segment| segment.row_count).sum();
    if rows != live_rows {
        let text = format!("{live_rows} rows were to be rewritten, {rows} were");
        return Err(Error::Internal(text));
    }
    Ok(Rewritten { slice, sources, segments: group.segments })
}

/// All rows of the segments that go.
fn all_rows(change: &Rewritten) -> ClaimedRows {
    let all = |rows: u64| {
        let mut set = RowSet::new(rows);
        let rows: Vec<u32> = (0u32..).take(usize::try_from(rows).unwrap_or(usize::MAX)).collect();
        set.insert(&rows);
        Arc::new(set)
    };
    let sets = change.sources.iter().map(|(segment, _)| (segment.id, all(segment.row_count)));
    Arc::new(sets.collect::<BTreeMap<SegmentId, Arc<RowSet>>>())
}

fn is_unchanged(latest: Option<&Arc<TableEntry>>, change: &Rewritten) -> bool {
    let Some(latest) = latest else { return false };
    change.sources.iter().all(|(segment, vector)| {
        let counting = latest.deletions.get(&segment.id).map(|counting| counting.id);
        latest.segment(segment.id).is_some() && counting == vector.as_ref().map(|v| v.id)
    })
}
