//! Character classes of HTTP: a table of 256 entries, and searches that use it.
//!
//! Classes: token (RFC 9110 5.6.2), field value (RFC 9110 5.5), path and query (RFC 3986, plus the characters that real
//! clients do not encode: browsers some of a path, and command-line tools and HTTP libraries almost all of a query).

/// Not allowed in a path.
pub(crate) const NOT_PATH: u16 = 1;
/// Not allowed in a query.
pub(crate) const NOT_QUERY: u16 = 1 << 1;
/// `%`.
pub(crate) const PERCENT: u16 = 1 << 2;
/// `.`.
pub(crate) const DOT: u16 = 1 << 3;
/// `\`.
pub(crate) const BACKSLASH: u16 = 1 << 4;
/// 0x80 to 0xFF.
pub(crate) const HIGH: u16 = 1 << 5;
/// Not allowed in the URI type of the HTTP/2 library, although allowed in a query here.
pub(crate) const NOT_H2_QUERY: u16 = 1 << 9;
/// Allowed in a token.
pub(crate) const TOKEN: u16 = 1 << 6;
/// Unreserved (RFC 3986 2.3): equivalent to its percent-encoding.
pub(crate) const UNRESERVED: u16 = 1 << 7;
/// Not allowed in a host name (stricter than RFC 3986, see [`super::authority`]).
pub(crate) const NOT_HOST: u16 = 1 << 8;

static CLASS_TABLE: [u16; 256] = build_class_table();

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated at compile time: an out-of-range index does not compile"
)]
const fn build_class_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        table[octet] = compute_class(octet as u8);
        octet += 1;
    }
    table
}

const fn compute_class(octet: u8) -> u16 {
    let mut class = 0;
    // Browsers encode the backtick in a path but not in a query; the HTTP/2 library rejects it in a path.
    if matches!(octet, 0..=b' ' | 0x7f | b'"' | b'#' | b'<' | b'>' | b'`' | b'?') {
        class |= NOT_PATH;
    }
    // RFC 3986 requires more to be encoded, but real clients do not, and no octet of this set ends a query for anyone.
    if matches!(octet, 0..=b' ' | 0x7f | b'#') {
        class |= NOT_QUERY;
    }
    if matches!(octet, b'"' | b'<' | b'>') {
        class |= NOT_H2_QUERY;
    }
    match octet {
        b'%' => class |= PERCENT,
        b'.' => class |= DOT,
        b'\\' => class |= BACKSLASH,
        0x80..=0xff => class |= HIGH,
        _ => {}
    }
    if octet.is_ascii_alphanumeric()
        || matches!(octet, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(octet, b'^' | b'_' | b'`' | b'|' | b'~')
    {
        class |= TOKEN;
    }
    if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~') {
        class |= UNRESERVED;
    } else if !matches!(octet, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=') {
        class |= NOT_HOST;
    }
    class
}

/// The class bits of one octet.
pub(crate) fn class_bits(octet: u8) -> u16 {
    // Never out of range; the compiler removes the check.
    CLASS_TABLE.get(usize::from(octet)).copied().unwrap_or(0)
}

/// The union of the class bits of these octets.
pub(crate) fn class_bits_in(octets: &[u8]) -> u16 {
    octets.iter().fold(0, |seen, octet| seen | class_bits(*octet))
}

/// The number of leading token characters. Checks 4 octets at a time, because it runs on every field name.
pub(crate) fn token_len(octets: &[u8]) -> usize {
    let (groups, _) = octets.as_chunks::<4>();
    let all_token = |[a, b, c, d]: &[u8; 4]| {
        class_bits(*a) & class_bits(*b) & class_bits(*c) & class_bits(*d) & TOKEN != 0
    };
    let passed = 4 * groups.iter().take_while(|group| all_token(group)).count();
    let rest = octets.get(passed..).unwrap_or_default();
    passed + rest.iter().position(|octet| class_bits(*octet) & TOKEN == 0).unwrap_or(rest.len())
}

/// Whether `octets` is a token (RFC 9110 5.6.2).
pub(crate) fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && token_len(octets) == octets.len()
}

