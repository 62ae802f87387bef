//! What a whole request head says, in one pass over its bytes; the strict reading that the codec's must agree with.
//!
//! Refuses whatever two servers could read in two ways (RFC 9112 11.2, request smuggling): framing, host, target,
//! field syntax. It knows no route and no limit but the codec's own. The bytes come from [`super::raw_head`], but it
//! does not lean on that: every rule holds for any bytes. Facts are offsets into the head; nothing is copied.

use std::borrow::Cow;
use std::ops::Range;

use http::Method;

pub use super::framing::Framing;
use super::framing::{content_length, is_chunked};
use super::octets::{text_len, token_len, trim};
use super::raw_head::{MAX_METHOD, bad_field_start, bad_name, bad_value};
use super::{MAX_FIELDS, Refusal, authority, hop, target};
use crate::contract::Cause;

/// Longest field name that the field map can hold.
const MAX_NAME: usize = 65_535;

/// The version of the request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// What a request head says. Ranges are offsets into the head that was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// Never CONNECT or TRACE.
    pub method: Method,
    /// The target as it stands in the request line.
    pub raw_target: Range<usize>,
    /// Path and query of it. Empty or beginning with `?` after an authority without a path: use [`Self::origin_form`].
    pub target: Range<usize>,
    /// The path without the query. Empty after an authority without a path.
    pub path: Range<usize>,
    /// The target is in absolute form. The codec insists that Host be equal to its authority byte by byte.
    pub absolute_form: bool,
    /// The authority of the target, else Host. Always there on HTTP/1.1.
    pub authority: Option<Range<usize>>,
    /// How long the body is.
    pub framing: Framing,
    /// The client wants to keep the connection.
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends its body.
    pub expect_continue: bool,
    /// The path has dot segments: refuse with `ambiguous_path` unless the route is lenient.
    pub dot_segments: bool,
    /// How many fields there are; at most [`MAX_FIELDS`].
    pub fields: usize,
}

impl RequestFacts {
    /// The target in origin form, as the upstream gets it; `head` is the head that was parsed.
    pub fn origin_form<'a>(&self, head: &'a [u8]) -> Cow<'a, [u8]> {
        match head.get(self.target.clone()).unwrap_or_default() {
            // RFC 9112 3.2.4: OPTIONS for an authority alone is meant for the server as a whole.
            [] if self.method == Method::OPTIONS => Cow::Borrowed(b"*"),
            [] => Cow::Borrowed(b"/"),
            query @ [b'?', ..] => Cow::Owned([b"/", query].concat()),
            target => Cow::Borrowed(target),
        }
    }

    /// The path that routes look at, before [`super::path::normalise`]; never empty.
    pub fn path<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        match head.get(self.path.clone()).unwrap_or_default() {
            [] => b"/",
            path => path,
        }
    }

    /// The bytes of the authority; empty where HTTP/1.0 gave none.
    pub fn authority<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        self.authority.clone().and_then(|range| head.get(range)).unwrap_or_default()
    }
}

/// Reads a whole head: from the request line up to and including the empty line.
///
/// # Errors
/// The first rule that the head breaks, in the order of its bytes; rules about several fields come last.
pub fn parse(head: &[u8]) -> Result<RequestFacts, Refusal> {
    let line_len = text_len(head);
    let line = head.get(..line_len).unwrap_or_default();
    if !head.get(line_len..).unwrap_or_default().starts_with(b"\r\n") {
        return Err(malformed_line("the request line does not end with CRLF"));
    }
    let line = RequestLine::parse(line)?;
    let parts = target::check_target(&line.method, line.target)?;
    let fields = Fields::parse(head, line_len + 2)?;

    let at = |offset: usize| line.target_at + offset;
    let target_authority = parts.authority.map(|range| at(range.start)..at(range.end));
    let absolute_form = target_authority.is_some();
    let authority = fields.authority(head, line.version, target_authority)?;
    let framing = fields.framing(line.version)?;
    Ok(RequestFacts {
        version: line.version,
        raw_target: at(0)..at(line.target.len()),
        target: at(parts.start)..at(line.target.len()),
        path: at(parts.start)..at(parts.start + parts.path.path_len),
        absolute_form,
        authority,
        framing,
        keep_alive: fields.keep_alive(line.version),
        // RFC 9110 10.1.1: ignored on HTTP/1.0, and without content there is nothing to wait for.
        expect_continue: fields.expect && line.version == Version::Http11 && framing.has_body(),
        dot_segments: parts.path.dot_segments,
        fields: fields.count,
        method: line.method,
    })
}

