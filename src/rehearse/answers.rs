//! The strict reader of the rehearsal: reads responses byte for byte from a socket and forgives nothing.
//!
//! It knows HTTP/1's grammar and framing as RFC 9112 writes them for a sender. A response that a lenient client would still
//! understand is malformed here. What an error must contain is in [`super::promise`]; what is asked is in
//! [`super::clients`].

use std::io;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::clients::Asked;
use super::line::Line;

/// A response, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// In order; names in lower case, values trimmed.
    pub fields: Vec<(String, String)>,
    /// Without framing; the first mebibyte of it.
    pub body: Vec<u8>,
    /// How many bytes of body came.
    pub length: u64,
    /// How its end is told.
    pub framing: Framing,
    /// How it came to its end.
    pub ended: Ended,
    /// The statuses of the 1xx responses before it.
    pub interim: Vec<u16>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body by the rules: HEAD, 204, 304, 101.
    Bodiless,
    /// Content-Length.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The end of the connection.
    Close,
}

/// How a message that had begun came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By its framing.
    Whole,
    /// The connection ended before.
    Cut,
    /// Nothing more came in time.
    Silent,
    /// It is longer than the reader wants to know.
    Long,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The connection ended without a byte.
    Closed,
    /// It was reset.
    Reset,
    /// Not a byte in time.
    Silent,
    /// The bytes break a rule, or end inside a head.
    Malformed(String),
}

impl Answer {
    /// The first value of this field; the name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The connection is said to end with it.
    pub fn says_close(&self) -> bool {
        self.options().any(|option| option.eq_ignore_ascii_case("close"))
    }

    /// By what was said and how it ended, another request may follow.
    pub fn leaves_open(&self, asked: Asked) -> bool {
        let stays = |option: &str| option.eq_ignore_ascii_case("keep-alive");
        self.ended == Ended::Whole
            && self.framing != Framing::Close
            && !self.says_close()
            && (!asked.old || self.options().any(stays))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        let values = self.fields.iter().filter(|(name, _)| name == "connection");
        values.flat_map(|(_, value)| value.split(',')).map(str::trim)
    }
}

/// Reads responses from a connection, one after the other.
#[derive(Debug)]
pub struct Reader {
    /// The connection.
    pub stream: Line,
    buffer: Vec<u8>,
    raw: Vec<u8>,
    /// Reads that little at a time, with this pause after each.
    pub slowly: Option<(usize, Duration)>,
    /// Nothing is waited for beyond it.
    pub deadline: Instant,
    /// Bodies are read no further.
    pub most: u64,
}

/// Why a read brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    End,
    Reset,
    Silence,
    Enough,
}

/// So much of a body, and of everything received, is kept; the rest is counted.
const KEPT: usize = 1024 * 1024;

impl Reader {
    /// Of a connection that nothing has been read from.
    pub fn new(stream: impl Into<Line>, limit: Duration) -> Reader {
        let deadline = Instant::now() + limit;
        let stream = stream.into();
        Reader { stream, buffer: Vec::new(), raw: Vec::new(), slowly: None, deadline, most: u64::MAX }
    }

