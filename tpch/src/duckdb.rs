//! DuckDB as the yardstick: a Python child process with native tables over the same files.
//!
//! The script reads one JSON request per line and answers with one. Where Python cannot import
//! `duckdb`, a virtual environment in the user's cache directory gets it from PyPI.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::check::{Answer, Row};
use crate::generate::Dataset;

const SCRIPT: &str = include_str!("duckdb_peer.py");

/// A running DuckDB; the process ends when this is dropped.
#[derive(Debug)]
pub(crate) struct DuckDb {
    /// Of the library.
    pub(crate) version: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

/// What loading cost.
#[derive(Debug, Deserialize)]
pub(crate) struct Loaded {
    pub(crate) milliseconds: f64,
    rows: Vec<u64>,
    /// Size of the database file.
    pub(crate) bytes: u64,
}

/// One run of a query.
#[derive(Debug, Deserialize)]
pub(crate) struct Run {
    pub(crate) milliseconds: f64,
    /// With [`Self::columns`] only when asked for.
    #[serde(default)]
    rows: Vec<Row>,
    #[serde(default)]
    columns: Vec<(String, String)>,
}

impl DuckDb {
    /// Start with a new database file in `directory` and as many threads as given.
    pub(crate) async fn start(directory: &Path, threads: usize) -> anyhow::Result<Self> {
        let python = python_with_duckdb().await?;
        let script = directory.join("duckdb_peer.py");
        tokio::fs::write(&script, SCRIPT).await?;
        let mut child = Command::new(&python)
            .arg(&script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let input = child.stdin.take().context("the child has no standard input")?;
        let output = child.stdout.take().context("the child has no standard output")?;
        let output = BufReader::new(output).lines();
        let mut peer = Self { version: String::new(), input, output, _child: child };
        let path = directory.join("comparison.duckdb");
        let opened: Value =
            peer.ask(&json!({ "action": "open", "path": path, "threads": threads })).await?;
        peer.version = opened["version"].as_str().unwrap_or_default().to_owned();
        Ok(peer)
    }

    /// Make tables of the data and check their sizes.
    pub(crate) async fn load(&mut self, data: &Dataset) -> anyhow::Result<Loaded> {
        let tables: Vec<&str> = data.rows.iter().map(|(table, _)| *table).collect();
        let request = json!({ "action": "load", "directory": data.directory, "tables": tables });
        let loaded: Loaded = self.ask(&request).await?;
        let expected = data.rows.iter().map(|(_, rows)| *rows);
        ensure!(loaded.rows.iter().copied().eq(expected), "DuckDB loaded {:?} rows", loaded.rows);
        Ok(loaded)
    }

    /// Run a query once for its time.
    pub(crate) async fn run(&mut self, sql: &str) -> anyhow::Result<Run> {
        self.ask(&json!({ "action": "query", "sql": sql, "answer": false })).await
    }

    /// Run a query once for its time and its answer.
    pub(crate) async fn answer(&mut self, sql: &str) -> anyhow::Result<(Run, Answer)> {
        let request = json!({ "action": "query", "sql": sql, "answer": true });
        let mut run: Run = self.ask(&request).await?;
        let columns = std::mem::take(&mut run.columns);
        let rows = std::mem::take(&mut run.rows);
        Ok((run, Answer::new(columns, rows)?))
    }

    async fn ask<T: DeserializeOwned>(&mut self, request: &Value) -> anyhow::Result<T> {
        self.input.write_all(format!("{request}\n").as_bytes()).await?;
        let line = self.output.next_line().await?.context("the DuckDB process ended")?;
        let answer: Value = serde_json::from_str(&line).context("DuckDB's answer is not JSON")?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("DuckDB: {error}");
        }
        Ok(serde_json::from_value(answer)?)
    }
}

/// A Python that can import `duckdb`, made if there is none.
async fn python_with_duckdb() -> anyhow::Result<PathBuf> {
    let system = PathBuf::from("python3");
    if imports_duckdb(&system).await {
        return Ok(system);
    }
    let environment = cache_directory()?.join("duckdb-venv");
    let python = environment.join("bin").join("python");
    if imports_duckdb(&python).await {
        return Ok(python);
    }
    let made = Command::new(&system).args(["-m", "venv"]).arg(&environment).output().await;
    succeeded("python3 -m venv", made)?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "duckdb"];
    succeeded("pip install duckdb", Command::new(&python).args(install).output().await)?;
    ensure!(imports_duckdb(&python).await, "duckdb is installed but cannot be imported");
    Ok(python)
}

async fn imports_duckdb(python: &Path) -> bool {
    let check = Command::new(python).args(["-c", "import duckdb"]).output().await;
    check.is_ok_and(|output| output.status.success())
}

fn succeeded(what: &str, output: std::io::Result<std::process::Output>) -> anyhow::Result<()> {
    let output = output.with_context(|| format!("cannot run {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    bail!("comparing needs Python 3 with the package duckdb: {what} failed: {}", message.trim())
}

/// The user's cache directory for this program.
fn cache_directory() -> anyhow::Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("blueshift"))
}
