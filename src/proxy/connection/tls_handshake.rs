//! TLS with a client, before its first request: the handshake under its limit, and the silence when it fails.
//!
//! A client without a handshake cannot be answered: nothing that it would understand can be said. Which certificates are
//! shown is decided where the listener was made ([`crate::tls`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::protocols::Stream;
use tracing::debug;

use crate::telemetry::CloseReason;
use crate::tls::server_config::ServerTlsConfig;
use crate::tls::stream::{AcceptError, TlsConnection};
use crate::upstream::timer::timeout_at;

/// What both sides have agreed on.
pub(in crate::proxy) enum NegotiatedStream {
    /// HTTP/1, which is also for those who said nothing.
    Http1(Stream),
    /// HTTP/2.
    Http2(Stream),
}

/// Makes the connection an encrypted one.
///
/// # Errors
/// The client gets nothing but an alert, where TLS has one for it.
pub(in crate::proxy) async fn accept_tls(
    stream: Stream,
    tls_config: &ServerTlsConfig,
    timeout: Duration,
    peer_ip: IpAddr,
) -> Result<NegotiatedStream, CloseReason> {
    let tls_accept = TlsConnection::accept(stream, Arc::clone(tls_config));
    // Boxed: it is large, and a connection lives on without it.
    match timeout_at(Instant::now() + timeout, Box::pin(tls_accept)).await {
        Some(Ok(tls_stream)) if tls_stream.negotiated_http2() => {
            Ok(NegotiatedStream::Http2(Box::new(tls_stream)))
        }
        Some(Ok(tls_stream)) => Ok(NegotiatedStream::Http1(Box::new(tls_stream))),
        Some(Err(AcceptError::ClosedEarly)) => Err(CloseReason::NoRequest),
        Some(Err(AcceptError::NotTls)) => Err(CloseReason::PlaintextOnTls),
        Some(Err(AcceptError::Handshake(error))) => {
            // One line a connection that never made a request: only for who looks for it.
            debug!(client_ip = %peer_ip, evidence = %error, "TLS handshake failed");
            Err(CloseReason::TlsHandshakeFailed)
        }
        None => Err(CloseReason::TlsHandshakeTimeout),
    }
}
