//! Whom a request is for: `HostRoutes`, `:authority`, the authority of an absolute-form target.
//!
//! [`check_authority`] decides what may stand there; the rest reads what it let through, as routes see it. It knows no
//! routes and resolves no names.
//!
//! We take less than RFC 3986 3.2.2 allows, where more has a second reading: no percent-encoding (some readers decode
//! it), no comma (two Host fields merged), no empty label but a final dot, no zone identifier, no IPvFuture.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::Rejection;
use super::ascii_class::{NOT_HOST, class_bits};
use crate::contract::Cause;

/// Longest host: a DNS name has at most 253 characters and a final dot.
const MAX_HOST_LEN: usize = 255;

/// Judges `host[:port]`.
///
/// # Errors
/// `invalid_host` with what is wrong.
pub fn check_authority(authority: &[u8]) -> Result<(), Rejection> {
    let Some((host, port)) = split_host_port(authority) else {
        return Err(invalid_host("the authority is not host[:port]"));
    };
    if !port.is_none_or(is_port) {
        return Err(invalid_host("the port is not a number up to 65535"));
    }
    match host {
        [] => Err(invalid_host("the host is empty")),
        [b'[', inner @ .., b']'] => match ipv6(inner) {
            Some(_) => Ok(()),
            None => Err(invalid_host("the bracketed host is not an IPv6 address")),
        },
        name if name.len() > MAX_HOST_LEN => Err(invalid_host("the host is longer than 255 bytes")),
        name => check_host_name(name),
    }
}

/// Host and port of an authority; `None` when the colons and brackets make no sense. An empty port is a port.
pub fn split_host_port(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let host_len = if authority.first() == Some(&b'[') {
        authority.iter().position(|octet| *octet == b']')? + 1
    } else {
        authority.iter().position(|octet| *octet == b':').unwrap_or(authority.len())
    };
    match authority.split_at_checked(host_len)? {
        (host, []) => Some((host, None)),
        (host, [b':', port @ ..]) => Some((host, Some(port))),
        (_, _) => None,
    }
}

/// Whether a target's authority and Host say the same; letters in any case.
pub fn authorities_equal(one: &[u8], other: &[u8]) -> bool {
    one.eq_ignore_ascii_case(other)
}

/// The host as routes see it: lower case, without port, brackets and final dot; IPv6 in its shortest form.
///
/// Borrowed when the authority has it like that. Meant for what [`check_authority`] let through and for the patterns
/// of a configuration, so that both are brought into one form.
pub fn routing_host(authority: &[u8]) -> Cow<'_, str> {
    let host = split_host_port(authority).map_or(authority, |(host, _)| host);
    if let [b'[', inner @ .., b']'] = host
        && let Some(address) = ipv6(inner)
    {
        return Cow::Owned(address.to_string());
    }
    let host = host.strip_suffix(b".").unwrap_or(host);
    match std::str::from_utf8(host) {
        Ok(text) if !host.iter().any(u8::is_ascii_uppercase) => Cow::Borrowed(text),
        Ok(text) => Cow::Owned(text.to_ascii_lowercase()),
        Err(_) => Cow::Owned(String::from_utf8_lossy(host).to_ascii_lowercase()),
    }
}

/// Whether a host (as from [`routing_host`]) matches a lower-case pattern: the same name, or `*.example.com` for one
/// or more labels in front.
pub fn matches_pattern(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') => host.len() > suffix.len() && host.ends_with(suffix),
        Some(_) | None => pattern == host,
    }
}

fn check_host_name(name: &[u8]) -> Result<(), Rejection> {
    let mut classes = 0;
    let mut previous = b'.';
    for octet in name {
        if *octet == b'.' && previous == b'.' {
            return Err(invalid_host("the host has an empty label"));
        }
        classes |= class_bits(*octet);
        previous = *octet;
    }
    if classes & NOT_HOST != 0 {
        let user = name.contains(&b'@');
        return Err(invalid_host(if user { "user information" } else { "a byte that no host name has" }));
    }
    Ok(())
}

fn is_port(port: &[u8]) -> bool {
    // RFC 3986 3.2.3 allows an empty port.
    let digits = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    digits && port.iter().fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0')) <= 65_535
}

fn ipv6(inner: &[u8]) -> Option<Ipv6Addr> {
    std::str::from_utf8(inner).ok()?.parse().ok()
}

const fn invalid_host(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::InvalidHost, evidence)
}

#[cfg(test)]
#[path = "authority_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
