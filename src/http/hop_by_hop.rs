//! What must not travel past this hop: the fields of one connection, and those that `Connection` names (RFC 9110 7.6.1).
//!
//! Decisions on names only. Framing fields are another matter: they are re-emitted from what was understood, and
//! [`is_framing`] names them. `Upgrade` is dropped too: what may be forwarded of it is said anew ([`super::upgrade`]).

use http::HeaderName;

use super::ascii_class::{is_token, list_elements};

/// Most options that `Connection` may have; real clients send up to three.
pub const MAX_CONNECTION_OPTIONS: usize = 16;

/// Whether the field belongs to one connection and is never relayed.
///
/// `TE` is among them, also when it says `trailers`: what we take from the next hop is ours to say.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    is_hop_by_hop_name(name.as_str().as_bytes())
}

/// Content-Length or Transfer-Encoding: written from what was understood, never copied.
pub fn is_framing(name: &HeaderName) -> bool {
    matches!(name.as_str(), "content-length" | "transfer-encoding")
}

/// The same as [`is_framing`] on bytes in any case.
pub fn is_framing_name(name: &[u8]) -> bool {
    match name.len() {
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}

/// Whether the field may stand behind a body: one that frames a message or belongs to one connection may not (RFC 9110
/// 6.5.1).
pub fn is_allowed_in_trailers(name: &[u8]) -> bool {
    !is_hop_by_hop_name(name) && !is_framing_name(name)
}

/// The same in a request, where fields that say who the client is, what it may do and whom it asks have no place there
/// either: a reader that merges trailers into the head would believe them.
pub fn is_allowed_in_request_trailers(name: &[u8]) -> bool {
    is_allowed_in_trailers(name) && !is_protected(name)
}

/// The same as [`is_hop_by_hop`] on bytes in any case. By length first: most names end there.
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

/// Names that `Connection` may not take away from the upstream: framing, routing, who the client is and may do.
///
/// The contract has Host, Content-Length, Authorization, X-Forwarded-*; the others are of the same kind.
pub fn is_protected(name: &[u8]) -> bool {
    let is = |lower: &[u8]| name.eq_ignore_ascii_case(lower);
    match name.len() {
        3 => is(b"via"),
        4 => is(b"host"),
        6 => is(b"cookie") || is(b"expect") || is(b"origin"),
        9 => is(b"forwarded") || is(b"x-real-ip"),
        12 => is(b"content-type") || is(b"x-request-id") || is_x_forwarded(name),
        11 => is(b"traceparent"),
        13 => is(b"authorization"),
        14 => is(b"content-length") || is_x_forwarded(name),
        16 => is(b"content-encoding") || is_x_forwarded(name),
        17 => is(b"transfer-encoding") || is_x_forwarded(name),
        _ => is_x_forwarded(name),
    }
}

fn is_x_forwarded(name: &[u8]) -> bool {
    name.get(..12).is_some_and(|start| start.eq_ignore_ascii_case(b"x-forwarded-"))
}

/// What one option of `Connection` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionOption {
    /// `close`.
    Close,
    /// `keep-alive`.
    KeepAlive,
    /// Another name: a field to be dropped, if there is one.
    FieldName,
    /// A field that must not be dropped.
    Protected,
}

impl ConnectionOption {
    /// Reads one option (trimmed, not empty); `None` when it is not a token.
    pub fn parse(option: &[u8]) -> Option<Self> {
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

/// The further fields that one message's `Connection` names; empty for almost every message, and without allocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionOptions<'a> {
    names: [&'a [u8]; MAX_CONNECTION_OPTIONS],
    count: usize,
}

impl<'a> ConnectionOptions<'a> {
    /// Reads the values of every `Connection` field of a message.
    ///
    /// What is dropped anyway is not kept, nor what must stay: in a request that was refused before, and an upstream
    /// cannot take its own framing away.
    ///
    /// # Errors
    /// A sentence for the log when more fields are named than any real message does.
    pub fn from_values(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, &'static str> {
        let mut options = ConnectionOptions::default();
        for option in values.into_iter().flat_map(list_elements) {
            let is_field_name = ConnectionOption::parse(option) == Some(ConnectionOption::FieldName);
            if !is_field_name || is_hop_by_hop_name(option) {
                continue;
            }
            let Some(slot) = options.names.get_mut(options.count) else {
                return Err("Connection names more than 16 fields");
            };
            *slot = option;
            options.count += 1;
        }
        Ok(options)
    }

    /// The one question to ask of each field while fields are copied: is it dropped?
    pub fn removes(&self, name: &HeaderName) -> bool {
        is_hop_by_hop(name) || (self.count > 0 && self.contains(name.as_str().as_bytes()))
    }

    /// The same as [`ConnectionOptions::removes`] on bytes in any case.
    pub fn removes_name(&self, name: &[u8]) -> bool {
        is_hop_by_hop_name(name) || (self.count > 0 && self.contains(name))
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.names.iter().take(self.count).any(|named| named.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
#[path = "hop_by_hop_tests.rs"]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, clippy::panic)]
mod tests;
