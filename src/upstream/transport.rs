//! Opens, pools and reuses upstream connections.
//!
//! Errors of connect(2) are mapped to a [`Fault`] here. Pingora's connector is not used: it formats the address twice
//! for each error, 3,300 instructions of a refused connection (callgrind), and hides the error of the system.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use nix::libc::{EMFILE, ENFILE, ENOBUFS};
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as SocketStream;
use pingora::upstreams::peer::{Tracer, Tracing};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};

use super::address_order::CONNECTION_ATTEMPT_DELAY;
use super::candidate::Candidate;
use super::endpoint::Endpoint;
use super::http2::{Http2Pool, HttpVersionPolicy};
use super::timer::timeout_at;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::tls::cert_verification::{Alpn, CertVerification, handshake_fault};
use crate::tls::stream::TlsConnection;

/// Counts the open connections of all upstreams: each needs a file descriptor, while the requests that share an HTTP/2
/// connection need only one.
#[derive(Debug, Default)]
pub(crate) struct OpenConnections(Arc<AtomicUsize>);

impl OpenConnections {
    /// How many connections are open, in use or idle, or are being opened.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts a connection until the result is dropped.
    fn add(&self) -> OpenConnection {
        OpenConnection::new(Arc::clone(&self.0))
    }
}

/// One of the [`OpenConnections`]. Its socket holds it, as a tracer.
#[derive(Debug)]
struct OpenConnection(Arc<AtomicUsize>);

impl OpenConnection {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        OpenConnection(count)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tracing for OpenConnection {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {}

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(OpenConnection::new(Arc::clone(&self.0)))
    }
}

