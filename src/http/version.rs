//! The versions of HTTP/1 messages.

/// The version of an HTTP/1 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, or a higher minor version, which a receiver of HTTP/1.1 reads as HTTP/1.1 (RFC 9110 2.5).
    Http11,
}
