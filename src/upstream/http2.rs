//! Connections that carry many requests at once: HTTP/2 towards the servers of one upstream.
//!
//! One pool for each upstream. A request gets a [`Slot`]: a place for one stream on a connection, as many at once as the
//! server allows. It knows no request and no limit on one; frames are made by the `h2` crate, a connection is begun and
//! looked after in [`keep`], and what the crate keeps to itself is read in [`watch`].

mod keep;
mod watch;

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
use watch::Seen;

/// Most streams at once on one connection, also where the server allows more: so the windows are bounded together.
const MOST_STREAMS: usize = 100;
/// Servers that are remembered. Names may resolve to ever new addresses.
const MOST_SERVERS: usize = 1024;

/// Whether an upstream is spoken to in HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speak {
    /// HTTP/1.1.
    #[default]
    Never,
    /// Where a server that speaks TLS agrees to it (ALPN).
    WhereOffered,
    /// Without asking.
    Always,
}

/// The connections of one upstream.
pub struct Http2 {
    speak: Speak,
    servers: Mutex<HashMap<Key, Arc<Server>>>,
    /// Connections without a request: how many now, at most, and for how long.
    resting: Arc<AtomicUsize>,
    most_resting: usize,
    idle: Duration,
}

impl fmt::Debug for Http2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http2").field("speak", &self.speak).finish_non_exhaustive()
    }
}

/// An address under one of its names.
type Key = (SocketAddr, Arc<str>);

/// What is known of one server.
#[derive(Default)]
struct Server {
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held while a connection is made: requests that come together share one.
    making: Arc<tokio::sync::Mutex<()>>,
    /// What it agreed to last: one of the constants below.
    speaks: AtomicU8,
}

const UNKNOWN: u8 = 0;
const HTTP_1: u8 = 1;
const HTTP_2: u8 = 2;

/// One connection, as the requests on it share it.
struct Connection {
    /// `None` once no new stream may begin.
    send: Mutex<Option<SendRequest<Bytes>>>,
    state: Mutex<State>,
    seen: Arc<Seen>,
    /// Wakes the keeper: something of the state has changed.
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// Streams now.
    open: usize,
    /// Since when there is none.
    resting_since: Instant,
    /// It has to show that it is alive before it gets another stream.
    doubted: bool,
    /// It did not show it.
    silent: bool,
    /// It has ended.
    over: bool,
}

/// How connections without a request are kept.
struct Resting {
    /// How many there are in this pool, and how many there may be.
    now: Arc<AtomicUsize>,
    most: usize,
    /// And for how long.
    idle: Duration,
}

impl Http2 {
    /// Keeps at most `most_resting` connections without a request, each for `idle`.
    pub fn new(speak: Speak, most_resting: usize, idle: Duration) -> Self {
        Http2 {
            speak,
            servers: Mutex::default(),
            resting: Arc::default(),
            most_resting,
            idle: if most_resting == 0 { Duration::ZERO } else { idle },
        }
    }

    /// Whether HTTP/2 is spoken.
    pub const fn speak(&self) -> Speak {
        self.speak
    }

    /// Whether this server may have, or get, a connection that speaks HTTP/2.
    pub fn may_serve(&self, candidate: &Candidate) -> bool {
        match self.speak {
            Speak::Never => false,
            Speak::WhereOffered => {
                candidate.name.is_some() && self.server(candidate).speaks.load(Ordering::Relaxed) != HTTP_1
            }
            Speak::Always => true,
        }
    }

    /// What the server agreed to.
    pub fn agreed(&self, candidate: &Candidate, to_http2: bool) {
        let speaks = if to_http2 { HTTP_2 } else { HTTP_1 };
        self.server(candidate).speaks.store(speaks, Ordering::Relaxed);
    }

    /// A place on a connection that is there.
    pub fn take(&self, candidate: &Candidate) -> Option<Slot> {
        let server = self.server(candidate);
        let mut connections = server.connections.lock();
        connections.retain(|connection| connection.send.lock().is_some());
        connections.iter().find_map(|connection| self.slot(connection))
    }

    /// The right to make a connection to this server. Whoever waited for it looks for a place first.
    pub async fn making(&self, candidate: &Candidate) -> OwnedMutexGuard<()> {
        let making = Arc::clone(&self.server(candidate).making);
        making.lock_owned().await
    }

