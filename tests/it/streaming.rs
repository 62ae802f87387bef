//! Bodies and interim responses on their way: nothing is held back that need not be, in either direction.

use statusquo::rehearse::{FaultyUpstream, Gate, ServerKind, UpstreamStep, http_response, write_bytes};

use super::gateway::{Gateway, Setup};
use super::load::limit;
use super::reader::Asked;
use super::upstreams::script;

#[test]
fn bytes_go_both_ways_at_once() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::EchoBody]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    for part in ["one", "two", "three"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len()));
        client.wait_for(part);
    }
    client.send("0\r\n\r\n");
    client.read(Asked::Http11("POST")).is(200, "onetwothree");
    assert_eq!(upstream.recording().requests().next().unwrap().body, b"onetwothree");
}

#[test]
fn the_first_bytes_of_an_answer_do_not_wait_for_the_last() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n",
        ),
        UpstreamStep::WaitForGate(gate.clone()),
        write_bytes("8\r\ndata: 2\n\r\n0\r\n\r\n"),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("data: 1\n");
    gate.open();
    client.read(Asked::Http11("GET")).is(200, "data: 1\ndata: 2\n");
}

#[test]
fn the_head_does_not_wait_for_the_body() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"),
        UpstreamStep::WaitForGate(gate.clone()),
        write_bytes("body"),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("\r\n\r\n");
    gate.open();
    client.read(Asked::Http11("GET")).is(200, "body");
}

#[test]
fn a_million_bytes_arrive_as_they_were_sent() {
    let misbehaving = FaultyUpstream::start().unwrap();
    let gateway = Setup::of_servers(&[misbehaving.address(ServerKind::Scripted)]).start();
    let answer = gateway.client().get("/bytes/1000001");
    let pattern = statusquo::rehearse::good::PATTERN;
    let expected: Vec<u8> = pattern.bytes().cycle().take(1_000_001).collect();
    assert!(answer.status == 200 && answer.body == expected, "{} bytes", answer.body.len());
}

#[test]
fn an_upload_of_megabytes_arrives_as_it_was_sent() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::ReadBody,
        UpstreamStep::Write(http_response("200 OK", "stored")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let body = "0123456789abcdef".repeat(50_000);
    gateway.client().ask("PUT", "/", "", &body).is(200, "stored");
    assert_eq!(
        String::from_utf8(upstream.recording().requests().next().unwrap().body.clone()).unwrap(),
        body
    );
}

#[test]
fn early_hints_are_forwarded_before_the_answer() {
    let gate = Gate::new();
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"),
        UpstreamStep::WaitForGate(gate.clone()),
        UpstreamStep::Write(http_response("200 OK", "page")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("103 ");
    gate.open();
    let answer = client.read(Asked::Http11("GET"));
    answer.is(200, "page");
    assert_eq!(answer.interim.len(), 1);
    assert!(answer.interim[0].1.contains(&("link".to_owned(), "</a.css>; rel=preload".to_owned())));
    gateway.expect_metric("responses_total", &[], 1.0);
}

#[test]
fn early_hints_before_an_error_leave_the_error_documented() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"),
        UpstreamStep::Close,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let answer = gateway.client().get("/");
    answer.is_made(504);
    assert_eq!(answer.interim.len(), 1);
}

#[test]
fn http_1_0_gets_no_interim_responses() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n"),
        UpstreamStep::Write(http_response("200 OK", "page")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    gateway.client().exchange(Asked::Http10("GET"), "GET / HTTP/1.0\r\nhost: test\r\n\r\n").is(200, "page");
}

#[test]
fn at_most_sixteen_interim_responses_are_forwarded() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n".repeat(40);
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes(hints),
        UpstreamStep::Write(http_response("200 OK", "page")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let answer = gateway.client().get("/");
    assert!(answer.interim.len() <= 16, "{}", answer.interim.len());
    assert!(answer.status == 200 || answer.status == 504, "{answer:#?}");
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_upstream_and_sends_its_body_then() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::SendContinue,
        UpstreamStep::ReadBody,
        UpstreamStep::Write(http_response("201 Created", "stored")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n");
    client.wait_for("100 Continue\r\n\r\n");
    client.send("body");
    let answer = client.read(Asked::Http11("PUT"));
    answer.is(201, "stored");
    assert_eq!(answer.interim.len(), 1);
    assert_eq!(upstream.recording().requests().next().unwrap().body, b"body");
}

#[test]
fn a_client_that_waits_for_100_gets_an_error_instead_and_never_sends_its_body() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Write(http_response("401 No\ncontent-type: text/html", "<p>")),
        UpstreamStep::ReadUntilClose,
    ]);
    let gateway = Gateway::in_front_of(&upstream).start();
    let mut client = gateway.client();
    client.send("PUT / HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n");
    let answer = client.read(Asked::Http11("PUT"));
    answer.is_made(401);
    assert!(answer.says_close(), "the body may or may not follow: {answer:#?}");
    client.expect_close();
    assert!(upstream.wait_until(limit(), |seen| seen.connections[0].peer_close.is_some()));
}
