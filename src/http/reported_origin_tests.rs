//! Which values of a trusted proxy are used, and what follows from them.

use super::*;

const ALL: TrustedHeaders = TrustedHeaders {
    forwarded_for: true,
    forwarded_proto: true,
    forwarded_host: true,
    forwarded_port: true,
    forwarded: true,
};
const DEFAULT: TrustedHeaders = TrustedHeaders { forwarded_host: false, forwarded: false, ..ALL };
const ORIGIN: ListenerOrigin = ListenerOrigin { scheme: "http", port: 8080, tls_version: None };

/// Scheme, host and port for these field lines and the host `a.test:81`.
fn origin(trusted: TrustedHeaders, lines: &'static str) -> (&'static str, String, u16) {
    let fields = lines.lines().map(|line| line.split_once(':').unwrap());
    let fields = fields.map(|(name, value)| (name.as_bytes(), value.trim().as_bytes()));
    let origin = ReportedOrigin::from_fields(trusted, fields).resolve(b"a.test:81", ORIGIN);
    (origin.scheme, String::from_utf8(origin.host.to_vec()).unwrap(), origin.port)
}

#[test]
fn reported_values_replace_those_of_the_connection() {
    for (trusted, lines, scheme, host, port) in [
        (ALL, "", "http", "a.test:81", 8080),
        (DEFAULT, "X-Forwarded-Proto: https\nX-Forwarded-Port: 443", "https", "a.test:81", 443),
        (DEFAULT, "x-forwarded-proto: HTTPS", "https", "a.test:81", 81),
        (DEFAULT, "x-forwarded-port: 8443", "http", "a.test:81", 8443),
        (DEFAULT, "x-forwarded-proto: wss\nx-forwarded-host: b\nforwarded: host=c", "wss", "a.test:81", 81),
        (ALL, "x-forwarded-proto: wss\nx-forwarded-host: b", "wss", "b", 443),
        (ALL, "x-forwarded-host: b:9443\nx-forwarded-proto: https", "https", "b:9443", 9443),
        (ALL, "x-forwarded-host: [::1]", "http", "[::1]", 80),
        (ALL, "forwarded: for=1.2.3.4;proto=https;host=b", "https", "b", 443),
        (ALL, "forwarded: Proto=HTTPS ; HOST=\"b:8443\"", "https", "b:8443", 8443),
        (ALL, "forwarded: host=evil;proto=http, host=b;proto=https", "https", "b", 443),
        (ALL, "forwarded: host=f;proto=http\nx-forwarded-host: b", "http", "b", 80),
        (ALL, "forwarded: for=\"a;host=evil, proto=x\";host=b", "http", "b", 80),
    ] {
        assert_eq!(origin(trusted, lines), (scheme, host.to_owned(), port), "{lines:?}");
    }
}

#[test]
fn values_that_are_not_one_scheme_host_or_port_are_ignored() {
    for lines in [
        "x-forwarded-proto: https,http",
        "x-forwarded-proto: https, https",
        "x-forwarded-proto: https\nx-forwarded-proto: https",
        "x-forwarded-proto: ftp",
        "x-forwarded-proto: javascript",
        "x-forwarded-proto:",
        "x-forwarded-proto: https://",
        "x-forwarded-host: a, b",
        "x-forwarded-host: a/b",
        "x-forwarded-host: u@b",
        "x-forwarded-host: b:99999",
        "x-forwarded-host: \"b\"",
        "x-forwarded-host: b\nx-forwarded-host: b",
        "x-forwarded-port: 443, 80",
        "x-forwarded-port: 0",
        "x-forwarded-port: 65536",
        "x-forwarded-port: +443",
        "x-forwarded-port:",
        "x_forwarded_proto: https",
        "forwarded: proto=\"ht\\tps\";host=\"a\\b\"",
        "forwarded: for=1.2.3.4",
        "forwarded: proto",
        "forwarded: host=\"b",
    ] {
        assert_eq!(origin(ALL, lines), ("http", "a.test:81".to_owned(), 8080), "{lines:?}");
    }
    assert_eq!(origin(TrustedHeaders::default(), "x-forwarded-proto: https").0, "http");
}

#[test]
fn nodes_of_forwarded_are_found_in_order() {
    let nodes = |value: &'static str| -> Vec<String> {
        forwarded_nodes(std::iter::once(value.as_bytes()))
            .map(|node| String::from_utf8(node.to_vec()).unwrap())
            .collect()
    };
    for (value, expected) in [
        ("for=192.0.2.1", vec!["192.0.2.1"]),
        ("For=\"[2001:db8::1]:4711\";proto=http, for=10.0.0.1", vec!["[2001:db8::1]:4711", "10.0.0.1"]),
        ("by=1.1.1.1 , for=unknown", vec!["", "unknown"]),
        ("for=a;for=b", vec![""]),
        ("for=\"a,b\"", vec!["a,b"]),
        ("", vec![]),
    ] {
        assert_eq!(nodes(value), expected, "{value}");
    }
}
