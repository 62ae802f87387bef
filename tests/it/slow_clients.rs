//! Regression tests for attacks on a running gateway by slow and malformed clients, one test each.
//!
//! Clients that stall, send slowly, send partial requests or never read, on HTTP/1 and HTTP/2. Cases that fit a fault
//! table or another file are there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::connections::hold_place;
use super::prelude::*;
use super::raw_h2_client::{RawH2Client, get_frame};

/// More than the kernel buffers of both sides hold.
fn endless_body() -> Vec<Step> {
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    vec![
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        Step::WriteRepeated { bytes: chunk.into(), count: u64::MAX, interval: Duration::ZERO },
    ]
}

/// A connection with the smallest possible receive buffer.
fn connect_small_rcvbuf(address: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(limit())).unwrap();
    TcpStream::from(socket)
}

#[test]
fn non_reading_client_is_closed_after_one_write_timeout() {
    let upstream = script(endless_body());
    let gateway = Gateway::with_upstream(&upstream).set("client.write_timeout", "6s").start();
    let started = Instant::now();
    let mut client = connect_small_rcvbuf(gateway.address());
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    // The time limit is below twice the write timeout.
    gateway.wait_for_metric(millis(11_000), "aborted_total", &[("cause", "client_too_slow")], 1.0);
    let taken = started.elapsed();
    assert!(taken >= Duration::from_millis(5950), "{taken:?}");
}

/// The kernel reports a socket as writable only when a third of its send buffer is free: megabytes, by default.
#[test]
fn slow_reading_client_is_not_treated_as_non_reading() {
    let upstream = script(endless_body());
    let gateway = Gateway::with_upstream(&upstream).set("client.write_timeout", "600ms").start();
    let mut client = connect_small_rcvbuf(gateway.address());
    client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
    let started = Instant::now();
    let mut buffer = vec![0; 32 * 1024];
    while started.elapsed() < millis(2000) {
        std::thread::sleep(Duration::from_millis(100)); // slow client under test
        client.read_exact(&mut buffer).unwrap();
    }
    assert_eq!(gateway.metric("aborted_total", &[]), 0.0);
}

#[test]
fn connection_is_kept_when_an_upload_ends_after_an_early_response() {
    let early =
        vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "early")), Step::ReadUntilClose];
    for chunked in [false, true] {
        let upstream = super::scripted_upstreams::scripts([early.clone(), endless_ok()]);
        let gateway = Gateway::with_upstream(&upstream).start();
        let mut client = gateway.client();
        let (framing, rest) = if chunked {
            ("transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")
        } else {
            ("content-length: 3", "abc")
        };
        client.send(format!("POST / HTTP/1.1\r\nhost: test\r\n{framing}\r\n\r\n"));
        client.read(SentRequest::Http11("POST")).assert_response(200, "early");
        client.send(rest);
        client.get("/").assert_response(200, "next");
    }
}

fn endless_ok() -> Vec<Step> {
    vec![Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response("200 OK", "next"))]
}

#[test]
fn early_response_is_readable_after_sending_30_mb_first() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 30000000\r\n\r\n");
    client.send(vec![b'x'; 30_000_000]);
    let response = client.read(SentRequest::Http11("POST"));
    response.assert_local_reply_message(400, "The request body is too large.");
    assert!(response.has_connection_close());
    client.expect_close();
}

#[test]
fn http10_request_without_host_is_forwarded_with_the_upstream_host() {
    let upstream = ok_upstream("old");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway
        .client()
        .exchange(SentRequest::Http10("GET"), "GET / HTTP/1.0\r\n\r\n")
        .assert_response(200, "old");
    let seen = upstream.recording();
    let head = &seen.requests().next().unwrap().head;
    assert_eq!(head.header("host"), Some(upstream.address().to_string().as_str()));
    assert_eq!(head.header("x-forwarded-host"), None);
}

