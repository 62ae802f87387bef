//! The table of client faults: what a client sends, byte for byte, and exactly what should come of it.
//!
//! One row per fault, told once for tests and `rehearse`. Rows are written for any gateway: where a
//! request is to be understood, it asks for what the [`GatewayProfile`] says is there. Expectations come from the contract
//! (`docs/codes.md`), not from what a gateway happens to do. A row does not know how it is played ([`super::runner`]).

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

/// One way in which a client breaks, or comes close to it.
#[derive(Clone, Debug)]
pub struct ClientFault {
    /// Stable name.
    pub name: &'static str,
    /// What the client does, in one line.
    pub description: &'static str,
    /// What it does, step by step.
    pub steps: Vec<ClientStep>,
    /// What it gets, answer by answer: as many as there are [`ClientStep::ReadResponse`]s.
    pub expected_responses: Vec<ExpectedResponse>,
    /// What becomes of the connection.
    pub connection_outcome: ConnectionOutcome,
    /// What the upstream receives.
    pub upstream_saw: UpstreamSaw,
    /// The request line that must reach the setting's route, where it is another than the setting's own.
    pub routed_request: Option<RoutedRequest>,
    /// The receive buffer of its socket is as small as it gets.
    pub small_rcvbuf: bool,
}

/// What is asked for in a request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedRequest {
    /// The method.
    pub method: String,
    /// The path, as sent.
    pub path: String,
    /// Without Host: only a route for any host takes it.
    pub without_host: bool,
}

/// One thing a client does.
#[derive(Clone, Debug)]
pub enum ClientStep {
    /// Sends these bytes.
    Send(Bytes),
    /// Sends the same bytes so many times; ends early when they are not taken any more.
    SendRepeated(Bytes, u64),
    /// Sends the same bytes again and again with a pause after each, until something comes back.
    SendSlowly(Bytes, Duration),
    /// Reads one interim response, which must have this status.
    ReadInterim(u16),
    /// Reads one final response, as an answer to this.
    ReadResponse(RequestKind),
    /// Reads one final response so many bytes at a time, with a pause before each.
    ReadResponseSlowly(RequestKind, usize, Duration),
    /// Waits until the upstream has received a request of this row.
    WaitForUpstreamRequest,
    /// Waits until something has come back, and leaves it unread.
    WaitForData,
    /// Neither sends nor reads for so long.
    Pause(Duration),
    /// Shuts down the sending side.
    ShutdownWrite,
    /// Closes the connection.
    Close,
    /// Resets the connection.
    Reset,
    /// Begins TLS; everything behind it is encrypted.
    TlsHandshake(TlsClientHello),
    /// Sends these bytes past TLS.
    SendBelowTls(Bytes),
    /// Waits for the alert with which the gateway gives TLS up.
    ExpectTlsAlert(TlsAlert),
    /// Reads whatever comes until the connection ends, and forgets it.
    DiscardUntilClose,
}

/// How a client begins TLS, and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsClientHello {
    /// The server that it asks for (SNI).
    pub server_name: Option<&'static str>,
    /// The protocols that it offers (ALPN).
    pub alpn_protocols: &'static [&'static str],
    /// It takes any certificate, or none.
    pub accepts_any_certificate: bool,
    /// It knows nothing newer than TLS 1.2.
    pub tls12_only: bool,
    /// What comes of it.
    pub expected: HandshakeOutcome,
}

/// What comes of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeOutcome {
    /// It goes well, with this protocol.
    Completed(Option<&'static str>),
    /// The gateway refuses it.
    Alert(TlsAlert),
    /// The client refuses it, for the certificate.
    CertificateRejected,
}

/// An alert of TLS that ends the connection (RFC 8446 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsAlert {
    /// Its number.
    pub code: u8,
    /// Its name.
    pub name: &'static str,
}

