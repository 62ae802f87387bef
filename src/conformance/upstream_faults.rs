//! The table of upstream faults: what the upstream does, and exactly what should come of it.
//!
//! One row per fault, told once for tests, `demo`, `rehearse` and the documentation. A row says what is sent on the wire
//! and what the contract demands; it does not know how a gateway gets there. Codes are plain numbers here: this table is
//! the expectation that the policy is held against, so it must not be computed by the policy.

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

/// One way in which an upstream breaks.
#[derive(Clone, Debug)]
pub struct UpstreamFault {
    /// Stable name; `/NAME` is the path under which the misbehaving upstream plays it.
    pub name: &'static str,
    /// What happens, in one line.
    pub description: &'static str,
    /// Which sort of fault it is.
    pub category: FaultCategory,
    /// What a client asks to see it.
    pub request: FaultRequest,
    /// Which kind of address it happens at.
    pub server_kind: ServerKind,
    /// What a scripted address plays; empty elsewhere.
    pub script: Script,
    /// What the client gets.
    pub outcome: FaultOutcome,
    /// Which message is in a replaced body.
    pub expected_message: ExpectedMessage,
    /// Fields of the upstream that must reach the client.
    pub kept_headers: &'static [(&'static str, &'static str)],
    /// Fields of the upstream that must not reach the client.
    pub removed_headers: &'static [&'static str],
    /// The interim responses before the answer.
    pub interim_statuses: &'static [u16],
    /// The body of a response that passes, or the whole of which an aborted one is the beginning.
    pub body: Bytes,
    /// The least that may be said about the request having reached the upstream; saying more is true as well.
    pub min_request_sent: RequestSent,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRequest {
    /// The method.
    pub method: &'static str,
    /// Further fields, each line with its CRLF.
    pub header_lines: &'static str,
    /// The body; empty for none.
    pub body: Bytes,
    /// How often, one after the other; the last answer is the one that the row tells of. The others are 200.
    pub count: u32,
}

impl FaultRequest {
    const fn single(method: &'static str) -> FaultRequest {
        FaultRequest { method, header_lines: "", body: Bytes::new(), count: 1 }
    }

    /// One GET without a body or fields: what `curl URL` asks.
    pub fn is_plain_get(&self) -> bool {
        *self == FaultRequest::single("GET")
    }
}

/// The sorts of faults, in the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultCategory {
    /// There is no connection, or one that is of no use.
    Connect,
    /// TLS with the server comes to nothing.
    Tls,
    /// The response head does not come, or not whole.
    MissingHeaders,
    /// What comes is no response head.
    MalformedHeaders,
    /// The end of the body is not told clearly.
    Framing,
    /// 1xx responses, and statuses without a body.
    Interim,
    /// The request asks to change to WebSocket.
    Upgrade,
    /// A kept connection that fails under a request, or carries too much.
    PooledConnection,
    /// An error status.
    Status,
    /// The body of an error.
    ErrorBody,
    /// The content coding of an error.
    ContentCoding,
    /// The fields of an error.
    HeaderFields,
    /// The body breaks after the head has left.
    TruncatedBody,
    /// The server speaks HTTP/2, and breaks it or breaks off.
    Http2,
}

impl FaultCategory {
    /// Every kind, in order.
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

    /// What the upstream does, for a heading.
    pub const fn title(self) -> &'static str {
        match self {
            FaultCategory::Connect => "No connection, or one that is of no use",
            FaultCategory::Tls => "TLS that comes to nothing",
            FaultCategory::MissingHeaders => "The response head does not come, or not whole",
            FaultCategory::MalformedHeaders => "What comes is no HTTP response",
            FaultCategory::Framing => "The end of the body is not told clearly",
            FaultCategory::Interim => "Interim responses, and responses without a body",
            FaultCategory::Upgrade => "A request to change to WebSocket that comes to nothing",
            FaultCategory::PooledConnection => "Kept connections that fail, or carry too much",
            FaultCategory::Status => "An error status with an HTML page",
            FaultCategory::ErrorBody => "Errors with a body of another shape",
            FaultCategory::ContentCoding => "Errors with a coded body",
            FaultCategory::HeaderFields => "Fields on errors",
            FaultCategory::TruncatedBody => "A body that breaks after the head has left",
            FaultCategory::Http2 => "HTTP/2 that breaks, or breaks off",
        }
    }
}