/// Judges a method, of HTTP/1 or HTTP/2.
///
/// # Errors
/// `malformed_request_line` when it is not a token; `unsupported_method` for CONNECT, TRACE (in any case, because some
/// servers fold it) and names that are longer than any method.
pub fn check_method(name: &[u8]) -> Result<Method, Refusal> {
    if name.len() > MAX_METHOD {
        return Err(Refusal::new(Cause::UnsupportedMethod, "the method is longer than any method"));
    }
    if name.eq_ignore_ascii_case(b"CONNECT") || name.eq_ignore_ascii_case(b"TRACE") {
        return Err(Refusal::new(Cause::UnsupportedMethod, "CONNECT and TRACE are not served"));
    }
    Method::from_bytes(name).map_err(|_| malformed_line("the method is not a token"))
}

/// Judges the value of Expect. `Ok` means 100-continue.
///
/// # Errors
/// `unsupported_expectation` for anything else.
pub fn check_expect(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Refusal::new(Cause::UnsupportedExpectation, "Expect asks for something other than 100-continue"))
}

struct RequestLine<'a> {
    version: Version,
    method: Method,
    target: &'a [u8],
    target_at: usize,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Refusal> {
        let mut words = line.split(|octet| *octet == b' ');
        let (Some(name), Some(target), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(malformed_line("the request line is not three words with single spaces"));
        };
        if name.is_empty() || target.is_empty() {
            return Err(malformed_line("the request line lacks a method or a target"));
        }
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            other => return Err(bad_version(other)),
        };
        let method = check_method(name)?;
        Ok(RequestLine { version, method, target, target_at: name.len() + 1 })
    }
}

fn bad_version(version: &[u8]) -> Refusal {
    let numbers = match version.get(..5) {
        Some(name) if name.eq_ignore_ascii_case(b"HTTP/") => version.get(5..).unwrap_or_default(),
        Some(_) | None => b"",
    };
    match numbers {
        [b'0'..=b'9'] | [b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Refusal::new(Cause::UnsupportedVersion, "the version is not HTTP/1.0 or HTTP/1.1")
        }
        _ => malformed_line("the request line does not end with a version"),
    }
}

/// What is kept of the fields while the head is read.
#[derive(Default)]
struct Fields {
    count: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    expect: bool,
    close: bool,
    stay: bool,
    options: usize,
}

impl Fields {
    /// Reads field lines from `start` to the end of the head.
    fn parse(head: &[u8], start: usize) -> Result<Self, Refusal> {
        let mut fields = Fields::default();
        let mut at = start;
        loop {
            let rest = head.get(at..).unwrap_or_default();
            match rest {
                [b'\r', b'\n'] => return Ok(fields),
                [b'\r', ..] => return Err(malformed_field("the head does not end with its empty line")),
                _ => {}
            }
            let name_len = token_len(rest);
            let (name, after) = rest.split_at_checked(name_len).unwrap_or((rest, b""));
            let [b':', text @ ..] = after else { return Err(missing_colon(name, after)) };
            let text_len = text_len(text);
            let (text, after) = text.split_at_checked(text_len).unwrap_or((text, b""));
            let [b'\r', b'\n', ..] = after else { return Err(missing_line_end(after)) };
            if name.is_empty() {
                return Err(malformed_field("a field without a name"));
            }
            fields.count += 1;
            if fields.count > MAX_FIELDS || name_len > MAX_NAME {
                return Err(Refusal::new(Cause::HeaderTooLarge, "too many fields or too long a field name"));
            }
            fields.read(name, text, at + name_len + 1)?;
            at += name_len + 1 + text_len + 2;
        }
    }

