//! Errors during uploads: the client can always read the response, however much it has yet to send.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::prelude::*;

const TOO_LARGE_MESSAGE: &str = "The request body is too large.";

#[test]
fn content_length_over_max_body_is_rejected_before_forwarding() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).set("client.max_body", "1KiB").start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1025\r\n\r\n");
    client.read(SentRequest::Http11("POST")).assert_local_reply_message(400, TOO_LARGE_MESSAGE);
    gateway.expect_metric("errors_total", &[("cause", "body_too_large")], 1.0);
    assert_eq!(upstream.request_count(), 0);
}

/// The whole body has arrived: its end is known, so that the next request can be read.
#[test]
fn refused_request_with_a_complete_body_keeps_the_connection() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: known, match: { path: /known }, upstream: main, cors: { allow_origins: [\"https://a.example\"] }")
        .start();
    let refused = [
        ("POST", "POST /unknown HTTP/1.1\r\nhost: test\r\n", 404),
        ("POST", "POST /a\\b HTTP/1.1\r\nhost: test\r\n", 400),
        ("POST", "POST /known HTTP/1.1\r\n", 400),
        ("TRACE", "TRACE /known HTTP/1.1\r\nhost: test\r\n", 400),
        (
            "OPTIONS",
            "OPTIONS /known HTTP/1.1\r\nhost: test\r\norigin: https://a.example\r\n\
             access-control-request-method: PUT\r\n",
            204,
        ),
    ];
    let bodies =
        ["content-length: 3\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n"];
    for (method, head, status) in refused {
        for body in bodies {
            let mut client = gateway.client();
            client.send(format!("{head}{body}GET /known HTTP/1.1\r\nhost: test\r\n\r\n"));
            let response = client.read(SentRequest::Http11(method));
            assert_eq!((response.status, response.header("connection")), (status, None), "{head}{body}");
            client.read(SentRequest::Http11("GET")).assert_response(200, "fine");
        }
    }
}

#[test]
fn refused_request_with_an_unfinished_chunked_body_closes_the_connection() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: known, match: { path: /known }, upstream: main")
        .start();
    let mut client = gateway.client();
    client.send("POST /unknown HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let response = client.read(SentRequest::Http11("POST"));
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
    client.expect_close();
}

/// The end of the connection must not wait for the rest of the body, which may never come.
#[test]
fn connection_of_a_slow_upload_is_shut_down_before_it_is_drained() {
    let upstream = ok_upstream("must not be served");
    let gateway = Gateway::with_upstream(&upstream).set("client.body_timeout", "300ms").start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc");
    let response = client.read(SentRequest::Http11("POST"));
    let answered = Instant::now();
    assert_eq!((response.status, response.header("connection")), (400, Some("close")));
    client.expect_close();
    let taken = answered.elapsed();
    assert!(taken < millis(1500), "{taken:?}");
}

#[test]
fn body_of_exactly_max_body_is_forwarded() {
    let upstream = ok_upstream("stored");
    let gateway = Gateway::with_upstream(&upstream).set("client.max_body", "1KiB").start();
    gateway.client().request("POST", "/", "", &"x".repeat(1024)).assert_response(200, "stored");
}

