//! What is dropped at this hop and what never is.

use super::*;

fn name(text: &str) -> HeaderName {
    text.parse().unwrap()
}

#[test]
fn fields_of_one_connection_are_dropped_and_no_others() {
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
fn what_connection_names_is_dropped_in_any_case_and_only_that() {
    let nominated = Nominated::from_values([&b"Close, X-Foo"[..], b", x-bar ,keep-alive,"]).unwrap();
    for text in ["x-foo", "x-bar", "connection"] {
        assert!(nominated.drops(&name(text)), "{text}");
    }
    for text in ["x-fo", "close", "content-type", "x-foo-bar"] {
        assert!(!nominated.drops(&name(text)), "{text}");
    }
}

#[test]
fn protected_fields_stay_whatever_connection_says() {
    let nominated =
        Nominated::from_values([&b"host, content-length, authorization, x-forwarded-for"[..]]).unwrap();
    for text in ["host", "content-length", "authorization", "x-forwarded-for"] {
        assert!(!nominated.drops(&name(text)), "{text}");
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
fn more_names_than_any_message_has_are_an_error() {
    let names = |count: usize| (0..count).map(|number| format!("x-{number}")).collect::<Vec<_>>().join(",");
    assert!(Nominated::from_values([names(16).as_bytes()]).is_ok());
    assert!(Nominated::from_values([names(17).as_bytes()]).is_err());
}

#[test]
fn an_option_is_a_token() {
    assert_eq!(ConnectionOption::of(b"CLOSE"), Some(ConnectionOption::Close));
    assert_eq!(ConnectionOption::of(b"Keep-Alive"), Some(ConnectionOption::KeepAlive));
    assert_eq!(ConnectionOption::of(b"te"), Some(ConnectionOption::Name));
    assert_eq!(ConnectionOption::of(b"a b"), None);
    assert_eq!(ConnectionOption::of(b"\"close\""), None);
}