/// What an upstream must not let anybody know: the name of a machine. It stands wherever the rows have room for it (in
/// reasons, fields and bodies), and never in a message that is kept, so that no error may ever hold it.
pub const INTERNAL_HOSTNAME: &str = "db-7.internal";

/// What [`ServerKind::Pooled`] answers to the first request of a connection.
pub(super) const POOLED_BODY: &str = "good";

/// Which kind of server plays a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// One that reads the request and plays the script.
    Scripted,
    /// One that answers the first request of each connection well, and plays the script for all others on it. A row
    /// of this place needs an upstream of its own in the configuration, so that its connection is nobody else's.
    Pooled,
    /// One that accepts and closes without reading.
    Closing,
    /// A port that refuses.
    Refusing,
    /// A port whose backlog is full.
    FullBacklog,
    /// One that speaks HTTP/2 without TLS, reads the request and plays the script.
    Http2Scripted,
    /// One that should speak HTTP/2, accepts and says nothing.
    Http2Silent,
    /// One that should, accepts and closes.
    Http2Closing,
    /// One that should, and speaks HTTP/1.1.
    Http1InsteadOfHttp2,
    /// One that speaks TLS with a good certificate, and should not.
    UnexpectedTls,
    /// One whose certificate is over.
    ExpiredCertificate,
    /// One whose certificate is not valid yet.
    NotYetValidCertificate,
    /// One whose certificate is for another name.
    WrongNameCertificate,
    /// One whose certificate is signed by itself.
    SelfSignedCertificate,
    /// One whose certificate is signed by a stranger.
    UnknownIssuer,
    /// One that should speak TLS, and speaks plain HTTP.
    PlaintextInsteadOfTls,
    /// One that answers a handshake with an alert.
    TlsAlert,
    /// One that closes inside a handshake.
    TlsClosed,
    /// One that resets inside a handshake.
    TlsReset,
    /// One that falls silent inside a handshake.
    TlsStalled,
}

impl ServerKind {
    /// Every place.
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

    /// Whether it plays scripts.
    pub const fn runs_scripts(self) -> bool {
        matches!(self, ServerKind::Scripted | ServerKind::Pooled | ServerKind::Http2Scripted)
    }

    /// Whether it has to be spoken to in HTTP/2, without being asked (`http2: always`).
    pub const fn requires_http2(self) -> bool {
        matches!(
            self,
            ServerKind::Http2Scripted
                | ServerKind::Http2Silent
                | ServerKind::Http2Closing
                | ServerKind::Http1InsteadOfHttp2
        )
    }

    /// Whether it has to be spoken to in TLS (`https://`).
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

    /// Whether it is its certificate that is not good.
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

    /// The name of its upstream in a configuration.
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

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultOutcome {
    /// A new body under this code.
    LocalReply {
        /// The status.
        code: u16,
        /// The reason that is counted and logged.
        reason: ReplyReason,
    },
    /// The upstream's own response as received.
    Forwarded {
        /// The status.
        code: u16,
    },
    /// The head has left; the message is visibly cut.
    Aborted {
        /// The status that had left.
        code: u16,
        /// The cause that is counted.
        cause: Cause,
    },
}

impl FaultOutcome {
    /// The status that the client sees.
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

/// Why an answer was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyReason {
    /// Nothing usable came.
    Fault(Cause),
    /// The upstream answered this status.
    Status(u16),
}

/// Which message stands in a replaced body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedMessage {
    /// The contract's text of the code.
    ContractDefault,
    /// The upstream's own.
    FromUpstream(&'static str),
}

impl UpstreamFault {
    /// The path under which it is played.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// The client's connection serves further requests afterwards.
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

/// The whole table, in the order in which it is shown: from the connection to the end of the body.
pub fn upstream_faults() -> Vec<UpstreamFault> {
    TABLE.clone()
}

/// Made once: some of its bodies are large.
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

/// A row with the usual rest: played by the scripted upstream, which reads the whole request.
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

/// A response that passes with this body.
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
