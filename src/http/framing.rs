//! How long a body is, by the letter of Content-Length and Transfer-Encoding.
//!
//! Only single values are read here; which combinations are refused is said where heads are read, because requests
//! ([`super::request_head`]) and responses ([`super::response_head`]) differ in it.

/// How the end of a request body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// There is no body.
    None,
    /// So many bytes; 0 was said explicitly.
    Length(u64),
    /// Chunks.
    Chunked,
}

impl RequestFraming {
    /// Whether any body byte may follow the head.
    pub const fn has_body(self) -> bool {
        match self {
            RequestFraming::None | RequestFraming::Length(0) => false,
            RequestFraming::Length(_) | RequestFraming::Chunked => true,
        }
    }
}

/// Whether this is the name of a framing field with underscores for hyphens: gateways of the CGI kind cannot tell the
/// two apart.
pub fn is_underscore_variant(name: &[u8]) -> bool {
    let normalise_byte = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    let is = |lower: &[u8]| name.iter().map(normalise_byte).eq(lower.iter().copied());
    match name.len() {
        14 => name.contains(&b'_') && is(b"content-length"),
        17 => name.contains(&b'_') && is(b"transfer-encoding"),
        _ => false,
    }
}

/// The number in one Content-Length value (trimmed): digits only, at most `i64::MAX`, which is where signed readers
/// end. Leading zeros are digits (RFC 9110 8.6).
pub fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    let mut length = 0_i64;
    for octet in value {
        if !octet.is_ascii_digit() {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(i64::from(octet - b'0'))?;
    }
    u64::try_from(length).ok()
}

/// Whether one Transfer-Encoding value (trimmed) is exactly `chunked`: the only coding a gateway can relay.
pub fn is_chunked(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"chunked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_header_with_underscore_is_recognised() {
        for name in [&b"Content_Length"[..], b"transfer_encoding", b"Transfer_Encoding"] {
            assert!(is_underscore_variant(name));
        }
        for name in [&b"Content-Length"[..], b"transfer-encoding", b"content_lengths", b"content_type_x"] {
            assert!(!is_underscore_variant(name));
        }
    }

    #[test]
    fn content_length_accepts_digits_up_to_i64_max() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"007"), Some(7));
        assert_eq!(content_length(b"9223372036854775807"), Some(9_223_372_036_854_775_807));
        for wrong in [
            &b"9223372036854775808"[..],
            b"18446744073709551616",
            b"",
            b"+5",
            b"-0",
            b"0x5",
            b"5, 5",
            b"5 ",
            b"5;",
            b"1e3",
            b"5.0",
            "\u{0665}".as_bytes(),
        ] {
            assert_eq!(content_length(wrong), None, "{wrong:?}");
        }
    }
}
