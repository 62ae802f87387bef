//! Errors for gRPC clients: the `grpc-status` of an error, and the encoding of `grpc-message`.
//!
//! A gRPC client does not read error bodies: it reads these two fields of a response with HTTP status 200.
//! [`super::policy`] chooses the code and the message as for other requests.

use std::fmt::Write as _;

use super::grpc_status::GrpcStatus;
use super::policy::Trigger;

/// The family of a gRPC call: errors have the media type of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcFamily {
    /// `application/grpc`, over HTTP/2.
    Grpc,
    /// `application/grpc-web`: browsers.
    Web,
    /// `application/grpc-web-text`: browsers that cannot read binary streams. The body is coded in Base64.
    WebText,
}

impl GrpcFamily {
    /// The media type of a response without messages.
    pub const fn media_type(self) -> &'static str {
        match self {
            GrpcFamily::Grpc => "application/grpc",
            GrpcFamily::Web => "application/grpc-web",
            GrpcFamily::WebText => "application/grpc-web-text",
        }
    }

    /// Whether browsers use it.
    pub(crate) const fn is_web(self) -> bool {
        match self {
            GrpcFamily::Grpc => false,
            GrpcFamily::Web | GrpcFamily::WebText => true,
        }
    }
}

/// Returns the status of an error: from the cause of a fault, or from the documented code of an upstream error.
/// Codes are mapped as gRPC clients map HTTP status codes (`doc/http-grpc-status-mapping.md`); in addition, 409 is
/// [`GrpcStatus::Aborted`].
pub(crate) const fn status_for_error(trigger: Trigger, code: u16) -> GrpcStatus {
    match trigger {
        Trigger::Fault(cause) => cause.grpc_status(),
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

/// Encodes a message for `grpc-message`: percent-encoded UTF-8; printable ASCII except `%` is unchanged.
pub(crate) fn encode_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if matches!(octet, b' '..=b'~') && octet != b'%' {
            out.push(char::from(octet));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_message_is_visible_ascii() {
        assert_eq!(encode_message("Try again later."), "Try again later.");
        assert_eq!(encode_message("100 % \u{e9}\n"), "100 %25 %C3%A9%0A");
    }
}
