//! Rate limits from a client's point of view: the exact denial, the RateLimit header fields and matching counters.
//!
//! Periods are hours, so that no quota is replenished during a test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::contract_check::check_local_reply;
use super::prelude::*;
use super::response_reader::MessageFraming;

const LIMITED_ROUTE: &str = "name: all, upstream: main, rate_limits: ";

/// One route `total` with these rules.
fn with_rules(setup: GatewaySetup, rules: &str, names: &str) -> GatewaySetup {
    setup.set("rate_limits", rules).route(&format!("{LIMITED_ROUTE}{names}"))
}

/// A window length of about one hour that puts the current time near its middle, so that no window ends during a test.
/// Returns the length and the remaining time, in seconds.
pub fn window_around_now() -> (u64, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let period = (3_600..).find(|period| (period / 4..period * 3 / 4).contains(&(now % period))).unwrap();
    (period, period - now % period)
}

/// Limit, remaining and seconds until the reset, from the header fields.
#[track_caller]
fn rate_limit_headers(response: &HttpResponse) -> Option<(u64, u64, u64)> {
    let number = |name: &str| response.header(name).map(|value| value.parse::<u64>().unwrap());
    let values = (number("x-ratelimit-limit"), number("x-ratelimit-remaining"), number("x-ratelimit-reset"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    match values {
        (None, None, None) => None,
        (Some(limit), Some(remaining), Some(reset)) => {
            Some((limit, remaining, (Duration::from_secs(reset).saturating_sub(now)).as_secs() + 1))
        }
        partly => panic!("only some RateLimit fields: {partly:?} in {response:#?}"),
    }
}

/// Asserts the header fields, with a reset in at most (and nearly) this number of seconds.
#[track_caller]
fn assert_rate_limit_headers(response: &HttpResponse, limit: u64, remaining: u64, reset: u64) {
    let Some((sent_limit, sent_remaining, sent_reset)) = rate_limit_headers(response) else {
        panic!("no RateLimit fields: {response:#?}");
    };
    assert_eq!((sent_limit, sent_remaining), (limit, remaining), "{response:#?}");
    assert!(
        (reset.saturating_sub(10)..=reset + 1).contains(&sent_reset),
        "{sent_reset}, not {reset}: {response:#?}"
    );
}

#[track_caller]
fn assert_retry_after(response: &HttpResponse, seconds: u64) {
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((seconds.saturating_sub(10)..=seconds).contains(&wait), "{wait}, not {seconds}: {response:#?}");
}

#[test]
fn request_over_the_burst_gets_the_documented_429() {
    let upstream = ok_upstream("fine");
    let rules = "{ per_ip: { key: [client_ip], allow: 6 per 1h, burst: 3 } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[per_ip]").start();
    let mut client = gateway.client();
    for (remaining, reset) in [(2, 600), (1, 1200), (0, 1800)] {
        let response = client.get("/");
        response.assert_response(200, "fine");
        assert_rate_limit_headers(&response, 3, remaining, reset);
    }
    let response = client.get("/");
    assert_rate_limit_headers(&response, 3, 0, 1800);
    assert_retry_after(&response, 600);
    let values = |name: &str| response.header(name).unwrap().to_owned();
    let fields = [
        ("x-ratelimit-limit", "3".to_owned()),
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", values("x-ratelimit-reset")),
        ("content-type", "application/json".to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("x-request-id", values("x-request-id")),
        ("retry-after", values("retry-after")),
        ("date", values("date")),
        ("content-length", "42".to_owned()),
    ];
    let expected = HttpResponse {
        status: 429,
        reason: "Too Many Requests".to_owned(),
        headers: fields.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        body: br#"{"message":"Too many requests","code":429}"#.to_vec(),
        framing: MessageFraming::Length(42),
        end: ResponseEnd::Complete,
        interim: Vec::new(),
        connection_usable: true,
    };
    assert_eq!(response, expected);
    // The connection stays open, even with an unread request body.
    client.request("POST", "/", "", "a body").assert_local_reply(429);
    let head = client.request("HEAD", "/", "", "");
    check_local_reply(&head, SentRequest::Http11("HEAD"), 429, "");
    assert_eq!(head.header("content-length"), Some("42"));
    assert_eq!(upstream.request_count(), 3, "a denied request does not reach the upstream");
    let line = gateway.log_line(|line| line["cause"] == "rate_limited");
    assert_eq!(
        (&line["code"], &line["rule"], &line["route"]),
        (&429.into(), &"per_ip".into(), &"all".into())
    );
    assert_eq!((&line["phase"], line.get("server")), (&"admit".into(), None));
    gateway.expect_metrics_match_responses();
}

#[test]
fn limited_route_sets_rate_limit_headers_on_every_response() {
    let refusing = refusing_port();
    let upstream_headers =
        "x-ratelimit-limit: 9999\nX-RateLimit-Remaining: 9998\nx-ratelimit-reset: 1\nx-ratelimit-own: 7";
    let upstream = by_request(move |request| {
        let (status, kind, body) = match request.path() {
            "/fine" => ("200 OK", "text/plain", "fine"),
            "/conforming" => {
                ("404 Not Found", "application/json", r#"{"message":"No such order.","code":404}"#)
            }
            "/own" => ("429 Slow", "application/json", r#"{"message":"Slow down.","code":429}"#),
            "/free" => ("404 Not Found", "text/html", "<p>"),
            _ => ("502 Bad Gateway", "text/html", "<p>"),
        };
        vec![
            Step::ReadRequestHead,
            Step::Write(http_response(&format!("{status}\ncontent-type: {kind}\n{upstream_headers}"), body)),
        ]
    });
    let gateway = Gateway::with_upstream(&upstream)
        .upstream("dead", &[refusing.address()])
        .set("rate_limits", "{ wide: { key: [client_ip], allow: 50 per 1h } }")
        .route("name: dead, match: { path: /dead }, upstream: dead, rate_limits: [wide]")
        .route("name: denied, match: { path: /denied }, upstream: main, rate_limits: [wide], deny: { methods: [GET] }")
        .route("name: free, match: { path: /free }, upstream: main")
        .route("name: all, match: { path: \"/v1/{*rest}\" }, upstream: main, rate_limits: [wide]")
        .route("name: top, match: { path: \"/{name}\" }, upstream: main, rate_limits: [wide]")
        .start();
    let mut client = gateway.client();
    let sent_requests = [
        ("/fine", 200, 1),
        ("/conforming", 404, 2),
        ("/own", 429, 3),
        ("/html", 504, 4),
        ("/dead", 504, 5),
        // A denied request consumes nothing.
        ("/denied", 403, 5),
    ];
    for (path, status, number) in sent_requests {
        let response = client.get(path);
        assert_eq!(response.status, status, "{path}");
        assert_rate_limit_headers(&response, 50, 50 - number, 72 * number);
        assert_eq!(response.header("x-ratelimit-own"), None, "{path}");
    }
    // Without a rule the upstream's fields are kept, on a 4xx; without a route there are none.
    let response = client.get("/free");
    assert_eq!((response.status, response.header("x-ratelimit-own")), (404, Some("7")), "{response:#?}");
    assert_eq!(rate_limit_headers(&client.get("/no/route")), None);
    for page in ["/metrics", "/livez"] {
        assert_eq!(
            (gateway.get_telemetry(page).status, rate_limit_headers(&gateway.get_telemetry(page))),
            (200, None)
        );
    }
    gateway.expect_metrics_match_responses();
}

#[test]
fn tightest_rule_is_reported_and_a_denial_consumes_nothing() {
    let upstream = ok_upstream("fine");
    let rules = "{ wide: { key: [client_ip], allow: 100 per 1h }, narrow: { key: [method], allow: 2 per 1h }, \
                 narrower: { key: [\"header:x-tenant\"], allow: 4 per 1h, burst: 1 } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[wide, narrow, narrower]").start();
    let mut client = gateway.client();
    assert_rate_limit_headers(&client.request("GET", "/", "x-tenant: a\r\n", ""), 1, 0, 900);
    // The tenant is denied; the other rules are not charged.
    for _ in 0..5 {
        let denied = client.request("GET", "/", "x-tenant: a\r\n", "");
        denied.assert_local_reply(429);
        assert_rate_limit_headers(&denied, 1, 0, 900);
        assert_retry_after(&denied, 900);
    }
    // `narrow` and `narrower` are used up: the one with the later reset is reported.
    assert_rate_limit_headers(&client.request("GET", "/", "x-tenant: b\r\n", ""), 2, 0, 3600);
    let denied = client.request("GET", "/", "x-tenant: c\r\n", "");
    denied.assert_local_reply(429);
    assert_retry_after(&denied, 1800);
    // Two rules deny: the longer wait is reported, and the log names its rule.
    let denied = client.request("GET", "/", "x-tenant: a\r\n", "");
    assert_retry_after(&denied, 1800);
    let id = denied.header("x-request-id").unwrap().to_owned();
    assert_eq!(gateway.log_line(|line| line["request_id"] == id)["rule"], "narrow");
    // Tenant c was denied by another rule only, so its own quota is unchanged.
    client.request("POST", "/", "x-tenant: c\r\n", "").assert_response(200, "fine");
    for (rule, decision, count) in [
        ("wide", "allowed", 3.0),
        ("narrow", "allowed", 3.0),
        ("narrower", "allowed", 3.0),
        ("wide", "denied", 0.0),
        ("narrow", "denied", 2.0),
        ("narrower", "denied", 6.0),
    ] {
        let labels = [("rule", rule), ("store", "memory"), ("decision", decision)];
        gateway.expect_metric("rate_limit_decisions_total", &labels, count);
    }
    for (rule, keys) in [("wide", 1.0), ("narrow", 2.0), ("narrower", 3.0)] {
        gateway.expect_metric("rate_limit_keys", &[("rule", rule)], keys);
    }
}

#[test]
fn shadow_rule_is_counted_and_invisible_to_clients() {
    let upstream = static_response(http_response("200 OK\nx-ratelimit-limit: 5", "fine"));
    let rules = "{ trial: { allow: 2 per 1h, mode: shadow } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[trial]").start();
    let mut client = gateway.client();
    for _ in 0..5 {
        let response = client.get("/");
        response.assert_response(200, "fine");
        assert_eq!(
            (response.header("x-ratelimit-limit"), response.header("x-ratelimit-reset")),
            (Some("5"), None)
        );
    }
    let decided = |decision| [("rule", "trial"), ("decision", decision)];
    gateway.expect_metric("rate_limit_decisions_total", &decided("allowed"), 2.0);
    gateway.expect_metric("rate_limit_decisions_total", &decided("shadow_denied"), 3.0);
    gateway.expect_metric("rate_limit_decisions_total", &decided("denied"), 0.0);
}

#[test]
fn shadow_rule_counts_only_requests_other_rules_allow() {
    let upstream = ok_upstream("fine");
    let rules = "{ real: { allow: 3 per 1h }, trial: { allow: 1 per 1h, mode: shadow } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[trial, real]").start();
    let mut client = gateway.client();
    let statuses: Vec<u16> = (0..5).map(|_| client.get("/").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    gateway.expect_metric("rate_limit_decisions_total", &[("rule", "trial"), ("decision", "allowed")], 1.0);
    gateway.expect_metric(
        "rate_limit_decisions_total",
        &[("rule", "trial"), ("decision", "shadow_denied")],
        2.0,
    );
    gateway.expect_metric("rate_limit_decisions_total", &[("rule", "real"), ("decision", "denied")], 2.0);
}

#[test]
fn client_ip_key_groups_ipv6_prefixes_and_skips_exempt_networks() {
    let upstream = ok_upstream("fine");
    let rules = "{ per_ip: { allow: 1 per 1h, exempt: [192.0.2.0/24] } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[per_ip]")
        .set("client.trusted_proxies", "[127.0.0.1]")
        .start();
    let mut client = gateway.client();
    let mut from = |address: &str| client.request("GET", "/", &format!("x-forwarded-for: {address}\r\n"), "");
    for (address, status) in [
        ("198.51.100.1", 200),
        ("198.51.100.1", 429),
        ("198.51.100.2", 200),
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
    ] {
        assert_eq!(from(address).status, status, "{address}");
    }
    for _ in 0..3 {
        let response = from("192.0.2.77");
        response.assert_response(200, "fine");
        assert_eq!(rate_limit_headers(&response), None);
    }
    gateway.expect_metric("rate_limit_keys", &[("rule", "per_ip")], 4.0);
    gateway.expect_metric("rate_limit_decisions_total", &[], 6.0);
}

#[test]
fn missing_empty_or_repeated_key_header_falls_back_to_client_ip() {
    let upstream = ok_upstream("fine");
    let rules = "{ tenant: { key: [\"header:X-Tenant\"], allow: 2 per 1h } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[tenant]").start();
    let mut client = gateway.client();
    for (fields, status) in [
        ("", 200),
        ("x-tenant:\r\n", 200),
        ("x-tenant: a\r\nx-tenant: b\r\n", 429),
        ("x-tenant: 127.0.0.1\r\n", 200),
        ("X-TENANT: a\r\n", 200),
        ("x-tenant: a\r\n", 200),
        ("x-tenant: a\r\n", 429),
    ] {
        assert_eq!(client.request("GET", "/", fields, "").status, status, "{fields:?}");
    }
}

