//! The resources of a compute node: its files, its cache of column chunks, its memory and spill
//! space, and how many slices share them.
//!
//! ```text
//! <data directory>/slice_<slice>/<table id>-<segment id>.seg     all ids in hexadecimal
//! <data directory>/slice_<slice>/<table id>-<segment id>-<vector id>.dv
//! <data directory>/spill/                                        emptied at every start; or elsewhere
//! <data directory>/membership                                    of a node of several: whose it is
//! ```
//!
//! Slices are counted over the whole cluster; beside those of its own a node has copies of others.
//! A copy has the same name and the same bytes as what it is a copy of.
//!
//! The node knows no transactions: which segments belong to a table, and which node keeps copies of
//! them, is the leader's knowledge ([`crate::table::TableVersion`]), and a file that no version
//! names is an orphan ([`Node::sweep_orphans`]).

mod deletions;
pub(crate) mod file;
mod integrity;
mod rewrite;

pub use deletions::{DeletionsOutcome, NewDeletions};
pub use file::{FileInfo, StoredFile};
pub(crate) use integrity::Scanning;
pub use rewrite::{
    RewriteGoal, RewriteRequest, RewrittenSegments, dropped_bytes, is_more_than_the_rest,
};

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use datafusion::execution::runtime_env::RuntimeEnv;
use faults::Place;
use parking_lot::Mutex;
use storage::cache::ChunkCache;
use storage::deletion_vector::DeletionVector;
use storage::ids::{DeletionVectorId, SegmentId, SliceId, TableId};
use storage::io::{DiskIo, Io, TEMPORARY_SUFFIX};
use storage::schema::TableSchema;
use storage::segment::Segment;
use storage::statistics::SegmentInfo;

use crate::error::Error;
use crate::integrity::{IntegrityConfig, ScrubStatus};
use crate::layout::Layout;
use crate::memory::{MemoryLimits, runtime_env};
use crate::profile::Profile;
use file::{COPY_MARK, file_path, is_temporary, parse_file_name, slice_dir, stored_file};

/// What a node is opened with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where tables and spill files live.
    pub data_dir: PathBuf,
    /// How segment files are read and written.
    pub io: Arc<dyn Io>,
    /// The cluster that this node is part of; one node with all slices if it is alone.
    pub layout: Layout,
    /// Which of the cluster's nodes this is, counted from 0.
    pub node: usize,
    /// Memory for queries and loads, bytes; the chunk cache comes on top.
    pub memory_bytes: usize,
    /// Memory for column chunks read from disk, bytes.
    pub cache_bytes: usize,
    /// Where queries spill; everything in it is removed when the node opens.
    pub spill_dir: PathBuf,
    /// Disk space for spilling, bytes.
    pub spill_bytes_max: u64,
    /// What kind of machine it is on.
    pub profile: Profile,
    /// What it does to find damage.
    pub integrity: IntegrityConfig,
}

/// Writes that leave nothing behind.
#[derive(Debug)]
struct Abandoned {
    /// Those of leaders before this one: their segments have smaller ids.
    before: SegmentId,
    /// Those that this leader has given up, each with its ids.
    writes: Vec<Range<u64>>,
}

impl Default for Abandoned {
    fn default() -> Self {
        Self { before: SegmentId(0), writes: Vec::new() }
    }
}

/// A compute node's resources, shared by all its queries.
pub struct Node {
    config: NodeConfig,
    /// What `config.io` is.
    disk: Arc<DiskIo>,
    cache: Arc<ChunkCache>,
    runtime: Arc<RuntimeEnv>,
    segments: Mutex<HashMap<SegmentId, OpenSegment>>,
    /// Open deletion vectors.
    vectors: Mutex<HashMap<DeletionVectorId, Arc<DeletionVector>>>,
    /// Where the next EVEN write starts, so that small writes do not all go to one slice.
    next_slice: AtomicUsize,
    next_copy: AtomicU64,
    /// Which writes were given up.
    abandoned: Mutex<Abandoned>,
    /// Scans at work.
    scans: AtomicUsize,
    scrub: Mutex<ScrubStatus>,
}

struct OpenSegment {
    table: TableId,
    segment: Segment,
}

/// A file of a table on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldFile {
    /// The table.
    pub table: TableId,
    /// The slice.
    pub slice: SliceId,
    /// The number of the file ([`StoredFile::number`]).
    pub number: SegmentId,
    /// The length of the file.
    pub byte_count: u64,
    /// Whether it is known to be damaged.
    pub is_damaged: bool,
}

