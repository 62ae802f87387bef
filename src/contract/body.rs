//! Writes the parts of JSON error bodies: strings, with their escapes, and numbers.
//!
//! [`super::template`] has the form of a body.

use bytes::{BufMut, BytesMut};

/// Optional members that an operator can add to every local error body.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Include {
    /// `type`, also when the upstream body has none.
    pub kind: bool,
    /// `details`: what is kept of the upstream's.
    pub details: bool,
    /// `request_id`.
    pub request_id: bool,
    /// `cause`: its name.
    pub cause: bool,
    /// `retryable`: whether the client may retry the same request. See [`super::retryable()`].
    pub retryable: bool,
    /// `request_sent`: whether the request reached the upstream.
    pub request_sent: bool,
}

/// A JSON string, quotes included (RFC 8259, section 7).
pub(crate) fn write_string(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    // Few messages need escaping. Without an early exit the compiler vectorizes this check (16 bytes at a time).
    if !rest.iter().fold(false, |any, &b| any | needs_escape(b)) {
        out.put_slice(rest);
        out.put_u8(b'"');
        return;
    }
    // Only ASCII bytes are escaped, so splitting there never divides a UTF-8 sequence.
    while let Some(at) = rest.iter().position(|&b| needs_escape(b)) {
        let (plain, tail) = rest.split_at(at);
        out.put_slice(plain);
        let Some((&byte, after)) = tail.split_first() else { break };
        write_escape(byte, out);
        rest = after;
    }
    out.put_slice(rest);
    out.put_u8(b'"');
}

const fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

fn write_escape(byte: u8, out: &mut BytesMut) {
    match byte {
        b'"' => out.put_slice(b"\\\""),
        b'\\' => out.put_slice(b"\\\\"),
        b'\n' => out.put_slice(b"\\n"),
        b'\r' => out.put_slice(b"\\r"),
        b'\t' => out.put_slice(b"\\t"),
        _ => {
            out.put_slice(b"\\u00");
            out.put_u8(hex_digit(byte >> 4));
            out.put_u8(hex_digit(byte & 0x0f));
        }
    }
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Writes a number in decimal digits.
pub(crate) fn write_number(number: u64, out: &mut BytesMut) {
    let mut digits = [0_u8; 20];
    let mut rest = number;
    let mut first = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        // Below 10, so the cast is lossless.
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        first = index;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(digits.get(first..).unwrap_or_default());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(text: &str) -> String {
        let mut out = BytesMut::new();
        write_string(text, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn json_string_escapes_only_what_json_requires() {
        assert_eq!(
            string("\"\\\n\r\t\u{0}\u{1f}/é\u{2028}\u{7f}"),
            "\"\\\"\\\\\\n\\r\\t\\u0000\\u001f/é\u{2028}\u{7f}\""
        );
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 404, 86_400, u64::MAX] {
            let mut out = BytesMut::new();
            write_number(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn json_string_round_trips_any_text(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&string(&text)).unwrap(), text);
        }
    }
}
