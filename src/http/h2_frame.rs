//! Splits an HTTP/2 byte stream into frames (RFC 9113 4.1), incrementally.
//!
//! It is for observers of a connection that the HTTP/2 library drives. It does not interpret payloads.

/// Length of a frame header, in bytes.
const FRAME_HEADER_LEN: usize = 9;

/// Frame types (RFC 9113 6).
pub(crate) mod frame_type {
    /// Part of the content of a message.
    pub(crate) const DATA: u8 = 0;
    /// The start of a header section or a trailer section.
    pub(crate) const HEADERS: u8 = 1;
    /// Immediate termination of a stream.
    pub(crate) const RST_STREAM: u8 = 3;
    /// Configuration parameters of the sender.
    pub(crate) const SETTINGS: u8 = 4;
    /// Shutdown of the connection.
    pub(crate) const GOAWAY: u8 = 7;
    /// Continuation of a header section.
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Frame flags; their meaning depends on the frame type.
pub(crate) mod flag {
    /// SETTINGS: acknowledges the peer's SETTINGS.
    pub(crate) const ACK: u8 = 1;
    /// DATA and HEADERS: the last frame that the sender sends on this stream.
    pub(crate) const END_STREAM: u8 = 1;
    /// HEADERS and CONTINUATION: the end of the header section.
    pub(crate) const END_HEADERS: u8 = 4;
}

/// A frame header, without the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The frame type, one of [`frame_type`] or another value.
    pub kind: u8,
    /// The flags, see [`flag`].
    pub flags: u8,
    /// The stream identifier; 0 is the connection.
    pub stream: u32,
}

/// The next element of the byte stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameEvent<'a> {
    /// A frame header; the payload has [`FrameParser::remaining`] bytes.
    Header(FrameHeader),
    /// A part of the payload, which ends when [`FrameParser::remaining`] is 0.
    Payload(&'a [u8]),
}

/// The parser state of one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct FrameParser {
    header_buffer: [u8; FRAME_HEADER_LEN],
    received: usize,
    remaining: usize,
}

impl FrameParser {
    /// Creates a parser for a stream that starts with a preface of `preface` bytes. The preface is reported as payload.
    pub(crate) const fn after_preface(preface: usize) -> Self {
        FrameParser { header_buffer: [0; FRAME_HEADER_LEN], received: 0, remaining: preface }
    }

    /// The number of payload bytes of the current frame that have not arrived.
    pub(crate) const fn remaining(&self) -> usize {
        self.remaining
    }

    /// The received bytes of an incomplete frame header.
    pub(crate) fn partial_header(&self) -> &[u8] {
        self.header_buffer.get(..self.received).unwrap_or_default()
    }

    /// Consumes the next element from the start of `bytes`. `None` if `bytes` ends before it is complete.
    pub(crate) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<FrameEvent<'a>> {
        if self.remaining > 0 {
            let (payload, rest) = bytes.split_at_checked(self.remaining).unwrap_or((bytes, b""));
            *bytes = rest;
            self.remaining -= payload.len();
            return (!payload.is_empty()).then_some(FrameEvent::Payload(payload));
        }
        // Fast path: the frame header is contiguous.
        if self.received == 0
            && let Some((header, rest)) = bytes.split_first_chunk()
        {
            *bytes = rest;
            return Some(self.start_frame(*header));
        }
        let (part, rest) = bytes.split_at_checked(FRAME_HEADER_LEN - self.received).unwrap_or((bytes, b""));
        *bytes = rest;
        for (target, octet) in self.header_buffer.iter_mut().skip(self.received).zip(part) {
            *target = *octet;
        }
        self.received += part.len();
        (self.received == FRAME_HEADER_LEN).then(|| self.start_frame(self.header_buffer))
    }

    const fn start_frame(
        &mut self,
        [a, b, c, kind, flags, w, x, y, z]: [u8; FRAME_HEADER_LEN],
    ) -> FrameEvent<'static> {
        self.received = 0;
        self.remaining = u32::from_be_bytes([0, a, b, c]) as usize;
        // The highest bit is reserved and ignored (RFC 9113 4.1).
        let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
        FrameEvent::Header(FrameHeader { kind, flags, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_parse_equally_at_every_split() {
        let mut bytes = b"PRI".to_vec();
        bytes.extend([0, 0, 0, frame_type::SETTINGS, flag::ACK, 0, 0, 0, 0]);
        bytes.extend([0, 0, 3, frame_type::DATA, flag::END_STREAM, 0x80, 0, 1, 2]);
        bytes.extend(b"abc");
        bytes.extend([0, 1, 0, frame_type::GOAWAY]);
        let header = |length, kind, flags, stream| (length, FrameHeader { kind, flags, stream });
        for step in 1..=bytes.len() {
            let mut frames = FrameParser::after_preface(3);
            let (mut headers, mut payload) = (Vec::new(), Vec::new());
            for mut piece in bytes.chunks(step) {
                while let Some(next) = frames.next(&mut piece) {
                    match next {
                        FrameEvent::Header(header) => headers.push((frames.remaining(), header)),
                        FrameEvent::Payload(octets) => payload.extend_from_slice(octets),
                    }
                }
                assert!(piece.is_empty(), "{step}");
            }
            assert_eq!(
                headers,
                [header(0, frame_type::SETTINGS, flag::ACK, 0), header(3, frame_type::DATA, 1, 258)],
                "{step}"
            );
            assert_eq!(payload, b"PRIabc", "{step}");
            assert_eq!(
                (frames.partial_header(), frames.remaining()),
                (&[0, 1, 0, frame_type::GOAWAY][..], 0),
                "{step}"
            );
        }
    }
}
