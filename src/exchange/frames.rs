//! What the `h2` crate does to streams without telling us: resets, counted from the frames that it writes.
//!
//! A malformed stream never becomes a request here; the crate answers it with RST_STREAM (RFC 9113 8.1.1). Only the
//! frames tell. Resets of our own and ends of answered uploads bear other codes. It changes no byte.

/// Bytes of a frame's head: length, type, flags, stream (RFC 9113 4.1).
const HEAD: usize = 9;
const RST_STREAM: u8 = 3;
/// The code of a reset behind a whole answer: the rest of an upload is not wanted (RFC 9113 8.1).
const NO_ERROR: u32 = 0;
/// The code of a response that we cut.
const CANCEL: u32 = 8;

/// Follows the frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Resets {
    head: Vec<u8>,
    /// Bytes of the frame's payload that are still to come.
    left: usize,
    /// The payload so far, where it is a reset.
    code: Option<u32>,
}

impl Resets {
    /// Looks at what was written next; says how many malformed streams were reset in it.
    pub(super) fn count(&mut self, mut written: &[u8]) -> usize {
        let mut resets = 0;
        while !written.is_empty() {
            if self.left == 0 {
                let most = written.len().min(HEAD - self.head.len());
                let (taken, rest) = written.split_at_checked(most).unwrap_or((written, b""));
                self.head.extend_from_slice(taken);
                written = rest;
                if let [a, b, c, kind, ..] = self.head[..]
                    && self.head.len() == HEAD
                {
                    self.left = u32::from_be_bytes([0, a, b, c]) as usize;
                    self.code = (kind == RST_STREAM).then_some(0);
                    self.head.clear();
                }
                continue;
            }
            let most = written.len().min(self.left);
            let (taken, rest) = written.split_at_checked(most).unwrap_or((written, b""));
            written = rest;
            self.left -= taken.len();
            if let Some(code) = &mut self.code {
                *code = taken.iter().fold(*code, |code, octet| code << 8 | u32::from(*octet));
                resets += usize::from(self.left == 0 && !matches!(*code, NO_ERROR | CANCEL));
            }
        }
        resets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u8;
        [&[0, 0, length, kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn resets_of_malformed_streams_are_found_however_the_bytes_are_split() {
        let bytes = [
            frame(4, &[]),
            frame(3, &[0, 0, 0, 1]),
            frame(0, &[3; 200]),
            frame(3, &[0, 0, 0, 0]),
            frame(3, &[0, 0, 0, 8]),
            frame(1, &[0, 0, 4, 3]),
            frame(3, &[0, 0, 0, 7]),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let mut resets = Resets::default();
            let found: usize = bytes.chunks(step).map(|piece| resets.count(piece)).sum();
            assert_eq!(found, 2, "{step}");
        }
    }
}
