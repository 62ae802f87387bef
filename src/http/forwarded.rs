//! Determines the client address, and builds `X-Forwarded-For` for the upstream.
//!
//! An untrusted peer is the client, whatever header fields it sends. A trusted peer reports the previous hop, and so on
//! from the right: the rightmost untrusted hop is the client. The caller passes the trusted networks and the field
//! values.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::HeaderValue;

use super::ascii_class::list_elements;
use super::peer::{Peer, PeerRange};

/// Returns the client address.
///
/// `values` are the values of `ip_header`, in message order. If a hop (from the right) is not an address, the last
/// valid hop before it is the client.
pub(crate) fn client<'a>(
    peer: Peer,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[PeerRange],
) -> Peer {
    hops(peer, values, trusted).last().map_or_else(|| peer.to_canonical(), Peer::Ip)
}

/// Builds `X-Forwarded-For` with only the client address; empty if it has none.
pub(crate) fn forwarded_for_client(client: Peer) -> HeaderValue {
    match client {
        Peer::Ip(ip) => format_addresses(&[ip]),
        Peer::Unix => HeaderValue::from_static(""),
    }
}

/// Builds `X-Forwarded-For` with the client and the trusted hops up to the gateway (`forwarded: append`); empty if none
/// has an address.
pub(crate) fn forwarded_for_chain<'a>(
    peer: Peer,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[PeerRange],
) -> HeaderValue {
    let mut chain: Vec<IpAddr> = hops(peer, values, trusted).collect();
    chain.reverse();
    format_addresses(&chain)
}

/// Whether the gateway removes this field from the requests of clients, because it sets its own value or a client may
/// forge it. [`is_written_name`] are those that it removes from the requests of trusted proxies too.
///
/// These are `X-Forwarded-*`, `Forwarded` and `X-Real-IP`, also with underscores, which CGI servers treat as hyphens.
///
/// Matches the first octet first, which excludes most names.
pub(crate) fn is_forwarded_name(name: &[u8]) -> bool {
    match name {
        [b'x' | b'X', b'-' | b'_', rest @ ..] => {
            let normalise_byte = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
            let is = |text: &[u8], lower: &[u8]| text.iter().map(normalise_byte).eq(lower.iter().copied());
            is(rest, b"real-ip") || rest.get(..10).is_some_and(|start| is(start, b"forwarded-"))
        }
        [b'f' | b'F', ..] => name.eq_ignore_ascii_case(b"forwarded"),
        _ => false,
    }
}

/// Whether the gateway writes this field itself. Only for names of [`is_forwarded_name`].
pub(crate) fn is_written_name(name: &[u8]) -> bool {
    let is = |lower: &[u8]| {
        name.iter()
            .map(|octet| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() })
            .eq(lower.iter().copied())
    };
    match name.len() {
        9 => true,
        15 => is(b"x-forwarded-for"),
        16 => is(b"x-forwarded-host") || is(b"x-forwarded-port"),
        17 => is(b"x-forwarded-proto"),
        _ => false,
    }
}

/// The accepted hops, from the nearest (the peer) to the farthest (the client).
fn hops<'a>(
    peer: Peer,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[PeerRange],
) -> impl Iterator<Item = IpAddr> {
    let is_trusted = move |ip: IpAddr| Peer::Ip(ip).is_one_of(trusted);
    let named = values.rev().flat_map(|value| list_elements(value).rev()).map_while(parse_address);
    // The peer of a Unix socket is no hop itself.
    let mut all_trusted = peer.ip().is_some() || peer.is_one_of(trusted);
    peer.ip().map(|ip| ip.to_canonical()).into_iter().chain(named).take_while(move |ip| {
        let accepted = all_trusted;
        all_trusted = all_trusted && is_trusted(*ip);
        accepted
    })
}

/// Parses an address with or without port, IPv6 with or without brackets. IPv4-mapped IPv6 becomes IPv4.
fn parse_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let ip = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(ip.to_canonical())
}

fn format_addresses(chain: &[IpAddr]) -> HeaderValue {
    let mut text = String::with_capacity(chain.len() * 17);
    for (at, ip) in chain.iter().enumerate() {
        text.push_str(if at == 0 { "" } else { ", " });
        match ip {
            IpAddr::V4(ip) => write_v4(&mut text, *ip),
            IpAddr::V6(ip) => {
                // Writing to a String never fails.
                let _ = write!(text, "{ip}");
            }
        }
    }
    // Digits, colons, dots and commas are always a valid value. The conversion reuses the String's buffer.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Formats without `fmt`, which costs about 1,000 instructions: this runs on every request.
fn write_v4(text: &mut String, ip: Ipv4Addr) {
    let digit = |value: u8| char::from(b'0' + value % 10);
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(digit(octet / 100));
        }
        if octet >= 10 {
            text.push(digit(octet / 10));
        }
        text.push(digit(octet));
    }
}

#[cfg(test)]
#[path = "forwarded_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
