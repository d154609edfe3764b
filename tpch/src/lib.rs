//! TPC-H over the Postgres wire: generate, load, run, check, report.
//!
//! A black box: it knows the server only through SQL on its socket and objects in S3, as any
//! user does, so it would drive Redshift as well. One run, in order:
//!
//! 1. [`generate`]: the data as Parquet files, in the folder of a bucket;
//! 2. [`object_store`]: an S3 endpoint over that folder;
//! 3. `server`: a cluster as a child process, unless a running one is given;
//! 4. `load`: CREATE TABLE, COPY, ANALYZE (`schema.sql` holds the physical design);
//! 5. `run`: the 22 queries cold and warm, in turn with `duckdb` if asked;
//! 6. `check`: every answer against `answers/`, or against DuckDB's;
//! 7. `report`: one table, and JSON.
//!
//! Temporary files (data, server, DuckDB) live in the system's temporary directory, which
//! `TMPDIR` moves; a scale factor needs about 1.2 GB there, and as much again for DuckDB.

mod answers;
mod check;
mod client;
mod duckdb;
pub mod generate;
mod load;
mod mixed_load;
pub mod object_store;
#[cfg(test)]
mod postgres_tests;
mod progress;
mod queries;
mod report;
mod run;
mod server;
mod tables;
mod upload;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::duckdb::DuckDb;
use crate::generate::Dataset;
use crate::load::{Load, Presence, Source};
use crate::object_store::Endpoint;
use crate::queries::Query;
use crate::report::{Figures, PeerFigures, QueryFigures, Summary};
use crate::run::Plan;
use crate::server::{Server, Shape};

/// Measure and check the TPC-H queries.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Scale factor: 1 is about 1 GB of text, 8.7 million rows.
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    pub scale: f64,
    /// Compute nodes of the cluster to start.
    #[arg(long, value_name = "N", conflicts_with = "connect")]
    pub nodes: Option<u32>,
    /// Slices of each node of the cluster to start.
    #[arg(long, value_name = "S", conflicts_with = "connect")]
    pub slices: Option<u32>,
    /// Drive a running server instead of starting one. Where it has no TPC-H tables yet, they are
    /// loaded through the object store that the AWS_* variables name.
    #[arg(long, value_name = "URL")]
    pub connect: Option<String>,
    /// Warm runs of each query.
    #[arg(long, value_name = "R", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Queries to run, such as 1,3,7-9.
    #[arg(long, value_name = "LIST")]
    pub queries: Option<String>,
    /// Write the figures to a file as JSON, too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run another engine in turn with the server, on the same data.
    #[arg(long, value_name = "ENGINE")]
    pub compare: Option<Peer>,
    /// Bucket to load from with --connect; it must exist.
    #[arg(long, value_name = "NAME", default_value = "tpch", requires = "connect")]
    pub bucket: String,
    /// Instead of the benchmark: long and short queries at the same time, for so many seconds in
    /// each of three phases, on a server that has the tables.
    #[arg(long, value_name = "SECONDS", requires = "connect")]
    pub mixed_load: Option<u64>,
}

/// An engine to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// The PyPI package duckdb, with native tables and as many threads as cores.
    #[value(name = "duckdb")]
    DuckDb,
}

/// How the answers turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Queries whose every answer was right.
    pub right: usize,
    /// Queries that failed or gave a wrong answer.
    pub wrong: usize,
    /// Queries without an answer to compare with.
    pub not_checked: usize,
}

impl Outcome {
    /// Whether the process may end with status 0: nothing was wrong.
    pub fn is_success(&self) -> bool {
        self.wrong == 0
    }

