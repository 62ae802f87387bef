//! Records what the upstream received, so that tests can check retries, request counts, and that nothing was sent.
//!
//! Raw bytes are kept per connection up to 1 MiB and only counted beyond that. Request headers and bodies are
//! recorded as [`super::accepted_connection`] parses them, which is deliberately lenient.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

/// Everything that the upstream received since it started.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// All connections, in the order in which they were accepted.
    pub connections: Vec<RecordedConnection>,
}

impl Recording {
    /// All requests of all connections, in order within each connection.
    pub fn requests(&self) -> impl Iterator<Item = &RecordedRequest> {
        self.connections.iter().flat_map(|connection| connection.requests.iter())
    }

    /// The number of requests with exactly this target.
    pub fn requests_for(&self, target: &str) -> usize {
        self.requests().filter(|request| request.head.target == target).count()
    }
}

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct RecordedConnection {
    /// The number of received bytes.
    pub received: u64,
    /// The first 1 MiB of the received bytes.
    pub raw: Vec<u8>,
    /// The requests whose headers were read.
    pub requests: Vec<RecordedRequest>,
    /// How the peer closed the connection; `None` while it is open, or if the script stopped reading.
    pub peer_close: Option<PeerClose>,
}

/// How the peer closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerClose {
    /// It closed its sending side.
    Fin,
    /// It reset the connection.
    Reset,
}

/// One request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// The request line and header fields.
    pub head: RecordedHead,
    /// The first 1 MiB of the body, without framing.
    pub body: Vec<u8>,
    /// The number of received body bytes, without framing.
    pub body_length: u64,
    /// The whole request was received.
    pub complete: bool,
}

/// A received request line and header section.
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
    /// The number of the request on its connection, from 1.
    pub number: usize,
}

impl RecordedHead {
    /// Parses leniently: missing parts are empty.
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

    /// The first value of this field; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The request target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}

/// The shared recording: connections write it, tests read it and wait for changes.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    recording: Mutex<Recording>,
    changed: Condvar,
}

impl Recorder {
    /// Adds a connection and returns its index in [`Recording::connections`].
    pub(super) fn add_connection(&self) -> usize {
        let mut recording = self.recording.lock();
        recording.connections.push(RecordedConnection::default());
        self.changed.notify_all();
        recording.connections.len() - 1
    }

    /// Drops raw bytes and requests; the connections stay counted.
    pub(super) fn clear(&self) {
        for connection in &mut self.recording.lock().connections {
            connection.raw = Vec::new();
            connection.requests = Vec::new();
        }
    }

    /// Changes the entry of one connection and wakes waiting threads.
    fn update(&self, connection: usize, change: impl FnOnce(&mut RecordedConnection)) {
        if let Some(entry) = self.recording.lock().connections.get_mut(connection) {
            change(entry);
        }
        self.changed.notify_all();
    }

    /// Records what a read from the connection returned.
    pub(super) fn record_read(&self, connection: usize, outcome: &io::Result<usize>, bytes: &[u8]) {
        let peer_close = match outcome {
            Ok(0) => Some(PeerClose::Fin),
            Ok(_) => None,
            Err(_) => Some(PeerClose::Reset),
        };
        self.update(connection, |entry| {
            entry.received += bytes.len() as u64;
            append_capped(&mut entry.raw, bytes);
            entry.peer_close = entry.peer_close.or(peer_close);
        });
    }

    /// Records the headers of a request; `complete` if it has no body.
    pub(super) fn record_request(&self, connection: usize, head: &RecordedHead, complete: bool) {
        let request = RecordedRequest { head: head.clone(), body: Vec::new(), body_length: 0, complete };
        self.update(connection, |entry| entry.requests.push(request));
    }

    /// Records a part of the body of the last request; `complete` if it was the last part.
    pub(super) fn record_body(&self, connection: usize, chunk: &[u8], complete: bool) {
        self.update(connection, |entry| {
            if let Some(request) = entry.requests.last_mut() {
                request.body_length += chunk.len() as u64;
                append_capped(&mut request.body, chunk);
                request.complete |= complete;
            }
        });
    }

    /// Whether the peer has closed this connection.
    pub(super) fn peer_has_closed(&self, connection: usize) -> bool {
        self.recording.lock().connections.get(connection).is_some_and(|entry| entry.peer_close.is_some())
    }

    /// Reads the recording without copying it.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Recording) -> T) -> T {
        read(&self.recording.lock())
    }

    /// Blocks the thread until the condition holds, for at most `limit`. Returns whether it holds.
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

/// Bytes that are kept of a connection and of a body; the rest is only counted.
pub(super) const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// Appends up to a total of [`MAX_KEPT_BYTES`].
pub(super) fn append_capped(buffer: &mut Vec<u8>, bytes: &[u8]) {
    let remaining = MAX_KEPT_BYTES.saturating_sub(buffer.len()).min(bytes.len());
    buffer.extend_from_slice(bytes.get(..remaining).unwrap_or_default());
}
