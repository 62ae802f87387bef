//! CORS: the header fields of every kind of response, and which component responds to preflights.
//!
//! `tests/browser.rs` tests the effect in a real browser.

use bytes::Bytes;

use super::connections::hold_place;
use super::contract_check::check_local_reply;
use super::prelude::*;

const ALLOWED_ORIGIN: &str = "https://app.example.com";
const EXPOSED_HEADERS: &str = "access-control-expose-headers: X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";
const VARY: &str = "vary: Origin";
const PREFLIGHT_VARY: &str = "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
const ORIGIN_LIST: &str = "[\"https://app.example.com\", \"https://*.example.org\"]";

/// An upstream that sends its own, wrong, CORS header fields on successful responses and errors.
fn upstream_with_cors_headers() -> ScriptedUpstream {
    by_request(|request| {
        let upstream_headers = "vary: Accept-Encoding\naccess-control-allow-origin: *\naccess-control-allow-credentials: true\naccess-control-allow-methods: *\naccess-control-expose-headers: ETag";
        let response = match request.path() {
            "/missing" => http_response(
                &format!("404 Not Found\ncontent-type: application/json\n{upstream_headers}"),
                r#"{"message":"No such thing.","code":404}"#,
            ),
            "/broken" => {
                http_response(&format!("502 Bad Gateway\ncontent-type: text/html\n{upstream_headers}"), "<p>")
            }
            "/late" => return vec![Step::ReadRequestHead, Step::ReadUntilClose],
            _ => http_response(&format!("200 OK\n{upstream_headers}"), "fine"),
        };
        vec![Step::ReadRequestHead, Step::Write(response)]
    })
}

/// The header fields that matter to browsers and caches, sorted.
fn cors_headers(response: &HttpResponse) -> Vec<String> {
    let mut fields: Vec<_> = response
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("access-control-") || name == "vary")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    fields.sort();
    fields
}

fn with_cors(setup: GatewaySetup) -> GatewaySetup {
    setup
        .set("cors.allow_origins", ORIGIN_LIST)
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main, cors: default")
}

fn origin_header(origin: &str) -> String {
    format!("origin: {origin}\r\n")
}

fn preflight(origin: &str, method: &str) -> String {
    format!("origin: {origin}\r\naccess-control-request-method: {method}\r\n")
}

#[test]
fn route_responses_are_readable_by_allowed_origins_only() {
    let upstream = upstream_with_cors_headers();
    let gateway =
        with_cors(Gateway::with_upstream(&upstream)).set("timeouts.response_headers", "200ms").start();
    let mut client = gateway.client();
    for (path, status, by_upstream) in [
        ("/fine", 200, true),
        ("/missing", 404, true),
        ("/broken", 504, true),
        ("/late", 504, false),
        // The dot segments match no route.
        ("/a/../b", 400, false),
    ] {
        let (vary, exposed) = match by_upstream {
            true => ("vary: Origin, Accept-Encoding".to_owned(), format!("{EXPOSED_HEADERS}, ETag")),
            false => (VARY.to_owned(), EXPOSED_HEADERS.to_owned()),
        };
        let response = client.request("GET", path, &origin_header(ALLOWED_ORIGIN), "");
        assert_eq!(response.status, status, "{path}");
        let allowed = format!("access-control-allow-origin: {ALLOWED_ORIGIN}");
        assert_eq!(cors_headers(&response), [allowed, exposed, vary.clone()], "{path}");
        for foreign in [
            &origin_header("https://evil.example"),
            &origin_header("null"),
            &format!("{0}{0}", origin_header(ALLOWED_ORIGIN)),
            "",
        ] {
            let response = client.request("GET", path, foreign, "");
            assert_eq!(
                (response.status, cors_headers(&response)),
                (status, vec![vary.clone()]),
                "{path} {foreign}"
            );
        }
    }
    assert!(upstream.recording().requests().all(|request| request.head.method == "GET"));
    gateway.expect_metrics_match_responses();
}

#[test]
fn vary_asterisk_from_the_upstream_is_kept() {
    let upstream = super::scripted_upstreams::static_response(http_response("200 OK\nvary: *", "fine"));
    let gateway = with_cors(Gateway::with_upstream(&upstream)).start();
    assert_eq!(cors_headers(&gateway.client().get("/")), ["vary: *"]);
}

