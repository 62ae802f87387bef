//! The one strict reader: reads a response byte for byte and forgives nothing.
//!
//! It knows HTTP/1's grammar and framing as RFC 9112 writes them for a sender, and nothing of the gateway. What an error
//! must contain is in [`super::promise`]. A response that a lenient client would still understand is a defect here.

use std::io::{ErrorKind, Read};

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub reason: String,
    /// In order; names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub framing: Framing,
    pub ended: Ended,
    /// The 1xx responses before it.
    pub interim: Vec<(u16, Vec<(String, String)>)>,
    /// By what was said and how it ended, another request may follow on this connection.
    pub connection_usable: bool,
}

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body by the rules: HEAD, 204, 304, 101.
    Bodyless,
    Length(usize),
    Chunked,
    /// The end of the connection is the end of the body.
    Close,
    /// Frames of HTTP/2.
    Http2,
}

/// How a message that had begun came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Complete,
    /// The connection ended after so many bytes of an unfinished body.
    Cut {
        after: usize,
    },
    /// It was reset.
    Reset {
        after: usize,
    },
    /// Nothing more came until the deadline.
    Silent {
        after: usize,
    },
}

/// Why there is no answer at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The connection ended without a byte.
    Closed,
    Reset,
    /// Not a byte until the deadline.
    Silent,
    /// It ended, one way or another, inside a head.
    Torn(String),
    /// The bytes break a rule.
    Malformed(String),
}

/// What was asked: what may be answered depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Http11(&'static str),
    Http10(&'static str),
}

impl Asked {
    pub fn head(self) -> bool {
        matches!(self, Asked::Http11("HEAD") | Asked::Http10("HEAD"))
    }

    fn old(self) -> bool {
        matches!(self, Asked::Http10(_))
    }
}

impl Answer {
    /// The only value of this field; panics when there are several.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values =
            self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "the field {name} is repeated: {self:#?}");
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn says_close(&self) -> bool {
        self.fields
            .iter()
            .any(|(name, value)| name == "connection" && value.to_ascii_lowercase().contains("close"))
    }
}

/// Reads responses from a stream, one after the other.
pub struct Reader<S> {
    pub stream: S,
    buffer: Vec<u8>,
    /// The upstream may say anything: fields of its own that pass are not the gateway's to repair.
    anything: bool,
}

/// Why a read brought nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    End,
    Reset,
    Silence,
}

impl<S: Read> Reader<S> {
    pub fn new(stream: S) -> Self {
        Reader { stream, buffer: Vec::new(), anything: false }
    }

    /// For what an upstream sent that is not in its right mind: it may repeat its fields and write them in obs-text
    /// (RFC 9110 5.5). Framing is held to the same rules.
    pub fn of_anything(stream: S) -> Self {
        Reader { anything: true, ..Reader::new(stream) }
    }

