//! The table of upstream faults: what the upstream sends, and the exact expected outcome.
//!
//! One row per fault, shared by tests, `demo`, `verify` and the documentation. A row holds the bytes on the wire and
//! the outcome that the contract requires. Status codes are literals: the error policy is tested against this table, so
//! the table must not be computed by the policy.

mod connection;
mod content_coding;
mod error_bodies;
mod framing;
mod header_fields;
mod http2;
mod interim;
mod pooled_connections;
mod response_heads;
mod statuses;
mod tls;
mod upgrade;

use std::sync::LazyLock;

use bytes::Bytes;

use crate::contract::{Cause, RequestSent};

use super::script::{Script, UpstreamStep};

/// One upstream fault.
#[derive(Clone, Debug)]
pub struct UpstreamFault {
    /// Stable name; the faulty upstream serves the fault at `/NAME`.
    pub name: &'static str,
    /// What the upstream does, in one line.
    pub description: &'static str,
    /// Section of the documentation.
    pub category: FaultCategory,
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
    pub kept_headers: &'static [(&'static str, &'static str)],
    /// Upstream header fields that must not reach the client.
    pub removed_headers: &'static [&'static str],
    /// The interim responses before the final one.
    pub interim_statuses: &'static [u16],
    /// The body of a forwarded response. For a truncated response: the complete body, of which the client receives a
    /// prefix.
    pub body: Bytes,
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
    /// Number of sequential requests. The row describes the last response; the earlier ones are 200.
    pub count: u32,
}

impl FaultRequest {
    const fn single(method: &'static str) -> FaultRequest {
        FaultRequest { method, header_lines: "", body: Bytes::new(), count: 1 }
    }

    /// Whether this is a single GET without a body or header fields, as `curl URL` sends it.
    pub fn is_plain_get(&self) -> bool {
        *self == FaultRequest::single("GET")
    }
}

/// Categories of upstream faults, in documentation order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultCategory {
    /// The connection fails before a request is sent.
    Connect,
    /// The TLS handshake fails.
    Tls,
    /// The response headers are missing or incomplete.
    MissingHeaders,
    /// The response headers are malformed.
    MalformedHeaders,
    /// The body framing is ambiguous or invalid.
    Framing,
    /// 1xx responses, and final responses without a body.
    Interim,
    /// The response to a WebSocket upgrade is invalid.
    Upgrade,
    /// A pooled connection fails, or receives extra bytes.
    PooledConnection,
    /// An error status with an HTML page.
    Status,
    /// The body of an error.
    ErrorBody,
    /// The content coding of an error.
    ContentCoding,
    /// The header fields of an error.
    HeaderFields,
    /// The response is truncated after its headers were sent.
    TruncatedBody,
    /// HTTP/2 errors, and HTTP/2 responses that are truncated.
    Http2,
}

impl FaultCategory {
    /// All categories, in documentation order.
    pub const ALL: [FaultCategory; 14] = [
        FaultCategory::Connect,
        FaultCategory::Tls,
        FaultCategory::MissingHeaders,
        FaultCategory::MalformedHeaders,
        FaultCategory::Framing,
        FaultCategory::Interim,
        FaultCategory::Upgrade,
        FaultCategory::PooledConnection,
        FaultCategory::Status,
        FaultCategory::ErrorBody,
        FaultCategory::ContentCoding,
        FaultCategory::HeaderFields,
        FaultCategory::TruncatedBody,
        FaultCategory::Http2,
    ];

    /// The heading of the category in the documentation.
    pub const fn title(self) -> &'static str {
        match self {
            FaultCategory::Connect => "Connection failures",
            FaultCategory::Tls => "TLS failures",
            FaultCategory::MissingHeaders => "Missing or incomplete response headers",
            FaultCategory::MalformedHeaders => "Malformed HTTP responses",
            FaultCategory::Framing => "Ambiguous or invalid body framing",
            FaultCategory::Interim => "Interim responses and responses without a body",
            FaultCategory::Upgrade => "Failed WebSocket upgrades",
            FaultCategory::PooledConnection => "Failures of pooled connections",
            FaultCategory::Status => "Error statuses with an HTML page",
            FaultCategory::ErrorBody => "Error bodies",
            FaultCategory::ContentCoding => "Compressed error bodies",
            FaultCategory::HeaderFields => "Header fields of errors",
            FaultCategory::TruncatedBody => "Response truncated after the headers were sent",
            FaultCategory::Http2 => "HTTP/2 failures",
        }
    }
}

/// An internal host name that must never reach a client in an error. The rows put it in reason phrases, header fields
/// and bodies, but never in a message that the gateway keeps: any error that contains it is a leak.
pub const INTERNAL_HOSTNAME: &str = "db-7.internal";

