//! What the `h2` crate does to streams without telling us, told from the frames that it writes.
//!
//! A malformed stream never becomes a request here; the crate answers it with RST_STREAM (RFC 9113 8.1.1), and a header list
//! above its own bound with an empty 431. Resets of our own and ends of answered uploads bear other codes, and our answers
//! go to streams that were [accepted](Accepted). It changes no byte.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::protocol::frame::{self, FrameHead, Piece, flag, kind};

/// The code of a reset behind a whole answer: the rest of an upload is not wanted (RFC 9113 8.1).
const NO_ERROR: u32 = 0;
/// The code of a frame that came for a stream which had ended: it was answered, or reset and counted then.
const STREAM_CLOSED: u32 = 5;
/// The code of a response that we cut.
const CANCEL: u32 = 8;

/// The streams that became requests of ours and are not answered yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted(Arc<Mutex<Streams>>);

impl Accepted {
    /// This stream is ours to answer; to be told before it is.
    pub(super) fn add(&self, stream: u32) {
        self.0.lock().add(stream);
    }

    /// Nothing of an answer was queued for this stream, and nothing will be.
    pub(super) fn forget(&self, stream: u32) {
        self.0.lock().remove(stream);
    }
}

/// Numbers of streams. They are few, and mostly come in their order: no hash is needed.
#[derive(Clone, Debug, Default)]
struct Streams(Vec<u32>);

/// So many, at most: of a stream that its client resets, the end is never written. The eldest are dropped.
const MOST: usize = 16 * 1024;

impl Streams {
    fn add(&mut self, stream: u32) {
        if let Err(place) = self.0.binary_search(&stream) {
            self.0.insert(place, stream);
        }
        if self.0.len() > MOST {
            self.0.remove(0);
        }
    }

    fn has(&self, stream: u32) -> bool {
        self.0.binary_search(&stream).is_ok()
    }

    /// Says whether it was there.
    fn remove(&mut self, stream: u32) -> bool {
        self.0.binary_search(&stream).map(|place| self.0.remove(place)).is_ok()
    }
}

/// What the library did in the frames that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Deeds {
    /// Streams that it reset because they were malformed.
    pub(super) resets: usize,
    /// Streams that it answered by itself.
    pub(super) answers: usize,
}

/// Follows the frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    accepted: Accepted,
    /// Streams that the library answered: a reset behind that is no deed of its own.
    answered: Streams,
    frames: frame::Frames,
    /// Stream and payload so far, where it is a reset.
    reset: Option<(u32, u32)>,
}

impl Frames {
    pub(super) fn new(accepted: Accepted) -> Self {
        Frames { accepted, ..Frames::default() }
    }

    /// Looks at what was written next.
    pub(super) fn look(&mut self, mut written: &[u8]) -> Deeds {
        let mut deeds = Deeds::default();
        while let Some(piece) = self.frames.next(&mut written) {
            match (piece, &mut self.reset) {
                (Piece::Head(head), _) => self.begin(head, &mut deeds),
                (Piece::Payload(octets), Some((stream, code))) => {
                    *code = octets.iter().fold(*code, |code, octet| code << 8 | u32::from(*octet));
                    if self.frames.left() == 0 {
                        let its_own = self.answered.remove(*stream);
                        deeds.resets +=
                            usize::from(!its_own && !matches!(*code, NO_ERROR | STREAM_CLOSED | CANCEL));
                    }
                }
                (Piece::Payload(_), None) => {}
            }
        }
        deeds
    }

    fn begin(&mut self, FrameHead { kind, flags, stream, .. }: FrameHead, deeds: &mut Deeds) {
        self.reset = (kind == kind::RST_STREAM).then_some((stream, 0));
        let ends = match kind {
            kind::DATA | kind::HEADERS => flags & flag::END_STREAM != 0,
            _ => kind == kind::RST_STREAM,
        };
        if kind != kind::HEADERS && !ends {
            return;
        }
        let mut accepted = self.accepted.0.lock();
        let ours = if ends { accepted.remove(stream) } else { accepted.has(stream) };
        if kind == kind::HEADERS && !ours {
            deeds.answers += 1;
            self.answered.add(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u8;
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    /// However the bytes are split.
    fn deeds(accepted: &[u32], bytes: &[u8]) -> Deeds {
        let looks = (1..=bytes.len()).map(|step| {
            let ours = Accepted::default();
            accepted.iter().for_each(|stream| ours.add(*stream));
            let mut frames = Frames::new(ours);
            bytes.chunks(step).fold(Deeds::default(), |sum, piece| {
                let Deeds { resets, answers } = frames.look(piece);
                Deeds { resets: sum.resets + resets, answers: sum.answers + answers }
            })
        });
        let all: Vec<Deeds> = looks.collect();
        assert!(all.windows(2).all(|pair| pair.first() == pair.last()), "{all:?}");
        all.first().copied().unwrap_or_default()
    }

    #[test]
    fn resets_of_malformed_streams_are_found_however_the_bytes_are_split() {
        let bytes = [
            frame(4, 0, 0, &[]),
            frame(3, 0, 1, &[0, 0, 0, 1]),
            frame(0, 0, 3, &[3; 200]),
            frame(3, 0, 5, &[0, 0, 0, 0]),
            frame(3, 0, 7, &[0, 0, 0, 8]),
            frame(1, 0, 3, &[0, 0, 4, 3]),
            frame(3, 0, 9, &[0, 0, 0, 7]),
            frame(3, 0, 3, &[0, 0, 0, 5]),
        ]
        .concat();
        assert_eq!(deeds(&[3], &bytes), Deeds { resets: 2, answers: 0 });
    }

    #[test]
    fn answers_to_streams_that_never_came_to_us_are_the_librarys_and_trailers_of_ours_are_not() {
        let bytes = [
            frame(1, 4, 1, b"head"),
            frame(0, 0, 1, b"body"),
            frame(1, 5, 1, b"trailers"),
            frame(1, 5, 3, b"431"),
            frame(3, 0, 3, &[0, 0, 0, 1]),
            frame(1, 5, 5, b"head"),
            frame(1, 5, 7, b"431"),
        ]
        .concat();
        assert_eq!(deeds(&[1, 5], &bytes), Deeds { resets: 0, answers: 2 });
    }
}
