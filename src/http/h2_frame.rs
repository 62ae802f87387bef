//! The frames of HTTP/2 in octets as they come or go, however those are split (RFC 9113 4.1).
//!
//! For whoever watches a connection that somebody else speaks on: it tells frames from one another, and knows nothing of
//! what they mean.

/// Octets of a frame's head.
const FRAME_HEADER_LEN: usize = 9;

/// Types of frames (RFC 9113 6).
pub mod frame_type {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// The beginning of a head, or of what stands behind a body.
    pub const HEADERS: u8 = 1;
    /// The end of a stream.
    pub const RST_STREAM: u8 = 3;
    /// What one side asks of the other.
    pub const SETTINGS: u8 = 4;
    /// The end of a connection.
    pub const GOAWAY: u8 = 7;
    /// More of a head.
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames; SETTINGS have their own.
pub mod flag {
    /// Of SETTINGS: the other side's were heard.
    pub const ACK: u8 = 1;
    /// Of DATA and HEADERS: nothing follows on this stream.
    pub const END_STREAM: u8 = 1;
    /// Of HEADERS and CONTINUATION: the head is whole.
    pub const END_HEADERS: u8 = 4;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// One of [`frame_type`], or another.
    pub kind: u8,
    /// Of [`flag`], by the kind.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEvent<'a> {
    /// A frame begins; so much of it is [remaining](Frames::left).
    Header(FrameHeader),
    /// More of its payload, which is over when nothing is [remaining](Frames::left).
    Payload(&'a [u8]),
}

/// Where in its frames one direction of a connection is.
#[derive(Debug, Default)]
pub struct FrameParser {
    header_buffer: [u8; FRAME_HEADER_LEN],
    received: usize,
    remaining: usize,
}

impl FrameParser {
    /// From behind a preface of so many octets.
    pub const fn after_preface(preface: usize) -> Self {
        FrameParser { header_buffer: [0; FRAME_HEADER_LEN], received: 0, remaining: preface }
    }

    /// Octets of the frame's payload that are still to come.
    pub const fn remaining(&self) -> usize {
        self.remaining
    }

    /// What has come of a head that is not whole.
    pub fn partial_header(&self) -> &[u8] {
        self.header_buffer.get(..self.received).unwrap_or_default()
    }

    /// Takes what comes next from the front of `bytes`; `None` at their end, or where a head is not whole.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<FrameEvent<'a>> {
        if self.remaining > 0 {
            let (taken, rest) = bytes.split_at_checked(self.remaining).unwrap_or((bytes, b""));
            *bytes = rest;
            self.remaining -= taken.len();
            return (!taken.is_empty()).then_some(FrameEvent::Payload(taken));
        }
        // The usual case: all of it at once.
        if self.received == 0
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            *bytes = rest;
            return Some(self.start_frame(*head));
        }
        let (taken, rest) = bytes.split_at_checked(FRAME_HEADER_LEN - self.received).unwrap_or((bytes, b""));
        *bytes = rest;
        for (place, octet) in self.header_buffer.iter_mut().skip(self.received).zip(taken) {
            *place = *octet;
        }
        self.received += taken.len();
        (self.received == FRAME_HEADER_LEN).then(|| self.start_frame(self.header_buffer))
    }

    const fn start_frame(
        &mut self,
        [a, b, c, kind, flags, w, x, y, z]: [u8; FRAME_HEADER_LEN],
    ) -> FrameEvent<'static> {
        self.received = 0;
        self.remaining = u32::from_be_bytes([0, a, b, c]) as usize;
        // The highest bit says nothing.
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
        let head = |length, kind, flags, stream| (length, FrameHeader { kind, flags, stream });
        for step in 1..=bytes.len() {
            let mut frames = FrameParser::after_preface(3);
            let (mut heads, mut payload) = (Vec::new(), Vec::new());
            for mut piece in bytes.chunks(step) {
                while let Some(next) = frames.next(&mut piece) {
                    match next {
                        FrameEvent::Header(head) => heads.push((frames.remaining(), head)),
                        FrameEvent::Payload(octets) => payload.extend_from_slice(octets),
                    }
                }
                assert!(piece.is_empty(), "{step}");
            }
            assert_eq!(
                heads,
                [head(0, frame_type::SETTINGS, flag::ACK, 0), head(3, frame_type::DATA, 1, 258)],
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
