//! The binary `blueshift`: a table of modes. Each mode lives in its own crate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use leader::config::{Config, FileConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The MPP columnar data warehouse that speaks Amazon Redshift.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Run a cluster on this machine.
    Start(Start),
    /// Load TPC-H, run its 22 queries and check every answer.
    Tpch(tpch::Options),
}

#[derive(Args)]
struct Start {
    /// Where the data lives.
    #[arg(long, default_value = "./blueshift-data")]
    data_dir: PathBuf,
    /// The address of the Postgres port.
    #[arg(long, default_value = "127.0.0.1:5439")]
    listen: SocketAddr,
    /// Compute nodes; more than one is not supported yet.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Slices of the node; one per core by default.
    #[arg(long)]
    slices: Option<usize>,
    /// The configuration file (TOML).
    #[arg(long)]
    config: Option<PathBuf>,
}

impl Start {
    fn config(self) -> Result<Config> {
        if self.nodes != 1 {
            bail!("--nodes {}: clusters of more than one node are not supported yet", self.nodes);
        }
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Config {
            data_dir: self.data_dir,
            listen: self.listen,
            slices: self.slices.unwrap_or(cores).max(1),
            initial_password: std::env::var("BLUESHIFT_PASSWORD")
                .ok()
                .filter(|text| !text.is_empty()),
            file: FileConfig::read(self.config.as_deref())?,
        })
    }
}

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the connection threads")?;
    match Cli::parse().mode {
        Mode::Start(start) => {
            leader::log_to_stderr();
            runtime.block_on(leader::serve_until_stopped(start.config()?))?;
            Ok(ExitCode::SUCCESS)
        }
        Mode::Tpch(options) => Ok(runtime.block_on(tpch::run(options))?.exit_code()),
    }
}
