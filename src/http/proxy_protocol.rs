//! The PROXY protocol header that a load balancer sends before the first byte of a connection (versions 1 and 2, as
//! HAProxy's `proxy-protocol.txt` defines them): where it ends, and which client address it names.
//!
//! Pure. The crate `proxy-header` decodes the header; this file adds the bounds and what the crate does not check.

use std::fmt;
use std::net::IpAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};

/// Maximum length of a header in bytes, with its TLVs. A header with a client certificate is below 4 KiB.
pub(crate) const MAX_PROXY_HEADER: usize = 4096;

/// Maximum length of a version 1 header in bytes, with its CRLF (proxy-protocol.txt, section 2.1).
const MAX_V1_HEADER: usize = 107;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_FIXED_LEN: usize = 16;
const V2_LOCAL: u8 = 0x20;

/// Which address a header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxiedPeer {
    /// The address of the client.
    Client(IpAddr),
    /// None: the load balancer connects for itself (`LOCAL`, a health check), or does not know (`UNKNOWN`). The peer of
    /// the connection is the client.
    Unspecified,
}

/// A header is malformed. The text is for the log and constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidProxyHeader(&'static str);

impl fmt::Display for InvalidProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// How many bytes of the input belong to the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderExtent {
    /// All of them; more must follow.
    Incomplete,
    /// This many; the header is complete.
    Complete(usize),
}

/// Finds the end of the header at the start of `input`.
///
/// # Errors
/// The input is no header, or it is longer than [`MAX_PROXY_HEADER`].
pub fn header_extent(input: &[u8]) -> Result<HeaderExtent, InvalidProxyHeader> {
    if starts_alike(input, V1_PREFIX) {
        return match input.iter().position(|octet| *octet == b'\n') {
            Some(end) if end < MAX_V1_HEADER => Ok(HeaderExtent::Complete(end + 1)),
            None if input.len() < MAX_V1_HEADER => Ok(HeaderExtent::Incomplete),
            _ => Err(InvalidProxyHeader("a version 1 header is longer than 107 bytes")),
        };
    }
    if !starts_alike(input, V2_SIGNATURE) {
        return Err(InvalidProxyHeader("the connection does not begin with a PROXY protocol header"));
    }
    let Some([high, low]) = input.get(V2_FIXED_LEN - 2..V2_FIXED_LEN) else {
        return Ok(HeaderExtent::Incomplete);
    };
    let length = V2_FIXED_LEN + usize::from(u16::from_be_bytes([*high, *low]));
    if length > MAX_PROXY_HEADER {
        return Err(InvalidProxyHeader("a version 2 header is longer than 4 KiB"));
    }
    Ok(if input.len() < length { HeaderExtent::Incomplete } else { HeaderExtent::Complete(length) })
}

/// Decodes a complete header.
///
/// # Errors
/// The header is malformed, or is for a datagram.
pub fn parse(header: &[u8]) -> Result<ProxiedPeer, InvalidProxyHeader> {
    if header.starts_with(V1_PREFIX) {
        check_v1_line(header)?;
    } else if header.get(V2_SIGNATURE.len()) == Some(&V2_LOCAL) {
        // The receiver ignores whatever follows the command (proxy-protocol.txt, section 2.2).
        return Ok(ProxiedPeer::Unspecified);
    }
    let malformed = InvalidProxyHeader("a malformed PROXY protocol header");
    let (parsed, length) = ProxyHeader::parse(header, ParseConfig::default()).map_err(|_| malformed)?;
    if length != header.len() || parsed.tlvs().any(|tlv| tlv.is_err()) {
        return Err(malformed);
    }
    match parsed.proxied_address() {
        Some(address) if address.protocol == Protocol::Datagram => {
            Err(InvalidProxyHeader("a PROXY protocol header for a datagram"))
        }
        Some(address) => Ok(ProxiedPeer::Client(address.source.ip().to_canonical())),
        None => Ok(ProxiedPeer::Unspecified),
    }
}

/// Whether one of the two is the start of the other.
fn starts_alike(input: &[u8], prefix: &[u8]) -> bool {
    input.iter().zip(prefix).all(|(left, right)| left == right)
}

