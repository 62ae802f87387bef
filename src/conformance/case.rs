//! The cases: what a faulty client or upstream does, and the exact expected outcome.
//!
//! They are data: [`super::cases`] reads them from `cases/*.yaml` and from files of an operator. `demo`, `verify`, the
//! tests and the documentation use the same cases. Status codes of upstream cases are literals of the default contract,
//! because the error policy is tested against them.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use crate::contract::{Cause, RequestSent};

use super::step::{RequestKind, Script, Step};

/// A faulty client, or an unusual but valid request.
#[derive(Clone, Debug)]
pub struct ClientFault {
    /// Stable name.
    pub name: &'static str,
    /// What the client does, in one line.
    pub description: &'static str,
    /// The protocol of the client.
    pub protocol: ClientProtocol,
    /// The steps of the client.
    pub steps: Script,
    /// HTTP/1: the responses in order, one for each read. HTTP/2: the outcomes of the streams from `first_stream` on.
    pub expected: Vec<ExpectedResponse>,
    /// HTTP/2: the stream of the first outcome; the next ones are on the next streams of a client.
    pub first_stream: u32,
    /// The state of the connection after the last response.
    pub connection: ConnectionOutcome,
    /// What the upstream receives.
    pub upstream_saw: UpstreamSaw,
    /// How often each cause is counted in `closed_without_response_total`.
    pub counted: Vec<(&'static str, usize)>,
    /// The request that must match the profile's route, if it differs from the profile's method and path.
    pub routed_request: Option<RoutedRequest>,
    /// Use the smallest receive buffer that the system allows.
    pub small_rcvbuf: bool,
    /// HTTP/2: the SETTINGS after the preface; `None`: only the steps are sent, which may contain the preface.
    pub settings: Option<Vec<(u16, u32)>>,
    /// HTTP/2: run an upload on another stream of the connection, which must be served.
    pub background_stream: bool,
    /// More events may be counted: how many streams become requests depends on how the bytes arrive.
    pub nondeterministic: bool,
}

/// The protocol of a faulty client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProtocol {
    /// HTTP/1 without TLS.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS listener.
    Tls,
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

/// The expected response to one request, or the outcome of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpectedResponse {
    /// A documented error for a malformed request, or for one that matches no route.
    Rejected(#[serde(deserialize_with = "super::cases::cause")] Cause),
    /// A documented error for a request that matched its route.
    RejectedOnRoute(#[serde(deserialize_with = "super::cases::cause")] Cause),
    /// The upstream's response: 200 with [`SERVED_BODY`].
    Served,
    /// The upstream's long response: 200 with this many bytes.
    ServedBytes(u64),
    /// The upstream's endless response, truncated for this cause.
    Truncated(#[serde(deserialize_with = "super::cases::cause")] Cause),
    /// The first part of the upstream's endless response; the client reads no further.
    Prefix,
    /// HTTP/2: RST_STREAM without a response.
    Reset,
    /// HTTP/2: an empty 431, which the HTTP/2 library sends.
    #[serde(rename = "empty_431")]
    Empty431,
    /// HTTP/2: the headers of a documented error for this cause, then RST_STREAM: the client's window takes no body.
    HeadersOnly(#[serde(deserialize_with = "super::cases::cause")] Cause),
    /// HTTP/2: no response: the client reset the stream, or the connection ends.
    NoResponse,
}

/// The state of a connection after the last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionOutcome {
    /// It serves another request.
    KeptOpen,
    /// The last response has `Connection: close`, and the gateway closes it.
    AnnouncedClose,
    /// The gateway closes it after a response without `Connection: close`: it was idle, or the upload could still have
    /// completed when the headers were sent.
    Closed,
    /// The gateway closes it without a response, or resets it.
    Dropped,
    /// It closed inside a truncated response.
    Truncated,
    /// The client closed it.
    ClientClosed,
    /// HTTP/2: GOAWAY with an error code, then close.
    ErrorGoaway,
    /// HTTP/2: GOAWAY with NO_ERROR, then close.
    Goaway,
}

/// What the upstream receives of a client's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamSaw {
    /// Exactly this many complete requests.
    Complete(usize),
    /// At most one incomplete request.
    AtMostPartial,
    /// Anything: it depends on when the client closes or stops reading.
    Any,
}

/// The properties of the tested gateway that the cases of clients use.
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
    /// The factor of all pauses, in tenths: who scales the timeouts of a gateway scales the pauses of its clients, so
    /// that a slow sender writes no more often before a timeout.
    pub pause_tenths: u32,
}

/// The body of the upstream's default response.
pub const SERVED_BODY: &str = "served\n";

/// The header field of a request that selects the fault of the upstream.
pub const FAULT_HEADER: &str = "x-test-case";

/// The close reason of a stream that the HTTP/2 library resets.
pub const STREAM_ERROR: &str = "http2_stream_error";
/// The close reason of a connection that the HTTP/2 library closes with an error.
pub const CONNECTION_ERROR: &str = "http2_connection_error";

impl ExpectedResponse {
    /// The cause of the error.
    pub const fn error_cause(self) -> Option<Cause> {
        match self {
            ExpectedResponse::Rejected(cause)
            | ExpectedResponse::RejectedOnRoute(cause)
            | ExpectedResponse::HeadersOnly(cause) => Some(cause),
            ExpectedResponse::Served
            | ExpectedResponse::ServedBytes(_)
            | ExpectedResponse::Truncated(_)
            | ExpectedResponse::Prefix
            | ExpectedResponse::Reset
            | ExpectedResponse::Empty431
            | ExpectedResponse::NoResponse => None,
        }
    }

