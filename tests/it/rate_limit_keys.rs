//! Rate-limit keys and exemptions: parts of requests, buffered bodies, credentials, count resets, and both forms of the
//! RateLimit fields.
//!
//! Periods are hours, so that no quota is replenished during a test.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::prelude::*;
use super::rate_limits::window_around_now;

/// A route `/v1/{team}/x` and a fallback route with this rule.
fn with_rule(setup: GatewaySetup, rule: &str) -> GatewaySetup {
    setup
        .set("rate_limits", &format!("{{ a: {{ {rule} }} }}"))
        .route("name: team, match: { path: \"/v1/{team}/x\" }, upstream: main, rate_limits: [a]")
        .route("name: all, upstream: main, rate_limits: [a]")
}

const JSON_CONTENT_TYPE: &str = "content-type: application/json\r\n";
const MALFORMED: &str = "The request body is malformed or incomplete.";

#[test]
fn path_query_and_cookie_keys_separate_clients() {
    let upstream = ok_upstream("fine");
    let start = |key: &str| {
        with_rule(Gateway::with_upstream(&upstream), &format!("key: [\"{key}\"], allow: 1 per 1h")).start()
    };
    let gateway = start("path:team");
    let mut client = gateway.client();
    let paths = ["/v1/blue/x", "/v1/blue/x", "/v1/bl%75e/x", "/v1/red/x", "/other", "/v1//x", "/third"];
    let statuses = paths.map(|path| client.get(path).status);
    assert_eq!(statuses, [200, 429, 429, 200, 200, 429, 429], "a missing part falls back to the client");

    let gateway = start("query:id");
    let mut client = gateway.client();
    let paths = ["/?id=1", "/?x=2&id=1", "/?id=%31", "/?id=2", "/", "/?id=3&id=4", "/?id="];
    let statuses = paths.map(|path| client.get(path).status);
    assert_eq!(statuses, [200, 429, 429, 200, 200, 429, 429]);

    let gateway = start("cookie:sid");
    let mut client = gateway.client();
    let paths =
        ["cookie: a=b; sid=1\r\n", "cookie: sid=1\r\n", "cookie: sid=2\r\n", "", "cookie: sid=3; sid=4\r\n"];
    let statuses = paths.map(|fields| client.request("GET", "/", fields, "").status);
    assert_eq!(statuses, [200, 429, 200, 200, 429]);
}

