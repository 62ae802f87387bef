//! Pages of other origins: what every kind of answer tells a browser, and who answers its preflights.
//!
//! What a real browser makes of it is shown in `tests/browser.rs`.

use bytes::Bytes;
use statusquo::rehearse::{ScriptedUpstream, UpstreamStep, http_response};

use super::gateway::{Gateway, Setup};
use super::promise::check_made;
use super::reader::{Answer, Asked};
use super::upstreams::{by_request, ok, refusing};

const APP: &str = "https://app.example.com";
const EXPOSED: &str = "access-control-expose-headers: X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";
const VARY: &str = "vary: Origin";
const PREFLIGHT_VARY: &str = "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
const LISTED: &str = "[\"https://app.example.com\", \"https://*.example.org\"]";

/// An upstream that has its own, wrong, opinion about sharing, on good answers and on errors.
fn opinionated() -> ScriptedUpstream {
    by_request(|request| {
        let own = "vary: Accept-Encoding\naccess-control-allow-origin: *\naccess-control-allow-credentials: true\naccess-control-allow-methods: *\naccess-control-expose-headers: ETag";
        let answer = match request.path() {
            "/missing" => http_response(
                &format!("404 Not Found\ncontent-type: application/json\n{own}"),
                r#"{"message":"No such thing.","code":404}"#,
            ),
            "/broken" => http_response(&format!("502 Bad Gateway\ncontent-type: text/html\n{own}"), "<p>"),
            "/late" => return vec![UpstreamStep::ReadRequestHead, UpstreamStep::ReadUntilClose],
            _ => http_response(&format!("200 OK\n{own}"), "fine"),
        };
        vec![UpstreamStep::ReadRequestHead, UpstreamStep::Write(answer)]
    })
}

/// What a browser or a cache reads of it, sorted.
fn sharing(answer: &Answer) -> Vec<String> {
    let mut fields: Vec<_> = answer
        .fields
        .iter()
        .filter(|(name, _)| name.starts_with("access-control-") || name == "vary")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    fields.sort();
    fields
}

fn shared(setup: Setup) -> Setup {
    setup
        .set("cors.allow_origins", LISTED)
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main, cors: default")
}

fn from(origin: &str) -> String {
    format!("origin: {origin}\r\n")
}

fn preflight(origin: &str, method: &str) -> String {
    format!("origin: {origin}\r\naccess-control-request-method: {method}\r\n")
}

#[test]
fn every_kind_of_answer_of_a_route_can_be_read_by_an_allowed_page_and_by_no_other() {
    let upstream = opinionated();
    let gateway = shared(Gateway::in_front_of(&upstream)).set("timeouts.response_head", "200ms").start();
    let mut client = gateway.client();
    for (path, status, answered) in [
        ("/fine", 200, true),
        ("/missing", 404, true),
        ("/broken", 504, true),
        ("/late", 504, false),
        // The dot segments reach no route.
        ("/a/../b", 400, false),
    ] {
        let (vary, exposed) = match answered {
            true => ("vary: Origin, Accept-Encoding".to_owned(), format!("{EXPOSED}, ETag")),
            false => (VARY.to_owned(), EXPOSED.to_owned()),
        };
        let answer = client.ask("GET", path, &from(APP), "");
        assert_eq!(answer.status, status, "{path}");
        let allowed = format!("access-control-allow-origin: {APP}");
        assert_eq!(sharing(&answer), [allowed, exposed, vary.clone()], "{path}");
        for foreign in [&from("https://evil.example"), &from("null"), &format!("{0}{0}", from(APP)), ""] {
            let answer = client.ask("GET", path, foreign, "");
            assert_eq!((answer.status, sharing(&answer)), (status, vec![vary.clone()]), "{path} {foreign}");
        }
    }
    assert!(upstream.recording().requests().all(|request| request.head.method == "GET"));
    gateway.expect_accounts_to_agree();
}

#[test]
fn an_upstream_that_varies_by_everything_still_says_so() {
    let upstream = super::upstreams::answering(http_response("200 OK\nvary: *", "fine"));
    let gateway = shared(Gateway::in_front_of(&upstream)).start();
    assert_eq!(sharing(&gateway.client().get("/")), ["vary: *"]);
}

#[test]
fn where_a_route_has_no_cors_the_upstreams_fields_pass_and_so_do_preflights() {
    let upstream = opinionated();
    let gateway = Gateway::in_front_of(&upstream)
        .set("cors.allow_origins", LISTED)
        .route("name: all, match: { path: \"/{*rest}\" }, upstream: main")
        .start();
    let mut client = gateway.client();
    let own = [
        "access-control-allow-credentials: true",
        "access-control-allow-methods: *",
        "access-control-allow-origin: *",
        "access-control-expose-headers: ETag",
        "vary: Accept-Encoding",
    ];
    for path in ["/fine", "/missing", "/broken"] {
        assert_eq!(sharing(&client.ask("GET", path, &from(APP), "")), own, "{path}");
    }
    client.ask("OPTIONS", "/fine", &preflight(APP, "POST"), "").is(200, "fine");
    assert_eq!(upstream.recording().requests().last().unwrap().head.method, "OPTIONS");
}