    /// The cause in `aborted_total`.
    pub const fn aborted_cause(self) -> Option<&'static str> {
        match self {
            ExpectedResponse::Truncated(cause) => Some(cause.name()),
            ExpectedResponse::HeadersOnly(_) => Some(Cause::ClientTooSlow.name()),
            // The client closes inside the response.
            ExpectedResponse::Prefix => Some("client_gone"),
            ExpectedResponse::Rejected(_)
            | ExpectedResponse::RejectedOnRoute(_)
            | ExpectedResponse::Served
            | ExpectedResponse::ServedBytes(_)
            | ExpectedResponse::Reset
            | ExpectedResponse::Empty431
            | ExpectedResponse::NoResponse => None,
        }
    }

    /// Whether the client receives a response that is checked.
    pub const fn is_response(self) -> bool {
        !matches!(self, ExpectedResponse::Reset | ExpectedResponse::Empty431 | ExpectedResponse::NoResponse)
    }
}

impl ClientFault {
    /// The query parameter that identifies the requests of this case in the upstream's recording.
    pub fn marker(&self) -> String {
        format!("row={}", self.name)
    }

    /// The expected outcomes with their streams.
    pub fn streams(&self) -> impl Iterator<Item = (u32, ExpectedResponse)> {
        (self.first_stream..).step_by(2).zip(self.expected.iter().copied())
    }

    /// The kind of the last request, which determines how its response is parsed.
    pub fn last_request_kind(&self) -> RequestKind {
        let request_kind = self.steps.iter().rev().find_map(|step| match step {
            Step::ReadResponse(request_kind) => Some(*request_kind),
            _ => None,
        });
        request_kind.unwrap_or_default()
    }
}

impl GatewayProfile {
    /// Example values, for listing the cases without a gateway.
    pub fn example() -> GatewayProfile {
        GatewayProfile {
            read_method: "GET".to_owned(),
            write_method: "POST".to_owned(),
            path: "/verify".to_owned(),
            host: "verify.example".to_owned(),
            max_header_bytes: 32 * 1024,
            max_body: 1024 * 1024,
            write_timeout: Duration::from_secs(1),
            pause_tenths: 10,
        }
    }
}

