//! `overhead_seconds`: every request is counted, and time spent waiting for a client or upstream is excluded.
//!
//! The gateway has one worker, and one request waits for an event that the test controls. A further request is served
//! only after the worker has suspended the waiting one, so all time after it is waiting time. No assertion depends on
//! how long it is.

use std::time::{Duration, Instant};

use super::h2_upstream::H2Server;
use super::prelude::*;

/// Longer than any test: no timeout may end a wait here.
const LONG_TIMEOUT: &str = "60s";
const NO_HOST: &str = "The Host of the request is missing, repeated or malformed.";
const GET: &str = "GET /up/ HTTP/1.1\r\nhost: test\r\n\r\n";

/// One worker, and a route to the upstream for `/up/`.
fn single_worker(setup: GatewaySetup) -> GatewaySetup {
    ["timeouts.response_headers", "timeouts.deadline", "timeouts.body_idle", "client.body_timeout"]
        .into_iter()
        .fold(setup, |setup, key| setup.set(key, LONG_TIMEOUT))
        .set("workers", "1")
        .route("name: up, match: { path: \"/up/{*rest}\" }, upstream: main")
        .limit(Duration::from_secs(60))
}

fn wait_for_requests(upstream: &ScriptedUpstream, requests: usize) {
    assert!(upstream.wait_until(limit(), |seen| seen.requests().count() == requests));
}

/// Serves requests while another one waits. Returns a lower bound of its waiting time, in seconds.
fn serve_meanwhile(gateway: &Gateway) -> f64 {
    let mut client = gateway.client();
    client.get("/nowhere").assert_local_reply(404);
    let started = Instant::now();
    for _ in 0..20 {
        client.get("/nowhere").assert_local_reply(404);
    }
    started.elapsed().as_secs_f64()
}

/// Duration of all requests minus their overhead, in seconds, once `requests` have ended.
#[track_caller]
fn waiting_time(gateway: &Gateway, requests: f64) -> f64 {
    gateway.expect_metric("overhead_seconds_count", &[], requests);
    gateway.expect_metric("request_duration_seconds_count", &[], requests);
    let overhead = gateway.metric("overhead_seconds_sum", &[]);
    assert!(overhead > 0.0, "{overhead}");
    gateway.metric("request_duration_seconds_sum", &[]) - overhead
}

/// Asserts that the 21 requests of [`serve_meanwhile`] and `others` have ended, after waiting at least `min_wait`
/// seconds.
#[track_caller]
fn expect_waiting_time(gateway: &Gateway, others: f64, min_wait: f64) {
    let waited = waiting_time(gateway, 21.0 + others);
    assert!(waited >= min_wait - ROUNDING, "excluded {waited} s, expected at least {min_wait} s");
    gateway.expect_metric("responses_total", &[], 21.0 + others);
    gateway.expect_metrics_match_responses();
}

/// Rounding error of sums of a few dozen seconds in f64.
const ROUNDING: f64 = 1e-9;

#[test]
fn overhead_equals_the_duration_of_requests_that_never_wait() {
    let upstream = ok_upstream("fine");
    let gateway = single_worker(Gateway::with_upstream(&upstream)).start();
    gateway.expect_metric("overhead_seconds_count", &[], 0.0);
    serve_meanwhile(&gateway);
    let waited = waiting_time(&gateway, 21.0);
    assert!(waited.abs() < ROUNDING, "{waited}");
    assert!(gateway.metric("request_duration_seconds_sum", &[("route", "none"), ("class", "4xx")]) > 0.0);
}

