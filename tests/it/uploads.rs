//! Uploads that meet an error: the client can always read the answer, however much it still wanted to send.

use std::io::Write;
use std::thread;
use std::time::Duration;

use statusquo::rehearse::{UpstreamStep, http_response};

use super::gateway::{Gateway, Setup};
use super::load::{limit, millis};
use super::reader::Asked;
use super::upstreams::{ok, refusing, script};

const TOO_LARGE: &str = "The request body is too large.";

#[test]
fn a_length_beyond_the_limit_is_refused_before_a_byte_of_it_is_sent() {
    let upstream = ok("must not be asked");
    let gateway = Gateway::in_front_of(&upstream).set("client.max_body", "1KiB").start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 1025\r\n\r\n");
    client.read(Asked::Http11("POST")).is_made_saying(400, TOO_LARGE);
    gateway.expect_metric("errors_total", &[("cause", "body_too_large")], 1.0);
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn a_body_of_exactly_the_limit_passes() {
    let upstream = ok("stored");
    let gateway = Gateway::in_front_of(&upstream).set("client.max_body", "1KiB").start();
    gateway.client().ask("POST", "/", "", &"x".repeat(1024)).is(200, "stored");
}

#[test]
fn chunks_beyond_the_limit_are_refused_and_the_upstream_never_sees_an_end() {
    let upstream = ok("must not be answered");
    let gateway = Gateway::in_front_of(&upstream).set("client.max_body", "1KiB").start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send(format!("400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(1024)));
    client.read(Asked::Http11("POST")).is_made_saying(400, TOO_LARGE);
    gateway.expect_metric("errors_total", &[("cause", "body_too_large")], 1.0);
    assert!(upstream.recording().requests().all(|request| !request.complete));
}

#[test]
fn a_route_may_take_larger_bodies_than_the_others() {
    let upstream = ok("stored");
    let gateway = Gateway::in_front_of(&upstream)
        .set("client.max_body", "1KiB")
        .route("name: large, match: { path: /large }, upstream: main, max_body: 1MiB")
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    client.ask("POST", "/large", "", &"x".repeat(5000)).is(200, "stored");
    client.send("POST /small HTTP/1.1\r\nhost: test\r\ncontent-length: 5000\r\n\r\n");
    client.read(Asked::Http11("POST")).is_made_saying(400, TOO_LARGE);
}

#[test]
fn an_early_error_is_read_by_a_client_that_sends_everything_first() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Write(http_response("413 Too Large", "<p>")),
        UpstreamStep::Stall,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 300_000));
    // What does not go out any more is no failure of the test: whether the answer can be read is.
    let _ = client.try_send("x".repeat(300_000));
    client.read(Asked::Http11("POST")).is_made(400);
}

#[test]
fn an_early_error_reaches_a_client_that_is_still_sending() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::ReadBodyBytes(100_000),
        UpstreamStep::Write(http_response("409 No", "<p>")),
        UpstreamStep::Stall,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 8000000\r\n\r\n");
    let mut writer = client.writer();
    let sending = thread::spawn(move || writer.write_all(&vec![b'x'; 8_000_000]).is_ok());
    // The upstream takes no more of the upload: an answer that waited for its end would never come.
    client.read(Asked::Http11("POST")).is_made(409);
    drop(client);
    sending.join().unwrap();
}

#[test]
fn an_upstream_that_stops_reading_and_answers_is_heard() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::ReadBodyBytes(1000),
        UpstreamStep::Pause(Duration::from_millis(300)),
        UpstreamStep::Write(http_response("200 OK", "enough")),
        UpstreamStep::Stall,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
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
fn a_refused_upload_is_answered_readably() {
    let refusing = refusing();
    let gateway = Setup::of_servers(&[refusing.address()]).start();
    let mut client = gateway.client();
    client.ask("POST", "/", "", &"x".repeat(50_000)).is_made(504);
    gateway.expect_metric("errors_total", &[("cause", "connection_refused")], 1.0);
}

#[test]
fn a_client_that_leaves_inside_its_body_is_counted_and_the_upstream_never_sees_an_end() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::ReadBody,
        UpstreamStep::Write(http_response("200 OK", "stored")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc");
    assert!(upstream.wait_until(limit(), |seen| seen.requests().any(|request| request.body == b"abc")));
    client.reset();
    assert!(upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some()));
    gateway.expect_metric("client_disconnects_total", &[], 1.0);
    assert!(upstream.recording().requests().all(|request| !request.complete));
}

/// The rest of an upload must never be read as the next request: that would be smuggling by our own hand.
#[test]
fn what_is_left_of_an_upload_after_a_complete_early_answer_is_not_a_request() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Write(http_response("200 OK", "early")),
        UpstreamStep::ReadUntilClose,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("POST /up HTTP/1.1\r\nhost: test\r\ncontent-length: 60\r\n\r\n");
    client.read(Asked::Http11("POST")).is(200, "early");
    client.send("GET /smuggled HTTP/1.1\r\nhost: test\r\n\r\n");
    client.expect_close();
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn a_client_is_not_slow_while_the_upstream_holds_its_body_back() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Pause(millis(900)),
        UpstreamStep::ReadBody,
        UpstreamStep::Write(http_response("200 OK", "all of it")),
    ]);
    let gateway = Gateway::in_front_of(&upstream)
        .set("client.body_timeout", "300ms")
        .set("client.max_body", "50MB")
        .start();
    let body = "x".repeat(30_000_000);
    gateway.client().ask("POST", "/", "", &body).is(200, "all of it");
}

#[test]
fn a_client_that_gets_its_answer_in_the_place_of_100_is_told_that_the_connection_closes() {
    let upstream =
        script([UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("200 OK", "early"))]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    let answer = client.read(Asked::Http11("POST"));
    answer.is(200, "early");
    assert!(answer.says_close(), "{answer:#?}");
    client.expect_close();
}