impl TlsAlert {
    /// A message that may not come here.
    pub const UNEXPECTED_MESSAGE: TlsAlert = TlsAlert { code: 10, name: "unexpected_message" };
    /// A record that cannot be decrypted.
    pub const BAD_RECORD_MAC: TlsAlert = TlsAlert { code: 20, name: "bad_record_mac" };
    /// Nothing that both sides know.
    pub const HANDSHAKE_FAILURE: TlsAlert = TlsAlert { code: 40, name: "handshake_failure" };
    /// What cannot be read.
    pub const DECODE_ERROR: TlsAlert = TlsAlert { code: 50, name: "decode_error" };
    /// No version that both sides know.
    pub const PROTOCOL_VERSION: TlsAlert = TlsAlert { code: 70, name: "protocol_version" };
    /// No protocol that both sides know.
    pub const NO_APPLICATION_PROTOCOL: TlsAlert = TlsAlert { code: 120, name: "no_application_protocol" };
}

/// What is asked: how a response is to be read depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestKind {
    /// By HEAD.
    pub head: bool,
    /// By HTTP/1.0.
    pub http10: bool,
}

/// What a client gets for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedResponse {
    /// A documented error for what is no request, or reaches no route.
    Rejected(Cause),
    /// A documented error for a request that reached its route.
    RejectedOnRoute(Cause),
    /// The upstream's answer: 200 with [`SERVED_BODY`].
    Served,
    /// The upstream's long answer: 200 with so many bytes.
    ServedBytes(u64),
    /// The upstream's endless answer, visibly cut for this cause.
    Truncated(Cause),
    /// The beginning of the upstream's endless answer: more of it is not read.
    Prefix,
}

/// What becomes of a connection after the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOutcome {
    /// It serves another request.
    KeptOpen,
    /// The last answer has said that it closes, and it does.
    AnnouncedClose,
    /// It closes after the upstream's answer, which could not say so: it left while the upload might still have come to
    /// its end.
    UnannouncedClose,
    /// It has ended with the message that was cut.
    Truncated,
    /// It closes without an answer, which is counted in `closed_without_response_total` under this name.
    ClosedWithoutResponse(&'static str),
    /// It is closed in silence after an answer, as any kept connection is in the end; that is counted too.
    IdleTimeout,
    /// The client has left; what is counted is a silence of this name.
    ClientClosed(&'static str),
    /// The client has left inside an answer, which is counted as cut because of it.
    ClientClosedDuringResponse,
}

/// What an upstream receives of a row's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamSaw {
    /// So many whole requests, and no other.
    Complete(usize),
    /// At most an unfinished request.
    AtMostPartial,
    /// Whatever it is: the client has left, or would not read.
    Any,
}

/// What a gateway has to offer to the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayProfile {
    /// A method that reaches the route without a body.
    pub read_method: String,
    /// A method that reaches it with one.
    pub write_method: String,
    /// The path that both ask for.
    pub path: String,
    /// The host that both name.
    pub host: String,
    /// `client.max_header_bytes`.
    pub max_header_bytes: usize,
    /// The route's `max_body`.
    pub max_body: u64,
    /// `client.write_timeout`.
    pub write_timeout: Duration,
}

/// The body of what the upstream serves.
pub const SERVED_BODY: &str = "served\n";

/// The field by which a request tells the rehearsal's upstream what to play.
pub const FAULT_HEADER: &str = "x-test-case";

impl RequestKind {
    /// By any method but HEAD, over HTTP/1.1.
    pub const DEFAULT: RequestKind = RequestKind { head: false, http10: false };
    /// By HEAD, over HTTP/1.1.
    pub const HEAD: RequestKind = RequestKind { head: true, http10: false };
    /// By any method but HEAD, over HTTP/1.0.
    pub const HTTP10: RequestKind = RequestKind { head: false, http10: true };
}

impl ExpectedResponse {
    /// The cause of the error, or of the cut.
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
    /// The mark in the query of each of its requests, by which they are found in what an upstream received.
    pub fn marker(&self) -> String {
        format!("row={}", self.name)
    }

