//! Which requests share a key and which do not.

use std::collections::HashSet;
use std::net::Ipv6Addr;

use super::*;

#[derive(Clone)]
struct TestRequest {
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

impl KeySource for TestRequest {
    fn client_ip(&self) -> Option<IpAddr> {
        Some(self.client)
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

const REQUEST: TestRequest = TestRequest {
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

fn key_of(parts: &[KeyPart], request: &TestRequest) -> Key {
    derive_key(SECRET, parts, request)
}

#[test]
fn each_part_distinguishes_requests() {
    let others = [
        TestRequest { client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8)), ..REQUEST },
        TestRequest { header: Some(b"red"), ..REQUEST },
        TestRequest { host: Some("www.example.com"), ..REQUEST },
        TestRequest { method: "POST", ..REQUEST },
        TestRequest { route: "login", ..REQUEST },
        TestRequest { path: Some("x"), ..REQUEST },
        TestRequest { cookie: Some("x"), ..REQUEST },
        TestRequest { query: Some("x"), ..REQUEST },
        TestRequest { body: Some("x"), ..REQUEST },
    ];
    for (number, part) in parts().into_iter().enumerate() {
        for (other_number, other) in others.iter().enumerate() {
            let same =
                key_of(std::slice::from_ref(&part), &REQUEST) == key_of(std::slice::from_ref(&part), other);
            assert_eq!(same, number != other_number, "{part:?}, {other_number}");
        }
    }
}

#[test]
fn different_part_lists_never_collide() {
    let x = Some("x");
    let request = TestRequest {
        client: REQUEST.client,
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
        assert!(keys.insert(key_of(std::slice::from_ref(&one), &request)));
        for other in parts() {
            assert!(keys.insert(key_of(&[one.clone(), other], &request)));
        }
    }
    let [_, header, _, method, ..] = parts();
    let left = TestRequest { header: Some(b"ab"), method: "c", ..REQUEST };
    let right = TestRequest { header: Some(b"a"), method: "bc", ..REQUEST };
    assert_ne!(key_of(&[header.clone(), method.clone()], &left), key_of(&[header, method], &right));
}

#[test]
fn missing_part_counts_as_the_client_ip() {
    let [client, header, host, _, _, path, cookie, query, body] = parts();
    let without = |header, value| TestRequest {
        header,
        host: value,
        path: value,
        cookie: value,
        query: value,
        body: value,
        ..REQUEST
    };
    for request in [without(None, None), without(Some(b""), Some(""))] {
        let by_client = key_of(std::slice::from_ref(&client), &request);
        for part in [&header, &host, &path, &cookie, &query, &body] {
            assert_eq!(key_of(std::slice::from_ref(part), &request), by_client, "{part:?}");
        }
    }
    let spoofed =
        TestRequest { header: Some(&[192, 0, 2, 7]), client: IpAddr::V4(Ipv4Addr::LOCALHOST), ..REQUEST };
    assert_ne!(key_of(std::slice::from_ref(&header), &spoofed), key_of(&[client], &REQUEST));
}

#[test]
fn ipv6_clients_group_by_prefix_and_mapped_ipv4_is_unmapped() {
    let key_for = |address: &str| {
        key_of(&[KeyPart::ClientIp], &TestRequest { client: address.parse().unwrap(), ..REQUEST })
    };
    assert_eq!(key_for("2001:db8:1:2::1"), key_for("2001:db8:1:2:ffff::9"));
    assert_ne!(key_for("2001:db8:1:2::1"), key_for("2001:db8:1:3::1"));
    assert_eq!(key_for("::ffff:192.0.2.7"), key_for("192.0.2.7"));
    assert_ne!(key_for("::ffff:192.0.2.7"), key_for("::ffff:192.0.2.8"));
    struct PrefixedClient(u8);
    impl KeySource for PrefixedClient {
        fn client_ip(&self) -> Option<IpAddr> {
            Some(IpAddr::V6(Ipv6Addr::LOCALHOST))
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
        [0, 127, 128, 255].map(|bits| derive_key(SECRET, &[KeyPart::ClientIp], &PrefixedClient(bits))).into();
    assert_eq!(keys.len(), 2, "a prefix of 128 bits distinguishes ::1 from ::");
}

#[test]
fn key_depends_on_the_secret_which_debug_hides() {
    assert_ne!(derive_key(SECRET, &parts(), &REQUEST), derive_key(Secret::new([3, 5]), &parts(), &REQUEST));
    assert_eq!(format!("{SECRET:?}"), "Secret(..)");
}
