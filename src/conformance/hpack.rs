//! HPACK (RFC 7541): a simple encoder and a strict decoder.
//!
//! The encoder writes literals without indexing, so that a header list may contain any bytes. The decoder supports the
//! static table and Huffman coding, but no dynamic table: the clients here set SETTINGS_HEADER_TABLE_SIZE to 0.

/// The header block of these fields.
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    fields.iter().for_each(|(name, value)| encode_field(&mut block, name.as_bytes(), value.as_bytes()));
    block
}

/// Appends a literal field without indexing, with a literal name (RFC 7541 6.2.2).
pub(crate) fn encode_field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    encode_string(block, name);
    encode_string(block, value);
}

/// Appends a string literal without Huffman coding (RFC 7541 5.2).
pub(crate) fn encode_string(block: &mut Vec<u8>, octets: &[u8]) {
    encode_integer(block, 0, 7, octets.len());
    block.extend_from_slice(octets);
}

/// Appends an integer with a prefix of `bits` bits; `pattern` is the rest of the first byte (RFC 7541 5.1).
pub(crate) fn encode_integer(block: &mut Vec<u8>, pattern: u8, bits: u32, mut number: usize) {
    let max_prefix = (1_usize << bits) - 1;
    block.push(pattern | number.min(max_prefix) as u8);
    if number < max_prefix {
        return;
    }
    number -= max_prefix;
    while number >= 0x80 {
        block.push(number as u8 | 0x80);
        number /= 0x80;
    }
    block.push(number as u8);
}

/// Decoded fields in order, as (name, value).
pub type DecodedHeaders = Vec<(String, String)>;

/// Decodes a header block.
///
/// # Errors
/// The block is malformed, or uses the dynamic table.
pub fn decode(mut block: &[u8]) -> Result<DecodedHeaders, &'static str> {
    let mut fields = DecodedHeaders::new();
    while let Some(first) = block.first().copied() {
        let (name, value) = match first {
            0x80.. => static_entry(take_integer(&mut block, 7)?)?,
            0x20..0x40 => {
                if take_integer(&mut block, 5)? != 0 || !fields.is_empty() {
                    return Err("HPACK dynamic table above the limit of 0");
                }
                continue;
            }
            _ => {
                let bits = if first >= 0x40 { 6 } else { 4 };
                let index = take_integer(&mut block, bits)?;
                let name = if index == 0 { take_string(&mut block)? } else { static_entry(index)?.0 };
                (name, take_string(&mut block)?)
            }
        };
        fields.push((name, value));
    }
    Ok(fields)
}

fn static_entry(index: usize) -> Result<(String, String), &'static str> {
    let entry = index.checked_sub(1).and_then(|index| STATIC_TABLE.get(index));
    let (name, value) = entry.ok_or("HPACK index outside the static table")?;
    Ok(((*name).to_owned(), (*value).to_owned()))
}

fn take_octet(block: &mut &[u8]) -> Result<u8, &'static str> {
    let (first, rest) = block.split_first().ok_or("truncated header block")?;
    *block = rest;
    Ok(*first)
}

fn take_integer(block: &mut &[u8], bits: u32) -> Result<usize, &'static str> {
    let max_prefix = (1_usize << bits) - 1;
    let mut number = usize::from(take_octet(block)?) & max_prefix;
    if number < max_prefix {
        return Ok(number);
    }
    for shift in [0, 7, 14] {
        let octet = take_octet(block)?;
        number += usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err("HPACK integer too large")
}

fn take_string(block: &mut &[u8]) -> Result<String, &'static str> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = take_integer(block, 7)?;
    let (octets, rest) = block.split_at_checked(length).ok_or("truncated header block")?;
    *block = rest;
    let octets = if is_huffman { huffman_decode(octets)? } else { octets.to_vec() };
    String::from_utf8(octets).map_err(|_| "header field is not UTF-8")
}

/// The Huffman code of HPACK is canonical: the codes follow from their lengths.
fn huffman_decode(coded: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut order: Vec<(u8, u8)> = HUFFMAN_CODE_LENGTHS.iter().copied().zip(0..=u8::MAX).collect();
    order.sort_unstable();
    let mut text = Vec::new();
    let (mut code, mut length) = (0_u32, 0_u8);
    for bit in coded.iter().flat_map(|octet| (0..8).rev().map(move |at| u32::from(octet >> at & 1))) {
        (code, length) = (code << 1 | bit, length + 1);
        if length > 30 {
            return Err("invalid Huffman code");
        }
        if let Some(octet) = huffman_symbol(&order, code, length) {
            text.push(octet);
            (code, length) = (0, 0);
        }
    }
    let padding = length < 8 && code == (1 << length) - 1;
    padding.then_some(text).ok_or("invalid Huffman padding")
}

fn huffman_symbol(order: &[(u8, u8)], target_code: u32, length: u8) -> Option<u8> {
    let (mut code, mut previous_length) = (0_u32, order.first()?.0);
    for (code_length, octet) in order {
        if *code_length > length {
            return None;
        }
        code <<= code_length - previous_length;
        previous_length = *code_length;
        if *code_length == length && code == target_code {
            return Some(*octet);
        }
        code += 1;
    }
    None
}

/// The number of bits in the code of each byte (RFC 7541, appendix B).
#[rustfmt::skip]
const HUFFMAN_CODE_LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            hex.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
        digits.chunks(2).map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect()
    }

    fn fields(expected: &[(&str, &str)]) -> DecodedHeaders {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// RFC 7541, appendix C.6.1, where the fields that enter the dynamic table are never referenced.
    #[test]
    fn decoder_reads_the_example_of_rfc_7541() {
        let block = octets(
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        );
        let expected = fields(&[
            (":status", "302"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("location", "https://www.example.com"),
        ]);
        assert_eq!(decode(&block), Ok(expected));
    }

    #[test]
    fn header_list_round_trips() {
        let long = "x".repeat(70_000);
        let list = [(":path", "/"), ("a", "2"), ("b", &*long)];
        assert_eq!(decode(&encode(&list)), Ok(fields(&list)));
    }

    #[test]
    fn decoder_reports_malformed_header_blocks() {
        for (block, expected) in [
            ("be", "HPACK index outside the static table"),
            ("80", "HPACK index outside the static table"),
            ("3fe11f", "HPACK dynamic table above the limit of 0"),
            ("0003", "truncated header block"),
            ("ffffffffff", "HPACK integer too large"),
            // Padding is at most 7 bits.
            ("0081ff00", "invalid Huffman padding"),
            ("0001ff00", "header field is not UTF-8"),
        ] {
            assert_eq!(decode(&octets(block)), Err(expected), "{block}");
        }
    }
}
