//! `explain` compared with the wire where the response depends on more than the cause: the upstream's body, the
//! client's `Accept`, and the listener of a request whose host is unknown.

use std::net::TcpStream;

use serde_json::Value;

use super::commands_explain::{assert_explained, explain, explained_response, response_json};
use super::gateway::run;
use super::prelude::*;
use super::response_reader::StrictReader;

/// Status, Content-Type and body of the upstream's errors.
const ERRORS: &[(u16, &str, &str)] = &[
    (404, "application/json", r#"{"message":"No such item.","code":404}"#),
    (404, "application/json", r#"{"error":{"code":"sold_out","message":"Sold out."}}"#),
    (
        404,
        "application/json;charset=utf-8",
        r#"{ "error": {"code":"gone","message":"Gone.","request_id":"theirs"} }"#,
    ),
    (404, "application/json", r#"{"error":{"code":"x","message":"at f (a.js:1:2)"}}"#),
    (404, "application/json", r#"{"detail":"No such item.","errors":[{"field":"id"}]}"#),
    (422, "application/json", r#"{"message":["Too short."],"error":"Unprocessable Entity"}"#),
    (429, "application/json", r#"{"error":{"code":"slow_down","message":"Slow down."}}"#),
    (429, "application/json", r#"{"message":"Slow down.","code":429}"#),
    (503, "application/json", r#"{"message":"redis is down","code":503}"#),
    (404, "text/html", "<h1>Not Found</h1>"),
    (400, "text/plain", "The size must be a number."),
    (404, "application/json", ""),
];

const CONTRACTS: &str = r#"{ shop: { body: { error: { code: "{type}", message: "{message}", request_id: "{request_id}", details: "{details}" } },
    codes: [{ code: 400 }, { code: 404, type: not_found }, { code: 429 }, { code: 500 }] },
  door: { body: { door: "{title}" }, codes: [{ code: 400 }, { code: 404 }, { code: 500 }] } }"#;

/// Routes with different rules in front of [`ERRORS`]. The last segment of a path is the index of the error.
fn gateway() -> Gateway {
    let upstream = by_request(|request| {
        let index = request.path().rsplit('/').next().unwrap_or_default();
        let (status, media_type, body) = ERRORS[index.parse::<usize>().unwrap()];
        let head = format!("{status} Error\ncontent-type: {media_type}");
        let mut answer = http_response(&head, body);
        if request.method == "HEAD" {
            answer.truncate(answer.len() - body.len());
        }
        vec![write_bytes(answer)]
    });
    let address = upstream.address();
    // The upstream must not end before the gateway.
    std::mem::forget(upstream);
    GatewaySetup::with_servers(&[address])
        .set("contracts", CONTRACTS)
        .set("log.requests", "all")
        .set("errors.keep_details", "[errors]")
        .route("name: flat, match: { path: \"/flat/{*rest}\" }, upstream: main")
        .route("name: shop, match: { path: \"/shop/{*rest}\" }, upstream: main, contract: shop, errors: { format: negotiate }")
        .route("name: seen, match: { path: \"/seen/{*rest}\" }, upstream: main, errors: observe")
        .route(
            "name: edited, match: { path: \"/edited/{*rest}\" }, upstream: main, contract: shop, errors: { retry_after: 9s }, \
             cors: { allow_origins: [\"https://a.test\"] }, \
             response_headers: { set: { x-a: b, cache-control: max-age=1 }, remove: [x-content-type-options] }",
        )
        .start()
}

/// The response, which need not be of the built-in contract.
fn exchange(gateway: &Gateway, method: &'static str, bytes: &str) -> HttpResponse {
    let stream = TcpStream::connect(gateway.address()).unwrap();
    stream.set_read_timeout(Some(limit())).unwrap();
    std::io::Write::write_all(&mut &stream, bytes.as_bytes()).unwrap();
    if !bytes.ends_with("\r\n\r\n") {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    StrictReader::new(stream).read(SentRequest::Http11(method)).unwrap()
}

#[test]
fn explain_equals_the_wire_for_every_upstream_body() {
    let (gateway, folder) = (gateway(), TestFolder::new());
    let problem = "application/problem+json";
    for (index, (status, media_type, body)) in ERRORS.iter().enumerate() {
        let file = folder.write(&format!("{index}.json"), body);
        let options = format!(
            "--upstream-status {status} --upstream-content-type {media_type} --upstream-body {}",
            file.display()
        );
        for (route, method, accept) in [
            ("flat", "GET", None),
            ("flat", "HEAD", None),
            ("shop", "GET", None),
            ("shop", "POST", Some("application/json")),
            ("shop", "GET", Some(problem)),
            ("shop", "HEAD", Some(problem)),
            ("edited", "GET", None),
        ] {
            let fields = accept.map_or_else(String::new, |accept| format!("accept: {accept}\r\n"));
            let request = format!("{method} /{route}/{index} HTTP/1.1\r\nhost: test\r\n{fields}\r\n");
            let response = exchange(&gateway, method, &request);
            let accept = accept.map_or_else(String::new, |accept| format!("--accept {accept}"));
            let made = explain(&gateway, &format!("{options} --route {route} --method {method} {accept}"));
            assert_explained(&gateway, &made, &response);
        }
    }
}

#[test]
fn explain_says_whether_a_body_conforms_and_what_was_assumed() {
    let (gateway, folder) = (gateway(), TestFolder::new());
    let write = |index: usize| folder.write("body", ERRORS[index].2).display().to_string();
    let made = explain(&gateway, &format!("--upstream-status 404 --route flat --upstream-body {}", write(0)));
    assert_eq!(made["conformance"], "conforms");
    assert!(made["notes"].to_string().contains("assumed to be application/json"), "{made:#}");
    let made = explain(
        &gateway,
        &format!(
            "--upstream-status 404 --route flat --upstream-content-type text/plain --upstream-body {}",
            write(0)
        ),
    );
    assert_eq!((&made["conformance"], &made["response"]["status"]), (&"not_json".into(), &404.into()));

    // In mode `observe` both are forwarded; only the second would be replaced.
    for (index, would_replace) in [(0, 0), (4, 1)] {
        exchange(&gateway, "GET", &format!("GET /seen/{index} HTTP/1.1\r\nhost: test\r\n\r\n"));
        let made = explain(
            &gateway,
            &format!("--upstream-status 404 --route seen --upstream-body {}", write(index)),
        );
        assert_eq!(made["response"], Value::Null);
        let counted = made["metrics"].as_array().unwrap();
        let replaced = counted.iter().filter(|series| series.as_str().unwrap().contains("would_replace"));
        assert_eq!(replaced.count(), would_replace, "{made:#}");
        gateway.expect_metric("would_replace_total", &[("route", "seen")], would_replace as f64);
    }

    let file = gateway.configuration();
    for (options, expected) in [
        (&["--cause", "dns_error", "--upstream-body", "x"][..], "--cause"),
        (
            &["--upstream-status", "404", "--upstream-body", "/no/such/file"],
            "--upstream-body /no/such/file: ",
        ),
        (&["--upstream-status", "404", "--upstream-content-type", "text/html"], "--upstream-body"),
        (&["--cause", "invalid_host", "--listener", "127.0.0.1:1"], "no such listener; expected 127.0.0.1:0"),
        (&["--cause", "invalid_host", "--listener", "/run/x.sock"], "write \"unix:/run/x.sock\""),
    ] {
        let (status, _, error) = run(&[&["explain", file.to_str().unwrap()], options].concat(), &[]);
        assert_eq!(status, Some(2), "{options:?}: {error}");
        assert!(error.contains(expected), "{options:?}: {error}");
    }
}

#[test]
fn explain_equals_the_wire_for_requests_without_a_known_host() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("contracts", CONTRACTS)
        .route("name: a, match: { host: a.test, path: /a }, upstream: main, contract: shop")
        .route("name: b, match: { host: b.test, path: /b }, upstream: main")
        .listener_contract("door")
        .start();
    let listener = "--listener 127.0.0.1:0";
    for (request, options) in [
        ("GET /a HTTP/1.1\r\n\r\n", "--cause invalid_host"),
        ("GET /a HTTP/1.1\r\n\r\n", "--cause invalid_host --route a"),
        (
            "GET http://a.test/a HTTP/1.1\r\nhost: b.test\r\n\r\n",
            "--cause invalid_host --listener 127.0.0.1:0",
        ),
        ("GET /a HTTP/1.1\r\nho", "--cause http_request_error"),
        ("GET /a HTTP/1.1\r\nhost: a.test\r\n", "--cause http_request_error --route a"),
        ("GET  / HTTP/1.1\r\n\r\n", &format!("--cause malformed_request_line {listener}")),
        ("GET  / HTTP/1.1\r\nhost: a.test\r\n\r\n", "--cause malformed_request_line"),
        ("GET /x HTTP/1.1\r\nhost: c.test\r\n\r\n", &format!("--cause destination_not_found {listener}")),
        ("GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n", "--cause destination_not_found"),
        ("GET /x HTTP/1.1\r\nhost: b.test\r\n\r\n", "--cause destination_not_found --route b"),
    ] {
        let (response, made) = (exchange(&gateway, "GET", request), explain(&gateway, options));
        assert_eq!(explained_response(&made), response_json(&response), "{options}: {made:#}");
    }
}
