//! Header fields of errors: which ones are kept when the body is replaced, and which ones are removed.
//!
//! The bodies are HTML, so that each is replaced; the rows at the end have bodies that match the template.

use super::super::script::{UpstreamStep, http_response};
use super::{FaultOutcome, INTERNAL_HOSTNAME, UpstreamFault, replaced_row};

/// All rows of this file.
pub(super) fn rows() -> Vec<UpstreamFault> {
    [kept_headers(), removed_headers(), retry_after_headers(), conforming()].concat()
}

fn html_page(
    name: &'static str,
    description: &'static str,
    status: u16,
    code: u16,
    field: &str,
) -> UpstreamFault {
    let head = format!("{status} {INTERNAL_HOSTNAME}\ncontent-type: text/html\n{field}");
    replaced_row(
        name,
        description,
        status,
        code,
        vec![UpstreamStep::Write(http_response(&head, format!("<h1>{INTERNAL_HOSTNAME}</h1>")))],
    )
}

fn kept_headers() -> Vec<UpstreamFault> {
    vec![
        html_page("login-page", "sends 401 with WWW-Authenticate", 401, 401, "www-authenticate: Bearer realm=\"shop\"")
            .with_kept_headers(&[("www-authenticate", "Bearer realm=\"shop\"")]),
        html_page("dpop-nonce", "sends 401 with DPoP-Nonce", 401, 401, "dpop-nonce: eyJ7").with_kept_headers(&[("dpop-nonce", "eyJ7")]),
        html_page("slow-down", "sends 429 with Retry-After", 429, 429, "retry-after: 7").with_kept_headers(&[("retry-after", "7")]),
        html_page("quota", "sends 429 with rate-limit fields", 429, 429, "x-ratelimit-limit: 60\nx-ratelimit-remaining: 0\nratelimit: \"a\";r=0;t=9\nratelimit-policy: \"a\";q=60;w=60")
            .with_kept_headers(&[("x-ratelimit-limit", "60"), ("x-ratelimit-remaining", "0"), ("ratelimit", "\"a\";r=0;t=9"), ("ratelimit-policy", "\"a\";q=60;w=60")]),
        html_page("cookie-on-403", "sends 403 with Set-Cookie", 403, 403, "set-cookie: session=; max-age=0").with_kept_headers(&[("set-cookie", "session=; max-age=0")]),
        html_page("allow-on-405", "sends 405 with Allow", 405, 400, "allow: GET, PUT").with_kept_headers(&[("allow", "GET, PUT")]),
        html_page("range-on-416", "sends 416 with Content-Range", 416, 400, "content-range: bytes */1000").with_kept_headers(&[("content-range", "bytes */1000")]),
        html_page("vary-and-link", "sends 404 with Vary, Link and Date", 404, 404, "vary: accept\nlink: </docs>; rel=help\ndate: Thu, 01 Jan 2026 00:00:00 GMT")
            .with_kept_headers(&[("vary", "accept"), ("link", "</docs>; rel=help"), ("date", "Thu, 01 Jan 2026 00:00:00 GMT")]),
        html_page("transport-security", "sends 500 with Strict-Transport-Security", 500, 500, "strict-transport-security: max-age=60").with_kept_headers(&[("strict-transport-security", "max-age=60")]),
        html_page("foreign-cors", "sends 403 with Access-Control-Allow-Origin", 403, 403, "access-control-allow-origin: *").with_kept_headers(&[("access-control-allow-origin", "*")]),
    ]
}

fn removed_headers() -> Vec<UpstreamFault> {
    let without = |row: UpstreamFault, lacks| UpstreamFault { removed_headers: lacks, ..row };
    let secret = |name: &str| format!("{name}: {INTERNAL_HOSTNAME}");
    vec![
        without(
            html_page(
                "cookie-on-500",
                "sends 500 with Set-Cookie",
                500,
                500,
                &format!("set-cookie: debug={INTERNAL_HOSTNAME}"),
            ),
            &["set-cookie"],
        ),
        without(
            html_page("location-on-404", "sends 404 with Location", 404, 404, &secret("location")),
            &["location"],
        ),
        without(
            html_page(
                "refresh-on-503",
                "sends 503 with Refresh",
                503,
                503,
                &format!("refresh: 1; url=http://{INTERNAL_HOSTNAME}/"),
            ),
            &["refresh"],
        ),
        without(
            html_page(
                "range-on-404",
                "sends 404 with Content-Range",
                404,
                404,
                "content-range: bytes */1000",
            ),
            &["content-range"],
        ),
        without(
            html_page(
                "server-names",
                "sends 500 with fields that reveal server names",
                500,
                500,
                &format!(
                    "server: {INTERNAL_HOSTNAME}\nx-powered-by: {INTERNAL_HOSTNAME}\nvia: 1.1 {INTERNAL_HOSTNAME}\nx-backend: {INTERNAL_HOSTNAME}\nx-debug-token: {INTERNAL_HOSTNAME}"
                ),
            ),
            &["server", "x-powered-by", "via", "x-backend", "x-debug-token"],
        ),
        without(
            html_page(
                "stale-fields",
                "sends 404 with fields that describe the removed body",
                404,
                404,
                "etag: \"7\"\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\ncontent-language: en\ncontent-disposition: attachment\naccept-ranges: bytes\nexpires: 0",
            ),
            &["etag", "last-modified", "content-language", "content-disposition", "accept-ranges", "expires"],
        ),
        without(
            html_page(
                "hop-fields",
                "sends 502 with hop-by-hop fields",
                502,
                504,
                "keep-alive: timeout=5\nproxy-authenticate: Basic\nproxy-connection: keep-alive\nupgrade: h2c",
            ),
            &["keep-alive", "proxy-authenticate", "proxy-connection", "upgrade"],
        ),
        without(
            html_page(
                "cacheable-error",
                "sends 404 that is cacheable for a day",
                404,
                404,
                "cache-control: public, max-age=86400\nage: 7",
            ),
            &["age"],
        )
        .with_kept_headers(&[("cache-control", "no-store")]),
        without(
            html_page(
                "named-by-connection",
                "sends 429 with a rate-limit field that is listed in Connection",
                429,
                429,
                "connection: x-ratelimit-limit\nx-ratelimit-limit: 60",
            ),
            &["x-ratelimit-limit"],
        ),
    ]
}

