//! Listens, accepts, shuts down. One task per connection; none outlives the server.
//!
//! A connection's task owns everything of the connection. A panic in it ends that connection only,
//! with a FATAL report to the client. Shutdown tells every client 57P01 and waits for a while.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::pgwire::backend::Backend;
use crate::pgwire::connection;
use crate::pgwire::registry::Registry;

/// Sockets that may exist besides the connections that are allowed: they are not authenticated yet,
/// bring a CancelRequest, or will be told that there are too many.
const EXTRA_SOCKETS_MAX: usize = 128;
/// How long shutdown waits for connections before it drops them.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);
/// After an accept failed, for example for want of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A server of the Postgres protocol over TCP.
pub struct Server<B> {
    listener: TcpListener,
    shared: Arc<Shared<B>>,
}

/// What all connections of a server share.
pub(crate) struct Shared<B> {
    pub(crate) backend: Arc<B>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) random: SystemRandom,
    pub(crate) mock_secret: [u8; 32],
    pub(crate) shutdown: CancellationToken,
}

impl<B: Backend> Server<B> {
    /// A server on a bound listener. The registry is given, since the engine needs it too.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub fn new(
        listener: TcpListener,
        backend: Arc<B>,
        registry: Arc<Registry>,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Self> {
        let random = SystemRandom::new();
        let mut mock_secret = [0; 32];
        random
            .fill(&mut mock_secret)
            .map_err(|_| io::Error::other("the operating system gave no random bytes"))?;
        let shutdown = CancellationToken::new();
        let shared = Shared { backend, registry, tls, random, mock_secret, shutdown };
        Ok(Self { listener, shared: Arc::new(shared) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket has no address any more.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is cancelled, and until then whatever happens.
    pub async fn run(self, shutdown: CancellationToken) {
        let connections_max = self.shared.backend.settings().connections_max;
        let sockets = Arc::new(Semaphore::new(connections_max.saturating_add(EXTRA_SOCKETS_MAX)));
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = tasks.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if let Ok(permit) = Arc::clone(&sockets).try_acquire_owned() {
                            tasks.spawn(serve(Arc::clone(&self.shared), stream, peer, permit));
                        } else {
                            tracing::warn!(%peer, "too many sockets, connection dropped");
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                    }
                },
            }
        }
        drop(self.listener);
        self.shared.shutdown.cancel();
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_WAIT, drained).await.is_err() {
            tracing::warn!("connections did not end in time, dropped");
            tasks.shutdown().await;
        }
    }
}

async fn serve<B: Backend>(
    shared: Arc<Shared<B>>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%peer, %error, "socket options not set");
    }
    connection::serve(&shared, stream, peer).await;
    drop(permit);
}

/// Sends small answers at once, and notices clients whose machine is gone.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        socket2::TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