/// The crate accepts any byte after `PROXY`, a sign before a port and text that continues `UNKNOWN`.
fn check_v1_line(header: &[u8]) -> Result<(), InvalidProxyHeader> {
    let line = header.strip_suffix(b"\r\n").ok_or(InvalidProxyHeader("a version 1 header without CRLF"))?;
    let words: Vec<&[u8]> = line.split(|octet| *octet == b' ').collect();
    let is_valid = match words.as_slice() {
        [_, b"UNKNOWN", ..] => true,
        [_, b"TCP4" | b"TCP6", _, _, ports @ ..] => {
            ports.len() == 2 && ports.iter().all(|port| is_decimal(port))
        }
        _ => false,
    };
    if is_valid { Ok(()) } else { Err(InvalidProxyHeader("a malformed version 1 header")) }
}

fn is_decimal(port: &[u8]) -> bool {
    !port.is_empty() && port.iter().all(u8::is_ascii_digit) && (port.len() == 1 || !port.starts_with(b"0"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use proxy_header::ProxiedAddress;

    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap_or_default().to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn client(text: &str) -> Result<ProxiedPeer, InvalidProxyHeader> {
        Ok(ProxiedPeer::Client(text.parse().unwrap_or_else(|error| panic!("{error}"))))
    }

    #[test]
    fn header_is_found_at_every_split_and_its_rest_is_not_part_of_it() {
        let stream = |text: &str| text.parse::<SocketAddr>().unwrap_or_else(|error| panic!("{error}"));
        let address = ProxiedAddress::stream(stream("[2001:db8::7]:4000"), stream("[2001:db8::8]:443"));
        let mut buffer = [0; 256];
        let length = ProxyHeader::with_address(address).encode_to_slice_v2(&mut buffer);
        let length = length.unwrap_or_else(|error| panic!("{error:?}"));
        let encoded = buffer.get(..length).unwrap_or_default().to_vec();
        for (header, expected) in [
            (b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::8 4000 443\r\n".to_vec(), client("2001:db8::7")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 4000 443\r\n".to_vec(), client("192.0.2.7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(ProxiedPeer::Unspecified)),
            (b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n".to_vec(), Ok(ProxiedPeer::Unspecified)),
            (encoded, client("2001:db8::7")),
            (v2(0x21, 0x11, b"\xc0\0\x02\x07\xc0\0\x02\x08\x0f\xa0\x01\xbb\x04\0\x01x"), client("192.0.2.7")),
            (v2(V2_LOCAL, 0x11, b""), Ok(ProxiedPeer::Unspecified)),
            (v2(V2_LOCAL, 0, b"whatever"), Ok(ProxiedPeer::Unspecified)),
            (v2(0x21, 0, b""), Ok(ProxiedPeer::Unspecified)),
            (v2(0x21, 0x31, &[b'x'; 216]), Ok(ProxiedPeer::Unspecified)),
        ] {
            for end in 0..header.len() {
                assert_eq!(
                    header_extent(header.get(..end).unwrap_or_default()),
                    Ok(HeaderExtent::Incomplete)
                );
            }
            let followed = [&header, b"GET / HTTP/1.1\r\n\r\n".as_slice()].concat();
            assert_eq!(header_extent(&followed), Ok(HeaderExtent::Complete(header.len())));
            assert_eq!(parse(&header), expected, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn input_that_is_no_header_is_refused_at_its_first_wrong_byte() {
        for input in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            b"P OXY".to_vec(),
            b"\r\n\r\n\x01".to_vec(),
            b"\x16\x03\x01".to_vec(),
            [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(),
            v2(0x21, 0x11, &[0; 4081]),
        ] {
            assert!(header_extent(&input).is_err(), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        for header in [
            b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.8 +4000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.8 04000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 70000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 192.0.2.8 4000 443 5\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7  192.0.2.8 4000 443\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 2001:db8::8 4000 443\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.256 192.0.2.8 4000 443\r\n".to_vec(),
            b"PROXY UNKNOWNX\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 192.0.2.8 4000 443\r\n".to_vec(),
            b"PROXY \r\n".to_vec(),
            v2(0x21, 0x11, b"\xc0\0\x02"),
            v2(0x21, 0x12, b"\xc0\0\x02\x07\xc0\0\x02\x08\x0f\xa0\x01\xbb"),
            v2(0x21, 0x11, b"\xc0\0\x02\x07\xc0\0\x02\x08\x0f\xa0\x01\xbb\x04\0\x09x"),
            v2(0x21, 0x41, b""),
            v2(0x11, 0x11, b"\xc0\0\x02\x07\xc0\0\x02\x08\x0f\xa0\x01\xbb"),
            v2(0x22, 0x11, b"\xc0\0\x02\x07\xc0\0\x02\x08\x0f\xa0\x01\xbb"),
        ] {
            assert!(parse(&header).is_err(), "{}", header.escape_ascii());
        }
    }
}
