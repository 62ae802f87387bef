//! Who the client is, for trusted and untrusted peers and for fields that lie.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn trusted() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8"].iter().map(|net| net.parse().unwrap()).collect()
}

fn client(peer: &str, values: &[&str]) -> IpAddr {
    client_ip(ip(peer), values.iter().map(|value| value.as_bytes()), &trusted())
}

#[test]
fn an_untrusted_peer_is_the_client_whatever_it_says() {
    assert_eq!(client("203.0.113.9", &["1.2.3.4"]), ip("203.0.113.9"));
    assert_eq!(client("203.0.113.9", &[]), ip("203.0.113.9"));
}

#[test]
fn the_rightmost_untrusted_hop_is_the_client() {
    for (values, expected) in [
        (&["1.2.3.4"][..], "1.2.3.4"),
        (&["9.9.9.9, 1.2.3.4"], "1.2.3.4"),
        (&["9.9.9.9, 1.2.3.4, 10.0.0.7"], "1.2.3.4"),
        (&["9.9.9.9", "1.2.3.4,10.0.0.7", "10.0.0.8"], "1.2.3.4"),
        (&["10.1.1.1, 10.0.0.7"], "10.1.1.1"),
        (&[], "10.0.0.1"),
        (&[""], "10.0.0.1"),
        (&["1.2.3.4,, "], "1.2.3.4"),
        (&["1.2.3.4:5678"], "1.2.3.4"),
        (&["[2001:db8::1]:443"], "2001:db8::1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["::ffff:1.2.3.4"], "1.2.3.4"),
        (&["1.2.3.4, ::ffff:10.0.0.7, fd00::1"], "1.2.3.4"),
    ] {
        assert_eq!(client("10.0.0.1", values), ip(expected), "{values:?}");
    }
}

#[test]
fn garbage_ends_the_walk_at_the_last_good_hop() {
    for garbage in
        ["unknown", "_hidden", "1.2.3", "1.2.3.4.5", "1.2.3.4/8", "01.2.3.4", "\u{661}.2.3.4", "[::1"]
    {
        assert_eq!(
            client("10.0.0.1", &[&format!("8.8.8.8, {garbage}, 10.0.0.7")]),
            ip("10.0.0.7"),
            "{garbage}"
        );
    }
}

#[test]
fn an_ipv4_peer_inside_ipv6_is_that_ipv4_peer() {
    assert_eq!(client("::ffff:10.0.0.1", &["1.2.3.4"]), ip("1.2.3.4"));
    assert_eq!(client("::ffff:203.0.113.9", &["1.2.3.4"]), ip("203.0.113.9"));
}

#[test]
fn the_upstream_is_told_the_client_or_the_chain_from_it() {
    for text in ["1.2.3.4", "0.0.0.0", "10.99.100.101", "255.109.190.200"] {
        assert_eq!(client_value(ip(text)), text);
    }
    assert_eq!(client_value(ip("2001:db8::1")), "2001:db8::1");
    let chain = |peer: &str, values: &[&str]| {
        chain_value(ip(peer), values.iter().map(|value| value.as_bytes()), &trusted())
    };
    assert_eq!(chain("10.0.0.1", &["9.9.9.9, 1.2.3.4, 10.0.0.7"]), "1.2.3.4, 10.0.0.7, 10.0.0.1");
    assert_eq!(chain("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(chain("203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
}

#[test]
fn a_client_cannot_say_itself_where_it_comes_from() {
    for text in [
        "forwarded",
        "x-real-ip",
        "x_real_ip",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-server",
        "x-forwarded-prefix",
        "x_forwarded_for",
        "x-forwarded_for",
    ] {
        assert!(is_forwarded_field(&text.parse().unwrap()), "{text}");
    }
    for text in ["x-request-id", "host", "x-forwarded", "forwarded-for", "x", "x-real-ips", "via"] {
        assert!(!is_forwarded_field(&text.parse().unwrap()), "{text}");
    }
}
