//! What the upstream received: the evidence by which a test proves a retry, a count, or that nothing was sent at all.
//!
//! It only remembers. Bytes are kept raw and per connection up to a bound, and counted beyond it; a request's head and
//! body are kept as they were understood by [`super::accepted_connection`], which is lenient on purpose.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

/// Everything the upstream has seen since it started.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// In the order of accept.
    pub connections: Vec<RecordedConnection>,
}

impl Recording {
    /// Every request of every connection; per connection in order.
    pub fn requests(&self) -> impl Iterator<Item = &RecordedRequest> {
        self.connections.iter().flat_map(|connection| connection.requests.iter())
    }

    /// How many requests there were for this target, byte for byte.
    pub fn requests_for(&self, target: &str) -> usize {
        self.requests().filter(|request| request.head.target == target).count()
    }
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct RecordedConnection {
    /// How many bytes were read from it.
    pub received: u64,
    /// The first mebibyte of them, as they came.
    pub raw: Vec<u8>,
    /// The requests whose heads were read.
    pub requests: Vec<RecordedRequest>,
    /// How the other side left, once it has and we noticed.
    pub peer_close: Option<PeerClose>,
}

/// How the other side left a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerClose {
    /// It ended its sending side.
    Fin,
    /// It reset the connection.
    Reset,
}

/// One request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Its head.
    pub head: RecordedHead,
    /// The first mebibyte of its body, without framing.
    pub body: Vec<u8>,
    /// How many bytes of body were read, without framing.
    pub body_length: u64,
    /// Its end was seen.
    pub complete: bool,
}

/// A request head as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedHead {
    /// The raw bytes, blank line included.
    pub raw: Bytes,
    /// The first word of the request line.
    pub method: String,
    /// The second word.
    pub target: String,
    /// The third word.
    pub version: String,
    /// Names in lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// Which request of its connection it is, counted from 1.
    pub number: usize,
}

impl RecordedHead {
    /// Reads a head leniently: what is missing is empty.
    pub(super) fn parse(raw: Bytes, number: usize) -> RecordedHead {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.lines();
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, target, version) = (words.next(), words.next(), words.next());
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        RecordedHead {
            raw,
            method: method.unwrap_or_default(),
            target: target.unwrap_or_default(),
            version: version.unwrap_or_default(),
            headers: fields,
            number,
        }
    }

    /// The first value of this field; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// The shared record: written by connections, read and waited for by tests.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    recording: Mutex<Recording>,
    changed: Condvar,
}

impl Recorder {
    /// A new connection; its number is the place in [`Recording::connections`].
    pub(super) fn add_connection(&self) -> usize {
        let mut recording = self.recording.lock();
        recording.connections.push(RecordedConnection::default());
        self.changed.notify_all();
        recording.connections.len() - 1
    }

    /// Lets go of what requests said; how many connections there were is still known.
    pub(super) fn clear(&self) {
        for connection in &mut self.recording.lock().connections {
            connection.raw = Vec::new();
            connection.requests = Vec::new();
        }
    }

    /// Changes the entry of one connection and wakes who waits.
    pub(super) fn update(&self, connection: usize, change: impl FnOnce(&mut RecordedConnection)) {
        if let Some(entry) = self.recording.lock().connections.get_mut(connection) {
            change(entry);
        }
        self.changed.notify_all();
    }

    /// Whether the other side of this connection has left.
    pub(super) fn peer_has_closed(&self, connection: usize) -> bool {
        self.recording.lock().connections.get(connection).is_some_and(|entry| entry.peer_close.is_some())
    }

    /// A copy of what was seen so far.
    pub(super) fn snapshot(&self) -> Recording {
        self.recording.lock().clone()
    }

    /// Looks at what was seen without copying it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Recording) -> T) -> T {
        look(&self.recording.lock())
    }

    /// Blocks the thread until this is true, at most that long. Tells whether it became true.
    pub(super) fn wait_until(&self, limit: Duration, mut condition: impl FnMut(&Recording) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut recording = self.recording.lock();
        while !condition(&recording) {
            if self.changed.wait_until(&mut recording, deadline).timed_out() {
                return condition(&recording);
            }
        }
        true
    }
}

/// How much of a connection's bytes and of a body is kept; the rest is counted.
pub(super) const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// Appends while there is room within [`MAX_KEPT_BYTES`].
pub(super) fn append_capped(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let remaining = MAX_KEPT_BYTES.saturating_sub(buffer.len()).min(bytes.len());
    buffer.extend_from_slice(bytes.get(..remaining).unwrap_or_default());
}
