//! Configuration: the command line's choices and the TOML file, parsed once and then passed down.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use compute::object_storage::ObjectStoreConfig;
use serde::Deserialize;

use crate::error::{Error, Result};

/// What a server needs to start. No Debug: it holds secrets.
#[derive(Clone)]
pub struct Config {
    /// Where the catalog, the segments and the initial password live.
    pub data_dir: PathBuf,
    /// The address of the Postgres port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Slices of the single compute node, at least 1.
    pub slices: usize,
    /// The superuser's password at first start; generated when absent.
    pub initial_password: Option<String>,
    /// What the configuration file says.
    pub file: FileConfig,
}

/// The configuration file (TOML). Every part has a default.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// Redshift's parameter group.
    pub parameters: Parameters,
    /// Which object stores COPY may reach.
    pub object_store: ObjectStoreConfig,
    /// TLS for the Postgres port.
    pub tls: TlsConfig,
    /// Memory of the node.
    pub memory: MemoryConfig,
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
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            require_ssl: false,
            statement_timeout: 0,
            max_connections: 500,
            idle_session_timeout: 4 * 3600,
            idle_in_transaction_session_timeout: 6 * 3600,
        }
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
}

impl FileConfig {
    /// Reads the file, or the defaults when no file is given.
    pub fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::Config(format!("cannot read {}: {e}", path.display())))?;
        toml::from_str(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }
}

impl Config {
    /// Where the catalog's SQLite file is.
    pub fn catalog_path(&self) -> PathBuf {
        self.data_dir.join("catalog.sqlite")
    }

    /// How long a client may take to authenticate.
    pub fn authentication_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// The share of the machine's memory that queries may hold.
    pub fn query_memory_bytes(&self) -> usize {
        let bytes = self.file.memory.query_bytes.unwrap_or_else(|| machine_memory_bytes() / 3);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The share of the machine's memory for opened column chunks.
    pub fn cache_bytes(&self) -> usize {
        let bytes = self.file.memory.cache_bytes.unwrap_or_else(|| machine_memory_bytes() / 8);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Disk space that spilling queries may take in all.
    pub fn spill_bytes_max(&self) -> u64 {
        const DEFAULT: u64 = 100 << 30;
        self.file.memory.spill_bytes.unwrap_or(DEFAULT)
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
