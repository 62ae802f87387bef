//! The steps of the cases: what a faulty upstream or a faulty client does, in order, with exact bytes.
//!
//! HTTP/1 and HTTP/2 use the same steps. A script of an upstream covers one connection, or one request on it;
//! [`super::scripted_upstream`] runs it. The steps of a client cover its connection; [`super::runner`] runs them. In a
//! file of cases the bytes are a [`Payload`].
//!
//! A script that ends without closing keeps the connection open: the rest of the request is read, and the next request
//! is served. So `[ReadRequestHead, write_bytes("HTTP/1.1 204 No Content\r\n\r\n")]` is a complete keep-alive server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::sync::Notify;

use super::gateway_stream::{TlsAlert, TlsClientHello};
use super::payload::{Payload, upstream_bytes};

/// One step of an upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Reads the request headers up to the blank line. Does nothing if they were read to choose this script.
    ReadRequestHead,
    /// Reads the rest of the request body by its framing.
    ReadBody,
    /// Reads the whole request.
    ReadRequest,
    /// Reads at least this many bytes of the request body, or all of it if it is shorter.
    #[serde(skip)]
    ReadBodyBytes(u64),
    /// Writes `100 Continue` if the request expects it.
    SendContinue,
    /// Writes these bytes at once.
    Write(#[serde(deserialize_with = "upstream_bytes")] Bytes),
    /// Writes these bytes one at a time with a pause after each.
    #[serde(rename = "drip")]
    WriteSlowly {
        /// The bytes to write.
        #[serde(deserialize_with = "upstream_bytes")]
        bytes: Bytes,
        /// The pause after each byte.
        #[serde(rename = "every", deserialize_with = "duration")]
        interval: Duration,
    },
    /// Writes the same bytes repeatedly.
    #[serde(rename = "repeat")]
    WriteRepeated {
        /// The bytes of each write.
        #[serde(deserialize_with = "upstream_bytes")]
        bytes: Bytes,
        /// The number of writes; `u64::MAX` is endless.
        #[serde(rename = "times", default = "endless")]
        count: u64,
        /// The pause after each write; zero writes as fast as the peer reads.
        #[serde(rename = "every", default, deserialize_with = "duration")]
        interval: Duration,
    },
    /// Responds with 200 and echoes the request body while it arrives, in chunks.
    EchoBody,
    /// Echoes every byte until the peer closes its sending side: the far end of a tunnel.
    #[serde(skip)]
    EchoRaw,
    /// Waits this long without reading.
    Pause(#[serde(deserialize_with = "duration")] Duration),
    /// Waits until any byte has arrived, such as those of a ClientHello, and keeps it.
    #[serde(skip)]
    WaitForData,
    /// Waits until the gate is open.
    #[serde(skip)]
    WaitForGate(Gate),
    /// Opens the gate, which signals a test that the script has reached this step.
    #[serde(skip)]
    OpenGate(Gate),
    /// Sends nothing, and discards what arrives, until the peer closes.
    #[serde(rename = "wait_for_close")]
    ReadUntilClose,
    /// Neither reads nor writes until it is dropped.
    #[serde(skip)]
    Stall,
    /// HTTP/2: sends no SETTINGS ACK, PING ACK or WINDOW_UPDATE from now on. HTTP/1: no effect.
    SuppressAcks,
    /// Closes the sending side and continues.
    #[serde(rename = "half_close")]
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
pub type Script = Vec<Step>;

/// One step of a client. Its pauses are multiplied by the factor of the gateway's timeouts.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum ClientStep {
    /// Writes these bytes at once. A failed write is ignored: the gateway may have responded and closed.
    Write(Payload),
    /// Writes the bytes repeatedly with this pause in between, until the gateway sends data, the expected streams end,
    /// or the connection closes.
    WriteUntilResponse {
        bytes: Payload,
        #[serde(rename = "every", deserialize_with = "duration")]
        interval: Duration,
    },
    /// Reads one interim response, which must have this status.
    ReadInterim(u16),
    /// Reads one final response to a request of this kind.
    ReadResponse(RequestKind),
    /// Reads one final response this many bytes at a time, with a pause before each read.
    #[serde(rename = "read_slowly")]
    ReadResponseSlowly {
        bytes: usize,
        #[serde(rename = "every", deserialize_with = "duration")]
        interval: Duration,
    },
    /// Waits this long without reading.
    Pause(#[serde(deserialize_with = "duration")] Duration),
    /// Waits for twice `client.write_timeout` without reading.
    OutlastWriteTimeout,
    /// Waits until the upstream has received a request of this case.
    WaitForRequest,
    /// Waits until data has arrived, without consuming it.
    WaitForData,
    /// HTTP/2: waits until the stream has ended.
    WaitForStreamEnd(u32),
    /// Sends nothing, and discards what arrives, until the gateway closes.
    #[serde(rename = "wait_for_close")]
    ReadUntilClose,
    /// HTTP/2: sends no SETTINGS ACK, PING ACK or WINDOW_UPDATE from now on.
    SuppressAcks,
    /// Closes the sending side and continues.
    #[serde(rename = "half_close")]
    ShutdownWrite,
    /// Closes the connection.
    Close,
    /// Resets the connection (RST).
    Reset,
    /// Performs a TLS handshake; later steps are encrypted.
    TlsHandshake(TlsClientHello),
    /// Writes these bytes to the TCP connection below TLS.
    WriteBelowTls(Payload),
    /// Waits for a fatal alert from the gateway.
    ExpectAlert(TlsAlert),
}

const fn endless() -> u64 {
    u64::MAX
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| D::Error::custom(format!("{text:?} is not a duration such as 150ms")))
}

/// The properties of a request that determine how its response is parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestKind {
    /// The method is HEAD.
    pub head: bool,
    /// The version is HTTP/1.0.
    pub http10: bool,
}

impl RequestKind {
    /// HTTP/1.1 with any method except HEAD.
    pub const DEFAULT: RequestKind = RequestKind { head: false, http10: false };
}

/// Shorthand for [`Step::Write`].
pub fn write_bytes(bytes: impl Into<Bytes>) -> Step {
    Step::Write(bytes.into())
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
    pub(crate) fn is_open(&self) -> bool {
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
    fn gate_stays_open_once_opened() {
        let gate = Gate::new();
        assert!(!gate.wait_timeout(Duration::from_millis(5)));
        let other = gate.clone();
        let opener = std::thread::spawn(move || other.open());
        assert!(gate.wait_timeout(Duration::from_secs(5)));
        assert!(opener.join().is_ok() && gate.is_open());
    }
}
