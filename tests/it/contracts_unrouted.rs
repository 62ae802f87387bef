//! The contract of requests that reach no route: the first route of the host in the file, else the listener, else the
//! default contract.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use http::Request;

use super::prelude::*;

/// Contracts whose bodies name them.
const CONTRACTS: &str = r#"{ one: { body: { one: "{message}", type: "{type}" }, codes: [{ code: 400 }, { code: 405 }, { code: 404, message: "One lacks it." }, { code: 431 }, { code: 500 }] },
  two: { body: { two: "{title}" }, codes: [{ code: 400 }, { code: 404, text: Nothing }, { code: 500 }] },
  door: { body: { door: "{title}" }, codes: [{ code: 400 }, { code: 500 }] } }"#;

/// Routes of two hosts; the second one of `a.test` has another contract.
fn setup() -> GatewaySetup {
    let upstream = ok_upstream("fine");
    let address = upstream.address();
    // The upstream must not end before the gateway.
    std::mem::forget(upstream);
    GatewaySetup::with_servers(&[address])
        .set("contracts", CONTRACTS)
        .set("cors", "{ allow_origins: [\"https://top.test\"] }")
        .set("client.max_header_bytes", "2KiB")
        .route("name: a, match: { host: a.test, path: \"/a/{*rest}\", methods: [PUT] }, upstream: main, contract: one, cors: { allow_origins: [\"https://a.test\"] }")
        .route("name: a2, match: { host: a.test, path: /x/y, methods: [GET] }, upstream: main, contract: two, errors: { format: negotiate }")
        .route("name: wide, match: { host: \"*.b.test\", path: /__panic }, upstream: main, contract: two")
        .listener_contract("door")
        .with_h2c_listener()
        .environment("STATUSQUO_TEST_PANIC", "1")
        .may_panic()
}

/// The response to raw bytes: status, fields in lower case, body.
fn send(address: SocketAddr, bytes: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(limit())).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

fn body(gateway: &Gateway, bytes: &str) -> (u16, String) {
    let (status, _, body) = send(gateway.address(), bytes);
    (status, body)
}

fn request(line: &str, host: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: {host}\r\n{fields}connection: close\r\n\r\n")
}

fn is(status: u16, body: &str) -> (u16, String) {
    (status, body.to_owned())
}

