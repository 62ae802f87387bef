//! The status codes of gRPC that errors are mapped to.

/// A gRPC status code (`doc/statuscodes.md` of the gRPC project). As a number it is the value of `grpc-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GrpcStatus {
    /// No other status fits.
    Unknown = 2,
    /// The request is invalid, regardless of the state of the system.
    InvalidArgument = 3,
    /// The deadline expired; the call may have been executed.
    DeadlineExceeded = 4,
    /// The caller does not have permission.
    PermissionDenied = 7,
    /// The caller's quota is used up, or the message is too large.
    ResourceExhausted = 8,
    /// The call conflicts with a concurrent one.
    Aborted = 10,
    /// No server implements this method.
    Unimplemented = 12,
    /// A bug in the gateway, or an invalid response of the upstream.
    Internal = 13,
    /// Temporarily unavailable; a retry may succeed.
    Unavailable = 14,
    /// The caller is not authenticated.
    Unauthenticated = 16,
}
