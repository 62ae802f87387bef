//! Validates the request target and locates its parts.
//!
//! The target is not changed: the upstream receives the original bytes. Targets that servers could interpret
//! differently are rejected. Dot segments are only reported, because a route may allow them (`paths: lenient`).
//! [`super::path`] normalises the path for routing.

use std::ops::Range;

use http::Method;

use super::ascii_class::{
    BACKSLASH, DOT, HIGH, NOT_PATH, NOT_QUERY, PERCENT, class_bits_in, decode_hex_pair,
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
    /// The path has a segment `.` or `..`. This includes `%2e`, encoded slashes (`..%2f`) and path parameters (`..;x`),
    /// because some servers decode or remove those before they resolve dot segments.
    pub dot_segments: bool,
}

/// The parts of a request target, as offsets into the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetParts {
    /// The authority of an absolute-form target.
    pub(super) authority: Option<Range<usize>>,
    /// The start of path and query.
    pub(super) start: usize,
    /// Facts about the path.
    pub(super) path: PathInfo,
}

/// Validates an origin-form target: path and query, as in the HTTP/2 `:path`.
///
/// # Errors
/// `malformed_request_line` if it does not start with `/` or has bytes that are invalid in a target; `uri_too_long`;
/// `ambiguous_path` for a backslash, an encoded control byte or backslash, or an invalid percent-encoding in the path.
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
        return Ok(TargetParts { authority: None, start: 0, path: check_path(target)? });
    }
    if target == b"*" {
        return match *method {
            Method::OPTIONS => {
                let path = PathInfo { path_len: 1, dot_segments: false };
                Ok(TargetParts { authority: None, start: 0, path })
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
    let Some(authority_start) = scheme_len(target) else {
        return Err(malformed("the target is neither a path nor an http URI"));
    };
    let rest = target.get(authority_start..).unwrap_or_default();
    let length = rest.iter().position(|octet| matches!(octet, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (name, path_and_query) = rest.split_at_checked(length).unwrap_or((rest, b""));
    authority::check_authority(name)?;
    Ok(TargetParts {
        authority: Some(authority_start..authority_start + length),
        start: authority_start + length,
        path: check_path_and_query(path_and_query)?,
    })
}

/// Length of a leading `http://` or `https://`, in any case.
fn scheme_len(target: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
}

fn check_path_and_query(target: &[u8]) -> Result<PathInfo, Rejection> {
    let path_len = target.iter().position(|octet| *octet == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at_checked(path_len).unwrap_or((target, b""));
    let path_classes = class_bits_in(path);
    let query_classes = class_bits_in(query);
    if path_classes & NOT_PATH != 0 || query_classes & NOT_QUERY != 0 {
        return Err(malformed("the target has a byte that must be percent-encoded"));
    }
    // The codec would rewrite bytes that are not UTF-8, but the target must be forwarded unchanged.
    if (path_classes | query_classes) & HIGH != 0 && std::str::from_utf8(target).is_err() {
        return Err(malformed("the target has raw bytes that are not UTF-8"));
    }
    if path_classes & BACKSLASH != 0 {
        return Err(ambiguous("a backslash in the path"));
    }
    if path_classes & PERCENT != 0 {
        check_percent_encodings(path)?;
    }
    let dot_segments = path_classes & (DOT | PERCENT) != 0 && has_dot_segment(path);
    Ok(PathInfo { path_len, dot_segments })
}

/// Checks that every `%` is followed by 2 hexadecimal digits that do not encode a control byte or a backslash.
fn check_percent_encodings(path: &[u8]) -> Result<(), Rejection> {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|octet| *octet == b'%') {
        let Some([_, high, low, after @ ..]) = rest.get(at..) else {
            return Err(ambiguous("an invalid percent-encoding in the path"));
        };
        match decode_hex_pair(*high, *low) {
            None => return Err(ambiguous("an invalid percent-encoding in the path")),
            Some(0..=0x1f | 0x7f) => return Err(ambiguous("an encoded control byte in the path")),
            Some(b'\\') => return Err(ambiguous("an encoded backslash in the path")),
            Some(_) => rest = after,
        }
    }
    Ok(())
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
