//! Ejection, health checks and the breaker where they meet: long responses, repeated statuses, and how long a client
//! that is refused has to wait.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use statusquo::conformance::FullBacklog;

use super::flaky_server::{Behavior, FlakyServer, Received};
use super::prelude::*;

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
    sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

fn seconds(response: &super::response_reader::HttpResponse) -> u64 {
    response.header("retry-after").expect("a Retry-After").parse().expect("a number of seconds")
}

#[test]
fn status_that_is_repeated_elsewhere_counts_for_its_server() {
    let (broken, works) = (static_response(http_response("503 Busy", "")), ok_upstream("works"));
    let gateway = GatewaySetup::with_servers(&[broken.address(), works.address()])
        .set("upstream.retry", "{ on_status: [503], budget: 100% }")
        .set("upstream.ejection", "{ consecutive: 3, for: 1h }")
        .start();
    let mut client = gateway.client();
    for _ in 0..30 {
        client.get("/").assert_response(200, "works");
    }
    assert_eq!(broken.request_count(), 3);
    let server = broken.address().to_string();
    gateway.expect_metric("upstream_server_state", &[("server", &server), ("state", "ejected")], 1.0);
    gateway.expect_metrics_match_responses();
}

/// `/fail` gets 503; `/stream` begins a response that ends with the gate, `/chat` a tunnel.
fn upstream_with_long_responses(end: &Gate) -> ScriptedUpstream {
    let end = end.clone();
    by_request(move |head| match &*head.target {
        "/fail" => vec![Step::ReadRequestHead, write_bytes(http_response("503 Busy", ""))],
        "/stream" => vec![
            Step::ReadRequestHead,
            write_bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"),
            Step::WaitForGate(end.clone()),
            write_bytes("0\r\n\r\n"),
        ],
        "/chat" => vec![Step::ReadRequestHead, write_bytes(SWITCHING), Step::EchoRaw, Step::Close],
        _ => vec![Step::ReadRequestHead, write_bytes(http_response("200 OK", "fine"))],
    })
}

/// A gateway whose breaker is half-open.
fn half_open(upstream: &ScriptedUpstream) -> Gateway {
    let gateway = Gateway::with_upstream(upstream)
        .set("upstream.breaker", "{ min_requests: 4, open_for: 100ms }")
        .start();
    let mut client = gateway.client();
    for _ in 0..4 {
        assert_eq!(client.get("/fail").status, 503);
    }
    gateway.wait_for_metric(limit(), "breaker_state", &[("state", "half_open")], 1.0);
    gateway
}

#[test]
fn trial_of_the_breaker_ends_with_the_headers_of_a_stream_or_tunnel() {
    for (request, expected) in
        [("GET /stream HTTP/1.1\r\nhost: test\r\n\r\n", "first"), (UPGRADE, "101 Switching")]
    {
        let end = Gate::new();
        let upstream = upstream_with_long_responses(&end);
        let gateway = half_open(&upstream);
        let mut trial = gateway.client();
        trial.send(request);
        trial.wait_for(expected);
        gateway.client().get("/").assert_response(200, "fine");
        gateway.expect_metric("breaker_state", &[("state", "closed")], 1.0);
        end.open();
        if request == UPGRADE {
            trial.shutdown_write();
            assert_eq!(trial.read(SentRequest::Http11("GET")).status, 101);
        } else {
            trial.read(SentRequest::Http11("GET")).assert_response(200, "first");
        }
        gateway.expect_metric("requests_in_flight", &[], 0.0);
        gateway.expect_metrics_match_responses();
    }
}

#[test]
fn breaker_reports_no_shorter_wait_than_that_of_its_servers() {
    let broken = static_response(http_response("503 Busy", ""));
    let other = static_response(http_response("503 Busy", ""));
    let gateway = GatewaySetup::with_servers(&[broken.address(), other.address()])
        .set("upstream.ejection", "{ consecutive: 2, for: 1h, max_ejected: 100% }")
        .set("upstream.breaker", "{ min_requests: 4, open_for: 1s }")
        .start();
    let mut client = gateway.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 503);
    }
    let response = client.get("/");
    response.assert_local_reply(503);
    assert!((3_500..=3_600).contains(&seconds(&response)), "{response:#?}");
    gateway.expect_metric("errors_total", &[("cause", "breaker_open")], 1.0);
}