    /// The exit status of the process.
    pub fn exit_code(&self) -> ExitCode {
        if self.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Run the benchmark and print its table.
///
/// An error means that there are no figures; wrong answers are an [`Outcome`].
pub async fn run(options: Options) -> anyhow::Result<Outcome> {
    Box::pin(measure(&options)).await
}

async fn measure(options: &Options) -> anyhow::Result<Outcome> {
    ensure!(options.scale.is_finite() && options.scale > 0.0, "--scale must be above 0");
    if let (Some(seconds), Some(url)) = (options.mixed_load, &options.connect) {
        let config = tokio_postgres::Config::from_str(url).context("--connect is not a URL")?;
        interruptible(mixed_load::run(&config, seconds)).await?;
        return Ok(Outcome { right: 0, wrong: 0, not_checked: 0 });
    }
    let queries = match &options.queries {
        Some(list) => Query::list(list)?,
        None => Query::all(),
    };
    let plan = Plan { scale: options.scale, queries, runs: options.runs };
    let directory = TempDir::with_prefix("blueshift-tpch-").context("no temporary directory")?;
    let mut figures = match &options.connect {
        Some(url) => interruptible(measure_running(options, &plan, url, directory.path())).await?,
        None => measure_own(options, &plan, directory.path()).await?,
    };
    figures.summarize();
    std::io::stdout().write_all(figures.table().as_bytes())?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&figures)? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let Summary { right, wrong, not_checked, .. } = figures.summary;
    Ok(Outcome { right, wrong, not_checked })
}

/// Start a cluster, measure it, stop it whatever happens.
async fn measure_own(options: &Options, plan: &Plan, directory: &Path) -> anyhow::Result<Figures> {
    let shape = Shape { nodes: options.nodes, slices: options.slices };
    let objects = directory.join("objects");
    let generated = interruptible(generated(options, objects.join(&options.bucket))).await?;
    let endpoint = Endpoint::start(&objects).await?;
    let server = interruptible(Server::start(directory, shape, &endpoint)).await?;
    let work = async {
        let mut config = tokio_postgres::Config::from_str(&server.url)?;
        config.password(&server.password);
        // Alone on its server, the benchmark takes all slots of the default queue and their memory.
        config.options("-c wlm_query_slot_count=5");
        let mut client = Client::connect(config).await?;
        let source = Source {
            bucket: options.bucket.clone(),
            access_key: endpoint.access_key().to_owned(),
            secret_key: endpoint.secret_key().to_owned(),
            session_token: None,
        };
        let load = load::load(&client, &generated.data, &source).await?;
        let mut figures = compare(options, plan, &mut client, Some(&generated), directory).await?;
        figures.load = Some(load);
        figures.disk_bytes = Some(server.disk_bytes()?);
        figures.memory_bytes_peak = server.memory_bytes_peak();
        Ok(figures)
    };
    let figures = interruptible(work).await.map_err(|error| server.explain(error));
    let stopped = server.stop().await;
    let figures = figures?;
    stopped?;
    Ok(figures)
}

/// Measure a server that somebody else runs.
async fn measure_running(
    options: &Options,
    plan: &Plan,
    url: &str,
    directory: &Path,
) -> anyhow::Result<Figures> {
    let config = tokio_postgres::Config::from_str(url).context("--connect is not a URL")?;
    let mut client = Client::connect(config).await?;
    let presence = load::presence(&client, options.scale).await?;
    let mut generated_data = None;
    let mut loaded: Option<Load> = None;
    if presence == Presence::Absent {
        let source = upload::source(&options.bucket)?;
        let generated = generated(options, directory.join("objects")).await?;
        upload::upload(&generated.data, &options.bucket).await?;
        loaded = Some(load::load(&client, &generated.data, &source).await?);
        generated_data = Some(generated);
    } else if options.compare.is_some() {
        generated_data = Some(generated(options, directory.join("objects")).await?);
    }
    let mut figures =
        compare(options, plan, &mut client, generated_data.as_ref(), directory).await?;
    figures.load = loaded;
    figures.disk_bytes = disk_bytes_by_server(&client).await;
    Ok(figures)
}

/// Run the plan on the loaded server, in turn with the peer if one is asked for.
async fn compare(
    options: &Options,
    plan: &Plan,
    client: &mut Client,
    generated: Option<&Generated>,
    directory: &Path,
) -> anyhow::Result<Figures> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut peer = None;
    let mut peer_figures = None;
    if let (Some(Peer::DuckDb), Some(generated)) = (options.compare, generated) {
        let mut duckdb = DuckDb::start(directory, cores).await?;
        let loaded = duckdb.load(&generated.data).await?;
        peer_figures = Some(PeerFigures {
            version: duckdb.version.clone(),
            threads: cores,
            load_ms: loaded.milliseconds,
            disk_bytes: loaded.bytes,
        });
        peer = Some(duckdb);
    }
    let runs = run::run(plan, client, peer.as_mut()).await?;
    Ok(Figures {
        scale: options.scale,
        nodes: options.nodes,
        slices: options.slices,
        cores,
        server_version: client.value("SELECT version()").await.ok().flatten(),
        runs: plan.runs,
        generate_ms: generated.map(|generated| generated.milliseconds),
        load: None,
        disk_bytes: None,
        memory_bytes_peak: None,
        queries: runs.into_iter().map(QueryFigures::from).collect(),
        duckdb: peer_figures,
        summary: Summary::default(),
    })
}

/// Data and the time it took to make.
struct Generated {
    data: Dataset,
    milliseconds: f64,
}

/// Stops the generating threads when the waiting future is dropped.
struct Generating {
    cancelled: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Generating {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // Waiting for the last batch lets the temporary directory be removed for good.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Make the data on threads of its own, since it keeps every core busy.
async fn generated(options: &Options, directory: PathBuf) -> anyhow::Result<Generated> {
    let cores = thread::available_parallelism().map_or(2, usize::from);
    let default = u32::try_from(cores).unwrap_or(2).max(2);
    let slices = options.nodes.unwrap_or(1) * options.slices.unwrap_or(default);
    let scale = options.scale;
    let cancelled = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = oneshot::channel();
    let start = Instant::now();
    let stop = Arc::clone(&cancelled);
    let thread = thread::Builder::new().name("generate".to_owned()).spawn(move || {
        // A receiver that is gone was interrupted.
        let _ = sender.send(generate::generate(&directory, scale, slices, &stop));
    })?;
    let _generating = Generating { cancelled, thread: Some(thread) };
    let data = receiver.await.context("generating the data stopped")??;
    Ok(Generated { data, milliseconds: start.elapsed().as_secs_f64() * 1000.0 })
}

/// Run until the user interrupts, which is an error like any other, so that all is cleaned up.
async fn interruptible<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// The size of the tables as Redshift's catalog gives it, in blocks of 1 MB.
async fn disk_bytes_by_server(client: &Client) -> Option<u64> {
    let names: Vec<String> =
        tables::Table::ALL.iter().map(|table| format!("'{}'", table.name())).collect();
    let sql =
        format!("SELECT sum(size) FROM svv_table_info WHERE \"table\" IN ({})", names.join(", "));
    // A server without this view simply has no figure.
    let megabytes: u64 = client.value(&sql).await.ok()??.parse().ok()?;
    Some(megabytes * 1024 * 1024)
}
