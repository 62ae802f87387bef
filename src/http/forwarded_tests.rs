//! The client address for trusted and untrusted peers, and for forged fields.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn trusted() -> Vec<PeerRange> {
    ["10.0.0.0/8", "fd00::/8"].iter().map(|net| PeerRange::Network(net.parse().unwrap())).collect()
}

fn client(peer: &str, values: &[&str]) -> IpAddr {
    super::client(Peer::Ip(ip(peer)), values.iter().map(|value| value.as_bytes()), &trusted()).ip().unwrap()
}

#[test]
fn untrusted_peer_is_the_client() {
    assert_eq!(client("203.0.113.9", &["1.2.3.4"]), ip("203.0.113.9"));
    assert_eq!(client("203.0.113.9", &[]), ip("203.0.113.9"));
}

#[test]
fn rightmost_untrusted_hop_is_the_client() {
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
fn invalid_hop_stops_at_the_last_valid_one() {
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
fn ipv4_mapped_peer_is_canonicalised() {
    assert_eq!(client("::ffff:10.0.0.1", &["1.2.3.4"]), ip("1.2.3.4"));
    assert_eq!(client("::ffff:203.0.113.9", &["1.2.3.4"]), ip("203.0.113.9"));
}

#[test]
fn unix_peer_has_no_address_and_reports_its_client_if_trusted() {
    let client = |trusted: &[PeerRange], values: &[&str]| {
        super::client(Peer::Unix, values.iter().map(|value| value.as_bytes()), trusted)
    };
    let with_unix = [trusted(), vec![PeerRange::Unix]].concat();
    assert_eq!(client(&trusted(), &["192.0.2.7"]), Peer::Unix);
    assert_eq!(client(&with_unix, &["192.0.2.7"]), Peer::Ip(ip("192.0.2.7")));
    assert_eq!(client(&with_unix, &["192.0.2.7, 10.0.0.7"]), Peer::Ip(ip("192.0.2.7")));
    assert_eq!(client(&with_unix, &["192.0.2.7, nobody"]), Peer::Unix);
    assert_eq!(client(&with_unix, &[]), Peer::Unix);
    assert_eq!(forwarded_for_client(Peer::Unix), "");
    let values = [b"192.0.2.7".as_slice()];
    assert_eq!(forwarded_for_chain(Peer::Unix, values.into_iter(), &with_unix), "192.0.2.7");
    assert_eq!(forwarded_for_chain(Peer::Unix, values.into_iter(), &trusted()), "");
}

#[test]
fn forwarded_for_is_the_client_or_the_chain() {
    for text in ["1.2.3.4", "0.0.0.0", "10.99.100.101", "255.109.190.200"] {
        assert_eq!(forwarded_for_client(Peer::Ip(ip(text))), text);
    }
    assert_eq!(forwarded_for_client(Peer::Ip(ip("2001:db8::1"))), "2001:db8::1");
    let chain = |peer: &str, values: &[&str]| {
        forwarded_for_chain(Peer::Ip(ip(peer)), values.iter().map(|value| value.as_bytes()), &trusted())
    };
    assert_eq!(chain("10.0.0.1", &["9.9.9.9, 1.2.3.4, 10.0.0.7"]), "1.2.3.4, 10.0.0.7, 10.0.0.1");
    assert_eq!(chain("10.0.0.1", &[]), "10.0.0.1");
    assert_eq!(chain("203.0.113.9", &["1.2.3.4"]), "203.0.113.9");
}

#[test]
fn client_forwarding_headers_are_recognised() {
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
        assert!(is_forwarded_name(text.as_bytes()), "{text}");
    }
    for text in ["x-request-id", "host", "x-forwarded", "forwarded-for", "x", "x-real-ips", "via"] {
        assert!(!is_forwarded_name(text.as_bytes()), "{text}");
    }
}
