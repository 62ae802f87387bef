//! Accepts connections on a bound socket and hands each to the request path, never more than there is room for.
//!
//! Who has no place yet waits in the system's backlog for the moment that those before it need to be told that there are
//! too many. pingora's own accept loop takes connections until the descriptors have run out, and then sleeps for a
//! second at a time.

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

/// After a failure that is ours, so long nothing is accepted.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// At the end so many connections are still taken out of the backlog.
const MAX_BACKLOG_DRAIN: usize = 4096;

/// Accepts until it is told to stop. Who had connected by then is served: the connections are told by the same watch, and
/// then the socket is closed.
pub async fn accept(bound: BoundListener, service: ListenerService, mut stopped: watch::Receiver<bool>) {
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
            // The client's doing: it left before it was let in.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    error!(%address, evidence = %error, "failed to accept connection");
                }
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    // The runtime's own accept may say that there is nothing while there is: the system is asked directly.
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
    // Without it small answers wait for the client's acknowledgement. Where it fails the client is gone, and whoever reads
    // next finds and counts that.
    let _ = socket.set_nodelay(true);
    // Counted before it has a task of its own, or a burst would get past the limit.
    let guard = service.tracker.register();
    // Both sides of the exchange have buffers of their own; a stream made so has none.
    let stream = Box::new(l4::stream::Stream::from(socket));
    tokio::spawn(Arc::clone(service).serve(stream, peer_address.ip(), guard, stopped.clone()));
}
