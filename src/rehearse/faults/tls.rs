//! Rows of the table about TLS towards the upstream: certificates that are not good, handshakes that come to nothing, and
//! ports of the other kind.
//!
//! What is wrong stands in the log alone; nothing of a request has left, except where the gateway speaks plain HTTP to a
//! port with TLS.

use crate::contract::{Cause, RequestSent};

use super::{Outcome, Place, UpstreamFault, Why, row};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    let at = |name, meaning, place, cause| UpstreamFault {
        place,
        sent_at_least: RequestSent::None,
        ..row(name, meaning, Outcome::Answered { code: 504, why: Why::Fault(cause) })
    };
    let (certificate, protocol) = (Cause::TlsCertificateError, Cause::TlsProtocolError);
    vec![
        at("tls-expired", "shows a certificate whose time is over", Place::Expired, certificate),
        at("tls-not-yet-valid", "shows one whose time has not come", Place::NotYetValid, certificate),
        at("tls-wrong-name", "shows one for another name", Place::WrongName, certificate),
        at("tls-self-signed", "shows one that is signed by its own key", Place::SelfSigned, certificate),
        at(
            "tls-unknown-authority",
            "shows one that is signed by nobody who is trusted",
            Place::Stranger,
            certificate,
        ),
        at("tls-plain-port", "speaks plain HTTP", Place::PlainPort, protocol),
        at("tls-refused", "refuses the handshake with an alert", Place::TlsAlert, protocol),
        at("tls-cut", "closes the connection inside the handshake", Place::TlsCut, protocol),
        at("tls-reset", "resets the connection inside the handshake", Place::TlsReset, protocol),
        at("tls-stall", "falls silent inside the handshake", Place::TlsStall, Cause::TlsTimeout),
        UpstreamFault {
            sent_at_least: RequestSent::Partial,
            ..at(
                "plain-to-tls-port",
                "speaks TLS, and is spoken to in plain HTTP",
                Place::TlsPort,
                Cause::HttpProtocolError,
            )
        },
    ]
}
