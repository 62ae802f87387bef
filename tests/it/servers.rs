//! Servers that fail: what clients get, which servers receive requests, and what metrics and log show.

use std::net::TcpListener;

use statusquo::conformance::FullBacklog;

use super::prelude::*;

/// Responds with 200, except to requests for `/fail`, which get this status.
fn failing_upstream(status: &'static str) -> ScriptedUpstream {
    by_request(move |head| {
        let response =
            if head.target == "/fail" { http_response(status, "") } else { http_response("200 OK", "fine") };
        vec![Step::ReadRequestHead, Step::ReadBody, write_bytes(response)]
    })
}

#[test]
fn server_that_accepts_no_connection_costs_no_request_and_is_ejected() {
    let (full, upstream) = (FullBacklog::start().expect("a loopback port"), ok_upstream("other"));
    let gateway = GatewaySetup::with_servers(&[full.address(), upstream.address()])
        .set("timeouts.connect", "50ms")
        .set("upstream.ejection", "{ for: 1h }")
        .start();
    let mut client = gateway.client();
    for _ in 0..30 {
        client.request("POST", "/", "", "once").assert_response(200, "other");
    }
    assert_eq!(upstream.request_count(), 30);
    let server = full.address().to_string();
    let labels = [("server", server.as_str())];
    gateway.expect_metric("upstream_attempts_total", &[labels[0], ("result", "connection_timeout")], 5.0);
    gateway.expect_metric("upstream_server_up", &labels, 0.0);
    gateway.expect_metric("upstream_server_state", &[labels[0], ("state", "ejected")], 1.0);
    gateway.expect_metric("upstream_server_up", &[("server", &upstream.address().to_string())], 1.0);
}

#[test]
fn name_with_two_families_costs_no_attempt_when_one_refuses() {
    let upstream = ok_upstream("four");
    let port = upstream.address().port();
    let gateway = GatewaySetup::with_named_servers(&[&format!("localhost:{port}")]).start();
    let mut client = gateway.client();
    for _ in 0..10 {
        client.request("POST", "/", "", "once").assert_response(200, "four");
    }
    gateway.expect_metric("upstream_attempts_total", &[("result", "ok")], 10.0);
    gateway.expect_metric("upstream_attempts_total", &[], 10.0);
}

#[test]
fn silent_server_is_ejected_and_named_in_metrics_and_log() {
    let silent = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    let (a, b) = (ok_upstream("a"), ok_upstream("b"));
    let gateway = GatewaySetup::with_servers(&[silent.address(), a.address(), b.address()])
        .set("timeouts.response_headers", "100ms")
        .set("upstream.ejection", "{ consecutive: 3, for: 1h }")
        .start();
    let mut client = gateway.client();
    let failed = (0..60).filter(|_| client.get("/").status == 504).count();
    assert_eq!(failed, 3);
    let server = silent.address().to_string();
    let labels = [("server", server.as_str()), ("result", "http_response_timeout")];
    gateway.expect_metric("upstream_attempts_total", &labels, 3.0);
    gateway.log_line(|line| line["message"] == "server ejected" && line["server"] == server.as_str());
    gateway.expect_metrics_match_responses();
}

#[test]
fn ejected_server_returns_when_it_works_again() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a loopback port").local_addr().expect("an address");
    let other = ok_upstream("other");
    let gateway = GatewaySetup::with_servers(&[port, other.address()])
        .set("upstream.ejection", "{ consecutive: 1, for: 300ms }")
        .start();
    let mut client = gateway.client();
    for _ in 0..4 {
        client.get("/").assert_response(200, "other");
    }
    let server = port.to_string();
    let returned = TcpListener::bind(port).expect("the same port");
    let mended = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = returned.accept().expect("a connection");
        let mut buffer = [0; 1024];
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
            let response = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nback";
            if stream.write_all(response).is_err() {
                break;
            }
        }
    });
    gateway.wait_for_metric(
        limit(),
        "upstream_server_state",
        &[("server", &server), ("state", "recovering")],
        1.0,
    );
    let responses: Vec<String> = (0..10).map(|_| client.get("/").text()).collect();
    assert!(responses.iter().filter(|text| *text == "back").count() >= 4, "{responses:?}");
    gateway.expect_metric("upstream_server_up", &[("server", &server)], 1.0);
    drop((client, gateway));
    mended.join().expect("no panic");
}

#[test]
fn upstream_without_a_healthy_server_gets_503_destination_unavailable_with_retry_after() {
    let refusing = refusing_port();
    let gateway = GatewaySetup::with_servers(&[refusing.address()])
        .set("upstream.health", "{ tcp: true, every: 30s, fall: 1 }")
        .start();
    let server = refusing.address().to_string();
    gateway.wait_for_metric(
        limit(),
        "upstream_server_state",
        &[("server", &server), ("state", "unhealthy")],
        1.0,
    );
    let response = gateway.client().get("/");
    response.assert_local_reply(503);
    let seconds: u64 = response.header("retry-after").expect("a field").parse().expect("a number");
    assert!((1..=31).contains(&seconds), "{seconds}");
    gateway.expect_metric("errors_total", &[("cause", "destination_unavailable")], 1.0);
    gateway.expect_metric("shed_total", &[("cause", "destination_unavailable")], 1.0);
    gateway.expect_metric("upstream_attempts_total", &[], 0.0);
}

