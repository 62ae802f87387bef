//! Reads the PROXY protocol header from an accepted socket, and exactly its bytes: what follows is TLS or HTTP.
//!
//! [`crate::http::proxy_protocol`] decides where a header ends and what it says.

use std::io;
use std::time::{Duration, Instant};

use tracing::debug;

use super::client_socket::ClientSocket;
use crate::http::peer::{Peer, PeerRange};
use crate::http::proxy_protocol::{HeaderExtent, MAX_PROXY_HEADER, ProxiedPeer, header_extent, parse};
use crate::telemetry::CloseReason;
use crate::upstream::timer::timeout_at;

/// Reads the header that a peer in `allowed_peers` must send, and returns the client that it names.
///
/// # Errors
/// `proxy_protocol_error`: the peer is not in `allowed_peers`, its header is malformed, or it did not arrive within
/// `timeout`. `no_request`: the peer closed the connection without a byte, like a health check of a load balancer.
pub(crate) async fn proxied_peer(
    socket: &mut ClientSocket,
    peer: Peer,
    allowed_peers: &[PeerRange],
    timeout: Duration,
) -> Result<Peer, CloseReason> {
    let peer = peer.to_canonical();
    if !peer.is_one_of(allowed_peers) {
        debug!(%peer, evidence = "the peer is not in proxy_protocol.from", "PROXY protocol error");
        return Err(CloseReason::ProxyProtocolError);
    }
    let parsed = match timeout_at(Instant::now() + timeout, Box::pin(read_header(socket))).await {
        Some(Ok(header)) if header.is_empty() => return Err(CloseReason::NoRequest),
        Some(Ok(header)) => parse(&header).map_err(|error| error.to_string()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the header did not arrive within client.header_timeout".to_owned()),
    };
    match parsed {
        Ok(ProxiedPeer::Client(client)) => Ok(Peer::Ip(client)),
        Ok(ProxiedPeer::Unspecified) => Ok(peer),
        Err(evidence) => {
            debug!(%peer, evidence, "PROXY protocol error");
            Err(CloseReason::ProxyProtocolError)
        }
    }
}

/// Reads one complete header; empty if the peer closed or reset the connection first.
async fn read_header(socket: &mut ClientSocket) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    let mut peeked = [0; MAX_PROXY_HEADER];
    loop {
        // Peeked first, because bytes after the header belong to the request.
        let available = match socket.peek(&mut peeked).await {
            // A health check may reset the connection instead of closing it.
            Err(error) if header.is_empty() && error.kind() == io::ErrorKind::ConnectionReset => {
                return Ok(header);
            }
            peeked => peeked?,
        };
        if available == 0 {
            return if header.is_empty() { Ok(header) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        let before = header.len();
        header.extend_from_slice(peeked.get(..available).unwrap_or_default());
        let extent = header_extent(&header).map_err(|error| io::Error::other(error.to_string()))?;
        let end = match extent {
            HeaderExtent::Incomplete => header.len(),
            HeaderExtent::Complete(end) => end,
        };
        header.truncate(end);
        let part = peeked.get_mut(..end.saturating_sub(before)).unwrap_or_default();
        socket.read_exact(part).await?;
        if let HeaderExtent::Complete(_) = extent {
            return Ok(header);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Sends the parts one after the other, each when the previous one was read, and returns what the gateway made of
    /// it and the bytes that it left.
    async fn receive(parts: &[&[u8]], from: &str) -> (Result<Peer, CloseReason>, Vec<u8>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let sender = tokio::spawn(async move {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.set_nodelay(true).unwrap();
            for part in parts {
                // The gateway may have closed the connection already.
                let _ = socket.write_all(&part).await;
                tokio::task::yield_now().await;
            }
        });
        let (socket, peer) = listener.accept().await.unwrap();
        let from = PeerRange::Network(from.parse().unwrap());
        let mut socket = ClientSocket::Tcp(socket);
        let result = proxied_peer(&mut socket, Peer::Ip(peer.ip()), &[from], TIMEOUT).await;
        let mut rest = Vec::new();
        if result.is_ok() {
            socket.into_stream().read_to_end(&mut rest).await.unwrap();
        }
        sender.await.unwrap();
        (result, rest)
    }

    /// The same over a Unix socket.
    async fn receive_over_unix(parts: &[&[u8]], from: PeerRange) -> (Result<Peer, CloseReason>, Vec<u8>) {
        let (mut sender, receiver) = UnixStream::pair().unwrap();
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let sender = tokio::spawn(async move {
            for part in parts {
                let _ = sender.write_all(&part).await;
                tokio::task::yield_now().await;
            }
        });
        let mut socket = ClientSocket::Unix(receiver);
        let result = proxied_peer(&mut socket, Peer::Unix, &[from], TIMEOUT).await;
        let mut rest = Vec::new();
        if result.is_ok() {
            socket.into_stream().read_to_end(&mut rest).await.unwrap();
        }
        sender.await.unwrap();
        (result, rest)
    }

    #[tokio::test]
    async fn header_is_read_whatever_its_parts_and_the_request_stays() {
        let client = Ok(Peer::Ip("192.0.2.7".parse().unwrap()));
        let header = b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\r\n";
        let whole = [header.as_slice(), b"GET / HTTP/1.1\r\n\r\n"].concat();
        let rest = b"GET / HTTP/1.1\r\n\r\n".to_vec();
        assert_eq!(receive(&[&whole], "127.0.0.0/8").await, (client, rest.clone()));
        assert_eq!(receive_over_unix(&[&whole], PeerRange::Unix).await, (client, rest.clone()));
        let single: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(receive(&single, "127.0.0.0/8").await, (client, rest.clone()));
        assert_eq!(receive_over_unix(&single, PeerRange::Unix).await, (client, rest));
        let local = b"\r\n\r\n\x00\r\nQUIT\n\x20\0\0\0hi";
        let peer = Ok(Peer::Ip("127.0.0.1".parse().unwrap()));
        assert_eq!(receive(&[local], "127.0.0.0/8").await, (peer, b"hi".to_vec()));
        assert_eq!(receive_over_unix(&[local], PeerRange::Unix).await, (Ok(Peer::Unix), b"hi".to_vec()));
    }

    #[tokio::test]
    async fn anything_else_is_an_error() {
        let error = (Err(CloseReason::ProxyProtocolError), Vec::new());
        assert_eq!(receive(&[b"PROXY UNKNOWN\r\n"], "10.0.0.0/8").await, error, "not in from");
        assert_eq!(receive(&[b"GET / HTTP/1.1\r\n\r\n"], "127.0.0.0/8").await, error, "no header");
        assert_eq!(receive(&[b"PROXY TCP4 192.0.2.7"], "127.0.0.0/8").await, error, "an end in the header");
        let closed = (Err(CloseReason::NoRequest), Vec::new());
        assert_eq!(receive(&[], "127.0.0.0/8").await, closed);
        let everybody = PeerRange::Network("0.0.0.0/0".parse().unwrap());
        assert_eq!(receive_over_unix(&[b"PROXY UNKNOWN\r\n"], everybody).await, error, "not in from");
        assert_eq!(receive_over_unix(&[b"GET / HTTP/1.1\r\n\r\n"], PeerRange::Unix).await, error);
        assert_eq!(receive_over_unix(&[b"PROXY TCP4 192.0.2.7"], PeerRange::Unix).await, error);
        assert_eq!(receive_over_unix(&[], PeerRange::Unix).await, closed);
    }
}
