//! A TLS connection over one of pingora's streams, which implements pingora's stream traits itself.
//!
//! The handshakes run here; the callers apply timeouts. This is the only file of the module that uses pingora.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use rustls::pki_types::ServerName;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// A connection, encrypted or not.
pub(crate) use pingora::protocols::Stream;

use super::cert_verification::{Alpn, CertVerification};
use super::client_certificate::ClientCertificate;
use super::server_config::ALPN_H2;

/// The first octet of a TLS record that carries a handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Why a handshake with a client failed.
#[derive(Debug)]
pub(crate) enum AcceptError {
    /// The client closed the connection without sending a byte.
    ClosedEarly,
    /// The first byte is not a TLS handshake record; usually plaintext HTTP. Nothing was written to the client.
    NotTls {
        /// The connection, which is not encrypted.
        stream: Stream,
        /// The bytes that were read from it.
        read: BytesMut,
    },
    /// Any other failure: no common version or cipher suite, invalid data, or the client disconnected.
    Handshake {
        /// The connection below TLS.
        stream: Stream,
        /// Why the handshake failed.
        error: io::Error,
    },
}

/// A TLS connection with a client or a server.
pub(crate) struct TlsConnection(TlsStream<PlainStream>);

impl fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnection").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl TlsConnection {
    /// Performs the server side of a handshake. The caller applies a timeout.
    ///
    /// # Errors
    /// The handshake failed; the client received a TLS alert where one is defined.
    pub(crate) async fn accept(
        stream: Stream,
        config: Arc<ServerConfig>,
    ) -> Result<TlsConnection, AcceptError> {
        let plain = PlainStream { stream, first_byte: FirstByte::Awaited, not_tls: BytesMut::new() };
        match TlsAcceptor::from(config).accept(plain).into_fallible().await {
            Ok(stream) => Ok(TlsConnection(TlsStream::Server(stream))),
            Err((error, plain)) => Err(match plain.first_byte {
                FirstByte::Awaited => AcceptError::ClosedEarly,
                FirstByte::NotTls => AcceptError::NotTls { stream: plain.stream, read: plain.not_tls },
                FirstByte::Checked => AcceptError::Handshake { stream: plain.stream, error },
            }),
        }
    }

    /// Performs the client side of a handshake and verifies the certificate for `name`. The caller applies a timeout.
    ///
    /// # Errors
    /// The handshake failed; see [`super::cert_verification::handshake_fault`].
    pub(crate) async fn connect(
        stream: Stream,
        verification: &CertVerification,
        name: ServerName<'static>,
        alpn: Alpn,
    ) -> io::Result<TlsConnection> {
        let plain = PlainStream { stream, first_byte: FirstByte::Checked, not_tls: BytesMut::new() };
        let connector = TlsConnector::from(Arc::clone(verification.client_config(alpn)));
        Ok(TlsConnection(TlsStream::Client(connector.connect(name, plain).await?)))
    }

    /// Whether ALPN selected HTTP/2.
    pub(crate) fn negotiated_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(ALPN_H2)
    }

    /// The verified certificate of a client; `None` if it has presented none, or was not asked for one.
    pub(crate) fn client_certificate(&self) -> Option<ClientCertificate> {
        self.0.get_ref().1.peer_certificates()?.first().map(ClientCertificate::new)
    }

    /// The TLS version, for example `TLSv1.3`.
    pub(crate) fn version(&self) -> &'static str {
        self.0.get_ref().1.protocol_version().map_or("TLS", version_name)
    }
}

/// The name of a TLS version, as in OpenSSL and in the logs of other servers.
fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        // rustls implements no other version.
        _ => "TLS",
    }
}

/// The plaintext connection below TLS. On a listener it checks the first byte.
struct PlainStream {
    stream: Stream,
    first_byte: FirstByte,
    /// The input that is withheld from rustls because it is not TLS; empty otherwise.
    not_tls: BytesMut,
}

/// The state of the check of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstByte {
    /// No byte was received yet.
    Awaited,
    /// Not a TLS handshake record. The input is withheld from rustls, so that no alert is sent to a client that does
    /// not use TLS.
    NotTls,
    /// A TLS handshake record, or an outgoing connection.
    Checked,
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.first_byte == FirstByte::Awaited
            && let Some(first) = buffer.filled().get(before)
        {
            if *first != HANDSHAKE_RECORD {
                self.first_byte = FirstByte::NotTls;
                self.not_tls.extend_from_slice(buffer.filled().get(before..).unwrap_or_default());
                buffer.set_filled(before);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            self.first_byte = FirstByte::Checked;
        }
        polled
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

// Traits that pingora requires of a stream. Methods that are not used here return nothing.

impl UniqueID for TlsConnection {
    fn id(&self) -> UniqueIDType {
        self.0.get_ref().0.stream.id()
    }
}

impl Shutdown for TlsConnection {
    fn shutdown<'life0, 'async_trait>(
        &'life0 mut self,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            // The connection is dropped in any case.
            let _ = AsyncWriteExt::shutdown(&mut self.0).await;
        })
    }
}

impl Ssl for TlsConnection {}

impl Peek for TlsConnection {}

impl GetTimingDigest for TlsConnection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for TlsConnection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for TlsConnection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