#[test]
fn route_without_cors_forwards_upstream_headers_and_preflights() {
    let upstream = upstream_with_cors_headers();
    let gateway = Gateway::with_upstream(&upstream)
        .set("cors.allow_origins", ORIGIN_LIST)
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    let upstream_headers = [
        "access-control-allow-credentials: true",
        "access-control-allow-methods: *",
        "access-control-allow-origin: *",
        "access-control-expose-headers: ETag",
        "vary: Accept-Encoding",
    ];
    for path in ["/fine", "/missing", "/broken"] {
        assert_eq!(
            cors_headers(&client.request("GET", path, &origin_header(ALLOWED_ORIGIN), "")),
            upstream_headers,
            "{path}"
        );
    }
    client.request("OPTIONS", "/fine", &preflight(ALLOWED_ORIGIN, "POST"), "").assert_response(200, "fine");
    assert_eq!(upstream.recording().requests().last().unwrap().head.method, "OPTIONS");
}

#[test]
fn request_without_a_route_uses_the_top_level_cors_policy() {
    let upstream = ok_upstream("here");
    let gateway = Gateway::with_upstream(&upstream)
        .set("cors.allow_origins", ORIGIN_LIST)
        .set("client.max_header_bytes", "1KiB")
        .route("name: here, match: { path: /here, methods: [GET] }, upstream: main")
        .with_h2c_listener()
        .start();
    let expected_headers = [
        format!("access-control-allow-origin: {ALLOWED_ORIGIN}"),
        EXPOSED_HEADERS.to_owned(),
        VARY.to_owned(),
    ];
    let nowhere = gateway.client().request("GET", "/nowhere", &origin_header(ALLOWED_ORIGIN), "");
    nowhere.assert_local_reply(404);
    assert_eq!(cors_headers(&nowhere), expected_headers);
    let long = format!("{}x: {}\r\n", origin_header(ALLOWED_ORIGIN), "x".repeat(2000));
    let long = gateway.client().request("GET", "/here", &long, "");
    assert_eq!((long.status, cors_headers(&long)), (400, expected_headers.to_vec()));
    let repeated = gateway.client().request(
        "GET",
        "/here",
        &format!("{}host: b\r\n", origin_header(ALLOWED_ORIGIN)),
        "",
    );
    assert_eq!((repeated.status, cors_headers(&repeated)), (400, expected_headers.to_vec()));
    let reply = gateway.h2_client().request(
        "GET",
        "/here",
        &[("origin", ALLOWED_ORIGIN), ("host", "b")],
        Bytes::new(),
    );
    assert_eq!((reply.status, cors_headers(&reply)), (400, expected_headers.to_vec()));

    // Its page may send requests to unknown paths and read the 404.
    let reply = gateway.client().request("OPTIONS", "/here", &preflight(ALLOWED_ORIGIN, "DELETE"), "");
    assert_eq!((reply.status, reply.header("access-control-allow-methods")), (204, Some("DELETE")));
    // The route for GET has no CORS policy: an ordinary OPTIONS request matches no route.
    gateway
        .client()
        .request("OPTIONS", "/here", &preflight(ALLOWED_ORIGIN, "GET"), "")
        .assert_local_reply(404);
    gateway.expect_metric("responses_total", &[("route", "none"), ("code", "204")], 1.0);
}

#[test]
fn rate_limit_denial_is_readable_and_preflights_are_not_counted() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .set("rate_limits.few", "{ key: [client_ip], allow: 1 per 1h }")
        .route(&format!(
            "name: few, upstream: main, rate_limits: [few], cors: {{ allow_origins: {ORIGIN_LIST} }}"
        ))
        .start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let reply = client.request("OPTIONS", "/", &preflight(ALLOWED_ORIGIN, "PUT"), "");
        assert_eq!((reply.status, reply.header("x-ratelimit-limit")), (204, None));
        client.request("OPTIONS", "/", &preflight("https://evil.example", "PUT"), "").assert_local_reply(403);
    }
    let expected_headers = [
        format!("access-control-allow-origin: {ALLOWED_ORIGIN}"),
        EXPOSED_HEADERS.to_owned(),
        VARY.to_owned(),
    ];
    let first = client.request("GET", "/", &origin_header(ALLOWED_ORIGIN), "");
    assert_eq!((first.status, first.header("x-ratelimit-remaining")), (200, Some("0")));
    assert_eq!(cors_headers(&first), expected_headers);
    let second = client.request("GET", "/", &origin_header(ALLOWED_ORIGIN), "");
    second.assert_local_reply(429);
    assert_eq!(cors_headers(&second), expected_headers);
}

