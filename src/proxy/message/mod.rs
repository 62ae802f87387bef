//! Heads on their way: what was received and what is to be sent, whatever the protocol version.
//!
//! A received head keeps the bytes of an HTTP/1 message or the map of an HTTP/2 one; [`HeaderFields`] walks both alike, so
//! that nothing on the request path builds a map of its own.

pub(super) mod h1_writer;
pub(super) mod request;
pub(super) mod request_h2;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::ascii_class::{field_line_lengths, trim_ows};

/// How long a body is, as far as the sender of the head knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// So many bytes.
    Exactly(u64),
    /// It ends when it ends.
    Unknown,
    /// Nothing is said, because there is no body (HEAD of unknown length, 204, 304).
    Absent,
}

/// How a cut response ends on HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseMode {
    /// The close itself shows it: the length is not reached, the last chunk is missing.
    Fin,
    /// Only a reset shows it.
    Reset,
}

/// What a response head says beside its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResponseHeadParts<'a> {
    pub(super) status: u16,
    /// `None`: the registered phrase.
    pub(super) reason: Option<&'a [u8]>,
    pub(super) length: BodyLength,
}

/// Keeps a value that the next message will not have out of HPACK's table, where it would push out what comes again and be
/// compared with all its successors (measured: a tenth of what a response costs).
pub(super) fn never_indexed(mut value: HeaderValue) -> HeaderValue {
    // "Never indexed" (RFC 7541 6.2.3) is the one way to tell the library.
    value.set_sensitive(true);
    value
}

/// What passes of the fields behind a body.
pub(super) fn filter_trailers(mut trailers: HeaderMap, keep: impl Fn(&[u8]) -> bool) -> HeaderMap {
    let is_removed = |name: &&HeaderName| !keep(name.as_str().as_bytes());
    let removed: Vec<HeaderName> = trailers.keys().filter(is_removed).cloned().collect();
    for name in removed {
        trailers.remove(name);
    }
    trailers
}

/// The fields of a received head.
#[derive(Clone, Debug)]
pub(super) enum HeaderFields {
    /// An HTTP/1 head that passed the strict scan: start line, fields, blank line, each ended by CRLF.
    Raw(Bytes),
    /// An HTTP/2 head.
    Map(HeaderMap),
}

impl HeaderFields {
    /// Every field in its order, names as received.
    pub(super) fn iter(&self) -> FieldIter<'_> {
        match self {
            HeaderFields::Raw(response_head) => FieldIter::Raw(RawFieldIter::new(response_head)),
            HeaderFields::Map(map) => FieldIter::Map(map.iter()),
        }
    }

    /// The values of one field, in their order. `name` is lower case.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter()
            .filter(move |(field_name, _)| field_name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The first value of one field. `name` is lower case.
    pub(super) fn value<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }
}

/// Walks the fields of a head.
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
                map.next().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
            }
        }
    }
}

/// Walks the lines of a raw head that is known to be well-formed.
#[derive(Debug)]
pub(super) struct RawFieldIter<'a> {
    rest: &'a [u8],
}

impl<'a> RawFieldIter<'a> {
    fn new(response_head: &'a [u8]) -> Self {
        // A head that passed the scan has no CR but those that end lines.
        let start_line = memchr::memchr(b'\r', response_head).unwrap_or(response_head.len());
        RawFieldIter { rest: response_head.get(start_line + 2..).unwrap_or_default() }
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
        let fields_of_request = HeaderFields::Raw(Bytes::from_static(
            b"GET / HTTP/1.1\r\nHost: a:1\r\nX-Empty:\r\nx-two:\t b \r\n\r\nbody",
        ));
        let fields: Vec<_> = fields_of_request.iter().collect();
        let expected: Vec<(&[u8], &[u8])> = vec![(b"Host", b"a:1"), (b"X-Empty", b""), (b"x-two", b"b")];
        assert_eq!(fields, expected);
        assert_eq!(fields_of_request.value("host"), Some(&b"a:1"[..]));
    }
}