    /// The first mebibyte of what came, as it came.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Bytes that came and belong to no answer that was read.
    pub fn surplus(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits until something has come, or the connection has ended; says whether it has ended.
    pub async fn stirs(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().await.is_err()
    }

    /// Reads whatever comes until the connection ends, and forgets it; says whether it has ended.
    pub async fn forget(&mut self) -> bool {
        loop {
            self.buffer.clear();
            match self.fill().await {
                Ok(()) => {}
                Err(stop) => return stop != Stop::Silence,
            }
        }
    }

    /// Waits for the end of the connection.
    ///
    /// # Errors
    /// It was reset, it does not end, or bytes come instead.
    pub async fn end(&mut self) -> Result<(), Unanswered> {
        if self.buffer.is_empty() {
            match self.fill().await {
                Ok(()) => {}
                Err(Stop::End) => return Ok(()),
                Err(Stop::Reset) => return Err(Unanswered::Reset),
                Err(Stop::Silence | Stop::Enough) => return Err(Unanswered::Silent),
            }
        }
        Err(malformed("bytes instead of the end of the connection", &self.buffer))
    }

    /// Reads one interim response.
    ///
    /// # Errors
    /// What came instead.
    pub async fn interim(&mut self, asked: Asked) -> Result<u16, Unanswered> {
        let head = self.head().await?;
        let (status, fields) = parse_head(&head).map_err(|what| malformed(what, &head))?;
        if !is_interim(status) {
            return Err(malformed("a final response where an interim one was due", &head));
        }
        check_interim(asked, &fields).map_err(|what| malformed(what, &head))?;
        Ok(status)
    }

    /// Reads one final response and the interim ones before it.
    ///
    /// # Errors
    /// There is none, or it breaks a rule.
    pub async fn answer(&mut self, asked: Asked) -> Result<Answer, Unanswered> {
        let mut interim = Vec::new();
        loop {
            let head = self.head().await?;
            let (status, fields) = parse_head(&head).map_err(|what| malformed(what, &head))?;
            if is_interim(status) {
                check_interim(asked, &fields).map_err(|what| malformed(what, &head))?;
                interim.push(status);
                continue;
            }
            let framing = framing(asked, status, &fields).map_err(|what| malformed(what, &head))?;
            let ended = Ended::Whole;
            let mut answer = Answer { status, fields, body: Vec::new(), length: 0, framing, ended, interim };
            answer.ended = self.body(&mut answer).await?;
            return Ok(answer);
        }
    }

    /// A head without its blank line.
    async fn head(&mut self) -> Result<Vec<u8>, Unanswered> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                let mut head = std::mem::replace(&mut self.buffer, rest);
                head.truncate(at);
                return Ok(head);
            }
            if let Err(stop) = self.fill().await {
                return Err(match stop {
                    _ if !self.buffer.is_empty() => {
                        malformed("the connection ends inside a head", &self.buffer)
                    }
                    Stop::End => Unanswered::Closed,
                    Stop::Reset => Unanswered::Reset,
                    Stop::Silence | Stop::Enough => Unanswered::Silent,
                });
            }
        }
    }

    async fn body(&mut self, answer: &mut Answer) -> Result<Ended, Unanswered> {
        let stop = match answer.framing {
            Framing::Bodiless => return Ok(Ended::Whole),
            Framing::Length(length) => match self.exactly(length, answer).await {
                Ok(()) => return Ok(Ended::Whole),
                Err(stop) => stop,
            },
            Framing::Close => loop {
                let all = self.buffer.len() as u64;
                if let Err(stop) = self.exactly(all, answer).await {
                    break stop;
                }
                match self.fill().await {
                    Ok(()) => {}
                    Err(Stop::End) => return Ok(Ended::Whole),
                    Err(stop) => break stop,
                }
            },
            Framing::Chunked => match self.chunks(answer).await? {
                None => return Ok(Ended::Whole),
                Some(stop) => stop,
            },
        };
        Ok(match stop {
            Stop::End | Stop::Reset => Ended::Cut,
            Stop::Silence => Ended::Silent,
            Stop::Enough => Ended::Long,
        })
    }

    async fn chunks(&mut self, answer: &mut Answer) -> Result<Option<Stop>, Unanswered> {
        loop {
            let line = match self.line().await {
                Ok(line) => line,
                Err(stop) => return Ok(Some(stop)),
            };
            let plain = (1..16).contains(&line.len()) && line.iter().all(u8::is_ascii_hexdigit);
            let digits = String::from_utf8_lossy(&line).into_owned();
            let Some(size) = plain.then(|| u64::from_str_radix(&digits, 16).ok()).flatten() else {
                return Err(malformed("a chunk size that is not plain hexadecimal", &line));
            };
            if let Err(stop) = self.exactly(size, answer).await {
                return Ok(Some(stop));
            }
            match self.line().await {
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

    async fn exactly(&mut self, length: u64, answer: &mut Answer) -> Result<(), Stop> {
        let mut left = length;
        while left > 0 {
            if answer.length >= self.most {
                return Err(Stop::Enough);
            }
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let rest = self.buffer.split_off(size);
            let piece = std::mem::replace(&mut self.buffer, rest);
            keep(&mut answer.body, &piece);
            answer.length += size as u64;
            left -= size as u64;
        }
        Ok(())
    }

    /// A line without its CRLF.
    async fn line(&mut self) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let rest = self.buffer.split_off(at + 2);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(at);
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Stop> {
        let mut piece = vec![0; self.slowly.map_or(64 * 1024, |(size, _)| size)];
        if let Some((_, pause)) = self.slowly {
            tokio::time::sleep(pause).await;
        }
        let read = tokio::select! {
            read = self.stream.read(&mut piece) => read,
            () = tokio::time::sleep_until(self.deadline.into()) => return Err(Stop::Silence),
        };
        match read {
            Ok(0) => Err(Stop::End),
            Ok(size) => {
                piece.truncate(size);
                keep(&mut self.raw, &piece);
                self.buffer.append(&mut piece);
                // Long responses are read beside short ones: the others of this thread must not be late for it.
                tokio::task::yield_now().await;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(Stop::Reset),
        }
    }
}

type Fields = Vec<(String, String)>;

fn parse_head(head: &[u8]) -> Result<(u16, Fields), &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "a head that is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or("a status line that does not begin with HTTP/1.1")?;
    let (digits, reason) = rest.split_once(' ').ok_or("a status line without the space before its reason")?;
    let three = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let status = digits.parse().ok().filter(|_| three).ok_or("a status that is not three digits")?;
    if !reason.chars().all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic()) {
        return Err("a reason with control characters");
    }
    let fields = lines.map(parse_field).collect::<Result<Fields, _>>()?;
    let framing = ["content-length", "transfer-encoding"];
    if framing.iter().any(|single| fields.iter().filter(|(name, _)| name == single).count() > 1) {
        return Err("a framing field that stands twice");
    }
    Ok((status, fields))
}

fn parse_field(line: &str) -> Result<(String, String), &'static str> {
    if line.starts_with([' ', '\t']) {
        return Err("a folded field");
    }
    let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("a field name that is not a token");
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err("a field value with control characters");
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

const fn is_interim(status: u16) -> bool {
    matches!(status, 100..=199) && status != 101
}

fn check_interim(asked: Asked, fields: &Fields) -> Result<(), &'static str> {
    if asked.old {
        return Err("an interim response to HTTP/1.0");
    }
    if fields.iter().any(|(name, _)| name == "content-length" || name == "transfer-encoding") {
        return Err("framing on an interim response");
    }
    Ok(())
}