fn retry_after_headers() -> Vec<UpstreamFault> {
    const DEFAULT_RETRY_AFTER: &[(&str, &str)] = &[("retry-after", "5")];
    let wait = |name, description, field: &str| {
        html_page(name, description, 503, 503, field).with_kept_headers(DEFAULT_RETRY_AFTER)
    };
    vec![
        html_page("wait-a-day", "sends 503 with a Retry-After of one day", 503, 503, "retry-after: 86400")
            .with_kept_headers(&[("retry-after", "86400")]),
        wait("maintenance", "sends 503 with an invalid Retry-After", "retry-after: soon"),
        wait("wait-zero", "sends 503 with a Retry-After of 0", "retry-after: 0"),
        wait("wait-negative", "sends 503 with a negative Retry-After", "retry-after: -1"),
        wait("wait-two-days", "sends 503 with a Retry-After of two days", "retry-after: 172800"),
        wait(
            "wait-past",
            "sends 503 with a Retry-After date in the past",
            "retry-after: Thu, 01 Jan 1970 00:00:00 GMT",
        ),
        wait(
            "wait-secret",
            "sends 503 with a host name in Retry-After",
            &format!("retry-after: {INTERNAL_HOSTNAME}"),
        ),
        html_page(
            "wait-twice",
            "sends 503 with two Retry-After fields",
            503,
            503,
            "retry-after: 7\nretry-after: 9",
        )
        .with_kept_headers(&[("retry-after", "7")]),
        html_page("no-wait", "sends 429 without Retry-After", 429, 429, "x-none: 1")
            .with_kept_headers(DEFAULT_RETRY_AFTER),
        UpstreamFault {
            removed_headers: &["retry-after"],
            ..html_page("wait-on-502", "sends 502 with an invalid Retry-After", 502, 504, "retry-after: soon")
        },
    ]
}

fn conforming() -> Vec<UpstreamFault> {
    let row = |name, description, code: u16, fields: &str| {
        let body = format!(r#"{{"message":"No such order.","code":{code}}}"#);
        let head = format!("{code} {INTERNAL_HOSTNAME}\ncontent-type: application/json\n{fields}");
        UpstreamFault {
            outcome: FaultOutcome::Forwarded { code },
            body: body.clone().into(),
            ..replaced_row(
                name,
                description,
                code,
                code,
                vec![UpstreamStep::Write(http_response(&head, body))],
            )
        }
    };
    vec![
        UpstreamFault {
            removed_headers: &["server", "x-powered-by", "x-debug-token"],
            ..row(
                "conforming-with-names",
                "sends an error that matches the template, with fields that reveal server names",
                404,
                &format!("server: {INTERNAL_HOSTNAME}\nx-powered-by: {INTERNAL_HOSTNAME}\nx-debug-token: {INTERNAL_HOSTNAME}\nx-order: 7"),
            )
            .with_kept_headers(&[("x-order", "7"), ("cache-control", "no-store")])
        },
        row("conforming-429", "sends a 429 that matches the template, without Retry-After", 429, "x-order: 7")
            .with_kept_headers(&[("retry-after", "5"), ("x-order", "7")]),
        row("conforming-429-wait", "sends a 429 that matches the template, with Retry-After", 429, "retry-after: 7")
            .with_kept_headers(&[("retry-after", "7")]),
        replaced_row(
            "two-content-types",
            "sends a 404 that matches the template, with two Content-Type fields",
            404,
            404,
            vec![UpstreamStep::Write(http_response(
                "404 No\ncontent-type: application/json\ncontent-type: application/json",
                r#"{"message":"No such order.","code":404}"#,
            ))],
        )
        .with_upstream_message("No such order."),
        row(
            "conforming-429-wait-twice",
            "sends a 429 that matches the template, with two Retry-After fields",
            429,
            "retry-after: 7\nretry-after: 9",
        )
        .with_kept_headers(&[("retry-after", "7")]),
        row(
            "conforming-404-wait-twice",
            "sends a 404 that matches the template, with two Retry-After fields",
            404,
            "retry-after: 7\nretry-after: 7",
        )
        .with_kept_headers(&[("retry-after", "7")]),
        row("conforming-429-soon", "sends a 429 that matches the template, with an invalid Retry-After", 429, "retry-after: soon")
            .with_kept_headers(&[("retry-after", "5")]),
        row("conforming-cookie", "sends an error that matches the template, with Set-Cookie", 401, "set-cookie: session=7")
            .with_kept_headers(&[("set-cookie", "session=7")]),
    ]
}