/// A faulty upstream.
#[derive(Clone, Debug)]
pub struct UpstreamFault {
    /// Stable name; the faulty upstream serves the fault at `/NAME`.
    pub name: &'static str,
    /// What the upstream does, in one line.
    pub description: &'static str,
    /// Heading in the documentation.
    pub section: &'static str,
    /// The request that triggers the fault.
    pub request: FaultRequest,
    /// The server that has the fault.
    pub server_kind: ServerKind,
    /// The script of a scripted server; empty for other servers.
    pub script: Script,
    /// What the client receives.
    pub outcome: FaultOutcome,
    /// The expected message of a replaced body.
    pub expected_message: ExpectedMessage,
    /// Upstream header fields that must reach the client.
    pub kept_headers: Vec<(&'static str, &'static str)>,
    /// Upstream header fields that must not reach the client.
    pub removed_headers: Vec<&'static str>,
    /// The interim responses before the final one.
    pub interim_statuses: Vec<u16>,
    /// The body of a forwarded response. For a truncated response: the complete body, of which the client receives a
    /// prefix.
    pub body: Bytes,
    /// `body` without its content coding, if it has one.
    pub decoded_body: Option<Bytes>,
    /// The minimum `request_sent` that the gateway may report; a higher value is also correct.
    pub min_request_sent: RequestSent,
}

/// The request that triggers a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRequest {
    /// The method.
    pub method: &'static str,
    /// Additional header fields, each line with its CRLF.
    pub header_lines: &'static str,
    /// The body; empty for none.
    pub body: Bytes,
    /// Number of sequential requests. The case describes the last response; the earlier ones are 200.
    pub count: u32,
}

impl FaultRequest {
    /// Whether this is a single GET without a body or header fields, as `curl URL` sends it.
    pub fn is_plain_get(&self) -> bool {
        self.method == "GET" && self.header_lines.is_empty() && self.body.is_empty() && self.count == 1
    }
}

/// An internal host name that must never reach a client in an error. The cases put it in reason phrases, header fields
/// and bodies, but never in a message that the gateway keeps: any error that contains it is a leak.
pub const INTERNAL_HOSTNAME: &str = "db-7.internal";

/// The body of [`ServerKind::Pooled`]'s response to the first request of a connection.
pub(super) const POOLED_BODY: &str = "good";

macro_rules! server_kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident $name:literal $uses:ident;)+) => {
        /// The kind of server that has a fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ServerKind {
            $($(#[doc = $doc])+ $kind,)+
        }

        impl ServerKind {
            /// All kinds.
            pub const ALL: &'static [ServerKind] = &[$(ServerKind::$kind,)+];

            /// The name of its upstream in the generated configuration, and in a file of cases.
            pub const fn upstream_name(self) -> &'static str {
                match self { $(ServerKind::$kind => $name,)+ }
            }

            const fn uses(self) -> Uses {
                match self { $(ServerKind::$kind => Uses::$uses,)+ }
            }
        }
    };
}

/// How the upstream of a server must be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uses {
    Http1,
    Http2,
    Tls,
    /// TLS whose certificates are verified.
    VerifiedTls,
}