    /// Bytes that came after the last answer.
    pub fn surplus(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes so many of the bytes that came after the last answer: they are none.
    pub fn take(&mut self, length: usize) {
        self.buffer.drain(..length);
    }

    /// Reads until these bytes are in what has not been taken yet; panics when they do not come.
    pub fn wait_for(&mut self, bytes: &[u8]) {
        while find(&self.buffer, bytes).is_none() {
            let there = String::from_utf8_lossy(&self.buffer).into_owned();
            assert!(self.fill().is_ok(), "expected {:?}, there is {there:?}", String::from_utf8_lossy(bytes));
        }
    }

    /// Waits for the end of the connection: `Fin`, `Reset` or `Silent`; `Malformed` when bytes come instead.
    pub fn read_end(&mut self) -> Unanswered {
        if self.buffer.is_empty() {
            match self.fill() {
                Ok(()) => {}
                Err(Stop::End) => return Unanswered::Closed,
                Err(Stop::Reset) => return Unanswered::Reset,
                Err(Stop::Silence) => return Unanswered::Silent,
            }
        }
        Unanswered::Malformed(format!("expected the end, got {:?}", String::from_utf8_lossy(&self.buffer)))
    }

    /// Reads one final response and the interim ones before it.
    pub fn read(&mut self, asked: Asked) -> Result<Answer, Unanswered> {
        let mut interim = Vec::new();
        loop {
            let head = self.head()?;
            let (status, reason, fields) =
                parse_head(&head, self.anything).map_err(|what| malformed(what, &head))?;
            if (100..200).contains(&status) && status != 101 {
                if asked.old() {
                    return Err(malformed("an interim response to HTTP/1.0", &head));
                }
                if fields.iter().any(|(name, _)| name == "content-length" || name == "transfer-encoding") {
                    return Err(malformed("framing on an interim response", &head));
                }
                interim.push((status, fields));
                continue;
            }
            let framing = framing(asked, status, &fields).map_err(|what| malformed(what, &head))?;
            let mut answer = Answer {
                status,
                reason,
                fields,
                body: Vec::new(),
                framing,
                ended: Ended::Complete,
                interim,
                connection_usable: false,
            };
            answer.ended = self.body(framing, &mut answer.body)?;
            answer.connection_usable = answer.ended == Ended::Complete
                && framing != Framing::Close
                && !answer.says_close()
                && (!asked.old()
                    || answer.field("connection").is_some_and(|value| value.contains("keep-alive")));
            return Ok(answer);
        }
    }

    /// A head without its blank line.
    fn head(&mut self) -> Result<Vec<u8>, Unanswered> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer[..at].to_vec();
                self.buffer.drain(..at + 4);
                return Ok(head);
            }
            if let Err(stop) = self.fill() {
                let begun = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(match stop {
                    _ if !begun.is_empty() => Unanswered::Torn(begun),
                    Stop::End => Unanswered::Closed,
                    Stop::Reset => Unanswered::Reset,
                    Stop::Silence => Unanswered::Silent,
                });
            }
        }
    }

    fn body(&mut self, framing: Framing, body: &mut Vec<u8>) -> Result<Ended, Unanswered> {
        let stop = match framing {
            Framing::Bodyless | Framing::Http2 => return Ok(Ended::Complete),
            Framing::Length(length) => match self.exactly(length, body) {
                Ok(()) => return Ok(Ended::Complete),
                Err(stop) => stop,
            },
            Framing::Close => loop {
                body.append(&mut self.buffer);
                match self.fill() {
                    Ok(()) => {}
                    Err(Stop::End) => return Ok(Ended::Complete),
                    Err(stop) => break stop,
                }
            },
            Framing::Chunked => match self.chunks(body)? {
                None => return Ok(Ended::Complete),
                Some(stop) => stop,
            },
        };
        let after = body.len();
        Ok(match stop {
            Stop::End => Ended::Cut { after },
            Stop::Reset => Ended::Reset { after },
            Stop::Silence => Ended::Silent { after },
        })
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> Result<Option<Stop>, Unanswered> {
        loop {
            let line = match self.line() {
                Ok(line) => line,
                Err(stop) => return Ok(Some(stop)),
            };
            let digits = String::from_utf8_lossy(&line).into_owned();
            let hex = !digits.is_empty()
                && digits.len() < 16
                && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let Some(size) = hex.then(|| usize::from_str_radix(&digits, 16).unwrap()) else {
                return Err(malformed("a chunk size that is not plain hexadecimal", &line));
            };
            if let Err(stop) = self.exactly(size, body) {
                return Ok(Some(stop));
            }
            match self.line() {
                Ok(end) if end.is_empty() => {}
                Ok(end) if size == 0 => return Err(malformed("trailers, which were not asked for", &end)),
                Ok(end) => return Err(malformed("a chunk that is longer than its size", &end)),
                Err(stop) => return Ok(Some(stop)),
            }
            if size == 0 {
                return Ok(None);
            }
        }
    }

    fn exactly(&mut self, length: usize, body: &mut Vec<u8>) -> Result<(), Stop> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() {
                self.fill()?;
            }
            let size = left.min(self.buffer.len());
            body.extend(self.buffer.drain(..size));
            left -= size;
        }
        Ok(())
    }

    /// A line without its CRLF.
    fn line(&mut self) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer[..at].to_vec();
                self.buffer.drain(..at + 2);
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), Stop> {
        let mut piece = [0; 16 * 1024];
        loop {
            return match self.stream.read(&mut piece) {
                Ok(0) => Err(Stop::End),
                Ok(size) => {
                    self.buffer.extend_from_slice(&piece[..size]);
                    Ok(())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    Err(Stop::Silence)
                }
                Err(_) => Err(Stop::Reset),
            };
        }
    }
}

