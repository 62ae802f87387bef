//! Connections that end without a response, by name.
//!
//! The contract lists the only silences there are; each has a variant here and a counter. It does not decide when to be
//! silent (the exchange does), and a silence that fits no variant is a defect, not a reason for a catch-all.

/// Why a connection was closed although nothing was answered. The names are label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The client closed or reset its side while it was being served.
    ClientGone,
    /// A kept-alive connection saw no further request in time.
    IdleTimeout,
    /// The client connected and closed without sending a byte.
    NoRequest,
    /// The connection was idle when draining closed it.
    Drain,
    /// HTTP/2 between the client and us broke; the answer is a GOAWAY.
    Http2ConnectionError,
    /// One HTTP/2 stream was malformed; the answer is a RST_STREAM.
    Http2StreamError,
    /// A header list above 256 KiB: the HTTP/2 library answers an empty 431 by itself.
    Http2HeaderList,
    /// A TLS handshake came to nothing; the answer is an alert.
    TlsHandshakeFailed,
    /// A TLS handshake was not over in time.
    TlsHandshakeTimeout,
    /// What a client sent to a TLS listener begins no handshake, as plain HTTP does not.
    PlaintextOnTls,
    /// TLS with a client broke behind the handshake: a record that cannot be read, or an alert of the client's.
    TlsConnectionError,
}

impl CloseReason {
    /// Every silence.
    pub const ALL: &'static [CloseReason] = &[
        CloseReason::ClientGone,
        CloseReason::IdleTimeout,
        CloseReason::NoRequest,
        CloseReason::Drain,
        CloseReason::Http2ConnectionError,
        CloseReason::Http2StreamError,
        CloseReason::Http2HeaderList,
        CloseReason::TlsHandshakeFailed,
        CloseReason::TlsHandshakeTimeout,
        CloseReason::PlaintextOnTls,
        CloseReason::TlsConnectionError,
    ];

    /// The value of the `cause` label.
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::ClientGone => CLIENT_GONE,
            CloseReason::IdleTimeout => "idle_timeout",
            CloseReason::NoRequest => "no_request",
            CloseReason::Drain => "drain",
            CloseReason::Http2ConnectionError => "http2_connection_error",
            CloseReason::Http2StreamError => "http2_stream_error",
            CloseReason::Http2HeaderList => "http2_header_list",
            CloseReason::TlsHandshakeFailed => "tls_handshake_failed",
            CloseReason::TlsHandshakeTimeout => "tls_handshake_timeout",
            CloseReason::PlaintextOnTls => "plaintext_on_tls",
            CloseReason::TlsConnectionError => "tls_connection_error",
        }
    }

    /// Dense index, in the order of [`CloseReason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A client that left, in the label of an abort and of a silence alike.
pub const CLIENT_GONE: &str = "client_gone";

/// A tunnel in which nothing moved any more, in the label of an abort.
pub const TUNNEL_IDLE: &str = "tunnel_idle";
