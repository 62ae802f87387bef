//! The strict response parser: it reads byte for byte and rejects every violation.
//!
//! It implements the HTTP/1 grammar and framing of RFC 9112 as required of senders, independently of the gateway.
//! [`super::contract_check`] checks the content of errors. A response that only a lenient client would parse is a
//! defect here.

use std::io::{ErrorKind, Read};

/// A parsed response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    pub reason: String,
    /// In order; field names are lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub framing: MessageFraming,
    pub end: ResponseEnd,
    /// 1xx responses before it.
    pub interim: Vec<(u16, Vec<(String, String)>)>,
    /// Whether another request may follow on this connection, by the header fields and the framing.
    pub connection_usable: bool,
}

/// Framing of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageFraming {
    /// Bodyless by definition: HEAD, 204, 304, 101.
    Bodyless,
    Length(usize),
    Chunked,
    /// Ends with the connection.
    CloseDelimited,
    /// HTTP/2 frames.
    Http2,
}

/// How a response that had begun ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseEnd {
    Complete,
    /// The connection ended after `after` bytes of an incomplete body.
    Truncated {
        after: usize,
    },
    /// The connection was reset.
    Reset {
        after: usize,
    },
    /// No further byte until the deadline.
    TimedOut {
        after: usize,
    },
}

/// Why no response was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoResponse {
    /// The connection ended without a byte.
    Closed,
    Reset,
    /// No byte until the deadline.
    TimedOut,
    /// The connection ended inside the header section.
    Truncated(String),
    /// The bytes violate the grammar.
    Malformed(String),
}

/// The request, which determines the allowed responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentRequest {
    Http11(&'static str),
    Http10(&'static str),
}

impl SentRequest {
    pub fn is_head(self) -> bool {
        matches!(self, SentRequest::Http11("HEAD") | SentRequest::Http10("HEAD"))
    }

    fn is_http10(self) -> bool {
        matches!(self, SentRequest::Http10(_))
    }
}

impl HttpResponse {
    /// The only value of this field; panics on duplicates.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "duplicate field {name}: {self:#?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn has_connection_close(&self) -> bool {
        self.headers
            .iter()
            .any(|(name, value)| name == "connection" && value.to_ascii_lowercase().contains("close"))
    }
}

/// Reads consecutive responses from a stream.
pub struct StrictReader<S> {
    pub stream: S,
    buffer: Vec<u8>,
    /// Allows duplicate and obs-text fields of the upstream, which the gateway forwards unchanged.
    allows_any_headers: bool,
}

/// Why a read returned no data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadStop {
    Eof,
    Reset,
    TimedOut,
}

impl<S: Read> StrictReader<S> {
    pub fn new(stream: S) -> Self {
        StrictReader { stream, buffer: Vec::new(), allows_any_headers: false }
    }

    /// A reader for faulty upstreams: header fields may be repeated and contain obs-text (RFC 9110 5.5). The
    /// framing rules are the same.
    pub fn allowing_any_headers(stream: S) -> Self {
        StrictReader { allows_any_headers: true, ..StrictReader::new(stream) }
    }

    /// Bytes after the last response.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Discards `length` bytes after the last response.
    pub fn discard(&mut self, length: usize) {
        self.buffer.drain(..length);
    }

