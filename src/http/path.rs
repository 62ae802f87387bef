//! Normalises paths for routing (RFC 3986 6.2.2).
//!
//! The upstream receives the original path. Routing uses the normalised path, so that `//admin` and `/%61dmin` cannot
//! bypass a stricter route. [`super::target`] has already rejected invalid paths. Dot segments are not resolved: on
//! routes that allow them, they are ordinary segments.

use std::borrow::Cow;

use super::ascii_class::{HIGH, PERCENT, UNRESERVED, class_bits, class_bits_in, decode_hex_pair};

/// Returns the normalised path, always ASCII: unreserved octets decoded, other percent-encodings with upper-case
/// digits, octets above 0x7F percent-encoded, repeated slashes merged. An encoded slash stays `%2F`.
///
/// Borrowed if the path is already normalised, which is the usual case. An invalid `%` (already rejected in requests)
/// becomes `%25`, so that normalisation is idempotent.
pub(crate) fn normalise(path: &[u8]) -> Cow<'_, str> {
    let plain = class_bits_in(path) & (PERCENT | HIGH) == 0 && !path.windows(2).any(|pair| pair == b"//");
    let normal_len = if plain { path.len() } else { path.len() - skip_normalised(path).len() };
    if normal_len == path.len()
        && let Ok(text) = std::str::from_utf8(path)
    {
        return Cow::Borrowed(text);
    }
    let (normal, rest) = path.split_at_checked(normal_len).unwrap_or((b"", path));
    let mut text = String::with_capacity(path.len() + 16);
    normal.iter().for_each(|octet| text.push(char::from(*octet)));
    write_normalised(rest, &mut text);
    Cow::Owned(text)
}

/// Returns a normalised path with its encoded slashes decoded, normalised again; `None` if it has none.
pub(crate) fn decode_slashes(normalised: &str) -> Option<String> {
    let escape = memchr::memchr(b'%', normalised.as_bytes())?;
    if !normalised.get(escape..)?.contains("%2F") {
        return None;
    }
    let decoded = normalised.replace("%2F", "/");
    Some(normalise(decoded.as_bytes()).into_owned())
}

/// Returns the rest of the path after its longest normalised prefix.
fn skip_normalised(path: &[u8]) -> &[u8] {
    let mut rest = path;
    let mut after_slash = false;
    loop {
        (rest, after_slash) = match rest {
            [b'/', after @ ..] if !after_slash => (after, true),
            [b'%', high, low, after @ ..] if is_normalised_escape(*high, *low) => (after, false),
            [b'%' | b'/', ..] | [] => return rest,
            [octet, ..] if class_bits(*octet) & HIGH != 0 => return rest,
            [_, after @ ..] => (after, false),
        };
    }
}

fn is_normalised_escape(high: u8, low: u8) -> bool {
    let upper = !high.is_ascii_lowercase() && !low.is_ascii_lowercase();
    upper && decode_hex_pair(high, low).is_some_and(|octet| class_bits(octet) & UNRESERVED == 0)
}

fn write_normalised(path: &[u8], text: &mut String) {
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return,
            [b'/', after @ ..] => {
                if !text.ends_with('/') {
                    text.push('/');
                }
                after
            }
            [b'%', high, low, after @ ..] if decode_hex_pair(*high, *low).is_some() => {
                let octet = decode_hex_pair(*high, *low).unwrap_or_default();
                if class_bits(octet) & UNRESERVED != 0 {
                    text.push(char::from(octet));
                } else {
                    percent_encode(octet, text);
                }
                after
            }
            [octet, after @ ..] => {
                if *octet == b'%' || class_bits(*octet) & HIGH != 0 {
                    percent_encode(*octet, text);
                } else {
                    text.push(char::from(*octet));
                }
                after
            }
        };
    }
}

fn percent_encode(octet: u8, text: &mut String) {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0').to_ascii_uppercase();
    text.extend(['%', digit(octet >> 4), digit(octet & 0xf)]);
}

#[cfg(test)]
#[path = "path_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