/// The connections of one upstream.
pub(crate) struct Transport {
    /// The idle HTTP/1 connections of all addresses.
    idle_count: AtomicUsize,
    max_idle: usize,
    idle_timeout: Duration,
    pooling_enabled: AtomicBool,
    /// Wakes the task that closes idle connections. Without the task they are checked only when they are taken.
    watcher: OnceLock<Waker>,
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
        let http2 = Http2Pool::new(version_policy, max_idle, idle_timeout);
        Transport {
            idle_count: AtomicUsize::new(0),
            max_idle,
            idle_timeout,
            pooling_enabled: AtomicBool::new(max_idle > 0),
            watcher: OnceLock::new(),
            verification,
            http2,
        }
    }

    /// The HTTP/2 connections.
    pub(crate) fn http2(&self) -> &Http2Pool {
        &self.http2
    }

    /// How many connections are idle.
    pub(crate) fn idle_count(&self) -> usize {
        self.idle_count.load(Ordering::Relaxed) + self.http2.idle_count()
    }

    /// Takes an idle connection that has been idle for at most `max_idle`, unless the server has closed it.
    pub(crate) fn reuse(&self, candidate: &Candidate, max_idle: Duration) -> Option<Stream> {
        candidate.idle.take(max_idle, Instant::now(), &self.idle_count)
    }

    /// Opens a TCP connection to the first of these addresses that accepts one (RFC 8305): the next one is tried when
    /// the previous one has failed, or has not connected within 250 ms. Each has `timeout`, and all end at `deadline`.
    /// `open` counts the connections.
    ///
    /// # Errors
    /// All addresses failed; the fault of the last one.
    pub(crate) async fn connect_first(
        &self,
        addresses: &[Arc<Endpoint>],
        timeout: Duration,
        deadline: Instant,
        open: &OpenConnections,
    ) -> ConnectOutcome {
        if let [endpoint] = addresses {
            return self.connect_only(endpoint, deadline.min(Instant::now() + timeout), open).await;
        }
        let mut failed = Vec::new();
        let mut fault = Fault::new(Cause::ConnectionTimeout, Phase::Connect);
        let mut running = FuturesUnordered::new();
        let mut waiting = addresses.iter();
        let mut start_next_at = Instant::now();
        loop {
            let now = Instant::now();
            if (running.is_empty() || now >= start_next_at)
                && let Some(endpoint) = waiting.next()
            {
                let limit = deadline.min(now + timeout);
                running.push(async move { (endpoint, self.connect(endpoint, limit, Some(open)).await) });
                start_next_at = now + CONNECTION_ATTEMPT_DELAY;
            }
            let finished = if waiting.len() == 0 {
                running.next().await
            } else {
                match timeout_at(start_next_at, running.next()).await {
                    Some(finished) => finished,
                    None => continue,
                }
            };
            match finished {
                Some((endpoint, Ok(stream))) => {
                    // Slower addresses come later next time, but have not failed.
                    let now = Instant::now();
                    let started = addresses.len() - waiting.len();
                    let slower = addresses.iter().take(started).filter(|other| !Arc::ptr_eq(other, endpoint));
                    slower.for_each(|slower| slower.state.connect_failed(now));
                    return ConnectOutcome { result: Ok((Arc::clone(endpoint), stream)), failed };
                }
                Some((endpoint, Err(error))) => {
                    failed.push(Arc::clone(endpoint));
                    endpoint.state.connect_failed(Instant::now());
                    fault = error;
                    start_next_at = Instant::now();
                }
                None => return ConnectOutcome { result: Err(fault), failed },
            }
        }
    }

    /// Connects to the only address of a server, which needs no race.
    async fn connect_only(
        &self,
        endpoint: &Arc<Endpoint>,
        deadline: Instant,
        open: &OpenConnections,
    ) -> ConnectOutcome {
        let result = self.connect(endpoint, deadline, Some(open)).await;
        let mut failed = Vec::new();
        if result.is_err() {
            endpoint.state.connect_failed(Instant::now());
            failed.push(Arc::clone(endpoint));
        }
        ConnectOutcome { result: result.map(|stream| (Arc::clone(endpoint), stream)), failed }
    }

    /// Opens a connection until `deadline`. `open` counts it.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
        open: Option<&OpenConnections>,
    ) -> Result<Stream, Fault> {
        match timeout_at(deadline, open_socket(endpoint, open.map(OpenConnections::add))).await {
            Some(Ok(stream)) => Ok(stream),
            Some(Err(error)) => Err(connect_fault(&error, endpoint.socket.is_some())),
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

    /// Stops pooling. Requests in flight are not affected.
    pub(crate) fn close_gracefully(&self) {
        self.pooling_enabled.store(false, Ordering::Release);
        self.http2.close_gracefully();
    }

    /// Closes the idle connections to an address, and those in use after their last request.
    pub(crate) fn drain(&self, endpoint: &Endpoint) {
        endpoint.idle.clear(&self.idle_count);
        self.http2.drain(endpoint);
    }

    /// Closes idle HTTP/1 connections to an address that have expired or that the server has closed. `watcher` is the
    /// calling task, which is woken for the next such event.
    pub(crate) fn sweep(&self, endpoint: &Endpoint, now: Instant, watcher: &Waker) {
        endpoint.idle.sweep(now, &self.idle_count, self.watcher.get_or_init(|| watcher.clone()));
    }

    /// Keeps an idle connection for later requests. Both directions must be idle. `server_timeout` is how long the
    /// server keeps it, if it has announced that.
    pub(crate) fn release(&self, stream: Stream, endpoint: &Endpoint, server_timeout: Option<Duration>) {
        // The server counts from the moment it sent the response, and its close takes time to arrive.
        let limit =
            server_timeout.map_or(Duration::MAX, |timeout| timeout.saturating_sub(Duration::from_secs(1)));
        let timeout = self.idle_timeout.min(limit);
        let keeps = self.pooling_enabled.load(Ordering::Acquire) && !endpoint.is_removed();
        if keeps && !timeout.is_zero() {
            let watcher = self.watcher.get().unwrap_or(Waker::noop());
            endpoint.idle.put(stream, (Instant::now(), timeout), (&self.idle_count, self.max_idle), watcher);
        }
    }
}

/// The result of trying to connect to several addresses.
pub(crate) struct ConnectOutcome {
    /// The address that accepted the connection.
    pub result: Result<(Arc<Endpoint>, Stream), Fault>,
    /// The addresses that failed before.
    pub failed: Vec<Arc<Endpoint>>,
}

/// Opens a socket and connects it. `counted` counts it.
async fn open_socket(endpoint: &Endpoint, counted: Option<OpenConnection>) -> io::Result<Stream> {
    let mut stream = match &endpoint.socket {
        None => {
            let stream = TcpStream::connect(endpoint.address).await?;
            stream.set_nodelay(true)?;
            SocketStream::from(stream)
        }
        Some(path) => SocketStream::from(UnixStream::connect(path).await?),
    };
    stream.tracer = counted.map(|counted| Tracer(Box::new(counted)));
    Ok(Box::new(stream))
}

/// Maps an error of socket(2) or connect(2). For a Unix socket, a missing one, one that this process may not use, and
/// one whose backlog is full are what a refused connection is for TCP.
fn connect_fault(error: &io::Error, is_unix: bool) -> Fault {
    let cause = match (error.kind(), error.raw_os_error()) {
        (ErrorKind::ConnectionRefused, _) => Cause::ConnectionRefused,
        (ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::WouldBlock, _) if is_unix => {
            Cause::ConnectionRefused
        }
        (ErrorKind::TimedOut, _) => Cause::ConnectionTimeout,
        // EPERM and EACCES: a firewall of this machine.
        (ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::PermissionDenied, _) => {
            Cause::DestinationIpUnroutable
        }
        // No free port, and no file descriptor or memory for a socket.
        (ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse | ErrorKind::OutOfMemory, _)
        | (_, Some(EMFILE | ENFILE | ENOBUFS)) => Cause::ResourceExhausted,
        // The peer ended the attempt.
        _ => Cause::ConnectionTerminated,
    };
    Fault::new(cause, Phase::Connect).with_evidence(Evidence::owned(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn drain_closes_every_idle_connection_also_after_one_that_the_server_closed() {
        let candidate = Candidate::for_test("a", ([127, 0, 0, 1], 1).into());
        for closed in 0..3 {
            let transport = Transport::new(3, Duration::from_secs(60), None, HttpVersionPolicy::Http1);
            let mut servers = Vec::new();
            for _ in 0..3 {
                let (client_io, server_io) = tokio::io::duplex(16);
                transport.release(Box::new(client_io), &candidate, None);
                servers.push(server_io);
            }
            drop(servers.remove(closed));
            transport.drain(&candidate);
            for mut server in servers {
                let mut received = Vec::new();
                let end = tokio::io::AsyncReadExt::read_to_end(&mut server, &mut received);
                let end = timeout_at(Instant::now() + Duration::from_secs(20), end).await;
                assert_eq!(end.map(Result::unwrap), Some(0), "{closed}");
            }
        }
    }

    #[tokio::test]
    async fn server_timeout_limits_how_long_a_connection_is_kept() {
        let candidate = Candidate::for_test("a", ([127, 0, 0, 1], 1).into());
        let transport = Transport::new(3, Duration::from_secs(60), None, HttpVersionPolicy::Http1);
        for (seconds, kept) in [(0, false), (1, false), (3, true)] {
            let (client_io, _server_io) = tokio::io::duplex(16);
            transport.release(Box::new(client_io), &candidate, Some(Duration::from_secs(seconds)));
            assert_eq!(transport.reuse(&candidate, Duration::MAX).is_some(), kept, "{seconds}");
        }
    }

    /// RFC 8305: an address that does not answer delays the connection by 250 ms, one that refuses by nothing.
    #[tokio::test]
    async fn first_address_that_accepts_is_used() {
        let transport = Transport::new(1, Duration::from_secs(1), None, HttpVersionPolicy::Http1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let accepting = Candidate::for_test("a", listener.local_addr().unwrap());
        let refusing = Candidate::for_test("a", ([127, 0, 0, 1], 1).into());
        let addresses = [Arc::clone(refusing.endpoint()), Arc::clone(accepting.endpoint())];
        let limit = Duration::from_secs(60);
        let open = OpenConnections::default();
        let outcome = transport.connect_first(&addresses, limit, Instant::now() + limit, &open).await;
        let (connected, stream) = outcome.result.unwrap();
        assert_eq!(open.count(), 1);
        drop(stream);
        assert_eq!(open.count(), 0);
        assert_eq!(connected.address, accepting.address);
        assert!(matches!(outcome.failed.as_slice(), [failed] if failed.address == refusing.address));
        let none = transport.connect_first(&addresses[..1], limit, Instant::now() + limit, &open).await;
        assert_eq!(none.result.err().unwrap().cause(), Cause::ConnectionRefused);
        assert_eq!(open.count(), 0);
    }

    #[test]
    fn connect_errors_map_to_causes() {
        let fault = |number, is_unix| connect_fault(&io::Error::from_raw_os_error(number), is_unix);
        let refused = fault(111, false);
        assert_eq!(refused.evidence().for_log(usize::MAX), "Connection refused (os error 111)");
        for (number, cause) in [
            (111, Cause::ConnectionRefused),
            (110, Cause::ConnectionTimeout),
            (101, Cause::DestinationIpUnroutable),
            (113, Cause::DestinationIpUnroutable),
            (1, Cause::DestinationIpUnroutable),
            (EMFILE, Cause::ResourceExhausted),
            (ENFILE, Cause::ResourceExhausted),
            (ENOBUFS, Cause::ResourceExhausted),
            (12, Cause::ResourceExhausted),
            (99, Cause::ResourceExhausted),
            (104, Cause::ConnectionTerminated),
        ] {
            assert_eq!(fault(number, false).cause(), cause, "{number}");
        }
        for number in [2, 11, 13] {
            assert_eq!(fault(number, true).cause(), Cause::ConnectionRefused, "{number}");
        }
    }
}
