//! Opens, pools and reuses upstream connections with pingora's connector, one connector per upstream.
//!
//! Pingora's connect errors are mapped to a [`Fault`] here.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::protocols::Stream;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::upstreams::peer::Peer;
use pingora::{Error, ErrorType};
use rustls::pki_types::ServerName;

use super::candidate::Candidate;
use super::http2::{Http2Pool, HttpVersionPolicy};
use super::timer::timeout_at;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::tls::cert_verification::{Alpn, CertVerification, handshake_fault};
use crate::tls::stream::TlsConnection;

/// The connections of one upstream.
pub(crate) struct Transport {
    connector: TransportConnector,
    max_idle: usize,
    idle_timeout: Duration,
    pooling_enabled: AtomicBool,
    verification: Option<Arc<CertVerification>>,
    http2: Http2Pool,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("idle", &self.idle_timeout).finish_non_exhaustive()
    }
}

impl Transport {
    /// Pools at most `max_idle` idle connections, each for `idle_timeout`. `verification` is required for servers with
    /// TLS.
    pub(crate) fn new(
        max_idle: usize,
        idle_timeout: Duration,
        verification: Option<Arc<CertVerification>>,
        version_policy: HttpVersionPolicy,
    ) -> Self {
        // Pingora's pool has a capacity of at least 1. With `max_idle` 0, `release` does not use the pool.
        let connector = TransportConnector::new(Some(ConnectorOptions::new(max_idle.max(1))));
        let http2 = Http2Pool::new(version_policy, max_idle, idle_timeout);
        Transport {
            connector,
            max_idle,
            idle_timeout,
            pooling_enabled: AtomicBool::new(max_idle > 0),
            verification,
            http2,
        }
    }

    /// The HTTP/2 connections.
    pub(crate) fn http2(&self) -> &Http2Pool {
        &self.http2
    }

    /// Takes an idle connection from the pool, unless the server has closed it.
    pub(crate) async fn reuse(&self, candidate: &Candidate) -> Option<Stream> {
        self.connector.reused_stream(&PlainPeer::new(candidate)).await
    }

    /// Opens a new TCP connection within `timeout`.
    ///
    /// # Errors
    /// The connection failed or timed out.
    pub(crate) async fn connect(&self, candidate: &Candidate, timeout: Duration) -> Result<Stream, Fault> {
        let peer = PlainPeer::new(candidate);
        let connecting = self.connector.new_stream(&peer);
        match timeout_at(Instant::now() + timeout, connecting).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(connect_fault(&error)),
            None => Err(Fault::new(Cause::ConnectionTimeout, Phase::Connect)),
        }
    }

    /// Performs the client side of the TLS handshake within `timeout`. The flag is true if ALPN selected HTTP/2;
    /// `http1_only` does not offer it.
    ///
    /// # Errors
    /// The handshake failed or timed out.
    pub(crate) async fn encrypt(
        &self,
        stream: Stream,
        name: &ServerName<'static>,
        timeout: Duration,
        http1_only: bool,
    ) -> Result<(Stream, bool), Fault> {
        let Some(verification) = &self.verification else {
            // The configuration sets both or neither. Fail rather than send a request in cleartext.
            let evidence = Evidence::from_static("no trusted authorities configured for the TLS handshake");
            return Err(Fault::new(Cause::ProxyConfigurationError, Phase::Connect).with_evidence(evidence));
        };
        let alpn = if http1_only { Alpn::Http1 } else { self.alpn() };
        // Boxed because the future is large and most attempts reuse a connection.
        let handshake = Box::pin(TlsConnection::connect(stream, verification, name.clone(), alpn));
        match timeout_at(Instant::now() + timeout, handshake).await {
            Some(Ok(stream)) => {
                let http2 = stream.negotiated_http2();
                Ok((Box::new(stream), http2))
            }
            Some(Err(error)) => {
                let (cause, evidence) = handshake_fault(&error);
                Err(Fault::new(cause, Phase::Connect).with_evidence(evidence))
            }
            None => Err(Fault::new(Cause::TlsTimeout, Phase::Connect)),
        }
    }

    const fn alpn(&self) -> Alpn {
        match self.http2.version_policy() {
            HttpVersionPolicy::Http1 => Alpn::Http1,
            HttpVersionPolicy::Auto => Alpn::Http2OrHttp1,
            HttpVersionPolicy::Http2 => Alpn::Http2,
        }
    }

    /// Stops pooling and closes the idle connections to these candidates. Requests in flight are not affected.
    pub(crate) async fn close_gracefully(&self, candidates: impl Iterator<Item = Candidate>) {
        self.pooling_enabled.store(false, Ordering::Release);
        self.http2.close_gracefully();
        for candidate in candidates {
            // The pool closes connections only on their idle timeout, not when it is dropped: take all out. It returns
            // `None` for a connection that the server has closed, too, not only when there are no more.
            for _ in 0..self.max_idle {
                drop(self.reuse(&candidate).await);
            }
        }
    }

    /// Returns a connection to the pool. Both directions must be idle.
    pub(crate) fn release(&self, stream: Stream, candidate: &Candidate) {
        if self.pooling_enabled.load(Ordering::Acquire) {
            self.connector.release_stream(stream, pool_key(candidate), Some(self.idle_timeout));
        }
    }
}

