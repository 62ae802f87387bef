//! The authority of a request: `Host`, `:authority`, or the authority of an absolute-form target.
//!
//! [`check_authority`] validates it; [`routing_host`] normalises it for routing.
//!
//! Validation is stricter than RFC 3986 3.2.2, wherever servers interpret a value differently: no percent-encoding
//! (some servers decode it), no comma (merged Host fields), no empty label except a final dot, no zone identifier, no
//! IPvFuture.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::Rejection;
use super::ascii_class::{NOT_HOST, class_bits};
use crate::contract::Cause;

/// Maximum length of a host in bytes: a DNS name has at most 253 characters and a final dot.
const MAX_HOST_LEN: usize = 255;

/// The host that an upstream receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The client's, unchanged.
    Client,
    /// The configured address of the server.
    Server,
    /// This `host[:port]`.
    Name(String),
}

/// Validates `host[:port]`.
///
/// # Errors
/// `invalid_host`, with the reason as evidence.
pub(crate) fn check_authority(authority: &[u8]) -> Result<(), Rejection> {
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

/// Splits an authority into host and port. `None` if colons or brackets are misplaced. The port can be empty.
pub(crate) fn split_host_port(authority: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
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

/// Whether the target's authority and Host name the same host and port: equal without regard to case, and with
/// `default_port` (of the target's scheme) for a port that is missing or empty (RFC 9110 4.2.3).
pub(crate) fn authorities_equal(target_authority: &[u8], host: &[u8], default_port: Option<u16>) -> bool {
    if target_authority.eq_ignore_ascii_case(host) {
        return true;
    }
    let (Some((a, a_port)), Some((b, b_port))) = (split_host_port(target_authority), split_host_port(host))
    else {
        return false;
    };
    let port = |digits: Option<&[u8]>| match digits {
        None | Some([]) => default_port.map(u32::from),
        Some(digits) => Some(port_number(digits)),
    };
    a.eq_ignore_ascii_case(b) && port(a_port).is_some() && port(a_port) == port(b_port)
}

/// Normalises the host for routing: lower case, without port, brackets and final dot; IPv6 in its shortest form.
///
/// Borrowed if the host is already normalised. Use it for authorities that passed [`check_authority`] and for the host
/// patterns of the configuration, so that both have the same form.
pub(crate) fn routing_host(authority: &[u8]) -> Cow<'_, str> {
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

/// Whether a host (from [`routing_host`]) matches a lower-case pattern: the exact name, or `*.example.com`, where `*`
/// matches one or more labels.
pub(crate) fn matches_pattern(pattern: &str, host: &str) -> bool {
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
        return Err(invalid_host(if user {
            "the authority has user information"
        } else {
            "the host has an invalid byte"
        }));
    }
    Ok(())
}

fn is_port(port: &[u8]) -> bool {
    // RFC 3986 3.2.3 allows an empty port.
    let digits = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    digits && port_number(port) <= 65_535
}

/// The number that at most 5 digits write.
fn port_number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit.wrapping_sub(b'0')))
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
