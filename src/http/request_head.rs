//! Parses a complete request header section (request line and fields) strictly, in one pass.
//!
//! The request line is parsed here, the fields in [`super::request_fields`], the target in [`super::target`].
//!
//! Anything that servers could interpret differently is rejected (RFC 9112 11.2, request smuggling): framing,
//! host, target, field syntax. The codec's parser must agree with the result. The bytes come from
//! [`super::request_scanner`], but every rule is checked here again. Results are offsets into the input; nothing is
//! copied.

use std::borrow::Cow;
use std::ops::Range;

use http::Method;

use super::ascii_class::{field_text_len, is_token};
pub use super::framing::RequestFraming;
use super::request_fields::RequestFields;
pub(crate) use super::request_fields::check_expect;
use super::request_scanner::MAX_METHOD_LEN;
pub use super::target::Ambiguity;
use super::target::TargetParts;
pub use super::version::Version;
use super::{Rejection, target};
use crate::contract::Cause;

/// A parsed request header section. Ranges are offsets into the parsed bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The version, as far as it matters.
    pub version: Version,
    /// The method, never CONNECT or TRACE.
    pub method: Method,
    /// The complete request target.
    pub raw_target: Range<usize>,
    /// Path and query of the target. For an absolute-form target without a path it is empty or starts with `?`, so use
    /// [`Self::origin_form`].
    pub target: Range<usize>,
    /// The path without the query. Empty for an absolute-form target without a path.
    pub path: Range<usize>,
    /// The target is in absolute form.
    pub absolute_form: bool,
    /// Host, else the authority of the target: the two name the same host and port. Always present in HTTP/1.1.
    pub authority: Option<Range<usize>>,
    /// The framing of the body.
    pub framing: RequestFraming,
    /// The client allows further requests on the connection.
    pub keep_alive: bool,
    /// The client waits for a 100 (Continue) response before it sends the body.
    pub expect_continue: bool,
    /// An HTTP/1.1 request whose `Connection` names `Upgrade`. [`super::upgrade`] decides which protocols it may
    /// request.
    pub upgrade_requested: bool,
    /// `Connection` names fields to remove: see [`super::hop_by_hop::ConnectionOptions`].
    pub has_connection_options: bool,
    /// The request has a `Via` field: it passed through another intermediary.
    pub has_via: bool,
    /// `Authorization` has a scheme that authenticates the connection: see [`super::authentication`].
    pub authenticates_connection: bool,
    /// Why the path is rejected with `ambiguous_path`, unless the route has `paths: lenient`.
    pub ambiguity: Option<Ambiguity>,
    /// HTTP/2 can carry the target. If not, only an upstream that uses HTTP/1 can receive the request.
    pub target_fits_http2: bool,
    /// The number of fields.
    pub field_count: usize,
}

impl RequestHead {
    /// The target in origin form, as sent to the upstream. `head` is the parsed input.
    pub fn origin_form<'a>(&self, head: &'a [u8]) -> Cow<'a, [u8]> {
        match head.get(self.target.clone()).unwrap_or_default() {
            // RFC 9112 3.2.4: OPTIONS with an empty path applies to the server as a whole.
            [] if self.method == Method::OPTIONS => Cow::Borrowed(b"*"),
            [] => Cow::Borrowed(b"/"),
            query @ [b'?', ..] => Cow::Owned([b"/", query].concat()),
            target => Cow::Borrowed(target),
        }
    }

    /// The path for routing, before [`super::path::normalise`]; never empty.
    pub fn path<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        match head.get(self.path.clone()).unwrap_or_default() {
            [] => b"/",
            path => path,
        }
    }

    /// The bytes of the authority; empty if an HTTP/1.0 request has none.
    pub fn authority<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        self.authority.clone().and_then(|range| head.get(range)).unwrap_or_default()
    }
}

/// A rejected header section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RejectedHead {
    /// The first violated rule.
    pub(crate) rejection: Rejection,
    /// How the request ends, if no reader can disagree about that: then another request may follow.
    pub(crate) framing: Option<KnownFraming>,
}

/// What a rejected request says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownFraming {
    /// The version.
    pub(crate) version: Version,
    /// The framing of the body.
    pub(crate) framing: RequestFraming,
    /// The client allows further requests on the connection.
    pub(crate) keep_alive: bool,
    /// The client waits for an interim response before it sends the body, whatever it expects.
    pub(crate) expect_continue: bool,
}

impl From<Rejection> for RejectedHead {
    fn from(rejection: Rejection) -> Self {
        RejectedHead { rejection, framing: None }
    }
}

/// Parses a complete header section, from the request line up to and including the empty line.
///
/// # Errors
/// The first violated rule, in the order of the bytes; rules about several fields come last.
pub fn parse(head: &[u8]) -> Result<RequestHead, Rejection> {
    parse_with_framing(head).map_err(|rejected| rejected.rejection)
}