#[test]
fn rule_counts_across_routes_unless_keyed_by_route() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set(
            "rate_limits",
            "{ shared: { allow: 2 per 1h }, each: { key: [client_ip, host, route], allow: 2 per 1h } }",
        )
        .route("name: a, match: { path: /a }, upstream: main, rate_limits: [shared]")
        .route("name: b, match: { path: /b }, upstream: main, rate_limits: [shared]")
        .route("name: c, match: { path: /c }, upstream: main, rate_limits: [each]")
        .route("name: d, match: { path: /d }, upstream: main, rate_limits: [each]")
        .start();
    let mut client = gateway.client();
    let statuses: Vec<u16> =
        ["/a", "/b", "/a", "/c", "/c", "/d", "/d", "/c"].map(|path| client.get(path).status).into();
    assert_eq!(statuses, [200, 200, 429, 200, 200, 200, 200, 429]);
    let mut host = |name: &str| {
        client.exchange(SentRequest::Http11("GET"), format!("GET /d HTTP/1.1\r\nhost: {name}\r\n\r\n")).status
    };
    assert_eq!(["TEST:80", "test.", "other"].map(&mut host), [429, 429, 200]);
}

#[test]
fn override_sets_code_and_retry_after_of_a_denial() {
    let upstream = ok_upstream("fine");
    let rules = "{ per_ip: { allow: 1 per 1h } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[per_ip]")
        .set(
            "errors.overrides",
            "[{ when: { cause: rate_limited, method: POST }, code: 503, retry_after: 7s }, \
                                   { when: { cause: rate_limited }, code: 503, message: \"Later.\" }]",
        )
        .start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    let posted = client.request("POST", "/", "", "x");
    posted.assert_local_reply(503);
    assert_eq!(posted.header("retry-after"), Some("7"));
    let got = client.get("/");
    got.assert_local_reply_message(503, "Later.");
    assert_retry_after(&got, 3600);
}

