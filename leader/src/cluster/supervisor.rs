//! `start --nodes N`: a cluster on this machine. Makes certificates and configurations in the data
//! directory, starts the compute processes, starts them again when they die, and stops them.
//!
//! ```text
//! <data directory>/cluster/authority.pem, node-0.pem, node-0.key, node-0.toml, ...
//! <data directory>/node0, node1, ...                            what the nodes store
//! ```

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use compute::profile::Profile;
use datafusion::common::runtime::JoinSet;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use super::certificates::{self, Files};
use crate::config::{ClusterConfig, Config};
use crate::error::{Error, Result};
use crate::private_file;

/// How soon a process that died is started again, and how late at most.
const RESTART_DELAY: Duration = Duration::from_millis(100);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
/// A process that ran this long had started well.
const STARTED_WELL: Duration = Duration::from_secs(3);
/// How long a process may take to stop.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// The processes of a cluster on this machine.
#[derive(Debug)]
pub struct Supervisor {
    processes: JoinSet<()>,
    stop: CancellationToken,
}

/// Where the nodes listen, and how many slices each has: fixed when the cluster is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    slices_per_node: usize,
    ports: Vec<u16>,
}

impl Shape {
    /// With a checksum, which servers before it pass over.
    fn to_text(&self) -> Result<String> {
        let words = self.words()?;
        let all_but_end = words.strip_suffix('}').unwrap_or(&words);
        Ok(format!("{all_but_end},\"checksum\":\"{:016x}\"}}", xxh3_64(words.as_bytes())))
    }

    fn words(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(format!("shape: {error}")))
    }

    fn parse(text: &str) -> Option<Self> {
        let shape: Self = serde_json::from_str(text).ok()?;
        // Earlier servers wrote no checksum.
        let is_whole =
            [shape.to_text(), shape.words()].into_iter().flatten().any(|own| own == text);
        is_whole.then_some(shape)
    }
}

impl Supervisor {
    /// Starts the nodes. The configuration is completed with what the leader needs to reach them.
    pub fn start(config: &mut Config, nodes: usize) -> Result<Self> {
        let directory = config.data_dir.join("cluster");
        let shape = shape(&directory, nodes, config.slices)?;
        let urls: Vec<String> =
            shape.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let program = std::env::current_exe()
            .map_err(|source| Error::Io { action: "find this program's file".into(), source })?;
        let stop = CancellationToken::new();
        let mut processes = JoinSet::new();
        for node in 0..nodes {
            let files = certificates::make(&directory, &format!("node-{node}"))?;
            let path = directory.join(format!("node-{node}.toml"));
            let text = node_file(config, &shape, &urls, node, &files)?;
            private_file::write(&path, &text).map_err(|source| {
                let action = format!("write {}", path.display());
                Error::Io { action, source }
            })?;
            let process = Process { program: program.clone(), config: path, node };
            processes.spawn(process.keep_running(stop.clone()));
        }
        let files = certificates::make(&directory, "leader")?;
        // What a query may use is counted for each node.
        let query_bytes = config.query_memory_bytes() / shape.ports.len();
        config.file.memory.query_bytes = Some(query_bytes as u64);
        config.file.cluster = ClusterConfig {
            nodes: urls,
            slices_per_node: Some(shape.slices_per_node),
            copies: config.file.cluster.copies,
            authority: Some(files.authority),
            certificate: Some(files.certificate),
            key: Some(files.key),
            ..ClusterConfig::default()
        };
        Ok(Self { processes, stop })
    }

    /// Stops the nodes and waits for them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.processes.join_next().await.is_some() {}
    }
}

/// How many slices each node has of the cluster in this data directory; None if there is none yet.
pub fn slices_made_with(data_dir: &Path, nodes: usize) -> Result<Option<usize>> {
    if nodes > 1 {
        return Ok(shape_made_with(data_dir)?.map(|(_, slices_per_node)| slices_per_node));
    }
    let node = data_dir.join("node0");
    let io = |source| Error::Io { action: format!("look at {}", node.display()), source };
    let entries = match std::fs::read_dir(&node) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    // The last slice is made first: where it is, a first start knew how many there shall be.
    let mut slices = None;
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        let slice = name.to_str().and_then(|name| name.strip_prefix("slice_")?.parse().ok());
        slices = slices.max(slice.map(|slice: usize| slice + 1));
    }
    Ok(slices)
}

/// Nodes and slices of a node of the cluster in this data directory; None if it has no nodes that are
/// processes of their own.
pub(crate) fn shape_made_with(data_dir: &Path) -> Result<Option<(usize, usize)>> {
    let known = known_shape(&data_dir.join("cluster").join(SHAPE_FILE))?;
    Ok(known.map(|shape| (shape.ports.len(), shape.slices_per_node)))
}

/// In which the shape of a cluster is kept.
const SHAPE_FILE: &str = "shape.json";

fn known_shape(path: &Path) -> Result<Option<Shape>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Io { action: format!("use {}", path.display()), source }),
    };
    let shape = std::str::from_utf8(&bytes).ok().and_then(Shape::parse);
    shape.map(Some).ok_or_else(|| {
        let text = "is not the shape of a cluster, or is damaged";
        Error::Config(format!("{} {text}", path.display()))
    })
}