#[test]
fn rejected_head_request_gets_no_body() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).set("client.header_timeout", "300ms").start();
    let rejected = |client: &mut Client, head: &str| {
        client.send(head);
        let response = client.read(SentRequest::Http11("HEAD"));
        assert_eq!(response.status, 400, "{head:?}");
        assert!(response.header("content-length").is_some_and(|length| length != "0"), "{response:#?}");
    };
    let mut client = gateway.client();
    rejected(&mut client, "HEAD / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n");
    for head in [
        "HEAD / HTTP/1.1\r\nhost : a\r\n\r\n",
        "HEAD / HTTP/7.7\r\nhost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nhost: a\r\n",
    ] {
        rejected(&mut client, head);
        client.expect_close();
        client = gateway.client();
    }
}

/// RFC 9112 2.2: old clients send an empty line after a body.
#[test]
fn lone_empty_line_is_not_counted_as_a_request() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.header_timeout", "300ms")
        .set("client.idle_timeout", "900ms")
        .start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\nabc\r\n");
    client.read(SentRequest::Http11("POST")).assert_response(200, "fine");
    std::thread::sleep(millis(500)); // longer than the header timeout
    client.get("/").assert_response(200, "fine");
    client.send("\r\n");
    client.expect_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "idle_timeout")], 1.0);
    let mut early = gateway.client();
    early.send("\r\n");
    early.shutdown_write();
    early.expect_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "no_request")], 1.0);
    gateway.expect_metric("responses_total", &[("code", "400")], 0.0);
}

#[test]
fn idle_connection_closed_by_drain_is_counted() {
    let gate = Gate::new();
    let upstream = super::scripted_upstreams::by_request({
        let gate = gate.clone();
        move |request| match request.path() {
            "/slow" => {
                vec![
                    Step::ReadRequestHead,
                    Step::WaitForGate(gate.clone()),
                    Step::Write(http_response("200 OK", "slow")),
                ]
            }
            _ => vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "quick"))],
        }
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut kept = gateway.client();
    kept.get("/").assert_response(200, "quick");
    let mut busy = gateway.client();
    busy.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests_for("/slow") == 1));
    gateway.send_sigterm();
    kept.expect_close();
    gateway.expect_metric("closed_without_response_total", &[("cause", "drain")], 1.0);
    gate.open();
    busy.read(SentRequest::Http11("GET")).assert_response(200, "slow");
}

/// Half the time that an idle connection stays open after draining has begun (`DRAIN_IDLE_GRACE`).
const SENT_IN_TIME: Duration = Duration::from_millis(500);

/// A client cannot know about the coming close: its request may already be in transit.
#[test]
fn request_received_as_drain_starts_gets_a_response() {
    let deadline = Instant::now() + limit();
    // On a busy machine the request may be sent too late: such a try shows nothing.
    while !drain_while_a_request_is_in_transit() {
        assert!(Instant::now() < deadline, "no request was sent within the grace of a drain");
    }
}

/// Starts draining and sends a request on an idle connection. Returns `false` if it was sent too late.
fn drain_while_a_request_is_in_transit() -> bool {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    let signalled = Instant::now();
    gateway.send_sigterm();
    // Draining has begun when new connections are refused.
    while TcpStream::connect(gateway.address()).is_ok() {
        if signalled.elapsed() >= SENT_IN_TIME {
            return false;
        }
    }
    let sent = client.try_send("GET / HTTP/1.1\r\nhost: test\r\n\r\n").is_ok();
    if signalled.elapsed() >= SENT_IN_TIME {
        return false;
    }
    assert!(sent, "the idle connection was closed before the grace ended");
    let response = client.read(SentRequest::Http11("GET"));
    response.assert_response(200, "fine");
    assert!(response.has_connection_close());
    client.expect_close();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
    true
}

/// Regression: the first timer of the process had a duration of 0, which the timer could not count.
#[test]
fn gateway_without_requests_shuts_down_cleanly() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway.send_sigterm();
    assert_eq!(gateway.wait_for_exit(limit()).code(), Some(0));
}

#[test]
fn connection_over_the_limit_is_closed_at_header_timeout() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.max_connections", "1")
        .set("client.header_timeout", "300ms")
        .start();
    let mut first = hold_place(&gateway, 1);
    let mut second = gateway.client();
    assert_eq!(second.read_close(), NoResponse::Closed);
    first.get("/").assert_response(200, "fine");
}

