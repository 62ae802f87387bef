//! Connections that carry many requests at once: HTTP/2 towards the servers of one upstream.
//!
//! One pool for each upstream. A request gets a [`StreamSlot`]: a place for one stream on a connection, as many at once as the
//! server allows. It knows no request and no limit on one; frames are made by the `h2` crate, a connection is begun and
//! looked after in [`driver`], and what the crate keeps to itself is read in [`goaway_observer`].

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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedMutexGuard};

use super::runtime::Candidate;
use crate::contract::Fault;
use goaway_observer::ObservedState;

/// Most streams at once on one connection, also where the server allows more: so the windows are bounded together.
const MAX_STREAMS: usize = 100;
/// Servers that are remembered. Names may resolve to ever new addresses.
const MAX_SERVERS: usize = 1024;

/// Whether an upstream is spoken to in HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersionPolicy {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// Where a server that speaks TLS agrees to it (ALPN).
    Auto,
    /// Without asking.
    Http2,
}

/// The connections of one upstream.
pub struct Http2Pool {
    version_policy: HttpVersionPolicy,
    servers: Mutex<HashMap<ServerKey, Arc<ServerPool>>>,
    /// Connections without a request: how many now, at most, and for how long.
    idle_count: Arc<AtomicUsize>,
    max_idle: usize,
    idle_timeout: Duration,
}

impl fmt::Debug for Http2Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("speak", &self.version_policy).finish_non_exhaustive()
    }
}

/// An address under one of its names.
type ServerKey = (SocketAddr, Arc<str>);

/// What is known of one server.
#[derive(Default)]
struct ServerPool {
    connections: Mutex<Vec<Arc<SharedConnection>>>,
    /// Held while a connection is made: requests that come together share one.
    connect_lock: Arc<tokio::sync::Mutex<()>>,
    /// What it agreed to last: one of the constants below.
    protocol: AtomicU8,
}

const UNKNOWN: u8 = 0;
const HTTP_1: u8 = 1;
const HTTP_2: u8 = 2;

/// One connection, as the requests on it share it.
struct SharedConnection {
    /// `None` once no new stream may begin.
    send: Mutex<Option<SendRequest<Bytes>>>,
    state: Mutex<ConnectionState>,
    observed: Arc<ObservedState>,
    /// Wakes the keeper: something of the state has changed.
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct ConnectionState {
    /// Streams now.
    streams: usize,
    /// Since when there is none.
    idle_since: Instant,
    /// It has to show that it is alive before it gets another stream.
    probing: bool,
    /// It did not show it.
    ping_timed_out: bool,
    /// It has ended.
    closed: bool,
}

/// How connections without a request are kept.
struct IdleLimit {
    /// How many there are in this pool, and how many there may be.
    count: Arc<AtomicUsize>,
    max: usize,
    /// And for how long.
    timeout: Duration,
}

impl Http2Pool {
    /// Keeps at most `max_idle` connections without a request, each for `idle`.
    pub fn new(version_policy: HttpVersionPolicy, max_idle: usize, idle_timeout: Duration) -> Self {
        Http2Pool {
            version_policy,
            servers: Mutex::default(),
            idle_count: Arc::default(),
            max_idle,
            idle_timeout: if max_idle == 0 { Duration::ZERO } else { idle_timeout },
        }
    }

    /// Whether HTTP/2 is spoken.
    pub const fn version_policy(&self) -> HttpVersionPolicy {
        self.version_policy
    }

    /// Whether this server may have, or get, a connection that speaks HTTP/2.
    pub fn may_serve(&self, candidate: &Candidate) -> bool {
        match self.version_policy {
            HttpVersionPolicy::Http1 => false,
            HttpVersionPolicy::Auto => {
                candidate.tls_name.is_some()
                    && self.server(candidate).protocol.load(Ordering::Relaxed) != HTTP_1
            }
            HttpVersionPolicy::Http2 => true,
        }
    }

    /// What the server agreed to.
    pub fn set_negotiated(&self, candidate: &Candidate, http2: bool) {
        let protocol = if http2 { HTTP_2 } else { HTTP_1 };
        self.server(candidate).protocol.store(protocol, Ordering::Relaxed);
    }

    /// A place on a connection that is there.
    pub fn acquire_stream(&self, candidate: &Candidate) -> Option<StreamSlot> {
        let server = self.server(candidate);
        let mut connections = server.connections.lock();
        connections.retain(|connection| connection.send.lock().is_some());
        connections.iter().find_map(|connection| self.try_slot(connection))
    }

    /// The right to make a connection to this server. Whoever waited for it looks for a place first.
    pub async fn lock_connect(&self, candidate: &Candidate) -> OwnedMutexGuard<()> {
        let lock = Arc::clone(&self.server(candidate).connect_lock);
        lock.lock_owned().await
    }

