//! Writes HTTP/1 status lines and header fields without allocation.
//!
//! Syntax only: callers decide which fields a message has.

use std::cell::RefCell;
use std::time::SystemTime;

use bytes::{BufMut, BytesMut};
use http::HeaderValue;

use crate::contract::body::decimal_digits;
use crate::http::reason_phrase::reason_phrase;

/// Writes a status line. Without `reason` it uses the registered phrase, which is empty for an unknown status.
pub(in crate::proxy) fn write_status_line(out: &mut BytesMut, status: u16, reason: Option<&[u8]>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    write_decimal(out, u64::from(status));
    out.put_u8(b' ');
    let phrase = reason.unwrap_or_else(|| reason_phrase(status).unwrap_or_default().as_bytes());
    out.extend_from_slice(phrase);
    out.extend_from_slice(b"\r\n");
}

/// Writes a field line.
pub(in crate::proxy) fn write_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a field line with a numeric value. `prefix` is the name with the colon and a space.
pub(in crate::proxy) fn write_number_field(out: &mut BytesMut, prefix: &[u8], value: u64) {
    out.extend_from_slice(prefix);
    write_decimal(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a decimal number without leading zeros.
pub(in crate::proxy) fn write_decimal(out: &mut BytesMut, value: u64) {
    out.extend_from_slice(decimal_digits(value, &mut [0; 20]));
}

/// Writes a chunk size: lower-case hexadecimal digits without leading zeros.
pub(in crate::proxy) fn write_hex(out: &mut BytesMut, mut value: usize) {
    let mut digits = [0_u8; 16];
    let mut count = 0;
    for slot in digits.iter_mut().rev() {
        let digit = (value % 16) as u8;
        *slot = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        value /= 16;
        count += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - count..).unwrap_or_default());
}

/// The customary upper and lower case of the field names that the gateway generates. Field names are case-insensitive
/// (RFC 9110 5.1); this only helps people who read a response.
pub(in crate::proxy) fn canonical_name(name: &str) -> &str {
    match name {
        "access-control-allow-credentials" => "Access-Control-Allow-Credentials",
        "access-control-allow-headers" => "Access-Control-Allow-Headers",
        "access-control-allow-methods" => "Access-Control-Allow-Methods",
        "access-control-allow-origin" => "Access-Control-Allow-Origin",
        "access-control-expose-headers" => "Access-Control-Expose-Headers",
        "access-control-max-age" => "Access-Control-Max-Age",
        "allow" => "Allow",
        "cache-control" => "Cache-Control",
        "content-range" => "Content-Range",
        "content-type" => "Content-Type",
        "date" => "Date",
        "link" => "Link",
        "retry-after" => "Retry-After",
        "set-cookie" => "Set-Cookie",
        "strict-transport-security" => "Strict-Transport-Security",
        "vary" => "Vary",
        "www-authenticate" => "WWW-Authenticate",
        "x-content-type-options" => "X-Content-Type-Options",
        "x-ratelimit-limit" => "X-RateLimit-Limit",
        "x-ratelimit-remaining" => "X-RateLimit-Remaining",
        "x-ratelimit-reset" => "X-RateLimit-Reset",
        "x-request-id" => "X-Request-Id",
        other => other,
    }
}

thread_local! {
    static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
}

/// The value of `Date` (RFC 9110 6.6.1), cached per thread for the current second.
pub(in crate::proxy) fn http_date(now: SystemTime) -> HeaderValue {
    let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(cached_second, value)| {
        if *cached_second != second
            && let Ok(formatted) = HeaderValue::try_from(httpdate::fmt_http_date(now))
        {
            (*cached_second, *value) = (second, formatted);
        }
        value.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_the_standard_formatter() {
        for value in [0_usize, 1, 9, 10, 15, 16, 255, 65_535, 65_536, usize::MAX] {
            let mut out = BytesMut::new();
            write_decimal(&mut out, value as u64);
            out.put_u8(b' ');
            write_hex(&mut out, value);
            assert_eq!(out, format!("{value} {value:x}"));
        }
    }

    #[test]
    fn canonical_name_changes_only_case() {
        for name in ["content-type", "www-authenticate", "x-ratelimit-reset", "x-own"] {
            assert!(canonical_name(name).eq_ignore_ascii_case(name));
        }
        assert_eq!(canonical_name("retry-after"), "Retry-After");
    }

    #[test]
    fn unknown_status_keeps_the_space_before_the_empty_phrase() {
        let mut out = BytesMut::new();
        write_status_line(&mut out, 200, None);
        write_status_line(&mut out, 299, None);
        write_status_line(&mut out, 200, Some(b"Fine"));
        assert_eq!(out, "HTTP/1.1 200 OK\r\nHTTP/1.1 299 \r\nHTTP/1.1 200 Fine\r\n");
    }
}
