//! Configuration: the command line's choices and the TOML file, parsed once and then passed down.

pub use compute::profile::Profile;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use compute::exchange::Identity;
use compute::layout::Layout;
use compute::object_storage::ObjectStoreConfig;
use serde::Deserialize;
use url::Url;

use crate::error::{Error, Result, code};

/// What a server needs to start. No Debug: it holds secrets.
#[derive(Clone)]
pub struct Config {
    /// Where the catalog, the segments and the initial password live.
    pub data_dir: PathBuf,
    /// The address of the Postgres port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Slices of each compute node, at least 1; of each of several at least 2.
    pub slices: usize,
    /// The superuser's password at first start; generated when absent.
    pub initial_password: Option<String>,
    /// First make a lost catalog again from the copies that the nodes have.
    pub restore_catalog: bool,
    /// What the configuration file says.
    pub file: FileConfig,
}

/// The configuration file (TOML). Every part has a default.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// Where a process keeps its files; `start` takes it from the command line.
    pub data_dir: Option<PathBuf>,
    /// The address of the process's port; `start` takes it from the command line.
    pub listen: Option<SocketAddr>,
    /// What kind of machine the nodes are on; `start` takes it from the command line.
    pub profile: Option<Profile>,
    /// Redshift's parameter group.
    pub parameters: Parameters,
    /// Which object stores COPY may reach.
    pub object_store: ObjectStoreConfig,
    /// TLS for the Postgres port.
    pub tls: TlsConfig,
    /// Memory of the node.
    pub memory: MemoryConfig,
    /// What the server does without being asked.
    pub maintenance: MaintenanceConfig,
    /// What nodes do to find damaged files.
    pub integrity: IntegrityConfig,
    /// The nodes of a cluster of several processes.
    pub cluster: ClusterConfig,
    /// The file itself.
    #[serde(skip)]
    pub path: Option<PathBuf>,
}

/// A cluster of several processes. The same on all of them but for `node` and the certificate.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// `host:port` of every compute node, in their order; empty if there is one node, in the
    /// leader's process.
    pub nodes: Vec<String>,
    /// Slices of each node, at least 2.
    pub slices_per_node: Option<usize>,
    /// How many nodes keep each segment, the one that it belongs to included; 2 if absent. The
    /// leader's matters.
    pub copies: Option<usize>,
    /// Which of the nodes this process is, counted from 0; none for the leader.
    pub node: Option<usize>,
    /// PEM: the certificate of the authority that has signed those of all processes.
    pub authority: Option<PathBuf>,
    /// PEM: the certificate of this process.
    pub certificate: Option<PathBuf>,
    /// PEM: its key.
    pub key: Option<PathBuf>,
    /// A configuration file whose `[object_store]` and `[integrity]` are this process's too.
    pub common: Option<PathBuf>,
}

/// What a compute process needs to start.
#[derive(Clone)]
pub struct ComputeConfig {
    /// Where its slices live.
    pub data_dir: PathBuf,
    /// The address of its cluster port.
    pub listen: SocketAddr,
    /// The cluster.
    pub layout: Layout,
    /// Which node it is.
    pub node: usize,
    /// Its certificate.
    pub identity: Identity,
    /// Memory for queries and loads, bytes.
    pub memory_bytes: usize,
    /// Memory for column chunks, bytes.
    pub cache_bytes: usize,
    /// Where queries spill.
    pub spill_dir: PathBuf,
    /// Disk space for spilling, bytes.
    pub spill_bytes_max: u64,
    /// What kind of machine it is on.
    pub profile: Profile,
    /// What loads may reach.
    pub object_store: ObjectStoreConfig,
    /// What it does to find damaged files.
    pub integrity: compute::integrity::IntegrityConfig,
    /// Whether it ends with the process that has started it.
    pub supervised: bool,
}

impl ClusterConfig {
    /// The shape of the cluster.
    pub fn layout(&self) -> Result<Layout> {
        const SLICES: usize = 2;
        let slices = self.slices_per_node.unwrap_or(SLICES);
        if self.nodes.len() < 2 || slices < 2 {
            let text = "a cluster has at least 2 nodes with at least 2 slices each";
            return Err(Error::Config(text.into()));
        }
        Layout::new(self.nodes.len(), slices)
            .ok_or_else(|| Error::Config("the cluster has no slices".into()))
    }

    /// How many nodes keep each segment.
    pub fn copies(&self) -> Result<usize> {
        const COPIES: usize = 2;
        let (copies, nodes) = (self.copies.unwrap_or(COPIES), self.nodes.len());
        if copies == 0 || copies > nodes {
            let text = format!("a cluster of {nodes} nodes cannot keep {copies} copies");
            return Err(Error::Config(text));
        }
        Ok(copies)
    }

