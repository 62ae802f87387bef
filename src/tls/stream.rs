//! An encrypted connection as the request path wants it: one of pingora's streams, over another one of them.
//!
//! Handshakes are made here, under limits that others set; that is why this is the one file of the room that names
//! pingora.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::cert_verification::{Alpn, CertVerification};
use super::server_config::ALPN_H2;

/// The first octet of a TLS record that carries a handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// Why a client's handshake came to nothing.
#[derive(Debug)]
pub enum AcceptError {
    /// It closed without a byte.
    ClosedEarly,
    /// Its first byte begins no handshake: most often plain HTTP.
    NotTls,
    /// Anything else: no protocol, suite or certificate that both take, garbage, a client that left.
    Handshake(io::Error),
}

/// An encrypted connection.
pub struct TlsConnection(TlsStream<PlainStream>);

impl fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encrypted").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl TlsConnection {
    /// A client's handshake. The caller limits its time.
    ///
    /// # Errors
    /// It came to nothing; the client has been told where TLS has a way to.
    pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> Result<TlsConnection, AcceptError> {
        let plain = PlainStream { stream, first_byte: FirstByte::Awaited };
        match TlsAcceptor::from(config).accept(plain).into_fallible().await {
            Ok(stream) => Ok(TlsConnection(TlsStream::Server(stream))),
            Err((error, plain)) => Err(match plain.first_byte {
                FirstByte::Awaited => AcceptError::ClosedEarly,
                FirstByte::NotTls => AcceptError::NotTls,
                FirstByte::Checked => AcceptError::Handshake(error),
            }),
        }
    }

    /// A handshake with a server that must be certified for this name. The caller limits its time.
    ///
    /// # Errors
    /// It came to nothing; see [`super::cert_verification::handshake_fault`].
    pub async fn connect(
        stream: Stream,
        verification: &CertVerification,
        name: ServerName<'static>,
        alpn: Alpn,
    ) -> io::Result<TlsConnection> {
        let plain = PlainStream { stream, first_byte: FirstByte::Checked };
        let connector = TlsConnector::from(Arc::clone(verification.client_config(alpn)));
        Ok(TlsConnection(TlsStream::Client(connector.connect(name, plain).await?)))
    }

    /// Whether both sides have agreed on HTTP/2.
    pub fn negotiated_http2(&self) -> bool {
        self.0.get_ref().1.alpn_protocol() == Some(ALPN_H2)
    }
}

/// The plain connection under an encrypted one.
struct PlainStream {
    stream: Stream,
    first_byte: FirstByte,
}

/// What is known of the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstByte {
    /// It is to come.
    Awaited,
    /// It begins no handshake. No byte of it reaches the TLS library, so that nothing is answered in a language that
    /// the client does not speak.
    NotTls,
    /// It was as it should be, or does not matter.
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

// What pingora wants to know of a stream; what it does not use here has no answer.

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
            // The connection is given up either way.
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
