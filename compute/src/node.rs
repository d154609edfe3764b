//! The resources of a compute node: its files, its cache of column chunks, its memory and spill
//! space, and how many slices share them.
//!
//! ```text
//! <data directory>/slice_<slice>/<table id>-<segment id>.seg     both ids in hexadecimal
//! <data directory>/spill/                                        emptied at every start
//! <data directory>/membership                                    of a node of several: whose it is
//! ```
//!
//! Slices are counted over the whole cluster; a node has files of its own slices only.
//!
//! The node knows no transactions: which segments belong to a table is the leader's knowledge
//! ([`crate::table::TableVersion`]), and a file that no version names is an orphan
//! ([`Node::sweep_orphans`]).

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::common::Result as QueryResult;
use datafusion::execution::runtime_env::RuntimeEnv;
use parking_lot::Mutex;
use storage::cache::ChunkCache;
use storage::ids::{SegmentId, SliceId, TableId};
use storage::io::{Io, TEMPORARY_SUFFIX};
use storage::schema::TableSchema;
use storage::segment::Segment;
use storage::statistics::SegmentInfo;

use crate::error::{Error, storage_error, with_sqlstate};
use crate::layout::Layout;
use crate::memory::{MemoryLimits, runtime_env};

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
    /// Disk space for spilling, bytes.
    pub spill_bytes_max: u64,
}

/// A compute node's resources, shared by all its queries.
pub struct Node {
    config: NodeConfig,
    cache: Arc<ChunkCache>,
    runtime: Arc<RuntimeEnv>,
    segments: Mutex<HashMap<SegmentId, OpenSegment>>,
    /// Where the next EVEN write starts, so that small writes do not all go to one slice.
    next_slice: AtomicUsize,
    /// Ids of segments of writes that the leader has given up.
    abandoned: Mutex<Vec<Range<u64>>>,
}

struct OpenSegment {
    table: TableId,
    segment: Segment,
}

impl Node {
    /// Opens the node on its data directory, which is created if it does not exist, and empties
    /// the spill space.
    pub fn open(config: NodeConfig) -> Result<Arc<Self>, Error> {
        if config.node >= config.layout.nodes() {
            let nodes = config.layout.nodes();
            return Err(Error::NoSuchNode { node: config.node, nodes });
        }
        for slice in config.layout.slices_of(config.node) {
            config.io.create_directory(&slice_dir(&config, slice))?;
        }
        let spill_dir = config.data_dir.join("spill");
        let limits = MemoryLimits {
            memory_bytes: config.memory_bytes,
            spill_dir,
            spill_bytes_max: config.spill_bytes_max,
        };
        Ok(Arc::new(Self {
            cache: Arc::new(ChunkCache::new(config.cache_bytes)),
            runtime: runtime_env(&limits)?,
            segments: Mutex::default(),
            next_slice: AtomicUsize::new(0),
            abandoned: Mutex::default(),
            config,
        }))
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

    /// Removes every segment file that `known` does not name, and what an interrupted write left.
    /// A segment that is being written or waits for its commit is unknown too: those have ids from
    /// `below` on, and stay.
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
        for slice in self.own_slices() {
            let directory = slice_dir(&self.config, slice);
            for file in self.config.io.list(&directory)? {
                let (table, segment) = parse_file_name(&file);
                if remove(table, segment) {
                    self.config.io.remove(&file)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Removes segments that no snapshot sees any more: of a write that did not commit, or replaced
    /// by a later version. Segments that are gone already are skipped.
    pub fn remove_segments(
        &self,
        table: TableId,
        segments: impl IntoIterator<Item = (SliceId, SegmentId)>,
    ) -> Result<(), Error> {
        for (slice, id) in segments {
            self.segments.lock().remove(&id);
            self.cache.forget(id);
            let path = self.segment_path(table, slice, id);
            if self.config.io.len(&path)?.is_some() {
                self.config.io.remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes what a write left that was given its segment ids from `ids` and that the leader has
    /// given up; if it still runs, it ends with an error and leaves nothing either. Returns the
    /// number of files removed.
    pub fn abandon_segments(&self, table: TableId, ids: Range<u64>) -> Result<usize, Error> {
        self.abandoned.lock().push(ids.clone());
        self.remove_files(|of, segment| {
            of == Some(table) && segment.is_some_and(|segment| ids.contains(&segment.0))
        })
    }

    /// Whether the segment belongs to a write that was given up.
    pub(crate) fn is_abandoned(&self, segment: SegmentId) -> bool {
        self.abandoned.lock().iter().any(|ids| ids.contains(&segment.0))
    }

    /// Gives up all writes of leaders before the one whose first segment this is.
    pub(crate) fn abandon_all_before(&self, first: SegmentId) {
        let mut abandoned = self.abandoned.lock();
        abandoned.clear();
        abandoned.push(0..first.0);
    }

    /// Whether there is any file in the node's slices.
    pub(crate) fn has_files(&self) -> Result<bool, Error> {
        for slice in self.own_slices() {
            if !self.config.io.list(&slice_dir(&self.config, slice))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where the node's files are.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// The file of a segment.
    pub fn segment_path(&self, table: TableId, slice: SliceId, segment: SegmentId) -> PathBuf {
        self.config
            .data_dir
            .join(format!("slice_{}", slice.0))
            .join(format!("{:08x}-{:016x}.seg", table.0, segment.0))
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
    ) -> QueryResult<Segment> {
        if !self.own_slices().contains(&(slice.0 as usize)) {
            let message = format!("slice {} is not on node {}", slice.0, self.id());
            return Err(with_sqlstate("XX000", message));
        }
        if let Some(open) = self.segments.lock().get(&info.id) {
            let known = open.segment.schema();
            if Arc::ptr_eq(known, schema) || known == schema {
                return Ok(open.segment.clone());
            }
        }
        let path = self.segment_path(table, slice, info.id);
        let (io, cache) = (Arc::clone(&self.config.io), Arc::clone(&self.cache));
        let segment =
            Segment::open(io, &path, info.id, Arc::clone(schema), cache).map_err(storage_error)?;
        segment.check_identity(info).map_err(storage_error)?;
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

fn slice_dir(config: &NodeConfig, slice: usize) -> PathBuf {
    config.data_dir.join(format!("slice_{slice}"))
}

/// The ids in the name of a segment's file, also of one that is still being written; a name that is
/// not wholly of our making has no segment id.
fn parse_file_name(file: &Path) -> (Option<TableId>, Option<SegmentId>) {
    let Some((table, rest)) = file.file_name().and_then(|n| n.to_str()?.split_once('-')) else {
        return (None, None);
    };
    let name = rest.strip_suffix(TEMPORARY_SUFFIX).unwrap_or(rest);
    let segment = name.strip_suffix(".seg").and_then(|id| u64::from_str_radix(id, 16).ok());
    (u32::from_str_radix(table, 16).ok().map(TableId), segment.map(SegmentId))
}
