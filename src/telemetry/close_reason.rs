//! The reasons why a connection or stream closed while no response was being sent.
//!
//! The contract lists all of them; each has a variant and a counter here. Do not add a catch-all: a close that fits no
//! variant is a defect.

/// Why a connection or stream closed while no response was being sent: before a request was complete, before its
/// response, or idle after an earlier response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CloseReason {
    /// The client closed or reset the connection during a request.
    ClientGone,
    /// No further request arrived on a keep-alive connection within the idle timeout, or an HTTP/2 client stalled
    /// inside a frame or without reading.
    IdleTimeout,
    /// The connection was the longest idle one when all connections of `client.max_connections` were open.
    Evicted,
    /// A connection over the connection limit sent no request within its time, and no slot was free.
    ConnectionLimitReached,
    /// The client connected and closed without sending a byte.
    NoRequest,
    /// The connection was idle when the gateway began to drain.
    Drain,
    /// An HTTP/2 connection error of the client; the gateway sends GOAWAY.
    Http2ConnectionError,
    /// A malformed HTTP/2 stream; the gateway sends RST_STREAM.
    Http2StreamError,
    /// A header list above 256 KiB. The h2 crate itself sends a 431 without content.
    Http2HeaderList,
    /// The TLS handshake failed; the gateway sends an alert.
    TlsHandshakeFailed,
    /// The TLS handshake timed out.
    TlsHandshakeTimeout,
    /// A TLS listener received neither a handshake nor an HTTP/1 request.
    PlaintextOnTls,
    /// No valid PROXY protocol header on a listener that requires one, or a peer that may not send it.
    ProxyProtocolError,
    /// TLS failed after the handshake: an invalid record, or an alert from the client.
    TlsConnectionError,
}

impl CloseReason {
    /// Every reason.
    pub(crate) const ALL: &'static [CloseReason] = &[
        CloseReason::ClientGone,
        CloseReason::IdleTimeout,
        CloseReason::Evicted,
        CloseReason::ConnectionLimitReached,
        CloseReason::NoRequest,
        CloseReason::Drain,
        CloseReason::Http2ConnectionError,
        CloseReason::Http2StreamError,
        CloseReason::Http2HeaderList,
        CloseReason::TlsHandshakeFailed,
        CloseReason::TlsHandshakeTimeout,
        CloseReason::PlaintextOnTls,
        CloseReason::ProxyProtocolError,
        CloseReason::TlsConnectionError,
    ];

    /// The value of the `cause` label.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            CloseReason::ClientGone => CLIENT_GONE,
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::Evicted => "evicted",
            CloseReason::ConnectionLimitReached => "connection_limit_reached",
            CloseReason::NoRequest => "no_request",
            CloseReason::Drain => "drain",
            CloseReason::Http2ConnectionError => "http2_connection_error",
            CloseReason::Http2StreamError => "http2_stream_error",
            CloseReason::Http2HeaderList => "http2_header_list",
            CloseReason::TlsHandshakeFailed => "tls_handshake_failed",
            CloseReason::TlsHandshakeTimeout => "tls_handshake_timeout",
            CloseReason::PlaintextOnTls => "plaintext_on_tls",
            CloseReason::ProxyProtocolError => "proxy_protocol_error",
            CloseReason::TlsConnectionError => "tls_connection_error",
        }
    }

    /// The index in [`CloseReason::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Label value for a client that disconnected, of aborted responses and of [`CloseReason::ClientGone`].
pub(crate) const CLIENT_GONE: &str = "client_gone";

/// Label value for a tunnel that was closed because it was idle.
pub(crate) const TUNNEL_IDLE: &str = "tunnel_idle";
