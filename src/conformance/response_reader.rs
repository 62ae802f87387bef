//! A strict HTTP/1 response parser.
//!
//! It applies the grammar and framing that RFC 9112 requires of a sender: a response that a lenient client would accept
//! is an error here. [`super::contract_check`] checks the content of error responses.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;

use super::gateway_stream::GatewayStream;
use super::recorder::append_capped;
use super::step::RequestKind;

/// A received response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedResponse {
    /// The status code.
    pub status: u16,
    /// The header fields in order; names in lower case, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The first 1 MiB of the decoded body.
    pub body: Vec<u8>,
    /// The number of received body bytes.
    pub body_length: u64,
    /// The framing of the body.
    pub framing: ResponseBodyFraming,
    /// How reading the body ended.
    pub end: BodyEnd,
    /// The statuses of the 1xx responses before this one.
    pub interim: Vec<u16>,
}

/// The framing of a response body (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBodyFraming {
    /// No body: HEAD, 101, 204 or 304.
    Bodiless,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// The body ends when the connection closes.
    CloseDelimited,
}

/// How reading a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// The body is complete.
    Complete,
    /// The connection closed inside the body.
    Truncated,
    /// The deadline passed inside the body.
    TimedOut,
    /// The body is longer than [`ResponseReader::max_body`].
    LimitReached,
}

/// Why no response was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The connection closed.
    #[error("connection closed")]
    Closed,
    /// The connection was reset.
    #[error("connection reset")]
    Reset,
    /// The deadline passed.
    #[error("timed out")]
    TimedOut,
    /// The response is malformed, or ends inside its header section.
    #[error("{0}")]
    Malformed(String),
}

impl ReceivedResponse {
    /// The first value of this field; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether the response has `Connection: close`.
    pub fn has_connection_close(&self) -> bool {
        self.connection_options().any(|option| option.eq_ignore_ascii_case("close"))
    }

    /// Whether the connection stays open after this response, by its header fields and framing.
    pub(crate) fn keeps_connection_open(&self, request_kind: RequestKind) -> bool {
        let stays = |option: &str| option.eq_ignore_ascii_case("keep-alive");
        self.end == BodyEnd::Complete
            && self.framing != ResponseBodyFraming::CloseDelimited
            && !self.has_connection_close()
            && (!request_kind.http10 || self.connection_options().any(stays))
    }

    /// The kept part of the body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn connection_options(&self) -> impl Iterator<Item = &str> {
        let values = self.headers.iter().filter(|(name, _)| name == "connection");
        values.flat_map(|(_, value)| value.split(',')).map(str::trim)
    }
}

/// Reads responses from a connection.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    /// The connection.
    pub stream: GatewayStream,
    buffer: Vec<u8>,
    raw: Vec<u8>,
    /// Bytes per read, and the pause before each read.
    pub throttle: Option<(usize, Duration)>,
    /// Reads end with a timeout at this time.
    pub deadline: Instant,
    /// Bodies are read up to this many bytes.
    pub max_body: u64,
}

impl ResponseReader {
    /// Wraps a connection from which nothing was read yet; the deadline is `limit` from now.
    pub(crate) fn new(stream: GatewayStream, limit: Duration) -> ResponseReader {
        let deadline = Instant::now() + limit;
        ResponseReader {
            stream,
            buffer: Vec::new(),
            raw: Vec::new(),
            throttle: None,
            deadline,
            max_body: u64::MAX,
        }
    }

    /// The first 1 MiB of the received bytes.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Received bytes that belong to no response read so far.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Waits until data arrives or the connection closes. Returns whether it closed or timed out.
    pub(crate) async fn wait_for_data(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().await.is_err()
    }

    /// Reads and discards data until the connection closes. Returns `false` if the deadline passes first.
    pub(crate) async fn discard_until_close(&mut self) -> bool {
        loop {
            self.buffer.clear();
            if let Err(error) = self.fill().await {
                return error != ReadError::TimedOut;
            }
        }
    }

    /// Waits until the gateway closes the connection.
    ///
    /// # Errors
    /// The connection was reset, stays open, or received more data.
    pub(crate) async fn expect_close(&mut self) -> Result<(), ReadError> {
        if self.buffer.is_empty() {
            match self.fill().await {
                Ok(()) => {}
                Err(ReadError::Closed) => return Ok(()),
                Err(other) => return Err(other),
            }
        }
        Err(malformed_error("data instead of a connection close", &self.buffer))
    }

    /// Reads one interim response and returns its status.
    ///
    /// # Errors
    /// No interim response arrived, or it is malformed.
    pub(crate) async fn read_interim(&mut self, request_kind: RequestKind) -> Result<u16, ReadError> {
        match self.read_status_and_fields(request_kind).await? {
            (status, None, _) => Ok(status),
            (status, Some(_), _) => {
                Err(ReadError::Malformed(format!("final response {status} instead of an interim one")))
            }
        }
    }

