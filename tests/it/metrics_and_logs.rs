//! Metrics and logs: counters match the responses that clients saw, and no internal detail reaches a client.

use std::io::Read as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use statusquo::conformance::{FaultyUpstream, ServerKind, upstream_faults};

use super::metrics_parser::parse_metrics;
use super::prelude::*;

#[test]
fn counters_match_client_responses_for_every_code_under_concurrency() {
    let faulty_upstream = FaultyUpstream::start().unwrap();
    let gateway = GatewaySetup::with_servers(&[faulty_upstream.address(ServerKind::Scripted)])
        .limit(Duration::from_secs(20))
        .start();
    let quick = |name: &str| !["hang", "drip", "stalled"].iter().any(|slow| name.contains(slow));
    let faults = upstream_faults();
    let paths: Vec<String> = faults
        .iter()
        .filter(|fault| {
            fault.server_kind == ServerKind::Scripted && fault.request.is_plain_get() && quick(fault.name)
        })
        .map(|fault| fault.path())
        .chain(
            ["/ok", "/created", "/no-content", "/not-modified", "/hints", "/a/../b", "/bytes/5000"]
                .map(str::to_owned),
        )
        .collect();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gateway, paths) = (&gateway, &paths);
            scope.spawn(move || {
                let mut client = gateway.client();
                for turn in 0..paths.len() {
                    // A different order per client, so that different faults overlap.
                    let response = client.get(&paths[(turn * (2 * worker + 1) + worker) % paths.len()]);
                    if !response.connection_usable {
                        client = gateway.client();
                    }
                }
            });
        }
    });
    gateway.expect_metrics_match_responses();
    gateway.expect_metric("requests_in_flight", &[], 0.0);
    gateway.expect_metric("panics_total", &[], 0.0);
}

#[test]
fn counters_are_exported_at_zero_from_the_start() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let metrics = gateway.metrics();
    for code in ["400", "401", "403", "404", "409", "429", "500", "503", "504"] {
        for origin in ["replaced", "proxy"] {
            let labels = [("route", "all"), ("code", code), ("origin", origin)];
            let found: Vec<_> =
                metrics.iter().filter(|series| series.matches("responses_total", &labels)).collect();
            assert!(found.len() == 1 && found[0].value == 0.0, "{labels:?}: {found:?}");
        }
    }
    assert!(
        metrics
            .iter()
            .any(|series| series.matches("aborted_total", &[("cause", "http_response_incomplete")]))
    );
    assert!(metrics.iter().any(|series| series.matches("build_info", &[]) && series.value == 1.0));
}

#[test]
fn metrics_page_has_the_prometheus_content_type() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let page = gateway.get_telemetry("/metrics");
    assert!(page.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{page:#?}");
}

#[test]
fn metrics_page_is_compressed_for_scrapers_that_prefer_gzip() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = Client::connect(gateway.telemetry(), Default::default());
    for (method, accepted, coding) in [
        ("GET", "gzip", Some("gzip")),
        ("GET", "deflate, gzip;q=0.5", Some("gzip")),
        ("HEAD", "gzip", Some("gzip")),
        ("GET", "gzip;q=0", None),
        ("GET", "identity, gzip;q=0.1", None),
        ("GET", "br", None),
    ] {
        let response = client.request(method, "/metrics", &format!("accept-encoding: {accepted}\r\n"), "");
        assert_eq!((response.status, response.header("content-encoding")), (200, coding), "{accepted}");
        assert_eq!(response.header("vary"), Some("Accept-Encoding"), "{accepted}");
        if method == "GET" {
            let mut page = String::new();
            match coding {
                Some(_) => {
                    flate2::read::GzDecoder::new(&response.body[..]).read_to_string(&mut page).unwrap()
                }
                None => (&response.body[..]).read_to_string(&mut page).unwrap(),
            };
            assert!(parse_metrics(&page).iter().any(|series| series.matches("build_info", &[])), "{page}");
        }
    }
    let response = client.request("GET", "/livez", "accept-encoding: gzip\r\n", "");
    assert_eq!((response.text().as_str(), response.header("content-encoding")), ("ok\n", None));
}

#[test]
fn telemetry_method_other_than_get_is_not_allowed_and_gets_allow() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = Client::connect(gateway.telemetry(), Default::default());
    // The built-in contract documents no 405.
    for path in ["/metrics", "/livez", "/readyz"] {
        let response = client.request("POST", path, "", "");
        response.assert_local_reply(404);
        assert_eq!(response.header("allow"), Some("GET, HEAD"), "{path}");
    }
    let response = client.request("POST", "/other", "", "");
    assert_eq!((response.status, response.header("allow")), (404, None));
}