#[test]
fn concurrent_clients_are_allowed_exactly_the_quota() {
    let upstream = ok_upstream("fine");
    let rules = "{ per_ip: { allow: 100 per 1h }, wide: { key: [route], allow: 1000 per 1h } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[wide, per_ip]").start();
    let (admitted, denied) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = gateway.client();
                for _ in 0..20 {
                    let response = client.get("/");
                    let counter = if response.status == 200 { &admitted } else { &denied };
                    counter.fetch_add(1, Ordering::Relaxed);
                    assert!(
                        rate_limit_headers(&response)
                            .is_some_and(|(_, remaining, _)| response.status == 200 || remaining == 0)
                    );
                }
            });
        }
    });
    assert_eq!((admitted.into_inner(), denied.into_inner()), (100, 220));
    assert_eq!(upstream.request_count(), 100);
    gateway.expect_metrics_match_responses();
    for (rule, decision, count) in [
        ("per_ip", "allowed", 100.0),
        ("per_ip", "denied", 220.0),
        ("wide", "allowed", 100.0),
        ("wide", "denied", 0.0),
    ] {
        let labels = [("rule", rule), ("decision", decision)];
        gateway.expect_metric("rate_limit_decisions_total", &labels, count);
    }
    gateway.expect_metric("errors_total", &[("code", "429"), ("cause", "rate_limited")], 220.0);
    // A denial neither refunds nor consumes quota.
    assert_rate_limit_headers(&gateway.client().get("/"), 100, 0, 3600);
}