/// Whether the octet is HTAB, space, visible ASCII, or 0x80 to 0xFF.
const fn is_field_byte(octet: u8) -> bool {
    octet == b'\t' || (octet >= b' ' && octet != 0x7f)
}

/// Whether these octets are all allowed in a field value.
pub(crate) fn is_field_text(octets: &[u8]) -> bool {
    field_text_len(octets) == octets.len()
}

/// The number of leading octets that are allowed in a field value. Checks 8 octets at a time, because it runs on every
/// octet of every header section.
pub(crate) fn field_text_len(octets: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = 0x8080_8080_8080_8080;
    let (words, tail) = octets.as_chunks::<8>();
    let mut passed = 0;
    for word in words {
        let value = u64::from_le_bytes(*word);
        let control = value.wrapping_sub(LOW * 0x20) & !value;
        let delete = (value ^ (LOW * 0x7f)).wrapping_sub(LOW) & !(value ^ (LOW * 0x7f));
        // A hit may be HTAB, or caused by a borrow from a lower hit, so check the octet itself.
        let mut hits = (control | delete) & TOP;
        while hits != 0 {
            let at = hits.trailing_zeros() as usize / 8;
            if !word.get(at).is_some_and(|octet| is_field_byte(*octet)) {
                return passed + at;
            }
            hits &= hits - 1;
        }
        passed += 8;
    }
    tail.iter().position(|octet| !is_field_byte(*octet)).map_or(octets.len(), |at| passed + at)
}

/// Returns the lengths of the name and the untrimmed value of the field line at the start of `octets`. The complete
/// line is 3 octets longer (colon and CRLF). `None` if the line is malformed or incomplete.
pub(crate) fn field_line_lengths(octets: &[u8]) -> Option<(usize, usize)> {
    let name_len = token_len(octets);
    let [b':', text @ ..] = octets.get(name_len..)? else { return None };
    let text_len = field_text_len(text);
    let ends = text.get(text_len..)?.starts_with(b"\r\n");
    (ends && name_len > 0).then_some((name_len, text_len))
}

/// Removes leading and trailing spaces and tabs (OWS, RFC 9110 5.6.3).
pub(crate) fn trim_ows(octets: &[u8]) -> &[u8] {
    let mut rest = octets;
    while let [b' ' | b'\t', inner @ ..] | [inner @ .., b' ' | b'\t'] = rest {
        rest = inner;
    }
    rest
}

/// The non-empty elements of a comma-separated list.
pub(crate) fn list_elements(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|octet| *octet == b',').map(trim_ows).filter(|element| !element.is_empty())
}

/// Decodes the 2 digits of a percent-encoding.
pub(crate) fn decode_hex_pair(high: u8, low: u8) -> Option<u8> {
    Some(hex_value(high)? << 4 | hex_value(low)?)
}

fn hex_value(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        b'A'..=b'F' => Some(octet - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn field_text_ends_at_the_first_control_byte() {
        for octet in 0..=255_u8 {
            for at in 0..40 {
                for filler in [b'a', b'\t', 0xff, b' '] {
                    let mut bytes = [filler; 40];
                    bytes[at] = octet;
                    let expected = if is_field_byte(octet) { 40 } else { at };
                    assert_eq!(field_text_len(&bytes), expected, "{octet:#x} at {at} among {filler:#x}");
                }
            }
        }
    }

    #[test]
    fn token_characters_match_rfc_9110() {
        for octet in 0..=255_u8 {
            let delimiter = b"\"(),/:;<=>?@[\\]{}".contains(&octet);
            assert_eq!(is_token(&[octet]), octet.is_ascii_graphic() && !delimiter, "{octet:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn list_skips_empty_elements_and_whitespace() {
        assert_eq!(list_elements(b" a ,,\tb\t, ").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(list_elements(b"").count(), 0);
    }

    #[test]
    fn trim_removes_only_spaces_and_tabs() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b"\x0b"), b"\x0b");
        assert_eq!(trim_ows(b"  "), b"");
    }
}