#[test]
fn connection_limit_reply_is_readable_by_an_allowed_origin() {
    let upstream = ok_upstream("fine");
    let gateway = with_cors(Gateway::with_upstream(&upstream)).set("client.max_connections", "1").start();
    let _first = hold_place(&gateway, 1);
    let second = gateway.client().request("GET", "/", &origin_header(ALLOWED_ORIGIN), "");
    second.assert_local_reply(503);
    assert_eq!(second.header("access-control-allow-origin"), Some(ALLOWED_ORIGIN));
}

#[test]
fn preflight_uses_the_policy_of_the_route_for_its_method() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route(&format!(
            "name: write, match: {{ path: \"/x\", methods: [POST, PUT] }}, upstream: main, cors: {{ allow_origins: {ORIGIN_LIST}, allow_credentials: true, max_age: 10m }}"
        ))
        .route("name: read, match: { path: \"/x\", methods: [GET] }, upstream: main, cors: { allow_origins: [\"*\"], allow_methods: [GET, PATCH], allow_headers: [X-Key], expose_headers: [X-Total] }")
        .with_h2c_listener()
        .start();
    let mut client = gateway.client();
    let fields =
        format!("{}access-control-request-headers: content-type, x-a\r\n", preflight(ALLOWED_ORIGIN, "PUT"));
    let reply = client.request("OPTIONS", "/x", &fields, "");
    assert_eq!(
        (reply.status, reply.header("content-length"), reply.header("content-type")),
        (204, None, None)
    );
    assert!(reply.connection_usable && reply.header("x-request-id").is_some(), "{reply:#?}");
    let expected_headers = [
        "access-control-allow-credentials: true".to_owned(),
        "access-control-allow-headers: content-type, x-a".to_owned(),
        "access-control-allow-methods: POST, PUT".to_owned(),
        format!("access-control-allow-origin: {ALLOWED_ORIGIN}"),
        "access-control-max-age: 600".to_owned(),
        PREFLIGHT_VARY.to_owned(),
    ];
    assert_eq!(cors_headers(&reply), expected_headers);
    let fields = [
        ("origin", ALLOWED_ORIGIN),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type, x-a"),
    ];
    let reply = gateway.h2_client().request("OPTIONS", "/x", &fields, Bytes::new());
    assert_eq!((reply.status, cors_headers(&reply)), (204, expected_headers.to_vec()));

    let reply = client.request("OPTIONS", "/x", &preflight("https://evil.example", "GET"), "");
    assert_eq!(reply.status, 204);
    let expected_headers = [
        "access-control-allow-headers: x-key",
        "access-control-allow-methods: GET, PATCH",
        "access-control-allow-origin: *",
        PREFLIGHT_VARY,
    ];
    assert_eq!(cors_headers(&reply), expected_headers);
    let response = client.request("GET", "/x", &origin_header("https://evil.example"), "");
    let exposed = EXPOSED_HEADERS.replace(": ", ": x-total, ");
    assert_eq!(cors_headers(&response), ["access-control-allow-origin: *", &exposed, VARY]);

    assert_eq!(upstream.request_count(), 1, "no preflight is forwarded");
    gateway.expect_metric(
        "responses_total",
        &[("route", "write"), ("code", "204"), ("origin", "proxy")],
        2.0,
    );
    gateway.expect_metrics_match_responses();
}

