//! Malformed requests: every request that is not exactly one unambiguous request gets a documented 400, and no byte of
//! it reaches the upstream.

use std::time::{Duration, Instant};

use super::gateway::Gateway;
use super::load::limit;
use super::response_reader::{NoResponse, SentRequest};
use super::scripted_upstreams::ok_upstream;

/// Sends each input on a new connection; expects 400, this cause, an announced close and no upstream request.
#[track_caller]
fn expect_rejected(cause: &str, requests: &[&str]) {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).start();
    for request in requests {
        let mut client = gateway.client();
        client.send(request);
        let response = client.read(SentRequest::Http11("GET"));
        assert_eq!(response.status, 400, "{request:?}: {response:#?}");
        assert!(response.has_connection_close(), "{request:?}: {response:#?}");
        client.expect_close();
    }
    gateway.expect_metric("errors_total", &[("code", "400"), ("cause", cause)], requests.len() as f64);
    gateway.expect_metric("responses_total", &[("code", "400"), ("origin", "proxy")], requests.len() as f64);
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn malformed_request_lines_get_400() {
    expect_rejected(
        "malformed_request_line",
        &[
            "GET  / HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET / HTTP/1.1 \r\nhost: test\r\n\r\n",
            "GET /\r\nhost: test\r\n\r\n",
            "G@T / HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /a\tb HTTP/1.1\r\nhost: test\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
        ],
    );
}

#[test]
fn unsupported_versions_get_400() {
    expect_rejected(
        "unsupported_version",
        &[
            "GET / HTTP/2.0\r\nhost: test\r\n\r\n",
            "GET / HTTP/0.9\r\nhost: test\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
    );
}

#[test]
fn malformed_header_fields_get_400() {
    expect_rejected(
        "malformed_header",
        &[
            "GET / HTTP/1.1\r\nhost: test\r\na : b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: test\r\na: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: test\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: test\r\na: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: test\r\na: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: test\r\na: b\nc: d\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: test\r\n: b\r\n\r\n",
        ],
    );
}

#[test]
fn invalid_host_fields_get_400() {
    expect_rejected(
        "invalid_host",
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n",
        ],
    );
}

#[test]
fn ambiguous_body_lengths_get_400() {
    expect_rejected(
        "ambiguous_framing",
        &[
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3, 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: +3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 99999999999999999999\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn unsupported_methods_get_400() {
    expect_rejected(
        "unsupported_method",
        &["CONNECT test:443 HTTP/1.1\r\nhost: test:443\r\n\r\n", "TRACE / HTTP/1.1\r\nhost: test\r\n\r\n"],
    );
}

/// Well-formed requests that are rejected for their content. The connection may stay open.
#[track_caller]
fn expect_rejected_and_kept(cause: &str, requests: &[&str]) {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    for request in requests {
        let mut client = gateway.client();
        let response = client.exchange(SentRequest::Http11("GET"), request);
        assert_eq!(response.status, 400, "{request:?}: {response:#?}");
        if response.connection_usable {
            client.get("/").assert_response(200, "fine");
        } else {
            client.expect_close();
        }
    }
    gateway.expect_metric("errors_total", &[("code", "400"), ("cause", cause)], requests.len() as f64);
}

#[test]
fn ambiguous_paths_get_400() {
    expect_rejected_and_kept(
        "ambiguous_path",
        &[
            "GET /a/../b HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /a/./b HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /a/%2e%2E/b HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /a/.%2e/b HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /a\\b HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /a%00b HTTP/1.1\r\nhost: test\r\n\r\n",
            "GET /a%zz HTTP/1.1\r\nhost: test\r\n\r\n",
        ],
    );
}

#[test]
fn unknown_expectation_gets_400() {
    expect_rejected_and_kept(
        "unsupported_expectation",
        &["GET / HTTP/1.1\r\nhost: test\r\nexpect: a-miracle\r\n\r\n"],
    );
}

#[test]
fn oversized_header_section_is_rejected_by_its_oversized_part() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).set("client.max_header_bytes", "4KiB").start();
    let long = "x".repeat(5000);
    for request in [
        format!("GET / HTTP/1.1\r\nhost: test\r\na: {long}\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", "a: b\r\n".repeat(1000)),
        // Rejected before the header section is complete.
        format!("GET / HTTP/1.1\r\nhost: test\r\na: {long}"),
    ] {
        let mut client = gateway.client();
        client.send(request);
        client
            .read(SentRequest::Http11("GET"))
            .assert_local_reply_message(400, "The header fields of the request are too large.");
    }
    let mut client = gateway.client();
    client.send(format!("GET /{long} HTTP/1.1\r\nhost: test\r\n\r\n"));
    client
        .read(SentRequest::Http11("GET"))
        .assert_local_reply_message(400, "The URI of the request is too long.");
    gateway.expect_metric("errors_total", &[("cause", "header_too_large")], 3.0);
    gateway.expect_metric("errors_total", &[("cause", "uri_too_long")], 1.0);
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn unfinished_header_section_gets_400_at_the_header_timeout() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).set("client.header_timeout", "400ms").start();
    let started = Instant::now();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n");
    let mut writer = client.writer();
    let slow_writer = std::thread::spawn(move || {
        use std::io::Write;
        while writer.write_all(b"a: b\r\n").is_ok() && started.elapsed() < limit() {
            std::thread::sleep(Duration::from_millis(30));
        }
    });
    let response = client.read(SentRequest::Http11("GET"));
    response.assert_local_reply_message(400, "The request was not received in time.");
    let taken = started.elapsed();
    assert!(taken >= Duration::from_millis(380), "{taken:?}");
    slow_writer.join().unwrap();
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], 1.0);
}

#[test]
fn silent_connection_is_closed_without_response_and_counted() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).set("client.idle_timeout", "300ms").start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "");
    client.expect_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "idle_timeout")], 1.0);
    drop(gateway.client());
    gateway.expect_metric("closed_without_response_total", &[("cause", "no_request")], 1.0);
}

#[test]
fn disconnect_inside_the_header_section_is_counted_or_gets_400() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nho");
    client.shutdown_write();
    match client.try_read(SentRequest::Http11("GET")) {
        Ok(response) => assert_eq!(response.status, 400),
        Err(none) => {
            assert_eq!(none, NoResponse::Closed);
            gateway.expect_metric("closed_without_response_total", &[("cause", "client_gone")], 1.0);
        }
    }
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn malformed_body_framing_gets_400() {
    let upstream = ok_upstream("must not be served");
    let gateway = Gateway::with_upstream(&upstream).start();
    for body in ["zz\r\nabc\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "-1\r\n\r\n", "ffffffffffffffffff\r\n"]
    {
        let mut client = gateway.client();
        client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{body}"));
        let response = client.read(SentRequest::Http11("POST"));
        response.assert_local_reply_message(400, "The request body is malformed or incomplete.");
        client.expect_close();
    }
    gateway.expect_metric("errors_total", &[("cause", "malformed_body")], 4.0);
    assert!(upstream.recording().requests().all(|request| !request.complete));
}

#[test]
fn missing_body_gets_400_at_the_body_timeout() {
    let upstream = ok_upstream("must not be served");
    let gateway = Gateway::with_upstream(&upstream).set("client.body_timeout", "300ms").start();
    let started = Instant::now();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc");
    let response = client.read(SentRequest::Http11("POST"));
    response.assert_local_reply_message(400, "The request was not received in time.");
    assert!(started.elapsed() >= Duration::from_millis(280));
    client.expect_close();
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], 1.0);
    assert!(upstream.recording().requests().all(|request| !request.complete));
}
