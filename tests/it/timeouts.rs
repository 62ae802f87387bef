//! Upstream timeouts: each covers the whole of its phase and cannot be extended by slow bytes.

use std::time::{Duration, Instant};

use statusquo::conformance::FullBacklog;

use super::prelude::*;

/// Asserts the error and that it arrived not before this time. The upper bound is left to `make bench`: the machine may
/// be busy.
#[track_caller]
fn get_within(client: &mut Client, limit: Duration) -> HttpResponse {
    let started = Instant::now();
    let response = client.get("/");
    let taken = started.elapsed();
    assert!(taken >= limit, "too early: {taken:?}");
    response
}

/// No phase timeout may exceed the deadline.
fn with_400ms_deadline(setup: GatewaySetup) -> GatewaySetup {
    setup
        .set("timeouts.deadline", "400ms")
        .set("timeouts.response_headers", "400ms")
        .set("timeouts.connect", "400ms")
}

const SHORT_LIMIT: Duration = Duration::from_millis(400);

#[test]
fn stalled_upstream_gets_504_at_response_headers_timeout_without_retry() {
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream).set("timeouts.response_headers", "400ms").start();
    let mut client = gateway.client();
    let response = get_within(&mut client, SHORT_LIMIT);
    response.assert_local_reply(504);
    assert!(response.connection_usable);
    assert_eq!(upstream.request_count(), 1);
    gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
}

#[test]
fn slow_response_headers_do_not_extend_their_timeout() {
    let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-padding: 0123456789\r\n".repeat(100));
    let upstream = script([
        Step::ReadRequestHead,
        Step::WriteSlowly { bytes: head.into(), interval: Duration::from_millis(20) },
    ]);
    let gateway = Gateway::with_upstream(&upstream).set("timeouts.response_headers", "400ms").start();
    get_within(&mut gateway.client(), SHORT_LIMIT).assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
}

#[test]
fn interim_responses_do_not_extend_the_response_headers_timeout() {
    let upstream = script([
        Step::ReadRequestHead,
        Step::WriteRepeated {
            bytes: "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n".into(),
            // A timeout renewed by each interim response would never expire: there are more than the gateway forwards.
            count: 20,
            interval: millis(100),
        },
        Step::ReadUntilClose,
    ]);
    let gateway = Gateway::with_upstream(&upstream).set("timeouts.response_headers", "400ms").start();
    get_within(&mut gateway.client(), SHORT_LIMIT).assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
}

#[test]
fn deadline_is_exact_regardless_of_attempt_timeouts() {
    let success = vec![Step::ReadRequestHead, Step::Write(http_response("200 OK", "kept"))];
    let closing = vec![Step::ReadRequestHead, Step::Pause(Duration::from_millis(200)), Step::Close];
    let upstream = scripts([success, closing, vec![Step::ReadRequestHead, Step::ReadUntilClose]]);
    let gateway = with_400ms_deadline(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "kept");
    // The close of the kept connection is retried on a new one, which hangs.
    get_within(&mut client, SHORT_LIMIT).assert_local_reply(504);
    assert_eq!(upstream.request_count(), 3);
    gateway.expect_metric("errors_total", &[("cause", "deadline_exceeded")], 1.0);
}

#[test]
fn unanswered_connection_attempt_ends_at_the_connect_timeout() {
    let full = FullBacklog::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[full.address()])
        .set("timeouts.connect", "400ms")
        .set("upstream.retry", "{ attempts: 1 }")
        .start();
    get_within(&mut gateway.client(), SHORT_LIMIT).assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_timeout")], 1.0);
}