/// The shape of the cluster in this directory; decided when it is made, and then never changed.
fn shape(directory: &Path, nodes: usize, slices: usize) -> Result<Shape> {
    let path = directory.join(SHAPE_FILE);
    let io = |source| Error::Io { action: format!("use {}", path.display()), source };
    if let Some(shape) = known_shape(&path)? {
        if shape.ports.len() != nodes || shape.slices_per_node != slices {
            return Err(Error::Config(format!(
                "the data directory holds a cluster of {} nodes with {} slices each",
                shape.ports.len(),
                shape.slices_per_node
            )));
        }
        return Ok(shape);
    }
    private_file::make_directory(directory).map_err(io)?;
    let shape = Shape { slices_per_node: slices, ports: free_ports(nodes)? };
    private_file::write(&path, &shape.to_text()?).map_err(io)?;
    Ok(shape)
}

/// Ports that nobody listens on now.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let find = |source| Error::Io { action: "find a free port".into(), source };
    // All are held until all are found, so that they differ.
    let listeners = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>().map_err(find)?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect::<std::io::Result<_>>().map_err(find)
}

/// The configuration of a node.
#[derive(Serialize)]
struct NodeFile<'a> {
    data_dir: PathBuf,
    listen: SocketAddr,
    profile: Profile,
    cluster: NodeCluster<'a>,
    memory: NodeMemory<'a>,
}

#[derive(Serialize)]
struct NodeCluster<'a> {
    node: usize,
    nodes: &'a [String],
    slices_per_node: usize,
    authority: &'a Path,
    certificate: &'a Path,
    key: &'a Path,
    common: Option<&'a Path>,
}

#[derive(Serialize)]
struct NodeMemory<'a> {
    query_bytes: u64,
    cache_bytes: u64,
    spill_bytes: u64,
    spill_dir: Option<&'a Path>,
}

fn node_file(
    config: &Config,
    shape: &Shape,
    urls: &[String],
    node: usize,
    files: &Files,
) -> Result<String> {
    // The machine's memory is divided among the nodes; the leader merges little.
    let count = shape.ports.len() as u64;
    let data_dir = config.data_dir.join(format!("node{node}"));
    let file = NodeFile {
        data_dir: std::path::absolute(&data_dir).unwrap_or(data_dir),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, shape.ports[node])),
        profile: config.profile(),
        cluster: NodeCluster {
            node,
            nodes: urls,
            slices_per_node: shape.slices_per_node,
            authority: &files.authority,
            certificate: &files.certificate,
            key: &files.key,
            common: config.file.path.as_deref(),
        },
        memory: NodeMemory {
            query_bytes: config.query_memory_bytes() as u64 / count,
            cache_bytes: config.cache_bytes() as u64 / count,
            spill_bytes: config.spill_bytes_max() / count,
            spill_dir: config.file.memory.spill_dir.as_deref(),
        },
    };
    toml::to_string(&file).map_err(|error| Error::Internal(error.to_string()))
}

/// One compute process.
struct Process {
    program: PathBuf,
    config: PathBuf,
    node: usize,
}

impl Process {
    async fn keep_running(self, stop: CancellationToken) {
        let mut delay = RESTART_DELAY;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let ended = match self.spawn() {
                Ok(child) => self.until_it_ends(child, &stop).await,
                Err(error) => Err(error),
            };
            if stop.is_cancelled() {
                return;
            }
            match ended {
                Ok(status) => tracing::warn!(node = self.node, %status, "a compute process ended"),
                Err(error) => {
                    tracing::error!(node = self.node, %error, "cannot run a compute process");
                }
            }
            let well = started.elapsed() > STARTED_WELL;
            delay = if well { RESTART_DELAY } else { (delay * 2).min(RESTART_DELAY_MAX) };
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .arg("compute")
            .arg("--config")
            .arg(&self.config)
            .arg("--supervised")
            // Held open as long as this process lives: its end stops the node.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }

    async fn until_it_ends(
        &self,
        mut child: Child,
        stop: &CancellationToken,
    ) -> std::io::Result<ExitStatus> {
        let input = child.stdin.take();
        tokio::select! {
            status = child.wait() => return status,
            () = stop.cancelled() => {}
        }
        drop(input);
        match tokio::time::timeout(STOP_WAIT, child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                tracing::warn!(node = self.node, "a compute process does not stop; it is killed");
                child.kill().await?;
                child.wait().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_start_that_failed_has_not_changed_how_many_slices_there_are() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(slices_made_with(data.path(), 1).unwrap(), None);
        let slice = |number: usize| data.path().join(format!("node0/slice_{number}"));
        std::fs::create_dir_all(data.path().join("node0/spill")).unwrap();
        assert_eq!(slices_made_with(data.path(), 1).unwrap(), None);
        // It had made the last one of four.
        std::fs::create_dir(slice(3)).unwrap();
        assert_eq!(slices_made_with(data.path(), 1).unwrap(), Some(4));
        (0..3).for_each(|number| std::fs::create_dir(slice(number)).unwrap());
        assert_eq!(slices_made_with(data.path(), 1).unwrap(), Some(4));
    }

    #[test]
    fn every_flipped_bit_of_a_shape_is_found() {
        let shape = Shape { slices_per_node: 2, ports: vec![40_001, 7, 65_535] };
        let mut bytes = shape.to_text().unwrap().into_bytes();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = std::str::from_utf8(&bytes).ok().and_then(Shape::parse);
            assert_eq!(read, None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(Shape::parse(std::str::from_utf8(&bytes).unwrap()), Some(shape));
        // Of an earlier server.
        let text = r#"{"slices_per_node":4,"ports":[1,2]}"#;
        let shape = Shape { slices_per_node: 4, ports: vec![1, 2] };
        assert_eq!(Shape::parse(text), Some(shape));
    }
}
