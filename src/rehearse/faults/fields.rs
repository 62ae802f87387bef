//! Rows of the table about the fields of an error: which reach the client beside a new body, and which must not.
//!
//! The bodies are HTML, so each is replaced; what fields do to a conforming error stands at the end.

use super::super::script::{Step, reply};
use super::{Outcome, SECRET, UpstreamFault, answered};

/// All of them.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [kept(), dropped(), waits(), conforming()].concat()
}

fn page(name: &'static str, meaning: &'static str, status: u16, code: u16, field: &str) -> UpstreamFault {
    let head = format!("{status} {SECRET}\ncontent-type: text/html\n{field}");
    answered(name, meaning, status, code, vec![Step::Write(reply(&head, format!("<h1>{SECRET}</h1>")))])
}

fn kept() -> Vec<UpstreamFault> {
    vec![
        page("login-page", "401 with a challenge", 401, 401, "www-authenticate: Bearer realm=\"shop\"")
            .with_fields(&[("www-authenticate", "Bearer realm=\"shop\"")]),
        page("dpop-nonce", "401 with a nonce", 401, 401, "dpop-nonce: eyJ7").with_fields(&[("dpop-nonce", "eyJ7")]),
        page("slow-down", "429 with a Retry-After", 429, 429, "retry-after: 7").with_fields(&[("retry-after", "7")]),
        page("quota", "429 with its quota", 429, 429, "x-ratelimit-limit: 60\nx-ratelimit-remaining: 0\nratelimit: \"a\";r=0;t=9\nratelimit-policy: \"a\";q=60;w=60")
            .with_fields(&[("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "0"), ("ratelimit", "\"a\";r=0;t=9"), ("ratelimit-policy", "\"a\";q=60;w=60")]),
        page("cookie-on-403", "403 with a cookie", 403, 403, "set-cookie: session=; max-age=0").with_fields(&[("set-cookie", "session=; max-age=0")]),
        page("allow-on-405", "405 with the methods allowed", 405, 400, "allow: GET, PUT").with_fields(&[("allow", "GET, PUT")]),
        page("range-on-416", "416 with the range there is", 416, 400, "content-range: bytes */1000").with_fields(&[("content-range", "bytes */1000")]),
        page("vary-and-link", "404 with Vary, Link and a Date", 404, 404, "vary: accept\nlink: </docs>; rel=help\ndate: Thu, 01 Jan 2026 00:00:00 GMT")
            .with_fields(&[("vary", "accept"), ("link", "</docs>; rel=help"), ("date", "Thu, 01 Jan 2026 00:00:00 GMT")]),
        page("transport-security", "500 with its transport security", 500, 500, "strict-transport-security: max-age=60").with_fields(&[("strict-transport-security", "max-age=60")]),
        page("foreign-cors", "403 with sharing of its own", 403, 403, "access-control-allow-origin: *").with_fields(&[("access-control-allow-origin", "*")]),
    ]
}

fn dropped() -> Vec<UpstreamFault> {
    let without = |row: UpstreamFault, lacks| UpstreamFault { lacks, ..row };
    let secret = |name: &str| format!("{name}: {SECRET}");
    vec![
        without(
            page("cookie-on-500", "500 with a cookie", 500, 500, &format!("set-cookie: debug={SECRET}")),
            &["set-cookie"],
        ),
        without(page("location-on-404", "404 with a Location", 404, 404, &secret("location")), &["location"]),
        without(
            page(
                "refresh-on-503",
                "503 with a Refresh",
                503,
                503,
                &format!("refresh: 1; url=http://{SECRET}/"),
            ),
            &["refresh"],
        ),
        without(
            page("range-on-404", "404 with a range", 404, 404, "content-range: bytes */1000"),
            &["content-range"],
        ),
        without(
            page(
                "server-names",
                "500 with the names of servers",
                500,
                500,
                &format!(
                    "server: {SECRET}\nx-powered-by: {SECRET}\nvia: 1.1 {SECRET}\nx-backend: {SECRET}\nx-debug-token: {SECRET}"
                ),
            ),
            &["server", "x-powered-by", "via", "x-backend", "x-debug-token"],
        ),
        without(
            page(
                "stale-fields",
                "404 with fields of the page that is gone",
                404,
                404,
                "etag: \"7\"\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\ncontent-language: en\ncontent-disposition: attachment\naccept-ranges: bytes\nexpires: 0",
            ),
            &["etag", "last-modified", "content-language", "content-disposition", "accept-ranges", "expires"],
        ),
        without(
            page(
                "hop-fields",
                "502 with fields of its connection",
                502,
                504,
                "keep-alive: timeout=5\nproxy-authenticate: Basic\nproxy-connection: keep-alive\nupgrade: h2c",
            ),
            &["keep-alive", "proxy-authenticate", "proxy-connection", "upgrade"],
        ),
        without(
            page(
                "cacheable-error",
                "404 that may be stored for a day",
                404,
                404,
                "cache-control: public, max-age=86400\nage: 7",
            ),
            &["age"],
        )
        .with_fields(&[("cache-control", "no-store")]),
        without(
            page(
                "named-by-connection",
                "429 whose Connection names one of its limit fields",
                429,
                429,
                "connection: x-ratelimit-limit\nx-ratelimit-limit: 60",
            ),
            &["x-ratelimit-limit"],
        ),
    ]
}

