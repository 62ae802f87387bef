//! Hop-by-hop header fields: connection-specific fields, and those named in `Connection` (RFC 9110 7.6.1).
//!
//! All decisions depend on field names only. Framing fields ([`is_framing_name`]) are not copied either: they are
//! written from the parsed values. `Upgrade` is removed and written again for allowed protocols ([`super::upgrade`]).

use http::HeaderName;

use super::ascii_class::{is_token, list_elements};
use super::forwarded::is_forwarded_name;

/// Whether the field is connection-specific and never forwarded.
///
/// Includes `TE`, even with the value `trailers`: the gateway negotiates trailers with the next hop itself.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    is_hop_by_hop_name(name.as_str().as_bytes())
}

/// Whether the field is Content-Length or Transfer-Encoding: written from the parsed framing, never copied.
pub(crate) fn is_framing_name(name: &[u8]) -> bool {
    match name.len() {
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

/// Whether the field is allowed in a response trailer section: framing and connection-specific fields are not (RFC
/// 9110, section 6.5.1).
pub(crate) fn is_allowed_in_trailers(name: &[u8]) -> bool {
    !is_hop_by_hop_name(name) && !is_framing_name(name)
}

/// Whether the field is allowed in a request trailer section. Fields for routing, identity and authorization are not: a
/// server that merges trailers into the header section would trust them.
pub(crate) fn is_allowed_in_request_trailers(name: &[u8]) -> bool {
    // CGI-like servers do not distinguish underscores from hyphens.
    let fold = |octet: &u8| if *octet == b'_' { b'-' } else { octet.to_ascii_lowercase() };
    let is_request_id = || name.iter().map(fold).eq(*b"x-request-id");
    is_allowed_in_trailers(name)
        && !is_protected(name)
        && !is_request_control(name)
        && !is_forwarded_name(name)
        && !is_request_id()
}

/// Like [`is_hop_by_hop`], for a name in any case. Matches the length first, which excludes most names.
fn is_hop_by_hop_name(name: &[u8]) -> bool {
    let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
    match name.len() {
        2 => is(b"te"),
        7 => is(b"upgrade") || is(b"trailer"),
        10 => is(b"connection") || is(b"keep-alive"),
        14 => is(b"http2-settings"),
        16 => is(b"proxy-connection"),
        17 => is(b"transfer-encoding"),
        18 => is(b"proxy-authenticate"),
        19 => is(b"proxy-authorization"),
        _ => false,
    }
}

/// Whether a request is malformed if `Connection` names this field: framing, routing, authorization, client address.
/// Other fields are removed like any hop-by-hop field.
///
/// Two readers disagree about the length of a body if only one of them removes Transfer-Encoding.
pub(crate) fn is_protected(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"host")
        || name.eq_ignore_ascii_case(b"authorization")
        || is_framing_name(name)
        || is_x_forwarded(name)
}

/// Whether the field is about the request as a whole, so that it has no place in its trailer section.
fn is_request_control(name: &[u8]) -> bool {
    let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
    match name.len() {
        3 => is(b"via"),
        6 => is(b"cookie") || is(b"expect") || is(b"origin"),
        9 => is(b"forwarded") || is(b"x-real-ip"),
        11 => is(b"traceparent"),
        12 => is(b"content-type"),
        16 => is(b"content-encoding"),
        _ => false,
    }
}

fn is_x_forwarded(name: &[u8]) -> bool {
    name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
}

/// One option of a `Connection` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionOption {
    /// `close`.
    Close,
    /// `keep-alive`.
    KeepAlive,
    /// The name of a field to remove, if the message has it.
    FieldName,
    /// The name of a field that must not be removed.
    Protected,
}

impl ConnectionOption {
    /// Parses one option (trimmed, not empty); `None` if it is not a token.
    pub(crate) fn parse(option: &[u8]) -> Option<Self> {
        if option.eq_ignore_ascii_case(b"close") {
            Some(ConnectionOption::Close)
        } else if option.eq_ignore_ascii_case(b"keep-alive") {
            Some(ConnectionOption::KeepAlive)
        } else if !is_token(option) {
            None
        } else if is_protected(option) {
            Some(ConnectionOption::Protected)
        } else {
            Some(ConnectionOption::FieldName)
        }
    }
}

/// The additional field names in the `Connection` of a message. Empty for most messages, which then allocate nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionOptions<'a> {
    /// Sorted: a header section may name thousands of fields, and have thousands.
    names: Vec<&'a [u8]>,
}

impl<'a> ConnectionOptions<'a> {
    /// Parses the values of all `Connection` fields of a message.
    ///
    /// Omits hop-by-hop fields, which are always removed, and protected fields: a request that names one was already
    /// rejected, and a response cannot remove its framing.
    pub(crate) fn from_values(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let names_field = |option: &&[u8]| {
            ConnectionOption::parse(option) == Some(ConnectionOption::FieldName)
                && !is_hop_by_hop_name(option)
        };
        let mut names: Vec<&[u8]> = values.into_iter().flat_map(list_elements).filter(names_field).collect();
        names.sort_unstable_by(|a, b| compare_names(a, b));
        ConnectionOptions { names }
    }

    /// Whether to remove this field when forwarding the message: it is hop-by-hop or named in `Connection`.
    pub(crate) fn removes_name(&self, name: &[u8]) -> bool {
        is_hop_by_hop_name(name) || (!self.names.is_empty() && self.contains(name))
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.names.binary_search_by(|named| compare_names(named, name)).is_ok()
    }
}

/// Orders field names, in any case.
fn compare_names(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
#[path = "hop_by_hop_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
