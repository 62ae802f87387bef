//! Heads on their way: what was received and what is to be sent, whatever the protocol version.
//!
//! A received head keeps the bytes of an HTTP/1 message or the map of an HTTP/2 one; [`Fields`] walks both alike, so
//! that nothing on the request path builds a map of its own.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::protocol::octets::{field_line_lengths, trim_ows};

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
pub(super) enum Ends {
    /// The close itself shows it: the length is not reached, the last chunk is missing.
    Short,
    /// Only a reset shows it.
    Reset,
}

/// What a response head says beside its fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadParts<'a> {
    pub(super) status: u16,
    /// `None`: the registered phrase.
    pub(super) reason: Option<&'a [u8]>,
    pub(super) length: BodyLength,
}

/// Keeps a value that the next message will not have out of HPACK's table, where it would push out what comes again and be
/// compared with all its successors (measured: a tenth of what a response costs).
pub(super) fn unindexed(mut value: HeaderValue) -> HeaderValue {
    // "Never indexed" (RFC 7541 6.2.3) is the one way to tell the library.
    value.set_sensitive(true);
    value
}

/// What passes of the fields behind a body.
pub(super) fn trailers(mut trailers: HeaderMap, passes: impl Fn(&[u8]) -> bool) -> HeaderMap {
    let stays_back = |name: &&HeaderName| !passes(name.as_str().as_bytes());
    let gone: Vec<HeaderName> = trailers.keys().filter(stays_back).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
    trailers
}

/// The fields of a received head.
#[derive(Clone, Debug)]
pub(super) enum Fields {
    /// An HTTP/1 head that passed the strict scan: start line, fields, blank line, each ended by CRLF.
    Raw(Bytes),
    /// An HTTP/2 head.
    Map(HeaderMap),
}

impl Fields {
    /// Every field in its order, names as received.
    pub(super) fn iter(&self) -> Iter<'_> {
        match self {
            Fields::Raw(head) => Iter::Raw(RawFields::new(head)),
            Fields::Map(map) => Iter::Map(map.iter()),
        }
    }

    /// The values of one field, in their order. `name` is lower case.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The first value of one field. `name` is lower case.
    pub(super) fn value<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        self.values(name).next()
    }
}

/// Walks the fields of a head.
#[derive(Debug)]
pub(super) enum Iter<'a> {
    Raw(RawFields<'a>),
    Map(http::header::Iter<'a, http::HeaderValue>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Iter::Raw(raw) => raw.next(),
            Iter::Map(map) => map.next().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())),
        }
    }
}

/// Walks the lines of a raw head that is known to be well-formed.
#[derive(Debug)]
pub(super) struct RawFields<'a> {
    rest: &'a [u8],
}

impl<'a> RawFields<'a> {
    fn new(head: &'a [u8]) -> Self {
        // A head that passed the scan has no CR but those that end lines.
        let start_line = memchr::memchr(b'\r', head).unwrap_or(head.len());
        RawFields { rest: head.get(start_line + 2..).unwrap_or_default() }
    }
}

impl<'a> Iterator for RawFields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, text_len) = field_line_lengths(self.rest)?;
        let (name, after) = self.rest.split_at_checked(name_len)?;
        self.rest = after.get(text_len + 3..).unwrap_or_default();
        Some((name, trim_ows(after.get(1..=text_len).unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_fields_are_walked_as_they_stand() {
        let head = Fields::Raw(Bytes::from_static(
            b"GET / HTTP/1.1\r\nHost: a:1\r\nX-Empty:\r\nx-two:\t b \r\n\r\nbody",
        ));
        let fields: Vec<_> = head.iter().collect();
        let expected: Vec<(&[u8], &[u8])> = vec![(b"Host", b"a:1"), (b"X-Empty", b""), (b"x-two", b"b")];
        assert_eq!(fields, expected);
        assert_eq!(head.value("host"), Some(&b"a:1"[..]));
    }
}
