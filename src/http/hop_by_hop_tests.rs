//! Header fields that are removed at this hop, and fields that never are.

use super::*;

fn name(text: &str) -> HeaderName {
    text.parse().unwrap()
}

#[test]
fn only_hop_by_hop_headers_are_removed() {
    for text in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ] {
        assert!(is_hop_by_hop(&name(text)), "{text}");
    }
    for text in [
        "host",
        "content-length",
        "authorization",
        "cookie",
        "expect",
        "date",
        "trailers",
        "x-te",
        "via",
        "upgrades",
        "www-authenticate",
    ] {
        assert!(!is_hop_by_hop(&name(text)), "{text}");
    }
}

#[test]
fn connection_options_are_removed_in_any_case() {
    let options = ConnectionOptions::from_values([&b"Close, X-Foo"[..], b", x-bar ,keep-alive,"]).unwrap();
    for text in ["x-foo", "x-bar", "connection"] {
        assert!(options.removes_name(text.as_bytes()), "{text}");
    }
    for text in ["x-fo", "close", "content-type", "x-foo-bar"] {
        assert!(!options.removes_name(text.as_bytes()), "{text}");
    }
}

#[test]
fn protected_headers_cannot_be_removed() {
    let options =
        ConnectionOptions::from_values([&b"host, content-length, authorization, x-forwarded-for"[..]])
            .unwrap();
    for text in ["host", "content-length", "authorization", "x-forwarded-for"] {
        assert!(!options.removes_name(text.as_bytes()), "{text}");
    }
    for text in [
        "Via",
        "HOST",
        "Cookie",
        "Forwarded",
        "X-Real-IP",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "x-forwarded-",
        "X-Forwarded-Host",
        "X-Forwarded-Port",
        "X-Forwarded-Whatever-It-Is",
        "Transfer-Encoding",
    ] {
        assert!(is_protected(text.as_bytes()), "{text}");
    }
    for text in ["close", "keep-alive", "te", "upgrade", "x-forwarded", "x-forward-for", "accept", ""] {
        assert!(!is_protected(text.as_bytes()), "{text}");
    }
}

#[test]
fn too_many_connection_options_are_an_error() {
    let names = |count: usize| (0..count).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
    assert!(ConnectionOptions::from_values([names(16).as_bytes()]).is_ok());
    assert!(ConnectionOptions::from_values([names(17).as_bytes()]).is_err());
}

#[test]
fn connection_option_must_be_a_token() {
    assert_eq!(ConnectionOption::parse(b"CLOSE"), Some(ConnectionOption::Close));
    assert_eq!(ConnectionOption::parse(b"Keep-Alive"), Some(ConnectionOption::KeepAlive));
    assert_eq!(ConnectionOption::parse(b"te"), Some(ConnectionOption::FieldName));
    assert_eq!(ConnectionOption::parse(b"a b"), None);
    assert_eq!(ConnectionOption::parse(b"\"close\""), None);
}
