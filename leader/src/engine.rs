//! What all sessions of the server share: catalog and transactions, the compute nodes, the planner,
//! and the threads that queries run on.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::future::Future;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use compute::exchange::NodeChannels;
use compute::layout::Layout;
use compute::memory::{MemoryLimits, runtime_env};
use compute::object_storage::ObjectStorage;
use compute::{Node, SliceTable, TableVersion};
use datafusion::common::runtime::JoinSet;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use storage::ids::{SegmentId, TableId};
use storage::io::RealIo;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::authentication::ScramVerifier;
use crate::catalog::log::CatalogLog;
use crate::catalog::{Change, DistributionStyle, SchemaEntry, TableColumn, TableEntry, UserEntry};
use crate::cluster::{CatchUp, Cluster, ClusterFiles, Known, NodeSet, NodeSetParts, Wanted, epoch};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::planner::{Planner, panic_text};
use crate::session::temporary::drop_leftovers;
use crate::transaction::manager::{CatalogCopies, TransactionManager};
use crate::vacuum::automatic;

/// The superuser of a new cluster.
pub const SUPERUSER: &str = "awsuser";
/// The database of a new cluster.
pub const DATABASE: &str = "dev";
/// The schema that everybody may create in.
const PUBLIC: &str = "public";

/// The shared parts of a running server.
pub struct Engine {
    /// What the operator chose.
    pub config: Config,
    /// Snapshots and commits.
    pub transactions: Arc<TransactionManager>,
    /// The compute nodes.
    pub cluster: Cluster,
    /// What COPY may reach.
    pub object_storage: ObjectStorage,
    /// Plans statements.
    pub planner: Planner,
    /// Where CPU-bound query work runs; apart from the connections', so that a busy query never
    /// delays a cancel. Always there until the engine goes.
    query_runtime: Option<Runtime>,
    /// What goes on beside the sessions.
    background: Mutex<JoinSet<()>>,
    /// Held by the one VACUUM that runs.
    vacuum: tokio::sync::Mutex<()>,
    /// The scan side of tables seen lately.
    tables: Mutex<HashMap<TableId, (Weak<TableEntry>, Arc<SliceTable>)>>,
    /// Held as long as the server runs: two servers never share a data directory.
    _lock: File,
}

impl Engine {
    /// Opens the data directory, making it at first start, and removes what a crash left.
    pub fn open(config: Config) -> Result<Self> {
        fs::create_dir_all(&config.data_dir).map_err(|e| io(&config.data_dir, e))?;
        let lock = lock_directory(&config.data_dir)?;
        let mut log = CatalogLog::open(&config.catalog_path())?;
        // What nodes must have is asked when they are watched, and then the manager is there.
        let manager = Arc::new(OnceLock::<Arc<TransactionManager>>::new());
        let known: Known = {
            let manager = Arc::clone(&manager);
            // Without an answer all files of the nodes would be taken for orphans.
            Arc::new(move || wanted(manager.get().expect("nodes are watched by then")))
        };
        let cluster = if config.file.cluster.nodes.is_empty() {
            Cluster::Alone(open_node(&config)?)
        } else {
            Cluster::Nodes(connect_nodes(&config, &mut log, known)?)
        };
        let files = Arc::new(ClusterFiles(cluster.clone()));
        let copies: Option<Arc<dyn CatalogCopies>> = match &cluster {
            Cluster::Alone(_) => None,
            Cluster::Nodes(nodes) => Some(Arc::clone(nodes) as _),
        };
        let transactions = Arc::new(TransactionManager::new(log, files, copies)?);
        manager.get_or_init(|| Arc::clone(&transactions));
        match &cluster {
            Cluster::Alone(node) => sweep_orphans(node, &wanted(&transactions))?,
            Cluster::Nodes(nodes) => {
                let manager = Arc::clone(&transactions);
                let catch_up: CatchUp = Arc::new(move || manager.catch_up_copies());
                nodes.watch(&catch_up, &Handle::current());
            }
        }
        let object_storage = ObjectStorage::new(config.file.object_store.clone(), std::env::vars())
            .map_err(|e| Error::Config(e.to_string()))?
            .with_io_runtime(Handle::current());
        let planner = match &cluster {
            Cluster::Alone(node) => Planner::for_node(node.slices(), node.runtime_env()),
            Cluster::Nodes(nodes) => {
                Planner::for_nodes(nodes.nodes().clone(), nodes.runtime_env())?
            }
        };
        let query_runtime = Builder::new_multi_thread()
            .worker_threads(cluster.layout().slices_per_node())
            .thread_name("query")
            .enable_all()
            .build()
            .map_err(|source| Error::Io { action: "start the query threads".into(), source })?;
        Ok(Self {
            config,
            transactions,
            cluster,
            object_storage,
            planner,
            query_runtime: Some(query_runtime),
            background: Mutex::new(JoinSet::new()),
            vacuum: tokio::sync::Mutex::default(),
            tables: Mutex::default(),
            _lock: lock,
        })
    }

