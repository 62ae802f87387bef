//! The pool of shared HTTP/2 connections of one upstream.
//!
//! A request acquires a [`StreamSlot`], which reserves one stream on a connection within the server's limit. [`driver`]
//! runs a connection with the `h2` crate. [`goaway_observer`] extracts information from the frames that the crate does
//! not expose.

mod driver;
mod goaway_observer;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedMutexGuard};

use super::candidate::Candidate;
use super::endpoint::Endpoint;
use crate::contract::Fault;
use goaway_observer::ObservedState;

/// Maximum number of concurrent streams per connection, even if the server allows more: bounds the connection window.
const MAX_STREAMS: usize = 100;
/// Maximum number of addresses with stored state; unused entries above it are removed. DNS may keep returning new
/// addresses.
const MAX_SERVERS: usize = 1024;

/// When requests are sent over HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Http2")]
pub enum HttpVersionPolicy {
    /// Never.
    #[default]
    #[serde(rename = "off")]
    Http1,
    /// If a TLS server selects it (ALPN).
    Auto,
    /// Always, without negotiation.
    #[serde(rename = "always")]
    Http2,
}

/// The shared HTTP/2 connections of one upstream.
pub(crate) struct Http2Pool {
    version_policy: HttpVersionPolicy,
    servers: Mutex<HashMap<ServerKey, Arc<ServerPool>>>,
    /// Number of connections without a stream.
    idle_count: Arc<AtomicUsize>,
    max_idle: usize,
    idle_timeout: Duration,
}

impl fmt::Debug for Http2Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2Pool").field("version_policy", &self.version_policy).finish_non_exhaustive()
    }
}

/// An address and the label of its server.
type ServerKey = (SocketAddr, Arc<str>);

/// The state of one server.
#[derive(Default)]
struct ServerPool {
    connections: Mutex<Vec<Arc<SharedConnection>>>,
    /// Held while a connection is opened, so that concurrent requests share it.
    connect_lock: Arc<tokio::sync::Mutex<()>>,
    /// The result of the last ALPN negotiation: one of the constants below.
    protocol: AtomicU8,
}

const UNKNOWN: u8 = 0;
const HTTP_1: u8 = 1;
const HTTP_2: u8 = 2;

/// Which open connections a request may use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reusable {
    /// One that has a stream, or has had none for at most this long.
    IdleFor(Duration),
    /// One that was opened at this time or later.
    OpenedSince(Instant),
}

/// One connection, shared by the requests on it and its driver.
struct SharedConnection {
    opened_at: Instant,
    /// `None` once no new stream may be opened.
    send: Mutex<Option<SendRequest<Bytes>>>,
    state: Mutex<ConnectionState>,
    observed: Arc<ObservedState>,
    /// Wakes the driver after a change of the state.
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct ConnectionState {
    /// Number of acquired slots.
    streams: usize,
    /// When the last slot was released.
    idle_since: Instant,
    /// A PING acknowledgement is required before another stream is opened.
    probing: bool,
    /// No PING acknowledgement was received in time.
    ping_timed_out: bool,
    /// The connection is closed.
    closed: bool,
}

/// Limits on idle connections.
struct IdleLimit {
    /// Number of idle connections in the pool.
    count: Arc<AtomicUsize>,
    max: usize,
    timeout: Duration,
}

impl Http2Pool {
    /// Keeps at most `max_idle` idle connections, each for `idle_timeout`.
    pub(crate) fn new(version_policy: HttpVersionPolicy, max_idle: usize, idle_timeout: Duration) -> Self {
        Http2Pool {
            version_policy,
            servers: Mutex::default(),
            idle_count: Arc::default(),
            max_idle,
            idle_timeout: if max_idle == 0 { Duration::ZERO } else { idle_timeout },
        }
    }

    /// Which HTTP version to use.
    pub(crate) const fn version_policy(&self) -> HttpVersionPolicy {
        self.version_policy
    }

    /// How many connections have no stream.
    pub(super) fn idle_count(&self) -> usize {
        self.idle_count.load(Ordering::Relaxed)
    }

    /// Whether requests to this server may use HTTP/2, as far as the policy and the last ALPN result allow.
    pub(crate) fn may_serve(&self, candidate: &Candidate) -> bool {
        match self.version_policy {
            HttpVersionPolicy::Http1 => false,
            HttpVersionPolicy::Auto => {
                candidate.tls_name.is_some()
                    && self.server(candidate).protocol.load(Ordering::Relaxed) != HTTP_1
            }
            HttpVersionPolicy::Http2 => true,
        }
    }

    /// Stores the result of an ALPN negotiation.
    pub(crate) fn set_negotiated(&self, candidate: &Candidate, http2: bool) {
        let protocol = if http2 { HTTP_2 } else { HTTP_1 };
        self.server(candidate).protocol.store(protocol, Ordering::Relaxed);
    }

    /// Acquires a slot on an open connection that is `reusable`, if one has capacity.
    pub(crate) fn acquire_stream(&self, candidate: &Candidate, reusable: Reusable) -> Option<StreamSlot> {
        let server = self.server(candidate);
        let mut connections = server.connections.lock();
        connections.retain(|connection| connection.send.lock().is_some());
        connections.iter().find_map(|connection| self.try_slot(connection, reusable))
    }

