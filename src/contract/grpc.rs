//! Errors for gRPC clients: the `grpc-status` of an error, and the encoding of `grpc-message`.
//!
//! A gRPC client does not read error bodies: it reads these two fields of a response with HTTP status 200.
//! [`super::policy`] chooses the code and the message as for other requests.

use super::fault::Cause;
use super::policy::Trigger;

/// A gRPC status code (`doc/statuscodes.md` of the gRPC project).
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

impl GrpcStatus {
    /// The value of `grpc-status`.
    pub const fn number(self) -> &'static str {
        match self {
            GrpcStatus::Unknown => "2",
            GrpcStatus::InvalidArgument => "3",
            GrpcStatus::DeadlineExceeded => "4",
            GrpcStatus::PermissionDenied => "7",
            GrpcStatus::ResourceExhausted => "8",
            GrpcStatus::Aborted => "10",
            GrpcStatus::Unimplemented => "12",
            GrpcStatus::Internal => "13",
            GrpcStatus::Unavailable => "14",
            GrpcStatus::Unauthenticated => "16",
        }
    }

    /// Returns the status of an error: from the cause of a fault, or from the documented code of an upstream error.
    /// Codes are mapped as gRPC clients map HTTP status codes (`doc/http-grpc-status-mapping.md`); in addition, 409 is
    /// [`GrpcStatus::Aborted`].
    pub const fn for_error(trigger: Trigger, code: u16) -> GrpcStatus {
        match trigger {
            Trigger::Fault(cause) => for_cause(cause),
            Trigger::UpstreamStatus(_) => match code {
                401 => GrpcStatus::Unauthenticated,
                403 => GrpcStatus::PermissionDenied,
                404 => GrpcStatus::Unimplemented,
                409 => GrpcStatus::Aborted,
                429 | 502..=504 => GrpcStatus::Unavailable,
                400 | 500 => GrpcStatus::Internal,
                _ => GrpcStatus::Unknown,
            },
        }
    }
}

const fn for_cause(cause: Cause) -> GrpcStatus {
    match cause {
        Cause::HttpRequestError
        | Cause::MalformedRequestLine
        | Cause::MalformedHeader
        | Cause::AmbiguousFraming
        | Cause::InvalidHost
        | Cause::AmbiguousPath
        | Cause::UnsupportedVersion
        | Cause::UnsupportedMethod
        | Cause::UnsupportedExpectation
        | Cause::MalformedBody => GrpcStatus::InvalidArgument,
        Cause::HeaderTooLarge | Cause::UriTooLong | Cause::BodyTooLarge | Cause::RateLimited => {
            GrpcStatus::ResourceExhausted
        }
        Cause::DestinationNotFound => GrpcStatus::Unimplemented,
        Cause::HttpRequestDenied => GrpcStatus::PermissionDenied,
        Cause::ProxyInternalError
        | Cause::ProxyConfigurationError
        | Cause::ProxyLoopDetected
        | Cause::HttpProtocolError
        | Cause::HttpResponseHeaderSectionSize
        | Cause::HttpUpgradeFailed => GrpcStatus::Internal,
        // The call was not executed, or another attempt may reach a healthy server.
        Cause::ConnectionLimitReached
        | Cause::QueueFull
        | Cause::QueueTimeout
        | Cause::BreakerOpen
        | Cause::DestinationUnavailable
        | Cause::LimiterUnavailable
        | Cause::ResourceExhausted
        | Cause::Draining
        | Cause::DnsError
        | Cause::DnsTimeout
        | Cause::DestinationIpUnroutable
        | Cause::ConnectionRefused
        | Cause::ConnectionTerminated
        | Cause::ConnectionWriteError
        | Cause::TlsProtocolError
        | Cause::TlsCertificateError
        | Cause::HttpResponseIncomplete
        | Cause::ConnectionTimeout
        | Cause::TlsTimeout => GrpcStatus::Unavailable,
        Cause::ClientTooSlow
        | Cause::HttpResponseTimeout
        | Cause::DeadlineExceeded
        | Cause::ConnectionReadTimeout
        | Cause::ConnectionWriteTimeout => GrpcStatus::DeadlineExceeded,
    }
}

/// Encodes a message for `grpc-message`: percent-encoded UTF-8; printable ASCII except `%` is unchanged.
pub fn encode_message(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |digit| char::from(*digit));
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if matches!(octet, b' '..=b'~') && octet != b'%' {
            out.push(char::from(octet));
        } else {
            out.extend(['%', digit(octet >> 4), digit(octet & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_matches_the_discriminant() {
        for cause in Cause::ALL {
            let status = GrpcStatus::for_error(Trigger::Fault(*cause), 504);
            assert_eq!(status.number(), (status as u8).to_string(), "{cause}");
        }
        for code in 400..600 {
            let status = GrpcStatus::for_error(Trigger::UpstreamStatus(code), code);
            assert_eq!(status.number(), (status as u8).to_string(), "{code}");
        }
    }

    #[test]
    fn encoded_message_is_visible_ascii() {
        assert_eq!(encode_message("Try again later."), "Try again later.");
        assert_eq!(encode_message("100 % \u{e9}\n"), "100 %25 %C3%A9%0A");
    }
}
