//! Buffered rows on their way to a segment file.
//!
//! Sorting and encoding run on rayon's threads, off the async runtime, while the input goes on. A
//! segment of a few rows is written by a thread of its own: nearly all of that is waiting for the
//! disk, for which there are not enough of rayon's when many sessions insert.
//!
//! The list of files of a write is shared with its running jobs: whoever lets go of it last, the write
//! or a job that was still running when the write was dropped, removes the files, unless the write
//! was finished.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::common::{DataFusionError, Result, internal_err};
use parking_lot::Mutex;
use storage::ids::{SegmentId, SliceId};
use storage::io::Io;
use storage::parallel::ROWS_PARALLEL_MIN;
use storage::segment::write_segment;
use storage::sort::sort_rows;
use storage::statistics::SegmentInfo;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::WriteTarget;
use super::buffer::BufferedRows;
use crate::error::storage_error;
use crate::node::{FileInfo, Node};
use crate::plan::guard::panicked;

/// Segments of one slice that are sorted, encoded and written at the same time.
const SEGMENTS_IN_FLIGHT: usize = 2;

/// Turns buffered rows into segments.
pub(super) struct Flusher {
    node: Arc<Node>,
    target: WriteTarget,
    files: Arc<WriteFiles>,
    slots: Vec<Arc<Semaphore>>,
    running: Mutex<Vec<Running>>,
}

/// A segment that is being written.
struct Running {
    slice: SliceId,
    written: oneshot::Receiver<Result<SegmentInfo>>,
}

impl Flusher {
    pub(super) fn new(node: Arc<Node>, target: WriteTarget) -> Self {
        let slots = (0..node.slices()).map(|_| Arc::new(Semaphore::new(SEGMENTS_IN_FLIGHT)));
        let files = Arc::new(WriteFiles {
            io: Arc::clone(node.io()),
            paths: Mutex::default(),
            given_up: AtomicBool::new(false),
            kept: AtomicBool::new(false),
        });
        Self { slots: slots.collect(), files, node, target, running: Mutex::default() }
    }

    /// Starts to write a segment of a slice, counted within those of the write; waits while the
    /// slice has too many of them in writing.
    pub(super) async fn start(&self, slice: usize, rows: BufferedRows) -> Result<()> {
        let slot = Arc::clone(&self.slots[slice]).acquire_owned().await;
        let slot = slot.map_err(|error| DataFusionError::Internal(error.to_string()))?;
        let slice = self.target.slices.start + slice;
        let slice = SliceId(u32::try_from(slice).unwrap_or(u32::MAX));
        let id = (self.target.new_segment_id)();
        let job = Job {
            node: Arc::clone(&self.node),
            id,
            path: self.node.segment_path(self.target.version.table, slice, id),
            target: self.target.clone(),
            files: Arc::clone(&self.files),
            rows,
            _slot: slot,
        };
        let (sender, written) = oneshot::channel();
        self.running.lock().push(Running { slice, written });
        let is_small = job.row_count() < ROWS_PARALLEL_MIN;
        let work = move || {
            let run = AssertUnwindSafe(|| job.run());
            let written = catch_unwind(run).unwrap_or_else(|panic| Err(panicked(&panic)));
            // If nobody waits any more, the file goes away with the list of files.
            let _ = sender.send(written);
        };
        if is_small {
            // It goes on if nobody waits any more, as on rayon's threads.
            drop(Handle::current().spawn_blocking(work));
        } else {
            rayon::spawn(work);
        }
        Ok(())
    }

    /// Waits until all segments are written, also if one of them fails.
    pub(super) async fn finish(&self) -> Result<Vec<(SliceId, SegmentInfo)>> {
        let running = std::mem::take(&mut *self.running.lock());
        let mut segments = Vec::with_capacity(running.len());
        let mut first_error = None;
        for Running { slice, written } in running {
            match written.await {
                Ok(Ok(segment)) => segments.push((slice, segment)),
                Ok(Err(error)) => first_error = first_error.or(Some(error)),
                Err(_) => return internal_err!("a segment writer ended without a result"),
            }
        }
        first_error.map_or(Ok(segments), Err)
    }

    /// Removes the files of a write that has failed, once nobody writes to them.
    pub(super) async fn give_up(&self) {
        self.files.given_up.store(true, Ordering::Relaxed);
        // The write has an error to report already.
        let _ = self.finish().await;
    }

    /// The write is complete: its files stay.
    pub(super) fn keep_files(&self) {
        self.files.kept.store(true, Ordering::Relaxed);
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.files.given_up.store(true, Ordering::Relaxed);
    }
}

/// One segment to write.
struct Job {
    node: Arc<Node>,
    id: SegmentId,
    path: PathBuf,
    target: WriteTarget,
    files: Arc<WriteFiles>,
    rows: BufferedRows,
    /// Held until the job is done.
    _slot: OwnedSemaphorePermit,
}

impl Job {
    fn row_count(&self) -> usize {
        self.rows.batches.iter().map(|batch| batch.num_rows()).sum()
    }

    fn run(self) -> Result<SegmentInfo> {
        if self.files.given_up.load(Ordering::Relaxed) {
            return internal_err!("the write was given up");
        }
        let schema = &self.target.version.schema;
        let expected = self.row_count();
        // The reservation stays until the rows have been encoded.
        let BufferedRows { batches, reservation } = self.rows;
        let sorted = sort_rows(schema, batches).map_err(storage_error)?;
        self.files.paths.lock().push(self.path.clone());
        let io = self.files.io.as_ref();
        let segment =
            write_segment(io, &self.path, self.id, schema, &sorted).map_err(storage_error)?;
        drop(reservation);
        if segment.row_count != expected as u64 {
            return internal_err!("{expected} rows were given, {} written", segment.row_count);
        }
        // An error removes the file, as any other of the write.
        let file = FileInfo::Segment(Arc::new(segment.clone()));
        self.node.check_written(&self.path, &file).map_err(storage_error)?;
        Ok(segment)
    }
}

/// The files that a write has begun.
struct WriteFiles {
    io: Arc<dyn Io>,
    paths: Mutex<Vec<PathBuf>>,
    /// Jobs that have not started need not.
    given_up: AtomicBool,
    kept: AtomicBool,
}

impl Drop for WriteFiles {
    fn drop(&mut self) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        for path in self.paths.get_mut() {
            if let Ok(Some(_)) = self.io.len(path)
                && let Err(error) = self.io.remove(path)
            {
                // The next start sweeps it.
                tracing::warn!(%error, "cannot remove a segment of a failed write");
            }
        }
    }
}