/// Maps a connect error of pingora to a [`Fault`].
fn connect_fault(error: &Error) -> Fault {
    let cause = match error.etype() {
        ErrorType::ConnectRefused => Cause::ConnectionRefused,
        ErrorType::ConnectTimedout => Cause::ConnectionTimeout,
        ErrorType::ConnectNoRoute => Cause::DestinationIpUnroutable,
        // Out of file descriptors, ports or memory: pingora reports socket() and bind() failures as these types.
        ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError => Cause::ResourceExhausted,
        // All other errors of connect(2) mean that the peer ended the attempt.
        _ => Cause::ConnectionTerminated,
    };
    // Use the operating system's message: pingora's text repeats the address twice around it.
    let message = match error.root_cause().downcast_ref::<std::io::Error>() {
        Some(error) => error.to_string(),
        None => error.etype().as_str().to_owned(),
    };
    Fault::new(cause, Phase::Connect).with_evidence(Evidence::owned(message))
}

/// The pool key of a connection: its address and TLS name. The name is included because a certificate verified for one
/// name must not be used for another on the same address. Each upstream has its own pool.
fn pool_key(candidate: &Candidate) -> u64 {
    match (candidate.address, &candidate.tls_name) {
        (SocketAddr::V4(v4), None) => (u64::from(u32::from(*v4.ip())) << 16) | u64::from(v4.port()),
        // IPv6 addresses and names do not fit into 63 bits, so hash them.
        (address, name) => {
            let mut hasher = std::hash::DefaultHasher::new();
            address.hash(&mut hasher);
            name.hash(&mut hasher);
            hasher.finish() | (1 << 63)
        }
    }
}

/// A server, for pingora's connector. TLS is done in [`TlsConnection`], not by pingora.
#[derive(Clone, Debug)]
struct PlainPeer {
    address: PeerAddress,
    key: u64,
}

impl PlainPeer {
    fn new(candidate: &Candidate) -> Self {
        PlainPeer { address: PeerAddress::Inet(candidate.address), key: pool_key(candidate) }
    }
}

impl fmt::Display for PlainPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl Peer for PlainPeer {
    fn address(&self) -> &PeerAddress {
        &self.address
    }

    fn tls(&self) -> bool {
        false
    }

    fn sni(&self) -> &str {
        ""
    }

    fn reuse_hash(&self) -> u64 {
        self.key
    }