#[test]
fn a_request_that_reaches_no_route_has_the_top_levels_rules() {
    let upstream = ok("here");
    let gateway = Gateway::in_front_of(&upstream)
        .set("cors.allow_origins", LISTED)
        .set("client.max_header_bytes", "1KiB")
        .route("name: here, match: { path: /here, methods: [GET] }, upstream: main")
        .h2c()
        .start();
    let told = [format!("access-control-allow-origin: {APP}"), EXPOSED.to_owned(), VARY.to_owned()];
    let nowhere = gateway.client().ask("GET", "/nowhere", &from(APP), "");
    nowhere.is_made(404);
    assert_eq!(sharing(&nowhere), told);
    let long = format!("{}x: {}\r\n", from(APP), "x".repeat(2000));
    let long = gateway.client().ask("GET", "/here", &long, "");
    assert_eq!((long.status, sharing(&long)), (400, told.to_vec()));
    let repeated = gateway.client().ask("GET", "/here", &format!("{}host: b\r\n", from(APP)), "");
    assert_eq!((repeated.status, sharing(&repeated)), (400, told.to_vec()));
    let asked = gateway.h2_client().ask("GET", "/here", &[("origin", APP), ("host", "b")], Bytes::new());
    assert_eq!((asked.status, sharing(&asked)), (400, told.to_vec()));

    // Its page may ask for what is not there, and read the 404.
    let asked = gateway.client().ask("OPTIONS", "/here", &preflight(APP, "DELETE"), "");
    assert_eq!((asked.status, asked.field("access-control-allow-methods")), (204, Some("DELETE")));
    // The route that takes GET has no cors: an ordinary OPTIONS, which has no route.
    gateway.client().ask("OPTIONS", "/here", &preflight(APP, "GET"), "").is_made(404);
    gateway.expect_metric("responses_total", &[("route", "none"), ("code", "204")], 1.0);
}

#[test]
fn a_refusal_of_a_rate_limit_can_be_read_and_preflights_are_not_counted() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream)
        .set("rate_limits.few", "{ key: [client_ip], allow: 1 per 1h }")
        .route(&format!("name: few, upstream: main, rate_limits: [few], cors: {{ allow_origins: {LISTED} }}"))
        .start();
    let mut client = gateway.client();
    for _ in 0..3 {
        let asked = client.ask("OPTIONS", "/", &preflight(APP, "PUT"), "");
        assert_eq!((asked.status, asked.field("x-ratelimit-limit")), (204, None));
        client.ask("OPTIONS", "/", &preflight("https://evil.example", "PUT"), "").is_made(403);
    }
    let told = [format!("access-control-allow-origin: {APP}"), EXPOSED.to_owned(), VARY.to_owned()];
    let first = client.ask("GET", "/", &from(APP), "");
    assert_eq!((first.status, first.field("x-ratelimit-remaining")), (200, Some("0")));
    assert_eq!(sharing(&first), told);
    let second = client.ask("GET", "/", &from(APP), "");
    second.is_made(429);
    assert_eq!(sharing(&second), told);
}

#[test]
fn a_full_house_can_be_read_by_a_page() {
    let upstream = ok("fine");
    let gateway = shared(Gateway::in_front_of(&upstream)).set("client.max_connections", "1").start();
    let mut first = gateway.client();
    first.get("/").is(200, "fine");
    let second = gateway.client().ask("GET", "/", &from(APP), "");
    second.is_made(503);
    assert_eq!(second.field("access-control-allow-origin"), Some(APP));
}

