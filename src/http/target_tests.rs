//! Valid, ambiguous and malformed targets.

use super::*;

#[test]
fn valid_paths_report_their_length() {
    for (target, path_len) in [
        ("/", 1),
        ("//admin", 7),
        ("/a/b?c=d/../e", 4),
        ("/?", 1),
        ("/a%20b%2Fc%C3%A9", 16),
        ("/caf\u{e9}?\u{e9}", 6),
        ("/[x]|{y}^", 9),
        ("/a;b=c,d:e@f!$&'()*+~-_", 23),
        ("/q?`|{}^[]\\'%%zz%", 2),
        ("/a?b?c", 2),
        ("/%252e%252e/", 12),
        ("/.well-known/x", 14),
        ("/a..b/...", 9),
        ("/..a/b../.c", 11),
        ("/group%2Fproject", 16),
    ] {
        let facts = check_path(target.as_bytes());
        assert_eq!(facts, Ok(PathInfo { path_len, ambiguity: None, target_fits_http2: true }), "{target}");
    }
}

#[test]
fn dot_segments_are_detected_in_every_spelling() {
    for target in [
        "/.",
        "/..",
        "/./a",
        "/a/..",
        "/a/../b",
        "/a/..?x",
        "/%2e",
        "/%2E%2e/a",
        "/.%2e/a",
        "/%2e./a",
        "/..;/a",
        "/..;x=y/a",
        "/.;/a",
        "/%2e%2e;a",
        "/..%2fa",
        "/a%2F..",
        "/a%2f%2e%2e%2fb",
        "//../a",
        "/a/.",
    ] {
        let facts = check_path(target.as_bytes()).unwrap();
        assert_eq!(facts.ambiguity, Some(Ambiguity::DotSegments), "{target}");
    }
}

#[test]
fn ambiguous_paths_are_rejected() {
    for target in [
        "/a\\b", "/\\", "/..\\a", "/%00", "/%0a%00", "/%", "/%2", "/%zz", "/%2g", "/a%", "/%%41", "/%u0041",
        "/%-1", "/a%0", "/%?a",
    ] {
        let rejection = check_path(target.as_bytes()).unwrap_err();
        assert_eq!(rejection.cause, Cause::AmbiguousPath, "{target}");
    }
}

#[test]
fn encoded_backslashes_and_control_bytes_are_reported() {
    for (target, expected) in [
        ("/a%5cb", Ambiguity::EncodedBackslash),
        ("/users/CORP%5Cjdoe", Ambiguity::EncodedBackslash),
        ("/%5C%0a", Ambiguity::EncodedBackslash),
        ("/key%0Aname", Ambiguity::EncodedControl),
        ("/%0D%5c", Ambiguity::EncodedControl),
        ("/%01", Ambiguity::EncodedControl),
        ("/%1f", Ambiguity::EncodedControl),
        ("/%7F?x", Ambiguity::EncodedControl),
        ("/%5C/../b", Ambiguity::DotSegments),
    ] {
        assert_eq!(check_path(target.as_bytes()).unwrap().ambiguity, Some(expected), "{target}");
    }
    assert_eq!(check_path(b"/?%0a%5c%00").unwrap().ambiguity, None);
}

#[test]
fn queries_that_http2_cannot_carry_are_reported() {
    for (target, target_fits_http2) in [
        (&b"/?a={|}`^[]\\"[..], true),
        ("/?\u{e9}".as_bytes(), true),
        (b"/?\"", false),
        (b"/?<", false),
        (b"/?a>b", false),
        (b"/?\xe9", false),
        (b"/?\xff\xfe", false),
    ] {
        let facts = check_path(target).unwrap();
        assert_eq!(facts.target_fits_http2, target_fits_http2, "{}", target.escape_ascii());
        let parsed = http::uri::PathAndQuery::try_from(target);
        assert_eq!(parsed.is_ok_and(|uri| uri.as_str().as_bytes() == target), target_fits_http2);
    }
}

#[test]
fn invalid_bytes_are_rejected_in_path_and_query() {
    for octet in 0..=255_u8 {
        let allowed = octet.is_ascii_graphic() && !b"\"<>#".contains(&octet);
        let in_query = check_path(&[b"/?a", &[octet][..], b"b"].concat());
        let allowed_in_query = octet > b' ' && !b"#\x7f".contains(&octet);
        assert_eq!(in_query.is_ok(), allowed_in_query, "{octet:#x}");
        let in_path = check_path(&[b"/a", &[octet][..], b"41"].concat());
        assert_eq!(in_path.is_ok(), allowed && octet != b'`' && octet != b'\\', "{octet:#x}");
    }
    for not_utf8 in [&b"/\xff"[..], b"/\xc3?a", b"/\xc0\xae\xc0\xae/"] {
        assert_eq!(check_path(not_utf8).unwrap_err().cause, Cause::MalformedRequestLine);
    }
}

#[test]
fn check_path_requires_origin_form() {
    for target in ["", "*", "a", "?a", "http://a/", "example.com:80"] {
        assert_eq!(check_path(target.as_bytes()).unwrap_err().cause, Cause::MalformedRequestLine, "{target}");
    }
}

#[test]
fn overlong_target_is_rejected() {
    let longest = format!("/{}", "a".repeat(MAX_TARGET_LEN - 1));
    assert!(check_path(longest.as_bytes()).is_ok());
    assert_eq!(check_path(format!("{longest}a").as_bytes()).unwrap_err().cause, Cause::UriTooLong);
    let absolute = format!("http://a{longest}");
    assert_eq!(check_target(&Method::GET, absolute.as_bytes()).unwrap_err().cause, Cause::UriTooLong);
}