    // The pool key identifies the address, so a pooled descriptor cannot belong to another server. Checking would cost
    // one getpeername() call per reuse.
    fn matches_fd<V: std::os::fd::AsRawFd>(&self, _fd: V) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_keys_differ_by_address_and_name() {
        let addresses = [
            "127.0.0.1:80",
            "127.0.0.1:81",
            "127.0.0.2:80",
            "[::1]:80",
            "[::1]:81",
            "[::2]:80",
            "[::7f00:1]:80",
            "[2001:db8:0:1::1]:80",
            "[2001:db8:0:2::2]:80",
        ];
        let names = [None, Some("a.test"), Some("b.test"), Some("127.0.0.1")];
        let mut keys = Vec::new();
        for address in addresses {
            for name in names {
                let name = name.map(|name| Arc::new(ServerName::try_from(name).unwrap()));
                let address = address.parse().unwrap();
                keys.push(pool_key(&Candidate { server: Arc::from(""), address, tls_name: name }));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), addresses.len() * names.len());
    }

    #[tokio::test]
    async fn tls_server_without_verification_is_an_error_and_receives_no_byte() {
        let transport = Transport::new(1, Duration::from_secs(1), None, HttpVersionPolicy::Http1);
        let (client_io, mut server_io) = tokio::io::duplex(1024);
        let name = ServerName::try_from("test").unwrap();
        let encrypting = transport.encrypt(Box::new(client_io), &name, Duration::from_secs(1), true);
        assert_eq!(encrypting.await.unwrap_err().cause(), Cause::ProxyConfigurationError);
        let mut sent = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut server_io, &mut sent).await.unwrap();
        assert_eq!(sent, b"");
    }

    /// The pool reports a connection that the server has closed like an empty pool.
    #[tokio::test]
    async fn graceful_close_goes_on_after_a_connection_closed_by_the_server() {
        let candidate =
            Candidate { server: Arc::from("a"), address: ([127, 0, 0, 1], 1).into(), tls_name: None };
        for closed in 0..3 {
            let transport = Transport::new(3, Duration::from_secs(60), None, HttpVersionPolicy::Http1);
            let mut servers = Vec::new();
            for _ in 0..3 {
                let (client_io, server_io) = tokio::io::duplex(16);
                transport.release(Box::new(client_io), &candidate);
                servers.push(server_io);
            }
            drop(servers.remove(closed));
            transport.close_gracefully([candidate.clone()].into_iter()).await;
            for mut server in servers {
                let mut received = Vec::new();
                let end = tokio::io::AsyncReadExt::read_to_end(&mut server, &mut received);
                let end = timeout_at(Instant::now() + Duration::from_secs(20), end).await;
                assert_eq!(end.map(Result::unwrap), Some(0), "{closed}");
            }
        }
    }

    #[test]
    fn connect_error_evidence_is_the_system_message() {
        let refused = std::io::Error::from_raw_os_error(111);
        let inner = Error::because(ErrorType::ConnectRefused, "Fail to connect to 127.0.0.1:1", refused);
        let error = Error::because(ErrorType::ConnectRefused, "Fail to connect to 127.0.0.1:1", inner);
        assert_eq!(connect_fault(&error).evidence().for_log(), "Connection refused (os error 111)");
        assert_eq!(
            connect_fault(&Error::new(ErrorType::ConnectNoRoute)).evidence().for_log(),
            "ConnectNoRoute"
        );
    }

    #[test]
    fn connect_errors_map_to_causes_by_type() {
        let name = |etype: ErrorType| connect_fault(&Error::new(etype)).cause();
        assert_eq!(name(ErrorType::ConnectRefused), Cause::ConnectionRefused);
        assert_eq!(name(ErrorType::ConnectTimedout), Cause::ConnectionTimeout);
        assert_eq!(name(ErrorType::ConnectNoRoute), Cause::DestinationIpUnroutable);
        assert_eq!(name(ErrorType::InternalError), Cause::ResourceExhausted);
        assert_eq!(name(ErrorType::ConnectError), Cause::ConnectionTerminated);
    }
}