    /// Begins HTTP/2 on a connection that was just made, and takes a place on it. The caller limits its time.
    ///
    /// # Errors
    /// The server does not greet as HTTP/2 demands; nothing of a request has been sent.
    pub async fn begin<S>(&self, candidate: &Candidate, stream: S) -> Result<Slot, Fault>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let resting = Resting { now: Arc::clone(&self.resting), most: self.most_resting, idle: self.idle };
        let connection = keep::begin(stream, resting).await?;
        self.server(candidate).connections.lock().push(Arc::clone(&connection));
        Ok(Slot { connection, resting: Arc::clone(&self.resting) })
    }

    /// The upstream is gone from the configuration: what is under way ends as it would have, and nothing else begins on
    /// these connections.
    pub fn retire(&self) {
        for server in self.servers.lock().values() {
            for connection in server.connections.lock().iter() {
                connection.retire();
            }
        }
    }

    fn server(&self, candidate: &Candidate) -> Arc<Server> {
        let mut servers = self.servers.lock();
        if servers.len() > MOST_SERVERS {
            servers
                .retain(|_, server| Arc::strong_count(server) > 1 || !server.connections.lock().is_empty());
        }
        let key = (candidate.address, Arc::clone(&candidate.server));
        let new = || Arc::new(Server { speaks: AtomicU8::new(UNKNOWN), ..Server::default() });
        Arc::clone(servers.entry(key).or_insert_with(new))
    }

    fn slot(&self, connection: &Arc<Connection>) -> Option<Slot> {
        if connection.seen.last_stream() != u32::MAX {
            // A GOAWAY has been read, and its keeper is about to know.
            return None;
        }
        // Held, so that the connection does not end meanwhile.
        let send = connection.send.lock();
        let room = send.as_ref()?.current_max_send_streams().min(MOST_STREAMS);
        let mut state = connection.state.lock();
        if state.doubted || state.open >= room {
            return None;
        }
        if state.open == 0 {
            self.resting.fetch_sub(1, Ordering::Relaxed);
        }
        state.open += 1;
        let resting = Arc::clone(&self.resting);
        Some(Slot { connection: Arc::clone(connection), resting })
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.retire();
    }
}

impl Connection {
    /// No new stream begins.
    fn retire(&self) {
        *self.send.lock() = None;
        self.changed.notify_one();
    }
}

/// A place for one stream on a connection; given back when it is dropped.
pub struct Slot {
    connection: Arc<Connection>,
    resting: Arc<AtomicUsize>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("state", &*self.connection.state.lock()).finish_non_exhaustive()
    }
}

impl Slot {
    /// Sends a request's head on a stream of its own.
    ///
    /// # Errors
    /// The connection takes no new stream; nothing was sent.
    pub fn open(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), Option<h2::Error>> {
        let mut send = self.connection.send.lock();
        match send.as_ref() {
            Some(sender) => {
                // The library counts a stream until its reset has left: a place that was given back before may be one to
                // wait for. It lets one stream wait for each clone, and refuses the next as if the connection had ended.
                let opened = sender.clone().send_request(request, ends);
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
    pub fn passed_over(&self, stream: u32) -> bool {
        stream > self.connection.seen.last_stream()
    }

    /// The server has ended this stream, and all that it had sent on it is there to be read.
    pub fn ended(&self, stream: u32) -> bool {
        self.connection.seen.ended(stream)
    }

    /// The code with which the server has taken leave (GOAWAY); 0 where it did so in peace, or did not.
    pub fn leaves_for(&self) -> u32 {
        self.connection.seen.leaves_for()
    }

    /// The connection was ended because it gave no sign of life.
    pub fn fell_silent(&self) -> bool {
        self.connection.state.lock().silent
    }

    /// A stream on it ran into a limit of time: the connection has to show that it is alive before it gets another.
    pub fn doubt(&self) {
        self.connection.state.lock().doubted = true;
        self.connection.changed.notify_one();
    }

    /// The connection ends with the streams that it has.
    pub fn retire(&self) {
        self.connection.retire();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.connection.state.lock();
        state.open -= 1;
        if state.open == 0 && !state.over {
            state.resting_since = Instant::now();
            self.resting.fetch_add(1, Ordering::Relaxed);
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
    use crate::upstream::timer::within;

    /// Two streams at once. It tells of each request, and answers those for `/answered`.
    #[expect(clippy::disallowed_methods, reason = "this is the upstream, and no client is told anything")]
    async fn serve(stream: DuplexStream, seen: mpsc::UnboundedSender<()>) {
        let mut options = h2::server::Builder::new();
        let mut connection = options.max_concurrent_streams(2).handshake::<_, Bytes>(stream).await.unwrap();
        let mut held = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if request.uri().path() == "/answered" {
                respond.send_response(Response::new(()), true).unwrap();
            } else {
                held.push(respond);
            }
            seen.send(()).unwrap();
        }
    }

    fn open(slot: &Slot, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::builder().uri(format!("http://test{path}")).body(()).unwrap();
        slot.open(request, true).unwrap()
    }

    // One thread: between two waits nothing leaves.
    #[tokio::test]
    async fn a_place_is_good_before_the_reset_of_the_stream_that_had_it_has_left() {
        let whole = async {
            let http2 = Http2::new(Speak::Always, 1, Duration::from_secs(60));
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let candidate = Candidate { server: "test".into(), address, name: None };
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (seen, mut requests) = mpsc::unbounded_channel();
            tokio::spawn(serve(theirs, seen));
            let first = http2.begin(&candidate, ours).await.unwrap();
            let mut slots = vec![first, http2.take(&candidate).unwrap()];
            for _ in 0..10 {
                let streams: Vec<_> = slots.iter().map(|slot| open(slot, "/cancelled")).collect();
                for _ in &streams {
                    requests.recv().await.unwrap();
                }
                drop(streams);
                slots.clear();
                slots.extend([http2.take(&candidate).unwrap(), http2.take(&candidate).unwrap()]);
                let streams: Vec<_> = slots.iter().map(|slot| open(slot, "/answered")).collect();
                for (response, _) in streams {
                    assert_eq!(response.await.unwrap().status(), 200);
                    requests.recv().await.unwrap();
                }
            }
        };
        within(Instant::now() + Duration::from_secs(10), whole).await.expect("all are answered");
    }
}
