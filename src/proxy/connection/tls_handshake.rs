//! The TLS handshake with a client, under a timeout.
//!
//! A failed handshake closes the connection without an HTTP response, because HTTP starts after the handshake.
//! The certificates are configured in [`crate::tls::server_config`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::protocols::Stream;
use tracing::debug;

use crate::telemetry::CloseReason;
use crate::tls::server_config::ServerTlsConfig;
use crate::tls::stream::{AcceptError, TlsConnection};
use crate::upstream::timer::timeout_at;

/// An encrypted connection, by the protocol that ALPN selected.
pub(in crate::proxy) enum NegotiatedStream {
    /// HTTP/1.1, also for clients without ALPN.
    Http1(Stream),
    /// HTTP/2.
    Http2(Stream),
}

/// Performs the server side of the TLS handshake.
///
/// # Errors
/// The handshake failed or timed out. The client received at most a TLS alert.
pub(in crate::proxy) async fn accept_tls(
    stream: Stream,
    tls_config: &ServerTlsConfig,
    timeout: Duration,
    peer_ip: IpAddr,
) -> Result<NegotiatedStream, CloseReason> {
    let tls_accept = TlsConnection::accept(stream, Arc::clone(tls_config));
    // Boxed because the future is large and the connection outlives it.
    match timeout_at(Instant::now() + timeout, Box::pin(tls_accept)).await {
        Some(Ok(tls_stream)) if tls_stream.negotiated_http2() => {
            Ok(NegotiatedStream::Http2(Box::new(tls_stream)))
        }
        Some(Ok(tls_stream)) => Ok(NegotiatedStream::Http1(Box::new(tls_stream))),
        Some(Err(AcceptError::ClosedEarly)) => Err(CloseReason::NoRequest),
        Some(Err(AcceptError::NotTls)) => Err(CloseReason::PlaintextOnTls),
        Some(Err(AcceptError::Handshake(error))) => {
            // Debug level: any port scanner can trigger this line.
            debug!(client_ip = %peer_ip, evidence = %error, "TLS handshake failed");
            Err(CloseReason::TlsHandshakeFailed)
        }
        None => Err(CloseReason::TlsHandshakeTimeout),
    }
}
