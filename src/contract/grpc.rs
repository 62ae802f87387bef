//! An error in the words of gRPC: which `grpc-status` says it, and how its message is written.
//!
//! A caller of gRPC does not read bodies: it reads two fields, and HTTP 200 beside them. Which code and which text an
//! error has is decided as ever (see [`super::policy`]); here they are only said in another language.

use super::fault::Cause;
use super::policy::Trigger;

/// The number of a status of gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GrpcStatus {
    /// Something that has no better name.
    Unknown = 2,
    /// The request is wrong, whenever it is sent.
    InvalidArgument = 3,
    /// Time was up, and the call may have been carried out.
    DeadlineExceeded = 4,
    /// The caller may not.
    PermissionDenied = 7,
    /// The caller has used up what it has, or sends too much.
    ResourceExhausted = 8,
    /// Another call came in between.
    Aborted = 10,
    /// Nobody serves this method.
    Unimplemented = 12,
    /// A bug, or an answer that is none.
    Internal = 13,
    /// Not now; later perhaps.
    Unavailable = 14,
    /// The caller is not known.
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

    /// The status of an error: by its cause, or by the code that answers an error of the upstream (there as gRPC's own
    /// clients would read it, but that their caller is told of a 409).
    pub const fn for_error(case: Trigger, code: u16) -> GrpcStatus {
        match case {
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
        // Nothing of it was carried out, or another attempt may find a server that is well.
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

/// A message as `grpc-message` says it: percent-encoded UTF-8, visible ASCII as it is.
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
