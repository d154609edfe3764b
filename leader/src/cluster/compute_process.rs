//! The process `blueshift compute`: a node behind its cluster port, until it is told to stop.

use std::sync::Arc;

use chrono::Utc;
use compute::exchange::{NodeChannels, NodeServer, ServerParts};
use compute::object_storage::ObjectStorage;
use compute::query_threads::QueryThreads;
use compute::scrub::scrub;
use compute::{Node, NodeConfig};
use datafusion::common::runtime::JoinSet;
use storage::io::RealIo;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::config::ComputeConfig;
use crate::error::{Error, Result};
use crate::private_file;
use crate::start::stop_on_signals;

/// Serves a node until SIGTERM or SIGINT; a supervised one also ends when its supervisor does.
pub async fn serve_compute(config: ComputeConfig) -> Result<()> {
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    if config.supervised {
        stop_with_supervisor(&stop);
    }
    private_file::make_directory(&config.data_dir).map_err(|source| Error::Io {
        action: format!("use the data directory {}", config.data_dir.display()),
        source,
    })?;
    let _lock = crate::engine::lock_directory(&config.data_dir)?;
    let node = Node::open(NodeConfig {
        data_dir: config.data_dir.clone(),
        io: Arc::new(RealIo),
        layout: config.layout,
        node: config.node,
        memory_bytes: config.memory_bytes,
        cache_bytes: config.cache_bytes,
        spill_dir: config.spill_dir,
        spill_bytes_max: config.spill_bytes_max,
        profile: config.profile,
        integrity: config.integrity,
    })?;
    let mut scrubbing = JoinSet::new();
    let clock_us = Arc::new(|| Utc::now().timestamp_micros());
    scrubbing.spawn(scrub(Arc::clone(&node), clock_us));
    let objects = ObjectStorage::new(config.object_store, std::env::vars())
        .map_err(|error| Error::Config(error.to_string()))?
        .with_io_runtime(Handle::current());
    let threads = QueryThreads::start(config.layout.slices_per_node())
        .map_err(|source| Error::Io { action: "start the query threads".into(), source })?;
    let channels = NodeChannels::new(config.identity.clone(), Handle::current());
    let server = NodeServer::new(ServerParts {
        node,
        objects: Arc::new(objects),
        channels,
        threads: Arc::new(threads),
        functions: Vec::new(),
    });
    let listen = config.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| Error::Io { action: format!("listen on {listen}"), source })?;
    tracing::info!(node = config.node, %listen, "compute node is listening");
    let served = server.serve(listener, &config.identity, stop.clone().cancelled_owned());
    // Connections of other processes may stay open; a node that is told to stop does not wait.
    tokio::select! {
        ended = served => ended.map_err(Error::from),
        () = grace(&stop) => Ok(()),
    }
}

/// A while after the stop.
async fn grace(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

/// The supervisor holds the other end of standard input: it ends when the supervisor does.
fn stop_with_supervisor(stop: &CancellationToken) {
    let stop = stop.clone();
    // A thread of its own, which lives as long as the process: the runtime would wait at its end for
    // a read of its own, and a node that cannot start would stay instead of being started again.
    std::thread::spawn(move || {
        // It ends with the end of the input.
        let _ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.cancel();
    });
}