impl Node {
    /// Opens the node on its data directory, which is created if it does not exist, and removes
    /// what was being written when the process before ended: in its slices and in the spill space.
    pub fn open(config: NodeConfig) -> Result<Arc<Self>, Error> {
        if config.node >= config.layout.nodes() {
            let nodes = config.layout.nodes();
            return Err(Error::NoSuchNode { node: config.node, nodes });
        }
        // From the last one, so that a start that fails does not leave a smaller number of them.
        for slice in (0..config.layout.slices()).rev() {
            let directory = slice_dir(&config.data_dir, slice);
            config.io.create_directory(&directory)?;
            for file in config.io.list(&directory)? {
                if is_temporary(&file) {
                    config.io.remove(&file)?;
                }
            }
        }
        let limits = MemoryLimits {
            memory_bytes: config.memory_bytes,
            spill_dir: config.spill_dir.clone(),
            spill_bytes_max: config.spill_bytes_max,
        };
        let disk = Arc::new(DiskIo::new(Arc::clone(&config.io), config.profile.disk()));
        let config = NodeConfig { io: Arc::clone(&disk) as Arc<dyn Io>, ..config };
        Ok(Arc::new(Self {
            cache: Arc::new(ChunkCache::new(config.cache_bytes)),
            runtime: runtime_env(&limits)?,
            segments: Mutex::default(),
            vectors: Mutex::default(),
            next_slice: AtomicUsize::new(0),
            next_copy: AtomicU64::new(0),
            abandoned: Mutex::default(),
            scans: AtomicUsize::new(0),
            scrub: Mutex::default(),
            disk,
            config,
        }))
    }

    /// The first file that could not be made durable since the node was opened, if there is one: then
    /// nothing more may be written until a restart has looked at what is there.
    pub fn failed_sync(&self) -> Option<&Path> {
        self.disk.failed_sync()
    }

    /// The number of slices of this node.
    pub fn slices(&self) -> usize {
        self.config.layout.slices_per_node()
    }

    /// The cluster that this node is part of.
    pub fn layout(&self) -> Layout {
        self.config.layout
    }

    /// Which of the cluster's nodes this is.
    pub fn id(&self) -> usize {
        self.config.node
    }

    /// The slices of this node.
    pub fn own_slices(&self) -> Range<usize> {
        self.config.layout.slices_of(self.config.node)
    }