#[test]
fn connection_timeout_is_retried_on_another_server() {
    let (full, available) = (FullBacklog::start().unwrap(), ok_upstream("good"));
    let gateway = GatewaySetup::with_servers(&[full.address(), available.address()])
        .set("timeouts.connect", "400ms")
        .set("upstream.retry", "{ attempts: 3 }")
        .start();
    let mut client = gateway.client();
    // Round robin: one of two requests goes to the server with a full backlog first.
    let statuses = [client.get("/").status, client.get("/").status];
    assert_eq!((statuses, available.request_count()), ([200, 200], 2));
    gateway.expect_metric("errors_total", &[("cause", "connection_timeout")], 0.0);
    gateway.expect_metric("upstream_attempts_total", &[("result", "connection_timeout")], 1.0);
    gateway.expect_metric("upstream_attempts_total", &[], 3.0);
    gateway.expect_metric("upstream_retries_total", &[], 1.0);
}

#[test]
fn slow_error_body_is_replaced_at_its_timeout() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 404 Not Found\r\ncontent-length: 50\r\n\r\n{\"mess"),
        Step::ReadUntilClose,
    ]);
    let gateway = Gateway::with_upstream(&upstream)
        .set("errors.upstream_body", "{ limit: 64KiB, timeout: 400ms }")
        .start();
    get_within(&mut gateway.client(), SHORT_LIMIT).assert_local_reply(404);
    gateway.expect_metric("conformance_total", &[("result", "incomplete")], 1.0);
}

#[test]
fn route_timeouts_override_global_ones() {
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: fast, match: { path: / }, upstream: main, timeouts: { response_headers: 400ms }")
        .start();
    get_within(&mut gateway.client(), SHORT_LIMIT).assert_local_reply(504);
}

#[test]
fn long_download_is_not_limited_by_the_deadline() {
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
        Step::WriteSlowly { bytes: "0123456789".into(), interval: millis(80) },
    ]);
    let gateway = with_400ms_deadline(Gateway::with_upstream(&upstream)).start();
    gateway.client().get("/").assert_response(200, "0123456789");
}

#[test]
fn deadline_pauses_while_the_client_uploads() {
    let upstream =
        script([Step::ReadRequestHead, Step::ReadBody, Step::Write(http_response("200 OK", "thanks"))]);
    let gateway = with_400ms_deadline(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\n");
    for _ in 0..6 {
        std::thread::sleep(millis(120)); // slow client under test
        client.send("x");
    }
    client.read(super::response_reader::SentRequest::Http11("POST")).assert_response(200, "thanks");
}

#[test]
fn non_reading_upstream_gets_504_after_the_write_timeout() {
    let upstream = script([Step::ReadRequestHead, Step::Stall]);
    let gateway = Gateway::with_upstream(&upstream)
        .set("timeouts.body_idle", "400ms")
        .set("client.max_body", "100MB")
        .start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 64000000\r\n\r\n");
    let started = Instant::now();
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &vec![b'x'; 64_000_000]));
    client.read(super::response_reader::SentRequest::Http11("POST")).assert_local_reply(504);
    assert!(started.elapsed() >= SHORT_LIMIT);
    gateway.expect_metric("errors_total", &[("cause", "connection_write_timeout")], 1.0);
    gateway.expect_metric("upstream_attempts_total", &[("result", "connection_write_timeout")], 1.0);
    let line = gateway.log_line(|line| line["cause"] == "connection_write_timeout");
    assert_eq!(line["request_sent"], "partial");
    drop(client);
    let _ = sending.join().unwrap();
}

#[test]
fn slow_reading_upstream_is_not_treated_as_non_reading() {
    let reads = (1..=12).flat_map(|part| [Step::ReadBodyBytes(part * 1_000_000), Step::Pause(millis(100))]);
    let steps = std::iter::once(Step::ReadRequestHead).chain(reads);
    let upstream = script(steps.chain([Step::ReadBody, Step::Write(http_response("200 OK", "thanks"))]));
    let gateway = Gateway::with_upstream(&upstream)
        .set("timeouts.body_idle", "600ms")
        .set("client.max_body", "100MB")
        .start();
    let body = "x".repeat(12_000_000);
    gateway.client().request("POST", "/", "", &body).assert_response(200, "thanks");
}
