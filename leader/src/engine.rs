//! What all sessions of the server share: catalog and transactions, the compute nodes, the planner,
//! and the threads that queries run on.

use std::collections::{HashMap, HashSet};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use chrono::Utc;
use compute::exchange::NodeChannels;
use compute::integrity::ClockUs;
use compute::layout::Layout;
use compute::memory::{MemoryLimits, runtime_env};
use compute::object_storage::ObjectStorage;
use compute::query_threads::QueryThreads;
use compute::scrub::scrub;
use compute::{Deletions, Node, SliceTable, TableVersion};
use datafusion::common::runtime::JoinSet;
use faults::{Defect, Place};
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use storage::ids::{SegmentId, TableId};
use storage::io::RealIo;
use tokio::runtime::Handle;

use crate::activity::Activity;
use crate::authentication::ScramVerifier;
use crate::catalog::log::CatalogLog;
use crate::catalog::{Change, DistributionStyle, SchemaEntry, TableColumn, TableEntry, UserEntry};
use crate::cluster::{CatchUp, Cluster, ClusterFiles, Known, NodeSet, NodeSetParts, Wanted, epoch};
use crate::config::{Config, Parameters};
use crate::error::{Error, Result};
use crate::pgwire::registry::Registry;
use crate::planner::Planner;
use crate::private_file;
use crate::session::Clock;
use crate::session::temporary::drop_leftovers;
use crate::transaction::Start;
use crate::transaction::conflicts::ConflictLog;
use crate::transaction::isolation::DATABASE_ISOLATION;
use crate::transaction::manager::{CatalogCopies, Derived, TransactionManager};
use crate::vacuum::automatic;
use crate::workload::{CONFIGURATION, Workload};

/// The superuser of a new cluster.
pub const SUPERUSER: &str = "awsuser";
/// The database of a new cluster.
pub const DATABASE: &str = "dev";
/// The schema that everybody may create in.
pub(crate) const PUBLIC: &str = "public";

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
    /// The time.
    pub clock: Clock,
    /// Which connections there are, and how to reach into them.
    pub registry: Arc<Registry>,
    /// Who is connected, and what they run.
    pub activity: Arc<Activity>,
    /// Which transactions have lost against others.
    pub conflicts: ConflictLog,
    /// Which query runs now, and with how much memory.
    pub workload: Arc<Workload>,
    /// Plans statements.
    pub planner: Planner,
    /// Where query work runs.
    pub query_threads: QueryThreads,
    /// What goes on beside the sessions.
    background: Mutex<JoinSet<()>>,
    /// Held by the one VACUUM that runs.
    vacuum: tokio::sync::Mutex<()>,
    /// The scan side of tables seen lately.
    tables: Arc<SliceTables>,
    /// Held as long as the server runs: two servers never share a data directory.
    _lock: File,
}

/// The scan side of tables seen lately, each with what it was made of.
#[derive(Debug, Default)]
struct SliceTables(Mutex<HashMap<TableId, (Weak<TableEntry>, Arc<SliceTable>)>>);

impl Derived for Arc<SliceTables> {
    fn forget_old(&self) {
        self.0.lock().retain(|_, (known, _)| known.strong_count() > 0);
    }
}