#[test]
fn body_key_separates_clients_and_the_body_is_forwarded_complete() {
    let upstream = ok_upstream("fine");
    let rule = "key: [\"body:email\"], allow: 1 per 1h, unreadable: client_ip";
    let gateway = with_rule(Gateway::with_upstream(&upstream), rule).start();
    let mut client = gateway.client();
    let long = format!(r#"{{"email":"x@y","pad":"{}"}}"#, "p".repeat(70_000));
    for (fields, body, status) in [
        (JSON_CONTENT_TYPE, r#"{"email":"Bob@Example.com"}"#, 200),
        (JSON_CONTENT_TYPE, r#"{"x":1,"email":"bob@example.COM"}"#, 429),
        ("content-type: application/vnd.x+json\r\n", r#"{"email":"bob@example.com"}"#, 429),
        (JSON_CONTENT_TYPE, r#"{"email":"eve@example.com"}"#, 200),
        // An unreadable or missing key falls back to the client.
        (JSON_CONTENT_TYPE, r#"{"email":"a","email":"b"}"#, 200),
        (JSON_CONTENT_TYPE, r#"{"email":"#, 429),
        ("", r#"{"email":"new"}"#, 429),
        ("content-type: application/json\r\ncontent-encoding: gzip\r\n", r#"{"email":"new"}"#, 429),
        (JSON_CONTENT_TYPE, "", 429),
        (JSON_CONTENT_TYPE, &long, 429),
    ] {
        assert_eq!(client.request("POST", "/", fields, body).status, status, "{body:.40}");
    }
    let bodies: Vec<Vec<u8>> = upstream.recording().requests().map(|request| request.body.to_vec()).collect();
    assert_eq!(bodies.len(), 3);
    assert_eq!(bodies[0], br#"{"email":"Bob@Example.com"}"#);
    // In several writes, chunked, and on HTTP/2.
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in ["a\r\n{\"email\":\"\r\n", "4\r\neve@\r\n", "c\r\nexample.com\"\r\n", "1\r\n}\r\n0\r\n\r\n"]
    {
        client.send(piece);
        thread::sleep(Duration::from_millis(30)); // so that the gateway reads each write separately
    }
    client.read(SentRequest::Http11("POST")).assert_local_reply(429);
    gateway.expect_metrics_match_responses();
}

/// JSON bodies that cannot be read for a key, with their header fields: servers disagree about the member's value.
fn unreadable_bodies() -> [(&'static str, String); 9] {
    let coded = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let listed = "content-type: application/json\r\ncontent-encoding: identity\r\ncontent-encoding: br\r\n";
    let long = format!(r#"{{"email":"x@y","pad":"{}"}}"#, "p".repeat(70_000));
    [
        (JSON_CONTENT_TYPE, r#"{"email":"a","email":"b"}"#.to_owned()),
        (JSON_CONTENT_TYPE, r#"{"email":"a","x":{},"\u0065mail":"a"}"#.to_owned()),
        (
            "content-type: application/vnd.api+json; charset=utf-8\r\n",
            r#"{"email":1,"email":null}"#.to_owned(),
        ),
        (coded, "\u{1f}gzip".to_owned()),
        (listed, r#"{"email":"a"}"#.to_owned()),
        (JSON_CONTENT_TYPE, long),
        (JSON_CONTENT_TYPE, r#"{"email":"a"}{"email":"b"}"#.to_owned()),
        (JSON_CONTENT_TYPE, r#"{"email":"a",}"#.to_owned()),
        (JSON_CONTENT_TYPE, r#"{"email":"#.to_owned()),
    ]
}

#[test]
fn unreadable_body_is_rejected_and_consumes_no_quota() {
    let upstream = ok_upstream("fine");
    let rule = "key: [client_ip, \"body:email\"], allow: 2 per 1h";
    let gateway = with_rule(Gateway::with_upstream(&upstream), rule).with_h2c_listener().start();
    for (fields, body) in unreadable_bodies() {
        let response = gateway.client().request("POST", "/", fields, &body);
        response.assert_local_reply_message(400, MALFORMED);
        assert_eq!(response.header("x-ratelimit-limit"), Some("2"), "{body:.60}");
        assert!(response.connection_usable || body.len() > 1_000, "{body:.60}");
        let id = response.header("x-request-id").unwrap().to_owned();
        let line = gateway.log_line(|line| line["request_id"] == id);
        assert_eq!((&line["cause"], &line["rule"]), (&"malformed_body".into(), &"a".into()), "{line}");
    }
    // The same length without an announcement.
    let mut client = gateway.client();
    client.send(format!(
        "POST / HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}transfer-encoding: chunked\r\n\r\n"
    ));
    client.send(format!("{:x}\r\n{}\r\n0\r\n\r\n", 70_000, "9".repeat(70_000)));
    client.read(SentRequest::Http11("POST")).assert_local_reply_message(400, MALFORMED);
    let json = [("content-type", "application/json")];
    let repeated = Bytes::from_static(br#"{"email":"a","email":"b"}"#);
    gateway.h2_client().request("POST", "/", &json, repeated).assert_local_reply_message(400, MALFORMED);
    assert_eq!(upstream.request_count(), 0);
    // A body without the member is readable: the address replaces the member.
    let mut client = gateway.client();
    for (fields, body, remaining) in [
        (JSON_CONTENT_TYPE, r#"{"x":1}"#, "1"),
        (JSON_CONTENT_TYPE, "[]", "0"),
        (JSON_CONTENT_TYPE, r#"{"email":"a"}"#, "1"),
        ("content-type: application/json\r\ncontent-encoding: identity\r\n", r#"{"email":"a"}"#, "0"),
    ] {
        let response = client.request("POST", "/", fields, body);
        assert_eq!(
            (response.status, response.header("x-ratelimit-remaining")),
            (200, Some(remaining)),
            "{body}"
        );
    }
    for (fields, body) in [("", r#"{"email":"a","email":"b"}"#), (JSON_CONTENT_TYPE, "")] {
        assert_eq!(client.request("POST", "/", fields, body).status, 429, "not JSON: {body}");
    }
    gateway.expect_metrics_match_responses();
}

#[test]
fn unreadable_body_is_not_rejected_by_shadow_or_exempt_rules() {
    let upstream = ok_upstream("fine");
    let repeated = r#"{"email":"a","email":"b"}"#;
    for rule in [
        "key: [\"body:email\"], allow: 1 per 1h, mode: shadow",
        "key: [\"body:email\"], allow: 1 per 1h, exempt: [127.0.0.1]",
    ] {
        let gateway = with_rule(Gateway::with_upstream(&upstream), rule).start();
        let mut client = gateway.client();
        for _ in 0..2 {
            client.request("POST", "/", JSON_CONTENT_TYPE, repeated).assert_response(200, "fine");
        }
    }
}

#[test]
fn http2_body_is_buffered_for_a_body_key() {
    let upstream = ok_upstream("fine");
    let gateway = with_rule(Gateway::with_upstream(&upstream), "key: [\"body:email\"], allow: 1 per 1h")
        .with_h2c_listener()
        .start();
    let mut client = gateway.h2_client();
    let mut post = |body: &'static str| {
        client.request(
            "POST",
            "/",
            &[("content-type", "application/json")],
            Bytes::from_static(body.as_bytes()),
        )
    };
    post(r#"{"email":"a"}"#).assert_response(200, "fine");
    post(r#"{"email":"A"}"#).assert_local_reply(429);
    post(r#"{"email":"b"}"#).assert_response(200, "fine");
    assert_eq!(upstream.recording().requests().last().unwrap().body, br#"{"email":"b"}"#);
}

#[test]
fn long_body_is_streamed_and_retried_as_usual() {
    // The server closes a kept connection when the next request arrives: PUT is idempotent, so it is sent again.
    let upstream = scripts([
        vec![Step::ReadRequest, Step::Write(http_response("200 OK", "kept")), Step::ReadRequest, Step::Close],
        vec![Step::ReadRequest, Step::Write(http_response("200 OK", "stored"))],
    ]);
    let gateway =
        with_rule(Gateway::with_upstream(&upstream), "key: [\"body:email\"], allow: 9 per 1h").start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "kept");
    client.request("PUT", "/", JSON_CONTENT_TYPE, r#"{"email":"a"}"#).assert_response(200, "stored");
    let bodies: Vec<Vec<u8>> = upstream.recording().requests().map(|request| request.body.to_vec()).collect();
    assert_eq!(bodies, [Vec::new(), br#"{"email":"a"}"#.to_vec(), br#"{"email":"a"}"#.to_vec()]);

    let upstream = script([Step::ReadRequestHead, Step::EchoBody]);
    let rule = "key: [\"body:email\"], allow: 9 per 1h, unreadable: client_ip";
    let gateway = with_rule(Gateway::with_upstream(&upstream), rule).start();
    let body = format!(r#"{{"email":"a","pad":"{}"}}"#, "p".repeat(200_000));
    let mut client = gateway.client();
    client.request("PUT", "/", JSON_CONTENT_TYPE, &body).assert_response(200, &body);
    let chunks = format!(
        "PUT / HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    client.exchange(SentRequest::Http11("PUT"), chunks).assert_response(200, &body);
    // A body above the route's limit is rejected while it is buffered.
    let gateway = with_rule(Gateway::with_upstream(&upstream), "key: [\"body:email\"], allow: 9 per 1h")
        .set("client.max_body", "1KiB")
        .start();
    let mut client = gateway.client();
    client.send(format!(
        "PUT / HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}transfer-encoding: chunked\r\n\r\n500\r\n"
    ));
    client.send("x".repeat(0x500));
    client.read(SentRequest::Http11("PUT")).assert_local_reply_message(400, "The request body is too large.");
}

#[test]
fn expect_continue_gets_one_100_and_a_denial_needs_no_body() {
    let upstream = script([
        Step::ReadRequestHead,
        Step::SendContinue,
        Step::ReadBody,
        Step::Write(http_response("200 OK", "fine")),
    ]);
    let gateway = with_rule(
        Gateway::with_upstream(&upstream),
        "key: [\"body:email\"], allow: 1 per 1h",
    )
    .route("name: denied, match: { path: /denied }, upstream: main, rate_limits: [a], deny: { methods: [POST] }")
    .start();
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}expect: 100-continue\r\ncontent-length: 13\r\n\r\n"
        )
    };
    for (number, status) in [(0, 200), (1, 429)] {
        let mut client = gateway.client();
        client.send(head("/"));
        client.wait_for("100");
        client.send(r#"{"email":"a"}"#);
        let response = client.read(SentRequest::Http11("POST"));
        assert_eq!((response.status, response.interim.len()), (status, 1), "{number}: {response:#?}");
    }
    let mut client = gateway.client();
    client.send(head("/denied"));
    let response = client.read(SentRequest::Http11("POST"));
    assert_eq!((response.status, response.interim.len()), (403, 0), "no 100 before a denial: {response:#?}");
}

#[test]
fn fault_in_a_body_that_is_read_for_a_key_gets_the_rate_limit_fields() {
    let upstream = ok_upstream("must not be reached");
    let gateway = with_rule(Gateway::with_upstream(&upstream), "key: [\"body:email\"], allow: 9 per 1h")
        .set("client.body_timeout", "300ms")
        .set("client.max_body", "1KiB")
        .start();
    let post =
        |framing: &str| format!("POST / HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}{framing}\r\n\r\n");
    let (chunked, length) = (post("transfer-encoding: chunked"), post("content-length: 100"));
    for (name, input, half_closes) in [
        ("malformed chunk", format!("{chunked}zz\r\n"), false),
        ("above max_body", format!("{chunked}800\r\n{}\r\n0\r\n\r\n", " ".repeat(0x800)), false),
        ("too slow", format!("{length}{{"), false),
        ("truncated", format!("{length}{{"), true),
    ] {
        let mut client = gateway.client();
        client.send(input);
        if half_closes {
            client.shutdown_write();
        }
        let response = client.read(SentRequest::Http11("POST"));
        assert_eq!((response.status, response.header("x-ratelimit-limit")), (400, Some("9")), "{name}");
        assert_eq!(response.header("x-ratelimit-remaining"), Some("9"), "{name}");
    }
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn body_timeout_and_deadline_apply_to_a_body_buffered_for_a_key() {
    let upstream = ok_upstream("must not be reached");
    let gateway = with_rule(Gateway::with_upstream(&upstream), "key: [\"body:email\"], allow: 9 per 1h")
        .set("client.body_timeout", "300ms")
        .set("errors.include", "[request_sent]")
        .start();
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}content-length: 13\r\n\r\n{{"));
    let started = std::time::Instant::now();
    let response = client.read(SentRequest::Http11("POST"));
    assert_eq!(response.status, 400);
    assert!(response.text().contains(r#""request_sent":"none""#), "{response:#?}");
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(upstream.request_count(), 0);
    // The deadline does not include the time to receive the body.
    let gateway = with_rule(Gateway::with_upstream(&upstream), "key: [\"body:email\"], allow: 9 per 1h")
        .set("timeouts.deadline", "400ms")
        .set("timeouts.response_headers", "300ms")
        .set("timeouts.connect", "300ms")
        .start();
    let mut client = gateway.client();
    client.send(format!("POST / HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}content-length: 13\r\n\r\n"));
    for octet in r#"{"email":"a"}"#.split_inclusive('"') {
        thread::sleep(millis(150)); // longer than the deadline in total, which pauses meanwhile
        client.send(octet);
    }
    client.read(SentRequest::Http11("POST")).assert_response(200, "must not be reached");
}

#[test]
fn reset_on_status_resets_the_count_and_failures_do_not() {
    let upstream = by_request(|request| {
        let response = match request.path() {
            "/good" => http_response("201 Created", "in"),
            _ => http_response(
                "401 Unauthorized\ncontent-type: application/json",
                r#"{"message":"Wrong.","code":401}"#,
            ),
        };
        vec![Step::ReadRequestHead, Step::Write(response)]
    });
    let (period, _) = window_around_now();
    for algorithm in ["gcra", "fixed_window", "sliding_window"] {
        let rule = format!("allow: 3 per {period}s, algorithm: {algorithm}, reset_on: [201]");
        let gateway = with_rule(Gateway::with_upstream(&upstream), &rule).start();
        let mut client = gateway.client();
        let paths = ["/bad", "/bad", "/good", "/bad", "/bad", "/bad", "/good", "/bad"];
        let results = paths.map(|path| {
            let response = client.get(path);
            (response.status, response.header("x-ratelimit-remaining").unwrap().to_owned())
        });
        let results = results.each_ref().map(|(status, remaining)| (*status, remaining.as_str()));
        let expected =
            [(401, "2"), (401, "1"), (201, "0"), (401, "2"), (401, "1"), (401, "0"), (429, "0"), (429, "0")];
        assert_eq!(results, expected, "{algorithm}");
    }
}

#[test]
fn exemption_requires_the_header_value_not_its_presence() {
    let upstream = ok_upstream("fine");
    // printf %s foo | sha256sum
    let digest = "2C26B46B68FFC68FF99B453C1D30413413422D706483BFA0F98A5E886266E7AE";
    let rule = format!("allow: 1 per 1h, exempt: [192.0.2.0/24, {{ header: X-Api-Key, sha256: {digest} }}]");
    let gateway = with_rule(Gateway::with_upstream(&upstream), &rule).start();
    let mut client = gateway.client();
    let mut send = |fields: &str| {
        let response = client.request("GET", "/", fields, "");
        (response.status, response.header("x-ratelimit-limit").is_some())
    };
    assert_eq!(send("x-api-key: bar\r\n"), (200, true));
    for fields in
        ["x-api-key: bar\r\n", "x-api-key:\r\n", "x-api-key: foo\r\nx-api-key: foo\r\n", "", "x-api: foo\r\n"]
    {
        assert_eq!(send(fields), (429, true), "{fields:?}");
    }
    let wrong_key = format!("x-api-key: {digest}\r\n");
    assert_eq!(send(&wrong_key), (429, true));
    for _ in 0..3 {
        assert_eq!(send("x-api-key: foo\r\n"), (200, false));
    }
}

#[test]
fn standard_ratelimit_headers_list_every_rule_and_replace_upstream_ones() {
    let upstream = static_response(http_response(
        "200 OK\nratelimit: 9\nRateLimit-Policy: 10;w=1\nx-ratelimit-limit: 7",
        "fine",
    ));
    let start = |headers: &str| {
        Gateway::with_upstream(&upstream)
            .set(
                "rate_limits",
                "{ bucket: { allow: 100 per 1m, burst: 20 }, wide: { key: [route], allow: 50 per 1h } }",
            )
            .set("rate_limit_headers", headers)
            .route("name: all, upstream: main, rate_limits: [bucket, wide]")
            .start()
    };
    let gateway = start("ratelimit");
    let response = gateway.client().get("/");
    assert_eq!(response.header("ratelimit-policy"), Some(r#""bucket";q=20;w=12, "wide";q=50;w=3600"#));
    assert_eq!(response.header("ratelimit"), Some(r#""bucket";r=19;t=1, "wide";r=49;t=72"#));
    assert_eq!(response.header("x-ratelimit-limit"), Some("7"), "forwarded unchanged");
    let gateway = start("both");
    let response = gateway.client().get("/");
    assert_eq!(response.header("ratelimit"), Some(r#""bucket";r=19;t=1, "wide";r=49;t=72"#));
    assert_eq!(response.header("x-ratelimit-limit"), Some("20"));
}

#[test]
fn jitter_only_lengthens_retry_after() {
    let upstream = ok_upstream("fine");
    let rule = "allow: 1 per 1h, retry_after_jitter: 30s";
    let gateway = with_rule(Gateway::with_upstream(&upstream), rule).start();
    let mut client = gateway.client();
    client.get("/").assert_response(200, "fine");
    let waits: Vec<u64> =
        (0..20).map(|_| client.get("/").header("retry-after").unwrap().parse().unwrap()).collect();
    assert!(waits.iter().all(|wait| (3_590..=3_630).contains(wait)), "{waits:?}");
    let different: std::collections::HashSet<&u64> = waits.iter().collect();
    assert!(different.len() > 5, "{waits:?}");
}

#[test]
fn panic_reply_still_has_rate_limit_headers() {
    let upstream = ok_upstream("fine");
    let gateway = with_rule(Gateway::with_upstream(&upstream), "allow: 5 per 1h")
        .environment("STATUSQUO_TEST_PANIC", "1")
        .may_panic()
        .start();
    let mut client = gateway.client();
    assert_eq!(client.get("/").header("x-ratelimit-remaining"), Some("4"));
    let response = client.get("/__panic");
    assert_eq!(
        (response.status, response.header("x-ratelimit-remaining")),
        (500, Some("3")),
        "{response:#?}"
    );
    assert_eq!(response.header("x-ratelimit-limit"), Some("5"));
}

#[test]
fn simulate_denies_the_requests_that_the_live_run_denied() {
    let upstream = by_request(|request| {
        let status = if request.path() == "/v1/good/x" { "201 Created" } else { "200 OK" };
        vec![Step::ReadRequestHead, Step::Write(http_response(status, "fine"))]
    });
    let (period, _) = window_around_now();
    let rules = format!(
        "{{ bucket: {{ allow: 8 per 1h, burst: 3 }}, window: {{ key: [\"path:team\"], allow: 4 per {period}s, algorithm: fixed_window, reset_on: [201] }}, \
         sliding: {{ key: [client_ip, method], allow: 5 per {period}s, algorithm: sliding_window, cost: 2 }}, trial: {{ key: [route], allow: 2 per 1h, mode: shadow }} }}"
    );
    let gateway = Gateway::with_upstream(&upstream)
        .set("log.requests", "all")
        .set("client.trusted_proxies", "[127.0.0.1]")
        .set("rate_limits", &rules)
        .route("name: team, match: { path: \"/v1/{team}/x\" }, upstream: main, rate_limits: [bucket, window, trial]")
        .route("name: all, upstream: main, rate_limits: [sliding]")
        .start();
    let mut client = gateway.client();
    let mut denied = Vec::new();
    for turn in 0..60 {
        // The replay orders log lines by millisecond; lines of the same millisecond may be swapped.
        thread::sleep(Duration::from_millis(3));
        let address = format!("192.0.2.{}", turn % 5);
        let path = ["/v1/a/x", "/v1/b/x", "/v1/good/x", "/other"][turn % 4];
        let method = if turn % 7 == 0 { "PUT" } else { "GET" };
        let response = client.request(method, path, &format!("x-forwarded-for: {address}\r\n"), "");
        if response.status == 429 {
            let id = response.header("x-request-id").unwrap().to_owned();
            let rule = gateway.log_line(|line| line["request_id"] == id)["rule"].as_str().unwrap().to_owned();
            denied.push((address, method.to_owned(), path.to_owned(), rule));
        }
    }
    let shadow_denied = gateway.metric("rate_limit_decisions_total", &[("decision", "shadow_denied")]);
    assert!(denied.len() > 10 && shadow_denied > 3.0, "{denied:?} {shadow_denied}");
    let folder = super::gateway::TestFolder::new();
    let log = folder.write("access.log", &gateway.log_text());
    let file = gateway.configuration().to_str().unwrap().to_owned();
    let arguments = ["limits", "simulate", "--log", log.to_str().unwrap(), "--format", "json", &file];
    let (code, out, errors) = super::gateway::run(&arguments, &[]);
    assert_eq!(code, Some(0), "{errors}");
    let results: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(results["requests"], 60, "{results:#}");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let all = results["denied"].as_array().unwrap();
    let simulated: Vec<_> = all
        .iter()
        .filter(|entry| entry["decision"] == "denied")
        .map(|entry| {
            (text(&entry["client_ip"]), text(&entry["method"]), text(&entry["target"]), text(&entry["rule"]))
        })
        .collect();
    assert_eq!(simulated, denied);
    assert_eq!((all.len() - denied.len()) as f64, shadow_denied);
    // The same in the log format of other servers.
    let lines: String = (0..4)
        .map(|second| {
            format!("192.0.2.9 - - [22/Nov/2026:10:00:0{second} +0000] \"GET /v1/a/x HTTP/1.1\" 200 4\n")
        })
        .collect();
    let log = folder.write("common.log", &lines);
    let (code, out, _) =
        super::gateway::run(&["limits", "simulate", "--log", log.to_str().unwrap(), &file], &[]);
    assert_eq!(code, Some(0));
    assert!(
        out.contains(
            "2026-11-22T10:00:03.000Z denied 192.0.2.9 GET /v1/a/x route=team rule=bucket retry_after=447\n"
        ),
        "{out}"
    );
}

/// A window length of at least an hour, and the end of the current window, a few seconds from now.
fn window_that_ends_soon() -> (u64, SystemTime) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ends = now + 4..now + 100;
    let (period, end) = ends
        .flat_map(|end| (3_600..20_000).map(move |period| (period, end)))
        .find(|(period, end)| end % period == 0)
        .expect("a length");
    (period, UNIX_EPOCH + Duration::from_secs(end))
}

/// The time at which the header section arrived must not decide: the window may have ended while the body was read.
#[test]
fn slowly_sent_body_without_a_key_counts_in_the_window_of_its_end() {
    let upstream = ok_upstream("fine");
    let (gateway, mut slow, end) = loop {
        let (period, end) = window_that_ends_soon();
        let rule = format!("key: [\"body:email\"], allow: 2 per {period}s, algorithm: fixed_window");
        let gateway = with_rule(Gateway::with_upstream(&upstream), &rule).start();
        let mut slow = gateway.client();
        slow.send(format!(
            "POST / HTTP/1.1\r\nhost: test\r\n{JSON_CONTENT_TYPE}expect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        ));
        slow.wait_for("100 Continue\r\n\r\n");
        slow.send(" ");
        // Windows that begin within a second after the time of a request are taken for a difference of clocks.
        if SystemTime::now() + Duration::from_millis(1500) < end {
            break (gateway, slow, end);
        }
    };
    let mut client = gateway.client();
    let deadline = Instant::now() + limit();
    let first_of_window = loop {
        let response = client.get("/");
        let resets: u64 = response.header("x-ratelimit-reset").unwrap().parse().unwrap();
        if UNIX_EPOCH + Duration::from_secs(resets) > end {
            break response;
        }
        assert!(Instant::now() < deadline, "the window does not end: {response:#?}");
    };
    assert_eq!((first_of_window.status, first_of_window.header("x-ratelimit-remaining")), (200, Some("1")));
    slow.send("\n");
    slow.read(SentRequest::Http11("POST")).assert_response(200, "fine");
    assert_eq!(client.get("/").status, 429, "both requests of the new window are used up");
}
