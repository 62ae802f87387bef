//! The step language of the cases: what a faulty upstream or a faulty client does, in order, with exact bytes.
//!
//! Both sides, HTTP/1 and HTTP/2 use the same steps; [`Step::side`] says which side can run which. A script of an
//! upstream covers one connection, or one request on it; [`super::scripted_upstream`] runs it. The steps of a client cover
//! its connection; [`super::runner`] and [`super::runner_h2`] run them. In a file of cases the bytes are a
//! [`super::payload::Payload`].
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

/// One step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step<B = Bytes> {
    /// Upstream: reads the request headers up to the blank line. Does nothing if they were read to choose this script.
    ReadRequestHead,
    /// Upstream: reads the rest of the request body by its framing.
    ReadBody,
    /// Upstream: reads the whole request.
    ReadRequest,
    /// Upstream: reads at least this many bytes of the request body, or all of it if it is shorter.
    #[serde(skip)]
    ReadBodyBytes(u64),
    /// Upstream: writes `100 Continue` if the request expects it.
    SendContinue,
    /// Writes these bytes at once. A client ignores a failed write: the gateway may have responded and closed.
    Write(B),
    /// Upstream: writes these bytes one at a time with a pause after each.
    #[serde(rename = "drip")]
    WriteSlowly {
        /// The bytes to write.
        bytes: B,
        /// The pause after each byte.
        #[serde(rename = "every", deserialize_with = "duration")]
        interval: Duration,
    },
    /// Upstream: writes the same bytes repeatedly.
    #[serde(rename = "repeat")]
    WriteRepeated {
        /// The bytes of each write.
        bytes: B,
        /// The number of writes; `u64::MAX` is endless.
        #[serde(rename = "times", default = "endless")]
        count: u64,
        /// The pause after each write; zero writes as fast as the peer reads.
        #[serde(rename = "every", default, deserialize_with = "duration")]
        interval: Duration,
    },
    /// Client: writes the bytes repeatedly with this pause in between, until the gateway sends data, the expected streams
    /// end, or the connection closes.
    WriteUntilResponse {
        /// The bytes of each write.
        bytes: B,
        /// The pause before each write.
        #[serde(rename = "every", deserialize_with = "duration")]
        interval: Duration,
    },
    /// Upstream: responds with 200 and echoes the request body while it arrives, in chunks.
    #[serde(skip)]
    EchoBody,
    /// Upstream: echoes every byte until the peer closes its sending side: the far end of a tunnel.
    #[serde(skip)]
    EchoRaw,
    /// Client: reads one interim response, which must have this status.
    ReadInterim(u16),
    /// Client: reads one final response to a request of this kind.
    ReadResponse(RequestKind),
    /// Client: reads one final response this many bytes at a time, with a pause before each read.
    #[serde(rename = "read_slowly")]
    ReadResponseSlowly {
        /// The size of a read.
        bytes: usize,
        /// The pause before each read.
        #[serde(rename = "every", deserialize_with = "duration")]
        interval: Duration,
    },
    /// Waits this long without reading.
    Pause(#[serde(deserialize_with = "duration")] Duration),
    /// Client: waits for twice `client.write_timeout` without reading.
    OutlastWriteTimeout,
    /// Client: waits until the upstream has received a request of this case.
    #[serde(rename = "wait_for_request")]
    WaitForUpstreamRequest,
    /// Client: waits until data has arrived, without consuming it.
    WaitForData,
    /// Client, HTTP/2: waits until the stream has ended.
    WaitForStreamEnd(u32),
    /// Waits until the gate is open.
    #[serde(skip)]
    WaitForGate(Gate),
    /// Opens the gate, which signals a test that the script has reached this step.
    #[serde(skip)]
    OpenGate(Gate),
    /// Sends nothing, and discards what arrives, until the peer closes.
    #[serde(rename = "wait_for_close")]
    ReadUntilClose,
    /// Upstream: neither reads nor writes until it is dropped.
    #[serde(skip)]
    Stall,
    /// HTTP/2: sends no SETTINGS ACK, PING ACK or WINDOW_UPDATE from now on. HTTP/1: no effect.
    SuppressAcks,
    /// Closes the sending side and continues.
    #[serde(rename = "half_close")]
    ShutdownWrite,
    /// Upstream: closes gracefully: sends FIN, then reads until the peer closes (at most 1 s), so that no unread byte turns
    /// the FIN into a reset. Client: closes the connection.
    Close,
    /// Upstream: closes the socket immediately, as a crashed process does, even with unread bytes.
    CloseAbruptly,
    /// Resets the connection (RST).
    Reset,
    /// Client: performs a TLS handshake; later steps are encrypted.
    TlsHandshake(TlsClientHello),
    /// Client: writes these bytes to the TCP connection below TLS.
    WriteBelowTls(B),
    /// Client: waits for a fatal alert from the gateway.
    ExpectAlert(TlsAlert),
}

/// The side of the gateway on which a case acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The case is a faulty client.
    Client,
    /// The case is a faulty upstream.
    Upstream,
}

impl<B> Step<B> {
    /// The side that can run this step; `None` if both can.
    pub const fn side(&self) -> Option<Side> {
        match self {
            Step::ReadRequestHead
            | Step::ReadBody
            | Step::ReadRequest
            | Step::ReadBodyBytes(_)
            | Step::SendContinue
            | Step::WriteSlowly { .. }
            | Step::WriteRepeated { .. }
            | Step::EchoBody
            | Step::EchoRaw
            | Step::Stall
            | Step::CloseAbruptly => Some(Side::Upstream),
            Step::WriteUntilResponse { .. }
            | Step::ReadInterim(_)
            | Step::ReadResponse(_)
            | Step::ReadResponseSlowly { .. }
            | Step::OutlastWriteTimeout
            | Step::WaitForUpstreamRequest
            | Step::WaitForData
            | Step::WaitForStreamEnd(_)
            | Step::TlsHandshake(_)
            | Step::WriteBelowTls(_)
            | Step::ExpectAlert(_) => Some(Side::Client),
            Step::Write(_)
            | Step::Pause(_)
            | Step::WaitForGate(_)
            | Step::OpenGate(_)
            | Step::ReadUntilClose
            | Step::SuppressAcks
            | Step::ShutdownWrite
            | Step::Close
            | Step::Reset => None,
        }
    }

