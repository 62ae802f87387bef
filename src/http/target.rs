//! Validates the request target and locates its parts.
//!
//! The target is not changed: the upstream receives the original bytes. Targets that servers could interpret
//! differently are rejected. Some of these are only reported, because a route may allow them (`paths: lenient`): see
//! [`Ambiguity`]. [`super::path`] normalises the path for routing.

use std::ops::Range;

use http::Method;

use super::ascii_class::{
    BACKSLASH, DOT, HIGH, NOT_H2_QUERY, NOT_PATH, NOT_QUERY, PERCENT, class_bits_in, decode_hex_pair,
};
use super::{Rejection, authority};
use crate::contract::Cause;

/// Maximum length of a target in bytes, a limit of the codec's URI type.
pub(crate) const MAX_TARGET_LEN: usize = 65_534;

/// Facts about a valid path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathInfo {
    /// Length of the path in bytes; the query, if any, follows with its `?`.
    pub path_len: usize,
    /// Why only a route with `paths: lenient` accepts the path.
    pub ambiguity: Option<Ambiguity>,
    /// HTTP/2 can carry the target: the HTTP/2 library's URI type represents its bytes.
    pub target_fits_http2: bool,
}

/// What servers interpret differently in a path, and only a route with `paths: lenient` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// A segment `.` or `..`. This includes `%2e`, encoded slashes (`..%2f`) and path parameters (`..;x`), because some
    /// servers decode or remove those before they resolve dot segments.
    DotSegments,
    /// `%5C`, which some servers decode and treat as a slash.
    EncodedBackslash,
    /// An encoded control octet other than NUL, which ends a text for some servers.
    EncodedControl,
}

impl Ambiguity {
    /// What a text has, for a sentence about it.
    pub(crate) const fn short_evidence(self) -> &'static str {
        match self {
            Ambiguity::DotSegments => "has dot segments",
            Ambiguity::EncodedBackslash => "has an encoded backslash",
            Ambiguity::EncodedControl => "has an encoded control byte",
        }
    }

    /// The text for the log.
    pub(crate) const fn evidence(self) -> &'static str {
        match self {
            Ambiguity::DotSegments => "the path has dot segments",
            Ambiguity::EncodedBackslash => "an encoded backslash in the path",
            Ambiguity::EncodedControl => "an encoded control byte in the path",
        }
    }
}

impl PathInfo {
    /// The facts about the asterisk-form target, which has no path.
    pub(crate) const ASTERISK: PathInfo = PathInfo { path_len: 1, ambiguity: None, target_fits_http2: true };
}

/// The parts of a request target, as offsets into the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetParts {
    /// The authority of an absolute-form target.
    pub(super) authority: Option<Range<usize>>,
    /// The port that the scheme of an absolute-form target implies.
    pub(super) default_port: Option<u16>,
    /// The start of path and query.
    pub(super) start: usize,
    /// Facts about the path.
    pub(super) path: PathInfo,
}

/// Validates an origin-form target: path and query, as in the HTTP/2 `:path`.
///
/// # Errors
/// `malformed_request_line` if it does not start with `/` or has bytes that are invalid in a target; `uri_too_long`;
/// `ambiguous_path` for a backslash, an encoded NUL, or an invalid percent-encoding in the path.
pub(crate) fn check_path(target: &[u8]) -> Result<PathInfo, Rejection> {
    if target.first() != Some(&b'/') {
        return Err(malformed("the target is not in origin form"));
    }
    if target.len() > MAX_TARGET_LEN {
        return Err(Rejection::new(Cause::UriTooLong, "the target is longer than 65,534 bytes"));
    }
    check_path_and_query(target)
}

/// Validates the target of an HTTP/1 request line.
pub(super) fn check_target(method: &Method, target: &[u8]) -> Result<TargetParts, Rejection> {
    if target.first() == Some(&b'/') {
        return Ok(TargetParts { authority: None, default_port: None, start: 0, path: check_path(target)? });
    }
    if target == b"*" {
        return match *method {
            Method::OPTIONS => {
                Ok(TargetParts { authority: None, default_port: None, start: 0, path: PathInfo::ASTERISK })
            }
            _ => Err(malformed("asterisk-form is only valid for OPTIONS")),
        };
    }
    if target.len() > MAX_TARGET_LEN {
        return Err(Rejection::new(Cause::UriTooLong, "the target is longer than 65,534 bytes"));
    }
    check_absolute(target)
}