#[test]
fn http2_connection_over_the_limit_gets_503() {
    let upstream = ok_upstream("fine");
    let gateway =
        Gateway::with_upstream(&upstream).set("client.max_connections", "1").with_h2c_listener().start();
    let _first = hold_place(&gateway, 1);
    gateway.h2_client().get("/").assert_local_reply(503);
    gateway.expect_metric("errors_total", &[("cause", "connection_limit_reached")], 1.0);
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn framing_fields_with_underscores_are_rejected_on_http2() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream).with_h2c_listener().start();
    let mut client = gateway.h2_client();
    for field in [("transfer_encoding", "chunked"), ("content_length", "5"), ("content-length_", "5")] {
        let response = client.request("POST", "/", &[field], Bytes::from_static(b"body"));
        let expected = if field.0.ends_with('_') { 200 } else { 400 };
        assert_eq!(response.status, expected, "{field:?}: {response:#?}");
    }
    gateway.expect_metric("errors_total", &[("cause", "ambiguous_framing")], 2.0);
}

/// A preface and an empty SETTINGS frame, then nothing: not even an acknowledgement of the PING sent with GOAWAY.
#[test]
fn unresponsive_http2_client_does_not_hold_its_connection() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream)
        .set("client.idle_timeout", "300ms")
        .set("client.header_timeout", "400ms")
        .with_h2c_listener()
        .start();
    let mut client = TcpStream::connect(gateway.h2_address()).unwrap();
    client.set_read_timeout(Some(limit())).unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    gateway.expect_metric("connections", &[("listener", &gateway.h2_address().to_string())], 0.0);
}

#[test]
fn client_not_reading_local_replies_is_counted_as_too_slow() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: one, match: { path: /one }, upstream: main")
        .set("client.write_timeout", "300ms")
        .start();
    let mut client = connect_small_rcvbuf(gateway.address());
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // Every request gets 404, and the client reads no response.
    while client.write_all(b"GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n".repeat(100).as_slice()).is_ok() {}
    gateway.expect_metric("aborted_total", &[("cause", "client_too_slow")], 1.0);
    gateway.expect_metric("aborted_total", &[], 1.0);
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    expect_too_slow(&gateway);
}

#[test]
fn http2_client_with_a_closed_window_is_too_slow_for_a_local_reply() {
    let upstream = ok_upstream("must not be reached");
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: one, match: { path: /one }, upstream: main")
        .set("client.write_timeout", "300ms")
        .with_h2c_listener()
        .start();
    let _client = RawH2Client::connect(gateway.h2_address(), &[(4, 0)], &get_frame(1));
    gateway.wait_for_metric(limit(), "aborted_total", &[("cause", "client_too_slow")], 1.0);
    gateway.expect_metric("aborted_total", &[], 1.0);
    expect_too_slow(&gateway);
}

/// The reply is logged like a relayed response that the client does not read: the client is still connected.
fn expect_too_slow(gateway: &Gateway) {
    let line = gateway.log_line(|line| line["cause"] == "client_too_slow");
    assert_eq!((&line["outcome"], &line["code"]), (&"aborted".into(), &404.into()), "{line:#}");
    gateway.expect_metric("client_disconnects_total", &[], 0.0);
}

/// What arrives from the upstream meanwhile is no progress of the client.
#[test]
fn client_that_reads_none_of_a_slow_stream_is_closed_after_the_write_timeout() {
    let slow_stream = vec![
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        Step::WriteRepeated { bytes: "1\r\nx\r\n".into(), count: u64::MAX, interval: millis(50) },
    ];
    let upstream = script(slow_stream);
    let gateway =
        Gateway::with_upstream(&upstream).with_h2c_listener().set("client.write_timeout", "600ms").start();
    // A window of four bytes, which the client never extends.
    let _client = RawH2Client::connect(gateway.h2_address(), &[(4, 4)], &get_frame(1));
    gateway.wait_for_metric(limit(), "aborted_total", &[("cause", "client_too_slow")], 1.0);
}