    /// The step with other bytes and pauses.
    pub(super) fn map<C>(&self, bytes_of: impl Fn(&B) -> C, scale: impl Fn(Duration) -> Duration) -> Step<C> {
        match self {
            Step::Write(bytes) => Step::Write(bytes_of(bytes)),
            Step::WriteSlowly { bytes, interval } => {
                Step::WriteSlowly { bytes: bytes_of(bytes), interval: *interval }
            }
            Step::WriteRepeated { bytes, count, interval } => {
                Step::WriteRepeated { bytes: bytes_of(bytes), count: *count, interval: *interval }
            }
            Step::WriteUntilResponse { bytes, interval } => {
                Step::WriteUntilResponse { bytes: bytes_of(bytes), interval: scale(*interval) }
            }
            Step::WriteBelowTls(bytes) => Step::WriteBelowTls(bytes_of(bytes)),
            Step::Pause(time) => Step::Pause(scale(*time)),
            Step::ReadRequestHead => Step::ReadRequestHead,
            Step::ReadBody => Step::ReadBody,
            Step::ReadRequest => Step::ReadRequest,
            Step::ReadBodyBytes(minimum) => Step::ReadBodyBytes(*minimum),
            Step::SendContinue => Step::SendContinue,
            Step::EchoBody => Step::EchoBody,
            Step::EchoRaw => Step::EchoRaw,
            Step::ReadInterim(status) => Step::ReadInterim(*status),
            Step::ReadResponse(request_kind) => Step::ReadResponse(*request_kind),
            Step::ReadResponseSlowly { bytes, interval } => {
                Step::ReadResponseSlowly { bytes: *bytes, interval: *interval }
            }
            Step::OutlastWriteTimeout => Step::OutlastWriteTimeout,
            Step::WaitForUpstreamRequest => Step::WaitForUpstreamRequest,
            Step::WaitForData => Step::WaitForData,
            Step::WaitForStreamEnd(number) => Step::WaitForStreamEnd(*number),
            Step::WaitForGate(gate) => Step::WaitForGate(gate.clone()),
            Step::OpenGate(gate) => Step::OpenGate(gate.clone()),
            Step::ReadUntilClose => Step::ReadUntilClose,
            Step::Stall => Step::Stall,
            Step::SuppressAcks => Step::SuppressAcks,
            Step::ShutdownWrite => Step::ShutdownWrite,
            Step::Close => Step::Close,
            Step::CloseAbruptly => Step::CloseAbruptly,
            Step::Reset => Step::Reset,
            Step::TlsHandshake(hello) => Step::TlsHandshake(hello.clone()),
            Step::ExpectAlert(alert) => Step::ExpectAlert(*alert),
        }
    }
}

const fn endless() -> u64 {
    u64::MAX
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|_| D::Error::custom(format!("{text:?} is not a duration such as 150ms")))
}

/// The steps in order.
pub type Script = Vec<Step>;

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

/// The parameters of a client's TLS handshake, and its expected outcome.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsClientHello {
    /// The server name (SNI).
    pub server_name: Option<String>,
    /// The offered protocols (ALPN).
    pub alpn: Vec<String>,
    /// Reject every certificate; otherwise accept every certificate.
    pub rejects_certificates: bool,
    /// Offer TLS 1.2 only; otherwise TLS 1.3 only.
    pub tls12: bool,
    /// The expected outcome.
    pub expect: HandshakeOutcome,
}

impl Default for TlsClientHello {
    fn default() -> TlsClientHello {
        TlsClientHello {
            server_name: Some("verify.invalid".to_owned()),
            alpn: vec!["http/1.1".to_owned()],
            rejects_certificates: false,
            tls12: false,
            expect: HandshakeOutcome::Protocol(Some("http/1.1".to_owned())),
        }
    }
}

/// The outcome of a TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeOutcome {
    /// It completes with this negotiated protocol.
    Protocol(Option<String>),
    /// The gateway rejects it with an alert.
    Alert(TlsAlert),
    /// The client rejects the certificate.
    CertificateRejected,
}

/// A fatal TLS alert (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsAlert {
    /// A handshake message that is not allowed in this state.
    UnexpectedMessage = 10,
    /// A record that cannot be decrypted.
    BadRecordMac = 20,
    /// No common cipher suite.
    HandshakeFailure = 40,
    /// A message that cannot be decoded.
    DecodeError = 50,
    /// No common protocol version.
    ProtocolVersion = 70,
    /// No common application protocol (ALPN).
    NoApplicationProtocol = 120,
}

impl TlsAlert {
    /// The code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The name in the RFC.
    pub const fn name(self) -> &'static str {
        match self {
            TlsAlert::UnexpectedMessage => "unexpected_message",
            TlsAlert::BadRecordMac => "bad_record_mac",
            TlsAlert::HandshakeFailure => "handshake_failure",
            TlsAlert::DecodeError => "decode_error",
            TlsAlert::ProtocolVersion => "protocol_version",
            TlsAlert::NoApplicationProtocol => "no_application_protocol",
        }
    }
}

/// Shorthand for [`Step::Write`].
pub fn write_bytes(bytes: impl Into<Bytes>) -> Step {
    Step::Write(bytes.into())
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