#[test]
fn health_checks_use_own_connections_and_count_as_no_request() {
    let healthy = static_response(http_response("200 OK", "fine"));
    let broken = static_response(http_response("500 Broken", ""));
    let gateway = GatewaySetup::with_servers(&[healthy.address(), broken.address()])
        .set("upstream.health", "{ path: /healthz, every: 100ms, fall: 1 }")
        .start();
    let server = broken.address().to_string();
    gateway.wait_for_metric(limit(), "upstream_server_up", &[("server", &server)], 0.0);
    let mut client = gateway.client();
    for _ in 0..10 {
        client.get("/").assert_response(200, "fine");
    }
    assert_eq!(broken.recording().requests_for("/"), 0);
    assert!(broken.recording().requests_for("/healthz") >= 1);
    gateway.expect_metric("upstream_attempts_total", &[], 10.0);
    gateway.expect_metric("responses_total", &[("code", "200")], 10.0);
}

#[test]
fn open_breaker_refuses_with_503_and_closes_after_a_trial() {
    let upstream = failing_upstream("503 Busy");
    // Of the two gateways, one is open for so long that no slow machine meets a trial, the other for so short that none
    // waits.
    let start = |open_for: &str| {
        let breaker = format!("{{ min_requests: 4, open_for: {open_for} }}");
        let gateway = Gateway::with_upstream(&upstream).set("upstream.breaker", &breaker).start();
        let mut client = gateway.client();
        gateway.expect_metric("breaker_state", &[("state", "closed")], 1.0);
        for _ in 0..4 {
            assert_eq!(client.get("/fail").status, 503);
        }
        (gateway, client)
    };
    let (gateway, mut client) = start("1h");
    let response = client.get("/");
    response.assert_local_reply(503);
    let seconds: u64 = response.header("retry-after").expect("a field").parse().expect("a number");
    assert!((3_500..=3_600).contains(&seconds), "{seconds}");
    assert_eq!(upstream.request_count(), 4, "an open breaker sends nothing");
    gateway.expect_metric("errors_total", &[("cause", "breaker_open")], 1.0);
    gateway.expect_metrics_match_responses();

    let (gateway, mut client) = start("100ms");
    gateway.wait_for_metric(limit(), "breaker_state", &[("state", "half_open")], 1.0);
    client.get("/").assert_response(200, "fine");
    gateway.expect_metric("breaker_state", &[("state", "closed")], 1.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn several_attempts_are_logged_with_server_and_cause() {
    let (refusing, upstream) = (refusing_port(), failing_upstream("500 Broken"));
    let gateway = GatewaySetup::with_servers(&[refusing.address(), upstream.address()]).start();
    gateway.client().get("/fail").assert_local_reply(500);
    let line = gateway.log_line(|line| line["attempts"].is_array());
    let attempts = line["attempts"].as_array().expect("a list");
    let pairs: Vec<_> = attempts.iter().map(|one| (one["server"].clone(), one["cause"].clone())).collect();
    let server = |address: std::net::SocketAddr| serde_json::Value::from(address.to_string());
    assert_eq!(
        pairs,
        [
            (server(refusing.address()), "connection_refused".into()),
            (server(upstream.address()), "ok".into())
        ]
    );
    assert!(attempts.iter().all(|one| one["ms"].is_u64()), "{line}");
}

#[test]
fn request_that_may_not_be_repeated_uses_no_connection_that_was_idle_for_long() {
    let upstream = ok_upstream("good");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "good");
    client.request("POST", "/", "", "once").assert_response(200, "good");
    assert_eq!(upstream.connection_count(), 1, "it was idle for a moment only");
    let expired = upstream.wait_until(std::time::Duration::from_millis(1_100), |_| false);
    assert!(!expired);
    client.request("POST", "/", "", "once").assert_response(200, "good");
    assert_eq!(upstream.connection_count(), 2);
}

#[test]
fn keep_alive_timeout_of_the_server_ends_the_reuse_a_second_earlier() {
    let response = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 0\r\n\r\n";
    let upstream = static_response(response);
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "");
    client.get("/").assert_response(200, "");
    assert_eq!(upstream.connection_count(), 2);
}

#[test]
fn hash_by_header_keeps_a_value_at_one_server() {
    let (a, b) = (ok_upstream("a"), ok_upstream("b"));
    let gateway = GatewaySetup::with_servers(&[a.address(), b.address()])
        .set("upstream.balance", "{ hash: \"header:x-user\" }")
        .start();
    let mut client = gateway.client();
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..20 {
        let field = format!("x-user: {user}\r\n");
        let texts: Vec<String> = (0..3).map(|_| client.request("GET", "/", &field, "").text()).collect();
        assert!(texts.iter().all(|text| *text == texts[0]), "{user}: {texts:?}");
        seen.insert(texts[0].clone());
    }
    assert_eq!(seen.len(), 2);
}
