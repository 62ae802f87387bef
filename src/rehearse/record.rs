//! What the upstream received: the evidence by which a test proves a retry, a count, or that nothing was sent at all.
//!
//! It only remembers. Bytes are kept raw and per connection up to a bound, and counted beyond it; a request's head and
//! body are kept as they were understood by [`super::wire`], which is lenient on purpose.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

/// Everything the upstream has seen since it started.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// In the order of accept.
    pub connections: Vec<SeenConnection>,
}

impl Seen {
    /// Every request of every connection; per connection in order.
    pub fn requests(&self) -> impl Iterator<Item = &SeenRequest> {
        self.connections.iter().flat_map(|connection| connection.requests.iter())
    }

    /// How many requests there were for this target, byte for byte.
    pub fn requests_for(&self, target: &str) -> usize {
        self.requests().filter(|request| request.head.target == target).count()
    }
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct SeenConnection {
    /// How many bytes were read from it.
    pub received: u64,
    /// The first mebibyte of them, as they came.
    pub raw: Vec<u8>,
    /// The requests whose heads were read.
    pub requests: Vec<SeenRequest>,
    /// How the other side left, once it has and we noticed.
    pub left: Option<Left>,
}

/// How the other side left a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It ended its sending side.
    Closed,
    /// It reset the connection.
    Reset,
}

/// One request.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// Its head.
    pub head: Request,
    /// The first mebibyte of its body, without framing.
    pub body: Vec<u8>,
    /// How many bytes of body were read, without framing.
    pub body_length: u64,
    /// Its end was seen.
    pub whole: bool,
}

/// A request head as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The raw bytes, blank line included.
    pub raw: Bytes,
    /// The first word of the request line.
    pub method: String,
    /// The second word.
    pub target: String,
    /// The third word.
    pub version: String,
    /// Names in lower case, values trimmed, in order.
    pub fields: Vec<(String, String)>,
    /// Which request of its connection it is, counted from 1.
    pub number: usize,
}

impl Request {
    /// Reads a head leniently: what is missing is empty.
    pub(super) fn parse(raw: Bytes, number: usize) -> Request {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, target, version) = (words.next(), words.next(), words.next());
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Request {
            raw,
            method: method.unwrap_or_default(),
            target: target.unwrap_or_default(),
            version: version.unwrap_or_default(),
            fields,
            number,
        }
    }

    /// The first value of this field; the name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// The shared record: written by connections, read and waited for by tests.
#[derive(Debug, Default)]
pub(super) struct Record {
    seen: Mutex<Seen>,
    changed: Condvar,
}

impl Record {
    /// A new connection; its number is the place in [`Seen::connections`].
    pub(super) fn open(&self) -> usize {
        let mut seen = self.seen.lock();
        seen.connections.push(SeenConnection::default());
        self.changed.notify_all();
        seen.connections.len() - 1
    }

    /// Lets go of what requests said; how many connections there were is still known.
    pub(super) fn forget(&self) {
        for connection in &mut self.seen.lock().connections {
            connection.raw = Vec::new();
            connection.requests = Vec::new();
        }
    }

    /// Changes the entry of one connection and wakes who waits.
    pub(super) fn note(&self, connection: usize, change: impl FnOnce(&mut SeenConnection)) {
        if let Some(entry) = self.seen.lock().connections.get_mut(connection) {
            change(entry);
        }
        self.changed.notify_all();
    }

    /// Whether the other side of this connection has left.
    pub(super) fn left(&self, connection: usize) -> bool {
        self.seen.lock().connections.get(connection).is_some_and(|entry| entry.left.is_some())
    }

    /// A copy of what was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Looks at what was seen without copying it.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock())
    }

    /// Blocks the thread until this is true, at most that long. Tells whether it became true.
    pub(super) fn wait_until(&self, limit: Duration, mut condition: impl FnMut(&Seen) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut seen = self.seen.lock();
        while !condition(&seen) {
            if self.changed.wait_until(&mut seen, deadline).timed_out() {
                return condition(&seen);
            }
        }
        true
    }
}

/// How much of a connection's bytes and of a body is kept; the rest is counted.
pub(super) const KEPT: usize = 1024 * 1024;

/// Appends while there is room within [`KEPT`].
pub(super) fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
}
