//! What a whole request head says, in one pass over its bytes; the strict reading that the codec's must agree with.
//!
//! The request line is read here, the fields in [`super::request_fields`], the target in [`super::target`].
//!
//! Refuses whatever two servers could read in two ways (RFC 9112 11.2, request smuggling): framing, host, target,
//! field syntax. It knows no route and no limit but the codec's own. The bytes come from [`super::request_scanner`], but it
//! does not lean on that: every rule holds for any bytes. Facts are offsets into the head; nothing is copied.

use std::borrow::Cow;
use std::ops::Range;

use http::Method;

use super::ascii_class::field_text_len;
pub use super::framing::RequestFraming;
use super::request_fields::RequestFields;
use super::request_scanner::MAX_METHOD_LEN;
use super::{Rejection, target};
use crate::contract::Cause;

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
pub struct RequestHead {
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
    pub framing: RequestFraming,
    /// The client wants to keep the connection.
    pub keep_alive: bool,
    /// The client waits for a 100 before it sends its body.
    pub expect_continue: bool,
    /// GET on HTTP/1.1 without a body, whose `Connection` names `Upgrade`: the only kind that may change protocols. What
    /// follows another head is a body or a request, and never the beginning of something else.
    pub upgrade_requested: bool,
    /// `Connection` names fields: see [`super::hop_by_hop::ConnectionOptions`].
    pub names_connection_fields: bool,
    /// There is a `Via`: the request came through another gateway.
    pub has_via: bool,
    /// `Authorization` names a scheme that authenticates the connection: see [`super::authentication`].
    pub binds_connection: bool,
    /// The path has dot segments: refuse with `ambiguous_path` unless the route is lenient.
    pub dot_segments: bool,
    /// How many fields there are; at most [`super::MAX_FIELDS`].
    pub field_count: usize,
}

impl RequestHead {
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
pub fn parse(head: &[u8]) -> Result<RequestHead, Rejection> {
    let line_len = field_text_len(head);
    let line = head.get(..line_len).unwrap_or_default();
    if !head.get(line_len..).unwrap_or_default().starts_with(b"\r\n") {
        return Err(malformed_request_line("the request line does not end with CRLF"));
    }
    let line = RequestLine::parse(line)?;
    let parts = target::check_target(&line.method, line.target)?;
    let fields = RequestFields::parse(head, line_len + 2)?;

    let at = |offset: usize| line.target_offset + offset;
    let target_authority = parts.authority.map(|range| at(range.start)..at(range.end));
    let absolute_form = target_authority.is_some();
    let authority = fields.authority(head, line.version, target_authority)?;
    let framing = fields.framing(line.version)?;
    Ok(RequestHead {
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
        upgrade_requested: fields.upgrade
            && line.version == Version::Http11
            && line.method == Method::GET
            && !framing.has_body(),
        names_connection_fields: fields.names_fields,
        has_via: fields.via,
        binds_connection: fields.binds_connection,
        dot_segments: parts.path.dot_segments,
        field_count: fields.count,
        method: line.method,
    })
}

/// Judges a method, of HTTP/1 or HTTP/2.
///
/// # Errors
/// `malformed_request_line` when it is not a token; `unsupported_method` for CONNECT, TRACE (in any case, because some
/// servers fold it) and names that are longer than any method.
pub fn check_method(name: &[u8]) -> Result<Method, Rejection> {
    if name.len() > MAX_METHOD_LEN {
        return Err(Rejection::new(Cause::UnsupportedMethod, "the method is longer than any method"));
    }
    if name.eq_ignore_ascii_case(b"CONNECT") || name.eq_ignore_ascii_case(b"TRACE") {
        return Err(Rejection::new(Cause::UnsupportedMethod, "CONNECT and TRACE are not served"));
    }
    Method::from_bytes(name).map_err(|_| malformed_request_line("the method is not a token"))
}

/// Judges the value of Expect. `Ok` means 100-continue.
///
/// # Errors
/// `unsupported_expectation` for anything else.
pub fn check_expect(value: &[u8]) -> Result<(), Rejection> {
    if value.eq_ignore_ascii_case(b"100-continue") {
        return Ok(());
    }
    Err(Rejection::new(Cause::UnsupportedExpectation, "Expect asks for something other than 100-continue"))
}

struct RequestLine<'a> {
    version: Version,
    method: Method,
    target: &'a [u8],
    target_offset: usize,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Rejection> {
        let name_len = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
        let (name, rest) = line.split_at_checked(name_len).unwrap_or((line, b""));
        let (target, version) = match rest {
            [b' ', target @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'] => {
                (target, Version::Http11)
            }
            [b' ', target @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'] => {
                (target, Version::Http10)
            }
            _ => return Err(request_line_error(rest)),
        };
        if name.is_empty() || target.is_empty() || target.contains(&b' ') {
            return Err(malformed_request_line("the request line is not three words with single spaces"));
        }
        let method = check_method(name)?;
        Ok(RequestLine { version, method, target, target_offset: name.len() + 1 })
    }
}

/// What is wrong with a line that does not end with one of our versions; `rest` is what follows its first word.
fn request_line_error(rest: &[u8]) -> Rejection {
    match rest.split(|octet| *octet == b' ').collect::<Vec<_>>()[..] {
        [b"", target, version] if !target.is_empty() => version_error(version),
        _ => malformed_request_line("the request line is not three words with single spaces"),
    }
}

fn version_error(version: &[u8]) -> Rejection {
    let numbers = match version.get(..5) {
        Some(name) if name.eq_ignore_ascii_case(b"HTTP/") => version.get(5..).unwrap_or_default(),
        Some(_) | None => b"",
    };
    match numbers {
        [b'0'..=b'9'] | [b'0'..=b'9', b'.', b'0'..=b'9'] => {
            Rejection::new(Cause::UnsupportedVersion, "the version is not HTTP/1.0 or HTTP/1.1")
        }
        _ => malformed_request_line("the request line does not end with a version"),
    }
}

const fn malformed_request_line(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::MalformedRequestLine, evidence)
}

#[cfg(test)]
#[path = "request_head_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
