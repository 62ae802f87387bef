//! A strict request parser: it stands for every upstream behind the gateway, and for the intent of a client.
//!
//! It implements RFC 9112 as required of senders, independently of the gateway. Clients may use more of the grammar
//! (HTTP/1.0, absolute-form, chunk extensions, trailers) than a gateway should send.

/// Sender of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageSource {
    Client,
    Gateway,
}

/// Body framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedFraming {
    None,
    Length(usize),
    Chunked,
}

/// A request without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRequest {
    pub method: String,
    pub target: String,
    pub http10: bool,
    /// Field names are lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    pub framing: ParsedFraming,
    /// A client's request is not valid, but ends where its framing says. The gateway must refuse it.
    pub problem: Option<&'static str>,
}

/// Result of parsing the start of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// An incomplete header section.
    Incomplete,
    /// A header section with an incomplete body.
    IncompleteBody(ParsedRequest),
    /// A complete request, its body and its length in bytes.
    Complete(ParsedRequest, Vec<u8>, usize),
    /// Not a request.
    Malformed(&'static str),
    /// A header section with a body that violates its framing.
    MalformedBody(ParsedRequest, &'static str),
}

impl ParsedRequest {
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &value[..])
    }
}

/// Parses one request.
pub fn read(bytes: &[u8], source: MessageSource) -> ReadResult {
    // RFC 9112 2.2: clients may send empty lines before a request. CR and LF have no other meaning there.
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let skip = if source == MessageSource::Client { blank } else { 0 };
    let Some(end) = find_bytes(&bytes[skip..], b"\r\n\r\n") else { return ReadResult::Incomplete };
    let head = match parse_head(&bytes[skip..skip + end], source) {
        Ok(head) => head,
        Err(problem) => return ReadResult::Malformed(problem),
    };
    let begin = skip + end + 4;
    let body = &bytes[begin..];
    match head.framing {
        ParsedFraming::None => ReadResult::Complete(head, Vec::new(), begin),
        ParsedFraming::Length(length) if body.len() < length => ReadResult::IncompleteBody(head),
        ParsedFraming::Length(length) => ReadResult::Complete(head, body[..length].to_vec(), begin + length),
        ParsedFraming::Chunked => match parse_chunks(body, source) {
            Ok(Some((body, used))) => ReadResult::Complete(head, body, begin + used),
            Ok(None) => ReadResult::IncompleteBody(head),
            Err(problem) => ReadResult::MalformedBody(head, problem),
        },
    }
}

fn parse_head(head: &[u8], source: MessageSource) -> Result<ParsedRequest, &'static str> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(offset) = find_bytes(rest, b"\r\n") {
        lines.push(&rest[..offset]);
        rest = &rest[offset + 2..];
    }
    lines.push(rest);
    if lines.iter().any(|line| line.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)) {
        return Err("a control character, bare CR or bare LF in the header section");
    }
    let (method, target, http10) = parse_request_line(lines[0], source)?;
    let mut problem = target_problem(&method, &target, source);
    let fields = lines[1..].iter().map(|line| field(line)).collect::<Result<Vec<_>, _>>()?;
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(found, _)| found == name).map(|(_, value)| &value[..]).collect()
    };
    for (name, _) in &fields {
        if name.contains('_') && ["content-length", "transfer-encoding"].contains(&&*name.replace('_', "-")) {
            return Err("framing field with an underscore");
        }
        if source == MessageSource::Gateway && HOP_BY_HOP.contains(&name.as_str()) {
            return Err("connection-specific field was forwarded");
        }
    }
    match values("host")[..] {
        [] if http10 => {}
        [host] if !host.iter().any(|byte| b" ,@/\t".contains(byte)) => {}
        [_] => problem = problem.or(Some("malformed Host")),
        _ => problem = problem.or(Some("not exactly one Host")),
    }
    if let (MessageSource::Gateway, Some(problem)) = (source, problem) {
        return Err(problem);
    }
    let framing = parse_framing(&values("content-length"), &values("transfer-encoding"), http10)?;
    Ok(ParsedRequest { method, target, http10, headers: fields, framing, problem })
}

fn parse_request_line(line: &[u8], source: MessageSource) -> Result<(String, String, bool), &'static str> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else {
        return Err("request line is not three words separated by single spaces");
    };
    if method.is_empty() || !method.iter().copied().all(token) {
        return Err("method is not a token");
    }
    let http10 = match version {
        b"HTTP/1.1" => false,
        // RFC 9110 2.5: read as the highest minor version that the receiver knows.
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] if source == MessageSource::Client => false,
        b"HTTP/1.0" if source == MessageSource::Client => true,
        _ => return Err("a version that is not HTTP/1.1"),
    };
    if target.is_empty() || target.contains(&b'\t') {
        return Err("target is empty or contains a tab");
    }
    Ok((text(method), text(target), http10))
}

fn target_problem(method: &str, target: &str, source: MessageSource) -> Option<&'static str> {
    let target = target.as_bytes();
    let absolute =
        |scheme: &str| target.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme.as_bytes()));
    let target_is_good = target.starts_with(b"/")
        || (target == b"*" && method == "OPTIONS")
        || (source == MessageSource::Client && (absolute("http://") || absolute("https://")));
    (!target_is_good || target.contains(&b'#')).then_some("target is neither a path nor an http URI")
}

fn field(line: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or("header field without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(token) {
        return Err("field name is not a token");
    }
    Ok((text(name).to_ascii_lowercase(), value.trim_ascii().to_vec()))
}

