//! Which fields of an upstream's error response a client may see, as pure rules on a name and a value.
//!
//! [`keep_on_replaced`] is an allow-list: beside our own body only these survive. [`drop_on_conforming`] is the short list
//! of what a conforming error loses. Fields that we add ourselves are [`super::reply`]'s; hop-by-hop fields are never
//! asked about here, the protocol's rules remove them before.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};

/// What the rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct KeepContext<'a> {
    /// The status that is sent.
    pub sent: u16,
    /// The status that the upstream answered.
    pub upstream_status: u16,
    /// The route has `cors`: `Access-Control-*` are ours.
    pub cors_owned: bool,
    /// Further names that the operator keeps.
    pub extra: &'a [HeaderName],
    /// For a `Retry-After` that is a date.
    pub now: SystemTime,
}

/// Whether a field of the upstream stays on a response whose body is replaced.
pub fn keep_on_replaced(name: &HeaderName, value: &HeaderValue, context: KeepContext<'_>) -> bool {
    match name.as_str() {
        "retry-after" => retry_after_valid(value, context.now),
        "content-range" => context.upstream_status == 416,
        "set-cookie" => (400..=499).contains(&context.sent),
        listed if listed.starts_with("access-control-") => !context.cors_owned,
        listed if KEPT.contains(&listed) || KEPT_PREFIXES.iter().any(|prefix| listed.starts_with(prefix)) => {
            true
        }
        other => !OURS.contains(&other) && context.extra.contains(name),
    }
}

/// Whether a `Retry-After` is usable: 1 to 86400 seconds, or a date at most that far ahead.
pub fn retry_after_valid(value: &HeaderValue, now: SystemTime) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let text = text.trim_ascii();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u64>().is_ok_and(|seconds| (1..=LONGEST_WAIT.as_secs()).contains(&seconds));
    }
    let Ok(date) = httpdate::parse_http_date(text) else { return false };
    date.duration_since(now).is_ok_and(|wait| !wait.is_zero() && wait <= LONGEST_WAIT)
}

/// Whether a conforming error loses this field: what only tells about the machinery behind it.
pub fn drop_on_conforming(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "server" || name == "x-powered-by" || name.starts_with("x-debug-")
}

/// Kept whatever their value.
const KEPT: &[&str] = &[
    "allow",
    "date",
    "dpop-nonce",
    "link",
    "ratelimit",
    "ratelimit-policy",
    "strict-transport-security",
    "vary",
    "www-authenticate",
];

const KEPT_PREFIXES: &[&str] = &["x-ratelimit-", "x-appwrite-"];

/// What tells about the body, the connection or the reply itself is ours alone: no operator's list can bring it back.
const OURS: &[&str] = &[
    "accept-ranges",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-type",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-content-type-options",
    "x-request-id",
];

/// One day.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn kept(name: &str, value: &str, context: KeepContext<'_>) -> bool {
        keep_on_replaced(
            &HeaderName::from_bytes(name.as_bytes()).unwrap(),
            &HeaderValue::from_str(value).unwrap(),
            context,
        )
    }

    fn context<'a>() -> KeepContext<'a> {
        KeepContext { sent: 404, upstream_status: 404, cors_owned: false, extra: &[], now: now() }
    }

    /// Sat, 01 Jan 2000 00:00:00 GMT.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800)
    }

    #[test]
    fn only_the_listed_fields_survive_a_replacement() {
        for name in [
            "WWW-Authenticate",
            "DPoP-Nonce",
            "X-RateLimit-Limit",
            "X-RateLimit-Reset",
            "RateLimit",
            "RateLimit-Policy",
            "Vary",
            "Date",
            "Allow",
            "Link",
            "Strict-Transport-Security",
            "X-Appwrite-Warning",
            "Access-Control-Allow-Origin",
            "Set-Cookie",
        ] {
            assert!(kept(name, "x", context()), "{name}");
        }
        for name in [
            "Server",
            "X-Powered-By",
            "X-Debug-Speed",
            "Content-Type",
            "Content-Length",
            "Content-Encoding",
            "ETag",
            "Last-Modified",
            "Cache-Control",
            "Content-Range",
            "X-Request-Id",
            "X-RateLimit",
            "RateLimit-Limit",
            "X-Internal-Host",
            "Location",
        ] {
            assert!(!kept(name, "x", context()), "{name}");
        }
    }

    #[test]
    fn cookies_leave_with_a_4xx_only_and_a_range_with_an_upstream_416_only() {
        assert!(!kept("set-cookie", "a=b", KeepContext { sent: 503, ..context() }));
        assert!(kept("set-cookie", "a=b", KeepContext { upstream_status: 502, ..context() }));
        assert!(kept(
            "content-range",
            "bytes */9",
            KeepContext { sent: 400, upstream_status: 416, ..context() }
        ));
        assert!(!kept(
            "content-range",
            "bytes */9",
            KeepContext { sent: 416, upstream_status: 400, ..context() }
        ));
    }

    #[test]
    fn where_the_route_owns_cors_the_upstreams_goes_even_if_listed() {
        let extra = [HeaderName::from_static("access-control-allow-origin")];
        let owned = KeepContext { cors_owned: true, extra: &extra, ..context() };
        assert!(!kept("access-control-allow-origin", "*", owned));
    }

    #[test]
    fn an_operator_can_keep_more_but_never_what_describes_the_old_body() {
        let extra = [
            HeaderName::from_static("x-shop-hint"),
            http::header::CONTENT_TYPE,
            http::header::CONTENT_LENGTH,
        ];
        let context = KeepContext { extra: &extra, ..context() };
        assert!(kept("X-Shop-Hint", "x", context));
        assert!(!kept("content-type", "text/html", context));
        assert!(!kept("content-length", "7", context));
    }

    #[test]
    fn a_wait_is_one_second_to_one_day_as_a_number_or_as_a_date() {
        let valid = |text: &str| retry_after_valid(&HeaderValue::from_str(text).unwrap(), now());
        for good in ["1", "86400", "05", "Sat, 01 Jan 2000 00:00:01 GMT", "Sun, 02 Jan 2000 00:00:00 GMT"] {
            assert!(valid(good), "{good}");
            assert!(kept("retry-after", good, context()), "{good}");
        }
        for bad in [
            "",
            "0",
            "-1",
            "+5",
            "1.5",
            "86401",
            "99999999999999999999999",
            "soon",
            "1, 2",
            "Sat, 01 Jan 2000 00:00:00 GMT",
            "Fri, 31 Dec 1999 23:59:59 GMT",
            "Sun, 02 Jan 2000 00:00:01 GMT",
        ] {
            assert!(!valid(bad), "{bad}");
            assert!(!kept("retry-after", bad, context()), "{bad}");
        }
        assert!(!retry_after_valid(&HeaderValue::from_bytes(b"\xff").unwrap(), now()));
    }

    #[test]
    fn a_conforming_error_loses_what_names_the_machinery() {
        for (name, dropped) in [
            ("server", true),
            ("x-powered-by", true),
            ("x-debug-speed", true),
            ("x-debug", false),
            ("date", false),
            ("set-cookie", false),
        ] {
            assert_eq!(drop_on_conforming(&HeaderName::from_static(name)), dropped, "{name}");
        }
    }
}
