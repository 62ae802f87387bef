//! Validation of authorities, and normalisation for routing.

use super::*;

#[test]
fn unambiguous_hosts_are_accepted() {
    for authority in [
        "example.com",
        "EXAMPLE.com:8080",
        "example.com.",
        "example.com:",
        "localhost",
        "a_b-c.internal:1",
        "127.0.0.1:65535",
        "[::1]",
        "[2001:db8::1]:443",
        "[::ffff:10.0.0.1]:80",
        "xn--bcher-kva.example",
        "1",
    ] {
        assert_eq!(check_authority(authority.as_bytes()), Ok(()), "{authority}");
    }
}

#[test]
fn invalid_or_ambiguous_hosts_are_rejected() {
    let long = "a".repeat(256);
    for authority in [
        "",
        ":",
        ":80",
        ".",
        "..",
        ".a",
        "a..b",
        "a..",
        "user@a",
        "user:pw@a",
        "@",
        "a:b",
        "a:-1",
        "a:+1",
        "a:65536",
        "a:000080",
        "a:99999999999",
        "a:80:80",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a,b",
        "a%41",
        "a%00",
        "a\"",
        "a<b>",
        "[",
        "]",
        "[]",
        "[]:80",
        "[::1",
        "::1",
        "[::1]80",
        "[::1]:x",
        "[::g]",
        "[::1%eth0]",
        "[::1%25eth0]",
        "[v1.x]",
        "[1.2.3.4]",
        "a[::1]",
        "[[::1]]",
        "b\u{fc}cher.example",
        "a\tb",
        "http://a",
        &long,
    ] {
        let rejection = check_authority(authority.as_bytes()).unwrap_err();
        assert_eq!(rejection.cause, Cause::InvalidHost, "{authority}");
    }
    assert!(check_authority(b"a\xff").is_err());
}

#[test]
fn routing_host_is_normalised() {
    for (authority, host) in [
        ("example.com", "example.com"),
        ("Example.COM:8080", "example.com"),
        ("example.com.", "example.com"),
        ("example.com.:80", "example.com"),
        ("example.com:", "example.com"),
        ("[::1]:80", "::1"),
        ("[0:0::0001]", "::1"),
        ("*.Example.com", "*.example.com"),
        ("", ""),
    ] {
        assert_eq!(routing_host(authority.as_bytes()), host, "{authority}");
    }
    assert!(matches!(routing_host(b"example.com:80"), Cow::Borrowed(_)));
}

#[test]
fn wildcard_matches_one_or_more_labels() {
    for (pattern, host, matches) in [
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "badexample.com", false),
        ("*.example.com", "a.example.com.evil", false),
        ("example.com", "example.com", true),
        ("example.com", "a.example.com", false),
        ("*", "example.com", false),
    ] {
        assert_eq!(matches_pattern(pattern, host), matches, "{pattern} {host}");
    }
}

#[test]
fn authorities_compare_case_insensitively() {
    assert!(authorities_equal(b"Example.com:80", b"example.COM:80", None));
    assert!(!authorities_equal(b"example.com", b"example.com:80", None));
}

#[test]
fn default_port_equals_a_missing_port() {
    for (one, other, port, equal) in [
        ("a:80", "A", 80, true),
        ("a:443", "a", 443, true),
        ("a:", "a:80", 80, true),
        ("a:0080", "a", 80, true),
        ("[::1]", "[::1]:80", 80, true),
        ("a:443", "a", 80, false),
        ("a:80", "a:81", 80, false),
        ("a:65616", "a", 80, false),
        ("ab", "a", 80, false),
    ] {
        assert_eq!(authorities_equal(one.as_bytes(), other.as_bytes(), Some(port)), equal, "{one} {other}");
        assert_eq!(authorities_equal(other.as_bytes(), one.as_bytes(), Some(port)), equal, "{one} {other}");
    }
}
