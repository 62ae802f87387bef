//! HTTP/2 clients: the same contract as on HTTP/1.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::contract_check::check_local_reply;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame};
use super::tls_client::TlsClient;
use super::tls_listener::tls_gateway_with_alpn;

#[test]
fn successful_response_is_forwarded() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let mut client = gateway.h2_client();
    for _ in 0..2 {
        client.get("/a?b=c").assert_response(200, "fine");
    }
    let recording = upstream.recording();
    let head = &recording.requests().next().unwrap().head;
    assert_eq!(
        (head.target.as_str(), head.header("host"), head.version.as_str()),
        ("/a?b=c", Some("test"), "HTTP/1.1")
    );
    gateway.expect_metrics_match_responses();
}

#[test]
fn errors_are_handled_as_on_http1() {
    let (refusing, upstream) = (refusing_port(), html_upstream("502 Bad Gateway"));
    let gateway = Gateway::with_upstream(&upstream)
        .upstream("refusing", &[refusing.address()])
        .route("name: refused, match: { path: /refused }, upstream: refusing")
        .route("name: html, match: { path: /html }, upstream: main")
        .with_h2c_listener()
        .start();
    let mut client = gateway.h2_client();
    client.get("/html").assert_local_reply(504);
    client.get("/refused").assert_local_reply(504);
    client.get("/nowhere").assert_local_reply(404);
    assert_eq!(client.get("/a/../b").status, 400);
    let head = client.request("HEAD", "/refused", &[], Bytes::new());
    check_local_reply(&head, SentRequest::Http11("HEAD"), 504, "");
    assert_eq!(head.header("content-length"), client.get("/refused").header("content-length"));
    gateway.expect_metrics_match_responses();
}

#[test]
fn upstream_error_to_head_has_no_body() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 500 Oh\r\ncontent-type: text/html\r\ncontent-length: 900\r\n\r\n"),
    ]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let response = gateway.h2_client().request("HEAD", "/", &[], Bytes::new());
    check_local_reply(&response, SentRequest::Http11("HEAD"), 500, "");
}

#[test]
fn concurrent_streams_get_their_own_responses() {
    let upstream = by_request(|request| match request.path() {
        "/bad" => vec![Step::ReadRequestHead, Step::Write(http_response("503 Busy", "<p>"))],
        path => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", path))],
    });
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let paths = ["/1", "/bad", "/3", "/4", "/bad", "/6", "/7", "/8"];
    for (path, response) in paths.iter().zip(gateway.h2_client().get_all(&paths)) {
        if *path == "/bad" {
            response.assert_local_reply(503);
        } else {
            response.assert_response(200, path);
        }
    }
    gateway.expect_metrics_match_responses();
}

#[test]
fn large_upload_and_large_response_arrive_complete() {
    let upstream = script([Step::ReadRequestHead, Step::EchoBody]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let body = Bytes::from("0123456789abcdef".repeat(200_000));
    let response = gateway.h2_client().request("POST", "/", &[], body.clone());
    assert!(response.status == 200 && response.body == body, "{} bytes", response.body.len());
}

#[test]
fn early_error_during_an_upload_is_readable() {
    let upstream =
        script([Step::ReadRequestHead, Step::Write(http_response("413 Too Large", "<p>")), Step::Stall]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let mut client = gateway.h2_client();
    client.request("POST", "/", &[], Bytes::from(vec![b'x'; 2_000_000])).assert_local_reply(400);
    client.get("/a/../b");
}

#[test]
fn body_over_max_body_is_rejected() {
    let upstream = ok_upstream("must not be served");
    let gateway =
        Gateway::with_upstream(&upstream).set("client.max_body", "1KiB").with_h2c_listener().start();
    let response = gateway.h2_client().request("POST", "/", &[], Bytes::from(vec![b'x'; 5000]));
    response.assert_local_reply_message(400, "The request body is too large.");
    assert!(upstream.recording().requests().all(|request| !request.complete));
}

#[test]
fn truncated_response_resets_only_its_own_stream() {
    let upstream = by_request(|request| match request.path() {
        "/cut" => {
            vec![
                Step::ReadRequestHead,
                write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nnine byte"),
                Step::Close,
            ]
        }
        _ => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "fine"))],
    });
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let mut client = gateway.h2_client();
    let response = client.get("/cut");
    assert_eq!(
        (response.status, matches!(response.end, ResponseEnd::Reset { .. })),
        (200, true),
        "{response:#?}"
    );
    client.get("/").assert_response(200, "fine");
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
}

#[test]
fn multiple_cookie_fields_are_joined() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    gateway
        .h2_client()
        .request("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2")], Bytes::new())
        .assert_response(200, "");
    let recording = upstream.recording();
    assert_eq!(recording.requests().next().unwrap().head.header("cookie"), Some("a=1; b=2"));
}

#[test]
fn panic_ends_one_stream_with_a_documented_500() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .with_h2c_listener()
        .environment("STATUSQUO_TEST_PANIC", "1")
        .may_panic()
        .start();
    let mut client = gateway.h2_client();
    client.get("/__panic").assert_local_reply(500);
    client.get("/").assert_response(200, "fine");
}

