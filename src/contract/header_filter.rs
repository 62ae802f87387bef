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
    /// The route has a CORS policy: the gateway sets `Access-Control-*`.
    pub gateway_cors: bool,
    /// Additional field names that the operator keeps on a 4xx.
    pub extra_kept: &'a [HeaderName],
    /// Those of the contract; a final `*` stands for any rest.
    pub contract_kept: &'a [String],
    /// The current time, for a `Retry-After` that is a date.
    pub now: SystemTime,
}

/// Whether to keep an upstream header field on a response whose body is replaced.
pub(crate) fn keep_on_replaced(
    name: &HeaderName,
    value: &HeaderValue,
    context: HeaderFilterContext<'_>,
) -> bool {
    let client_error = context.status_sent < 500;
    match name.as_str() {
        "retry-after" => is_valid_retry_after(value, context.now),
        listed if listed.starts_with("access-control-") => {
            !context.gateway_cors && (client_error || is_cors_value(listed, value))
        }
        "date" => client_error || value.to_str().is_ok_and(|text| httpdate::parse_http_date(text).is_ok()),
        "strict-transport-security" => client_error || is_transport_security(value),
        "vary" => client_error || names_only_fields(value),
        "x-ratelimit-limit" | "x-ratelimit-remaining" | "x-ratelimit-reset" => {
            client_error || is_digits(value)
        }
        _ if !client_error => false,
        "content-range" => context.status_sent == 416,
        listed if KEPT_HEADERS.contains(&listed) || listed.starts_with("x-ratelimit-") => true,
        other => {
            !NEVER_KEPT.contains(&other)
                && (context.extra_kept.contains(name) || is_listed(context.contract_kept, other))
        }
    }
}

/// Whether a list has the name, or a pattern that ends in `*` and matches it.
fn is_listed(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    })
}

/// Whether a list names nothing but registered fields, or any (`*`).
fn names_only_fields(value: &HeaderValue) -> bool {
    value.as_bytes().split(|octet| *octet == b',').map(<[u8]>::trim_ascii).all(is_known_field_name)
}

/// Whether a name in a list of field names may be on a 5xx: a name of an operator's own would be text of the upstream.
pub(crate) fn is_known_field_name(name: &[u8]) -> bool {
    let is = |known: &&str| known.as_bytes().eq_ignore_ascii_case(name);
    name.is_empty() || name == b"*" || REQUEST_FIELDS.iter().chain(RESPONSE_FIELDS).any(is)
}

/// Whether a CORS field of a 5xx has a value of its grammar that names nothing of the upstream's own.
fn is_cors_value(name: &str, value: &HeaderValue) -> bool {
    let Ok(text) = value.to_str() else { return false };
    match name {
        "access-control-allow-origin" => matches!(text, "*" | "null") || is_origin(text),
        "access-control-allow-credentials" | "access-control-allow-private-network" => text == "true",
        "access-control-allow-methods" => {
            text.split(',').map(str::trim).all(|method| method == "*" || METHODS.contains(&method))
        }
        "access-control-allow-headers" | "access-control-expose-headers" => names_only_fields(value),
        "access-control-max-age" => is_digits(value),
        _ => false,
    }
}

/// `https://example.com`, with a port or without.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_host =
        |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b':' | b'[' | b']');
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_host))
}

/// The directives of RFC 6797.
fn is_transport_security(value: &HeaderValue) -> bool {
    let is_age = |text: &str| {
        let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|octet| octet.is_ascii_digit())
    };
    value.to_str().is_ok_and(|text| {
        text.split(';').map(str::trim).all(|directive| {
            let (name, argument) = directive.split_once('=').unwrap_or((directive, ""));
            let is = |known: &str| name.trim().eq_ignore_ascii_case(known);
            match argument.trim() {
                "" => directive.is_empty() || is("includeSubDomains") || is("preload"),
                age => is("max-age") && is_age(age),
            }
        })
    })
}

/// Fields of which a replaced error has one at most.
pub(crate) fn is_single(name: &HeaderName) -> bool {
    matches!(name.as_str(), "date" | "strict-transport-security")
}

fn is_digits(value: &HeaderValue) -> bool {
    (1..=19).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_digit)
}

/// Whether a `Retry-After` is valid: 1 to 86400 seconds, or a date at most that far in the future.
pub(crate) fn is_valid_retry_after(value: &HeaderValue, now: SystemTime) -> bool {
    retry_after_seconds(value, now).is_some()
}

/// The seconds of a valid `Retry-After`, those until a date rounded up.
pub(crate) fn retry_after_seconds(value: &HeaderValue, now: SystemTime) -> Option<u64> {
    let seconds = any_retry_after_seconds(value.as_bytes(), now)?;
    (1..=MAX_RETRY_AFTER.as_secs()).contains(&seconds).then_some(seconds)
}