/// The body of [`ServerKind::Pooled`]'s response to the first request of a connection.
pub(super) const POOLED_BODY: &str = "good";

/// The kind of server that has a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// Reads the request and runs the script.
    Scripted,
    /// Responds with 200 to the first request of each connection and runs the script for later ones. It needs a
    /// separate upstream in the configuration, so that rows do not share its connections.
    Pooled,
    /// Accepts and closes without reading.
    Closing,
    /// Refuses connections.
    Refusing,
    /// Has a full backlog: connection attempts time out.
    FullBacklog,
    /// HTTP/2 without TLS: reads the request and runs the script.
    Http2Scripted,
    /// Configured for HTTP/2; accepts and sends nothing.
    Http2Silent,
    /// Configured for HTTP/2; accepts and closes.
    Http2Closing,
    /// Configured for HTTP/2; responds in HTTP/1.1.
    Http1InsteadOfHttp2,
    /// Configured for plain HTTP; expects TLS, with a valid certificate.
    UnexpectedTls,
    /// TLS with an expired certificate.
    ExpiredCertificate,
    /// TLS with a certificate that is not yet valid.
    NotYetValidCertificate,
    /// TLS with a certificate for another name.
    WrongNameCertificate,
    /// TLS with a self-signed certificate.
    SelfSignedCertificate,
    /// TLS with a certificate from an unknown authority.
    UnknownIssuer,
    /// Configured for TLS; responds in plain HTTP.
    PlaintextInsteadOfTls,
    /// Rejects the TLS handshake with an alert.
    TlsAlert,
    /// Closes inside the TLS handshake.
    TlsClosed,
    /// Resets inside the TLS handshake.
    TlsReset,
    /// Stalls inside the TLS handshake.
    TlsStalled,
}

impl ServerKind {
    /// All kinds.
    pub const ALL: [ServerKind; 20] = [
        ServerKind::Scripted,
        ServerKind::Pooled,
        ServerKind::Closing,
        ServerKind::Refusing,
        ServerKind::FullBacklog,
        ServerKind::Http2Scripted,
        ServerKind::Http2Silent,
        ServerKind::Http2Closing,
        ServerKind::Http1InsteadOfHttp2,
        ServerKind::UnexpectedTls,
        ServerKind::ExpiredCertificate,
        ServerKind::NotYetValidCertificate,
        ServerKind::WrongNameCertificate,
        ServerKind::SelfSignedCertificate,
        ServerKind::UnknownIssuer,
        ServerKind::PlaintextInsteadOfTls,
        ServerKind::TlsAlert,
        ServerKind::TlsClosed,
        ServerKind::TlsReset,
        ServerKind::TlsStalled,
    ];

    /// Whether the server runs the script of the row.
    pub const fn runs_scripts(self) -> bool {
        matches!(self, ServerKind::Scripted | ServerKind::Pooled | ServerKind::Http2Scripted)
    }

    /// Whether its upstream must be configured with prior-knowledge HTTP/2 (`http2: always`).
    pub const fn requires_http2(self) -> bool {
        matches!(
            self,
            ServerKind::Http2Scripted
                | ServerKind::Http2Silent
                | ServerKind::Http2Closing
                | ServerKind::Http1InsteadOfHttp2
        )
    }

    /// Whether its upstream must be configured with TLS (`https://`).
    pub const fn requires_tls(self) -> bool {
        self.has_invalid_certificate()
            || matches!(
                self,
                ServerKind::PlaintextInsteadOfTls
                    | ServerKind::TlsAlert
                    | ServerKind::TlsClosed
                    | ServerKind::TlsReset
                    | ServerKind::TlsStalled
            )
    }

    /// Whether the fault is an invalid certificate.
    pub const fn has_invalid_certificate(self) -> bool {
        matches!(
            self,
            ServerKind::ExpiredCertificate
                | ServerKind::NotYetValidCertificate
                | ServerKind::WrongNameCertificate
                | ServerKind::SelfSignedCertificate
                | ServerKind::UnknownIssuer
        )
    }

    /// The name of its upstream in the generated configuration.
    pub const fn upstream_name(self) -> &'static str {
        match self {
            ServerKind::Scripted => "scripted",
            ServerKind::Pooled => "pooled",
            ServerKind::Closing => "closing",
            ServerKind::Refusing => "refusing",
            ServerKind::FullBacklog => "full-backlog",
            ServerKind::Http2Scripted => "h2-scripted",
            ServerKind::Http2Silent => "h2-silent",
            ServerKind::Http2Closing => "h2-closing",
            ServerKind::Http1InsteadOfHttp2 => "h1-instead-of-h2",
            ServerKind::UnexpectedTls => "unexpected-tls",
            ServerKind::ExpiredCertificate => "expired",
            ServerKind::NotYetValidCertificate => "not-yet-valid",
            ServerKind::WrongNameCertificate => "wrong-name",
            ServerKind::SelfSignedCertificate => "self-signed",
            ServerKind::UnknownIssuer => "unknown-issuer",
            ServerKind::PlaintextInsteadOfTls => "plaintext",
            ServerKind::TlsAlert => "tls-alert",
            ServerKind::TlsClosed => "tls-closed",
            ServerKind::TlsReset => "tls-reset",
            ServerKind::TlsStalled => "tls-stalled",
        }
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