#[test]
fn unrouted_request_has_the_contract_of_the_first_route_of_its_host() {
    let gateway = setup().start();
    let get = |host, path: &str| body(&gateway, &request(&format!("GET {path}"), host, ""));
    assert_eq!(get("a.test", "/nowhere"), is(404, r#"{"one":"One lacks it.","type":"not_found"}"#));
    assert_eq!(get("A.test.:80", "/nowhere"), is(404, r#"{"one":"One lacks it.","type":"not_found"}"#));
    assert_eq!(get("x.y.b.test", "/nowhere"), is(404, r#"{"two":"Nothing"}"#));
    assert_eq!(get("b.test", "/nowhere"), is(400, r#"{"door":"Bad Request"}"#));
    // The path decides which route is first.
    let (status, head, text) = send(gateway.address(), &request("GET /a/1", "a.test", ""));
    assert_eq!((status, &*text), (405, r#"{"one":"Method Not Allowed","type":"method_not_allowed"}"#));
    assert!(head.contains("\r\nallow: put"), "{head}");
    let (status, head, text) = send(gateway.address(), &request("POST /x/y", "a.test", ""));
    assert_eq!((status, &*text), (404, r#"{"two":"Nothing"}"#));
    assert!(head.contains("\r\nallow: get, head") && head.contains("\r\nvary: accept"), "{head}");
    let labels = [("route", "none"), ("code", "405"), ("origin", "proxy")];
    gateway.expect_metric("responses_total", &labels, 1.0);
    gateway.expect_metric("responses_total", &[("route", "none"), ("code", "404"), ("origin", "proxy")], 4.0);
}

#[test]
fn cors_of_an_unrouted_request_is_that_of_its_host() {
    let gateway = setup().start();
    let allowed = |host, origin: &str| {
        let head =
            send(gateway.address(), &request("GET /nowhere", host, &format!("origin: {origin}\r\n"))).1;
        head.contains(&format!("\r\naccess-control-allow-origin: {origin}\r\n"))
    };
    assert!(allowed("a.test", "https://a.test") && !allowed("a.test", "https://top.test"));
    assert!(allowed("c.test", "https://top.test") && !allowed("c.test", "https://a.test"));
    let preflight = "origin: https://a.test\r\naccess-control-request-method: GET\r\n";
    let (status, head, _) = send(gateway.address(), &request("OPTIONS /nowhere", "a.test", preflight));
    assert_eq!(status, 204, "{head}");
    assert!(head.contains("\r\naccess-control-allow-origin: https://a.test\r\n"), "{head}");
}

#[test]
fn malformed_request_has_the_contract_of_its_host_if_that_can_be_read() {
    let gateway = setup().start();
    let one =
        |kind: &str| format!(r#"{{"one":"{kind}","type":"{}"}}"#, kind.to_lowercase().replace(' ', "_"));
    let large = format!("x: {}\r\n", "x".repeat(4096));
    for (bytes, status, expected) in [
        (request("GET /", "a.test", "bad\r\n"), 400, one("Bad Request")),
        // Empty lines before the request line (RFC 9112 2.2).
        (request("\r\nGET /", "a.test", "bad\r\n"), 400, one("Bad Request")),
        (request("\r\n\r\nGET /", "a.test", "bad\r\n"), 400, one("Bad Request")),
        ("\r\n\r\nGET / HTTP/1.1\r\nhost: a.test\r\n".into(), 400, one("Bad Request")),
        (request("TRACE /", "a.test", ""), 405, one("Method Not Allowed")),
        (request("GET /a/../b", "a.test", ""), 400, one("Bad Request")),
        (request("GET /", "a.test", &large), 431, one("Request Header Fields Too Large")),
        (request("GET http://a.test/../x", "a.test", ""), 400, one("Bad Request")),
        (request("GET / HTTP/1.1\r\nhost: a.test", "a.test", ""), 400, r#"{"door":"Bad Request"}"#.into()),
        (request("GET http://b.test/", "a.test", ""), 400, r#"{"door":"Bad Request"}"#.into()),
        ("GARBAGE\r\n\r\n".into(), 400, r#"{"door":"Bad Request"}"#.into()),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, r#"{"door":"Bad Request"}"#.into()),
        ("GET / HTTP/1.1\r\nhost: a.te".into(), 400, r#"{"door":"Bad Request"}"#.into()),
        ("GET / HTTP/1.1\r\nhost: a.test\r\n".into(), 400, one("Bad Request")),
    ] {
        assert_eq!(body(&gateway, &bytes), (status, expected), "{bytes:.80}");
    }
    // The second listener has no contract of its own.
    let (status, _, text) = send(gateway.h2_address(), "GARBAGE\r\n\r\n");
    let default = r#"{"message":"The HTTP version of the request is not supported.","code":400}"#;
    assert_eq!((status, &*text), (400, default));
}

#[test]
fn http2_error_without_a_route_has_the_contract_of_its_host() {
    let gateway = setup().start();
    let mut client = gateway.h2_client();
    let mut get = |uri: &str, name: &str, value: &str| {
        let response = client.unchecked(Request::get(uri).header(name, value).body(()).unwrap());
        (response.status, response.text())
    };
    assert_eq!(get("http://a.test/n", "x", "y"), is(404, r#"{"one":"One lacks it.","type":"not_found"}"#));
    assert_eq!(
        get("http://a.test/n", "expect", "a-miracle"),
        is(400, r#"{"one":"Bad Request","type":"bad_request"}"#)
    );
    assert_eq!(get("http://z.b.test/n", "host", "z.b.test"), is(404, r#"{"two":"Nothing"}"#));
    let default = r#"{"message":"The Host of the request is missing, repeated or malformed.","code":400}"#;
    assert_eq!(get("http://a.test/n", "host", "b.test"), is(400, default));
}

#[test]
fn panic_is_reported_under_the_contract_of_its_route() {
    let gateway = setup().start();
    let bytes = request("GET /__panic", "api.b.test", "");
    assert_eq!(body(&gateway, &bytes), is(500, r#"{"two":"Internal Server Error"}"#));
    let labels = [("route", "wide"), ("code", "500"), ("cause", "proxy_internal_error")];
    gateway.expect_metric("errors_total", &labels, 1.0);
    let line = gateway.log_line(|line| line["cause"] == "proxy_internal_error");
    assert_eq!((&line["route"], &line["method"]), (&"wide".into(), &"GET".into()), "{line}");
}

#[test]
fn malformed_request_gets_a_problem_document_if_it_prefers_one() {
    let gateway =
        GatewaySetup::with_named_servers(&["127.0.0.1:1"]).set("errors.format", "negotiate").start();
    let bytes = request("GET /", "a.test", "bad\r\naccept: application/problem+json\r\n");
    let (status, head, text) = send(gateway.address(), &bytes);
    assert_eq!(status, 400);
    assert!(head.contains("\r\ncontent-type: application/problem+json\r\n"), "{head}");
    assert!(text.starts_with(r#"{"type":"about:blank","title":"Bad Request","status":400,"#), "{text}");
}