#[test]
fn disconnect_after_the_response_headers_is_logged_with_the_code() {
    let gate = Gate::new();
    let waits = gate.clone();
    let upstream = by_request(move |request| match request.path() {
        "/half" => vec![
            Step::ReadRequestHead,
            write_bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
            Step::WaitForGate(waits.clone()),
            write_bytes("other"),
        ],
        _ => vec![Step::ReadRequestHead, Step::ReadUntilClose],
    });
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut client = gateway.client();
    client.send("GET /half HTTP/1.1\r\nhost: test\r\n\r\n");
    client.wait_for("half");
    client.reset();
    // Only a write shows that a client has gone while the upstream is awaited.
    gate.open();
    let line = gateway.log_line(|line| line["path"] == "/half");
    assert_eq!((&line["outcome"], &line["code"]), (&"client_disconnected".into(), &200.into()), "{line}");
    let mut client = gateway.client();
    client.send("GET /none HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(upstream.wait_until(limit(), |seen| seen.requests_for("/none") == 1));
    client.reset();
    let line = gateway.log_line(|line| line["path"] == "/none");
    assert_eq!((&line["outcome"], line.get("code")), (&"client_disconnected".into(), None), "{line}");
}

#[test]
fn connections_gauge_counts_open_connections() {
    let upstream = ok_upstream("");
    let gateway = Gateway::with_upstream(&upstream).start();
    let mut clients: Vec<_> = (0..3).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.get("/").assert_response(200, "");
    }
    let listener = gateway.address().to_string();
    gateway.expect_metric("connections", &[("listener", &listener)], 3.0);
    drop(clients);
    gateway.expect_metric("connections", &[("listener", &listener)], 0.0);
}

#[test]
fn failed_request_logs_one_line_with_cause_and_evidence() {
    let refusing = refusing_port();
    let gateway = GatewaySetup::with_servers(&[refusing.address()]).start();
    let response = gateway.client().get("/orders/7?token=secret");
    let id = response.header("x-request-id").unwrap().to_owned();
    let line = gateway.log_line(|line| line["request_id"] == id);
    assert_eq!(line["cause"], "connection_refused");
    assert_eq!(line["code"], 504);
    assert_eq!((&line["route"], &line["upstream"]), (&"all".into(), &"main".into()));
    assert_eq!(line["path"], "/orders/7");
    assert_eq!(line["request_sent"], "none");
    assert_eq!(line["server"], refusing.address().to_string());
    assert!(line["evidence"].as_str().is_some_and(|evidence| !evidence.is_empty()), "{line:#}");
    assert!(!gateway.log_text().contains("secret"));
}

#[test]
fn successful_request_is_logged_only_when_all_requests_are() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream).set("log.requests", "all").start();
    let id = gateway.client().get("/seen").header("x-request-id").map(str::to_owned);
    let line = gateway.log_line(|line| line["path"] == "/seen");
    assert_eq!(line["code"], 200);
    assert!(id.is_some_and(|id| line["request_id"] == id));
    let quiet = Gateway::with_upstream(&upstream).start();
    quiet.client().get("/unseen").assert_response(200, "fine");
    quiet.client().get("/a/../b");
    quiet.log_line(|line| line["cause"] == "ambiguous_path");
    assert!(!quiet.log_text().contains("/unseen"));
}

#[test]
fn control_characters_from_clients_are_escaped_in_the_log() {
    let upstream = html_upstream("502 Bad Gateway");
    let gateway = Gateway::with_upstream(&upstream).start();
    gateway
        .client()
        .exchange(SentRequest::Http11("GET"), b"GET /a%1b[31m HTTP/1.1\r\nhost: test\r\nx: \xff\xfe\r\n\r\n");
    let line = gateway.log_line(|line| line["path"].as_str().is_some_and(|path| path.starts_with("/a")));
    assert!(!line.to_string().contains('\u{1b}'));
}

/// Upstream error text must not reach the client; for malformed responses the log contains it.
#[test]
fn upstream_detail_of_a_fault_or_5xx_never_reaches_the_client() {
    const CANARY: &str = "canary-7f3a";
    let canaries = [
        format!("220 {CANARY} ESMTP\r\n\r\n"),
        format!(
            "HTTP/1.1 500 {CANARY}\r\nx-a: {CANARY}\r\nserver: {CANARY}\r\ncontent-length: 11\r\n\r\n{CANARY}"
        ),
        format!("HTTP/1.1 503 {CANARY}\r\nretry-after: {CANARY}\r\ncontent-length: 11\r\n\r\n{CANARY}"),
        format!("HTTP/1.1 200 OK\r\nx-a: {CANARY}\r\n {CANARY}\r\n\r\n"),
        format!("HTTP/1.1 999 {CANARY}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {CANARY}\r\n\r\n"),
    ];
    for bytes in canaries {
        let upstream = script([Step::ReadRequestHead, write_bytes(bytes.clone()), Step::Close]);
        let gateway = Gateway::with_upstream(&upstream).start();
        let response = gateway.client().get("/");
        assert!(response.status >= 500, "{bytes:?}: {response:#?}");
        let everything = format!("{response:?} {}", response.text());
        assert!(!everything.contains(CANARY), "{bytes:?}: {everything}");
        gateway.log_line(|line| line["code"] == response.status);
    }
}

