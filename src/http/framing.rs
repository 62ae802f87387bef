//! Parses single values of Content-Length and Transfer-Encoding.
//!
//! The rules for combinations differ between requests ([`super::request_head`]) and responses
//! ([`super::response_head`]), so they are there.

/// How the length of a request body is determined (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFraming {
    /// No body.
    None,
    /// Content-Length, in bytes; 0 if the field has that value.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

impl RequestFraming {
    /// Whether body bytes may follow the header section.
    pub const fn has_body(self) -> bool {
        match self {
            RequestFraming::None | RequestFraming::Length(0) => false,
            RequestFraming::Length(_) | RequestFraming::Chunked => true,
        }
    }
}

/// Whether this is the name of a framing field with underscores instead of hyphens. CGI gateways cannot distinguish the
/// two spellings.
pub(crate) fn is_underscore_variant(name: &[u8]) -> bool {
    let normalise_byte = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    let is = |lower: &[u8]| name.iter().map(normalise_byte).eq(lower.iter().copied());
    match name.len() {
        14 => name.contains(&b'_') && is(b"content-length"),
        17 => name.contains(&b'_') && is(b"transfer-encoding"),
        _ => false,
    }
}

/// Parses one trimmed Content-Length value: digits only, at most `i64::MAX`, because some parsers use signed integers.
/// Leading zeros are allowed (RFC 9110 8.6).
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

/// Whether one trimmed Transfer-Encoding value is exactly `chunked`, the only transfer coding that the gateway
/// supports.
pub(crate) fn is_chunked(value: &[u8]) -> bool {
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
        for invalid in [
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
            assert_eq!(content_length(invalid), None, "{invalid:?}");
        }
    }
}
