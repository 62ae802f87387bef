//! The TLS handshake with a client. The caller limits its time.
//!
//! A failed handshake closes the connection without an HTTP response, because HTTP starts after the handshake. A client
//! that does not use TLS at all may get one in clear text ([`super::plaintext`]). The certificates are configured in
//! [`crate::tls::server_config`].

use std::sync::Arc;

use bytes::BytesMut;
use pingora::protocols::Stream;
use tracing::{debug, info};

use crate::http::peer::Peer;
use crate::telemetry::CloseReason;
use crate::tls::cert_verification::describe_io_error;
use crate::tls::client_certificate::ClientCertificate;
use crate::tls::client_verification;
use crate::tls::server_config::ServerTlsConfig;
use crate::tls::stream::{AcceptError, TlsConnection};

/// An encrypted connection.
pub(in crate::proxy) struct NegotiatedStream {
    pub(in crate::proxy) stream: Stream,
    /// ALPN selected HTTP/2. Clients without ALPN use HTTP/1.1.
    pub(in crate::proxy) http2: bool,
    /// The TLS version.
    pub(in crate::proxy) version: &'static str,
    /// The verified certificate of the client.
    pub(in crate::proxy) certificate: Option<Arc<ClientCertificate>>,
}

/// Why there is no encrypted connection.
pub(in crate::proxy) enum HandshakeFailure {
    /// The connection closes, for this reason. The client received at most a TLS alert.
    Closed(CloseReason),
    /// The client has no valid certificate. With TLS 1.3 it learns of this only after its handshake, when it may have
    /// sent a request already: what it sends must be read, so that it can read the alert.
    Rejected(Stream),
    /// The client does not use TLS, and sent these bytes.
    Plaintext(Stream, BytesMut),
}

/// Performs the server side of the TLS handshake.
///
/// # Errors
/// The handshake failed, or the client does not use TLS.
pub(in crate::proxy) async fn accept_tls(
    stream: Stream,
    tls_config: &ServerTlsConfig,
    peer: Peer,
) -> Result<NegotiatedStream, HandshakeFailure> {
    let tls_accept = TlsConnection::accept(stream, Arc::clone(tls_config));
    // Boxed because the future is large and the connection outlives it.
    match Box::pin(tls_accept).await {
        Ok(tls_stream) => Ok(NegotiatedStream {
            http2: tls_stream.negotiated_http2(),
            version: tls_stream.version(),
            certificate: tls_stream.client_certificate().map(Arc::new),
            stream: Box::new(tls_stream),
        }),
        Err(AcceptError::ClosedEarly) => Err(HandshakeFailure::Closed(CloseReason::NoRequest)),
        Err(AcceptError::NotTls { stream, read }) => Err(HandshakeFailure::Plaintext(stream, read)),
        Err(AcceptError::Handshake { stream, error }) => {
            if let Some(evidence) = client_verification::rejection(&error) {
                info!(%peer, evidence, "TLS handshake failed: no valid client certificate");
                return Err(HandshakeFailure::Rejected(stream));
            }
            // Debug level: any port scanner can trigger this line.
            let evidence = describe_io_error(&error);
            debug!(%peer, evidence, "TLS handshake failed");
            Err(HandshakeFailure::Closed(CloseReason::TlsHandshakeFailed))
        }
    }
}