    /// The addresses of the nodes.
    pub fn urls(&self) -> Result<Vec<Url>> {
        let url = |node: &String| {
            Url::parse(&format!("https://{node}"))
                .map_err(|error| Error::Config(format!("the node address \"{node}\": {error}")))
        };
        self.nodes.iter().map(url).collect()
    }

    /// This process's certificate.
    pub fn identity(&self) -> Result<Identity> {
        match (&self.authority, &self.certificate, &self.key) {
            (Some(authority), Some(certificate), Some(key)) => {
                Ok(Identity::read(authority, certificate, key)?)
            }
            _ => Err(Error::Config(
                "[cluster] needs authority, certificate and key; `blueshift cert` makes them"
                    .into(),
            )),
        }
    }
}

impl ComputeConfig {
    /// What the file says.
    pub fn new(file: FileConfig, supervised: bool) -> Result<Self> {
        let needs = |what: &str| Error::Config(format!("a compute node needs {what}"));
        let layout = file.cluster.layout()?;
        let (object_store, integrity) = match &file.cluster.common {
            Some(path) => {
                let common = FileConfig::read(Some(path))?;
                (common.object_store, common.integrity)
            }
            None => (file.object_store, file.integrity),
        };
        let data_dir = file.data_dir.ok_or_else(|| needs("data_dir"))?;
        let profile = file.profile.unwrap_or_default();
        Ok(Self {
            spill_dir: file.memory.spill_dir(&data_dir),
            data_dir,
            profile,
            listen: file.listen.ok_or_else(|| needs("listen"))?,
            layout,
            node: file.cluster.node.ok_or_else(|| needs("[cluster] node"))?,
            identity: file.cluster.identity()?,
            memory_bytes: file.memory.query_bytes(profile),
            cache_bytes: file.memory.cache_bytes(profile),
            spill_bytes_max: file.memory.spill_bytes(),
            object_store,
            integrity: integrity.for_nodes()?,
            supervised,
        })
    }
}

/// The cluster-wide parameters that exist now.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Parameters {
    /// Refuse connections without TLS.
    pub require_ssl: bool,
    /// Default of the session parameter, milliseconds; 0 is none.
    pub statement_timeout: u64,
    /// Connections at once.
    pub max_connections: usize,
    /// Close a session that idles longer, seconds; 0 is never.
    pub idle_session_timeout: u64,
    /// Close a session that idles in a transaction longer, seconds; 0 is never.
    pub idle_in_transaction_session_timeout: u64,
    /// Queues, slots and rules of workload management; none is one queue of five slots.
    pub wlm_json_configuration: Option<String>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            require_ssl: false,
            statement_timeout: 0,
            max_connections: 500,
            idle_session_timeout: 4 * 3600,
            idle_in_transaction_session_timeout: 6 * 3600,
            wlm_json_configuration: None,
        }
    }
}

impl Parameters {
    /// Takes the value that ALTER SYSTEM gives to a parameter.
    ///
    /// # Errors
    /// If there is no such parameter or it cannot have that value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let invalid = || {
            let message = format!("invalid value for parameter \"{name}\": \"{value}\"");
            Error::statement(code::INVALID_PARAMETER_VALUE, message)
        };
        let number = || value.trim().parse::<u64>().map_err(|_| invalid());
        match name {
            "require_ssl" => {
                self.require_ssl = match value.trim().to_ascii_lowercase().as_str() {
                    "on" | "true" | "1" => true,
                    "off" | "false" | "0" => false,
                    _ => return Err(invalid()),
                };
            }
            "statement_timeout" => self.statement_timeout = number()?,
            "max_connections" => {
                let connections = usize::try_from(number()?).map_err(|_| invalid())?;
                if connections == 0 {
                    return Err(invalid());
                }
                self.max_connections = connections;
            }
            "idle_session_timeout" => self.idle_session_timeout = number()?,
            "idle_in_transaction_session_timeout" => {
                self.idle_in_transaction_session_timeout = number()?;
            }
            "wlm_json_configuration" => self.wlm_json_configuration = Some(value.to_owned()),
            _ => {
                let message = format!("unrecognized configuration parameter \"{name}\"");
                return Err(Error::statement(code::UNDEFINED_OBJECT, message));
            }
        }
        Ok(())
    }
}

/// PEM files of the server's certificate; both or none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain.
    pub certificate: Option<PathBuf>,
    /// The private key.
    pub key: Option<PathBuf>,
}

