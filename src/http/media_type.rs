//! Media types with special handling: event streams (idle timeouts), gRPC (error format), and JSON (rate-limit keys).
//!
//! All functions take the value of Content-Type. [`crate::contract::conform`] checks the media type of error bodies.

use super::ascii_class::trim_ows;
use crate::contract::grpc::GrpcFamily;

/// Whether the type is `text/event-stream`, with or without parameters.
pub(crate) fn is_event_stream(content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|octet| *octet == b';').unwrap_or(content_type.len());
    trim_ows(content_type.get(..end).unwrap_or_default()).eq_ignore_ascii_case(b"text/event-stream")
}

/// Whether the type starts with `application/grpc`, for example `application/grpc+proto` or `application/grpc-web`.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let start = trim_ows(content_type).get(..NAME.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(NAME))
}

/// The family of a gRPC call with this type.
pub(crate) fn grpc_family(content_type: &[u8]) -> Option<GrpcFamily> {
    if !is_grpc(content_type) {
        return None;
    }
    let is_end = |octet: &u8| matches!(octet, b'+' | b';' | b' ' | b'\t');
    let name = trim_ows(content_type);
    let name = name.get(..name.iter().position(is_end).unwrap_or(name.len())).unwrap_or_default();
    let families = [GrpcFamily::Web, GrpcFamily::WebText];
    let family =
        families.into_iter().find(|family| name.eq_ignore_ascii_case(family.media_type().as_bytes()));
    Some(family.unwrap_or(GrpcFamily::Grpc))
}

/// Whether the body is an event stream or gRPC, where long idle periods are normal.
pub(crate) fn is_streaming(content_type: &[u8]) -> bool {
    is_event_stream(content_type) || is_grpc(content_type)
}

/// Whether the type is `application/json` or ends with `+json`.
pub(crate) fn is_json(content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|octet| *octet == b';').unwrap_or(content_type.len());
    let name = trim_ows(content_type.get(..end).unwrap_or_default()).to_ascii_lowercase();
    name == b"application/json" || name.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_stream_is_recognised_by_its_type() {
        for content_type in
            [&b"text/event-stream"[..], b"Text/Event-Stream ; charset=utf-8", b" text/event-stream"]
        {
            assert!(is_event_stream(content_type), "{content_type:?}");
        }
        for content_type in
            [&b""[..], b"text/event-stream-x", b"text/plain; a=text/event-stream", b"text/event"]
        {
            assert!(!is_event_stream(content_type), "{content_type:?}");
        }
    }

    #[test]
    fn json_is_recognised_by_type_or_suffix() {
        for content_type in
            [&b"application/json"[..], b"Application/JSON; charset=utf-8", b"application/vnd.api+json"]
        {
            assert!(is_json(content_type), "{content_type:?}");
        }
        for content_type in
            [&b""[..], b"text/plain; a=application/json", b"application/jsonl", b"text/json-x"]
        {
            assert!(!is_json(content_type), "{content_type:?}");
        }
    }

    #[test]
    fn grpc_family_is_that_of_the_type() {
        for (content_type, family) in [
            (&b"application/grpc"[..], Some(GrpcFamily::Grpc)),
            (b"application/grpc+proto", Some(GrpcFamily::Grpc)),
            (b" Application/gRPC-Web ;charset=utf-8", Some(GrpcFamily::Web)),
            (b"application/grpc-web+json", Some(GrpcFamily::Web)),
            (b"application/grpc-web-text", Some(GrpcFamily::WebText)),
            (b"application/grpc-web-text+proto", Some(GrpcFamily::WebText)),
            (b"application/grpc-webx", Some(GrpcFamily::Grpc)),
            (b"application/json", None),
        ] {
            assert_eq!(grpc_family(content_type), family, "{content_type:?}");
        }
    }

    #[test]
    fn grpc_is_recognised_by_its_prefix() {
        for content_type in
            [&b"application/grpc"[..], b"Application/gRPC+proto", b"application/grpc-web; x=y"]
        {
            assert!(is_grpc(content_type), "{content_type:?}");
        }
        for content_type in [&b""[..], b"application/grp", b"application/json", b"x-application/grpc"] {
            assert!(!is_grpc(content_type), "{content_type:?}");
        }
    }
}