#[test]
fn chunked_body_over_max_body_is_rejected_and_never_completed_upstream() {
    let upstream = ok_upstream("must not be served");
    let gateway = Gateway::with_upstream(&upstream).set("client.max_body", "1KiB").start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(format!("400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(1024)));
    client.read(SentRequest::Http11("POST")).assert_local_reply_message(400, TOO_LARGE_MESSAGE);
    gateway.expect_metric("errors_total", &[("cause", "body_too_large")], 1.0);
    assert!(upstream.recording().requests().all(|request| !request.complete));
}

#[test]
fn route_max_body_overrides_the_global_one() {
    let upstream = ok_upstream("stored");
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.max_body", "1KiB")
        .route("name: large, match: { path: /large }, upstream: main, max_body: 1MiB")
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    client.request("POST", "/large", "", &"x".repeat(5000)).assert_response(200, "stored");
    client.send("POST /small HTTP/1.1\r\nhost: test\r\ncontent-length: 5000\r\n\r\n");
    client.read(SentRequest::Http11("POST")).assert_local_reply_message(400, TOO_LARGE_MESSAGE);
}

#[test]
fn early_error_is_readable_by_a_client_that_sends_everything_first() {
    let upstream =
        script([Step::ReadRequestHead, Step::Write(http_response("413 Too Large", "<p>")), Step::Stall]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 300_000));
    // A failing write is accepted: only the response matters.
    let _ = client.try_send("x".repeat(300_000));
    client.read(SentRequest::Http11("POST")).assert_local_reply(400);
}

#[test]
fn early_error_reaches_a_client_that_is_still_sending() {
    let upstream = script([
        Step::ReadRequestHead,
        Step::ReadBodyBytes(100_000),
        Step::Write(http_response("409 No", "<p>")),
        Step::Stall,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 8000000\r\n\r\n");
    let mut writer = client.writer();
    let sending = thread::spawn(move || writer.write_all(&vec![b'x'; 8_000_000]).is_ok());
    // The upstream stops reading the upload: a response that waited for the end of the upload would never arrive.
    client.read(SentRequest::Http11("POST")).assert_local_reply(409);
    drop(client);
    sending.join().unwrap();
}

#[test]
fn early_response_of_a_non_reading_upstream_is_forwarded() {
    let upstream = script([
        Step::ReadRequestHead,
        Step::ReadBodyBytes(1000),
        Step::Pause(Duration::from_millis(300)),
        Step::Write(http_response("200 OK", "enough")),
        Step::Stall,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 8000000\r\n\r\n");
    let mut writer = client.writer();
    let sending = thread::spawn(move || writer.write_all(&vec![b'x'; 8_000_000]).is_ok());
    client.wait_for("enough");
    drop(client);
    drop(gateway);
    sending.join().unwrap();
}

#[test]
fn rejected_upload_response_is_readable() {
    let refusing = refusing_port();
    let gateway = GatewaySetup::with_servers(&[refusing.address()]).start();
    let mut client = gateway.client();
    client.request("POST", "/", "", &"x".repeat(50_000)).assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_refused")], 1.0);
}

#[test]
fn disconnect_inside_the_body_is_counted_and_never_completed_upstream() {
    let upstream =
        script([Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response("200 OK", "stored"))]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().any(|request| request.body == b"abc")));
    client.reset();
    assert!(upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some()));
    gateway.expect_metric("client_disconnects_total", &[], 1.0);
    assert!(upstream.recording().requests().all(|request| !request.complete));
}

/// The rest of an upload must never be parsed as the next request: that would be request smuggling.
#[test]
fn rest_of_an_upload_after_an_early_response_is_not_parsed_as_request() {
    let upstream =
        script([Step::ReadRequestHead, Step::Write(http_response("200 OK", "early")), Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: 60\r\n\r\n");
    client.read(SentRequest::Http11("POST")).assert_response(200, "early");
    client.send("GET /smuggled HTTP/1.1\r\nhost: test\r\n\r\n");
    client.expect_close();
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn body_timeout_pauses_while_the_upstream_does_not_read() {
    let upstream = script([
        Step::ReadRequestHead,
        Step::Pause(millis(900)),
        Step::ReadBody,
        Step::Write(http_response("200 OK", "all of it")),
    ]);
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.body_timeout", "300ms")
        .set("client.max_body", "50MB")
        .start();
    let body = "x".repeat(30_000_000);
    gateway.client().request("POST", "/", "", &body).assert_response(200, "all of it");
}

#[test]
fn final_response_instead_of_100_has_connection_close() {
    let upstream = script([Step::ReadRequestHead, Step::Write(http_response("200 OK", "early"))]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    let response = client.read(SentRequest::Http11("POST"));
    response.assert_response(200, "early");
    assert!(response.has_connection_close(), "{response:#?}");
    client.expect_close();
}

#[test]
fn request_is_recorded_before_the_rest_of_its_body_is_awaited() {
    let conforming =
        http_response("404 Error\ncontent-type: application/json", r#"{"message":"No.","code":404}"#);
    let upstream = script([Step::ReadRequestHead, Step::Write(conforming), Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: denied, match: { path: /denied }, upstream: main, deny: { methods: [POST] }")
        .start();
    let mut client = gateway.client();
    for (path, status) in [("/denied", 403), ("/", 404)] {
        client.send(format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n123"));
        let response = client.read(SentRequest::Http11("POST"));
        assert_eq!(response.status, status);
        let id = response.header("x-request-id").unwrap().to_owned();
        let line = gateway.log_line(|line| line["request_id"] == id);
        assert_eq!(line["code"], status, "{line}");
        // The connection is kept: the gateway still waits for the rest.
        client.send("4567890");
    }
    assert_eq!(client.request("POST", "/denied", "", "").status, 403);
}
