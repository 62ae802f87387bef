//! The script language of the faulty upstream: steps with exact bytes.
//!
//! A script covers one connection, or one request on it. [`super::scripted_upstream`] runs scripts;
//! [`mod@super::upstream_faults`] has the expected outcomes.
//!
//! A script that ends without closing keeps the connection open: the rest of the request is read, and the next request
//! is served. So `[ReadRequestHead, write_bytes("HTTP/1.1 204 No Content\r\n\r\n")]` is a complete keep-alive server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// One step of a script.
#[derive(Clone, Debug)]
pub enum UpstreamStep {
    /// Reads the request headers up to the blank line. Does nothing if they were read to choose this script.
    ReadRequestHead,
    /// Reads the rest of the request body by its framing.
    ReadBody,
    /// Reads at least this many bytes of the request body, or all of it if it is shorter.
    ReadBodyBytes(u64),
    /// Writes `100 Continue` if the request expects it.
    SendContinue,
    /// Writes these bytes at once.
    Write(Bytes),
    /// Writes these bytes one at a time with a pause after each.
    WriteSlowly {
        /// The bytes to write.
        bytes: Bytes,
        /// The pause after each byte.
        interval: Duration,
    },
    /// Writes the same bytes repeatedly.
    WriteRepeated {
        /// The bytes of each write.
        bytes: Bytes,
        /// The number of writes; `u64::MAX` is endless.
        count: u64,
        /// The pause after each write; zero writes as fast as the peer reads.
        interval: Duration,
    },
    /// Responds with 200 and echoes the request body while it arrives, in chunks.
    EchoBody,
    /// Echoes every byte until the peer closes its sending side: the far end of a tunnel.
    EchoRaw,
    /// Waits this long.
    Pause(Duration),
    /// Waits until the gate is open.
    WaitForGate(Gate),
    /// Opens the gate, which signals a test that the script has reached this step.
    OpenGate(Gate),
    /// Reads and sends nothing until the peer closes.
    ReadUntilClose,
    /// Neither reads nor writes until the upstream is dropped.
    Stall,
    /// HTTP/2: sends no SETTINGS ACK, PING ACK or WINDOW_UPDATE from now on. HTTP/1: no effect.
    SuppressAcks,
    /// Closes the sending side and continues the script.
    ShutdownWrite,
    /// Closes gracefully: sends FIN, then reads until the peer closes (at most 1 s), so that no unread byte turns the
    /// FIN into a reset.
    Close,
    /// Closes the socket immediately, as a crashed process does, even with unread bytes.
    CloseAbruptly,
    /// Resets the connection (RST).
    Reset,
}

/// The steps in order.
pub type Script = Vec<UpstreamStep>;

/// Shorthand for [`UpstreamStep::Write`].
pub fn write_bytes(bytes: impl Into<Bytes>) -> UpstreamStep {
    UpstreamStep::Write(bytes.into())
}

/// A complete HTTP/1.1 response with Content-Length. `head` is the status and the header fields, one per line:
/// `"404 Not Found\ncontent-type: text/html"`.
pub fn http_response(head: &str, body: impl AsRef<[u8]>) -> Bytes {
    let body = body.as_ref();
    let mut message = format!("HTTP/1.1 {}\r\n", head.trim().replace('\n', "\r\n")).into_bytes();
    message.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    message.extend_from_slice(body);
    message.into()
}

/// A one-way latch between a script and a test: one waits until the other opens it. Once open, it stays open.
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

    /// Opens the gate permanently.
    pub fn open(&self) {
        *self.0.open.lock() = true;
        self.0.threads.notify_all();
        self.0.tasks.notify_waiters();
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.0.open.lock()
    }

    /// Blocks the thread until the gate is open, for at most `limit`. Returns whether it is open.
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

    /// Waits asynchronously until the gate is open.
    pub async fn wait(&self) {
        loop {
            // Register before reading the flag, so that an opening in between is not missed.
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