server_kinds! {
    /// Reads the request and runs the script.
    Scripted "scripted" Http1;
    /// Responds with 200 to the first request of each connection and runs the script for later ones. It needs a
    /// separate upstream in the configuration, so that cases do not share its connections.
    Pooled "pooled" Http1;
    /// Accepts and closes without reading.
    Closing "closing" Http1;
    /// Refuses connections.
    Refusing "refusing" Http1;
    /// Has a full backlog: connection attempts time out.
    FullBacklog "full-backlog" Http1;
    /// HTTP/2 without TLS: reads the request and runs the script.
    Http2Scripted "h2-scripted" Http2;
    /// Configured for HTTP/2; accepts and sends nothing.
    Http2Silent "h2-silent" Http2;
    /// Configured for HTTP/2; accepts and closes.
    Http2Closing "h2-closing" Http2;
    /// Configured for HTTP/2; responds in HTTP/1.1.
    Http1InsteadOfHttp2 "h1-instead-of-h2" Http2;
    /// Configured for plain HTTP; expects TLS, with a valid certificate.
    UnexpectedTls "unexpected-tls" Http1;
    /// TLS with an expired certificate.
    ExpiredCertificate "expired" VerifiedTls;
    /// TLS with a certificate that is not yet valid.
    NotYetValidCertificate "not-yet-valid" VerifiedTls;
    /// TLS with a certificate for another name.
    WrongNameCertificate "wrong-name" VerifiedTls;
    /// TLS with a self-signed certificate.
    SelfSignedCertificate "self-signed" VerifiedTls;
    /// TLS with a certificate from an unknown authority.
    UnknownIssuer "unknown-issuer" VerifiedTls;
    /// Configured for TLS; responds in plain HTTP.
    PlaintextInsteadOfTls "plaintext" Tls;
    /// Rejects the TLS handshake with an alert.
    TlsAlert "tls-alert" Tls;
    /// Closes inside the TLS handshake.
    TlsClosed "tls-closed" Tls;
    /// Resets inside the TLS handshake.
    TlsReset "tls-reset" Tls;
    /// Stalls inside the TLS handshake.
    TlsStalled "tls-stalled" Tls;
}

impl ServerKind {
    /// Whether the server runs the script of the case.
    pub const fn runs_scripts(self) -> bool {
        matches!(self, ServerKind::Scripted | ServerKind::Pooled | ServerKind::Http2Scripted)
    }

    /// Whether its upstream must be configured with prior-knowledge HTTP/2 (`http2: always`).
    pub const fn requires_http2(self) -> bool {
        matches!(self.uses(), Uses::Http2)
    }

    /// Whether its upstream must be configured with TLS (`https://`).
    pub const fn requires_tls(self) -> bool {
        matches!(self.uses(), Uses::Tls | Uses::VerifiedTls)
    }

    /// Whether the fault is an invalid certificate.
    pub const fn has_invalid_certificate(self) -> bool {
        matches!(self.uses(), Uses::VerifiedTls)
    }
}

/// What the client receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOutcome {
    /// A local reply with the documented body.
    LocalReply {
        /// The status code.
        code: u16,
        /// The reason for the reply, which is counted and logged.
        reason: ReplyReason,
    },
    /// The upstream's response.
    Forwarded {
        /// The status code.
        code: u16,
    },
    /// A truncated response: its headers were sent before the fault.
    Aborted {
        /// The status code that was sent.
        code: u16,
        /// The counted cause.
        cause: Cause,
    },
}

impl FaultOutcome {
    /// The status code that the client receives.
    pub const fn status(self) -> u16 {
        match self {
            FaultOutcome::LocalReply { code, .. }
            | FaultOutcome::Forwarded { code }
            | FaultOutcome::Aborted { code, .. } => code,
        }
    }

    /// The value of the label `cause`.
    pub const fn cause_name(self) -> &'static str {
        match self {
            FaultOutcome::LocalReply { reason: ReplyReason::Fault(cause), .. }
            | FaultOutcome::Aborted { cause, .. } => cause.name(),
            FaultOutcome::LocalReply { reason: ReplyReason::Status(_), .. }
            | FaultOutcome::Forwarded { .. } => "upstream_response",
        }
    }
}

/// The reason for a local reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyReason {
    /// The upstream sent no usable response.
    Fault(Cause),
    /// The upstream responded with this error status.
    Status(u16),
}

/// The expected message of a local reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedMessage {
    /// The contract's default message of the code.
    ContractDefault,
    /// The upstream's message.
    FromUpstream(&'static str),
}

impl UpstreamFault {
    /// The path of the fault on the faulty upstream.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Whether the client connection stays open after the response.
    pub const fn keeps_client_connection(&self) -> bool {
        !matches!(self.outcome, FaultOutcome::Aborted { .. })
    }

    /// Whether the request asks for another protocol.
    pub fn is_upgrade(&self) -> bool {
        self.request.header_lines.contains("upgrade:")
    }
}
