//! HTTP/2 towards clients: the same promise in frames.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use statusquo::rehearse::{Gate, UpstreamStep, http_response, write_bytes};

use super::client::Client;
use super::gateway::{Gateway, Setup};
use super::load::limit;
use super::promise::check_made;
use super::reader::{Asked, Ended};
use super::upstreams::{by_request, html, ok, refusing, script};

#[test]
fn a_good_answer_passes() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let mut client = gateway.h2_client();
    for _ in 0..2 {
        client.get("/a?b=c").is(200, "fine");
    }
    let seen = upstream.recording();
    let head = &seen.requests().next().unwrap().head;
    assert_eq!(
        (head.target.as_str(), head.header("host"), head.version.as_str()),
        ("/a?b=c", Some("test"), "HTTP/1.1")
    );
    gateway.expect_accounts_to_agree();
}

#[test]
fn errors_are_replaced_refused_and_made_as_in_http_1() {
    let (refusing, upstream) = (refusing(), html("502 Bad Gateway"));
    let gateway = Gateway::in_front_of(&upstream)
        .upstream("refusing", &[refusing.address()])
        .route("name: refused, match: { path: /refused }, upstream: refusing")
        .route("name: html, match: { path: /html }, upstream: main")
        .h2c()
        .start();
    let mut client = gateway.h2_client();
    client.get("/html").is_made(504);
    client.get("/refused").is_made(504);
    client.get("/nowhere").is_made(404);
    assert_eq!(client.get("/a/../b").status, 400);
    let head = client.ask("HEAD", "/refused", &[], Bytes::new());
    check_made(&head, Asked::Http11("HEAD"), 504, "");
    assert_eq!(head.field("content-length"), client.get("/refused").field("content-length"));
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_head_error_of_the_upstream_has_no_body() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 500 Oh\r\ncontent-type: text/html\r\ncontent-length: 900\r\n\r\n"),
    ]);
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let answer = gateway.h2_client().ask("HEAD", "/", &[], Bytes::new());
    check_made(&answer, Asked::Http11("HEAD"), 500, "");
}

#[test]
fn many_streams_at_once_get_their_own_answers() {
    let upstream = by_request(|request| match request.path() {
        "/bad" => vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("503 Busy", "<p>"))],
        path => vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("200 OK", path))],
    });
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let paths = ["/1", "/bad", "/3", "/4", "/bad", "/6", "/7", "/8"];
    for (path, answer) in paths.iter().zip(gateway.h2_client().get_all(&paths)) {
        if *path == "/bad" {
            answer.is_made(503);
        } else {
            answer.is(200, path);
        }
    }
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_large_upload_arrives_and_a_large_answer_returns() {
    let upstream = script([UpstreamStep::ReadRequestHead, UpstreamStep::EchoBody]);
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let body = Bytes::from("0123456789abcdef".repeat(200_000));
    let answer = gateway.h2_client().ask("POST", "/", &[], body.clone());
    assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
}

#[test]
fn an_early_error_under_an_upload_is_read() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        UpstreamStep::Write(http_response("413 Too Large", "<p>")),
        UpstreamStep::Stall,
    ]);
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let mut client = gateway.h2_client();
    client.ask("POST", "/", &[], Bytes::from(vec![b'x'; 2_000_000])).is_made(400);
    client.get("/a/../b");
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let upstream = ok("must not be answered");
    let gateway = Gateway::in_front_of(&upstream).set("client.max_body", "1KiB").h2c().start();
    let answer = gateway.h2_client().ask("POST", "/", &[], Bytes::from(vec![b'x'; 5000]));
    answer.is_made_saying(400, "The request body is too large.");
    assert!(upstream.recording().requests().all(|request| !request.complete));
}

#[test]
fn a_body_that_breaks_off_is_a_reset_of_its_stream_and_of_nothing_else() {
    let upstream = by_request(|request| match request.path() {
        "/cut" => {
            vec![
                UpstreamStep::ReadRequestHead,
                write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nnine byte"),
                UpstreamStep::Close,
            ]
        }
        _ => vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("200 OK", "fine"))],
    });
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let mut client = gateway.h2_client();
    let answer = client.get("/cut");
    assert_eq!((answer.status, matches!(answer.ended, Ended::Reset { .. })), (200, true), "{answer:#?}");
    client.get("/").is(200, "fine");
    gateway.expect_metric("aborted_total", &[("cause", "http_response_incomplete")], 1.0);
}

