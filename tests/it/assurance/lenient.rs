//! Two readers that forgive what servers are known to forgive, each in its own way.
//!
//! Bare LF ends a line, blanks stand anywhere around a colon, lines are folded, names with underscores are those with
//! hyphens, a number ends where its digits do, and Transfer-Encoding is not looked at where there is a Content-Length.
//! They differ in which of several lengths they take. Whatever they and the strict reader see alike, nobody will see
//! otherwise; a reader that does not know chunks at all is none of HTTP/1.1 and is not among them.

/// Which of several values counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    First,
    Last,
}

/// What such a reader sees of a request: method, target, body.
pub type Seen = (String, String, Vec<u8>);

/// Every request in these bytes, and what is left of them.
pub fn read_all(bytes: &[u8], takes: Takes) -> (Vec<Seen>, &[u8]) {
    let mut requests = Vec::new();
    let mut rest = bytes;
    while let Some((seen, used)) = one(rest, takes) {
        requests.push(seen);
        rest = &rest[used..];
    }
    (requests, rest)
}

fn one(bytes: &[u8], takes: Takes) -> Option<(Seen, usize)> {
    let (lines, begin) = head(bytes)?;
    let mut words = lines[0].split_ascii_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let fields: Vec<(String, &str)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase().replace('_', "-"), value.trim()))
        .collect();
    let mut lengths =
        fields.iter().filter(|(name, _)| name == "content-length").flat_map(|(_, value)| value.split(','));
    let length = match takes {
        Takes::First => lengths.next(),
        Takes::Last => lengths.next_back(),
    };
    let body = &bytes[begin..];
    if let Some(length) = length {
        let digits: String =
            length.trim().trim_start_matches('+').chars().take_while(char::is_ascii_digit).collect();
        let length: usize = digits.parse().unwrap_or(0);
        let whole = body.get(..length)?;
        return Some(((method, target, whole.to_vec()), begin + length));
    }
    let chunked = fields
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.to_ascii_lowercase().contains("chunked"));
    if !chunked {
        return Some(((method, target, Vec::new()), begin));
    }
    let (body, used) = chunks(body)?;
    Some(((method, target, body), begin + used))
}

/// The lines of a head, folded ones joined, and where it ends.
fn head(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut lines: Vec<String> = Vec::new();
    let mut at = 0;
    loop {
        let (line, next) = line(bytes, at)?;
        at = next;
        match line {
            line if line.is_empty() && lines.is_empty() => {}
            line if line.is_empty() => return Some((lines, at)),
            line if line.starts_with([' ', '\t']) && lines.len() > 1 => {
                if let Some(last) = lines.last_mut() {
                    last.push_str(&line);
                }
            }
            line => lines.push(line),
        }
    }
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (size, next) = line(bytes, at)?;
        let digits: String = size.trim().chars().take_while(char::is_ascii_hexdigit).collect();
        let size = usize::from_str_radix(&digits, 16).unwrap_or(0);
        at = next;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at = line(bytes, at + size)?.1;
    }
    loop {
        let (trailer, next) = line(bytes, at)?;
        at = next;
        if trailer.is_empty() {
            return Some((body, at));
        }
    }
}

/// The line from `at`, without its end, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let line: String = rest[..end].iter().map(|byte| char::from(*byte)).collect();
    Some((line.trim_end_matches('\r').to_owned(), at + end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_disagree_about_what_a_strict_reader_refuses() {
        let bytes = b"POST / HTTP/1.1\ncontent_length : 1\r\nContent-Length: 4\r\n\r\nabcdGET /";
        let (first, _) = read_all(bytes, Takes::First);
        let (last, rest) = read_all(bytes, Takes::Last);
        assert_eq!((first[0].2.as_slice(), last[0].2.as_slice()), (&b"a"[..], &b"abcd"[..]));
        assert_eq!(rest, b"GET /");
    }

    #[test]
    fn they_read_chunks_where_nothing_else_is_said() {
        let bytes =
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3 ;x\nabc\r\n0\r\n\r\nGET /x HTTP/1.1\n\n";
        for takes in [Takes::First, Takes::Last] {
            let (seen, rest) = read_all(bytes, takes);
            assert_eq!((seen[0].2.as_slice(), seen[1].1.as_str(), rest.len()), (&b"abc"[..], "/x", 0));
        }
    }
}
