//! Accepts connections on a bound socket, within the connection limits, and passes each to the request path.
//!
//! While even the overflow connections are used up, new connections wait in the kernel's backlog. pingora's accept loop
//! would accept until descriptors run out, and then sleep for a second at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::{error, info};

use super::listen::{BoundListener, ListenSocket};
use super::unix_socket::{SocketFile, UnixSocket};
use crate::http::peer::Peer;
use crate::proxy::{ClientSocket, ListenerService};
use crate::upstream::timer::sleep;

/// Pause after a failure to accept.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Maximum number of connections accepted from the backlog at shutdown.
const MAX_BACKLOG_DRAIN: usize = 4096;

/// Accepts until `stopped` is true, then accepts the connections in the backlog and closes the socket. Connections
/// observe the same watch.
pub(crate) async fn accept(
    bound: BoundListener,
    service: ListenerService,
    mut stopped: watch::Receiver<bool>,
) {
    let address = bound.address;
    let listener = match Listener::new(bound.socket) {
        Ok(listener) => listener,
        Err(error) => return error!(%address, evidence = %error, "failed to start accepting connections"),
    };
    let service = Arc::new(service);
    let shutdown = stopped.clone();
    let mut failing = false;
    loop {
        let next = async {
            service.wait_for_capacity().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok(accepted) => {
                if std::mem::take(&mut failing) {
                    info!(%address, "accepting connections again");
                }
                spawn_connection(&service, accepted, &shutdown);
            }
            // The client closed the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    error!(%address, evidence = %error, "failed to accept connection");
                }
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    for accepted in listener.into_backlog() {
        spawn_connection(&service, accepted, &shutdown);
    }
}

/// A listening socket in the runtime.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    fn new(socket: ListenSocket) -> io::Result<Self> {
        Ok(match socket {
            ListenSocket::Tcp(socket) => Listener::Tcp(TcpListener::from_std(socket)?),
            ListenSocket::Unix(UnixSocket { listener, file }) => {
                Listener::Unix(UnixListener::from_std(listener)?, file)
            }
        })
    }

    async fn accept(&self) -> io::Result<(ClientSocket, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((ClientSocket::Tcp(socket), Peer::Ip(peer.ip())))
            }
            Listener::Unix(listener, _) => Ok((ClientSocket::Unix(listener.accept().await?.0), Peer::Unix)),
        }
    }

    /// Closes the socket, and returns the connections in its backlog. tokio's readiness may be stale, so they are
    /// accepted on the socket directly.
    fn into_backlog(self) -> Vec<(ClientSocket, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                backlog(|| {
                    let (socket, peer) = listener.accept()?;
                    socket.set_nonblocking(true)?;
                    Ok((ClientSocket::Tcp(TcpStream::from_std(socket)?), Peer::Ip(peer.ip())))
                })
            }
            Listener::Unix(listener, file) => {
                // The file goes first: clients that come now try another server, and a new process may bind the path.
                drop(file);
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                backlog(|| {
                    let (socket, _) = listener.accept()?;
                    socket.set_nonblocking(true)?;
                    Ok((ClientSocket::Unix(UnixStream::from_std(socket)?), Peer::Unix))
                })
            }
        }
    }
}

fn backlog(accept: impl Fn() -> io::Result<(ClientSocket, Peer)>) -> Vec<(ClientSocket, Peer)> {
    std::iter::from_fn(|| accept().ok()).take(MAX_BACKLOG_DRAIN).collect()
}

fn spawn_connection(
    service: &Arc<ListenerService>,
    (socket, peer): (ClientSocket, Peer),
    stopped: &watch::Receiver<bool>,
) {
    if let ClientSocket::Tcp(socket) = &socket {
        // Otherwise small responses would wait for the client's acknowledgement. Fails only if the client disconnected;
        // the next read reports that.
        let _ = socket.set_nodelay(true);
    }
    // Counted before the task starts: otherwise a burst would exceed the limit.
    let guard = service.tracker.register();
    let service = Arc::clone(service);
    if service.proxy_protocol.is_some() {
        tokio::spawn(service.serve_with_proxy_protocol(socket, peer, guard, stopped.clone()));
    } else {
        tokio::spawn(service.serve(socket.into_stream(), peer, guard, stopped.clone()));
    }
}