#[test]
fn several_cookie_fields_become_one() {
    let upstream = ok("");
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    gateway.h2_client().ask("GET", "/", &[("cookie", "a=1"), ("cookie", "b=2")], Bytes::new()).is(200, "");
    let seen = upstream.recording();
    assert_eq!(seen.requests().next().unwrap().head.header("cookie"), Some("a=1; b=2"));
}

#[test]
fn a_panic_ends_one_stream_with_a_documented_500() {
    let upstream = ok("fine");
    let gateway =
        Gateway::in_front_of(&upstream).h2c().environment("STATUSQUO_TEST_PANIC", "1").may_panic().start();
    let mut client = gateway.h2_client();
    client.get("/__panic").is_made(500);
    client.get("/").is(200, "fine");
}

#[test]
fn the_plain_listener_answers_an_http_2_preface_with_a_documented_400() {
    let upstream = ok("");
    let gateway = Setup::of_servers(&[upstream.address()]).start();
    let mut client = gateway.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(client.read(Asked::Http11("GET")).status, 400);
}

/// What is no HTTP/2 is told so in HTTP/1, at once where it is clear, at the limit where it may still become HTTP/2.
#[test]
fn the_http_2_listener_hangs_no_client_that_speaks_something_else() {
    let upstream = ok("must not be asked");
    let limit = Duration::from_millis(500);
    let gateway = Gateway::in_front_of(&upstream).h2c().set("client.header_timeout", "500ms").start();
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
        let begun = Instant::now();
        let mut client = Client::connect(gateway.h2_address(), Default::default());
        client.send(bytes);
        let answer = client.read(Asked::Http11("GET"));
        answer.is_made_saying(400, message);
        assert!(answer.says_close() && (!waits || begun.elapsed() >= limit), "{bytes:?}");
        client.expect_close();
    }
    gateway.expect_metric("errors_total", &[("cause", "unsupported_version")], 6.0);
    gateway.expect_metric("errors_total", &[("cause", "client_too_slow")], 2.0);
    gateway.expect_metric("closed_without_response_total", &[], 0.0);
    // Nothing at all, and half of it and away.
    drop(TcpStream::connect(gateway.h2_address()).unwrap());
    gateway.expect_metric("closed_without_response_total", &[("cause", "connect_and_close")], 1.0);
    let mut client = Client::connect(gateway.h2_address(), Default::default());
    client.send("PRI * HT");
    client.finish_sending();
    client.read(Asked::Http11("GET")).is_made_saying(400, "The request is not a valid HTTP request.");
    gateway.h2_client().get("/").is(200, "must not be asked");
    assert_eq!(upstream.request_count(), 1);
}

#[test]
fn an_idle_http_2_connection_that_a_drain_closes_is_counted() {
    let gate = Gate::new();
    let waits = gate.clone();
    let upstream = by_request(move |request| match request.path() {
        "/slow" => vec![
            UpstreamStep::ReadRequestHead,
            UpstreamStep::WaitForGate(waits.clone()),
            UpstreamStep::Write(http_response("200 OK", "slow")),
        ],
        _ => vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(http_response("200 OK", "quick"))],
    });
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let mut kept = gateway.h2_client();
    kept.get("/").is(200, "quick");
    let mut busy = gateway.client();
    busy.send("GET /slow HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests_for("/slow") == 1));
    gateway.terminate();
    gateway.expect_metric("closed_without_response_total", &[("cause", "drain")], 1.0);
    assert!(kept.try_ask("GET", "/", &[], Bytes::new()).is_err());
    gate.open();
    busy.read(Asked::Http11("GET")).is(200, "slow");
    assert_eq!(gateway.wait(limit()).code(), Some(0));
}

#[test]
fn interim_responses_come_before_the_answer() {
    let upstream = script([
        UpstreamStep::ReadRequestHead,
        write_bytes("HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"),
        write_bytes("HTTP/1.1 102 Processing\r\n\r\n"),
        UpstreamStep::Write(http_response("200 OK", "fine")),
    ]);
    let gateway = Gateway::in_front_of(&upstream).h2c().start();
    let answer = gateway.h2_client().get("/");
    answer.is(200, "fine");
    let link = ("link".to_owned(), "</a.css>; rel=preload".to_owned());
    assert_eq!(answer.interim, [(103, vec![link]), (102, Vec::new())]);
}
