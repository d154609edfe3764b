//! The binary `blueshift`: a table of modes. Each mode lives in its own crate; what its command line
//! says is read in `options`.

mod options;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use options::{Certificate, Leader, Process, Start, Verify, Wlm};

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
    /// Run the leader of a cluster of several processes.
    Leader(Leader),
    /// Run a compute node of a cluster of several processes.
    Compute(Process),
    /// Make a private authority and a certificate for a process of a cluster.
    Cert(Certificate),
    /// Check the files and the catalog of a process that does not run (exit status 1 if damaged).
    Verify(Verify),
    /// Look at a configuration of workload management.
    Wlm(Wlm),
    /// Load TPC-H, run its 22 queries and check every answer.
    Tpch(tpch::Options),
}

fn main() -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the connection threads")?;
    match Cli::parse().mode {
        Mode::Start(start) => runtime.block_on(start.run())?,
        Mode::Leader(leader) => runtime.block_on(leader.run())?,
        Mode::Compute(process) => runtime.block_on(process.compute())?,
        Mode::Cert(certificate) => certificate.make()?,
        Mode::Verify(verify) => return verify.run(),
        Mode::Wlm(wlm) => return wlm.run(),
        Mode::Tpch(options) => return Ok(runtime.block_on(tpch::run(options))?.exit_code()),
    }
    Ok(ExitCode::SUCCESS)
}