/// Like [`parse`]. An error says how the request ends, if only its meaning is invalid.
pub(crate) fn parse_with_framing(head: &[u8]) -> Result<RequestHead, RejectedHead> {
    let line_len = field_text_len(head);
    let line = head.get(..line_len).unwrap_or_default();
    if !head.get(line_len..).unwrap_or_default().starts_with(b"\r\n") {
        return Err(malformed_request_line("the request line does not end with CRLF").into());
    }
    let line = RequestLine::parse(line)?;
    let target = line.check();
    let fields = match RequestFields::parse(head, line_len + 2) {
        Ok(fields) => fields,
        Err(rejection) => return Err(target.err().unwrap_or(rejection).into()),
    };
    let framing = fields.framing(line.version);
    let rejected =
        |rejection| RejectedHead { rejection, framing: known_framing(&line, &fields, framing.ok()) };
    let (method, parts) = target.map_err(rejected)?;
    if let Some(rejection) = fields.rejection {
        return Err(rejected(rejection));
    }

    let at = |offset: usize| line.target_offset + offset;
    let target_authority = parts.authority.map(|range| at(range.start)..at(range.end));
    let absolute_form = target_authority.is_some();
    let authority =
        fields.authority(head, line.version, target_authority, parts.default_port).map_err(rejected)?;
    let framing = framing?;
    Ok(RequestHead {
        version: line.version,
        raw_target: at(0)..at(line.target.len()),
        target: at(parts.start)..at(line.target.len()),
        path: at(parts.start)..at(parts.start + parts.path.path_len),
        absolute_form,
        authority,
        framing,
        keep_alive: fields.keep_alive(line.version),
        // RFC 9110 10.1.1: ignored in HTTP/1.0 requests and in requests without content.
        expect_continue: fields.expect && line.version == Version::Http11 && framing.has_body(),
        upgrade_requested: fields.upgrade && line.version == Version::Http11,
        has_connection_options: fields.names_fields,
        has_via: fields.via,
        authenticates_connection: fields.authenticates_connection,
        ambiguity: parts.path.ambiguity,
        target_fits_http2: parts.path.target_fits_http2,
        field_count: fields.count,
        method,
    })
}

/// How a rejected request ends. Unknown after CONNECT: the client may already send bytes for the tunnel.
fn known_framing(
    line: &RequestLine<'_>,
    fields: &RequestFields,
    framing: Option<RequestFraming>,
) -> Option<KnownFraming> {
    let framing = framing.filter(|_| !line.method.eq_ignore_ascii_case(b"CONNECT"))?;
    Some(KnownFraming {
        version: line.version,
        framing,
        keep_alive: fields.keep_alive(line.version),
        expect_continue: fields.expect && framing.has_body(),
    })
}

/// Validates an HTTP/1 or HTTP/2 method.
///
/// # Errors
/// `malformed_request_line` if it is not a token; `unsupported_method` for CONNECT and TRACE (case-insensitive, because
/// some servers ignore case) and for names longer than [`MAX_METHOD_LEN`].
pub(crate) fn check_method(name: &[u8]) -> Result<Method, Rejection> {
    if name.len() > MAX_METHOD_LEN {
        return Err(Rejection::new(Cause::UnsupportedMethod, "the method is longer than 32 bytes"));
    }
    if name.eq_ignore_ascii_case(b"CONNECT") || name.eq_ignore_ascii_case(b"TRACE") {
        return Err(Rejection::new(Cause::UnsupportedMethod, "CONNECT and TRACE are not supported"));
    }
    Method::from_bytes(name).map_err(|_| malformed_request_line("the method is not a token"))
}

struct RequestLine<'a> {
    version: Version,
    method: &'a [u8],
    target: &'a [u8],
    target_offset: usize,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<Self, Rejection> {
        let name_len = line.iter().position(|octet| *octet == b' ').unwrap_or(line.len());
        let (method, rest) = line.split_at_checked(name_len).unwrap_or((line, b""));
        let (target, version) = match rest {
            [b' ', target @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => {
                (target, Version::Http11)
            }
            [b' ', target @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'] => {
                (target, Version::Http10)
            }
            _ => return Err(request_line_error(rest)),
        };
        // Lenient servers also separate the parts with tabs.
        if method.is_empty() || target.is_empty() || target.iter().any(|octet| matches!(octet, b' ' | b'\t'))
        {
            return Err(malformed_request_line("the request line is not 3 parts separated by single spaces"));
        }
        if !is_token(method) {
            return Err(malformed_request_line("the method is not a token"));
        }
        Ok(RequestLine { version, method, target, target_offset: method.len() + 1 })
    }

    fn check(&self) -> Result<(Method, TargetParts), Rejection> {
        let method = check_method(self.method)?;
        let parts = target::check_target(&method, self.target)?;
        Ok((method, parts))
    }
}

/// Returns the error of a request line that does not end with a supported version; `rest` follows the method.
fn request_line_error(rest: &[u8]) -> Rejection {
    match rest.split(|octet| *octet == b' ').collect::<Vec<_>>()[..] {
        [b"", target, version] if !target.is_empty() => version_error(version),
        _ => malformed_request_line("the request line is not 3 parts separated by single spaces"),
    }
}

fn version_error(version: &[u8]) -> Rejection {
    // The name of the protocol is case-sensitive (RFC 9112 2.3).
    match version.strip_prefix(b"HTTP/") {
        Some([b'0' | b'2'..=b'9'] | [b'0' | b'2'..=b'9', b'.', b'0'..=b'9']) => {
            Rejection::new(Cause::UnsupportedVersion, "the major version is not 1")
        }
        Some(_) | None => malformed_request_line("the request line does not end with an HTTP version"),
    }
}

const fn malformed_request_line(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::MalformedRequestLine, evidence)
}

#[cfg(test)]
#[path = "request_head_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