    /// Makes the database and its superuser at first start, and ends what a crash has left of
    /// sessions.
    pub async fn bootstrap(&self) -> Result<()> {
        drop_leftovers(self).await?;
        if self.transactions.snapshot().user(SUPERUSER).is_some() {
            return Ok(());
        }
        let password = match &self.config.initial_password {
            Some(password) => password.clone(),
            None => self.generate_password()?,
        };
        let mut transaction = self.transactions.begin(false);
        transaction.change(Change::PutUser(UserEntry {
            oid: self.transactions.new_oid(),
            name: SUPERUSER.to_owned(),
            verifier: verifier(&password)?.to_string(),
            superuser: true,
        }))?;
        transaction.change(Change::CreateSchema(SchemaEntry {
            oid: self.transactions.new_oid(),
            name: PUBLIC.to_owned(),
            owner: SUPERUSER.to_owned(),
        }))?;
        transaction.commit().await
    }

    /// A random password, kept in a file that only the operator can read.
    fn generate_password(&self) -> Result<String> {
        let path = self.config.data_dir.join("initial-password");
        let password = generate_password()?;
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                writeln!(file, "{password}")?;
                file.sync_all()
            });
        written.map_err(|e| io(&self.config.data_dir, e))?;
        tracing::info!(user = SUPERUSER, path = %path.display(), "generated the initial password");
        Ok(password)
    }

    /// The scan side of a table as of a snapshot. The same entry gives the same object, so that
    /// statistics are merged once.
    pub fn slice_table(&self, entry: &Arc<TableEntry>) -> Arc<SliceTable> {
        if let Some((known, table)) = self.tables.lock().get(&entry.id)
            && known.upgrade().is_some_and(|known| Arc::ptr_eq(&known, entry))
        {
            return Arc::clone(table);
        }
        let version = Arc::new(self.table_version(entry));
        let table = SliceTable::new(version, self.cluster.home());
        self.forget_old_tables();
        self.tables.lock().insert(entry.id, (Arc::downgrade(entry), Arc::clone(&table)));
        table
    }

    /// Begins what goes on beside the sessions, as the configuration wants it.
    pub fn start_maintenance(self: &Arc<Self>) {
        if self.config.file.maintenance.automatic_vacuum {
            self.background.lock().spawn(automatic::run(Arc::downgrade(self)));
        }
    }

    /// Whether a query is running.
    pub fn runs_queries(&self) -> bool {
        self.query_handle().metrics().num_alive_tasks() > 0
    }

    /// Waits until no other VACUUM runs.
    pub async fn vacuum_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.vacuum.lock().await
    }

    /// The pace of a VACUUM that somebody waits for.
    pub fn always_go_on(&self) -> Arc<dyn Fn() -> bool + Send + Sync> {
        Arc::new(|| true)
    }

    /// Lets go of tables as they were before: they would keep their files.
    pub fn forget_old_tables(&self) {
        self.tables.lock().retain(|_, (known, _)| known.strong_count() > 0);
    }

    /// The scan side of a table whose rows a statement changes: with their ids. A table that every node
    /// has is read once and not by each: its rows are those of the first node's slices then.
    pub fn target_table(&self, entry: &Arc<TableEntry>) -> Arc<SliceTable> {
        let mut version = self.slice_table(entry).version().with_row_ids();
        if entry.distribution == DistributionStyle::All && self.cluster.layout().nodes() > 1 {
            version.distribution = compute::Distribution::Even;
            let first = self.cluster.layout().slices_of(0);
            version.slices[first.end..].iter_mut().for_each(Vec::clear);
        }
        SliceTable::new(Arc::new(version), self.cluster.home())
    }

    /// What the node needs to know of a table.
    pub fn table_version(&self, entry: &TableEntry) -> TableVersion {
        TableVersion {
            table: entry.id,
            name: entry.name.clone(),
            schema: Arc::new(entry.table_schema()),
            arrow_schema: marked_schema(entry),
            distribution: match entry.distribution {
                DistributionStyle::Auto | DistributionStyle::Even => compute::Distribution::Even,
                DistributionStyle::All => compute::Distribution::All,
                DistributionStyle::Key(position) => compute::Distribution::Key(position),
            },
            placement_fingerprint: entry.placement_fingerprint,
            slices: entry.slices.clone(),
            deletions: Arc::clone(&entry.deletions),
        }
    }

    /// Runs work on the query threads. Dropping the future stops it; a panic is an error.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let mut tasks = JoinSet::new();
        tasks.spawn_on(work, &self.query_handle());
        match tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) if error.is_panic() => {
                let payload = error.into_panic();
                Err(Error::Internal(format!("panic: {}", panic_text(&*payload))))
            }
            Some(Err(_)) | None => Err(Error::Canceled),
        }
    }

    /// The query threads.
    pub fn query_handle(&self) -> Handle {
        let runtime = self.query_runtime.as_ref();
        runtime.expect("the query threads live as long as the engine").handle().clone()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // The last owner may be an async task, where a runtime must not be waited for.
        if let Some(runtime) = self.query_runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The schema of the table's rows, in which columns without a blank at the end of any value are
/// marked: those can be compared as they are.
fn marked_schema(entry: &TableEntry) -> SchemaRef {
    let schema = entry.arrow_schema();
    let is_marked =
        |column: &TableColumn| {
            entry.slices.iter().flatten().all(|segment| {
                segment.column(column.id).is_some_and(|known| !known.has_trailing_blank)
            })
        };
    let fields = schema.fields().iter().zip(&entry.columns).map(|(field, column)| {
        if *field.data_type() == DataType::Utf8View && is_marked(column) {
            Arc::new(sql::types::without_blanks(field.as_ref().clone()))
        } else {
            Arc::clone(field)
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn verifier(password: &str) -> Result<ScramVerifier> {
    ScramVerifier::from_password(password, &SystemRandom::new())
        .map_err(|e| Error::Internal(e.to_string()))
}

/// A password of 24 letters and digits.
fn generate_password() -> Result<String> {
    // 32 characters that cannot be taken for one another: every byte chooses one, evenly.
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0; 24];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Internal("the operating system gave no random bytes".into()))?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// The one node of a cluster, in this process.
fn open_node(config: &Config) -> Result<Arc<Node>> {
    let layout = Layout::new(1, config.slices)
        .ok_or_else(|| Error::Config("a node needs at least one slice".into()))?;
    Ok(Node::open(compute::NodeConfig {
        data_dir: config.data_dir.join("node0"),
        io: Arc::new(RealIo),
        layout,
        node: 0,
        memory_bytes: config.query_memory_bytes(),
        cache_bytes: config.cache_bytes(),
        spill_dir: config.file.memory.spill_dir(&config.data_dir.join("node0")),
        spill_bytes_max: config.spill_bytes_max(),
        profile: config.profile(),
    })?)
}

/// The nodes of a cluster of several processes; none is spoken to yet.
fn connect_nodes(config: &Config, log: &mut CatalogLog, known: Known) -> Result<Arc<NodeSet>> {
    let cluster = &config.file.cluster;
    let limits = MemoryLimits {
        memory_bytes: config.query_memory_bytes(),
        spill_dir: config.file.memory.spill_dir(&config.data_dir),
        spill_bytes_max: config.spill_bytes_max(),
    };
    let parts = NodeSetParts {
        layout: cluster.layout()?,
        copies: cluster.copies()?,
        urls: cluster.urls()?,
        channels: NodeChannels::new(cluster.identity()?, Handle::current()),
        epoch: epoch::next(&config.data_dir)?,
        runtime: runtime_env(&limits)?,
        first_segment: SegmentId(log.read()?.1.segment),
        cluster: log.cluster_id()?,
    };
    Ok(NodeSet::new(parts, known))
}

/// What nodes must have: the files of the snapshot, and those that older readers hold. The
/// snapshot comes first: what a commit drops is held before it leaves the snapshot.
fn wanted(transactions: &TransactionManager) -> Wanted {
    let tables = transactions.snapshot().tables().map(Arc::clone).collect();
    Wanted { tables, held: transactions.held_garbage() }
}

/// Removes files of tables that no commit ever made visible.
fn sweep_orphans(node: &Node, wanted: &Wanted) -> Result<()> {
    let mut known: HashMap<TableId, HashSet<SegmentId>> = HashMap::new();
    for table in &wanted.tables {
        let files = table.files().map(|(_, file)| file.number());
        known.entry(table.id).or_default().extend(files);
    }
    // Nothing is written yet: whatever is unknown can go.
    let removed = node.sweep_orphans(&known, SegmentId(u64::MAX))?;
    if removed > 0 {
        tracing::info!(removed, "removed files that no commit made visible");
    }
    Ok(())
}

/// Takes the lock of a data directory; it goes with the process.
pub(crate) fn lock_directory(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("lock");
    let file = File::create(&path).map_err(|e| io(data_dir, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Config(format!(
            "the data directory {} is in use by another server",
            data_dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(io(data_dir, error)),
    }
}

fn io(data_dir: &Path, source: std::io::Error) -> Error {
    let action = format!("use the data directory {}", data_dir.display());
    Error::Io { action, source }
}