type Head = (u16, String, Vec<(String, String)>);

fn parse_head(head: &[u8], anything: bool) -> Result<Head, &'static str> {
    let latin: String =
        if anything { head.iter().map(|byte| char::from(*byte)).collect() } else { String::new() };
    let text =
        if anything { &latin } else { std::str::from_utf8(head).map_err(|_| "a head that is not UTF-8")? };
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let rest =
        status_line.strip_prefix("HTTP/1.1 ").ok_or("a status line that does not begin with HTTP/1.1")?;
    let (digits, reason) = rest.split_once(' ').ok_or("a status line without the space before its reason")?;
    if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a status that is not three digits");
    }
    let obs_text = |c: char| anything && c >= '\u{80}';
    if !reason.chars().all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic() || obs_text(c)) {
        return Err("a reason with control characters");
    }
    let fields = lines.map(|line| parse_field(line, anything)).collect::<Result<Vec<_>, _>>()?;
    let singles = if anything { &SINGLE_ALWAYS[..] } else { &SINGLE[..] };
    for single in singles {
        if fields.iter().filter(|(name, _)| name == *single).count() > 1 {
            return Err("a field that may stand once stands twice");
        }
    }
    Ok((digits.parse().unwrap(), reason.to_owned(), fields))
}

fn parse_field(line: &str, anything: bool) -> Result<(String, String), &'static str> {
    if line.starts_with([' ', '\t']) {
        return Err("a folded field");
    }
    let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("a field name that is not a token");
    }
    if value.chars().any(|c| c.is_control() && c != '\t' && !(anything && c >= '\u{80}')) {
        return Err("a field value with control characters");
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

fn framing(asked: Asked, status: u16, fields: &[(String, String)]) -> Result<Framing, &'static str> {
    let of = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let length = match of("content-length") {
        None => None,
        Some(value) if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(value.parse::<usize>().map_err(|_| "a Content-Length without bounds")?)
        }
        Some(_) => return Err("a Content-Length that is not digits"),
    };
    let coding = of("transfer-encoding");
    if coding.is_some() && length.is_some() {
        return Err("Content-Length beside Transfer-Encoding");
    }
    if coding.is_some_and(|coding| coding != "chunked") {
        return Err("a Transfer-Encoding other than chunked");
    }
    if coding.is_some() && asked.old() {
        return Err("chunked towards HTTP/1.0");
    }
    if status == 101 || status == 204 {
        let plain = length.is_none() && coding.is_none();
        return if plain { Ok(Framing::Bodyless) } else { Err("framing on a 101 or 204") };
    }
    if asked.head() || status == 304 {
        return Ok(Framing::Bodyless);
    }
    match (coding, length) {
        (Some(_), _) => Ok(Framing::Chunked),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None)
            if asked.old() || of("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) =>
        {
            Ok(Framing::Close)
        }
        (None, None) => Err("no framing at all on a connection that stays open"),
    }
}

fn malformed(what: &str, bytes: &[u8]) -> Unanswered {
    Unanswered::Malformed(format!("{what}: {:?}", String::from_utf8_lossy(bytes)))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Fields that a response has once or not at all.
const SINGLE: [&str; 10] = [
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

/// Those among them that the gateway itself writes.
const SINGLE_ALWAYS: [&str; 4] = ["connection", "content-length", "transfer-encoding", "x-request-id"];

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