fn waits() -> Vec<UpstreamFault> {
    const DEFAULT: &[(&str, &str)] = &[("retry-after", "5")];
    let wait = |name, meaning, field: &str| page(name, meaning, 503, 503, field).with_fields(DEFAULT);
    vec![
        page("wait-a-day", "503 with a Retry-After of a day", 503, 503, "retry-after: 86400")
            .with_fields(&[("retry-after", "86400")]),
        wait("maintenance", "503 with a senseless Retry-After", "retry-after: soon"),
        wait("wait-zero", "503 with a Retry-After of 0", "retry-after: 0"),
        wait("wait-negative", "503 with a negative Retry-After", "retry-after: -1"),
        wait("wait-two-days", "503 with a Retry-After of two days", "retry-after: 172800"),
        wait("wait-past", "503 with a Retry-After in the past", "retry-after: Thu, 01 Jan 1970 00:00:00 GMT"),
        wait("wait-secret", "503 with a name for a Retry-After", &format!("retry-after: {SECRET}")),
        page("wait-twice", "503 with two Retry-After", 503, 503, "retry-after: 7\nretry-after: 9")
            .with_fields(&[("retry-after", "7")]),
        page("no-wait", "429 without a Retry-After", 429, 429, "x-none: 1").with_fields(DEFAULT),
        UpstreamFault {
            lacks: &["retry-after"],
            ..page("wait-on-502", "502 with a senseless Retry-After", 502, 504, "retry-after: soon")
        },
    ]
}

fn conforming() -> Vec<UpstreamFault> {
    let row = |name, meaning, code: u16, fields: &str| {
        let body = format!(r#"{{"message":"No such order.","code":{code}}}"#);
        let head = format!("{code} {SECRET}\ncontent-type: application/json\n{fields}");
        UpstreamFault {
            outcome: Outcome::Passed { code },
            body: body.clone().into(),
            ..answered(name, meaning, code, code, vec![Step::Write(reply(&head, body))])
        }
    };
    vec![
        UpstreamFault {
            lacks: &["server", "x-powered-by", "x-debug-token"],
            ..row(
                "conforming-with-names",
                "a documented error with the names of servers",
                404,
                &format!("server: {SECRET}\nx-powered-by: {SECRET}\nx-debug-token: {SECRET}\nx-order: 7"),
            )
            .with_fields(&[("x-order", "7"), ("cache-control", "no-store")])
        },
        row("conforming-429", "a documented 429 without a Retry-After", 429, "x-order: 7")
            .with_fields(&[("retry-after", "5"), ("x-order", "7")]),
        row("conforming-429-wait", "a documented 429 with a Retry-After", 429, "retry-after: 7")
            .with_fields(&[("retry-after", "7")]),
        answered(
            "two-content-types",
            "a documented 404 with two Content-Type",
            404,
            404,
            vec![Step::Write(reply(
                "404 No\ncontent-type: application/json\ncontent-type: application/json",
                r#"{"message":"No such order.","code":404}"#,
            ))],
        )
        .keeping("No such order."),
        row(
            "conforming-429-wait-twice",
            "a documented 429 with two Retry-After",
            429,
            "retry-after: 7\nretry-after: 9",
        )
        .with_fields(&[("retry-after", "7")]),
        row(
            "conforming-404-wait-twice",
            "a documented 404 with two Retry-After",
            404,
            "retry-after: 7\nretry-after: 7",
        )
        .with_fields(&[("retry-after", "7")]),
        row("conforming-429-soon", "a documented 429 with a senseless Retry-After", 429, "retry-after: soon")
            .with_fields(&[("retry-after", "5")]),
        row("conforming-cookie", "a documented error with a cookie", 401, "set-cookie: session=7")
            .with_fields(&[("set-cookie", "session=7")]),
    ]
}
