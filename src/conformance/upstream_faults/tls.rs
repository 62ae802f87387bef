//! Rows of the table about TLS towards the upstream: certificates that are not good, handshakes that come to nothing, and
//! ports of the other kind.
//!
//! What is wrong stands in the log alone; nothing of a request has left, except where the gateway speaks plain HTTP to a
//! port with TLS.

use crate::contract::{Cause, RequestSent};

use super::{FaultOutcome, ReplyReason, ServerKind, UpstreamFault, fault_row};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let at_server = |name, description, server_kind, cause| UpstreamFault {
        server_kind,
        min_request_sent: RequestSent::None,
        ..fault_row(
            name,
            description,
            FaultOutcome::LocalReply { code: 504, reason: ReplyReason::Fault(cause) },
        )
    };
    let (certificate, protocol) = (Cause::TlsCertificateError, Cause::TlsProtocolError);
    vec![
        at_server(
            "tls-expired",
            "shows a certificate whose time is over",
            ServerKind::ExpiredCertificate,
            certificate,
        ),
        at_server(
            "tls-not-yet-valid",
            "shows one whose time has not come",
            ServerKind::NotYetValidCertificate,
            certificate,
        ),
        at_server(
            "tls-wrong-name",
            "shows one for another name",
            ServerKind::WrongNameCertificate,
            certificate,
        ),
        at_server(
            "tls-self-signed",
            "shows one that is signed by its own key",
            ServerKind::SelfSignedCertificate,
            certificate,
        ),
        at_server(
            "tls-unknown-authority",
            "shows one that is signed by nobody who is trusted",
            ServerKind::UnknownIssuer,
            certificate,
        ),
        at_server("tls-plain-port", "speaks plain HTTP", ServerKind::PlaintextInsteadOfTls, protocol),
        at_server("tls-refused", "refuses the handshake with an alert", ServerKind::TlsAlert, protocol),
        at_server("tls-cut", "closes the connection inside the handshake", ServerKind::TlsClosed, protocol),
        at_server("tls-reset", "resets the connection inside the handshake", ServerKind::TlsReset, protocol),
        at_server(
            "tls-stall",
            "falls silent inside the handshake",
            ServerKind::TlsStalled,
            Cause::TlsTimeout,
        ),
        UpstreamFault {
            min_request_sent: RequestSent::Partial,
            ..at_server(
                "plain-to-tls-port",
                "speaks TLS, and is spoken to in plain HTTP",
                ServerKind::UnexpectedTls,
                Cause::HttpProtocolError,
            )
        },
    ]
}
