//! The table of client faults: the bytes that a client sends, and the exact expected outcome.
//!
//! One row per fault, shared by tests and `verify`. Rows work with any gateway: valid requests use the host, path and
//! methods of the [`GatewayProfile`]. Expectations come from the contract (`docs/codes.md`), not from observed
//! behaviour. [`super::runner`] runs the rows.

use std::time::Duration;

use bytes::Bytes;

use crate::contract::Cause;

mod chunks;
mod disconnects;
mod framing;
mod header_fields;
mod limits;
mod pipelines;
mod request_lines;
mod targets;
mod tls;

pub use tls::{client_faults_tls, client_faults_tls_by_section};

/// One client fault, or an unusual but valid request.
#[derive(Clone, Debug)]
pub struct ClientFault {
    /// Stable name.
    pub name: &'static str,
    /// What the client does, in one line.
    pub description: &'static str,
    /// The steps of the client.
    pub steps: Vec<ClientStep>,
    /// The expected responses, one per [`ClientStep::ReadResponse`].
    pub expected_responses: Vec<ExpectedResponse>,
    /// The expected state of the connection after the last response.
    pub connection_outcome: ConnectionOutcome,
    /// What the upstream receives.
    pub upstream_saw: UpstreamSaw,
    /// The request that must match the profile's route, if it differs from the profile's method and path.
    pub routed_request: Option<RoutedRequest>,
    /// Use the smallest receive buffer that the system allows.
    pub small_rcvbuf: bool,
}

/// The part of a request that selects its route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedRequest {
    /// The method.
    pub method: String,
    /// The path, as sent.
    pub path: String,
    /// The request has no Host field: only a route without a host matches.
    pub without_host: bool,
}

/// One step of a client.
#[derive(Clone, Debug)]
pub enum ClientStep {
    /// Sends these bytes.
    Send(Bytes),
    /// Sends the bytes this many times; stops early when a write fails.
    SendRepeated(Bytes, u64),
    /// Sends the bytes repeatedly with this pause in between, until the gateway sends data.
    SendSlowly(Bytes, Duration),
    /// Reads one interim response, which must have this status.
    ReadInterim(u16),
    /// Reads one final response to a request of this kind.
    ReadResponse(RequestKind),
    /// Reads one final response this many bytes at a time, with a pause before each read.
    ReadResponseSlowly(RequestKind, usize, Duration),
    /// Waits until the upstream has received a request of this row.
    WaitForUpstreamRequest,
    /// Waits until data has arrived, without consuming it.
    WaitForData,
    /// Neither sends nor reads for this long.
    Pause(Duration),
    /// Shuts down the sending side.
    ShutdownWrite,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Performs a TLS handshake; later steps are encrypted.
    TlsHandshake(TlsClientHello),
    /// Writes these bytes to the TCP connection below TLS.
    SendBelowTls(Bytes),
    /// Waits for a fatal alert from the gateway.
    ExpectTlsAlert(TlsAlert),
    /// Reads and discards data until the connection closes.
    DiscardUntilClose,
}

/// The parameters of a client's TLS handshake, and its expected outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsClientHello {
    /// The server name (SNI).
    pub server_name: Option<&'static str>,
    /// The offered protocols (ALPN).
    pub alpn_protocols: &'static [&'static str],
    /// Accept any certificate; otherwise reject every certificate.
    pub accepts_any_certificate: bool,
    /// Offer TLS 1.2 only; otherwise TLS 1.3 only.
    pub tls12_only: bool,
    /// The expected outcome.
    pub expected: HandshakeOutcome,
}

/// The outcome of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// It completes with this negotiated protocol.
    Completed(Option<&'static str>),
    /// The gateway rejects it with an alert.
    Alert(TlsAlert),
    /// The client rejects the certificate.
    CertificateRejected,
}

/// A fatal TLS alert (RFC 8446, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsAlert {
    /// The code on the wire.
    pub code: u8,
    /// The name in the RFC.
    pub name: &'static str,
}

