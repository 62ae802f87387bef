//! Which requests are counted together, and which never are.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

#[derive(Clone)]
struct Asked {
    client: IpAddr,
    header: Option<&'static [u8]>,
    host: Option<&'static str>,
    method: &'static str,
    route: &'static str,
    path: Option<&'static str>,
    cookie: Option<&'static str>,
    query: Option<&'static str>,
    body: Option<&'static str>,
}

impl Subject for Asked {
    fn client_ip(&self) -> IpAddr {
        self.client
    }

    fn ipv6_prefix(&self) -> u8 {
        64
    }

    fn header(&self, _: &HeaderName) -> Option<&[u8]> {
        self.header
    }

    fn host(&self) -> Option<Cow<'_, str>> {
        self.host.map(Cow::Borrowed)
    }

    fn method(&self) -> &str {
        self.method
    }

    fn route(&self) -> &str {
        self.route
    }

    fn path(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        self.path.map(|value| Cow::Borrowed(value.as_bytes()))
    }

    fn cookie(&self, _: &str) -> Option<&[u8]> {
        self.cookie.map(str::as_bytes)
    }

    fn query(&self, _: &str) -> Option<Cow<'_, [u8]>> {
        self.query.map(|value| Cow::Borrowed(value.as_bytes()))
    }

    fn body(&self, _: &str) -> Option<String> {
        self.body.map(str::to_owned)
    }
}

const ASKED: Asked = Asked {
    client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    header: Some(b"blue"),
    host: Some("api.example.com"),
    method: "GET",
    route: "shop",
    path: Some("a"),
    cookie: Some("b"),
    query: Some("c"),
    body: Some("d"),
};

const SECRET: Secret = Secret::new([3, 4]);

fn parts() -> [KeyPart; 9] {
    let header = KeyPart::Header(HeaderName::from_static("x-tenant"));
    let (path, cookie) = (KeyPart::Path("p".into()), KeyPart::Cookie("c".into()));
    let (query, body) = (KeyPart::Query("q".into()), KeyPart::Body("b".into()));
    [KeyPart::ClientIp, header, KeyPart::Host, KeyPart::Method, KeyPart::Route, path, cookie, query, body]
}

fn of(parts: &[KeyPart], asked: &Asked) -> Key {
    key(SECRET, parts, asked)
}

#[test]
fn every_part_tells_requests_apart_and_no_other_part_does() {
    let others = [
        Asked { client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8)), ..ASKED },
        Asked { header: Some(b"red"), ..ASKED },
        Asked { host: Some("www.example.com"), ..ASKED },
        Asked { method: "POST", ..ASKED },
        Asked { route: "login", ..ASKED },
        Asked { path: Some("x"), ..ASKED },
        Asked { cookie: Some("x"), ..ASKED },
        Asked { query: Some("x"), ..ASKED },
        Asked { body: Some("x"), ..ASKED },
    ];
    for (number, part) in parts().into_iter().enumerate() {
        for (other_number, other) in others.iter().enumerate() {
            let same = of(std::slice::from_ref(&part), &ASKED) == of(std::slice::from_ref(&part), other);
            assert_eq!(same, number != other_number, "{part:?}, {other_number}");
        }
    }
}

#[test]
fn no_two_lists_of_parts_meet_whatever_the_values_are() {
    let x = Some("x");
    let asked = Asked {
        client: ASKED.client,
        header: Some(b"x"),
        host: x,
        method: "x",
        route: "x",
        path: x,
        cookie: x,
        query: x,
        body: x,
    };
    let mut keys = HashSet::new();
    for one in parts() {
        assert!(keys.insert(of(std::slice::from_ref(&one), &asked)));
        for other in parts() {
            assert!(keys.insert(of(&[one.clone(), other], &asked)));
        }
    }
    let [_, header, _, method, ..] = parts();
    let left = Asked { header: Some(b"ab"), method: "c", ..ASKED };
    let right = Asked { header: Some(b"a"), method: "bc", ..ASKED };
    assert_ne!(of(&[header.clone(), method.clone()], &left), of(&[header, method], &right));
}

#[test]
fn a_part_that_is_missing_or_empty_counts_as_the_client_and_as_no_value_that_a_client_could_send() {
    let [client, header, host, _, _, path, cookie, query, body] = parts();
    let lacking = |header, value| Asked {
        header,
        host: value,
        path: value,
        cookie: value,
        query: value,
        body: value,
        ..ASKED
    };
    for lacking in [lacking(None, None), lacking(Some(b""), Some(""))] {
        let by_client = of(std::slice::from_ref(&client), &lacking);
        for part in [&header, &host, &path, &cookie, &query, &body] {
            assert_eq!(of(std::slice::from_ref(part), &lacking), by_client, "{part:?}");
        }
    }
    let pretending =
        Asked { header: Some(&[192, 0, 2, 7]), client: IpAddr::V4(Ipv4Addr::LOCALHOST), ..ASKED };
    assert_ne!(of(std::slice::from_ref(&header), &pretending), of(&[client], &ASKED));
}

#[test]
fn ipv6_clients_are_one_by_network_and_mapped_ipv4_clients_are_what_they_are() {
    let by = |address: &str| of(&[KeyPart::ClientIp], &Asked { client: address.parse().unwrap(), ..ASKED });
    assert_eq!(by("2001:db8:1:2::1"), by("2001:db8:1:2:ffff::9"));
    assert_ne!(by("2001:db8:1:2::1"), by("2001:db8:1:3::1"));
    assert_eq!(by("::ffff:192.0.2.7"), by("192.0.2.7"));
    assert_ne!(by("::ffff:192.0.2.7"), by("::ffff:192.0.2.8"));
    struct By(u8);
    impl Subject for By {
        fn client_ip(&self) -> IpAddr {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        }
        fn ipv6_prefix(&self) -> u8 {
            self.0
        }
        fn header(&self, _: &HeaderName) -> Option<&[u8]> {
            None
        }
        fn host(&self) -> Option<Cow<'_, str>> {
            None
        }
        fn method(&self) -> &str {
            ""
        }
        fn route(&self) -> &str {
            ""
        }
        fn path(&self, _: &str) -> Option<Cow<'_, [u8]>> {
            None
        }
        fn cookie(&self, _: &str) -> Option<&[u8]> {
            None
        }
        fn query(&self, _: &str) -> Option<Cow<'_, [u8]>> {
            None
        }
        fn body(&self, _: &str) -> Option<String> {
            None
        }
    }
    let keys: HashSet<Key> =
        [0, 127, 128, 255].map(|bits| key(SECRET, &[KeyPart::ClientIp], &By(bits))).into();
    assert_eq!(keys.len(), 2, "only all 128 bits tell ::1 from ::");
}

#[test]
fn without_the_secret_a_key_says_nothing_and_the_secret_is_not_shown() {
    assert_ne!(key(SECRET, &parts(), &ASKED), key(Secret::new([3, 5]), &parts(), &ASKED));
    assert_eq!(format!("{SECRET:?}"), "Secret(..)");
}
