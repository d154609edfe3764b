//! The command lines of the modes that run processes of a cluster, and of what goes with them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use leader::cluster::certificates;
use leader::cluster::compute_process::serve_compute;
use leader::cluster::supervisor;
use leader::config::{ComputeConfig, Config, FileConfig, Profile};
use leader::verify::{Depth, VerifyOptions};

/// The address of the Postgres port.
const LISTEN: &str = "127.0.0.1:5439";
/// Where the data lives.
const DATA_DIR: &str = "./blueshift-data";
/// Slices that a node of several has at least.
const SLICES_MIN: usize = 2;

#[derive(Args)]
pub(crate) struct Start {
    /// Where the data lives.
    #[arg(long, default_value = DATA_DIR)]
    data_dir: PathBuf,
    /// The address of the Postgres port.
    #[arg(long, default_value = LISTEN)]
    listen: SocketAddr,
    /// Compute nodes; more than one run as processes of their own.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Slices of each node; by default the cores are divided among the nodes.
    #[arg(long)]
    slices: Option<usize>,
    /// First make a lost catalog again from the copies that the nodes have.
    #[arg(long)]
    restore_catalog: bool,
    /// How many of several nodes keep each segment [default: 2].
    #[arg(long)]
    copies: Option<usize>,
    /// What kind of machine the nodes are on: dense-compute (flash) or dense-storage (spinning
    /// disks).
    #[arg(long)]
    profile: Option<Profile>,
    /// The configuration file (TOML).
    #[arg(long)]
    config: Option<PathBuf>,
}

impl Start {
    pub(crate) async fn run(self) -> Result<()> {
        leader::log_to_stderr();
        let nodes = self.nodes;
        match nodes {
            0 => bail!("--nodes 0: a cluster has at least one node"),
            1 => Ok(leader::serve_until_stopped(self.config()?).await?),
            _ => Ok(leader::serve_with_nodes(self.config()?, nodes).await?),
        }
    }

    fn config(self) -> Result<Config> {
        let mut file = FileConfig::read(self.config.as_deref())?;
        file.profile = self.profile.or(file.profile);
        file.cluster.copies = self.copies.or(file.cluster.copies);
        let profile = file.profile.unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(SLICES_MIN, usize::from);
        // What a data directory was made with stays: another profile does not change it.
        let made_with = supervisor::slices_made_with(&self.data_dir, self.nodes)?;
        let slices = self.slices.or(made_with);
        let slices = match self.nodes {
            1 => slices.unwrap_or_else(|| profile.slices(cores)).max(1),
            nodes => slices.unwrap_or_else(|| profile.slices(cores / nodes)).max(SLICES_MIN),
        };
        if self.nodes > 1 && self.slices.is_some_and(|asked| asked < SLICES_MIN) {
            bail!("each of several nodes needs at least {SLICES_MIN} slices");
        }
        Ok(Config {
            data_dir: self.data_dir,
            listen: self.listen,
            slices,
            initial_password: initial_password(),
            restore_catalog: self.restore_catalog,
            file,
        })
    }
}

fn initial_password() -> Option<String> {
    std::env::var("BLUESHIFT_PASSWORD").ok().filter(|text| !text.is_empty())
}

#[derive(Args)]
pub(crate) struct Leader {
    #[command(flatten)]
    process: Process,
    /// First make a lost catalog again from the copies that the compute nodes have.
    #[arg(long)]
    restore_catalog: bool,
}

#[derive(Args)]
pub(crate) struct Process {
    /// The configuration file (TOML).
    #[arg(long)]
    config: PathBuf,
    /// Stop when standard input ends: for a process that starts this one.
    #[arg(long, hide = true)]
    supervised: bool,
}

impl Leader {
    pub(crate) async fn run(self) -> Result<()> {
        leader::log_to_stderr();
        let file = FileConfig::read(Some(&self.process.config))?;
        let layout = file.cluster.layout()?;
        let listen = match file.listen {
            Some(listen) => listen,
            None => LISTEN.parse()?,
        };
        let config = Config {
            data_dir: file.data_dir.clone().unwrap_or_else(|| DATA_DIR.into()),
            listen,
            slices: layout.slices_per_node(),
            initial_password: initial_password(),
            restore_catalog: self.restore_catalog,
            file,
        };
        Ok(leader::serve_until_stopped(config).await?)
    }
}

impl Process {
    pub(crate) async fn compute(self) -> Result<()> {
        leader::log_to_stderr();
        let file = FileConfig::read(Some(&self.config))?;
        Ok(serve_compute(ComputeConfig::new(file, self.supervised)?).await?)
    }
}

#[derive(Args)]
pub(crate) struct Verify {
    /// The data directory of a process, which must not run.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The configuration file (TOML) of that process.
    #[arg(long)]
    config: Option<PathBuf>,
    /// How many of several nodes keep each segment, as it was started [default: 2].
    #[arg(long)]
    copies: Option<usize>,
    /// Only read every byte and compare checksums; do not look into the values.
    #[arg(long)]
    checksums: bool,
}

impl Verify {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let mut file = FileConfig::read(self.config.as_deref())?;
        file.cluster.copies = self.copies.or(file.cluster.copies);
        let data_dir = self.data_dir.or_else(|| file.data_dir.clone());
        let options = VerifyOptions {
            data_dir: data_dir.unwrap_or_else(|| DATA_DIR.into()),
            file,
            depth: if self.checksums { Depth::Checksums } else { Depth::Values },
        };
        let is_sound = leader::verify::verify(&options, &mut std::io::stdout().lock())?;
        Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

#[derive(Args)]
pub(crate) struct Certificate {
    /// Where the files go; the authority is made when there is none.
    #[arg(long, default_value = "./blueshift-certificates")]
    directory: PathBuf,
    /// What the process is called: leader, node-0, node-1, ...
    name: String,
}

impl Certificate {
    pub(crate) fn make(self) -> Result<()> {
        leader::log_to_stderr();
        certificates::make(&self.directory, &self.name)?;
        Ok(())
    }
}

#[derive(Args)]
pub(crate) struct Wlm {
    #[command(subcommand)]
    action: WlmAction,
}

#[derive(Subcommand)]
enum WlmAction {
    /// Say in words what a configuration means, or why it would be refused (exit status 1).
    Check {
        /// A wlm_json_configuration, or a configuration file (TOML) that has one.
        file: PathBuf,
    },
}

impl Wlm {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let WlmAction::Check { file } = self.action;
        let text = std::fs::read_to_string(&file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let json = if is_json(&text) {
            text
        } else {
            let file = FileConfig::read(Some(&file))?;
            file.parameters.wlm_json_configuration.context("[parameters] has none")?
        };
        let (words, status) = match leader::workload::explain(&json) {
            Ok(words) => (words, ExitCode::SUCCESS),
            Err(refusal) => (format!("refused: {refusal}\n"), ExitCode::FAILURE),
        };
        std::io::stdout().write_all(words.as_bytes()).context("cannot write to stdout")?;
        Ok(status)
    }
}

/// `[parameters]` begins a section of TOML, `[{` a list of JSON.
fn is_json(text: &str) -> bool {
    let inside = text.trim_start().trim_start_matches('[').trim_start();
    text.trim_start().starts_with('{') || inside.starts_with(['{', ']'])
}
