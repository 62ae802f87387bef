//! Best-effort parsing of rejected requests, for the format of the error response: the `Origin` for [`super::cors`],
//! and whether the client uses gRPC ([`super::media_type`]).
//!
//! The request is invalid, so use the results only for the response headers and the error format.

use super::ascii_class::is_field_text;
use super::media_type;

/// Returns the value of a field if it occurs exactly once. The name is case-insensitive. `None` for a value with a
/// control character, which parsers interpret differently.
pub(crate) fn single_field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lines = head.split(|octet| *octet == b'\n').skip(1);
    let mut values = lines.take_while(|line| !line.trim_ascii().is_empty()).filter_map(|line| {
        let colon = line.iter().position(|octet| *octet == b':')?;
        let (field_name, value) = line.split_at_checked(colon)?;
        field_name.eq_ignore_ascii_case(name.as_bytes()).then(|| value.get(1..).unwrap_or_default())
    });
    let value = values.next()?.trim_ascii();
    (values.next().is_none() && is_field_text(value)).then_some(value)
}

/// Whether the request appears to be a gRPC or gRPC-Web call.
pub(crate) fn is_grpc(head: &[u8]) -> bool {
    head.starts_with(b"POST ") && single_field(head, "content-type").is_some_and(media_type::is_grpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_field_returns_the_only_value() {
        let origin = |head: &str| {
            single_field(head.as_bytes(), "origin").map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let expected = Some("https://a.example".to_owned());
        assert_eq!(origin("GET / HTTP/1.1\r\nHost: x\r\nORIGIN:\thttps://a.example \r\n\r\n"), expected);
        assert_eq!(origin("GET / HTTP/1.1\norigin: https://a.example\nx"), expected);
        assert_eq!(
            origin("GET / HTTP/1.1\r\n\r\norigin: https://a.example\r\n"),
            None,
            "body lines are not fields"
        );
        assert_eq!(origin("origin: https://a.example\r\n\r\n"), None, "the first line is not a field");
        assert_eq!(
            origin("GET / HTTP/1.1\r\norigin: https://a.example\r\nOrigin: https://b.example\r\n\r\n"),
            None
        );
        assert_eq!(
            origin("GET / HTTP/1.1\r\norigin: https://a.example\rx: y\r\n\r\n"),
            None,
            "a bare CR may end the line"
        );
        assert_eq!(origin(""), None);
    }

    #[test]
    fn grpc_is_detected_in_a_malformed_request() {
        let type_ = "content-type: application/grpc-web\r\n\r\n";
        assert!(is_grpc(format!("POST /../x HTTP/1.1\r\n{type_}").as_bytes()));
        assert!(!is_grpc(format!("GET /../x HTTP/1.1\r\n{type_}").as_bytes()));
        assert!(!is_grpc(b"POST /../x HTTP/1.1\r\ncontent-type: application/json\r\n\r\n"));
    }
}
