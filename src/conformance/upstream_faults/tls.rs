//! TLS failures: invalid certificates, failed handshakes, and TLS where plain HTTP is expected or the other way around.
//!
//! No part of a request is sent, except when the gateway sends plain HTTP to a TLS port.

use crate::contract::{Cause, RequestSent};

use super::{FaultOutcome, ReplyReason, ServerKind, UpstreamFault, fault_row};

/// All rows of this file.
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
            "presents an expired certificate",
            ServerKind::ExpiredCertificate,
            certificate,
        ),
        at_server(
            "tls-not-yet-valid",
            "presents a certificate that is not yet valid",
            ServerKind::NotYetValidCertificate,
            certificate,
        ),
        at_server(
            "tls-wrong-name",
            "presents a certificate for another name",
            ServerKind::WrongNameCertificate,
            certificate,
        ),
        at_server(
            "tls-self-signed",
            "presents a self-signed certificate",
            ServerKind::SelfSignedCertificate,
            certificate,
        ),
        at_server(
            "tls-unknown-authority",
            "presents a certificate from an unknown authority",
            ServerKind::UnknownIssuer,
            certificate,
        ),
        at_server(
            "tls-plain-port",
            "replies to the ClientHello in plain HTTP",
            ServerKind::PlaintextInsteadOfTls,
            protocol,
        ),
        at_server("tls-refused", "rejects the handshake with an alert", ServerKind::TlsAlert, protocol),
        at_server("tls-cut", "closes the connection inside the handshake", ServerKind::TlsClosed, protocol),
        at_server("tls-reset", "resets the connection inside the handshake", ServerKind::TlsReset, protocol),
        at_server("tls-stall", "stalls inside the handshake", ServerKind::TlsStalled, Cause::TlsTimeout),
        UpstreamFault {
            min_request_sent: RequestSent::Partial,
            ..at_server(
                "plain-to-tls-port",
                "expects TLS where the gateway sends plain HTTP",
                ServerKind::UnexpectedTls,
                Cause::HttpProtocolError,
            )
        },
    ]
}