#[test]
fn health_check_that_hangs_delays_no_other_server() {
    let received = Received::default();
    let (hangs, returns) = (FlakyServer::start(&received), FlakyServer::start(&received));
    hangs.set(Behavior::Hangs);
    returns.set(Behavior::Refuses);
    returns.wait_until_accepting(false);
    let gateway = GatewaySetup::with_servers(&[hangs.address(), returns.address()])
        .set("upstream.health", "{ path: /healthz, every: 100ms, timeout: 1h, fall: 1, rise: 2 }")
        .start();
    let server = returns.address().to_string();
    let state = |state: &'static str| [("server", server.as_str()), ("state", state)].map(|pair| pair);
    gateway.wait_for_metric(limit(), "upstream_server_state", &state("unhealthy"), 1.0);
    returns.set(Behavior::Works);
    gateway.wait_for_metric(limit(), "upstream_server_state", &state("healthy"), 1.0);
}

#[test]
fn reload_keeps_an_ejection() {
    let (broken, works) = (static_response(http_response("503 Busy", "")), ok_upstream("works"));
    let setup = |keepalive: &str| {
        GatewaySetup::with_servers(&[broken.address(), works.address()])
            .set("upstream.ejection", "{ consecutive: 2, for: 1h }")
            .set("upstream.keepalive", keepalive)
    };
    let gateway = setup("{ max: 8 }").start();
    let mut client = gateway.client();
    let failed = (0..10).filter(|_| client.get("/").status == 503).count();
    assert_eq!(failed, 2);
    assert_eq!(gateway.reload(setup("{ max: 9 }")), "applied");
    for _ in 0..10 {
        client.get("/").assert_response(200, "works");
    }
    let server = broken.address().to_string();
    gateway.expect_metric("upstream_server_state", &[("server", &server), ("state", "ejected")], 1.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn second_attempt_ends_with_the_deadline() {
    let full = FullBacklog::start().expect("a loopback port");
    let other = FullBacklog::start().expect("a loopback port");
    let gateway = GatewaySetup::with_servers(&[full.address(), other.address()])
        .set("timeouts.connect", "300ms")
        .set("timeouts.deadline", "500ms")
        .set("timeouts.response_headers", "400ms")
        .start();
    gateway.client().request("POST", "/", "", "once").assert_local_reply(504);
    gateway.expect_metric("errors_total", &[("cause", "deadline_exceeded")], 1.0);
}

/// A status that is retried counts when it arrives. If no attempt follows, the response is relayed, and how it ends
/// counts too.
#[test]
fn truncation_of_a_response_that_could_not_be_retried_counts_for_its_server() {
    let cut = "HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nfour";
    let upstream = by_request(move |_| vec![Step::ReadRequestHead, write_bytes(cut), Step::Close]);
    let gateway = Gateway::with_upstream(&upstream)
        // Ten retries are always allowed. After them most responses are relayed.
        .set("upstream.retry", "{ on_status: [404], budget: 1% }")
        .set("errors.mode", "pass")
        .set(
            "upstream.ejection",
            "{ consecutive: 1000, failure_ratio: 40%, min_requests: 60, window: 1h, for: 1h, max_ejected: 100% }",
        )
        .start();
    let status = || {
        let mut stream = TcpStream::connect(gateway.address()).unwrap();
        stream.set_read_timeout(Some(limit())).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut response = Vec::new();
        // A truncated response may end with a reset.
        let _ = stream.read_to_end(&mut response);
        String::from_utf8_lossy(&response).get(9..12).map(str::to_owned)
    };
    let statuses: Vec<_> = (0..60).map(|_| status().expect("a status line")).collect();
    assert_eq!(statuses.last().unwrap(), "503", "the server is ejected: {statuses:?}");
}