#[test]
fn preflights_are_never_limited_and_denials_are_cors_readable() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("rate_limits", "{ per_ip: { allow: 1 per 1h } }")
        .route(
            "name: all, upstream: main, rate_limits: [per_ip], cors: { allow_origins: [\"https://app.example.com\"] }",
        )
        .start();
    let mut client = gateway.client();
    let origin = "origin: https://app.example.com\r\n";
    for _ in 0..5 {
        let preflight =
            client.request("OPTIONS", "/", &format!("{origin}access-control-request-method: PUT\r\n"), "");
        assert_eq!((preflight.status, rate_limit_headers(&preflight)), (204, None));
    }
    let responses: Vec<HttpResponse> = (0..2).map(|_| client.request("GET", "/", origin, "")).collect();
    for (response, status) in responses.iter().zip([200, 429]) {
        assert_eq!(response.status, status);
        assert_rate_limit_headers(response, 1, 0, 3600);
        assert_eq!(response.header("access-control-allow-origin"), Some("https://app.example.com"));
        let exposed = response.header("access-control-expose-headers").unwrap().to_ascii_lowercase();
        for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"] {
            assert!(exposed.contains(name), "{name}: {response:#?}");
        }
    }
}

#[test]
fn http2_requests_are_limited_and_the_connection_is_kept() {
    let upstream = ok_upstream("fine");
    let rules = "{ per_ip: { allow: 4 per 1h, burst: 2 } }";
    let gateway =
        with_rules(Gateway::with_upstream(&upstream), rules, "[per_ip]").with_h2c_listener().start();
    let mut client = gateway.h2_client();
    let first = client.get("/");
    first.assert_response(200, "fine");
    assert_rate_limit_headers(&first, 2, 1, 900);
    // The client address is the same on the other listener.
    assert_rate_limit_headers(&gateway.client().get("/"), 2, 0, 1800);
    for _ in 0..3 {
        let denied = client.request("POST", "/", &[], Bytes::from_static(b"a body"));
        denied.assert_local_reply(429);
        assert_rate_limit_headers(&denied, 2, 0, 1800);
        assert_retry_after(&denied, 900);
    }
    assert_eq!(upstream.request_count(), 2);
    gateway.expect_metrics_match_responses();
}

