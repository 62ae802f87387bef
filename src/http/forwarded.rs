//! Who the client is, and what the upstream is told about it.
//!
//! A peer that is not trusted is the client, whatever its fields say. A trusted peer is believed about the hop before
//! it, and so on from the right: the rightmost untrusted hop is the client. It knows no configuration: the trusted
//! networks and the values of the field that carries hops are given.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use super::ascii_class::list_elements;

/// The client's address.
///
/// `values` are those of `ip_header`, in their order. Reading stops at the first hop from the right that is not an
/// address; then the last good one is the client.
pub fn client_ip<'a>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> IpAddr {
    hops(peer, values, trusted).last().unwrap_or_else(|| peer.to_canonical())
}

/// `X-Forwarded-For` with the client alone.
pub fn forwarded_for_client(client: IpAddr) -> HeaderValue {
    format_addresses(&[client])
}

/// `X-Forwarded-For` with the client and the trusted hops between it and us (`forwarded: append`).
pub fn forwarded_for_chain<'a>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> HeaderValue {
    let mut chain: Vec<IpAddr> = hops(peer, values, trusted).collect();
    chain.reverse();
    format_addresses(&chain)
}

/// Whether a client must not say this itself: it is dropped, and what we know is said instead.
///
/// `X-Forwarded-*`, `ForwardedRequest`, `X-Real-IP`; also with underscores, which servers of the CGI kind read as hyphens.
pub fn is_forwarded_field(name: &HeaderName) -> bool {
    is_forwarded_name(name.as_str().as_bytes())
}

/// The same on bytes in any case. By the first octet: most names end there.
pub fn is_forwarded_name(name: &[u8]) -> bool {
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

/// The believed hops from the nearest (the peer) to the farthest (the client).
fn hops<'a>(
    peer: IpAddr,
    values: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &[IpNet],
) -> impl Iterator<Item = IpAddr> {
    let is_trusted = move |ip: IpAddr| trusted.iter().any(|network| network.contains(&ip));
    let named = values.rev().flat_map(|value| list_elements(value).rev()).map_while(parse_address);
    let mut all_trusted = true;
    std::iter::once(peer.to_canonical()).chain(named).take_while(move |ip| {
        let take = all_trusted;
        all_trusted = all_trusted && is_trusted(*ip);
        take
    })
}

/// An address, with or without port, IPv6 with or without brackets; IPv4 inside IPv6 is taken out.
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
                // Writing to a String does not fail.
                let _ = write!(text, "{ip}");
            }
        }
    }
    // Digits, colons, dots, commas: always a valid value. It takes the String's memory over.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// By hand: every request says it, and the formatting machinery takes a thousand instructions for it.
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
