//! Is an upstream's response head clear, and how does its body end?
//!
//! The codec takes bare LF, obs-fold, a space before the colon and Content-Length beside Transfer-Encoding; all of them
//! have split responses somewhere, so all are errors here. Given is the raw head as the codec hands it out. Which
//! statuses may pass is not decided here, 101 included.

use http::Method;

use super::framing::{content_length, is_chunked};
use super::hop::ConnectionOption;
use super::media;
use super::octets::{field_line, list, text_len, trim};
use super::raw_head::field_line_fault;
pub use super::request_head::Version;

/// How the end of a response body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Whatever comes until the connection ends.
    UntilClose,
    /// None by definition: 1xx, 204, 304, or the answer to HEAD.
    NoBody,
}

/// What a response head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFacts {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// 100 to 599.
    pub status: u16,
    /// How the body ends.
    pub framing: ResponseFraming,
    /// What Content-Length says, also where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// The connection may serve another request once the body has ended.
    pub keep_alive: bool,
    /// `Connection` names fields: see [`super::hop::Nominated`].
    pub nominates: bool,
    /// The media type is that of a stream: of events, or of gRPC's messages.
    pub streams: bool,
}

/// Reads a whole response head: from the status line up to and including the empty line.
///
/// # Errors
/// A fixed sentence for the log; the cause is always `http_protocol_error`.
pub fn check(head: &[u8], method: &Method) -> Result<ResponseFacts, &'static str> {
    let line_len = text_len(head);
    let (line, rest) = head.split_at_checked(line_len).unwrap_or((head, b""));
    let [b'\r', b'\n', rest @ ..] = rest else {
        return Err("the status line does not end with CRLF");
    };
    let (version, status) = status_line(line)?;
    let fields = Fields::parse(rest)?;
    let framing = fields.framing(version, status, method)?;
    let bodiless = status < 200 || status == 204;
    // Such a status has no body, but a server that frames one will send it: into the next response.
    let stray_body = bodiless && (fields.chunked || fields.length.is_some_and(|length| length > 0));
    let persistent = match version {
        Version::Http11 => !fields.close,
        Version::Http10 => fields.stay && !fields.close,
    };
    Ok(ResponseFacts {
        version,
        status,
        framing,
        content_length: fields.length,
        keep_alive: persistent && !stray_body && framing != ResponseFraming::UntilClose,
        nominates: fields.nominates,
        streams: fields.streams == Some(true),
    })
}

fn status_line(line: &[u8]) -> Result<(Version, u16), &'static str> {
    let (version, rest) = line.split_at_checked(8).ok_or("the status line is too short")?;
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err("the status line does not start with HTTP/1.0 or HTTP/1.1"),
    };
    // RFC 9112 4: the space before an empty reason is often left out.
    let ([b' ', a, b, c] | [b' ', a, b, c, b' ', ..]) = rest else {
        return Err("the status is not three digits between single spaces");
    };
    if ![a, b, c].into_iter().all(u8::is_ascii_digit) {
        return Err("the status is not three digits");
    }
    let status = [a, b, c].into_iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if !(100..=599).contains(&status) {
        return Err("the status is not between 100 and 599");
    }
    Ok((version, status))
}

/// What is kept of the fields while the head is read.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    stay: bool,
    nominates: bool,
    /// What the first Content-Type says.
    streams: Option<bool>,
}

impl Fields {
    fn parse(lines: &[u8]) -> Result<Self, &'static str> {
        let mut fields = Fields::default();
        let mut rest = lines;
        while let Some((name_len, text_len)) = field_line(rest) {
            let (name, after) = rest.split_at_checked(name_len).unwrap_or((rest, b""));
            fields.read(name, after.get(1..=text_len).unwrap_or_default())?;
            rest = after.get(text_len + 3..).unwrap_or_default();
        }
        if rest == b"\r\n" { Ok(fields) } else { Err(field_line_fault(rest)) }
    }

    fn read(&mut self, name: &[u8], text: &[u8]) -> Result<(), &'static str> {
        match name.len() {
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                self.streams.get_or_insert_with(|| media::is_stream(trim(text)));
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.read_connection(text),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.read_length(text)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.read_coding(trim(text))?,
            _ => {}
        }
        Ok(())
    }

    fn read_connection(&mut self, text: &[u8]) {
        for option in list(text) {
            match ConnectionOption::of(option) {
                Some(ConnectionOption::Close) => self.close = true,
                Some(ConnectionOption::KeepAlive) => self.stay = true,
                Some(ConnectionOption::Name) => self.nominates = true,
                Some(ConnectionOption::Protected) | None => {}
            }
        }
    }

    /// RFC 9110 8.6: the same number said several times, in one field or in many, is one number.
    fn read_length(&mut self, text: &[u8]) -> Result<(), &'static str> {
        for value in text.split(|octet| *octet == b',').map(trim) {
            let length = content_length(value).ok_or("Content-Length is not a number")?;
            if self.length.is_some_and(|known| known != length) {
                return Err("differing values of Content-Length");
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn read_coding(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.chunked {
            return Err("more than one Transfer-Encoding");
        }
        if !is_chunked(value) {
            return Err("Transfer-Encoding is not exactly chunked");
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(
        &self,
        version: Version,
        status: u16,
        method: &Method,
    ) -> Result<ResponseFraming, &'static str> {
        if self.chunked && self.length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        if self.chunked && version == Version::Http10 {
            return Err("Transfer-Encoding on HTTP/1.0");
        }
        if *method == Method::HEAD || status < 200 || status == 204 || status == 304 {
            return Ok(ResponseFraming::NoBody);
        }
        Ok(match (self.chunked, self.length) {
            (true, _) => ResponseFraming::Chunked,
            (false, Some(length)) => ResponseFraming::Length(length),
            (false, None) => ResponseFraming::UntilClose,
        })
    }
}

#[cfg(test)]
#[path = "response_head_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