    fn with_upstream_message(mut self, message: &'static str) -> Self {
        self.expected_message = ExpectedMessage::FromUpstream(message);
        self
    }

    fn with_kept_headers(mut self, kept_headers: &'static [(&'static str, &'static str)]) -> Self {
        self.kept_headers = kept_headers;
        self
    }
}

/// All upstream faults in documentation order, from the connection to the end of the body.
pub fn upstream_faults() -> Vec<UpstreamFault> {
    TABLE.clone()
}

/// Built once: some bodies are large.
static TABLE: LazyLock<Vec<UpstreamFault>> = LazyLock::new(|| {
    [
        with_category(FaultCategory::Connect, connection::connect_failures()),
        with_category(FaultCategory::Tls, tls::rows()),
        with_category(FaultCategory::MissingHeaders, connection::response_heads()),
        with_category(FaultCategory::MalformedHeaders, response_heads::rows()),
        with_category(FaultCategory::Framing, framing::rows()),
        with_category(FaultCategory::Interim, interim::rows()),
        with_category(FaultCategory::Upgrade, upgrade::rows()),
        with_category(FaultCategory::PooledConnection, pooled_connections::rows()),
        with_category(FaultCategory::Status, statuses::rows()),
        with_category(FaultCategory::ErrorBody, error_bodies::rows()),
        with_category(FaultCategory::ContentCoding, content_coding::rows()),
        with_category(FaultCategory::HeaderFields, header_fields::rows()),
        with_category(FaultCategory::TruncatedBody, connection::truncated_bodies()),
        with_category(FaultCategory::Http2, http2::rows()),
    ]
    .concat()
});

fn with_category(category: FaultCategory, rows: Vec<UpstreamFault>) -> Vec<UpstreamFault> {
    rows.into_iter().map(|row| UpstreamFault { category, ..row }).collect()
}

/// A row with default values: a GET to the scripted server, which reads the whole request.
fn fault_row(name: &'static str, description: &'static str, outcome: FaultOutcome) -> UpstreamFault {
    UpstreamFault {
        name,
        description,
        category: FaultCategory::Connect,
        request: FaultRequest::single("GET"),
        server_kind: ServerKind::Scripted,
        script: Script::new(),
        outcome,
        expected_message: ExpectedMessage::ContractDefault,
        kept_headers: &[],
        removed_headers: &[],
        interim_statuses: &[],
        body: Bytes::new(),
        min_request_sent: RequestSent::Full,
    }
}

fn replaced_row(
    name: &'static str,
    description: &'static str,
    status: u16,
    code: u16,
    steps: Vec<UpstreamStep>,
) -> UpstreamFault {
    let outcome = FaultOutcome::LocalReply { code, reason: ReplyReason::Status(status) };
    UpstreamFault { script: after_request(steps), ..fault_row(name, description, outcome) }
}

fn after_request(steps: Vec<UpstreamStep>) -> Script {
    std::iter::once(UpstreamStep::ReadRequestHead)
        .chain(std::iter::once(UpstreamStep::ReadBody))
        .chain(steps)
        .collect()
}

/// A response that is forwarded with this body.
fn forwarded_row(
    name: &'static str,
    description: &'static str,
    code: u16,
    body: &'static str,
    steps: Vec<UpstreamStep>,
) -> UpstreamFault {
    UpstreamFault {
        script: after_request(steps),
        body: body.into(),
        ..fault_row(name, description, FaultOutcome::Forwarded { code })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn faults_have_unique_names_and_a_script_where_one_is_run() {
        let faults = upstream_faults();
        let names: BTreeSet<_> = faults.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), faults.len());
        for fault in &faults {
            assert_eq!(fault.script.is_empty(), !fault.server_kind.runs_scripts(), "{}", fault.name);
        }
    }

    #[test]
    fn expected_error_codes_are_all_documented() {
        for fault in upstream_faults() {
            if fault.outcome.status() >= 400 {
                assert!(
                    [400, 401, 403, 404, 409, 429, 500, 503, 504].contains(&fault.outcome.status()),
                    "{}",
                    fault.name
                );
            }
        }
    }
}