fn framing(asked: Asked, status: u16, fields: &Fields) -> Result<Framing, &'static str> {
    let of = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let digits = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let length = match of("content-length") {
        None => None,
        Some(value) => {
            let length = value.parse().ok().filter(|_| digits(value));
            Some(length.ok_or("a Content-Length that is not digits")?)
        }
    };
    let coding = of("transfer-encoding");
    if coding.is_some() && length.is_some() {
        return Err("Content-Length beside Transfer-Encoding");
    }
    if coding.is_some_and(|coding| coding != "chunked") {
        return Err("a Transfer-Encoding other than chunked");
    }
    if coding.is_some() && asked.old {
        return Err("chunked towards HTTP/1.0");
    }
    if status == 101 || status == 204 {
        let plain = length.is_none() && coding.is_none();
        return if plain { Ok(Framing::Bodiless) } else { Err("framing on a 101 or 204") };
    }
    if asked.head || status == 304 {
        return Ok(Framing::Bodiless);
    }
    let closes = asked.old || of("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    match (coding, length) {
        (Some(_), _) => Ok(Framing::Chunked),
        (None, Some(length)) => Ok(Framing::Length(length)),
        (None, None) if closes => Ok(Framing::Close),
        (None, None) => Err("no framing at all on a connection that stays open"),
    }
}

fn malformed(what: &str, bytes: &[u8]) -> Unanswered {
    let begun = bytes.get(..bytes.len().min(200)).unwrap_or_default();
    Unanswered::Malformed(format!("{what}: {:?}", String::from_utf8_lossy(begun)))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Appends while there is room within [`KEPT`].
pub(super) fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
    kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
}
