//! Decides which header fields of an upstream's error response are forwarded, from their name and value.
//!
//! [`keep_on_replaced`] is an allow-list for responses whose body is replaced. [`drop_on_conforming`] lists the fields
//! removed from a conforming error. [`super::reply`] adds the gateway's fields. Hop-by-hop fields are already removed.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};

/// The facts that the rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct HeaderFilterContext<'a> {
    /// The status sent to the client.
    pub status_sent: u16,
    /// The status of the upstream's response.
    pub upstream_status: u16,
    /// The route has a CORS policy: the gateway sets `Access-Control-*`.
    pub gateway_cors: bool,
    /// Additional field names that the operator keeps.
    pub extra_kept: &'a [HeaderName],
    /// The current time, for a `Retry-After` that is a date.
    pub now: SystemTime,
}

/// Whether to keep an upstream header field on a response whose body is replaced.
pub(crate) fn keep_on_replaced(
    name: &HeaderName,
    value: &HeaderValue,
    context: HeaderFilterContext<'_>,
) -> bool {
    match name.as_str() {
        "retry-after" => is_valid_retry_after(value, context.now),
        "content-range" => context.upstream_status == 416,
        "set-cookie" => (400..=499).contains(&context.status_sent),
        listed if listed.starts_with("access-control-") => !context.gateway_cors,
        listed
            if KEPT_HEADERS.contains(&listed)
                || KEPT_HEADER_PREFIXES.iter().any(|prefix| listed.starts_with(prefix)) =>
        {
            true
        }
        other => !NEVER_KEPT.contains(&other) && context.extra_kept.contains(name),
    }
}

/// Whether a `Retry-After` is valid: 1 to 86400 seconds, or a date at most that far in the future.
pub(crate) fn is_valid_retry_after(value: &HeaderValue, now: SystemTime) -> bool {
    let Ok(text) = value.to_str() else { return false };
    let text = text.trim_ascii();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse::<u64>().is_ok_and(|seconds| (1..=MAX_RETRY_AFTER.as_secs()).contains(&seconds));
    }
    let Ok(date) = httpdate::parse_http_date(text) else { return false };
    date.duration_since(now).is_ok_and(|wait| !wait.is_zero() && wait <= MAX_RETRY_AFTER)
}

/// Whether to remove a header field from a conforming error: fields that reveal the upstream's software.
pub(crate) fn drop_on_conforming(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "server" || name == "x-powered-by" || name.starts_with("x-debug-")
}

/// Kept regardless of their value.
const KEPT_HEADERS: &[&str] = &[
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

const KEPT_HEADER_PREFIXES: &[&str] = &["x-ratelimit-", "x-appwrite-"];

/// Fields about the body, the connection or the reply: the gateway sets them, and an operator's list cannot keep them.
const NEVER_KEPT: &[&str] = &[
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

/// The maximum accepted `Retry-After`: 1 day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn is_kept(name: &str, value: &str, context: HeaderFilterContext<'_>) -> bool {
        keep_on_replaced(
            &HeaderName::from_bytes(name.as_bytes()).unwrap(),
            &HeaderValue::from_str(value).unwrap(),
            context,
        )
    }

    fn context<'a>() -> HeaderFilterContext<'a> {
        HeaderFilterContext {
            status_sent: 404,
            upstream_status: 404,
            gateway_cors: false,
            extra_kept: &[],
            now: now(),
        }
    }

    /// Sat, 01 Jan 2000 00:00:00 GMT.
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_800)
    }

    #[test]
    fn replaced_response_keeps_only_listed_headers() {
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
            assert!(is_kept(name, "x", context()), "{name}");
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
            assert!(!is_kept(name, "x", context()), "{name}");
        }
    }

    #[test]
    fn set_cookie_needs_4xx_and_content_range_needs_416() {
        assert!(!is_kept("set-cookie", "a=b", HeaderFilterContext { status_sent: 503, ..context() }));
        assert!(is_kept("set-cookie", "a=b", HeaderFilterContext { upstream_status: 502, ..context() }));
        assert!(is_kept(
            "content-range",
            "bytes */9",
            HeaderFilterContext { status_sent: 400, upstream_status: 416, ..context() }
        ));
        assert!(!is_kept(
            "content-range",
            "bytes */9",
            HeaderFilterContext { status_sent: 416, upstream_status: 400, ..context() }
        ));
    }

    #[test]
    fn gateway_cors_drops_upstream_cors_headers() {
        let extra = [HeaderName::from_static("access-control-allow-origin")];
        let gateway_cors_context =
            HeaderFilterContext { gateway_cors: true, extra_kept: &extra, ..context() };
        assert!(!is_kept("access-control-allow-origin", "*", gateway_cors_context));
    }

    #[test]
    fn extra_headers_are_kept_except_body_headers() {
        let extra = [
            HeaderName::from_static("x-shop-hint"),
            http::header::CONTENT_TYPE,
            http::header::CONTENT_LENGTH,
        ];
        let context = HeaderFilterContext { extra_kept: &extra, ..context() };
        assert!(is_kept("X-Shop-Hint", "x", context));
        assert!(!is_kept("content-type", "text/html", context));
        assert!(!is_kept("content-length", "7", context));
    }

    #[test]
    fn retry_after_must_be_one_second_to_one_day() {
        let valid = |text: &str| is_valid_retry_after(&HeaderValue::from_str(text).unwrap(), now());
        for retry_after in
            ["1", "86400", "05", "Sat, 01 Jan 2000 00:00:01 GMT", "Sun, 02 Jan 2000 00:00:00 GMT"]
        {
            assert!(valid(retry_after), "{retry_after}");
            assert!(is_kept("retry-after", retry_after, context()), "{retry_after}");
        }
        for invalid in [
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
            assert!(!valid(invalid), "{invalid}");
            assert!(!is_kept("retry-after", invalid, context()), "{invalid}");
        }
        assert!(!is_valid_retry_after(&HeaderValue::from_bytes(b"\xff").unwrap(), now()));
    }

    #[test]
    fn conforming_error_drops_server_headers() {
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