    /// Reads one final response and the interim responses before it.
    ///
    /// # Errors
    /// No response arrived, or it is malformed.
    pub(crate) async fn read_response(
        &mut self,
        request_kind: RequestKind,
    ) -> Result<ReceivedResponse, ReadError> {
        let mut interim = Vec::new();
        let (status, framing, headers) = loop {
            match self.read_status_and_fields(request_kind).await? {
                (status, None, _) => interim.push(status),
                (status, Some(framing), fields) => break (status, framing, fields),
            }
        };
        let (body, end) = (Vec::new(), BodyEnd::Complete);
        let mut response = ReceivedResponse { status, headers, body, body_length: 0, framing, end, interim };
        response.end = self.read_body(&mut response).await?;
        Ok(response)
    }

    /// Reads a header section; an interim response has no framing.
    async fn read_status_and_fields(
        &mut self,
        request_kind: RequestKind,
    ) -> Result<(u16, Option<ResponseBodyFraming>, HeaderPairs), ReadError> {
        let head = self.read_head().await?;
        let parsed = parse_head(&head).and_then(|(status, fields)| {
            let framing = if is_interim(status) {
                check_interim(request_kind, &fields).map(|()| None)
            } else {
                response_framing(request_kind, status, &fields).map(Some)
            };
            framing.map(|framing| (status, framing, fields))
        });
        parsed.map_err(|problem| malformed_error(problem, &head))
    }

    /// Reads a status line and header section, without the blank line.
    async fn read_head(&mut self) -> Result<Vec<u8>, ReadError> {
        loop {
            if let Some(at) = find_bytes(&self.buffer, b"\r\n\r\n") {
                return Ok(self.take(at, 4));
            }
            self.fill().await.map_err(|error| match error {
                _ if !self.buffer.is_empty() => {
                    malformed_error("connection closed inside the response headers", &self.buffer)
                }
                other => other,
            })?;
        }
    }

    async fn read_body(&mut self, response: &mut ReceivedResponse) -> Result<BodyEnd, ReadError> {
        match self.read_framed_body(response).await {
            Err(ReadError::Closed | ReadError::Reset) => Ok(BodyEnd::Truncated),
            Err(ReadError::TimedOut) => Ok(BodyEnd::TimedOut),
            other => other,
        }
    }

    async fn read_framed_body(&mut self, response: &mut ReceivedResponse) -> Result<BodyEnd, ReadError> {
        match response.framing {
            ResponseBodyFraming::Bodiless => Ok(BodyEnd::Complete),
            ResponseBodyFraming::Length(length) => self.read_exact(length, response).await,
            ResponseBodyFraming::CloseDelimited => loop {
                match self.read_exact(self.buffer.len() as u64, response).await? {
                    BodyEnd::Complete => {}
                    other => return Ok(other),
                }
                match self.fill().await {
                    Err(ReadError::Closed) => return Ok(BodyEnd::Complete),
                    other => other?,
                }
            },
            ResponseBodyFraming::Chunked => self.read_chunks(response).await,
        }
    }

    async fn read_chunks(&mut self, response: &mut ReceivedResponse) -> Result<BodyEnd, ReadError> {
        loop {
            let line = self.read_line().await?;
            let is_hexadecimal = (1..16).contains(&line.len()) && line.iter().all(u8::is_ascii_hexdigit);
            let digits = String::from_utf8_lossy(&line).into_owned();
            let Some(size) = is_hexadecimal.then(|| u64::from_str_radix(&digits, 16).ok()).flatten() else {
                return Err(malformed_error("chunk size is not hexadecimal", &line));
            };
            match self.read_exact(size, response).await? {
                BodyEnd::Complete => {}
                other => return Ok(other),
            }
            match self.read_line().await? {
                end if end.is_empty() && size == 0 => return Ok(BodyEnd::Complete),
                end if end.is_empty() => {}
                end if size == 0 => return Err(malformed_error("trailers without TE: trailers", &end)),
                end => return Err(malformed_error("chunk longer than its size", &end)),
            }
        }
    }

    /// Reads this many bytes of the body, unless it is too long.
    async fn read_exact(
        &mut self,
        length: u64,
        response: &mut ReceivedResponse,
    ) -> Result<BodyEnd, ReadError> {
        let mut remaining = length;
        while remaining > 0 {
            if response.body_length >= self.max_body {
                return Ok(BodyEnd::LimitReached);
            }
            if self.buffer.is_empty() {
                self.fill().await?;
            }
            let size = usize::try_from(remaining).unwrap_or(usize::MAX).min(self.buffer.len());
            let chunk: Vec<u8> = self.buffer.drain(..size).collect();
            append_capped(&mut response.body, &chunk);
            response.body_length += size as u64;
            remaining -= size as u64;
        }
        Ok(BodyEnd::Complete)
    }