#[test]
fn body_members_are_added_only_when_included() {
    let refusing = refusing_port();
    let gateway = GatewaySetup::with_servers(&[refusing.address()])
        .set("errors.include", "[type, request_id, retryable, request_sent]")
        .start();
    let response = gateway.client().get("/");
    let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["type"], "general_gateway_timeout");
    assert_eq!(body["request_id"], response.header("x-request-id").unwrap());
    assert_eq!(body["request_sent"], "none");
    assert!(body["retryable"].is_boolean());
    assert!(response.text().starts_with(r#"{"message":"#), "{}", response.text());
}

#[test]
fn request_sent_is_never_none_when_bytes_were_sent() {
    for (steps, least) in [
        (vec![Step::ReadRequestHead, Step::Close], "full"),
        (vec![Step::ReadRequestHead, Step::ReadUntilClose], "full"),
        (vec![Step::ReadRequestHead, write_bytes("HTTP/1.1 2"), Step::Reset], "full"),
    ] {
        let upstream = script(steps);
        let gateway = Gateway::with_upstream(&upstream)
            .set("errors.include", "[request_sent]")
            .set("timeouts.response_headers", "300ms")
            .start();
        let response = gateway.client().request("POST", "/", "", "body");
        let body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(body["request_sent"], least);
        assert_eq!(upstream.request_count(), 1);
    }
}

#[test]
fn override_sets_code_and_message_and_first_match_wins() {
    let (refusing, upstream) = (refusing_port(), static_response(http_response("405 No", "<p>")));
    let gateway = Gateway::with_upstream(&upstream)
        .upstream("shop", &[refusing.address()])
        .set(
            "errors.overrides",
            "[{ when: { cause: connection_refused, upstream: shop }, code: 503, message: \"The shop is restarting.\", \
             retry_after: 9s }, { when: { upstream_status: [405] }, code: 404 }]",
        )
        .route("name: shop, match: { path: /shop }, upstream: shop")
        .route("name: rest, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    let response = client.get("/shop");
    response.assert_local_reply_message(503, "The shop is restarting.");
    assert_eq!(response.header("retry-after"), Some("9"));
    client.get("/").assert_local_reply(404);
}

/// The lines of requests with this path, and the sum of the lines that were omitted for `cause`.
fn lines_and_omitted(gateway: &Gateway, path: &str, cause: &str) -> (u64, u64) {
    let log = gateway.log_text();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let summaries = lines.iter().filter(|line| line["message"] == "omitted log lines of one cause");
    let of_cause = summaries.filter(|line| line["cause"] == cause);
    let omitted = of_cause.map(|line| line["omitted_lines"].as_u64().expect("a number")).sum();
    (lines.iter().filter(|line| line["path"] == path).count() as u64, omitted)
}

#[test]
fn storm_of_one_cause_is_sampled_and_the_omitted_lines_are_counted() {
    let upstream = ok_upstream("");
    let gateway = GatewaySetup::with_servers(&[upstream.address()])
        .route("name: known, match: { path: /known }, upstream: main")
        .start();
    let mut client = gateway.client();
    let (mut sent, deadline) = (0, Instant::now() + limit());
    while lines_and_omitted(&gateway, "/unknown", "destination_not_found").1 == 0 {
        assert!(Instant::now() < deadline, "no line was omitted of {sent}");
        for _ in 0..600 {
            client.get("/unknown").assert_local_reply(404);
        }
        sent += 600;
    }
    // Another cause is logged during the storm.
    assert_eq!(client.get("/a/../b").status, 400);
    let line = gateway.log_line(|line| line["path"] == "/a/../b");
    assert_eq!(line["cause"], "ambiguous_path");
    // The end of the process writes what is left to count.
    gateway.send_sigterm();
    gateway.log_line(|line| line["message"] == "stopped");
    let (lines, omitted) = lines_and_omitted(&gateway, "/unknown", "destination_not_found");
    assert_eq!(lines + omitted, sent, "{lines} lines, {omitted} omitted");
    let summary = gateway.log_line(|line| !line["omitted_lines"].is_null());
    let expected = serde_json::json!({
        "time": summary["time"], "level": "info", "message": "omitted log lines of one cause",
        "cause": "destination_not_found", "outcome": "rejected", "omitted_lines": summary["omitted_lines"],
    });
    assert_eq!(summary, expected);
}

#[test]
fn storm_is_logged_in_full_if_all_requests_are_logged() {
    let upstream = ok_upstream("");
    let gateway = GatewaySetup::with_servers(&[upstream.address()])
        .route("name: known, match: { path: /known }, upstream: main")
        .set("log.requests", "all")
        .start();
    let mut client = gateway.client();
    for _ in 0..600 {
        client.get("/unknown").assert_local_reply(404);
    }
    client.get("/known").assert_response(200, "");
    gateway.log_line(|line| line["path"] == "/known");
    assert_eq!(lines_and_omitted(&gateway, "/unknown", "destination_not_found"), (600, 0));
}