    /// Reads until these bytes are buffered; panics at the deadline.
    pub fn wait_for(&mut self, bytes: &[u8]) {
        while find_bytes(&self.buffer, bytes).is_none() {
            let buffered = String::from_utf8_lossy(&self.buffer).into_owned();
            assert!(
                self.fill().is_ok(),
                "expected {:?}, received {buffered:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    /// Waits for the end of the connection: `Closed`, `Reset` or `TimedOut`; `Malformed` if bytes arrive.
    pub fn read_end(&mut self) -> NoResponse {
        if self.buffer.is_empty() {
            match self.fill() {
                Ok(()) => {}
                Err(ReadStop::Eof) => return NoResponse::Closed,
                Err(ReadStop::Reset) => return NoResponse::Reset,
                Err(ReadStop::TimedOut) => return NoResponse::TimedOut,
            }
        }
        NoResponse::Malformed(format!("expected the end, got {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    /// Reads one final response and the interim responses before it.
    pub fn read(&mut self, request: SentRequest) -> Result<HttpResponse, NoResponse> {
        let mut interim = Vec::new();
        loop {
            let head = self.read_head()?;
            let (status, reason, fields) = parse_head(&head, self.allows_any_headers)
                .map_err(|problem| malformed_response(problem, &head))?;
            if (100..200).contains(&status) && status != 101 {
                if request.is_http10() {
                    return Err(malformed_response("an interim response to HTTP/1.0", &head));
                }
                if fields.iter().any(|(name, _)| name == "content-length" || name == "transfer-encoding") {
                    return Err(malformed_response("framing on an interim response", &head));
                }
                interim.push((status, fields));
                continue;
            }
            let framing = response_framing(request, status, &fields)
                .map_err(|problem| malformed_response(problem, &head))?;
            let mut response = HttpResponse {
                status,
                reason,
                headers: fields,
                body: Vec::new(),
                framing,
                end: ResponseEnd::Complete,
                interim,
                connection_usable: false,
            };
            response.end = self.read_body(framing, &mut response.body)?;
            response.connection_usable = response.end == ResponseEnd::Complete
                && framing != MessageFraming::CloseDelimited
                && !response.has_connection_close()
                && (!request.is_http10()
                    || response.header("connection").is_some_and(|value| value.contains("keep-alive")));
            return Ok(response);
        }
    }

    /// Reads a header section without its empty line.
    fn read_head(&mut self) -> Result<Vec<u8>, NoResponse> {
        loop {
            if let Some(at) = find_bytes(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer[..at].to_vec();
                self.buffer.drain(..at + 4);
                return Ok(head);
            }
            if let Err(stop) = self.fill() {
                let prefix = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(match stop {
                    _ if !prefix.is_empty() => NoResponse::Truncated(prefix),
                    ReadStop::Eof => NoResponse::Closed,
                    ReadStop::Reset => NoResponse::Reset,
                    ReadStop::TimedOut => NoResponse::TimedOut,
                });
            }
        }
    }

    fn read_body(&mut self, framing: MessageFraming, body: &mut Vec<u8>) -> Result<ResponseEnd, NoResponse> {
        let stop = match framing {
            MessageFraming::Bodyless | MessageFraming::Http2 => return Ok(ResponseEnd::Complete),
            MessageFraming::Length(length) => match self.read_exact(length, body) {
                Ok(()) => return Ok(ResponseEnd::Complete),
                Err(stop) => stop,
            },
            MessageFraming::CloseDelimited => loop {
                body.append(&mut self.buffer);
                match self.fill() {
                    Ok(()) => {}
                    Err(ReadStop::Eof) => return Ok(ResponseEnd::Complete),
                    Err(stop) => break stop,
                }
            },
            MessageFraming::Chunked => match self.read_chunks(body)? {
                None => return Ok(ResponseEnd::Complete),
                Some(stop) => stop,
            },
        };
        let after = body.len();
        Ok(match stop {
            ReadStop::Eof => ResponseEnd::Truncated { after },
            ReadStop::Reset => ResponseEnd::Reset { after },
            ReadStop::TimedOut => ResponseEnd::TimedOut { after },
        })
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<Option<ReadStop>, NoResponse> {
        loop {
            let line = match self.read_line() {
                Ok(line) => line,
                Err(stop) => return Ok(Some(stop)),
            };
            let digits = String::from_utf8_lossy(&line).into_owned();
            let hex = !digits.is_empty()
                && digits.len() < 16
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let Some(size) = hex.then(|| usize::from_str_radix(&digits, 16).unwrap()) else {
                return Err(malformed_response("chunk size is not plain hexadecimal", &line));
            };
            if let Err(stop) = self.read_exact(size, body) {
                return Ok(Some(stop));
            }
            match self.read_line() {
                Ok(end) if end.is_empty() => {}
                Ok(end) if size == 0 => {
                    return Err(malformed_response("unexpected trailers", &end));
                }
                Ok(end) => return Err(malformed_response("chunk longer than its size", &end)),
                Err(stop) => return Ok(Some(stop)),
            }
            if size == 0 {
                return Ok(None);
            }
        }
    }

    fn read_exact(&mut self, length: usize, body: &mut Vec<u8>) -> Result<(), ReadStop> {
        let mut remaining = length;
        while remaining > 0 {
            if self.buffer.is_empty() {
                self.fill()?;
            }
            let size = remaining.min(self.buffer.len());
            body.extend(self.buffer.drain(..size));
            remaining -= size;
        }
        Ok(())
    }

    /// Reads a line without its CRLF.
    fn read_line(&mut self) -> Result<Vec<u8>, ReadStop> {
        loop {
            if let Some(at) = find_bytes(&self.buffer, b"\r\n") {
                let line = self.buffer[..at].to_vec();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ReadStop> {
        let mut chunk = [0; 16 * 1024];
        loop {
            return match self.stream.read(&mut chunk) {
                Ok(0) => Err(ReadStop::Eof),
                Ok(size) => {
                    self.buffer.extend_from_slice(&chunk[..size]);
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Err(ReadStop::TimedOut)
                }
                Err(_) => Err(ReadStop::Reset),
            };
        }
    }
}

type ParsedHead = (u16, String, Vec<(String, String)>);

fn parse_head(head: &[u8], allows_any_headers: bool) -> Result<ParsedHead, &'static str> {
    let latin: String =
        if allows_any_headers { head.iter().map(|byte| char::from(*byte)).collect() } else { String::new() };
    let text = if allows_any_headers {
        &latin
    } else {
        std::str::from_utf8(head).map_err(|_| "a head that is not UTF-8")?
    };
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let rest =
        status_line.strip_prefix("HTTP/1.1 ").ok_or("a status line that does not begin with HTTP/1.1")?;
    let (digits, reason) =
        rest.split_once(' ').ok_or("status line without a space before the reason phrase")?;
    if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("status code is not three digits");
    }
    let obs_text = |c: char| allows_any_headers && c >= '\u{80}';
    if !reason.chars().all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic() || obs_text(c)) {
        return Err("control characters in the reason phrase");
    }
    let fields = lines.map(|line| parse_field(line, allows_any_headers)).collect::<Result<Vec<_>, _>>()?;
    let singles = if allows_any_headers { &ALWAYS_SINGLE_FIELDS[..] } else { &SINGLE_FIELDS[..] };
    for single in singles {
        if fields.iter().filter(|(name, _)| name == *single).count() > 1 {
            return Err("duplicate singleton field");
        }
    }
    Ok((digits.parse().unwrap(), reason.to_owned(), fields))
}

fn parse_field(line: &str, allows_any_headers: bool) -> Result<(String, String), &'static str> {
    if line.starts_with([' ', '\t']) {
        return Err("obsolete line folding");
    }
    let (name, value) = line.split_once(':').ok_or("header field without a colon")?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("field name is not a token");
    }
    if value.chars().any(|c| c.is_control() && c != '\t' && !(allows_any_headers && c >= '\u{80}')) {
        return Err("control characters in a field value");
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

fn response_framing(
    request: SentRequest,
    status: u16,
    fields: &[(String, String)],
) -> Result<MessageFraming, &'static str> {
    let of = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let length = match of("content-length") {
        None => None,
        Some(value) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(value.parse::<usize>().map_err(|_| "a Content-Length without bounds")?)
        }
        Some(_) => return Err("Content-Length is not digits"),
    };
    let coding = of("transfer-encoding");
    if coding.is_some() && length.is_some() {
        return Err("both Content-Length and Transfer-Encoding");
    }
    if coding.is_some_and(|coding| coding != "chunked") {
        return Err("Transfer-Encoding is not chunked");
    }
    if coding.is_some() && request.is_http10() {
        return Err("chunked towards HTTP/1.0");
    }
    if status == 101 || status == 204 {
        let plain = length.is_none() && coding.is_none();
        return if plain { Ok(MessageFraming::Bodyless) } else { Err("framing on a 101 or 204") };
    }
    if request.is_head() || status == 304 {
        return Ok(MessageFraming::Bodyless);
    }
    match (coding, length) {
        (Some(_), _) => Ok(MessageFraming::Chunked),
        (None, Some(length)) => Ok(MessageFraming::Length(length)),
        (None, None)
            if request.is_http10()
                || of("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) =>
        {
            Ok(MessageFraming::CloseDelimited)
        }
        (None, None) => Err("no body length on a persistent connection"),
    }
}

fn malformed_response(problem: &str, bytes: &[u8]) -> NoResponse {
    NoResponse::Malformed(format!("{problem}: {:?}", String::from_utf8_lossy(bytes)))
}

fn find_bytes(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Fields that may occur at most once in a response.
const SINGLE_FIELDS: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "date",
    "location",
    "retry-after",
    "x-request-id",
    "x-content-type-options",
    "server",
];

/// The subset that the gateway generates.
const ALWAYS_SINGLE_FIELDS: [&str; 4] = ["connection", "content-length", "transfer-encoding", "x-request-id"];

#[cfg(test)]
#[path = "response_reader_tests.rs"]
mod tests;