impl Engine {
    /// Opens the data directory, making it at first start, and removes what a crash left.
    pub fn open(config: Config) -> Result<Self> {
        private_file::make_directory(&config.data_dir).map_err(|e| io(&config.data_dir, e))?;
        let lock = lock_directory(&config.data_dir)?;
        let clock: Clock = Arc::new(Utc::now);
        let mut log = CatalogLog::mend_and_open(&config.catalog_path())?;
        check_shape(&config, &mut log)?;
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
        let transactions =
            Arc::new(TransactionManager::new(log, files, copies, Arc::clone(&clock))?);
        let tables = Arc::<SliceTables>::default();
        transactions.tell_of_commits(Box::new(Arc::clone(&tables)));
        manager.get_or_init(|| Arc::clone(&transactions));
        match &cluster {
            Cluster::Alone(node) => {
                faults::point(Place::StartRead);
                sweep_orphans(node, &wanted(&transactions))?;
                faults::point(Place::StartSwept);
            }
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
        let query_threads = QueryThreads::start(cluster.layout().slices_per_node())
            .map_err(|source| Error::Io { action: "start the query threads".into(), source })?;
        let workload = open_workload(&config, &transactions, &cluster, &clock)?;
        workload.watch(&Handle::current());
        Ok(Self {
            config,
            transactions,
            cluster,
            object_storage,
            activity: Activity::new(Arc::clone(&clock)),
            conflicts: ConflictLog::default(),
            clock,
            registry: Arc::default(),
            workload,
            planner,
            query_threads,
            background: Mutex::new(JoinSet::new()),
            vacuum: tokio::sync::Mutex::default(),
            tables,
            _lock: lock,
        })
    }

    /// The cluster's parameters: what the configuration file says, and above it ALTER SYSTEM.
    pub fn parameters(&self) -> Parameters {
        parameters(&self.config, &self.transactions)
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
        let mut transaction = self.transactions.begin(Start::default());
        transaction.change(Change::PutUser(
            UserEntry {
                oid: self.transactions.new_oid(),
                name: SUPERUSER.to_owned(),
                verifier: Some(verifier(&password)?),
                superuser: true,
                ..UserEntry::default()
            },
            None,
        ))?;
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
        private_file::write(&path, &format!("{password}\n"))
            .map_err(|e| io(&self.config.data_dir, e))?;
        tracing::info!(user = SUPERUSER, path = %path.display(), "generated the initial password");
        Ok(password)
    }

    /// The scan side of a table as of a snapshot. The same entry gives the same object, so that
    /// statistics are merged once.
    pub fn slice_table(&self, entry: &Arc<TableEntry>) -> Arc<SliceTable> {
        if let Some((known, table)) = self.tables.0.lock().get(&entry.id)
            && known.upgrade().is_some_and(|known| Arc::ptr_eq(&known, entry))
        {
            return Arc::clone(table);
        }
        let version = Arc::new(self.table_version(entry));
        let table = SliceTable::new(version, self.cluster.home());
        let made = (Arc::downgrade(entry), Arc::clone(&table));
        self.tables.0.lock().insert(entry.id, made);
        table
    }

    /// Begins what goes on beside the sessions, as the configuration wants it.
    pub fn start_maintenance(self: &Arc<Self>) {
        if self.config.file.maintenance.automatic_vacuum {
            self.background.lock().spawn(automatic::run(Arc::downgrade(self)));
        }
        // Nodes that are processes of their own have scrubbers of their own.
        if let Cluster::Alone(node) = &self.cluster {
            let clock = Arc::clone(&self.clock);
            let clock_us: ClockUs = Arc::new(move || clock().timestamp_micros());
            self.background.lock().spawn(scrub(Arc::clone(node), clock_us));
        }
    }

    /// Keeps VACUUM away, unless one runs.
    pub fn try_vacuum_turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.vacuum.try_lock().ok()
    }

    /// Waits until no other VACUUM runs.
    pub async fn vacuum_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.vacuum.lock().await
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

    /// What the node needs to know of a table that it reads.
    pub fn table_version(&self, entry: &TableEntry) -> TableVersion {
        TableVersion {
            arrow_schema: marked_schema(entry),
            slices: entry
                .slices
                .iter()
                .map(|slice| slice.iter().map(Arc::clone).collect())
                .collect(),
            deletions: Arc::clone(&entry.deletions),
            ..self.write_version(entry)
        }
    }