impl TlsAlert {
    /// A handshake message that is not allowed in this state.
    pub const UNEXPECTED_MESSAGE: TlsAlert = TlsAlert { code: 10, name: "unexpected_message" };
    /// A record that cannot be decrypted.
    pub const BAD_RECORD_MAC: TlsAlert = TlsAlert { code: 20, name: "bad_record_mac" };
    /// No common cipher suite.
    pub const HANDSHAKE_FAILURE: TlsAlert = TlsAlert { code: 40, name: "handshake_failure" };
    /// A message that cannot be decoded.
    pub const DECODE_ERROR: TlsAlert = TlsAlert { code: 50, name: "decode_error" };
    /// No common protocol version.
    pub const PROTOCOL_VERSION: TlsAlert = TlsAlert { code: 70, name: "protocol_version" };
    /// No common application protocol (ALPN).
    pub const NO_APPLICATION_PROTOCOL: TlsAlert = TlsAlert { code: 120, name: "no_application_protocol" };
}

/// The properties of a request that determine how its response is parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestKind {
    /// The method is HEAD.
    pub head: bool,
    /// The version is HTTP/1.0.
    pub http10: bool,
}

/// The expected response to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedResponse {
    /// A documented error for a malformed request, or for one that matches no route.
    Rejected(Cause),
    /// A documented error for a request that matched its route.
    RejectedOnRoute(Cause),
    /// The upstream's response: 200 with [`SERVED_BODY`].
    Served,
    /// The upstream's long response: 200 with this many bytes.
    ServedBytes(u64),
    /// The upstream's endless response, truncated for this cause.
    Truncated(Cause),
    /// The first part of the upstream's endless response; the client reads no further.
    Prefix,
}

/// The state of a connection after the last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOutcome {
    /// It serves another request.
    KeptOpen,
    /// The last response has `Connection: close`, and the gateway closes it.
    AnnouncedClose,
    /// The gateway closes it after an upstream response without `Connection: close`: when the headers were sent, the
    /// upload could still have completed.
    UnannouncedClose,
    /// It closed inside a truncated response.
    Truncated,
    /// The gateway closes it without a response, counted in `closed_without_response_total` under this cause.
    ClosedWithoutResponse(&'static str),
    /// The gateway closes it when it is idle after a response, counted as `idle_timeout`.
    IdleTimeout,
    /// The client closed it without a response, counted under this cause.
    ClientClosed(&'static str),
    /// The client closed it during a response, counted in `aborted_total`.
    ClientClosedDuringResponse,
}

/// What the upstream receives of a row's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamSaw {
    /// Exactly this many complete requests.
    Complete(usize),
    /// At most one incomplete request.
    AtMostPartial,
    /// Anything: it depends on when the client closes or stops reading.
    Any,
}

/// The properties of the tested gateway that the rows use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayProfile {
    /// A method without a body that reaches the route.
    pub read_method: String,
    /// A method with a body that reaches the route.
    pub write_method: String,
    /// The path for both methods.
    pub path: String,
    /// The host for both methods.
    pub host: String,
    /// `client.max_header_bytes`.
    pub max_header_bytes: usize,
    /// The route's `max_body`.
    pub max_body: u64,
    /// `client.write_timeout`.
    pub write_timeout: Duration,
}

/// The body of the upstream's default response.
pub const SERVED_BODY: &str = "served\n";

/// The header field of a request that selects the fault of the upstream.
pub const FAULT_HEADER: &str = "x-test-case";

impl RequestKind {
    /// HTTP/1.1 with any method except HEAD.
    pub const DEFAULT: RequestKind = RequestKind { head: false, http10: false };
    /// HTTP/1.1 with HEAD.
    pub const HEAD: RequestKind = RequestKind { head: true, http10: false };
    /// HTTP/1.0 with any method except HEAD.
    pub const HTTP10: RequestKind = RequestKind { head: false, http10: true };
}

impl ExpectedResponse {
    /// The cause of the error or of the truncation.
    pub const fn cause(self) -> Option<Cause> {
        match self {
            ExpectedResponse::Rejected(cause)
            | ExpectedResponse::RejectedOnRoute(cause)
            | ExpectedResponse::Truncated(cause) => Some(cause),
            ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) | ExpectedResponse::Prefix => None,
        }
    }
}

impl ClientFault {
    /// The query parameter that identifies the requests of this row in the upstream's recording.
    pub fn marker(&self) -> String {
        format!("row={}", self.name)
    }

