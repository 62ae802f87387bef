//! Two lenient request parsers with known leniencies of real servers, each in its own combination.
//!
//! A bare LF ends a line, whitespace is allowed anywhere around a colon, folded lines are joined, `_` equals `-` in
//! field names, a number ends at the first non-digit, and Transfer-Encoding is ignored if Content-Length exists. The
//! two differ in which of several lengths they use. A request that both and the strict reader parse alike is
//! unambiguous in practice. A parser without support for chunks is not HTTP/1.1 and is not considered.

/// Which of several values is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DuplicatePolicy {
    First,
    Last,
}

/// A request as such a parser sees it: method, target, body.
pub type LenientRequest = (String, String, Vec<u8>);

/// All requests in these bytes, and the remaining bytes.
pub fn read_all(bytes: &[u8], duplicates: DuplicatePolicy) -> (Vec<LenientRequest>, &[u8]) {
    let mut requests = Vec::new();
    let mut rest = bytes;
    while let Some((found_requests, used)) = read_one(rest, duplicates) {
        requests.push(found_requests);
        rest = &rest[used..];
    }
    (requests, rest)
}

fn read_one(bytes: &[u8], duplicates: DuplicatePolicy) -> Option<(LenientRequest, usize)> {
    let (lines, begin) = read_head(bytes)?;
    let mut words = lines[0].split_ascii_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields: Vec<(String, &str)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase().replace('_', "-"), value.trim()))
        .collect();
    let mut lengths =
        fields.iter().filter(|(name, _)| name == "content-length").flat_map(|(_, value)| value.split(','));
    let length = match duplicates {
        DuplicatePolicy::First => lengths.next(),
        DuplicatePolicy::Last => lengths.next_back(),
    };
    let body = &bytes[begin..];
    if let Some(length) = length {
        let digits: String =
            length.trim().trim_start_matches('+').chars().take_while(char::is_ascii_digit).collect();
        let length: usize = digits.parse().unwrap_or(0);
        let complete_body = body.get(..length)?;
        return Some(((method, target, complete_body.to_vec()), begin + length));
    }
    let chunked = fields
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.to_ascii_lowercase().contains("chunked"));
    if !chunked {
        return Some(((method, target, Vec::new()), begin));
    }
    let (body, used) = read_chunks(body)?;
    Some(((method, target, body), begin + used))
}

/// The lines of a header section, unfolded, and its length.
fn read_head(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut lines: Vec<String> = Vec::new();
    let mut offset = 0;
    loop {
        let (line, next) = read_line(bytes, offset)?;
        offset = next;
        match line {
            line if line.is_empty() && lines.is_empty() => {}
            line if line.is_empty() => return Some((lines, offset)),
            line if line.starts_with([' ', '\t']) && lines.len() > 1 => {
                if let Some(last) = lines.last_mut() {
                    last.push_str(&line);
                }
            }
            line => lines.push(line),
        }
    }
}

fn read_chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut offset = 0;
    loop {
        let (size, next) = read_line(bytes, offset)?;
        let digits: String = size.trim().chars().take_while(char::is_ascii_hexdigit).collect();
        let size = usize::from_str_radix(&digits, 16).unwrap_or(0);
        offset = next;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(offset..offset.checked_add(size)?)?);
        offset = read_line(bytes, offset + size)?.1;
    }
    loop {
        let (trailer, next) = read_line(bytes, offset)?;
        offset = next;
        if trailer.is_empty() {
            return Some((body, offset));
        }
    }
}

/// The line at `offset` without its line break, and the offset of the next line.
fn read_line(bytes: &[u8], offset: usize) -> Option<(String, usize)> {
    let rest = bytes.get(offset..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line: String = rest[..end].iter().map(|byte| char::from(*byte)).collect();
    Some((line.trim_end_matches('\r').to_owned(), offset + end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenient_readers_disagree_on_what_the_strict_reader_rejects() {
        let bytes = b"POST / HTTP/1.1\ncontent_length : 1\r\nContent-Length: 4\r\n\r\nabcdGET /";
        let (first, _) = read_all(bytes, DuplicatePolicy::First);
        let (last, rest) = read_all(bytes, DuplicatePolicy::Last);
        assert_eq!((first[0].2.as_slice(), last[0].2.as_slice()), (&b"a"[..], &b"abcd"[..]));
        assert_eq!(rest, b"GET /");
    }

    #[test]
    fn lenient_readers_read_chunked_bodies() {
        let bytes =
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3 ;x\nabc\r\n0\r\n\r\nGET /x HTTP/1.1\n\n";
        for duplicates in [DuplicatePolicy::First, DuplicatePolicy::Last] {
            let (found_requests, rest) = read_all(bytes, duplicates);
            assert_eq!(
                (found_requests[0].2.as_slice(), found_requests[1].1.as_str(), rest.len()),
                (&b"abc"[..], "/x", 0)
            );
        }
    }
}
