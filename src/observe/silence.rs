//! Connections that end without a response, by name.
//!
//! The contract lists the only silences there are; each has a variant here and a counter. It does not decide when to be
//! silent (the exchange does), and a silence that fits no variant is a defect, not a reason for a catch-all.

/// Why a connection was closed although nothing was answered. The names are label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Silence {
    /// The client closed or reset its side while it was being served.
    ClientGone,
    /// A kept-alive connection saw no further request in time.
    IdleTimeout,
    /// The client connected and closed without sending a byte.
    ConnectAndClose,
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
    TlsNotSpoken,
    /// TLS with a client broke behind the handshake: a record that cannot be read, or an alert of the client's.
    TlsConnectionError,
}

impl Silence {
    /// Every silence.
    pub const ALL: &'static [Silence] = &[
        Silence::ClientGone,
        Silence::IdleTimeout,
        Silence::ConnectAndClose,
        Silence::Drain,
        Silence::Http2ConnectionError,
        Silence::Http2StreamError,
        Silence::Http2HeaderList,
        Silence::TlsHandshakeFailed,
        Silence::TlsHandshakeTimeout,
        Silence::TlsNotSpoken,
        Silence::TlsConnectionError,
    ];

    /// The value of the `cause` label.
    pub const fn name(self) -> &'static str {
        match self {
            Silence::ClientGone => CLIENT_GONE,
            Silence::IdleTimeout => "idle_timeout",
            Silence::ConnectAndClose => "connect_and_close",
            Silence::Drain => "drain",
            Silence::Http2ConnectionError => "http2_connection_error",
            Silence::Http2StreamError => "http2_stream_error",
            Silence::Http2HeaderList => "http2_header_list",
            Silence::TlsHandshakeFailed => "tls_handshake_failed",
            Silence::TlsHandshakeTimeout => "tls_handshake_timeout",
            Silence::TlsNotSpoken => "tls_not_spoken",
            Silence::TlsConnectionError => "tls_connection_error",
        }
    }

    /// Dense index, in the order of [`Silence::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// A client that left, in the label of an abort and of a silence alike.
pub const CLIENT_GONE: &str = "client_gone";

/// A tunnel in which nothing moved any more, in the label of an abort.
pub const TUNNEL_IDLE: &str = "tunnel_idle";
