//! TLS with a client, before its first request: the handshake under its limit, and the silence when it fails.
//!
//! A client without a handshake cannot be answered: nothing that it would understand can be said. Which certificates are
//! shown is decided where the listener was made ([`crate::tls`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::protocols::Stream;
use tracing::debug;

use crate::observe::CloseReason;
use crate::tls::served::ServerTlsConfig;
use crate::tls::stream::{AcceptError, TlsConnection};
use crate::upstream::timer::timeout_at;

/// What both sides have agreed on.
pub(super) enum Agreed {
    /// HTTP/1, which is also for those who said nothing.
    Http1(Stream),
    /// HTTP/2.
    Http2(Stream),
}

/// Makes the connection an encrypted one.
///
/// # Errors
/// The client gets nothing but an alert, where TLS has one for it.
pub(super) async fn shake_hands(
    stream: Stream,
    settings: &ServerTlsConfig,
    limit: Duration,
    peer: IpAddr,
) -> Result<Agreed, CloseReason> {
    let shaking = TlsConnection::accept(stream, Arc::clone(settings));
    // Boxed: it is large, and a connection lives on without it.
    match timeout_at(Instant::now() + limit, Box::pin(shaking)).await {
        Some(Ok(encrypted)) if encrypted.negotiated_http2() => Ok(Agreed::Http2(Box::new(encrypted))),
        Some(Ok(encrypted)) => Ok(Agreed::Http1(Box::new(encrypted))),
        Some(Err(AcceptError::ClosedEarly)) => Err(CloseReason::NoRequest),
        Some(Err(AcceptError::NotTls)) => Err(CloseReason::PlaintextOnTls),
        Some(Err(AcceptError::Handshake(error))) => {
            // One line a connection that never made a request: only for who looks for it.
            debug!(client_ip = %peer, evidence = %error, "a TLS handshake failed");
            Err(CloseReason::TlsHandshakeFailed)
        }
        None => Err(CloseReason::TlsHandshakeTimeout),
    }
}
