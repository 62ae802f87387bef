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

/// A JSON string, quotes included (RFC 8259 7).
pub(crate) fn write_string(text: &str, out: &mut BytesMut) {
    // Few messages need escaping. Without an early exit the compiler vectorizes this check (16 bytes at a time).
    if text.bytes().fold(false, |any, octet| any | needs_escape(octet)) {
        // Writing a text to a buffer in memory does not fail.
        let _ = serde_json::to_writer(out.writer(), text);
        return;
    }
    out.put_u8(b'"');
    out.put_slice(text.as_bytes());
    out.put_u8(b'"');
}

const fn needs_escape(octet: u8) -> bool {
    (octet < 0x20) | (octet == b'"') | (octet == b'\\')
}

/// The decimal digits of a number.
pub(crate) fn decimal_digits(mut number: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut first = buffer.len();
    for digit in buffer.iter_mut().rev() {
        // Below 10, so the cast is lossless.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        first -= 1;
        if number == 0 {
            break;
        }
    }
    buffer.get(first..).unwrap_or_default()
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
            assert_eq!(decimal_digits(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn json_string_round_trips_any_text(text in any::<String>()) {
            prop_assert_eq!(serde_json::from_str::<String>(&string(&text)).unwrap(), text);
        }
    }
}