/// Clients of other protocols get an HTTP/1 response: immediately if the bytes cannot become HTTP/2, otherwise at the
/// timeout.
#[test]
fn http2_listener_closes_clients_of_other_protocols() {
    let upstream = ok_upstream("must not be reached");
    let limit = Duration::from_millis(500);
    let gateway =
        Gateway::with_upstream(&upstream).with_h2c_listener().set("client.header_timeout", "500ms").start();
    let table = [
        ("\x16\x03\x01", "The HTTP version of the request is not supported.", false),
        ("abc", "The HTTP version of the request is not supported.", false),
        ("GET", "The HTTP version of the request is not supported.", false),
        ("GET / HTTP/1.1\r\nhost: test\r\n\r\n", "The HTTP version of the request is not supported.", false),
        ("PRI * HTTP/2.0\r\n\r\nSX", "The HTTP version of the request is not supported.", false),
        ("PUT / HTTP/1.1\r\n", "The HTTP version of the request is not supported.", false),
        ("P", "The request was not received in time.", true),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n", "The request was not received in time.", true),
    ];
    for (bytes, message, waits) in table {
        let started = Instant::now();
        let mut client = Client::connect(gateway.h2_address(), Default::default());
        client.send(bytes);
        let response = client.read(SentRequest::Http11("GET"));
        response.assert_local_reply_message(400, message);
        assert!(response.has_connection_close() && (!waits || started.elapsed() >= limit), "{bytes:?}");
        client.expect_close();
    }
    gateway.expect_metric("errors_total", &[("cause", "unsupported_version")], 6.0);
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], 2.0);
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    // A connection without bytes, and one that ends inside the preface.
    drop(TcpStream::connect(gateway.h2_address()).unwrap());
    gateway.expect_metric("closed_without_response_total", &[("cause", "no_request")], 1.0);
    let mut client = Client::connect(gateway.h2_address(), Default::default());
    client.send("PRI * HT");
    client.shutdown_write();
    client
        .read(SentRequest::Http11("GET"))
        .assert_local_reply_message(400, "The request is not a valid HTTP request.");
    gateway.h2_client().get("/").assert_response(200, "must not be reached");
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn idle_http2_connection_closed_by_drain_is_counted() {
    let gate = Gate::new();
    let waits = gate.clone();
    let upstream = by_request(move |request| match request.path() {
        "/slow" => vec![
            Step::ReadRequestHead,
            Step::WaitForGate(waits.clone()),
            Step::Write(http_response("200 OK", "slow")),
        ],
        _ => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "quick"))],
    });
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let mut kept = gateway.h2_client();
    kept.get("/").assert_response(200, "quick");
    let mut busy = gateway.client();
    busy.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests_for("/slow") == 1));
    gateway.send_sigterm();
    gateway.expect_metric("closed_without_response_total", &[("cause", "drain")], 1.0);
    assert!(kept.try_request("GET", "/", &[], Bytes::new()).is_err());
    gate.open();
    busy.read(SentRequest::Http11("GET")).assert_response(200, "slow");
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn interim_responses_precede_the_final_response() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"),
        write_bytes("HTTP/1.1 102 Processing\r\n\r\n"),
        Step::Write(http_response("200 OK", "fine")),
    ]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let response = gateway.h2_client().get("/");
    response.assert_response(200, "fine");
    let link = ("link".to_owned(), "</a.css>; rel=preload".to_owned());
    assert_eq!(response.interim, [(103, vec![link]), (102, Vec::new())]);
}

#[test]
fn http2_connection_that_ends_before_a_complete_request_is_counted_once() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let closed = |cause, expected| {
        gateway.expect_metric("closed_without_response_total", &[("cause", cause)], expected);
    };
    let get = get_frame(1);
    let address = gateway.h2_address();
    drop(RawH2Client::connect(address, &[], &[]));
    closed("no_request", 1.0);
    // Half a frame, and a complete frame of an incomplete header block.
    drop(RawH2Client::connect(address, &[], &get[..get.len() / 2]));
    closed("client_gone", 1.0);
    let mut incomplete = get.clone();
    incomplete[4] = 0;
    drop(RawH2Client::connect(address, &[], &incomplete));
    closed("client_gone", 2.0);
    // After a response.
    let mut client = RawH2Client::connect(address, &[], &get);
    client.expect_fine(1);
    let next = get_frame(3);
    client.send(&next[..next.len() / 2]);
    drop(client);
    closed("client_gone", 3.0);
    RawH2Client::connect(address, &[], &get).expect_fine(1);
    gateway.client().get("/").assert_response(200, "fine");
    closed("no_request", 1.0);
    gateway.expect_metric("closed_without_response_total", &[], 4.0);
}

#[test]
fn tls_connection_that_selects_http2_and_closes_has_sent_no_request() {
    let upstream = ok_upstream("fine");
    let (gateway, trusting) = tls_gateway_with_alpn(Gateway::with_upstream(&upstream), &["h2"]);
    drop(TlsClient::connect(gateway.address(), "test", &trusting));
    gateway.expect_metric("closed_without_response_total", &[("cause", "no_request")], 1.0);
    gateway.expect_metric("closed_without_response_total", &[], 1.0);
}

/// The `h2` crate discards what it has not written when a stream is reset.
#[test]
fn bytes_received_before_a_truncation_reach_http2_clients() {
    let body = "x".repeat(100_000);
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n";
    let upstream = script([Step::ReadRequestHead, write_bytes(format!("{head}{body}")), Step::Close]);
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    for _ in 0..20 {
        let response = gateway.h2_client().get("/");
        assert_eq!((response.status, response.body.len()), (200, body.len()));
        assert_ne!(response.end, ResponseEnd::Complete);
    }
}