#[test]
fn fixed_window_resets_at_the_same_time_for_all_clients() {
    let upstream = ok_upstream("fine");
    let (period, window_rest) = window_around_now();
    let rules = format!(
        "{{ a: {{ key: [\"header:x-a\"], algorithm: fixed_window, allow: {{ requests: 10, per: {period}s }} }} }}"
    );
    let gateway = with_rules(Gateway::with_upstream(&upstream), &rules, "[a]").start();
    let mut client = gateway.client();
    let mut resets = Vec::new();
    for name in ["x", "y"] {
        let mut send = || client.request("GET", "/", &format!("x-a: {name}\r\n"), "");
        for remaining in (0..10).rev() {
            let response = send();
            response.assert_response(200, "fine");
            assert_rate_limit_headers(&response, 10, remaining, window_rest);
            resets.push(response.header("x-ratelimit-reset").unwrap().parse::<u64>().unwrap());
        }
        for _ in 0..3 {
            let denied = send();
            denied.assert_local_reply(429);
            assert_rate_limit_headers(&denied, 10, 0, window_rest);
            assert_retry_after(&denied, window_rest);
            resets.push(denied.header("x-ratelimit-reset").unwrap().parse::<u64>().unwrap());
        }
    }
    resets.dedup();
    assert_eq!(resets.len(), 1, "{resets:?}");
    assert_eq!(resets[0] % period, 0, "aligned to the epoch: {resets:?}");
    gateway.expect_metrics_match_responses();
}