#[test]
fn a_preflight_is_answered_here_by_the_rules_of_the_route_that_takes_the_method() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream)
        .route(&format!(
            "name: write, match: {{ path: \"/x\", methods: [POST, PUT] }}, upstream: main, cors: {{ allow_origins: {LISTED}, allow_credentials: true, max_age: 10m }}"
        ))
        .route("name: read, match: { path: \"/x\", methods: [GET] }, upstream: main, cors: { allow_origins: [\"*\"], allow_methods: [GET, PATCH], allow_headers: [X-Key], expose_headers: [X-Total] }")
        .h2c()
        .start();
    let mut client = gateway.client();
    let fields = format!("{}access-control-request-headers: content-type, x-a\r\n", preflight(APP, "PUT"));
    let asked = client.ask("OPTIONS", "/x", &fields, "");
    assert_eq!((asked.status, asked.field("content-length"), asked.field("content-type")), (204, None, None));
    assert!(asked.connection_usable && asked.field("x-request-id").is_some(), "{asked:#?}");
    let told = [
        "access-control-allow-credentials: true".to_owned(),
        "access-control-allow-headers: content-type, x-a".to_owned(),
        "access-control-allow-methods: POST, PUT".to_owned(),
        format!("access-control-allow-origin: {APP}"),
        "access-control-max-age: 600".to_owned(),
        PREFLIGHT_VARY.to_owned(),
    ];
    assert_eq!(sharing(&asked), told);
    let fields = [
        ("origin", APP),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type, x-a"),
    ];
    let asked = gateway.h2_client().ask("OPTIONS", "/x", &fields, Bytes::new());
    assert_eq!((asked.status, sharing(&asked)), (204, told.to_vec()));

    let asked = client.ask("OPTIONS", "/x", &preflight("https://evil.example", "GET"), "");
    assert_eq!(asked.status, 204);
    let told = [
        "access-control-allow-headers: x-key",
        "access-control-allow-methods: GET, PATCH",
        "access-control-allow-origin: *",
        PREFLIGHT_VARY,
    ];
    assert_eq!(sharing(&asked), told);
    let answer = client.ask("GET", "/x", &from("https://evil.example"), "");
    let exposed = EXPOSED.replace(": ", ": x-total, ");
    assert_eq!(sharing(&answer), ["access-control-allow-origin: *", &exposed, VARY]);

    assert_eq!(upstream.request_count(), 1, "no preflight is forwarded");
    gateway.expect_metric(
        "responses_total",
        &[("route", "write"), ("code", "204"), ("origin", "proxy")],
        2.0,
    );
    gateway.expect_accounts_to_agree();
}

#[test]
fn a_preflight_from_a_foreign_page_is_403_and_never_forwarded() {
    let upstream = ok("fine");
    let gateway = shared(Gateway::in_front_of(&upstream)).h2c().start();
    let mut client = gateway.client();
    for origin in ["https://evil.example", "null", "https://example.org", "http://app.example.com"] {
        let answer = client.ask("OPTIONS", "/", &preflight(origin, "POST"), "");
        answer.is_made(403);
        assert_eq!(sharing(&answer), [PREFLIGHT_VARY], "{origin}");
    }
    let fields = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let answer = gateway.h2_client().ask("OPTIONS", "/", &fields, Bytes::new());
    check_made(&answer, Asked::Http11("OPTIONS"), 403, super::promise::text_of(403));
    assert_eq!(upstream.request_count(), 0);
    gateway.expect_metric("errors_total", &[("route", "all"), ("cause", "http_request_denied")], 5.0);
    gateway.expect_accounts_to_agree();
}

#[test]
fn options_without_the_fields_of_a_preflight_is_an_ordinary_request() {
    let upstream = ok("fine");
    let gateway = shared(Gateway::in_front_of(&upstream)).start();
    let mut client = gateway.client();
    for fields in [
        "",
        "access-control-request-method: POST\r\n",
        &from(APP),
        &preflight(APP, "TRACE"),
        &preflight(APP, "not a method"),
    ] {
        client.ask("OPTIONS", "/", fields, "").is(200, "fine");
    }
    assert_eq!(upstream.request_count(), 5);
}

#[test]
fn a_preflight_is_answered_before_any_rule_of_the_route_refuses_it() {
    let upstream = ok("fine");
    let gateway = Gateway::in_front_of(&upstream)
        .route(&format!("name: all, upstream: main, deny: {{ methods: [OPTIONS, DELETE] }}, allow_from: [203.0.113.7], cors: {{ allow_origins: {LISTED} }}"))
        .start();
    let mut client = gateway.client();
    assert_eq!(client.ask("OPTIONS", "/", &preflight(APP, "POST"), "").status, 204);
    let refused = client.ask("POST", "/", &from(APP), "");
    refused.is_made(403);
    assert_eq!(refused.field("access-control-allow-origin"), Some(APP));
}

#[test]
fn a_panic_of_our_own_can_be_read_by_the_routes_pages() {
    let refusing = refusing();
    let gateway = Setup::of_servers(&[refusing.address()])
        .route(&format!("name: all, upstream: main, cors: {{ allow_origins: {LISTED} }}"))
        .environment("STATUSQUO_TEST_PANIC", "1")
        .may_panic()
        .start();
    let answer = gateway.client().ask("GET", "/__panic", &from(APP), "");
    answer.is_made(500);
    assert_eq!(
        sharing(&answer),
        [format!("access-control-allow-origin: {APP}"), EXPOSED.to_owned(), VARY.to_owned()]
    );
}
