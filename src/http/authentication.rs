//! Authentication schemes that authenticate a connection instead of a request.
//!
//! After NTLM or Negotiate, a server attributes every later request on the connection to the same user (RFC 4559,
//! section 6). Such a connection must not be shared between clients.

/// Whether the value of an `Authorization` field has such a scheme. Schemes are case-insensitive (RFC 9110, section
/// 11.1).
pub(crate) fn authenticates_connection(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|octet| matches!(octet, b' ' | b'\t' | b',')).unwrap_or(value.len());
    let scheme = value.get(..end).unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}