    /// Begins HTTP/2 on a connection that was just made, and takes a place on it. The caller limits its time.
    ///
    /// # Errors
    /// The server does not greet as HTTP/2 demands; nothing of a request has been sent.
    pub async fn start_connection<S>(&self, candidate: &Candidate, stream: S) -> Result<StreamSlot, Fault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let idle_limit =
            IdleLimit { count: Arc::clone(&self.idle_count), max: self.max_idle, timeout: self.idle_timeout };
        let connection = driver::start(stream, idle_limit).await?;
        self.server(candidate).connections.lock().push(Arc::clone(&connection));
        Ok(StreamSlot { connection, idle_count: Arc::clone(&self.idle_count) })
    }

    /// The upstream is gone from the configuration: what is under way ends as it would have, and nothing else begins on
    /// these connections.
    pub fn close_gracefully(&self) {
        for server in self.servers.lock().values() {
            for connection in server.connections.lock().iter() {
                connection.close_gracefully();
            }
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

    fn try_slot(&self, connection: &Arc<SharedConnection>) -> Option<StreamSlot> {
        if connection.observed.last_stream() != u32::MAX {
            // A GOAWAY has been read, and its keeper is about to know.
            return None;
        }
        // Held, so that the connection does not end meanwhile.
        let send = connection.send.lock();
        let max_streams = send.as_ref()?.current_max_send_streams().min(MAX_STREAMS);
        let mut state = connection.state.lock();
        if state.probing || state.streams >= max_streams {
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
    /// No new stream begins.
    fn close_gracefully(&self) {
        *self.send.lock() = None;
        self.changed.notify_one();
    }
}

/// A place for one stream on a connection; given back when it is dropped.
pub struct StreamSlot {
    connection: Arc<SharedConnection>,
    idle_count: Arc<AtomicUsize>,
}

impl fmt::Debug for StreamSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("state", &*self.connection.state.lock()).finish_non_exhaustive()
    }
}

impl StreamSlot {
    /// Sends a request's head on a stream of its own.
    ///
    /// # Errors
    /// The connection takes no new stream; nothing was sent.
    pub fn open(
        &self,
        request: Request<()>,
        end_stream: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Option<h2::Error>> {
        let mut send = self.connection.send.lock();
        match send.as_ref() {
            Some(sender) => {
                // The library counts a stream until its reset has left: a place that was given back before may be one to
                // wait for. It lets one stream wait for each clone, and refuses the next as if the connection had ended.
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

    /// The server has said that it has not looked at this stream and never will.
    pub fn is_unprocessed(&self, stream: u32) -> bool {
        stream > self.connection.observed.last_stream()
    }

    /// The server has ended this stream, and all that it had sent on it is there to be read.
    pub fn ended(&self, stream: u32) -> bool {
        self.connection.observed.ended(stream)
    }

    /// The code with which the server has taken leave (GOAWAY); 0 where it did so in peace, or did not.
    pub fn goaway_code(&self) -> u32 {
        self.connection.observed.goaway_code()
    }

    /// The connection was ended because it gave no sign of life.
    pub fn ping_timed_out(&self) -> bool {
        self.connection.state.lock().ping_timed_out
    }

    /// A stream on it ran into a limit of time: the connection has to show that it is alive before it gets another.
    pub fn probe(&self) {
        self.connection.state.lock().probing = true;
        self.connection.changed.notify_one();
    }

    /// The connection ends with the streams that it has.
    pub fn close_gracefully(&self) {
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

    /// Two streams at once. It tells of each request, and answers those for `/answered`.
    #[expect(clippy::disallowed_methods, reason = "this is the upstream, and no client is told anything")]
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

    fn open(slot: &StreamSlot, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder().uri(format!("http://test{path}")).body(()).unwrap();
        slot.open(request, true).unwrap()
    }

    // One thread: between two waits nothing leaves.
    #[tokio::test]
    async fn slot_is_usable_before_the_previous_streams_reset_is_sent() {
        let test = async {
            let http2 = Http2Pool::new(HttpVersionPolicy::Http2, 1, Duration::from_secs(60));
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let candidate = Candidate { server: "test".into(), address, tls_name: None };
            let (client_io, server_io) = tokio::io::duplex(1 << 16);
            let (requests_tx, mut requests_rx) = mpsc::unbounded_channel();
            tokio::spawn(serve(server_io, requests_tx));
            let first = http2.start_connection(&candidate, client_io).await.unwrap();
            let mut slots = vec![first, http2.acquire_stream(&candidate).unwrap()];
            for _ in 0..10 {
                let streams: Vec<_> = slots.iter().map(|slot| open(slot, "/cancelled")).collect();
                for _ in &streams {
                    requests_rx.recv().await.unwrap();
                }
                drop(streams);
                slots.clear();
                slots.extend([
                    http2.acquire_stream(&candidate).unwrap(),
                    http2.acquire_stream(&candidate).unwrap(),
                ]);
                let streams: Vec<_> = slots.iter().map(|slot| open(slot, "/answered")).collect();
                for (response, _) in streams {
                    assert_eq!(response.await.unwrap().status(), 200);
                    requests_rx.recv().await.unwrap();
                }
            }
        };
        timeout_at(Instant::now() + Duration::from_secs(10), test).await.expect("all are answered");
    }
}
