//! A server of our own for one run: started as a child process, measured, and always stopped.
//!
//! As a child its peak memory is its own, without the generator's and the endpoint's.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::object_store::{Endpoint, random_text};

/// How long a new cluster may take to become ready.
const READY_WAIT: Duration = Duration::from_secs(120);
/// How long a clean stop may take before the process is killed.
const STOP_WAIT: Duration = Duration::from_secs(30);
/// Lines of the log shown when something failed.
const LOG_LINES_SHOWN: usize = 20;

/// What kind of cluster to start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    pub(crate) nodes: Option<u32>,
    /// Per node.
    pub(crate) slices: Option<u32>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    data_directory: PathBuf,
    log: PathBuf,
    /// As the server announced it, without a password.
    pub(crate) url: String,
    pub(crate) password: String,
    /// Keeps reading standard output, so that the server never blocks on it.
    _drain: JoinSet<()>,
}

impl Server {
    /// Start this very program as a server with its data below `directory`.
    pub(crate) async fn start(
        directory: &Path,
        shape: Shape,
        endpoint: &Endpoint,
    ) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        Self::start_program(&program, directory, shape, endpoint).await
    }

    /// Start `program start ...` and wait until it says that it is ready.
    async fn start_program(
        program: &Path,
        directory: &Path,
        shape: Shape,
        endpoint: &Endpoint,
    ) -> anyhow::Result<Self> {
        let data_directory = directory.join("data");
        let log = directory.join("server.log");
        let password = random_text(24);
        let mut command = Command::new(program);
        command.arg("start").arg("--data-dir").arg(&data_directory);
        command.args(["--listen", "127.0.0.1:0"]);
        for (option, value) in [("--nodes", shape.nodes), ("--slices", shape.slices)] {
            if let Some(value) = value {
                command.arg(option).arg(value.to_string());
            }
        }
        command
            .env("BLUESHIFT_PASSWORD", &password)
            .envs(endpoint.environment())
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .kill_on_drop(true);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("the server has no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let announced = timeout(READY_WAIT, ready_url(&mut lines)).await;
        let mut drain = JoinSet::new();
        drain.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let url = String::new();
        let mut server = Self { child, data_directory, log, url, password, _drain: drain };
        let failure = match announced {
            Ok(Ok(url)) => {
                server.url = url;
                return Ok(server);
            }
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the server was not ready after {READY_WAIT:?}"),
        };
        let failure = server.explain(failure);
        // It may have started node processes, which only it can stop; its status says no more.
        let _ = server.stop().await;
        Err(failure)
    }

    /// Add the end of the server's log to an error.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        with_log(error, &self.log)
    }

    /// Bytes that the server's files occupy on disk.
    pub(crate) fn disk_bytes(&self) -> anyhow::Result<u64> {
        disk_bytes(&self.data_directory)
    }

    /// The largest resident memory so far of the server and its node processes, in bytes.
    pub(crate) fn memory_bytes_peak(&self) -> Option<u64> {
        let server = self.child.id()?;
        let mut total = memory_bytes_peak(server)?;
        for node in children_of(server) {
            total += memory_bytes_peak(node).unwrap_or(0);
        }
        Some(total)
    }

    /// Ask the server to stop and wait for it; kill it if it does not. An unclean end is an error.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // The process is ours and not yet waited for, so the id cannot name another one.
            kill_process(pid, Signal::TERM).context("cannot signal the server")?;
        }
        let Ok(status) = timeout(STOP_WAIT, self.child.wait()).await else {
            self.child.kill().await?;
            bail!("the server did not stop within {STOP_WAIT:?} and was killed");
        };
        let status = status?;
        if status.success() {
            return Ok(());
        }
        Err(self.explain(anyhow::anyhow!("the server ended with {status}")))
    }
}

/// The address on the line `ready: URL`.
async fn ready_url(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<String> {
    while let Some(line) = lines.next_line().await? {
        if let Some(url) = line.strip_prefix("ready: ") {
            return Ok(url.trim().to_owned());
        }
    }
    bail!("the server ended before it was ready")
}

fn with_log(error: anyhow::Error, log: &Path) -> anyhow::Error {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return error;
    }
    let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
    anyhow::anyhow!("{error:#}\nthe server's log ends with:\n  {shown}")
}

/// Bytes that a folder's files occupy, whole file system blocks counted.
fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A file may go away between the listing and here: the server is alive.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes +=
            if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// `VmHWM` of a process, on Linux.
fn memory_bytes_peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// The direct children of a process, on Linux.
fn children_of(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A shell script in the server's place.
    fn program(directory: &Path, text: &str) -> PathBuf {
        let path = directory.join("program");
        let mut file = File::create(&path).unwrap();
        write!(file, "#!/bin/sh\n{text}\n").unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    async fn start(text: &str) -> (tempfile::TempDir, anyhow::Result<Server>) {
        let directory = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::start(directory.path()).await.unwrap();
        let program = program(directory.path(), text);
        let shape = Shape { nodes: Some(2), slices: None };
        let server = Server::start_program(&program, directory.path(), shape, &endpoint).await;
        (directory, server)
    }

    #[tokio::test]
    async fn a_server_is_measured_and_stopped_by_a_signal() {
        let (_directory, server) = start(
            "trap 'exit 0' TERM
             mkdir -p $3; head -c 100000 /dev/zero >$3/file; echo \"$@\" >$3/arguments
             echo noise; echo \"ready: postgres://awsuser@127.0.0.1:1/dev\"
             while :; do sleep 0.05; done",
        )
        .await;
        let server = server.unwrap();
        assert_eq!(server.url, "postgres://awsuser@127.0.0.1:1/dev");
        let arguments = std::fs::read_to_string(server.data_directory.join("arguments")).unwrap();
        assert!(arguments.trim().ends_with("--listen 127.0.0.1:0 --nodes 2"), "{arguments}");
        assert!((100_000..200_000).contains(&server.disk_bytes().unwrap()));
        assert!(server.memory_bytes_peak().unwrap() > 100_000);
        server.stop().await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_fails_shows_its_log() {
        let (_directory, server) = start("echo 'disk on fire' >&2; exit 3").await;
        let message = server.unwrap_err().to_string();
        assert!(message.contains("before it was ready"), "{message}");
        assert!(message.contains("disk on fire"), "{message}");
    }

    #[tokio::test]
    async fn an_unclean_end_is_an_error() {
        let (_directory, server) =
            start("trap 'exit 4' TERM; echo ready: x; while :; do sleep 0.05; done").await;
        assert!(server.unwrap().stop().await.is_err());
    }
}
