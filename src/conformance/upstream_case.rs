//! The cases of upstreams: what a faulty upstream does, and what the client receives.
//!
//! The counterpart of [`super::case`]. Status codes are literals of the default contract, because the error policy is
//! tested against them.

use bytes::Bytes;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::contract::causes::UPSTREAM_RESPONSE;
use crate::contract::{Cause, RequestSent, Trigger};

use super::case::{Leaked, leaked, name};
use super::payload::upstream_bytes;
use super::step::Script;

/// A faulty upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamFault {
    /// Stable name; the faulty upstream serves the fault at `/NAME`.
    #[serde(deserialize_with = "name")]
    pub name: Leaked,
    /// What the upstream does, in one line.
    #[serde(rename = "shows", deserialize_with = "leaked")]
    pub description: Leaked,
    /// Heading in the documentation.
    #[serde(skip)]
    pub section: &'static str,
    /// The server that has the fault.
    #[serde(rename = "server", default = "scripted")]
    pub server_kind: ServerKind,
    /// The request that triggers the fault.
    #[serde(default)]
    pub request: FaultRequest,
    /// The script of a scripted server; empty for other servers.
    #[serde(rename = "steps", default)]
    pub script: Script,
    /// What the client receives.
    #[serde(deserialize_with = "complete_expectation")]
    pub expect: UpstreamExpectation,
}

const fn scripted() -> ServerKind {
    ServerKind::Scripted
}

/// The request that triggers a fault.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultRequest {
    /// The method.
    #[serde(deserialize_with = "leaked")]
    pub method: Leaked,
    /// Additional field lines.
    pub fields: Vec<String>,
    /// The body; empty for none.
    #[serde(deserialize_with = "upstream_bytes")]
    pub body: Bytes,
    /// Number of sequential requests. The case describes the last response; the earlier ones are 200.
    pub count: u32,
}

impl Default for FaultRequest {
    fn default() -> FaultRequest {
        FaultRequest { method: "GET", fields: Vec::new(), body: Bytes::new(), count: 1 }
    }
}

impl FaultRequest {
    /// The additional header fields, each line with its CRLF.
    pub fn header_lines(&self) -> String {
        self.fields.iter().map(|line| format!("{line}\r\n")).collect()
    }

    /// Whether this is a single GET without a body or header fields, as `curl URL` sends it.
    pub fn is_plain_get(&self) -> bool {
        *self == FaultRequest::default()
    }
}

/// What the client of a faulty upstream receives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamExpectation {
    /// The response; from the next five.
    #[serde(skip)]
    pub outcome: FaultOutcome,
    /// The code of a local reply.
    reply: Option<u16>,
    /// The code of a forwarded response.
    forwarded: Option<u16>,
    /// The code of a truncated response.
    truncated: Option<u16>,
    /// The cause of a local reply or of a truncation.
    cause: Option<Cause>,
    /// The upstream's status that a local reply replaces.
    status: Option<u16>,
    /// The upstream's message that a local reply keeps; otherwise it has the contract's message of the code.
    pub message: Option<String>,
    /// The body of a forwarded response. For a truncated response: the complete body, of which the client receives a
    /// prefix.
    #[serde(deserialize_with = "upstream_bytes")]
    pub body: Bytes,
    /// `body` without its content coding, if it has one.
    #[serde(deserialize_with = "optional_bytes")]
    pub(crate) decoded: Option<Bytes>,
    /// Upstream field lines that must reach the client.
    kept: Vec<String>,
    /// Names of upstream header fields that must not reach the client.
    pub removed: Vec<String>,
    /// The statuses of the interim responses before the final one.
    pub interim: Vec<u16>,
    /// The minimum `request_sent` that the gateway may report; a higher value is also correct.
    #[serde(default = "fully_sent")]
    pub request_sent: RequestSent,
}

const fn fully_sent() -> RequestSent {
    RequestSent::Full
}

impl UpstreamExpectation {
    /// Upstream header fields that must reach the client.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &str)> {
        self.kept.iter().map(|line| line.split_once(": ").unwrap_or((line, "")))
    }

    /// `None` if the written codes, cause and status are incomplete or contradictory.
    const fn written_outcome(&self) -> Option<FaultOutcome> {
        match (self.reply, self.forwarded, self.truncated, self.cause, self.status) {
            (Some(code), None, None, Some(cause), None) => {
                Some(FaultOutcome::LocalReply { code, reason: Trigger::Fault(cause) })
            }
            (Some(code), None, None, None, Some(status)) => {
                Some(FaultOutcome::LocalReply { code, reason: Trigger::UpstreamStatus(status) })
            }
            (None, Some(code), None, None, None) => Some(FaultOutcome::Forwarded { code }),
            (None, None, Some(code), Some(cause), None) => Some(FaultOutcome::Aborted { code, cause }),
            _ => None,
        }
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
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        pub enum ServerKind {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $kind,)+
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
    /// A Unix socket.
    Unix,
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
    /// Listens on a Unix socket, reads the request and runs the script.
    UnixScripted "unix" Unix;
    /// A Unix socket of a process that has ended.
    UnixStale "unix-stale" Unix;
    /// A Unix socket with a full backlog.
    UnixFullBacklog "unix-full-backlog" Unix;
}

impl ServerKind {
    /// Whether the server runs the script of the case.
    pub(crate) const fn runs_scripts(self) -> bool {
        use ServerKind::{Http2Scripted, Pooled, Scripted, UnixScripted};
        matches!(self, Scripted | Pooled | Http2Scripted | UnixScripted)
    }

    /// Whether its upstream must be configured with prior-knowledge HTTP/2 (`http2: always`).
    pub const fn requires_http2(self) -> bool {
        matches!(self.uses(), Uses::Http2)
    }

    /// Whether its upstream must be configured with TLS (`https://`).
    pub const fn requires_tls(self) -> bool {
        matches!(self.uses(), Uses::Tls | Uses::VerifiedTls)
    }

    /// Whether its address is the path of a socket (`unix:PATH`).
    pub const fn uses_socket(self) -> bool {
        matches!(self.uses(), Uses::Unix)
    }

    /// Whether the fault is an invalid certificate.
    pub(crate) const fn has_invalid_certificate(self) -> bool {
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
        reason: Trigger,
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

impl Default for FaultOutcome {
    fn default() -> FaultOutcome {
        FaultOutcome::Forwarded { code: 200 }
    }
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
            FaultOutcome::LocalReply { reason, .. } => reason.name(),
            FaultOutcome::Aborted { cause, .. } => cause.name(),
            FaultOutcome::Forwarded { .. } => UPSTREAM_RESPONSE,
        }
    }
}

impl UpstreamFault {
    /// The path of the fault on the faulty upstream.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// Whether the request asks for another protocol.
    pub fn is_upgrade(&self) -> bool {
        self.request.fields.iter().any(|line| line.starts_with("upgrade:"))
    }
}

fn optional_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    upstream_bytes(deserializer).map(Some)
}

fn complete_expectation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UpstreamExpectation, D::Error> {
    let mut expect = UpstreamExpectation::deserialize(deserializer)?;
    expect.outcome = expect.written_outcome().ok_or_else(|| {
        D::Error::custom(
            "the expectation is not complete, expected reply with cause or status, forwarded, or truncated with cause",
        )
    })?;
    Ok(expect)
}
