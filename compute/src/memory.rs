//! Memory and spill of a node: the pool that every query reserves from, and the disk space that
//! operators may spill to.

use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::error::Error;
use crate::merge_share::MergeShare;

/// How many of the largest consumers an out-of-memory message names.
const CONSUMERS_REPORTED: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not zero");

/// What a node may use.
#[derive(Debug, Clone)]
pub struct MemoryLimits {
    /// All queries and loads of the node together, bytes.
    pub memory_bytes: usize,
    /// Where operators spill; emptied when the node opens.
    pub spill_dir: PathBuf,
    /// Disk space for spilling, bytes.
    pub spill_bytes_max: u64,
}

/// A pool in which operators that can spill share `bytes` fairly and others take what is left.
/// The grant of one query, or the whole node's.
pub(crate) fn memory_pool(bytes: usize) -> Arc<dyn MemoryPool> {
    // Half of it for the merges of all partitions, of which there are about as many as cores.
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let shared = MergeShare::new(FairSpillPool::new(bytes), bytes / 2 / cores);
    Arc::new(TrackConsumersPool::new(shared, CONSUMERS_REPORTED))
}

/// The environment of the whole node. Empties the spill directory: what is in it was left by a
/// process that did not end in order.
pub fn runtime_env(limits: &MemoryLimits) -> Result<Arc<RuntimeEnv>, Error> {
    let emptied = match fs::remove_dir_all(&limits.spill_dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(&limits.spill_dir),
    };
    emptied.map_err(|source| Error::Spill { path: limits.spill_dir.clone(), source })?;
    let disk = DiskManagerBuilder::default()
        .with_mode(DiskManagerMode::Directories(vec![limits.spill_dir.clone()]))
        .with_max_temp_directory_size(limits.spill_bytes_max);
    RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_memory_pool(memory_pool(limits.memory_bytes))
        .build_arc()
        .map_err(Error::Runtime)
}

/// An environment that shares the node's disk and caches but may reserve only `memory_bytes`:
/// the grant that workload management gave to a query.
pub(crate) fn query_runtime_env(node: &RuntimeEnv, memory_bytes: usize) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::from_runtime_env(node)
        .with_memory_pool(memory_pool(memory_bytes))
        .build_arc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::execution::memory_pool::MemoryConsumer;

    #[test]
    fn a_query_cannot_take_more_than_its_grant() {
        let dir = tempfile::tempdir().unwrap();
        let limits = MemoryLimits {
            memory_bytes: 1 << 20,
            spill_dir: dir.path().to_owned(),
            spill_bytes_max: 1 << 20,
        };
        let node = runtime_env(&limits).unwrap();
        let query = query_runtime_env(&node, 1000).unwrap();
        let reservation = MemoryConsumer::new("test").register(&query.memory_pool);
        reservation.try_grow(1000).unwrap();
        let error = reservation.try_grow(1).unwrap_err().to_string();
        assert!(error.contains("Resources exhausted"), "{error}");
        assert!(Arc::ptr_eq(&node.disk_manager, &query.disk_manager));
    }
}