    /// How the last answer is read.
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

    fn ending(mut self, connection_outcome: ConnectionOutcome) -> Self {
        self.connection_outcome = connection_outcome;
        self
    }

    fn asking(mut self, method: &str, path: &str) -> Self {
        self.routed_request =
            Some(RoutedRequest { method: method.to_owned(), path: path.to_owned(), without_host: false });
        self
    }

    /// Puts the setting's words in the place of `<get>` and the like.
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

impl GatewayProfile {
    /// For whoever only wants to know which rows there are.
    pub fn example() -> GatewayProfile {
        GatewayProfile {
            read_method: "GET".to_owned(),
            write_method: "POST".to_owned(),
            path: "/rehearsal".to_owned(),
            host: "rehearsal.example".to_owned(),
            max_header_bytes: 32 * 1024,
            max_body: 1024 * 1024,
            write_timeout: Duration::from_secs(1),
        }
    }

    /// How long a client waits between two things that it does: less than any limit, and longer where limits are long. What
    /// was sent is read by then, and who sends piece after piece does not become a flood before a limit strikes.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_millis(150).max(self.write_timeout.saturating_mul(3) / 20)
    }

    /// A plain request, to see that a connection is still whole.
    pub fn follow_up_request(&self) -> Bytes {
        substitute_placeholders(
            &Bytes::from_static(b"<get> HTTP/1.1\r\nhost: <host>\r\n\r\n"),
            self,
            "follow-up",
        )
    }
}

/// The whole table for this setting, in the order in which it is shown: from the first byte to the last.
pub fn client_faults(profile: &GatewayProfile) -> Vec<ClientFault> {
    client_faults_by_section(profile).into_iter().flat_map(|(_, rows)| rows).collect()
}

/// The same, under the headings of the page.
pub fn client_faults_by_section(profile: &GatewayProfile) -> Vec<(&'static str, Vec<ClientFault>)> {
    let sections = [
        (
            "The first line",
            [
                request_lines::other_protocols(),
                request_lines::request_lines(),
                request_lines::versions(),
                request_lines::methods(),
            ]
            .concat(),
        ),
        ("What is asked for", [targets::paths(), targets::forms()].concat()),
        ("Fields", [header_fields::syntax(), header_fields::connection(), header_fields::hosts()].concat()),
        ("How long the body is", [framing::lengths(), framing::codings(), framing::conflicting()].concat()),
        ("Chunks", [chunks::sizes(), chunks::ends()].concat()),
        ("Too much, too slow, or under conditions", {
            [limits::sizes(profile), limits::expectations(profile), limits::slow()].concat()
        }),
        (
            "Leaving, and not reading",
            [disconnects::disconnects(profile), disconnects::slow_readers(profile)].concat(),
        ),
        ("Several requests, and HTTP/1.0", [pipelines::http10(), pipelines::pipelines()].concat()),
    ];
    let substituted = |rows: Vec<ClientFault>| rows.into_iter().map(|row| row.substituted(profile)).collect();
    sections.into_iter().map(|(title, rows)| (title, substituted(rows))).collect()
}

/// Replaces `<GET>` and `<POST>` (methods), `<path>`, `<row>` (the mark), `<host>`, and `<get>`, `<post>`, `<head>`
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

/// A row that sends these bytes and reads one answer.
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

/// What is no request: 400 for this cause, and the connection closes.
fn rejected(
    name: &'static str,
    description: &'static str,
    cause: Cause,
    bytes: impl Into<Bytes>,
) -> ClientFault {
    row(name, description, bytes, ExpectedResponse::Rejected(cause))
}

/// What is unusual and yet right.
fn served(name: &'static str, description: &'static str, bytes: impl Into<Bytes>) -> ClientFault {
    row(name, description, bytes, ExpectedResponse::Served)
}

/// A row of these steps.
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