/// What the server does without being asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaintenanceConfig {
    /// VACUUM tables with many deleted rows, many small segments, or many rows out of the order of
    /// the sort key, when there is time.
    pub automatic_vacuum: bool,
    /// How often tables are looked at; one second at least.
    pub interval_seconds: u64,
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self { automatic_vacuum: true, interval_seconds: 20 }
    }
}

/// What nodes do to find damaged files.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntegrityConfig {
    /// How fast the scrubber of a node reads, bytes; 0 is no scrubber.
    pub scrub_bytes_per_second: Option<u64>,
    /// From the end of one pass of the scrubber to the next.
    pub scrub_interval_seconds: Option<u64>,
    /// Of a hundred files that are written, how many are read back before they count.
    pub verify_writes_percent: Option<u8>,
}

impl IntegrityConfig {
    /// With the defaults of nodes for what is absent.
    pub fn for_nodes(self) -> Result<compute::integrity::IntegrityConfig> {
        let defaults = compute::integrity::IntegrityConfig::default();
        let percent = self.verify_writes_percent.unwrap_or(defaults.verify_writes_percent);
        if percent > 100 {
            let text = format!("[integrity] verify_writes_percent = {percent} is more than 100");
            return Err(Error::Config(text));
        }
        let interval =
            self.scrub_interval_seconds.map(|seconds| Duration::from_secs(seconds.max(1)));
        Ok(compute::integrity::IntegrityConfig {
            scrub_bytes_per_second: match self.scrub_bytes_per_second {
                Some(bytes) => NonZeroU64::new(bytes),
                None => defaults.scrub_bytes_per_second,
            },
            scrub_interval: interval.unwrap_or(defaults.scrub_interval),
            verify_writes_percent: percent,
        })
    }
}

/// Memory of the node, bytes; absent values are derived from the machine.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemoryConfig {
    /// What all queries together may hold.
    pub query_bytes: Option<u64>,
    /// Opened column chunks kept between queries.
    pub cache_bytes: Option<u64>,
    /// Disk space that spilling queries may take.
    pub spill_bytes: Option<u64>,
    /// Where they do, in a folder of the process's own; absent, in the data directory.
    pub spill_dir: Option<PathBuf>,
}

impl FileConfig {
    /// Reads the file, or the defaults when no file is given.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Config(format!("cannot read {}: {e}", path.display())))?;
        let mut file: Self =
            toml::from_str(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
        file.path = Some(path.to_owned());
        Ok(file)
    }
}

impl MemoryConfig {
    /// Where a process with this data directory spills: a folder that is only its own, since it is
    /// emptied at every start.
    pub fn spill_dir(&self, data_dir: &Path) -> PathBuf {
        let Some(elsewhere) = &self.spill_dir else { return data_dir.join("spill") };
        let whose = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
        let whose = whose.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "-");
        elsewhere.join(format!("blueshift-spill{whose}"))
    }

    /// The share of the machine's memory that queries may hold.
    fn query_bytes(&self, profile: Profile) -> usize {
        let bytes = self.query_bytes;
        let bytes = bytes.unwrap_or_else(|| profile.query_bytes(machine_memory_bytes()));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The share of the machine's memory for opened column chunks.
    fn cache_bytes(&self, profile: Profile) -> usize {
        let bytes = self.cache_bytes;
        let bytes = bytes.unwrap_or_else(|| profile.cache_bytes(machine_memory_bytes()));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Disk space that spilling queries may take in all.
    fn spill_bytes(&self) -> u64 {
        const DEFAULT: u64 = 100 << 30;
        self.spill_bytes.unwrap_or(DEFAULT)
    }
}

impl Config {
    /// Where the catalog's SQLite file is.
    pub fn catalog_path(&self) -> PathBuf {
        self.data_dir.join("catalog.sqlite")
    }

    /// What kind of machine the nodes are on.
    pub fn profile(&self) -> Profile {
        self.file.profile.unwrap_or_default()
    }

    /// How long a client may take to authenticate.
    pub fn authentication_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// The share of the machine's memory that queries may hold.
    pub fn query_memory_bytes(&self) -> usize {
        self.file.memory.query_bytes(self.profile())
    }

    /// The share of the machine's memory for opened column chunks.
    pub fn cache_bytes(&self) -> usize {
        self.file.memory.cache_bytes(self.profile())
    }

    /// Disk space that spilling queries may take in all.
    pub fn spill_bytes_max(&self) -> u64 {
        self.file.memory.spill_bytes()
    }
}

/// Physical memory, or 8 GiB where it cannot be read.
fn machine_memory_bytes() -> u64 {
    const FALLBACK: u64 = 8 << 30;
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return FALLBACK };
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok())
        .map_or(FALLBACK, |kilobytes| kilobytes * 1024)
}