    /// The kind of the last request, which determines how its response is parsed.
    pub fn last_request_kind(&self) -> RequestKind {
        let request_kind = self.steps.iter().rev().find_map(|step| match step {
            ClientStep::ReadResponse(request_kind) | ClientStep::ReadResponseSlowly(request_kind, ..) => {
                Some(*request_kind)
            }
            ClientStep::Send(_)
            | ClientStep::SendRepeated(..)
            | ClientStep::SendSlowly(..)
            | ClientStep::ReadInterim(_)
            | ClientStep::WaitForUpstreamRequest
            | ClientStep::WaitForData => None,
            ClientStep::Pause(_) | ClientStep::ShutdownWrite | ClientStep::Close | ClientStep::Reset => None,
            ClientStep::TlsHandshake(_)
            | ClientStep::SendBelowTls(_)
            | ClientStep::ExpectTlsAlert(_)
            | ClientStep::DiscardUntilClose => None,
        });
        request_kind.unwrap_or_default()
    }

    fn with_upstream_saw(mut self, upstream_saw: UpstreamSaw) -> Self {
        self.upstream_saw = upstream_saw;
        self
    }

    fn with_connection_outcome(mut self, connection_outcome: ConnectionOutcome) -> Self {
        self.connection_outcome = connection_outcome;
        self
    }

    fn with_routed_request(mut self, method: &str, path: &str) -> Self {
        self.routed_request =
            Some(RoutedRequest { method: method.to_owned(), path: path.to_owned(), without_host: false });
        self
    }

    /// Replaces `<get>` and the other placeholders with the profile's values.
    fn substituted(mut self, profile: &GatewayProfile) -> Self {
        let name = self.name;
        let substitute = |bytes: &Bytes| substitute_placeholders(bytes, profile, name);
        for step in &mut self.steps {
            match step {
                ClientStep::Send(bytes)
                | ClientStep::SendRepeated(bytes, _)
                | ClientStep::SendSlowly(bytes, _) => *bytes = substitute(bytes),
                ClientStep::ReadInterim(_)
                | ClientStep::ReadResponse(_)
                | ClientStep::ReadResponseSlowly(..)
                | ClientStep::WaitForUpstreamRequest
                | ClientStep::WaitForData => {}
                ClientStep::Pause(_) | ClientStep::ShutdownWrite | ClientStep::Close | ClientStep::Reset => {}
                ClientStep::TlsHandshake(_)
                | ClientStep::SendBelowTls(_)
                | ClientStep::ExpectTlsAlert(_)
                | ClientStep::DiscardUntilClose => {}
            }
        }
        if let Some(target) = &mut self.routed_request {
            for text in [&mut target.method, &mut target.path] {
                *text = String::from_utf8_lossy(&substitute(&Bytes::from(text.clone()))).into_owned();
            }
        }
        self
    }
}

/// How long a client waits between two steps: less than any timeout, and enough for the gateway to read what was sent. Who
/// scales the timeouts of a gateway scales this in the rows, and nobody else does.
pub(super) const PAUSE: Duration = Duration::from_millis(150);

impl GatewayProfile {
    /// Example values, for listing the rows without a gateway.
    pub fn example() -> GatewayProfile {
        GatewayProfile {
            read_method: "GET".to_owned(),
            write_method: "POST".to_owned(),
            path: "/verify".to_owned(),
            host: "verify.example".to_owned(),
            max_header_bytes: 32 * 1024,
            max_body: 1024 * 1024,
            write_timeout: Duration::from_secs(1),
        }
    }