    /// Locks the right to open a connection to this server. After waiting, try [`Http2Pool::acquire_stream`] again
    /// first.
    pub(crate) async fn lock_connect(&self, candidate: &Candidate) -> OwnedMutexGuard<()> {
        let lock = Arc::clone(&self.server(candidate).connect_lock);
        lock.lock_owned().await
    }

    /// Starts HTTP/2 on a new connection and acquires a slot on it. The caller applies a timeout.
    ///
    /// # Errors
    /// The server did not send a valid connection preface. No request was sent.
    pub(crate) async fn start_connection<S>(
        &self,
        candidate: &Candidate,
        stream: S,
    ) -> Result<StreamSlot, Fault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let idle_limit =
            IdleLimit { count: Arc::clone(&self.idle_count), max: self.max_idle, timeout: self.idle_timeout };
        let connection = driver::start(stream, idle_limit).await?;
        self.server(candidate).connections.lock().push(Arc::clone(&connection));
        Ok(StreamSlot { connection, idle_count: Arc::clone(&self.idle_count) })
    }

    /// Opens no further stream on these connections, because a reload has removed the upstream. Requests in flight are
    /// not affected.
    pub(crate) fn close_gracefully(&self) {
        for server in self.servers.lock().values() {
            for connection in server.connections.lock().iter() {
                connection.close_gracefully();
            }
        }
    }

    /// Opens no further stream on the connections to this address. Requests in flight are not affected.
    pub(crate) fn drain(&self, endpoint: &Endpoint) {
        let key = (endpoint.address, Arc::clone(&endpoint.server));
        if let Some(server) = self.servers.lock().remove(&key) {
            server.connections.lock().iter().for_each(|connection| connection.close_gracefully());
        }
    }

    fn server(&self, candidate: &Candidate) -> Arc<ServerPool> {
        let mut servers = self.servers.lock();
        if servers.len() > MAX_SERVERS {
            servers
                .retain(|_, server| Arc::strong_count(server) > 1 || !server.connections.lock().is_empty());
        }
        let key = (candidate.address, Arc::clone(&candidate.server));
        let new = || Arc::new(ServerPool { protocol: AtomicU8::new(UNKNOWN), ..ServerPool::default() });
        Arc::clone(servers.entry(key).or_insert_with(new))
    }

    fn try_slot(&self, connection: &Arc<SharedConnection>, reusable: Reusable) -> Option<StreamSlot> {
        if connection.observed.last_stream() != u32::MAX {
            // A GOAWAY was read, and the driver is about to process it.
            return None;
        }
        // Keep the lock, so that the driver cannot close the connection meanwhile.
        let send = connection.send.lock();
        let max_streams = send.as_ref()?.current_max_send_streams().min(MAX_STREAMS);
        let mut state = connection.state.lock();
        if state.probing || state.streams >= max_streams {
            return None;
        }
        let usable = match reusable {
            Reusable::IdleFor(max_idle) => {
                state.streams > 0 || max_idle == Duration::MAX || state.idle_since.elapsed() <= max_idle
            }
            Reusable::OpenedSince(time) => connection.opened_at >= time,
        };
        if !usable {
            return None;
        }
        if state.streams == 0 {
            self.idle_count.fetch_sub(1, Ordering::Relaxed);
        }
        state.streams += 1;
        let idle_count = Arc::clone(&self.idle_count);
        Some(StreamSlot { connection: Arc::clone(connection), idle_count })
    }
}

impl Drop for Http2Pool {
    fn drop(&mut self) {
        self.close_gracefully();
    }
}

impl SharedConnection {
    /// Opens no further stream; the driver closes the connection after the last one.
    fn close_gracefully(&self) {
        *self.send.lock() = None;
        self.changed.notify_one();
    }
}

/// Reserves one stream on a connection; released on drop.
pub(crate) struct StreamSlot {
    connection: Arc<SharedConnection>,
    idle_count: Arc<AtomicUsize>,
}

impl fmt::Debug for StreamSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSlot").field("state", &*self.connection.state.lock()).finish_non_exhaustive()
    }
}