    /// Reads a line, without its CRLF.
    async fn read_line(&mut self) -> Result<Vec<u8>, ReadError> {
        loop {
            if let Some(at) = find_bytes(&self.buffer, b"\r\n") {
                return Ok(self.take(at, 2));
            }
            self.fill().await?;
        }
    }

    /// Removes the first bytes and the separator after them, and returns the former.
    fn take(&mut self, length: usize, separator: usize) -> Vec<u8> {
        let mut taken: Vec<u8> = self.buffer.drain(..length + separator).collect();
        taken.truncate(length);
        taken
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        let mut chunk = vec![0; self.throttle.map_or(64 * 1024, |(size, _)| size)];
        if let Some((_, pause)) = self.throttle {
            tokio::time::sleep(pause).await;
        }
        let read = tokio::select! {
            read = self.stream.read(&mut chunk) => read,
            () = tokio::time::sleep_until(self.deadline.into()) => return Err(ReadError::TimedOut),
        };
        match read {
            Ok(0) => Err(ReadError::Closed),
            Ok(size) => {
                chunk.truncate(size);
                append_capped(&mut self.raw, &chunk);
                self.buffer.append(&mut chunk);
                // A long response must not delay the other clients on this thread.
                tokio::task::yield_now().await;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(_) => Err(ReadError::Reset),
        }
    }
}

type HeaderPairs = Vec<(String, String)>;

fn parse_head(head: &[u8]) -> Result<(u16, HeaderPairs), &'static str> {
    let text = std::str::from_utf8(head).map_err(|_| "response headers are not UTF-8")?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let rest = line.strip_prefix("HTTP/1.1 ").ok_or("status line does not begin with HTTP/1.1")?;
    let (digits, reason) =
        rest.split_once(' ').ok_or("status line without the space before the reason phrase")?;
    let is_three_digits = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let status = digits.parse().ok().filter(|_| is_three_digits).ok_or("status code is not three digits")?;
    if !reason.chars().all(|c| c == ' ' || c == '\t' || c.is_ascii_graphic()) {
        return Err("control characters in the reason phrase");
    }
    let fields = lines.map(parse_field).collect::<Result<HeaderPairs, _>>()?;
    let framing = ["content-length", "transfer-encoding"];
    if framing.iter().any(|single| fields.iter().filter(|(name, _)| name == single).count() > 1) {
        return Err("duplicate framing field");
    }
    Ok((status, fields))
}

fn parse_field(line: &str) -> Result<(String, String), &'static str> {
    if line.starts_with([' ', '\t']) {
        return Err("folded field line");
    }
    let (name, value) = line.split_once(':').ok_or("field line without a colon")?;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("field name is not a token");
    }
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err("control characters in a field value");
    }
    Ok((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()))
}

const fn is_interim(status: u16) -> bool {
    matches!(status, 100..=199) && status != 101
}

fn check_interim(request_kind: RequestKind, fields: &HeaderPairs) -> Result<(), &'static str> {
    if request_kind.http10 {
        return Err("interim response to HTTP/1.0");
    }
    if fields.iter().any(|(name, _)| name == "content-length" || name == "transfer-encoding") {
        return Err("framing on an interim response");
    }
    Ok(())
}

fn response_framing(
    request_kind: RequestKind,
    status: u16,
    fields: &HeaderPairs,
) -> Result<ResponseBodyFraming, &'static str> {
    let header = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let digits = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let length = match header("content-length") {
        None => None,
        Some(value) => {
            let length = value.parse().ok().filter(|_| digits(value));
            Some(length.ok_or("Content-Length is not a number")?)
        }
    };
    let coding = header("transfer-encoding");
    if coding.is_some() && length.is_some() {
        return Err("both Content-Length and Transfer-Encoding");
    }
    if coding.is_some_and(|coding| coding != "chunked") {
        return Err("Transfer-Encoding other than chunked");
    }
    if coding.is_some() && request_kind.http10 {
        return Err("chunked response to HTTP/1.0");
    }
    if status == 101 || status == 204 {
        let unframed = length.is_none() && coding.is_none();
        return if unframed { Ok(ResponseBodyFraming::Bodiless) } else { Err("framing on a 101 or 204") };
    }
    if request_kind.head || status == 304 {
        return Ok(ResponseBodyFraming::Bodiless);
    }
    let closes =
        request_kind.http10 || header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    match (coding, length) {
        (Some(_), _) => Ok(ResponseBodyFraming::Chunked),
        (None, Some(length)) => Ok(ResponseBodyFraming::Length(length)),
        (None, None) if closes => Ok(ResponseBodyFraming::CloseDelimited),
        (None, None) => Err("no framing on a connection that stays open"),
    }
}

fn malformed_error(problem: &str, bytes: &[u8]) -> ReadError {
    let prefix = bytes.get(..bytes.len().min(200)).unwrap_or_default();
    ReadError::Malformed(format!("{problem}: {:?}", String::from_utf8_lossy(prefix)))
}

fn find_bytes(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
