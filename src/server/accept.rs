//! Accepts connections on a bound socket, within the connection limits, and passes each to the request path.
//!
//! While even the overflow connections are used up, new connections wait in the kernel's backlog. pingora's accept loop
//! would accept until descriptors run out, and then sleep for a second at a time.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::protocols::l4;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{error, info};

use super::listen::BoundListener;
use crate::proxy::ListenerService;
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
    let listener = match TcpListener::from_std(bound.socket) {
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
            Ok((socket, peer_address)) => {
                if std::mem::take(&mut failing) {
                    info!(%address, "accepting connections again");
                }
                spawn_connection(&service, socket, peer_address, &shutdown);
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
    // tokio's readiness may be stale, so accept on the socket directly.
    let Ok(listener) = listener.into_std() else { return };
    for (socket, peer_address) in std::iter::from_fn(|| listener.accept().ok()).take(MAX_BACKLOG_DRAIN) {
        if socket.set_nonblocking(true).is_ok()
            && let Ok(socket) = TcpStream::from_std(socket)
        {
            spawn_connection(&service, socket, peer_address, &shutdown);
        }
    }
}

fn spawn_connection(
    service: &Arc<ListenerService>,
    socket: TcpStream,
    peer_address: SocketAddr,
    stopped: &watch::Receiver<bool>,
) {
    // Otherwise small responses would wait for the client's acknowledgement. Fails only if the client disconnected; the
    // next read reports that.
    let _ = socket.set_nodelay(true);
    // Counted before the task starts: otherwise a burst would exceed the limit.
    let guard = service.tracker.register();
    if service.proxy_protocol.is_some() {
        let service = Arc::clone(service);
        tokio::spawn(service.serve_with_proxy_protocol(socket, peer_address.ip(), guard, stopped.clone()));
        return;
    }
    // Unbuffered: the request path has its own buffers.
    let stream = Box::new(l4::stream::Stream::from(socket));
    tokio::spawn(Arc::clone(service).serve(stream, peer_address.ip(), guard, stopped.clone()));
}