fn parse_framing(lengths: &[&[u8]], codings: &[&[u8]], http10: bool) -> Result<ParsedFraming, &'static str> {
    match (lengths, codings) {
        ([], []) => Ok(ParsedFraming::None),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            text(length).parse().map(ParsedFraming::Length).map_err(|_| "a Content-Length without bounds")
        }
        ([_], []) => Err("Content-Length is not digits"),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !http10 => Ok(ParsedFraming::Chunked),
        ([], [_]) => Err("a Transfer-Encoding other than chunked, or on HTTP/1.0"),
        ([], _) => Err("more than one Transfer-Encoding"),
        (_, []) => Err("more than one Content-Length"),
        (_, _) => Err("both Content-Length and Transfer-Encoding"),
    }
}

type DecodedChunks = Option<(Vec<u8>, usize)>;

fn parse_chunks(bytes: &[u8], source: MessageSource) -> Result<DecodedChunks, &'static str> {
    let mut body = Vec::new();
    let mut offset = 0;
    loop {
        let Some(line) = parse_line(&bytes[offset..])? else { return Ok(None) };
        offset += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let zeros = line.iter().take_while(|byte| **byte == b'0').count();
        let rest = &line[digits..];
        if digits == 0 || digits - zeros > 15 || (source == MessageSource::Gateway && digits > 15) {
            return Err("chunk size is not plain hexadecimal");
        }
        // RFC 9112 7.1.1: white space is allowed before the semicolon, and nowhere else without one.
        let extension: Vec<u8> =
            rest.iter().copied().skip_while(|byte| matches!(byte, b' ' | b'\t')).collect();
        if !rest.is_empty() && (source == MessageSource::Gateway || extension.first() != Some(&b';')) {
            return Err("bytes after a chunk size");
        }
        let size = usize::from_str_radix(&text(&line[..digits]), 16).map_err(|_| "a chunk without bounds")?;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes.get(offset..offset.saturating_add(size)) else { return Ok(None) };
        body.extend_from_slice(chunk);
        offset += size;
        match bytes.get(offset..offset + 2) {
            Some(b"\r\n") => offset += 2,
            Some(_) => return Err("chunk longer than its size"),
            None if matches!(bytes.get(offset), None | Some(b'\r')) => return Ok(None),
            None => return Err("chunk longer than its size"),
        }
    }
    loop {
        let Some(line) = parse_line(&bytes[offset..])? else { return Ok(None) };
        offset += line.len() + 2;
        if line.is_empty() {
            return Ok(Some((body, offset)));
        }
        if source == MessageSource::Gateway {
            return Err("trailers");
        }
        field(line)?;
    }
}

/// A line without its CRLF; `None` while it is incomplete.
fn parse_line(bytes: &[u8]) -> Result<Option<&[u8]>, &'static str> {
    let end = bytes.iter().position(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f);
    match end.map(|offset| (offset, bytes[offset], bytes.get(offset + 1))) {
        None | Some((_, b'\r', None)) => Ok(None),
        Some((offset, b'\r', Some(b'\n'))) => Ok(Some(&bytes[..offset])),
        Some(_) => Err("a control character, bare CR or bare LF in the chunk framing"),
    }
}

fn token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn find_bytes(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Connection-specific fields.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "http2-settings",
    "proxy-authorization",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn is_complete(bytes: &str, source: MessageSource) -> bool {
        matches!(read(bytes.as_bytes(), source), ReadResult::Complete(_, _, used) if used == bytes.len())
    }

    #[test]
    fn complete_requests_are_parsed_completely() {
        for bytes in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        ] {
            assert!(
                is_complete(bytes, MessageSource::Gateway) && is_complete(bytes, MessageSource::Client),
                "{bytes:?}"
            );
            for end in 0..bytes.len() {
                let read = read(&bytes.as_bytes()[..end], MessageSource::Gateway);
                assert!(
                    matches!(read, ReadResult::Incomplete | ReadResult::IncompleteBody(_)),
                    "{:?}: {read:?}",
                    &bytes[..end]
                );
            }
        }
    }

    #[test]
    fn client_only_syntax_is_rejected_from_a_gateway() {
        for bytes in [
            "GET / HTTP/1.0\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3 ; x = y\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n00000000000000000\r\n\r\n",
            "GET / HTTP/1.3\r\nhost: a\r\n\r\n",
            "\n\r\n\r\rGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            assert!(is_complete(bytes, MessageSource::Client), "{bytes:?}");
            let read = read(bytes.as_bytes(), MessageSource::Gateway);
            assert!(
                matches!(read, ReadResult::Malformed(_) | ReadResult::MalformedBody(..)),
                "{bytes:?}: {read:?}"
            );
        }
    }

    #[test]
    fn ambiguous_requests_are_rejected_from_any_sender() {
        for fields in [
            "host: a\r\nhost: a",
            "host: a\r\ncontent-length: 1\r\ncontent-length: 1",
            "host: a\r\ncontent-length: 1, 1",
            "host: a\r\ncontent-length: +1",
            "host: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
            "host: a\r\ntransfer-encoding: chunked, chunked",
            "host: a\r\ntransfer-encoding: identity",
            "host: a\r\ntransfer_encoding: chunked",
            "host: a\r\na: b\r\n c",
            "host: a\r\na : b",
            "host: a\r\na: b\nc: d",
        ] {
            let bytes = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\nx");
            let read = read(bytes.as_bytes(), MessageSource::Client);
            let is_rejected = match &read {
                ReadResult::Malformed(_) => true,
                ReadResult::Complete(head, ..) => head.problem.is_some(),
                ReadResult::Incomplete | ReadResult::IncompleteBody(_) | ReadResult::MalformedBody(..) => {
                    false
                }
            };
            assert!(is_rejected, "{fields:?}: {read:?}");
        }
    }
}