    /// A plain request that checks whether the connection is still usable.
    pub fn follow_up_request(&self) -> Bytes {
        substitute_placeholders(
            &Bytes::from_static(b"<get> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
            self,
            "follow-up",
        )
    }
}

/// All HTTP/1 client faults for this profile in documentation order, from the first byte to the last.
pub fn client_faults(profile: &GatewayProfile) -> Vec<ClientFault> {
    client_faults_by_section(profile).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// [`client_faults`], grouped by the headings of the documentation.
pub fn client_faults_by_section(profile: &GatewayProfile) -> Vec<(&'static str, Vec<ClientFault>)> {
    let sections = [
        (
            "Request lines",
            [
                request_lines::other_protocols(),
                request_lines::request_lines(),
                request_lines::versions(),
                request_lines::methods(),
            ]
            .concat(),
        ),
        ("Request targets", [targets::paths(), targets::forms()].concat()),
        (
            "Header fields",
            [header_fields::syntax(), header_fields::connection(), header_fields::hosts()].concat(),
        ),
        ("Body framing", [framing::lengths(), framing::codings(), framing::conflicting()].concat()),
        ("Chunked bodies", [chunks::sizes(), chunks::ends()].concat()),
        ("Size limits, timeouts and Expect", {
            [limits::sizes(profile), limits::expectations(profile), limits::slow()].concat()
        }),
        (
            "Disconnects and slow readers",
            [disconnects::disconnects(), disconnects::slow_readers(profile)].concat(),
        ),
        ("Pipelining and HTTP/1.0", [pipelines::http10(), pipelines::pipelines()].concat()),
    ];
    let substituted = |rows: Vec<ClientFault>| rows.into_iter().map(|row| row.substituted(profile)).collect();
    sections.into_iter().map(|(title, rows)| (title, substituted(rows))).collect()
}

/// Replaces `<GET>` and `<POST>` (methods), `<path>`, `<row>` (the marker), `<host>`, and `<get>`, `<post>`, `<head>`
/// (method and target).
fn substitute_placeholders(bytes: &Bytes, profile: &GatewayProfile, name: &str) -> Bytes {
    if !bytes.contains(&b'<') {
        return bytes.clone();
    }
    let line = |method: &str| format!("{method} {}?row={name}", profile.path);
    let placeholders = [
        ("<get>", line(&profile.read_method)),
        ("<post>", line(&profile.write_method)),
        ("<head>", line("HEAD")),
        ("<GET>", profile.read_method.clone()),
        ("<POST>", profile.write_method.clone()),
        ("<path>", profile.path.clone()),
        ("<row>", format!("row={name}")),
        ("<host>", profile.host.clone()),
    ];
    let mut substituted = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes.as_ref();
    while let Some(at) = memchr::memchr(b'<', rest) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, b""));
        substituted.extend_from_slice(plain);
        let placeholder =
            placeholders.iter().find(|(placeholder, _)| tail.starts_with(placeholder.as_bytes()));
        let (text, length) =
            placeholder.map_or((&b"<"[..], 1), |(placeholder, text)| (text.as_bytes(), placeholder.len()));
        substituted.extend_from_slice(text);
        rest = tail.get(length..).unwrap_or_default();
    }
    substituted.extend_from_slice(rest);
    substituted.into()
}

/// A row that sends these bytes and reads one response.
fn row(
    name: &'static str,
    description: &'static str,
    bytes: impl Into<Bytes>,
    expected: ExpectedResponse,
) -> ClientFault {
    let connection_outcome = if matches!(expected, ExpectedResponse::Rejected(_)) {
        ConnectionOutcome::AnnouncedClose
    } else {
        ConnectionOutcome::KeptOpen
    };
    let upstream_saw = match expected {
        ExpectedResponse::Rejected(_) | ExpectedResponse::RejectedOnRoute(_) => UpstreamSaw::Complete(0),
        ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) => UpstreamSaw::Complete(1),
        ExpectedResponse::Truncated(_) | ExpectedResponse::Prefix => UpstreamSaw::Any,
    };
    ClientFault {
        name,
        description,
        steps: vec![ClientStep::Send(bytes.into()), ClientStep::ReadResponse(RequestKind::DEFAULT)],
        expected_responses: vec![expected],
        connection_outcome,
        upstream_saw,
        routed_request: None,
        small_rcvbuf: false,
    }
}

/// A malformed request: an error for this cause, and the connection closes.
fn rejected(
    name: &'static str,
    description: &'static str,
    cause: Cause,
    bytes: impl Into<Bytes>,
) -> ClientFault {
    row(name, description, bytes, ExpectedResponse::Rejected(cause))
}

/// An unusual but valid request.
fn served(name: &'static str, description: &'static str, bytes: impl Into<Bytes>) -> ClientFault {
    row(name, description, bytes, ExpectedResponse::Served)
}

/// A row with these steps.
fn steps_row(
    name: &'static str,
    description: &'static str,
    steps: Vec<ClientStep>,
    expected_responses: Vec<ExpectedResponse>,
    connection_outcome: ConnectionOutcome,
    upstream_saw: UpstreamSaw,
) -> ClientFault {
    ClientFault {
        name,
        description,
        steps,
        expected_responses,
        connection_outcome,
        upstream_saw,
        routed_request: None,
        small_rcvbuf: false,
    }
}

fn send(bytes: impl Into<Bytes>) -> ClientStep {
    ClientStep::Send(bytes.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "client_faults_tests.rs"]
mod tests;
