//! The frames of HTTP/2 in octets as they come or go, however those are split (RFC 9113 4.1).
//!
//! For whoever watches a connection that somebody else speaks on: it tells frames from one another, and knows nothing of
//! what they mean.

/// Octets of a frame's head.
const HEAD: usize = 9;

/// Types of frames (RFC 9113 6).
pub mod kind {
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
pub struct FrameHead {
    /// One of [`kind`], or another.
    pub kind: u8,
    /// Of [`flag`], by the kind.
    pub flags: u8,
    /// 0 is the connection.
    pub stream: u32,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame begins; so much of it is [left](Frames::left).
    Head(FrameHead),
    /// More of its payload, which is over when nothing is [left](Frames::left).
    Payload(&'a [u8]),
}

/// Where in its frames one direction of a connection is.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; HEAD],
    came: usize,
    left: usize,
}

impl Frames {
    /// From behind a preface of so many octets.
    pub const fn behind(preface: usize) -> Self {
        Frames { head: [0; HEAD], came: 0, left: preface }
    }

    /// Octets of the frame's payload that are still to come.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// What has come of a head that is not whole.
    pub fn head(&self) -> &[u8] {
        self.head.get(..self.came).unwrap_or_default()
    }

    /// Takes what comes next from the front of `bytes`; `None` at their end, or where a head is not whole.
    pub fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.left > 0 {
            let (taken, rest) = bytes.split_at_checked(self.left).unwrap_or((bytes, b""));
            *bytes = rest;
            self.left -= taken.len();
            return (!taken.is_empty()).then_some(Piece::Payload(taken));
        }
        // The usual case: all of it at once.
        if self.came == 0
            && let Some((head, rest)) = bytes.split_first_chunk()
        {
            *bytes = rest;
            return Some(self.begin(*head));
        }
        let (taken, rest) = bytes.split_at_checked(HEAD - self.came).unwrap_or((bytes, b""));
        *bytes = rest;
        for (place, octet) in self.head.iter_mut().skip(self.came).zip(taken) {
            *place = *octet;
        }
        self.came += taken.len();
        (self.came == HEAD).then(|| self.begin(self.head))
    }

    const fn begin(&mut self, [a, b, c, kind, flags, w, x, y, z]: [u8; HEAD]) -> Piece<'static> {
        self.came = 0;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        // The highest bit says nothing.
        let stream = u32::from_be_bytes([w, x, y, z]) & 0x7fff_ffff;
        Piece::Head(FrameHead { kind, flags, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_however_their_octets_are_split() {
        let mut bytes = b"PRI".to_vec();
        bytes.extend([0, 0, 0, kind::SETTINGS, flag::ACK, 0, 0, 0, 0]);
        bytes.extend([0, 0, 3, kind::DATA, flag::END_STREAM, 0x80, 0, 1, 2]);
        bytes.extend(b"abc");
        bytes.extend([0, 1, 0, kind::GOAWAY]);
        let head = |length, kind, flags, stream| (length, FrameHead { kind, flags, stream });
        for step in 1..=bytes.len() {
            let mut frames = Frames::behind(3);
            let (mut heads, mut payload) = (Vec::new(), Vec::new());
            for mut piece in bytes.chunks(step) {
                while let Some(next) = frames.next(&mut piece) {
                    match next {
                        Piece::Head(head) => heads.push((frames.left(), head)),
                        Piece::Payload(octets) => payload.extend_from_slice(octets),
                    }
                }
                assert!(piece.is_empty(), "{step}");
            }
            assert_eq!(heads, [head(0, kind::SETTINGS, flag::ACK, 0), head(3, kind::DATA, 1, 258)], "{step}");
            assert_eq!(payload, b"PRIabc", "{step}");
            assert_eq!((frames.head(), frames.left()), (&[0, 1, 0, kind::GOAWAY][..], 0), "{step}");
        }
    }
}
