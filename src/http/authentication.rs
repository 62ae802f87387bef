//! Authentication schemes that authenticate a connection instead of a request.
//!
//! After NTLM or Negotiate a server takes every later request on that connection for the same user (RFC 4559 section 6),
//! so such a connection must not be shared.

/// Whether the value of an `Authorization` field names such a scheme. Schemes are compared in any case (RFC 9110 11.1).
pub fn binds_connection(value: &[u8]) -> bool {
    let value = value.trim_ascii_start();
    let end = value.iter().position(|octet| matches!(octet, b' ' | b'\t' | b',')).unwrap_or(value.len());
    let scheme = value.get(..end).unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
}