impl StreamSlot {
    /// Opens a stream and sends the request header section.
    ///
    /// # Errors
    /// The connection accepts no new stream; nothing was sent.
    pub(crate) fn open(
        &self,
        request: Request<()>,
        end_stream: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Option<h2::Error>> {
        let mut send = self.connection.send.lock();
        match send.as_ref() {
            Some(sender) => {
                // The `h2` crate counts a stream until its RST_STREAM is written, so a slot may be free before the
                // crate agrees. It then queues one stream per clone of the sender, and fails the next one.
                let opened = sender.clone().send_request(request, end_stream);
                if opened.is_err() {
                    *send = None;
                    self.connection.changed.notify_one();
                }
                opened.map_err(Some)
            }
            None => Err(None),
        }
    }

    /// Whether a GOAWAY reported that the server did not process this stream.
    pub(crate) fn is_unprocessed(&self, stream: u32) -> bool {
        stream > self.connection.observed.last_stream()
    }

    /// Whether the server has sent END_STREAM on this stream and all data before it can be read.
    pub(crate) fn ended(&self, stream: u32) -> bool {
        self.connection.observed.ended(stream)
    }

    /// Whether the server has sent a header block on this stream that is larger than the header list of a response may
    /// be.
    pub(crate) fn has_large_header_block(&self, stream: u32) -> bool {
        self.connection.observed.has_large_header_block(stream)
    }

    /// The error code of the server's GOAWAY; 0 for NO_ERROR or without a GOAWAY.
    pub(crate) fn goaway_code(&self) -> u32 {
        self.connection.observed.goaway_code()
    }

    /// The TLS error that ended the connection.
    pub(crate) fn tls_error(&self) -> Option<&str> {
        self.connection.observed.tls_error()
    }

    /// Whether the connection was closed because of a missing PING acknowledgement.
    pub(crate) fn ping_timed_out(&self) -> bool {
        self.connection.state.lock().ping_timed_out
    }

    /// Requires a PING acknowledgement before the connection gets another stream. Called when a stream timed out.
    pub(crate) fn probe(&self) {
        self.connection.state.lock().probing = true;
        self.connection.changed.notify_one();
    }

    /// Opens no further stream on this connection.
    pub(crate) fn close_gracefully(&self) {
        self.connection.close_gracefully();
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut state = self.connection.state.lock();
        state.streams -= 1;
        if state.streams == 0 && !state.closed {
            state.idle_since = Instant::now();
            self.idle_count.fetch_add(1, Ordering::Relaxed);
            drop(state);
            self.connection.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Response;
    use tokio::io::DuplexStream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::upstream::timer::timeout_at;

    /// A server with two concurrent streams. It reports each request and responds to those for `/answered`.
    #[expect(clippy::disallowed_methods, reason = "the upstream of a test, not a client response")]
    async fn serve(stream: DuplexStream, requests_tx: mpsc::UnboundedSender<()>) {
        let mut options = h2::server::Builder::new();
        let mut connection = options.max_concurrent_streams(2).handshake::<_, Bytes>(stream).await.unwrap();
        let mut unanswered_requests = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if request.uri().path() == "/answered" {
                respond.send_response(Response::new(()), true).unwrap();
            } else {
                unanswered_requests.push(respond);
            }
            requests_tx.send(()).unwrap();
        }
    }

    const ANY: Reusable = Reusable::IdleFor(Duration::MAX);

    fn open(slot: &StreamSlot, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder().uri(format!("http://test{path}")).body(()).unwrap();
        slot.open(request, true).unwrap()
    }

    #[tokio::test]
    async fn connection_is_shared_with_requests_that_needed_a_new_one_before_it_was_opened() {
        let http2 = Http2Pool::new(HttpVersionPolicy::Http2, 1, Duration::from_secs(60));
        let candidate = Candidate::for_test("test", SocketAddr::from(([127, 0, 0, 1], 1)));
        let (client_io, server_io) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(server_io, mpsc::unbounded_channel().0));
        let before = Instant::now();
        let first = http2.start_connection(&candidate, client_io).await.unwrap();
        let after = first.connection.opened_at + Duration::from_nanos(1);
        assert!(http2.acquire_stream(&candidate, Reusable::OpenedSince(after)).is_none());
        assert!(http2.acquire_stream(&candidate, Reusable::OpenedSince(before)).is_some());
    }

    // One thread: nothing is written between two await points.
    #[tokio::test]
    async fn slot_is_usable_before_the_previous_streams_reset_is_sent() {
        let test = async {
            let http2 = Http2Pool::new(HttpVersionPolicy::Http2, 1, Duration::from_secs(60));
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let candidate = Candidate::for_test("test", address);
            let (client_io, server_io) = tokio::io::duplex(1 << 16);
            let (requests_tx, mut requests_rx) = mpsc::unbounded_channel();
            tokio::spawn(serve(server_io, requests_tx));
            let first = http2.start_connection(&candidate, client_io).await.unwrap();
            let mut slots = vec![first, http2.acquire_stream(&candidate, ANY).unwrap()];
            for _ in 0..10 {
                let streams: Vec<_> = slots.iter().map(|slot| open(slot, "/cancelled")).collect();
                for _ in &streams {
                    requests_rx.recv().await.unwrap();
                }
                drop(streams);
                slots.clear();
                slots.extend([
                    http2.acquire_stream(&candidate, ANY).unwrap(),
                    http2.acquire_stream(&candidate, ANY).unwrap(),
                ]);
                let streams: Vec<_> = slots.iter().map(|slot| open(slot, "/answered")).collect();
                for (response, _) in streams {
                    assert_eq!(response.await.unwrap().status(), 200);
                    requests_rx.recv().await.unwrap();
                }
            }
        };
        timeout_at(Instant::now() + Duration::from_secs(10), test)
            .await
            .expect("all requests get a response");
    }
}
