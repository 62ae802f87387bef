//! Streaming: bodies and interim responses are forwarded without buffering, in both directions.

use statusquo::conformance::{FaultyUpstream, ServerKind};

use super::prelude::*;

#[test]
fn request_and_response_bodies_stream_concurrently() {
    let upstream = script([Step::ReadRequestHead, Step::EchoBody]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    for part in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len()));
        client.wait_for(part);
    }
    client.send("0\r\n\r\n");
    client.read(SentRequest::Http11("POST")).assert_response(200, "onetwothree");
    assert_eq!(upstream.recording().requests().next().unwrap().body, b"onetwothree");
}

#[test]
fn response_bytes_are_forwarded_before_the_body_ends() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n",
        ),
        Step::WaitForGate(gate.clone()),
        write_bytes("8\r\ndata: 2\n\r\n0\r\n\r\n"),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("data: 1\n");
    gate.open();
    client.read(SentRequest::Http11("GET")).assert_response(200, "data: 1\ndata: 2\n");
}

#[test]
fn response_headers_are_forwarded_before_the_body() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"),
        Step::WaitForGate(gate.clone()),
        write_bytes("body"),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("\r\n\r\n");
    gate.open();
    client.read(SentRequest::Http11("GET")).assert_response(200, "body");
}

#[test]
fn response_of_1_mb_arrives_unchanged() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)]).start();
    let response = gateway.client().get("/bytes/1000001");
    let pattern = statusquo::conformance::success_routes::PATTERN;
    let expected: Vec<u8> = pattern.bytes().cycle().take(1_000_001).collect();
    assert!(response.status == 200 && response.body == expected, "{} bytes", response.body.len());
}

#[test]
fn upload_of_several_mb_arrives_unchanged() {
    let upstream =
        script([Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response("200 OK", "stored"))]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let body = "0123456789abcdef".repeat(50_000);
    gateway.client().request("PUT", "/", "", &body).assert_response(200, "stored");
    assert_eq!(
        String::from_utf8(upstream.recording().requests().next().unwrap().body.clone()).unwrap(),
        body
    );
}

#[test]
fn early_hints_are_forwarded_before_the_final_response() {
    let gate = Gate::new();
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"),
        Step::WaitForGate(gate.clone()),
        Step::Write(http_response("200 OK", "page")),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("103 ");
    gate.open();
    let response = client.read(SentRequest::Http11("GET"));
    response.assert_response(200, "page");
    assert_eq!(response.interim.len(), 1);
    assert!(response.interim[0].1.contains(&("link".to_owned(), "</a.css>; rel=preload".to_owned())));
    gateway.expect_metric("responses_total", &[], 1.0);
}

#[test]
fn error_after_early_hints_is_still_documented() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"),
        Step::Close,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().get("/");
    response.assert_local_reply(504);
    assert_eq!(response.interim.len(), 1);
}

#[test]
fn http10_client_gets_no_interim_responses() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"),
        Step::Write(http_response("200 OK", "page")),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway
        .client()
        .exchange(SentRequest::Http10("GET"), "GET / HTTP/1.0\r\nhost: test\r\n\r\n")
        .assert_response(200, "page");
}

#[test]
fn at_most_16_interim_responses_are_forwarded() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n".repeat(40);
    let upstream =
        script([Step::ReadRequestHead, write_bytes(hints), Step::Write(http_response("200 OK", "page"))]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let response = gateway.client().get("/");
    assert!(response.interim.len() <= 16, "{}", response.interim.len());
    assert!(response.status == 200 || response.status == 504, "{response:#?}");
}

#[test]
fn expect_continue_is_forwarded_and_the_body_follows_100() {
    let upstream = script([
        Step::ReadRequestHead,
        Step::SendContinue,
        Step::ReadBody,
        Step::Write(http_response("201 Created", "stored")),
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n");
    client.wait_for("100 Continue\r\n\r\n");
    client.send("body");
    let response = client.read(SentRequest::Http11("PUT"));
    response.assert_response(201, "stored");
    assert_eq!(response.interim.len(), 1);
    assert_eq!(upstream.recording().requests().next().unwrap().body, b"body");
}

#[test]
fn expect_continue_gets_an_early_error_and_no_body_is_sent() {
    let upstream = script([
        Step::ReadRequestHead,
        Step::Write(http_response("401 No\ncontent-type: text/html", "<p>")),
        Step::ReadUntilClose,
    ]);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n");
    let response = client.read(SentRequest::Http11("PUT"));
    response.assert_local_reply(401);
    assert!(response.has_connection_close(), "the client may or may not send the body: {response:#?}");
    client.expect_close();
    assert!(upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some()));
}

#[test]
fn connection_with_an_interim_response_that_declares_a_body_is_not_reused() {
    // The server might send that body as the start of the next response.
    for (interim, connections) in [
        ("103 Early Hints\r\ncontent-length: 5", 2),
        ("100 Continue\r\ncontent-length: 1", 2),
        ("102 Processing\r\ntransfer-encoding: chunked", 2),
        ("103 Early Hints\r\ncontent-length: 5\r\n\r\nHTTP/1.1 103 Early Hints", 2),
        ("103 Early Hints\r\ncontent-length: 0", 1),
        ("103 Early Hints\r\nlink: </a.css>", 1),
    ] {
        let response = http_response("200 OK", "page");
        let upstream =
            static_response([format!("HTTP/1.1 {interim}\r\n\r\n").into_bytes(), response.to_vec()].concat());
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            client.get("/").assert_response(200, "page");
        }
        assert_eq!(upstream.connection_count(), connections, "{interim}");
    }
}