#[test]
fn method_that_no_route_has_passes_its_preflight_and_gets_a_readable_error() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route(&format!(
            "name: read, match: {{ path: \"/x\", methods: [GET] }}, upstream: main, cors: {{ allow_origins: {ORIGIN_LIST}, allow_methods: [GET] }}"
        ))
        .start();
    let mut client = gateway.client();
    let reply = client.request("OPTIONS", "/x", &preflight(ALLOWED_ORIGIN, "DELETE"), "");
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("access-control-allow-methods"), Some("DELETE"));
    let response = client.request("DELETE", "/x", &origin_header(ALLOWED_ORIGIN), "");
    response.assert_local_reply(404);
    assert_eq!(response.header("access-control-allow-origin"), Some(ALLOWED_ORIGIN));
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn preflight_from_a_disallowed_origin_gets_403_and_is_not_forwarded() {
    let upstream = ok_upstream("fine");
    let gateway = with_cors(Gateway::with_upstream(&upstream)).with_h2c_listener().start();
    let mut client = gateway.client();
    for origin in ["https://evil.example", "null", "https://example.org", "http://app.example.com"] {
        let response = client.request("OPTIONS", "/", &preflight(origin, "POST"), "");
        response.assert_local_reply(403);
        assert_eq!(cors_headers(&response), [PREFLIGHT_VARY], "{origin}");
    }
    let fields = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let response = gateway.h2_client().request("OPTIONS", "/", &fields, Bytes::new());
    check_local_reply(
        &response,
        SentRequest::Http11("OPTIONS"),
        403,
        super::contract_check::default_message(403),
    );
    assert_eq!(upstream.request_count(), 0);
    gateway.expect_metric("errors_total", &[("route", "all"), ("cause", "http_request_denied")], 5.0);
    gateway.expect_metrics_match_responses();
}

#[test]
fn options_without_preflight_headers_is_an_ordinary_request() {
    let upstream = ok_upstream("fine");
    let gateway = with_cors(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    for fields in ["", "access-control-request-method: POST\r\n", &origin_header(ALLOWED_ORIGIN)] {
        client.request("OPTIONS", "/", fields, "").assert_response(200, "fine");
    }
    assert_eq!(upstream.request_count(), 3);
}

#[test]
fn preflight_of_a_method_that_is_never_accepted_is_not_forwarded() {
    let upstream = ok_upstream("must not be reached");
    let gateway = with_cors(Gateway::with_upstream(&upstream)).start();
    let mut client = gateway.client();
    for method in ["TRACE", "CONNECT", "trace", "", "not a method", "A-METHOD-OF-MORE-THAN-THIRTY-TWO-BYTES"]
    {
        let reply = client.request("OPTIONS", "/", &preflight(ALLOWED_ORIGIN, method), "");
        let expected = [&format!("access-control-allow-origin: {ALLOWED_ORIGIN}"), PREFLIGHT_VARY];
        let fields = cors_headers(&reply);
        assert_eq!(reply.status, 204, "{method:?}");
        assert!(expected.iter().all(|field| fields.iter().any(|sent| sent == field)), "{fields:?}");
        assert_eq!(reply.header("access-control-allow-methods"), None, "{method:?}");
        let refused = client.request("OPTIONS", "/", &preflight("https://evil.example", method), "");
        refused.assert_local_reply(403);
    }
    assert_eq!(upstream.request_count(), 0);
}

#[test]
fn preflight_gets_a_response_before_route_rules_apply() {
    let upstream = ok_upstream("fine");
    let gateway = Gateway::with_upstream(&upstream)
        .route(&format!("name: all, upstream: main, deny: {{ methods: [OPTIONS, DELETE] }}, allow_from: [203.0.113.7], cors: {{ allow_origins: {ORIGIN_LIST} }}"))
        .start();
    let mut client = gateway.client();
    assert_eq!(client.request("OPTIONS", "/", &preflight(ALLOWED_ORIGIN, "POST"), "").status, 204);
    let refused = client.request("POST", "/", &origin_header(ALLOWED_ORIGIN), "");
    refused.assert_local_reply(403);
    assert_eq!(refused.header("access-control-allow-origin"), Some(ALLOWED_ORIGIN));
}

#[test]
fn panic_reply_is_readable_by_an_allowed_origin() {
    let refusing = refusing_port();
    let gateway = GatewaySetup::with_servers(&[refusing.address()])
        .route(&format!("name: all, upstream: main, cors: {{ allow_origins: {ORIGIN_LIST} }}"))
        .environment("STATUSQUO_TEST_PANIC", "1")
        .may_panic()
        .start();
    let response = gateway.client().request("GET", "/__panic", &origin_header(ALLOWED_ORIGIN), "");
    response.assert_local_reply(500);
    assert_eq!(
        cors_headers(&response),
        [
            format!("access-control-allow-origin: {ALLOWED_ORIGIN}"),
            EXPOSED_HEADERS.to_owned(),
            VARY.to_owned()
        ]
    );
}
