//! Best-effort parsing of rejected requests, for the format of the error response: the host, whose routes determine
//! the contract, the `Origin` for [`super::cors`], whether the client uses gRPC ([`super::media_type`]), and whether
//! bytes without TLS are HTTP at all.
//!
//! The request is invalid, so use the results only for the response headers and the error format.

use super::ascii_class::{is_field_text, token_len};
use super::request_scanner::blank_len;
use super::{authority, media_type};
use crate::contract::grpc::GrpcFamily;

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

/// Whether the request is HEAD: its response has no body, whatever else is wrong with it.
pub(crate) fn is_head(head: &[u8]) -> bool {
    head.starts_with(b"HEAD ")
}

/// The authority that the request names, if its syntax is valid. `None` if Host is missing or repeated, or differs from
/// the authority of the target.
pub(crate) fn host(head: &[u8]) -> Option<&[u8]> {
    // The last line may be incomplete.
    let complete = head.iter().rposition(|octet| *octet == b'\n')?;
    let head = head.get(..complete)?;
    let host = single_field(head, "host")?;
    authority::check_authority(host).ok()?;
    let target = head.split(|octet| *octet == b' ').nth(1)?;
    let default_port = if target.starts_with(b"https") { 443 } else { 80 };
    match target_authority(target) {
        Some(other) if !authority::authorities_equal(other, host, Some(default_port)) => None,
        Some(_) | None => Some(host),
    }
}

/// The authority of a target in absolute form.
fn target_authority(target: &[u8]) -> Option<&[u8]> {
    let start = memchr::memmem::find(target, b"://").filter(|_| target.first() != Some(&b'/'))?;
    let rest = target.get(start + 3..)?;
    rest.split(|octet| matches!(octet, b'/' | b'?' | b'#')).next()
}

/// The family of the gRPC call that the request appears to be.
pub(crate) fn grpc_family(head: &[u8]) -> Option<GrpcFamily> {
    let content_type = single_field(head, "content-type").filter(|_| head.starts_with(b"POST "))?;
    media_type::grpc_family(content_type)
}

/// Whether input is the beginning of an HTTP/1 request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestStart {
    Http1,
    Other,
    /// More input decides.
    Undecided,
}

/// Whether input begins with the request line of HTTP/1: a method, one space, and the beginning of a request target
/// (RFC 9112 3). Other protocols, the preface of HTTP/2 too, do not begin in this way.
pub(crate) fn request_start(input: &[u8]) -> RequestStart {
    let line = input.get(blank_len(input)..).unwrap_or_default();
    let (method, rest) = line.split_at_checked(token_len(line)).unwrap_or_default();
    if method.len() > MAX_METHOD || method == b"PRI" && !rest.is_empty() {
        return RequestStart::Other;
    }
    match (method, rest) {
        (_, []) => RequestStart::Undecided,
        ([], _) => RequestStart::Other,
        (_, [b' ']) => RequestStart::Undecided,
        (_, [b' ', b'/', ..]) | (b"CONNECT", [b' ', ..]) | (b"OPTIONS", [b' ', b'*', ..]) => {
            RequestStart::Http1
        }
        (_, [b' ', target @ ..]) => SCHEMES
            .into_iter()
            .map(|scheme| compare_prefix(target, scheme))
            .fold(RequestStart::Other, |best, found| if best == RequestStart::Other { found } else { best }),
        (_, [_, ..]) => RequestStart::Other,
    }
}

/// Whether a target begins with this scheme, or may once more of it arrives.
fn compare_prefix(target: &[u8], scheme: &[u8]) -> RequestStart {
    let len = target.len().min(scheme.len());
    match target.get(..len).zip(scheme.get(..len)) {
        Some((target, scheme)) if !target.eq_ignore_ascii_case(scheme) => RequestStart::Other,
        _ if len < scheme.len() => RequestStart::Undecided,
        _ => RequestStart::Http1,
    }
}

/// The beginnings of a target in absolute form.
const SCHEMES: [&[u8]; 2] = [b"http://", b"https://"];
/// Longer than every registered method.
const MAX_METHOD: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_start_is_decided_as_early_as_possible() {
        for (input, expected) in [
            ("GET / HTTP/1.1\r\n", RequestStart::Http1),
            ("GET /", RequestStart::Http1),
            ("\r\n\nVERSION-CONTROL /x", RequestStart::Http1),
            ("get http://a.example/", RequestStart::Http1),
            ("GET HTTPS://", RequestStart::Http1),
            ("CONNECT a", RequestStart::Http1),
            ("OPTIONS *", RequestStart::Http1),
            ("", RequestStart::Undecided),
            ("\r\n", RequestStart::Undecided),
            ("G", RequestStart::Undecided),
            ("GET", RequestStart::Undecided),
            ("GET ", RequestStart::Undecided),
            ("GET htt", RequestStart::Undecided),
            ("PRI", RequestStart::Undecided),
            ("PRI * HTTP/2.0\r\n", RequestStart::Other),
            ("PROXY TCP4 192.0.2.1", RequestStart::Other),
            ("EHLO host", RequestStart::Other),
            ("SSH-2.0-OpenSSH_9.2\r\n", RequestStart::Other),
            ("*1\r\n$4\r\nPING\r\n", RequestStart::Other),
            ("GET\t/", RequestStart::Other),
            ("GET  /", RequestStart::Other),
            (" GET /", RequestStart::Other),
            ("OPTIONS sip:nm SIP/2.0", RequestStart::Other),
            ("\x15\x03\x01", RequestStart::Other),
            ("\0\0\0", RequestStart::Other),
            ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", RequestStart::Other),
        ] {
            assert_eq!(request_start(input.as_bytes()), expected, "{input:?}");
        }
    }

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
    fn host_is_read_only_where_it_is_clear() {
        let host = |head: &str| host(head.as_bytes()).map(|host| String::from_utf8_lossy(host).into_owned());
        let expected = Some("a.test:81".to_owned());
        assert_eq!(host("GET / HTTP/1.1\r\nhost: a.test:81\r\nbad\r\n\r\n"), expected);
        assert_eq!(host("GET http://a.test:81/x HTTP/1.1\r\nhost: a.test:81\r\n"), expected);
        assert_eq!(host("GET /?u=http://b.test/ HTTP/1.1\r\nhost: a.test:81\r\n"), expected);
        for unclear in [
            "",
            "GET / HTTP/1.1\r\nhost: a.test:81",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
            "GET http://b.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n",
            "host: a.test\r\n\r\n",
        ] {
            assert_eq!(host(unclear), None, "{unclear}");
        }
    }

    #[test]
    fn grpc_is_detected_in_a_malformed_request() {
        let type_ = "content-type: application/grpc-web\r\n\r\n";
        assert!(grpc_family(format!("POST /../x HTTP/1.1\r\n{type_}").as_bytes()).is_some());
        assert!(grpc_family(format!("GET /../x HTTP/1.1\r\n{type_}").as_bytes()).is_none());
        assert!(grpc_family(b"POST /../x HTTP/1.1\r\ncontent-type: application/json\r\n\r\n").is_none());
    }
}
