//! Starting and stopping a server: opens the engine, listens, says that it is ready, and stops
//! cleanly on SIGTERM and SIGINT.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::authentication::ScramVerifier;
use crate::cluster::Cluster;
use crate::cluster::restore::restore_catalog;
use crate::cluster::supervisor::Supervisor;
use crate::config::Config;
use crate::engine::{DATABASE, Engine, SUPERUSER};
use crate::error::{Error, Result};
use crate::pgwire::backend::{Backend, Startup, WireSettings};
use crate::pgwire::report::Report;
use crate::server::Server;
use crate::session::Session;
use crate::tls;

/// The engine as the wire sees it.
struct Leader {
    engine: Arc<Engine>,
}

#[async_trait]
impl Backend for Leader {
    type Session = Session;

    fn settings(&self) -> WireSettings {
        let parameters = self.engine.parameters();
        WireSettings {
            require_ssl: parameters.require_ssl,
            authentication_timeout: self.engine.config.authentication_timeout(),
            connections_max: parameters.max_connections,
            ..WireSettings::default()
        }
    }

    async fn verifier(&self, user: &str) -> Result<Option<ScramVerifier>, Report> {
        let snapshot = self.engine.transactions.snapshot();
        let Some(entry) = snapshot.user(user) else { return Ok(None) };
        let Some(verifier) = &entry.verifier else { return Ok(None) };
        let now_us = (self.engine.clock)().timestamp_micros();
        if entry.valid_until_us.is_some_and(|until_us| until_us <= now_us) {
            tracing::info!(user, "password has expired");
            return Ok(None);
        }
        let damaged = |_| Error::CatalogDamaged(format!("verifier of user \"{user}\""));
        Ok(Some(verifier.parse().map_err(damaged)?))
    }

    async fn open_session(&self, startup: Startup) -> Result<Session, Report> {
        Ok(Session::open(Arc::clone(&self.engine), &startup)?)
    }
}

/// How long the leader waits for all compute nodes at the start, before it begins with those that are
/// there if they have all rows; and how long for those.
const NODES_PATIENCE: Duration = Duration::from_secs(15);
const NODES_WAIT: Duration = Duration::from_secs(60);

/// Runs a cluster of several nodes on this machine, as [`serve_until_stopped`].
pub async fn serve_with_nodes(mut config: Config, nodes: usize) -> Result<()> {
    let supervisor = Supervisor::start(&mut config, nodes)?;
    let served = serve_until_stopped(config).await;
    supervisor.stop().await;
    served
}

/// Runs a server until SIGTERM or SIGINT. When it can serve it prints its one line on stdout.
pub async fn serve_until_stopped(config: Config) -> Result<()> {
    let stop = CancellationToken::new();
    stop_on_signals(&stop)?;
    if config.restore_catalog {
        tokio::select! {
            restored = restore_catalog(&config) => restored?,
            () = stop.cancelled() => return Ok(()),
        }
    }
    let engine = Arc::new(Engine::open(config)?);
    if let Cluster::Nodes(nodes) = &engine.cluster {
        tokio::select! {
            ready = nodes.wait_until_ready(NODES_PATIENCE, NODES_WAIT) => ready?,
            () = stop.cancelled() => return Ok(()),
        }
    }
    engine.bootstrap().await?;
    engine.start_maintenance();
    let listen = engine.config.listen;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|source| Error::Io { action: format!("listen on {listen}"), source })?;
    let tls = match (&engine.config.file.tls.certificate, &engine.config.file.tls.key) {
        (Some(certificate), Some(key)) => {
            Some(tls::acceptor(certificate, key).map_err(|e| Error::Config(e.to_string()))?)
        }
        (None, None) => {
            let own = tls::own_acceptor(&engine.config.data_dir);
            Some(own.map_err(|e| Error::Config(e.to_string()))?)
        }
        _ => return Err(Error::Config("[tls] needs both certificate and key".into())),
    };
    let registry = Arc::clone(&engine.registry);
    let cluster = engine.cluster.clone();
    let backend = Arc::new(Leader { engine });
    let server = Server::new(listener, backend, registry, tls)
        .map_err(|source| Error::Io { action: "start the server".into(), source })?;
    let address =
        server.local_addr().map_err(|source| Error::Io { action: "listen".into(), source })?;
    announce(&format!("ready: postgres://{SUPERUSER}@{address}/{DATABASE}"))?;
    server.run(stop).await;
    if let Cluster::Nodes(nodes) = &cluster {
        nodes.stop_watching();
    }
    Ok(())
}

/// The one line on stdout that scripts wait for.
fn announce(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|source| Error::Io { action: "write to stdout".into(), source })
}

pub(crate) fn stop_on_signals(stop: &CancellationToken) -> Result<()> {
    let listen = |kind| {
        signal(kind).map_err(|source| Error::Io { action: "wait for signals".into(), source })
    };
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = stop.clone();
    // Lives as long as the process: it is what ends it.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Logs go to stderr; `RUST_LOG` chooses what.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Fails only when a logger is set already; then that one stays.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
