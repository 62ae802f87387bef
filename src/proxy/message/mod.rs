//! Received and generated header sections, independent of the HTTP version.
//!
//! A received header section stays in its original form: the bytes of an HTTP/1 message, or the map of an HTTP/2
//! message. [`HeaderFields`] iterates over both, so that the request path does not convert one into the other.

pub(super) mod added_request_fields;
pub(super) mod h1_writer;
pub(super) mod request;
pub(super) mod request_h2;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::ascii_class::{field_line_lengths, trim_ows};

/// The body length that response headers announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// This many bytes: Content-Length is sent.
    Exactly(u64),
    /// Not known in advance: the last chunk, END_STREAM or the close of the connection marks the end.
    Unknown,
    /// No body and no Content-Length: 101, 204, HEAD or 304 of unknown length, an HTTP/2 gRPC error without content.
    Absent,
}

/// How the client can tell that a response is truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseMode {
    /// The HTTP/1 connection closes normally: Content-Length is not reached, or the last chunk is missing.
    Fin,
    /// A reset: on HTTP/1 of a connection whose close delimits the body, on HTTP/2 of the stream (RST_STREAM).
    Reset,
}

/// Status line and body length of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseHeadParts<'a> {
    pub(super) status: u16,
    /// The reason phrase; `None` for the registered one.
    pub(super) reason: Option<&'a [u8]>,
    pub(super) length: BodyLength,
}

/// Keeps a value that is different in every message out of the HPACK dynamic table, where it would evict values that
/// repeat (measured: 10 % of the cost of a response).
pub(super) fn never_indexed(mut value: HeaderValue) -> HeaderValue {
    // The `h2` crate writes sensitive values as "never indexed" (RFC 7541 6.2.3).
    value.set_sensitive(true);
    value
}

/// Removes the trailers for which `keep` returns false, and the blanks around the values of the others, as
/// [`HeaderFields::iter`] does.
pub(super) fn filter_trailers(mut trailers: HeaderMap, keep: impl Fn(&[u8]) -> bool) -> HeaderMap {
    let is_removed = |name: &&HeaderName| !keep(name.as_str().as_bytes());
    let removed: Vec<HeaderName> = trailers.keys().filter(is_removed).cloned().collect();
    for name in removed {
        trailers.remove(name);
    }
    for value in trailers.values_mut() {
        let trimmed = trim_ows(value.as_bytes());
        if trimmed.len() < value.len()
            && let Ok(trimmed) = HeaderValue::from_bytes(trimmed)
        {
            *value = trimmed;
        }
    }
    trailers
}

/// The fields of a received header section.
#[derive(Clone, Debug)]
pub(super) enum HeaderFields {
    /// The header section of an HTTP/1 message that has been validated: start line, field lines and an empty line, each
    /// ended by CRLF.
    Raw(Bytes),
    /// The header section of an HTTP/2 message.
    Map(HeaderMap),
}

impl HeaderFields {
    /// All fields. HTTP/1: in the order received, with the names as received. HTTP/2: grouped by name; the values of
    /// one name in the order received.
    pub(super) fn iter(&self) -> FieldIter<'_> {
        match self {
            HeaderFields::Raw(message_head) => FieldIter::Raw(RawFieldIter::new(message_head)),
            HeaderFields::Map(map) => FieldIter::Map(map.iter()),
        }
    }

    /// The values of a field in the order received.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter()
            .filter(move |(field_name, _)| field_name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The first value of a field.
    pub(super) fn value<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }
}

/// Iterates over the fields of a header section.
#[derive(Debug)]
pub(super) enum FieldIter<'a> {
    Raw(RawFieldIter<'a>),
    Map(http::header::Iter<'a, http::HeaderValue>),
}

impl<'a> Iterator for FieldIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            FieldIter::Raw(raw) => raw.next(),
            FieldIter::Map(map) => {
                // A value with blanks around it is malformed on HTTP/2 (RFC 9113 8.2.1), but is unambiguous.
                map.next().map(|(name, value)| (name.as_str().as_bytes(), trim_ows(value.as_bytes())))
            }
        }
    }
}

/// Iterates over the field lines of a validated HTTP/1 header section.
#[derive(Debug)]
pub(super) struct RawFieldIter<'a> {
    rest: &'a [u8],
}

impl<'a> RawFieldIter<'a> {
    fn new(message_head: &'a [u8]) -> Self {
        // In a validated header section every CR ends a line.
        let start_line = memchr::memchr(b'\r', message_head).unwrap_or(message_head.len());
        RawFieldIter { rest: message_head.get(start_line + 2..).unwrap_or_default() }
    }
}

impl<'a> Iterator for RawFieldIter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, value_len) = field_line_lengths(self.rest)?;
        let (name, after) = self.rest.split_at_checked(name_len)?;
        self.rest = after.get(value_len + 3..).unwrap_or_default();
        Some((name, trim_ows(after.get(1..=value_len).unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_fields_are_iterated_as_received() {
        let request_fields = HeaderFields::Raw(Bytes::from_static(
            b"GET / HTTP/1.1\r\nHost: a:1\r\nX-Empty:\r\nx-two:\t b \r\n\r\nbody",
        ));
        let fields: Vec<_> = request_fields.iter().collect();
        let expected: Vec<(&[u8], &[u8])> = vec![(b"Host", b"a:1"), (b"X-Empty", b""), (b"x-two", b"b")];
        assert_eq!(fields, expected);
        assert_eq!(request_fields.value("host"), Some(&b"a:1"[..]));
    }

    #[test]
    fn blanks_around_http2_values_are_removed() {
        let mut map = HeaderMap::new();
        map.append("x-a", HeaderValue::from_static(" \ta b\t "));
        map.append("x-a", HeaderValue::from_static("  "));
        let fields = HeaderFields::Map(map.clone());
        assert_eq!(fields.values("x-a").collect::<Vec<_>>(), [&b"a b"[..], b""]);
        let trailers = filter_trailers(map, |_| true);
        assert_eq!(trailers.get_all("x-a").iter().collect::<Vec<_>>(), ["a b", ""]);
    }
}
