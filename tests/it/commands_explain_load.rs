//! `explain` compared with the wire under exhaustion: concurrency, queue, descriptors and a write-blocked upstream.
//! [`super::commands_explain`] covers the other causes.

use super::commands_explain::{assert_explained, explain};
use super::gateway::run;
use super::prelude::*;

const ALL_MEMBERS: &str = "[type, request_id, retryable, request_sent]";

/// One request occupies the only permit of the upstream.
fn saturated_gateway(upstream: &ScriptedUpstream, concurrency: &str) -> (Gateway, Client) {
    let gateway = Gateway::with_upstream(upstream)
        .set("upstream.concurrency", concurrency)
        .set("errors.include", ALL_MEMBERS)
        .start();
    let mut first = gateway.client();
    first.send("GET / HTTP/1.1\r\nhost: test\r\n\r\n");
    gateway.expect_metric("requests_in_flight", &[], 1.0);
    (gateway, first)
}

#[test]
fn explain_equals_the_wire_for_a_full_queue_and_a_queue_timeout() {
    let upstream = script([Step::ReadRequestHead, Step::ReadUntilClose]);
    for (concurrency, cause) in [
        ("{ max: 1, queue: 0 }", "queue_full"),
        ("{ max: 1, queue: 1, queue_timeout: 300ms }", "queue_timeout"),
    ] {
        let (gateway, _first) = saturated_gateway(&upstream, concurrency);
        let response = gateway.client().get("/");
        assert_eq!(response.status, 503);
        assert_explained(&gateway, &explain(&gateway, &format!("--cause {cause}")), &response);
    }
}

#[test]
fn explain_equals_the_wire_for_an_open_breaker_and_unhealthy_servers() {
    let refusing = refusing_port();
    for (key, value, cause) in [
        ("upstream.breaker", "{ min_requests: 1, open_for: 1h }", "breaker_open"),
        ("upstream.health", "{ tcp: true, every: 1h, fall: 1 }", "destination_unavailable"),
    ] {
        let gateway = GatewaySetup::with_servers(&[refusing.address()])
            .set(key, value)
            .set("errors.include", ALL_MEMBERS)
            .start();
        let mut client = gateway.client();
        let mut response = loop {
            let response = client.get("/");
            // A failed request opens the breaker; the first check makes the server unhealthy.
            if response.status == 503 {
                break response;
            }
        };
        // On the wire it is the time to the next trial or check, which `explain` does not know.
        for (_, value) in response.headers.iter_mut().filter(|(name, _)| name == "retry-after") {
            assert!(value.parse::<u64>().unwrap() > 3_000, "{value}");
            *value = "5".into();
        }
        assert_explained(&gateway, &explain(&gateway, &format!("--cause {cause}")), &response);
    }
}

#[test]
fn explain_equals_the_wire_for_a_non_reading_upstream() {
    let upstream = script([Step::ReadRequestHead, Step::Stall]);
    let gateway = GatewaySetup::with_servers(&[upstream.address()])
        .set("timeouts.body_idle", "300ms")
        .set("client.max_body", "100MB")
        .set("errors.include", ALL_MEMBERS)
        .start();
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 64000000\r\n\r\n");
    let mut writer = client.writer();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &vec![b'x'; 64_000_000]));
    let mut response = client.read(SentRequest::Http11("POST"));
    // The remaining upload is not read: `explain` reports this in a note.
    response.headers.retain(|(name, _)| name != "connection");
    let made = explain(&gateway, "--cause connection_write_timeout --method POST");
    assert_explained(&gateway, &made, &response);
    drop(client);
    let _ = sending.join().unwrap();
}

#[test]
fn explain_equals_the_wire_when_descriptors_are_exhausted() {
    let gate = Gate::new();
    let opened = gate.clone();
    let upstream = by_request(move |_| {
        vec![Step::WaitForGate(opened.clone()), Step::Write(http_response("200 OK", ""))]
    });
    let gateway = Gateway::with_upstream(&upstream)
        .descriptors(128)
        .set("errors.include", ALL_MEMBERS)
        .with_h2c_listener()
        .start();
    let responses = std::thread::scope(|scope| {
        let client_thread = scope.spawn(|| gateway.h2_client().get_all(&["/"; 120]));
        gateway.expect_metric_of_at_least("errors_total", &[("cause", "resource_exhausted")], 1.0);
        gate.open();
        client_thread.join().unwrap()
    });
    let mut response = responses.into_iter().find(|response| response.status == 503).unwrap();
    // HTTP/2 field names are lower case, and HTTP/2 has no reason phrase.
    let made = explain(&gateway, "--cause resource_exhausted");
    response.reason = made["response"]["reason"].as_str().unwrap().to_owned();
    assert_explained(&gateway, &made, &response);
}

#[test]
fn explain_names_the_key_that_decides() {
    let folder = TestFolder::new();
    let text = "version: 1
listen: [{ address: \"127.0.0.1:8080\" }]
timeouts: { connect: 700ms }
upstreams:
  bare: { servers: [\"10.0.0.1:80\", \"10.0.0.2:80\"] }
  full: { servers: [\"10.0.0.1:80\"], health: { path: /up, every: 7s, fall: 4 }, breaker: { open_for: 9s }, concurrency: { max: 3 } }
  strict: { servers: [\"10.0.0.1:80\", \"10.0.0.2:80\"], ejection: { max_ejected: 100% } }
  named: { servers: [\"db.test:80\"] }
routes:
  - { name: named, match: { path: /named }, upstream: named }
  - { name: bare, match: { path: /bare }, upstream: bare, timeouts: { tls: 800ms } }
  - { name: full, match: { path: /full }, upstream: full }
  - { name: strict, match: { path: /strict }, upstream: strict }
";
    let file = folder.write("statusquo.yaml", text);
    for (cause, route, expected) in [
        ("breaker_open", "bare", "upstreams.bare.breaker is off: the cause does not occur"),
        (
            "breaker_open",
            "full",
            "upstreams.full.breaker: it opens when 50 % of at least 20 requests within 10s",
        ),
        ("destination_unavailable", "bare", "does not occur on this route: upstreams.bare.health is off"),
        (
            "destination_unavailable",
            "full",
            "upstreams.full.health: a server is unhealthy after 4 failed checks",
        ),
        ("destination_unavailable", "strict", "upstreams.strict.ejection: with max_ejected 100 %"),
        ("queue_full", "bare", "upstreams.bare.concurrency is off"),
        ("queue_timeout", "full", "upstreams.full.concurrency: max 3"),
        ("dns_timeout", "bare", "does not occur on this route: upstreams.bare.servers has an address"),
        ("dns_error", "named", "no name of upstreams.named.servers has ever been resolved"),
        ("connection_timeout", "bare", "timeouts.connect, which is 700ms"),
        ("tls_timeout", "bare", "timeouts.tls, which is 800ms"),
    ] {
        let arguments = ["explain", "--cause", cause, "--route", route, file.to_str().unwrap()];
        let (status, out, err) = run(&arguments, &[]);
        assert_eq!(status, Some(0), "{cause}: {err}");
        let notes = out.split_once("\nnotes:\n").unwrap().1;
        assert!(notes.contains(expected), "{cause} on {route}: {notes}");
    }
}
