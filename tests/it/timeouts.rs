//! Time limits towards the upstream: each is on the whole of what it names, and none is overrun by a drip of bytes.

use std::time::{Duration, Instant};

use statusquo::rehearse::{FullBacklog, UpstreamStep, http_response, write_bytes};

use super::client::Client;
use super::gateway::{Gateway, Setup};
use super::load::millis;
use super::reader::Answer;
use super::upstreams::{ok, script, scripts};

/// The answer, and that it came not before this time. How much later is for `make bench` to say: here the machine is busy.
#[track_caller]
fn within(client: &mut Client, limit: Duration) -> Answer {
    let begun = Instant::now();
    let answer = client.get("/");
    let taken = begun.elapsed();
    assert!(taken >= limit, "too early: {taken:?}");
    answer
}

/// No part may be longer than the whole.
fn total_of_400ms(setup: Setup) -> Setup {
    setup
        .set("timeouts.total", "400ms")
        .set("timeouts.response_head", "400ms")
        .set("timeouts.connect", "400ms")
}

const LIMIT: Duration = Duration::from_millis(400);

#[test]
fn an_upstream_that_never_answers_is_answered_for_at_its_limit_and_asked_once() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream).set("timeouts.response_head", "400ms").start();
    let mut client = gateway.client();
    let answer = within(&mut client, LIMIT);
    answer.is_made(504);
    assert!(answer.connection_usable);
    assert_eq!(upstream.request_count(), 1);
    gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
}

#[test]
fn a_dripped_head_does_not_renew_its_limit() {
    let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-padding: 0123456789\r\n".repeat(100));
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::WriteSlowly { bytes: head.into(), interval: Duration::from_millis(20) },
    ]);
    let gateway = Gateway::in_front_of(&upstream).set("timeouts.response_head", "400ms").start();
    within(&mut gateway.client(), LIMIT).is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
}

#[test]
fn interim_responses_do_not_renew_the_limit_of_the_head() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::WriteRepeated {
            bytes: "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n".into(),
            // A limit that each of them renewed would never strike: there are more than a gateway passes on.
            count: 20,
            interval: millis(100),
        },
        UpstreamStep::ReadUntilClose,
    ]);
    let gateway = Gateway::in_front_of(&upstream).set("timeouts.response_head", "400ms").start();
    within(&mut gateway.client(), LIMIT).is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "http_response_timeout")], 1.0);
}

#[test]
fn the_total_limit_is_exact_whatever_the_attempts_would_still_have() {
    let closing = vec![
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Pause(Duration::from_millis(200)),
        UpstreamStep::Close,
    ];
    let upstream = scripts([closing, vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]]);
    let gateway = total_of_400ms(Gateway::in_front_of(&upstream)).start();
    within(&mut gateway.client(), LIMIT).is_made(504);
    assert_eq!(upstream.request_count(), 2);
    gateway.expect_metric("errors_total", &[("cause", "deadline_exceeded")], 1.0);
}

#[test]
fn a_connection_attempt_without_an_answer_ends_at_its_limit() {
    let full = FullBacklog::start().unwrap();
    let gateway = Setup::of_servers(&[full.address()])
        .set("timeouts.connect", "400ms")
        .set("upstream.retry", "{ attempts: 1 }")
        .start();
    within(&mut gateway.client(), LIMIT).is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_timeout")], 1.0);
}

#[test]
fn connection_timeout_is_not_retried_although_another_server_is_there() {
    let (full, good) = (FullBacklog::start().unwrap(), ok("good"));
    let gateway = Setup::of_servers(&[full.address(), good.address()])
        .set("timeouts.connect", "400ms")
        .set("upstream.retry", "{ attempts: 3 }")
        .start();
    let mut client = gateway.client();
    // In turn: one of two requests is the full server's.
    let mut statuses = [client.get("/").status, client.get("/").status];
    statuses.sort_unstable();
    assert_eq!((statuses, good.request_count()), ([200, 504], 1));
    gateway.expect_metric("errors_total", &[("cause", "connection_timeout")], 1.0);
    gateway.expect_metric("upstream_attempts_total", &[], 2.0);
    gateway.expect_metric("upstream_retries_total", &[], 0.0);
}

#[test]
fn an_error_body_is_waited_for_only_so_long() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 404 Not Found\r\ncontent-length: 50\r\n\r\n{\"mess"),
        UpstreamStep::ReadUntilClose,
    ]);
    let gateway = Gateway::in_front_of(&upstream)
        .set("errors.upstream_body", "{ limit: 64KiB, timeout: 400ms }")
        .start();
    within(&mut gateway.client(), LIMIT).is_made(404);
    gateway.expect_metric("conformance_total", &[("result", "incomplete")], 1.0);
}

#[test]
fn a_route_may_have_its_own_limits() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose]);
    let gateway = Gateway::in_front_of(&upstream)
        .route("name: fast, match: { path: / }, upstream: main, timeouts: { response_head: 400ms }")
        .start();
    within(&mut gateway.client(), LIMIT).is_made(504);
}

#[test]
fn a_long_download_is_not_bound_by_the_total_limit() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n"),
        UpstreamStep::WriteSlowly { bytes: "0123456789".into(), interval: millis(80) },
    ]);
    let gateway = total_of_400ms(Gateway::in_front_of(&upstream)).start();
    gateway.client().get("/").is(200, "0123456789");
}

#[test]
fn the_total_limit_stands_still_while_the_client_sends() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::ReadBody,
        UpstreamStep::Write(http_response("200 OK", "thanks")),
    ]);
    let gateway = total_of_400ms(Gateway::in_front_of(&upstream)).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\n");
    for _ in 0..6 {
        std::thread::sleep(millis(120)); // the slow client is what is tested
        client.send("x");
    }
    client.read(super::reader::Asked::Http11("POST")).is(200, "thanks");
}

#[test]
fn an_upstream_that_takes_nothing_of_a_request_is_answered_for_after_its_silence() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::Stall]);
    let gateway = Gateway::in_front_of(&upstream)
        .set("timeouts.between_bytes", "400ms")
        .set("client.max_body", "100MB")
        .start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 64000000\r\n\r\n");
    let begun = Instant::now();
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &vec![b'x'; 64_000_000]));
    client.read(super::reader::Asked::Http11("POST")).is_made(504);
    assert!(begun.elapsed() >= LIMIT);
    gateway.expect_metric("errors_total", &[("cause", "connection_write_timeout")], 1.0);
    let line = gateway.log_line(|line| line["cause"] == "connection_write_timeout");
    assert_eq!(line["request_sent"], "partial");
    drop(client);
    let _ = sending.join().unwrap();
}

#[test]
fn an_upstream_that_takes_a_request_slowly_is_not_one_that_takes_nothing() {
    let reads = (1..=12)
        .flat_map(|part| [UpstreamStep::ReadBodyBytes(part * 1_000_000), UpstreamStep::Pause(millis(100))]);
    let steps = std::iter::once(UpstreamStep::ReadRequestHead).chain(reads);
    let upstream =
        script(steps.chain([UpstreamStep::ReadBody, UpstreamStep::Write(http_response("200 OK", "thanks"))]));
    let gateway = Gateway::in_front_of(&upstream)
        .set("timeouts.between_bytes", "600ms")
        .set("client.max_body", "100MB")
        .start();
    let body = "x".repeat(12_000_000);
    gateway.client().ask("POST", "/", "", &body).is(200, "thanks");
}