/// The seconds of any `Retry-After` that is a number or a date: those until a date rounded up, 0 for a past one.
pub(crate) fn any_retry_after_seconds(value: &[u8], now: SystemTime) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?.trim_ascii();
    if text.bytes().all(|octet| octet.is_ascii_digit()) {
        return text.parse().ok();
    }
    let wait = httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default();
    Some(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

/// Whether to remove a header field from a conforming error: fields that reveal the upstream's software.
pub(crate) fn drop_on_conforming(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "server" || name == "x-powered-by" || name.starts_with("x-debug-")
}

/// Kept on a 4xx, regardless of their value.
const KEPT_HEADERS: &[&str] =
    &["allow", "dpop-nonce", "link", "ratelimit", "ratelimit-policy", "set-cookie", "www-authenticate"];

/// Request fields that a `Vary` of a 5xx may name: the registered ones that servers select responses by.
const REQUEST_FIELDS: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-datetime",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cookie",
    "dnt",
    "dpop",
    "host",
    "origin",
    "prefer",
    "range",
    "referer",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "user-agent",
    "x-requested-with",
];

/// Response fields that CORS lists of a 5xx may name: registered ones, and those that the gateway writes.
const RESPONSE_FIELDS: &[&str] = &[
    "age",
    "allow",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "grpc-message",
    "grpc-status",
    "grpc-status-details-bin",
    "last-modified",
    "link",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "server-timing",
    "vary",
    "www-authenticate",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
];

const METHODS: &[&str] = &["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// Fields about the body, the connection or the reply: the gateway sets them, and an operator's list cannot keep them.
const NEVER_KEPT: &[&str] = &[
    "accept-ranges",
    "cache-control",
    "connection",
    "content-digest",
    "content-disposition",
    "content-encoding",
    "content-length",
    "content-md5",
    "content-type",
    "digest",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "proxy-connection",
    "repr-digest",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-content-type-options",
    "x-request-id",
];

/// Whether a field describes the bytes of a body that the gateway has decoded or completed.
pub(crate) fn describes_content(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["content-encoding", "etag", "content-md5", "digest", "content-digest", "repr-digest"].contains(&name)
}

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
            gateway_cors: false,
            extra_kept: &[],
            contract_kept: &[],
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
        assert!(is_kept("set-cookie", "a=b", context()));
        let sent_with = |status_sent| HeaderFilterContext { status_sent, ..context() };
        assert!(is_kept("content-range", "bytes */9", sent_with(416)));
        assert!(!is_kept("content-range", "bytes */9", sent_with(400)));
    }

    #[test]
    fn server_error_keeps_no_text_of_the_upstream() {
        let context = HeaderFilterContext {
            status_sent: 503,
            extra_kept: &[HeaderName::from_static("x-shop-hint")],
            contract_kept: &["x-appwrite-*".to_owned()],
            ..context()
        };
        for (name, value) in [
            ("Retry-After", "7"),
            ("Date", "Sat, 01 Jan 2000 00:00:00 GMT"),
            ("Vary", "Origin, accept-encoding"),
            ("Strict-Transport-Security", "max-age=1"),
            ("X-RateLimit-Limit", "100"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", "1700000000"),
            ("Access-Control-Allow-Origin", "*"),
            ("Access-Control-Allow-Origin", "https://app.example.com:8443"),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", "GET, POST"),
            ("Access-Control-Expose-Headers", "X-Request-Id, ETag"),
            ("Access-Control-Max-Age", "600"),
            ("Strict-Transport-Security", "max-age=\"1\"; includeSubDomains ; preload"),
        ] {
            assert!(is_kept(name, value, context), "{name}");
        }
        for (name, value) in [
            ("WWW-Authenticate", "Basic realm=db7"),
            ("Link", "</internal>"),
            ("Allow", "GET"),
            ("Set-Cookie", "a=b"),
            ("Vary", "X-Internal-Shard"),
            ("X-RateLimit-Reset", "node7"),
            ("X-RateLimit-Node", "7"),
            ("RateLimit", "1"),
            ("DPoP-Nonce", "x"),
            ("X-Shop-Hint", "x"),
            ("X-Appwrite-Warning", "x"),
            ("Content-Range", "bytes */9"),
            ("Date", "db7"),
            ("Strict-Transport-Security", "node=db7"),
            ("Access-Control-Allow-Origin", "db7"),
            ("Access-Control-Allow-Methods", "DB7"),
            ("Access-Control-Expose-Headers", "X-Node-Db7"),
            ("Access-Control-Db7", "true"),
        ] {
            assert!(!is_kept(name, value, context), "{name}");
        }
    }

    #[test]
    fn contract_keeps_fields_by_name_and_by_prefix() {
        let kept = ["x-appwrite-*".to_owned(), "x-shop".to_owned()];
        let context = HeaderFilterContext { contract_kept: &kept, ..context() };
        assert!(is_kept("X-Appwrite-Warning", "x", context) && is_kept("X-Shop", "x", context));
        assert!(!is_kept("X-Shop-2", "x", context) && !is_kept("X-Other", "x", context));
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
