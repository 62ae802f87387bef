//! The script language: what a peer does, step by step, byte for byte.
//!
//! A script says what happens on one connection, from accept or from a request on. It does not say to whom, how often
//! or what should come of it: see [`super::scripted_upstream`] for who plays it and [`super::upstream_faults`] for what is expected.
//!
//! A script that ends without closing leaves the connection open: the rest of the request is read and the next request
//! is served. So `[ReadRequestHead, write_bytes("HTTP/1.1 204 Never Content\r\n\r\n")]` is a whole keep-alive server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// One thing a peer does.
#[derive(Clone, Debug)]
pub enum UpstreamStep {
    /// Reads one request head, to its blank line. Does nothing when the head has been read to choose this script.
    ReadRequestHead,
    /// Reads the rest of the request body by its framing.
    ReadBody,
    /// Reads at least this many bytes of the request body, or all of it when it is shorter.
    ReadBodyBytes(u64),
    /// Writes `100 Continue` when the request asks for it.
    SendContinue,
    /// Writes these bytes at once.
    Write(Bytes),
    /// Writes these bytes one at a time with a pause after each.
    WriteSlowly {
        /// What is written.
        bytes: Bytes,
        /// The pause after each byte.
        interval: Duration,
    },
    /// Writes the same bytes again and again.
    WriteRepeated {
        /// What is written each time.
        bytes: Bytes,
        /// How often; `u64::MAX` is endless.
        count: u64,
        /// The pause after each time; zero for as fast as the other side takes it.
        interval: Duration,
    },
    /// Answers 200 and sends the request body back while it arrives, one chunk per piece.
    EchoBody,
    /// Sends every byte back as it comes, whatever it is, until the other side ends its sending side: the far end of a
    /// tunnel.
    EchoRaw,
    /// Waits this long.
    Pause(Duration),
    /// Waits until the gate is open.
    WaitForGate(Gate),
    /// Opens the gate: tells a test that the script has come this far.
    OpenGate(Gate),
    /// Takes whatever comes and says nothing until the other side leaves.
    ReadUntilClose,
    /// Neither reads nor writes, for as long as the upstream lives.
    Stall,
    /// On HTTP/2: says nothing more by itself, no acknowledgement, no answer to a PING and no window. Nothing on HTTP/1.
    SuppressAcks,
    /// Shuts down the sending side and goes on with the script.
    ShutdownWrite,
    /// Ends the connection politely: FIN, then the other side's bytes are read until it leaves (one second at most),
    /// so that no unread byte turns the FIN into a reset.
    Close,
    /// Ends the connection as a crashed process does: closed at once, unread bytes or not.
    CloseAbruptly,
    /// Ends the connection with a TCP reset.
    Reset,
}

/// What happens, in order.
pub type Script = Vec<UpstreamStep>;

/// Writes these bytes at once; shorter to read in a script than [`UpstreamStep::Write`].
pub fn write_bytes(bytes: impl Into<Bytes>) -> UpstreamStep {
    UpstreamStep::Write(bytes.into())
}

/// A whole HTTP/1.1 response with an exact Content-Length. `head` is the status and the fields after it, one per line:
/// `"404 Not Found\ncontent-type: text/html"`.
pub fn http_response(head: &str, body: impl AsRef<[u8]>) -> Bytes {
    let body = body.as_ref();
    let mut message = format!("HTTP/1.1 {}\r\n", head.trim().replace('\n', "\r\n")).into_bytes();
    message.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    message.extend_from_slice(body);
    message.into()
}

/// A gate between a script and a test: whoever waits goes on when the other opens it. Once open, it stays open.
#[derive(Clone, Default)]
pub struct Gate(Arc<GateState>);

#[derive(Default)]
struct GateState {
    open: Mutex<bool>,
    threads: Condvar,
    tasks: Notify,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Gate::default()
    }

    /// Opens it for good.
    pub fn open(&self) {
        *self.0.open.lock() = true;
        self.0.threads.notify_all();
        self.0.tasks.notify_waiters();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.0.open.lock()
    }

    /// Blocks the thread until the gate is open, at most this long. `false`: it is still closed.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut open = self.0.open.lock();
        while !*open {
            if self.0.threads.wait_until(&mut open, deadline).timed_out() {
                break;
            }
        }
        *open
    }

    /// Waits, as a task, until the gate is open.
    pub async fn wait(&self) {
        loop {
            // Registered before the look at the flag: an opening in between is not missed.
            let notified = self.0.tasks.notified();
            if self.is_open() {
                return;
            }
            notified.await;
        }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gate").field(&self.is_open()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_response_has_crlf_lines_and_exact_content_length() {
        let bytes = http_response("404 Not Found\ncontent-type: text/html", "<h1>");
        assert_eq!(
            bytes,
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 4\r\n\r\n<h1>".as_bytes()
        );
    }

    #[test]
    fn gate_stays_open_once_opened() {
        let gate = Gate::new();
        assert!(!gate.wait_timeout(Duration::from_millis(5)));
        let other = gate.clone();
        let opener = std::thread::spawn(move || other.open());
        assert!(gate.wait_timeout(Duration::from_secs(5)));
        assert!(opener.join().is_ok() && gate.is_open());
    }
}