#[test]
fn overhead_counts_local_and_upstream_responses_on_both_protocols() {
    let (upstream, page, refusing) = (ok_upstream("fine"), html_upstream("502 Bad Gateway"), refusing_port());
    let gateway = Gateway::with_upstream(&upstream)
        .upstream("page", &[page.address()])
        .upstream("refusing", &[refusing.address()])
        .route("name: up, match: { path: \"/up/{*rest}\" }, upstream: main")
        .route("name: page, match: { path: \"/page\" }, upstream: page")
        .route("name: refusing, match: { path: \"/refusing\" }, upstream: refusing")
        .with_h2c_listener()
        .start();
    let (mut client, mut streams) = (gateway.client(), gateway.h2_client());
    for (path, status) in [("/up/", 200), ("/page", 504), ("/refusing", 504), ("/nowhere", 404)] {
        assert_eq!(client.get(path).status, status, "{path}");
        assert_eq!(streams.get(path).status, status, "{path}");
    }
    client
        .exchange(SentRequest::Http11("GET"), "GET / HTTP/1.1\r\n\r\n")
        .assert_local_reply_message(400, NO_HOST);
    gateway.expect_metric("overhead_seconds_count", &[], 9.0);
    gateway.expect_metric("responses_total", &[], 9.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn overhead_counts_a_request_when_its_client_disconnects_early() {
    let gate = Gate::new();
    let upstream = gated_upstream(&gate, "late");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    wait_for_requests(&upstream, 1);
    client.reset();
    gateway.expect_metric("overhead_seconds_count", &[], 1.0);
    gateway.expect_metric("responses_total", &[], 0.0);
    gate.open();
}

#[test]
fn overhead_excludes_the_wait_for_response_headers() {
    let gate = Gate::new();
    let upstream = gated_upstream(&gate, "late");
    let gateway = single_worker(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    client.send(GET);
    wait_for_requests(&upstream, 1);
    let min_wait = serve_meanwhile(&gateway);
    gate.open();
    client.read(SentRequest::Http11("GET")).assert_response(200, "late");
    expect_waiting_time(&gateway, 1.0, min_wait);
}

#[test]
fn overhead_excludes_the_wait_for_the_response_body() {
    let gate = Gate::new();
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsoon";
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(head),
        Step::WaitForGate(gate.clone()),
        write_bytes("later"),
    ]);
    let gateway = single_worker(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    client.send(GET);
    client.wait_for("soon");
    let min_wait = serve_meanwhile(&gateway);
    gate.open();
    client.read(SentRequest::Http11("GET")).assert_response(200, "soonlater");
    expect_waiting_time(&gateway, 1.0, min_wait);
}

#[test]
fn overhead_excludes_the_wait_for_a_replaced_error_body() {
    let gate = Gate::new();
    let head = "HTTP/1.1 500 No\r\ncontent-length: 7\r\n\r\n<h1>";
    let upstream = script([
        Step::ReadRequestHead,
        write_bytes(head),
        Step::WaitForGate(gate.clone()),
        write_bytes("No."),
    ]);
    let setup = single_worker(Gateway::with_upstream(&upstream));
    let gateway = setup.set("errors.upstream_body", "{ limit: 64KiB, timeout: 30s }").start();
    let mut client = gateway.client();
    client.send(GET);
    wait_for_requests(&upstream, 1);
    // The attempt is counted once the status code is known.
    gateway.expect_metric("upstream_attempts_total", &[("result", "ok")], 1.0);
    let min_wait = serve_meanwhile(&gateway);
    gate.open();
    client.read(SentRequest::Http11("GET")).assert_local_reply(500);
    expect_waiting_time(&gateway, 1.0, min_wait);
}

#[test]
fn overhead_excludes_the_wait_for_the_request_body() {
    let upstream = ok_upstream("thanks");
    let gateway = single_worker(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    client.send("POST /up/ HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nab");
    wait_for_requests(&upstream, 1);
    let min_wait = serve_meanwhile(&gateway);
    client.send("cd");
    client.read(SentRequest::Http11("POST")).assert_response(200, "thanks");
    expect_waiting_time(&gateway, 1.0, min_wait);
}

#[test]
fn denied_request_is_measured_before_the_rest_of_its_body_is_awaited() {
    let upstream = ok_upstream("unseen");
    let gateway = single_worker(Gateway::with_upstream(&upstream))
        .route("name: denied, match: { path: /denied }, upstream: main, deny: { methods: [POST] }")
        .start();
    let mut client = gateway.client();
    client.send("POST /denied HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\n");
    client.read(SentRequest::Http11("POST")).assert_local_reply(403);
    // The rest is sent only after the request is counted, so neither its duration nor its overhead contain the wait.
    gateway.expect_metric("request_duration_seconds_count", &[("route", "denied")], 1.0);
    gateway.expect_metric("overhead_seconds_count", &[], 1.0);
    client.send("rest");
    client.request("POST", "/denied", "", "").assert_local_reply(403);
    gateway.expect_metric("overhead_seconds_count", &[], 2.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn overhead_excludes_the_wait_in_the_concurrency_queue() {
    let gate = Gate::new();
    let upstream = gated_upstream(&gate, "late");
    let limits = "{ max: 1, queue: 1, queue_timeout: 9s }";
    let gateway =
        single_worker(Gateway::with_upstream(&upstream)).set("upstream.concurrency", limits).start();
    let (mut first, mut second) = (gateway.client(), gateway.client());
    first.send(GET);
    wait_for_requests(&upstream, 1);
    second.send(GET);
    gateway.expect_metric("requests_queued", &[], 1.0);
    let min_wait = serve_meanwhile(&gateway);
    gate.open();
    for client in [&mut first, &mut second] {
        client.read(SentRequest::Http11("GET")).assert_response(200, "late");
    }
    expect_waiting_time(&gateway, 2.0, 2.0 * min_wait);
}

#[test]
fn overhead_excludes_the_wait_for_http2_upstreams_on_http2() {
    let gate = Gate::new();
    let (opened, arrived) = (gate.clone(), Gate::new());
    let seen = arrived.clone();
    let upstream = H2Server::with(8, move |_, mut respond| {
        let (opened, seen) = (opened.clone(), seen.clone());
        async move {
            seen.open();
            // The only worker of this upstream may block: it has no other work.
            assert!(opened.wait_timeout(limit()));
            respond.send_response(http::Response::new(()), true).unwrap();
        }
    });
    let setup = single_worker(GatewaySetup::with_servers(&[upstream.address()]))
        .set("upstream.http2", "always")
        .with_h2c_listener();
    let gateway = setup.start();
    let min_wait = std::thread::scope(|scope| {
        let client_thread = scope.spawn(|| gateway.h2_client().get("/up/").status);
        assert!(arrived.wait_timeout(limit()));
        let min_wait = serve_meanwhile(&gateway);
        gate.open();
        assert_eq!(client_thread.join().unwrap(), 200);
        min_wait
    });
    expect_waiting_time(&gateway, 1.0, min_wait);
}

#[test]
fn overhead_counts_a_tunnel_once_at_its_end() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream =
        by_request(move |_| vec![write_bytes(switching), Step::WaitForGate(opened.clone()), Step::Close]);
    let gateway = Gateway::with_upstream(&upstream)
        .route("name: up, match: { path: \"/up/{*rest}\" }, upstream: main, upgrades: [websocket]")
        .start();
    let mut client = gateway.client();
    client.send(
        "GET /up/ HTTP/1.1\r\nhost: test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    );
    client.wait_for("\r\n\r\n");
    gateway.expect_metric("responses_total", &[("code", "101")], 1.0);
    assert_eq!(gateway.metric("overhead_seconds_count", &[]), 0.0);
    gate.open();
    client.shutdown_write();
    gateway.expect_metric("overhead_seconds_count", &[], 1.0);
}