    /// What the node needs to know of a table to which it writes rows: not which ones it has, however
    /// many segments these are in.
    pub fn write_version(&self, entry: &TableEntry) -> TableVersion {
        TableVersion {
            table: entry.id,
            name: entry.name.clone(),
            schema: Arc::new(entry.table_schema()),
            arrow_schema: entry.arrow_schema(),
            distribution: match entry.distribution {
                DistributionStyle::Even => compute::Distribution::Even,
                DistributionStyle::All => compute::Distribution::All,
                DistributionStyle::Key(position) => compute::Distribution::Key(position),
            },
            placement_fingerprint: entry.placement_fingerprint,
            slices: vec![Vec::new(); entry.slices.len()],
            deletions: Deletions::default(),
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

/// The verifier of a password, in its text form.
pub fn verifier(password: &str) -> Result<String> {
    ScramVerifier::from_password(password, &SystemRandom::new())
        .map(|verifier| verifier.to_string())
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

fn parameters(config: &Config, transactions: &TransactionManager) -> Parameters {
    let mut parameters = config.file.parameters.clone();
    for (name, value) in transactions.snapshot().parameters() {
        // That of the database is no parameter of the server.
        if name == DATABASE_ISOLATION {
            continue;
        }
        // Values were checked before they were kept.
        if let Err(error) = parameters.set(name, value) {
            tracing::warn!(name, %error, "a parameter of ALTER SYSTEM is ignored");
        }
    }
    parameters
}

/// Workload management as configured.
///
/// # Errors
/// If the configuration file is wrong. What ALTER SYSTEM has set was right when it was set; should it
/// not be so any more, for want of memory, automatic workload management takes its place.
fn open_workload(
    config: &Config,
    transactions: &TransactionManager,
    cluster: &Cluster,
    clock: &Clock,
) -> Result<Arc<Workload>> {
    let open = |wlm: wlm::Config| {
        let (nodes, memory_bytes) = (cluster.layout().nodes(), config.query_memory_bytes());
        Workload::new(wlm, nodes, memory_bytes, cluster.runtime_env(), Arc::clone(clock))
    };
    let parse = |json: &str| match wlm::Config::parse(json) {
        Ok(parsed) => {
            for notice in parsed.notices {
                tracing::info!(%notice, "{CONFIGURATION}");
            }
            Ok(parsed.config)
        }
        Err(error) => Err(Error::Config(format!("{CONFIGURATION}: {error}"))),
    };
    let snapshot = transactions.snapshot();
    if let Some(json) = snapshot.parameters().get(CONFIGURATION) {
        return match parse(json).and_then(open) {
            Ok(workload) => Ok(workload),
            Err(error) => {
                tracing::warn!(%error, "workload management is automatic");
                open(wlm::Config::automatic())
            }
        };
    }
    match &config.file.parameters.wlm_json_configuration {
        Some(json) => open(parse(json)?),
        None => open(wlm::Config::classic()),
    }
}

/// Rows were placed for a number of nodes and slices: with others they would not be found.
fn check_shape(config: &Config, log: &mut CatalogLog) -> Result<()> {
    let asked = match config.file.cluster.nodes.is_empty() {
        true => (1, config.slices),
        false => {
            let layout = config.file.cluster.layout()?;
            (layout.nodes(), layout.slices_per_node())
        }
    };
    let made_with = log.shape(asked.0, asked.1)?;
    if made_with == asked {
        return Ok(());
    }
    Err(Error::Config(format!(
        "the data directory {} was made with {} nodes of {} slices, not {} of {}",
        config.data_dir.display(),
        made_with.0,
        made_with.1,
        asked.0,
        asked.1
    )))
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
        integrity: config.file.integrity.for_nodes()?,
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
        catalog_number: log.number()?,
        query_bytes: limits.memory_bytes,
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
    if faults::planted(Defect::SweepNeeded) {
        let newest = known.values_mut().max_by_key(|files| files.iter().map(|id| id.0).max());
        newest.into_iter().for_each(HashSet::clear);
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
