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
    let options = ConnectionOptions::from_values([&b"Close, X-Foo"[..], b", x-bar ,keep-alive,"]);
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
        ConnectionOptions::from_values([&b"host, content-length, authorization, x-forwarded-for"[..]]);
    for text in ["host", "content-length", "authorization", "x-forwarded-for"] {
        assert!(!options.removes_name(text.as_bytes()), "{text}");
    }
    for text in [
        "HOST",
        "Content-Length",
        "Authorization",
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
fn end_to_end_fields_named_in_connection_are_removed() {
    let names = [
        "Cookie",
        "Origin",
        "Via",
        "X-Request-Id",
        "Content-Type",
        "Content-Encoding",
        "Traceparent",
        "Forwarded",
        "X-Real-IP",
        "Expect",
    ];
    for name in names {
        assert_eq!(ConnectionOption::parse(name.as_bytes()), Some(ConnectionOption::FieldName), "{name}");
        let options = ConnectionOptions::from_values([name.as_bytes()]);
        assert!(options.removes_name(name.to_ascii_lowercase().as_bytes()), "{name}");
        assert!(!is_allowed_in_request_trailers(name.as_bytes()), "{name}");
    }
}

#[test]
fn any_number_of_connection_options_is_removed() {
    let names: Vec<String> = (0..5000).map(|number| format!("X-{number}")).collect();
    let value = names.join(",");
    let options = ConnectionOptions::from_values([value.as_bytes()]);
    for name in &names {
        assert!(options.removes_name(name.to_ascii_lowercase().as_bytes()), "{name}");
    }
    for name in ["x-5000", "x-", "x", ""] {
        assert!(!options.removes_name(name.as_bytes()), "{name}");
    }
}

#[test]
fn connection_option_must_be_a_token() {
    assert_eq!(ConnectionOption::parse(b"CLOSE"), Some(ConnectionOption::Close));
    assert_eq!(ConnectionOption::parse(b"Keep-Alive"), Some(ConnectionOption::KeepAlive));
    assert_eq!(ConnectionOption::parse(b"te"), Some(ConnectionOption::FieldName));
    assert_eq!(ConnectionOption::parse(b"a b"), None);
    assert_eq!(ConnectionOption::parse(b"\"close\""), None);
}