    /// The environment of the whole node: every reservation counts against its memory.
    pub fn runtime_env(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    /// Memory for queries and loads, bytes.
    pub fn memory_bytes(&self) -> usize {
        self.config.memory_bytes
    }

    /// Removes every segment and deletion vector whose number `known` does not name, and what an
    /// interrupted write left. A file that is being written or waits for its commit is unknown too:
    /// those have numbers from `below` on, and stay.
    /// Returns the number of files removed.
    pub fn sweep_orphans(
        &self,
        known: &HashMap<TableId, HashSet<SegmentId>>,
        below: SegmentId,
    ) -> Result<usize, Error> {
        self.remove_files(|table, segment| {
            let known = table.and_then(|table| known.get(&table));
            segment.is_none_or(|segment| {
                segment < below && !known.is_some_and(|known| known.contains(&segment))
            })
        })
    }

    /// Removes all files of a table that was dropped and that no snapshot sees any more. Returns
    /// the number of files removed.
    pub fn remove_table_files(&self, table: TableId) -> Result<usize, Error> {
        self.segments.lock().retain(|id, open| {
            let keep = open.table != table;
            if !keep {
                self.cache.forget(*id);
            }
            keep
        });
        self.remove_files(|of, _| of == Some(table))
    }

    /// Removes the files of all slices for which `remove` says so, given what their names say.
    fn remove_files(
        &self,
        remove: impl Fn(Option<TableId>, Option<SegmentId>) -> bool,
    ) -> Result<usize, Error> {
        let mut removed = 0;
        for slice in 0..self.config.layout.slices() {
            let directory = slice_dir(&self.config.data_dir, slice);
            for file in self.config.io.list(&directory)? {
                let (table, segment) = parse_file_name(&file);
                if remove(table, segment) {
                    faults::point(Place::FileUnneeded);
                    self.config.io.remove(&file)?;
                    faults::point(Place::FileRemoved);
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Removes files that no snapshot needs any more: of a write that did not commit, or replaced by a
    /// later version. Files that are gone already are skipped.
    pub fn remove_stored(
        &self,
        table: TableId,
        files: impl IntoIterator<Item = (SliceId, StoredFile)>,
    ) -> Result<(), Error> {
        for (slice, file) in files {
            match file {
                StoredFile::Segment(id) => {
                    self.segments.lock().remove(&id);
                    self.cache.forget(id);
                }
                StoredFile::DeletionVector(_, id) => {
                    self.vectors.lock().remove(&id);
                }
            }
            let path = self.file_path(table, slice, file);
            if self.config.io.len(&path)?.is_some() {
                faults::point(Place::FileUnneeded);
                self.config.io.remove(&path)?;
                faults::point(Place::FileRemoved);
            }
        }
        Ok(())
    }

    /// Removes what a write left that was given its segment ids from `ids` and that the leader has
    /// given up; if it still runs, it ends with an error and leaves nothing either. Returns the
    /// number of files removed.
    pub fn abandon_segments(&self, table: TableId, ids: Range<u64>) -> Result<usize, Error> {
        self.abandoned.lock().writes.push(ids.clone());
        self.remove_files(|of, segment| {
            of == Some(table) && segment.is_some_and(|segment| ids.contains(&segment.0))
        })
    }

    /// Whether a write that makes the file of this number was given up, or its leader replaced.
    pub(crate) fn is_abandoned(&self, number: SegmentId) -> bool {
        number < self.abandoned.lock().before || self.is_given_up(number)
    }

    /// Whether the leader that has opened the node has given up the write that made this file.
    pub(crate) fn is_given_up(&self, number: SegmentId) -> bool {
        self.abandoned.lock().writes.iter().any(|ids| ids.contains(&number.0))
    }

    /// Gives up all writes of leaders before the one whose first segment this is.
    pub(crate) fn abandon_all_before(&self, first: SegmentId) {
        *self.abandoned.lock() = Abandoned { before: first, writes: Vec::new() };
    }

    /// Whether there is any file in the node's slices.
    pub(crate) fn has_files(&self) -> Result<bool, Error> {
        for slice in 0..self.config.layout.slices() {
            if !self.config.io.list(&slice_dir(&self.config.data_dir, slice))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The whole segments and deletion vectors that lie in the node's directories, whatever they are. Makes directories
    /// that are gone.
    pub(crate) fn held_files(&self) -> Result<Vec<HeldFile>, Error> {
        let mut held = Vec::new();
        for slice in 0..self.config.layout.slices() {
            let directory = slice_dir(&self.config.data_dir, slice);
            self.config.io.create_directory(&directory)?;
            for file in self.config.io.list(&directory)? {
                let (Some(table), Some(number)) = parse_file_name(&file) else { continue };
                if is_temporary(&file) {
                    continue;
                }
                // It may be removed while we look.
                let Some(byte_count) = self.config.io.len(&file)? else { continue };
                let slice = SliceId(u32::try_from(slice).unwrap_or(u32::MAX));
                let is_damaged = self.is_damaged(&file);
                held.push(HeldFile { table, slice, number, byte_count, is_damaged });
            }
        }
        Ok(held)
    }

    /// Where the whole files of the node's slices are, and what they are.
    pub(crate) fn stored_files(&self) -> Result<Vec<(PathBuf, StoredFile)>, Error> {
        let mut stored = Vec::new();
        for slice in 0..self.config.layout.slices() {
            let files = self.config.io.list(&slice_dir(&self.config.data_dir, slice))?;
            let whole = files.into_iter().filter(|file| !is_temporary(file));
            stored.extend(whole.filter_map(|file| stored_file(&file).map(|is| (file, is))));
        }
        Ok(stored)
    }

    /// Where the node's files are.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// The file of a segment.
    pub fn segment_path(&self, table: TableId, slice: SliceId, segment: SegmentId) -> PathBuf {
        self.file_path(table, slice, StoredFile::Segment(segment))
    }

    /// Where a file of a slice is.
    pub fn file_path(&self, table: TableId, slice: SliceId, file: StoredFile) -> PathBuf {
        file_path(&self.config.data_dir, table, slice, file)
    }

    /// A file to which the file of that path may be copied; each time another.
    pub(crate) fn copy_path(&self, path: &Path) -> PathBuf {
        let number = self.next_copy.fetch_add(1, Ordering::Relaxed);
        let mut name = path.as_os_str().to_owned();
        name.push(format!("{COPY_MARK}{number}{TEMPORARY_SUFFIX}"));
        PathBuf::from(name)
    }

    pub(crate) fn io(&self) -> &Arc<dyn Io> {
        &self.config.io
    }

    /// The slice at which an EVEN write starts.
    pub(crate) fn take_even_start(&self) -> usize {
        self.next_slice.fetch_add(1, Ordering::Relaxed) % self.slices()
    }

    /// A segment, its footer read and checked. Open segments are kept until they are removed.
    pub(crate) fn segment(
        &self,
        table: TableId,
        slice: SliceId,
        info: &SegmentInfo,
        schema: &Arc<TableSchema>,
    ) -> Result<Segment, Error> {
        if slice.0 as usize >= self.config.layout.slices() {
            return Err(Error::NoSuchSlice(slice));
        }
        if let Some(open) = self.segments.lock().get(&info.id) {
            let known = open.segment.schema();
            if Arc::ptr_eq(known, schema) || known == schema {
                return Ok(open.segment.clone());
            }
        }
        let path = self.segment_path(table, slice, info.id);
        let (io, cache) = (Arc::clone(&self.config.io), Arc::clone(&self.cache));
        let segment = Segment::open(io, &path, info.id, Arc::clone(schema), cache)?;
        segment.check_identity(info)?;
        let open = OpenSegment { table, segment: segment.clone() };
        self.segments.lock().insert(info.id, open);
        Ok(segment)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("data_dir", &self.config.data_dir)
            .field("slices", &self.own_slices())
            .finish_non_exhaustive()
    }
}
