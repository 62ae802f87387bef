//! Parses an upstream's response header section strictly, and determines the framing of the body.
//!
//! The codec accepts bare LF, obs-fold, a space before the colon, and Content-Length combined with Transfer-Encoding.
//! Each has enabled response splitting, so they are errors here. The input are the raw bytes from the codec. Which
//! status codes are forwarded, including 101, is decided elsewhere.

use std::time::Duration;

use http::Method;

use super::ascii_class::{field_line_lengths, field_text_len, list_elements, trim_ows};
use super::framing::{content_length, is_chunked};
use super::hop_by_hop::{ConnectionOption, is_framing_name};
use super::media_type;
pub use super::request_head::Version;
use super::request_scanner::field_line_error;

/// How the length of a response body is determined (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// Content-Length, in bytes.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// All bytes until the connection closes.
    UntilClose,
    /// No body by definition: 1xx, 204, 304, or a response to HEAD.
    NoBody,
}

/// A parsed response header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The framing of the body.
    pub framing: ResponseFraming,
    /// The value of Content-Length, also if no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// The connection can be reused after the body.
    pub keep_alive: bool,
    /// How long the server keeps the connection while it is idle, if it has announced that (`Keep-Alive: timeout=5`).
    pub keep_alive_timeout: Option<Duration>,
    /// `Connection` names fields to remove: see [`super::hop_by_hop::ConnectionOptions`].
    pub has_connection_options: bool,
    /// The media type is an event stream or gRPC.
    pub is_streaming: bool,
}

/// Parses a complete response header section, from the status line up to and including the empty line.
///
/// # Errors
/// A constant text for the log; the cause is always `http_protocol_error`.
pub fn parse(head: &[u8], method: &Method) -> Result<ResponseHead, &'static str> {
    let line_len = field_text_len(head);
    let (line, rest) = head.split_at_checked(line_len).unwrap_or((head, b""));
    let [b'\r', b'\n', rest @ ..] = rest else {
        return Err("the status line does not end with CRLF");
    };
    let (version, status) = parse_status_line(line)?;
    let fields = ResponseFields::parse(rest, status)?;
    let framing = fields.framing(version, status, method)?;
    let bodyless = status < 200 || status == 204;
    // These statuses have no body. A server that declares one anyway would send it as the start of the next response.
    let stray_body = bodyless && (fields.chunked || fields.content_length.is_some_and(|length| length > 0));
    let persistent = match version {
        Version::Http11 => !fields.close,
        Version::Http10 => fields.keep_alive && !fields.close,
    };
    Ok(ResponseHead {
        version,
        status,
        framing,
        content_length: fields.content_length,
        keep_alive: persistent && !stray_body && framing != ResponseFraming::UntilClose,
        keep_alive_timeout: fields.keep_alive_timeout,
        has_connection_options: fields.names_fields,
        is_streaming: fields.is_streaming == Some(true),
    })
}

fn parse_status_line(line: &[u8]) -> Result<(Version, u16), &'static str> {
    let (version, rest) = line.split_at_checked(8).ok_or("the status line is too short")?;
    let version = match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        _ => return Err("the status line does not start with HTTP/1 and a minor version"),
    };
    // RFC 9112 4: servers often omit the space before an empty reason phrase.
    let ([b' ', a, b, c] | [b' ', a, b, c, b' ', ..]) = rest else {
        return Err("the status code is not 3 digits between single spaces");
    };
    if ![a, b, c].into_iter().all(u8::is_ascii_digit) {
        return Err("the status code is not 3 digits");
    }
    let status = [a, b, c].into_iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    if !(100..=599).contains(&status) {
        return Err("the status code is not between 100 and 599");
    }
    Ok((version, status))
}

/// The facts collected from the header fields.
#[derive(Default)]
struct ResponseFields {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    keep_alive_timeout: Option<Duration>,
    names_fields: bool,
    /// Whether the first Content-Type is a streaming type; `None` without Content-Type.
    is_streaming: Option<bool>,
}

impl ResponseFields {
    fn parse(lines: &[u8], status: u16) -> Result<Self, &'static str> {
        let mut fields = ResponseFields::default();
        // RFC 9110 15.2.2: the bytes after a 101 belong to another protocol, whatever length the fields claim.
        let ignores_framing = status == 101;
        let mut rest = lines;
        while let Some((name_len, text_len)) = field_line_lengths(rest) {
            let (name, after) = rest.split_at_checked(name_len).unwrap_or((rest, b""));
            if !ignores_framing || !is_framing_name(name) {
                fields.read_field(name, after.get(1..=text_len).unwrap_or_default())?;
            }
            rest = after.get(text_len + 3..).unwrap_or_default();
        }
        if rest == b"\r\n" { Ok(fields) } else { Err(field_line_error(rest)) }
    }

    fn read_field(&mut self, name: &[u8], text: &[u8]) -> Result<(), &'static str> {
        match name.len() {
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                self.is_streaming.get_or_insert_with(|| media_type::is_streaming(trim_ows(text)));
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.read_connection(text),
            10 if name.eq_ignore_ascii_case(b"keep-alive") => self.read_keep_alive(text),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.read_content_length(text)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.read_transfer_encoding(trim_ows(text))?
            }
            _ => {}
        }
        Ok(())
    }

    fn read_connection(&mut self, text: &[u8]) {
        for option in list_elements(text) {
            match ConnectionOption::parse(option) {
                Some(ConnectionOption::Close) => self.close = true,
                Some(ConnectionOption::KeepAlive) => self.keep_alive = true,
                Some(ConnectionOption::FieldName) => self.names_fields = true,
                Some(ConnectionOption::Protected) | None => {}
            }
        }
    }

    /// Of several timeouts the shortest counts. Other parameters and malformed ones have no meaning.
    fn read_keep_alive(&mut self, text: &[u8]) {
        for parameter in text.split(|octet| *octet == b',').map(trim_ows) {
            let Some((name, value)) = parameter.split_at_checked(7) else { continue };
            let seconds = value.strip_prefix(b"=").and_then(content_length);
            if let (true, Some(seconds)) = (name.eq_ignore_ascii_case(b"timeout"), seconds) {
                let timeout = Duration::from_secs(seconds);
                self.keep_alive_timeout =
                    Some(self.keep_alive_timeout.map_or(timeout, |other| other.min(timeout)));
            }
        }
    }

    /// RFC 9110 8.6: identical repeated values, in one field or several, are accepted as one.
    fn read_content_length(&mut self, text: &[u8]) -> Result<(), &'static str> {
        for value in text.split(|octet| *octet == b',').map(trim_ows) {
            let length = content_length(value).ok_or("Content-Length is not a number")?;
            if self.content_length.is_some_and(|previous| previous != length) {
                return Err("conflicting Content-Length values");
            }
            self.content_length = Some(length);
        }
        Ok(())
    }

    fn read_transfer_encoding(&mut self, value: &[u8]) -> Result<(), &'static str> {
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
        if self.chunked && self.content_length.is_some() {
            return Err("both Content-Length and Transfer-Encoding");
        }
        if self.chunked && version == Version::Http10 {
            return Err("Transfer-Encoding on HTTP/1.0");
        }
        if *method == Method::HEAD || status < 200 || status == 204 || status == 304 {
            return Ok(ResponseFraming::NoBody);
        }
        Ok(match (self.chunked, self.content_length) {
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
