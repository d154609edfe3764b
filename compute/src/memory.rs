//! Memory and spill of a node: the pool that every query reserves from, and the disk space that
//! operators may spill to.

use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ExecutionOptions;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

use crate::error::Error;
use crate::grant::GrantPool;
use crate::merge_share::MergeShare;
use crate::peak_memory::PeakMemory;

/// How many of the largest consumers an out-of-memory message names.
const CONSUMERS_REPORTED: NonZeroUsize = NonZeroUsize::new(5).expect("5 is not zero");

/// A directory in the spill directory that only takes up space: the next start removes it before it
/// makes the one that operators spill into, for which there is space then though the disk is full.
const SPARE: &str = "spare";

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

/// A pool of `bytes`, and the part of it that knows its size.
fn memory_pool(bytes: usize) -> (Arc<dyn MemoryPool>, Arc<GrantPool>) {
    let grant = Arc::new(GrantPool::new(bytes));
    let shared = MergeShare::new(Arc::clone(&grant));
    (Arc::new(TrackConsumersPool::new(shared, CONSUMERS_REPORTED)), grant)
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
    let runtime = RuntimeEnvBuilder::new()
        .with_disk_manager_builder(disk)
        .with_memory_pool(memory_pool(limits.memory_bytes).0)
        .build_arc()
        .map_err(Error::Runtime)?;
    // Without it this node starts nevertheless.
    let _ = fs::create_dir(limits.spill_dir.join(SPARE));
    Ok(runtime)
}

/// The memory of one query on one process: its grant from workload management. Spill space and
/// caches are the node's.
#[derive(Debug, Clone)]
pub struct QueryMemory {
    runtime: Arc<RuntimeEnv>,
    grant: Arc<GrantPool>,
    peak: Arc<PeakMemory>,
}

impl QueryMemory {
    /// A grant of `bytes` on the node whose environment this is.
    ///
    /// # Errors
    /// If the environment cannot be made, which would be a defect.
    pub fn new(node: &RuntimeEnv, bytes: usize) -> Result<Self> {
        let (pool, grant) = memory_pool(bytes);
        let granted = RuntimeEnvBuilder::from_runtime_env(node).with_memory_pool(pool).build()?;
        let (runtime, peak) = PeakMemory::measure(&granted)?;
        Ok(Self { runtime, grant, peak })
    }

    /// The environment that operators of the query draw on.
    pub fn runtime_env(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    /// What the query may reserve, bytes.
    pub fn size_bytes(&self) -> usize {
        self.grant.size()
    }

    /// What the query has reserved now, bytes.
    pub fn reserved_bytes(&self) -> usize {
        self.grant.reserved()
    }

    /// The most that it had reserved at one time, bytes.
    pub fn peak_bytes(&self) -> usize {
        self.peak.peak_bytes()
    }

    /// Gives it another size. False, and nothing changes, if more is reserved already.
    pub fn resize(&self, bytes: usize) -> bool {
        self.grant.resize(bytes)
    }
}

/// Fits the options of operators to the memory that they will have.
pub fn configure_memory(config: &mut SessionConfig, memory_bytes: usize) {
    let partitions = config.target_partitions().max(1);
    let execution = &mut config.options_mut().execution;
    // What a sort keeps back for its merge: a part of the share that a merge may have.
    let merge_bytes = memory_bytes / 8 / partitions;
    execution.sort_spill_reservation_bytes =
        merge_bytes.min(ExecutionOptions::default().sort_spill_reservation_bytes);
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
        let memory = QueryMemory::new(&node, 1000).unwrap();
        let query = memory.runtime_env();
        let reservation = MemoryConsumer::new("test").register(&query.memory_pool);
        reservation.try_grow(1000).unwrap();
        let error = reservation.try_grow(1).unwrap_err().to_string();
        assert!(error.contains("Resources exhausted"), "{error}");
        assert_eq!((memory.reserved_bytes(), memory.peak_bytes()), (1000, 1000));
        assert!(Arc::ptr_eq(&node.disk_manager, &query.disk_manager));
    }
}