    /// Takes note of one field; `text_at` is the offset of `text`, the untrimmed value.
    fn read(&mut self, name: &[u8], text: &[u8], text_at: usize) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.read_host(text, text_at),
            6 if name.eq_ignore_ascii_case(b"expect") => self.read_expect(trim(text)),
            10 if name.eq_ignore_ascii_case(b"connection") => self.read_connection(text),
            14 if is_named(name, b"content-length") => self.read_length(name, trim(text)),
            17 if is_named(name, b"transfer-encoding") => self.read_coding(name, trim(text)),
            _ => Ok(()),
        }
    }

    fn read_host(&mut self, text: &[u8], text_at: usize) -> Result<(), Refusal> {
        if self.host.is_some() {
            return Err(invalid_host("more than one Host"));
        }
        let value = trim(text);
        authority::check_authority(value)?;
        let start = text_at + (text.len() - text.trim_ascii_start().len());
        self.host = Some(start..start + value.len());
        Ok(())
    }

    fn read_expect(&mut self, value: &[u8]) -> Result<(), Refusal> {
        check_expect(value)?;
        if self.expect {
            return Err(Refusal::new(Cause::UnsupportedExpectation, "more than one Expect"));
        }
        self.expect = true;
        Ok(())
    }

    fn read_connection(&mut self, text: &[u8]) -> Result<(), Refusal> {
        for option in super::octets::list(text) {
            self.options += 1;
            if self.options > hop::MAX_OPTIONS {
                return Err(malformed_field("more than 16 connection options"));
            }
            match hop::ConnectionOption::of(option) {
                Some(hop::ConnectionOption::Close) => self.close = true,
                Some(hop::ConnectionOption::KeepAlive) => self.stay = true,
                Some(hop::ConnectionOption::Name) => {}
                Some(hop::ConnectionOption::Protected) => {
                    return Err(malformed_field("Connection names a field that must not be removed"));
                }
                None => return Err(malformed_field("a connection option is not a token")),
            }
        }
        Ok(())
    }

    fn read_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        refuse_underscore(name)?;
        if self.length.is_some() {
            return Err(ambiguous("more than one Content-Length"));
        }
        self.length = Some(content_length(value).ok_or(ambiguous("Content-Length is not one number"))?);
        Ok(())
    }

    fn read_coding(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        refuse_underscore(name)?;
        if self.chunked {
            return Err(ambiguous("more than one Transfer-Encoding"));
        }
        if !is_chunked(value) {
            return Err(ambiguous("Transfer-Encoding is not exactly chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    fn authority(
        &self,
        head: &[u8],
        version: Version,
        of_target: Option<Range<usize>>,
    ) -> Result<Option<Range<usize>>, Refusal> {
        if self.host.is_none() && version == Version::Http11 {
            return Err(invalid_host("HTTP/1.1 without Host"));
        }
        let (Some(host), Some(target)) = (&self.host, &of_target) else {
            return Ok(of_target.or_else(|| self.host.clone()));
        };
        let bytes = |range: &Range<usize>| head.get(range.clone()).unwrap_or_default();
        if !authority::equal(bytes(host), bytes(target)) {
            return Err(invalid_host("Host differs from the target's authority"));
        }
        Ok(of_target)
    }

    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.length, self.chunked, version) {
            (Some(_), true, _) => Err(ambiguous("both Content-Length and Transfer-Encoding")),
            (None, true, Version::Http10) => Err(ambiguous("Transfer-Encoding on HTTP/1.0")),
            (None, true, Version::Http11) => Ok(Framing::Chunked),
            (Some(length), false, _) => Ok(Framing::Length(length)),
            (None, false, _) => Ok(Framing::None),
        }
    }

    fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.stay && !self.close,
        }
    }
}

/// Equal in any case, an underscore counting as a hyphen: gateways of the CGI kind cannot tell the two apart.
fn is_named(name: &[u8], lower: &[u8]) -> bool {
    let fold = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    name.iter().map(fold).eq(lower.iter().copied())
}

fn refuse_underscore(name: &[u8]) -> Result<(), Refusal> {
    if name.contains(&b'_') {
        return Err(ambiguous("a framing field spelled with an underscore"));
    }
    Ok(())
}

fn missing_colon(name: &[u8], after: &[u8]) -> Refusal {
    malformed_field(match (name, after) {
        (_, []) => "the head ends inside a field line",
        ([], [byte, ..]) => bad_field_start(*byte),
        (_, [byte, ..]) => bad_name(*byte),
    })
}

fn missing_line_end(after: &[u8]) -> Refusal {
    malformed_field(match after {
        [] => "the head ends inside a field line",
        [b'\r', ..] => "bare CR in a field value",
        [byte, ..] => bad_value(*byte),
    })
}

const fn malformed_line(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::MalformedRequestLine, evidence)
}

const fn malformed_field(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::MalformedHeader, evidence)
}

const fn invalid_host(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::InvalidHost, evidence)
}

const fn ambiguous(evidence: &'static str) -> Refusal {
    Refusal::new(Cause::AmbiguousFraming, evidence)
}

#[cfg(test)]
#[path = "request_head_tests.rs"]
mod tests;