#[test]
fn sliding_window_and_cost_are_enforced() {
    let upstream = ok_upstream("fine");
    let (period, window_rest) = window_around_now();
    let rules = format!(
        "{{ a: {{ algorithm: sliding_window, allow: 10 per {period}s, cost: 3 }}, b: {{ key: [method], allow: 9 per 9h, cost: 4 }} }}"
    );
    let gateway = with_rules(Gateway::with_upstream(&upstream), &rules, "[a, b]").start();
    let mut client = gateway.client();
    assert_rate_limit_headers(&client.get("/"), 9, 5, 4 * 3600);
    assert_rate_limit_headers(&client.get("/"), 9, 1, 8 * 3600);
    let denied = client.get("/");
    denied.assert_local_reply(429);
    assert_rate_limit_headers(&denied, 9, 1, 8 * 3600);
    assert_retry_after(&denied, 3 * 3600);
    assert_rate_limit_headers(&client.request("POST", "/", "", ""), 10, 1, window_rest);
    let denied = client.request("PUT", "/", "", "");
    denied.assert_local_reply(429);
    // In the next window, once only 7 of the 9 requests count.
    assert_retry_after(&denied, window_rest + period * 2 / 9 + 1);
}

#[test]
fn concurrent_clients_never_exceed_a_window() {
    let upstream = ok_upstream("fine");
    for algorithm in ["fixed_window", "sliding_window"] {
        let (period, _) = window_around_now();
        let rules = format!("{{ a: {{ algorithm: {algorithm}, allow: 100 per {period}s }} }}");
        let gateway = with_rules(Gateway::with_upstream(&upstream), &rules, "[a]").start();
        let admitted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let mut client = gateway.client();
                    let statuses = (0..20).map(|_| client.get("/").status).filter(|status| *status == 200);
                    admitted.fetch_add(statuses.count() as u64, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(admitted.into_inner(), 100, "{algorithm}");
    }
}

#[test]
fn denied_request_is_allowed_after_retry_after() {
    let upstream = ok_upstream("fine");
    let period = millis(1500);
    let rules = format!("{{ per_ip: {{ allow: 1 per {}ms }} }}", period.as_millis());
    let gateway = with_rules(Gateway::with_upstream(&upstream), &rules, "[per_ip]").start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    let denied = client.get("/");
    denied.assert_local_reply(429);
    let wait: u64 = denied.header("retry-after").unwrap().parse().unwrap();
    assert!(wait >= 1 && u128::from(wait) <= period.as_millis().div_ceil(1000), "{wait} s");
    std::thread::sleep(std::time::Duration::from_secs(wait)); // the reported wait is under test
    client.get("/").assert_response(200, "fine");
}

#[test]
fn evictions_are_counted_when_keys_exceed_the_maximum() {
    let upstream = ok_upstream("fine");
    let rules = "{ tenant: { key: [\"header:x-tenant\"], allow: 2 per 1h, max_keys: 16 } }";
    let gateway = with_rules(Gateway::with_upstream(&upstream), rules, "[tenant]").start();
    let mut client = gateway.client();
    let evicted =
        |kind: &str| gateway.metric("rate_limit_evictions_total", &[("rule", "tenant"), ("kind", kind)]);
    for tenant in 0..16 {
        client.request("GET", "/", &format!("x-tenant: {tenant}\r\n"), "").assert_response(200, "fine");
    }
    let before = evicted("active");
    for tenant in 16..48 {
        client.request("GET", "/", &format!("x-tenant: {tenant}\r\n"), "").assert_response(200, "fine");
    }
    assert_eq!(evicted("active") - before, 32.0, "16 of 48 active keys are kept");
}