fn check_absolute(target: &[u8]) -> Result<TargetParts, Rejection> {
    let Some((authority_start, default_port)) = scheme(target) else {
        return Err(malformed("the target is neither a path nor an http URI"));
    };
    let rest = target.get(authority_start..).unwrap_or_default();
    let length = rest.iter().position(|octet| matches!(octet, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (name, path_and_query) = rest.split_at_checked(length).unwrap_or((rest, b""));
    authority::check_authority(name)?;
    Ok(TargetParts {
        authority: Some(authority_start..authority_start + length),
        default_port: Some(default_port),
        start: authority_start + length,
        path: check_path_and_query(path_and_query)?,
    })
}

/// Length of a leading `http://` or `https://`, in any case, and its default port.
fn scheme(target: &[u8]) -> Option<(usize, u16)> {
    [(&b"http://"[..], 80), (b"https://", 443)]
        .into_iter()
        .find(|(scheme, _)| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .map(|(scheme, port)| (scheme.len(), port))
}

fn check_path_and_query(target: &[u8]) -> Result<PathInfo, Rejection> {
    let path_len = target.iter().position(|octet| *octet == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at_checked(path_len).unwrap_or((target, b""));
    let path_classes = class_bits_in(path);
    let query_classes = class_bits_in(query);
    if path_classes & NOT_PATH != 0 || query_classes & NOT_QUERY != 0 {
        return Err(malformed("the target has a byte that must be percent-encoded"));
    }
    // Servers interpret such a path differently. A query is opaque to everyone but the application.
    if path_classes & HIGH != 0 && std::str::from_utf8(path).is_err() {
        return Err(malformed("the path has raw bytes that are not UTF-8"));
    }
    if path_classes & BACKSLASH != 0 {
        return Err(ambiguous("a backslash in the path"));
    }
    let encoded = if path_classes & PERCENT != 0 { check_percent_encodings(path)? } else { None };
    let dot_segments = path_classes & (DOT | PERCENT) != 0 && has_dot_segment(path);
    let ambiguity = if dot_segments { Some(Ambiguity::DotSegments) } else { encoded };
    let target_fits_http2 = query_classes & NOT_H2_QUERY == 0
        && (query_classes & HIGH == 0 || std::str::from_utf8(query).is_ok());
    Ok(PathInfo { path_len, ambiguity, target_fits_http2 })
}

/// Checks that every `%` is followed by 2 hexadecimal digits that do not encode NUL. Returns the first encoded control
/// byte or backslash.
fn check_percent_encodings(path: &[u8]) -> Result<Option<Ambiguity>, Rejection> {
    let mut found = None;
    let mut rest = path;
    while let Some(at) = rest.iter().position(|octet| *octet == b'%') {
        let Some([_, high, low, after @ ..]) = rest.get(at..) else {
            return Err(ambiguous("an invalid percent-encoding in the path"));
        };
        match decode_hex_pair(*high, *low) {
            None => return Err(ambiguous("an invalid percent-encoding in the path")),
            Some(0) => return Err(ambiguous("an encoded NUL in the path")),
            Some(1..=0x1f | 0x7f) => found = found.or(Some(Ambiguity::EncodedControl)),
            Some(b'\\') => found = found.or(Some(Ambiguity::EncodedBackslash)),
            Some(_) => {}
        }
        rest = after;
    }
    Ok(found)
}

fn has_dot_segment(path: &[u8]) -> bool {
    /// The segment is not a dot segment, whatever follows.
    const OTHER: u8 = 3;
    let mut rest = path;
    // The number of dots of the current segment, or OTHER.
    let mut dots = OTHER;
    loop {
        let is_dot_segment = matches!(dots, 1 | 2);
        rest = match rest {
            [] => return is_dot_segment,
            [b'/', after @ ..] | [b'%', b'2', b'f' | b'F', after @ ..] => {
                if is_dot_segment {
                    return true;
                }
                dots = 0;
                after
            }
            [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] => {
                dots = OTHER.min(dots + 1);
                after
            }
            [b';', ..] if is_dot_segment => return true,
            [_, after @ ..] => {
                dots = OTHER;
                after
            }
        };
    }
}

const fn malformed(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::MalformedRequestLine, evidence)
}

const fn ambiguous(evidence: &'static str) -> Rejection {
    Rejection::new(Cause::AmbiguousPath, evidence)
}

#[cfg(test)]
#[path = "target_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
