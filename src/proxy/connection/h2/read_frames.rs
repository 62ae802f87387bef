//! Parses the frames that a client sends: which frame or header block is incomplete, for [`super::read_timeout`], and
//! which streams the client opens and resets, for the [`StreamTable`]. It does not modify the bytes.

use super::read_timeout::{FrameProgress, MAYBE_DATA, NONE_PENDING, NOTHING_READ, SEQUENCE_STEP};
use crate::http::h2_frame::{FrameEvent, FrameHeader, FrameParser, flag, frame_type};
use crate::proxy::stream_table::StreamTable;

/// Parses the frames received on one connection.
#[derive(Debug)]
pub(super) struct ReadFrameObserver {
    progress: FrameProgress,
    /// The value last stored in [`FrameProgress`].
    last_stored: u32,
    /// Sequence number of the current frame or header block: even, and never 0.
    sequence: u32,
    frames: FrameParser,
    /// Type of the current frame.
    kind: u8,
    /// HEADERS was received without END_HEADERS.
    in_header_block: bool,
    table: StreamTable,
    /// The highest stream that was opened: HEADERS on the same or a lower one are trailers or malformed.
    highest_stream: u32,
    /// Applied when the frame or header block is complete.
    effect: Option<Effect>,
}

/// How a frame changes the state of the stream with this identifier.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Opens(u32),
    Resets(u32),
}

impl ReadFrameObserver {
    /// `preface_len` is the length in bytes of the connection preface, which precedes the first frame.
    pub(super) const fn new(progress: FrameProgress, table: StreamTable, preface_len: usize) -> Self {
        ReadFrameObserver {
            progress,
            last_stored: NOTHING_READ,
            sequence: SEQUENCE_STEP,
            // The handshake timeout covers the preface.
            frames: FrameParser::after_preface(preface_len),
            kind: frame_type::DATA,
            in_header_block: false,
            table,
            highest_stream: 0,
            effect: None,
        }
    }

    /// Parses received bytes. Returns how many streams the client has reset before their response headers were sent.
    pub(super) fn observe(&mut self, mut read: &[u8]) -> usize {
        if read.is_empty() {
            return 0;
        }
        let mut resets = 0;
        while let Some(event) = self.frames.next(&mut read) {
            if let FrameEvent::Header(header) = event {
                self.begin_frame(header);
            }
            if self.frames.remaining() == 0 && !self.in_header_block {
                self.sequence = self.sequence.wrapping_add(SEQUENCE_STEP).max(SEQUENCE_STEP);
                match self.effect.take() {
                    Some(Effect::Opens(stream)) => self.table.opened(stream),
                    Some(Effect::Resets(stream)) => {
                        resets += usize::from(self.table.reset_by_client(stream));
                    }
                    None => {}
                }
            }
        }
        let pending = self.pending_state();
        if pending != self.last_stored {
            self.last_stored = pending;
            self.progress.store(pending);
        }
        resets
    }

    fn begin_frame(&mut self, FrameHeader { kind, flags, stream }: FrameHeader) {
        self.kind = kind;
        if matches!(kind, frame_type::HEADERS | frame_type::CONTINUATION) {
            self.in_header_block = flags & flag::END_HEADERS == 0;
        }
        match kind {
            // Client streams have odd, increasing identifiers (RFC 9113 5.1.1).
            frame_type::HEADERS if stream > self.highest_stream && stream % 2 == 1 => {
                self.highest_stream = stream;
                self.effect = Some(Effect::Opens(stream));
            }
            frame_type::RST_STREAM => self.effect = Some(Effect::Resets(stream)),
            _ => {}
        }
    }

    /// The value for [`FrameProgress`] after the bytes parsed so far.
    fn pending_state(&self) -> u32 {
        if self.in_header_block || self.frames.remaining() > 0 && self.kind != frame_type::DATA {
            return self.sequence;
        }
        match self.frames.partial_header() {
            [] => NONE_PENDING,
            // Three octets of length, then the type.
            [_, _, _, kind, ..] if *kind != frame_type::DATA => self.sequence,
            _ => self.sequence | MAYBE_DATA,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2_frame::flag::END_HEADERS;
    use crate::http::h2_frame::frame_type::{CONTINUATION, DATA, HEADERS};

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// The last_stored state after each octet.
    fn pending_after_each_octet(bytes: &[u8]) -> Vec<u32> {
        let progress = FrameProgress::default();
        let mut observer = ReadFrameObserver::new(progress.clone(), StreamTable::default(), 0);
        bytes
            .iter()
            .map(|octet| {
                observer.observe(&[*octet]);
                progress.load()
            })
            .collect()
    }

    #[test]
    fn complete_frames_leave_nothing_pending_for_any_split() {
        let bytes = [
            frame(4, 0, &[]),
            frame(HEADERS, END_HEADERS, b"head"),
            frame(DATA, 1, b"body"),
            frame(PING, 0, &[0; 8]),
        ];
        let bytes = bytes.concat();
        for step in 1..=bytes.len() {
            let progress = FrameProgress::default();
            let mut observer = ReadFrameObserver::new(progress.clone(), StreamTable::default(), 0);
            for piece in bytes.chunks(step) {
                let _ = observer.observe(piece);
            }
            assert_eq!(progress.load(), NONE_PENDING, "{step}");
        }
    }

    #[test]
    fn frame_is_pending_from_first_to_last_octet_except_data() {
        let ping = pending_after_each_octet(&frame(PING, 0, &[0; 2]));
        let maybe_data = |octets: &[u32]| octets.iter().map(|state| state & MAYBE_DATA).collect::<Vec<_>>();
        assert!(ping.iter().take(10).all(|state| *state != NONE_PENDING), "{ping:?}");
        assert_eq!(maybe_data(&ping), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ping.last(), Some(&NONE_PENDING));
        let data = pending_after_each_octet(&frame(DATA, 0, &[0; 2]));
        assert_eq!(maybe_data(&data), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(data.get(8..), Some(&[NONE_PENDING; 3][..]));
    }

    #[test]
    fn header_block_is_one_pending_item_until_end_headers() {
        let first =
            [frame(HEADERS, 0, b"a"), frame(CONTINUATION, 0, b"b"), frame(CONTINUATION, 0, b"c")].concat();
        let pending = pending_after_each_octet(&first);
        let sequences: Vec<u32> = pending.iter().map(|state| state & !MAYBE_DATA).collect();
        assert!(sequences.windows(2).all(|pair| pair.first() == pair.last()), "{pending:?}");
        assert_ne!(sequences.first(), Some(&NONE_PENDING));
        let complete = [first, frame(CONTINUATION, END_HEADERS, b"d")].concat();
        assert_eq!(pending_after_each_octet(&complete).last(), Some(&NONE_PENDING));
    }

    #[test]
    fn next_frame_gets_a_new_sequence_number() {
        let two = [frame(PING, 0, &[0; 8]), frame(PING, 0, &[0; 8])].concat();
        let pending = pending_after_each_octet(&two);
        assert_ne!(pending.get(12), pending.get(12 + 17));
    }

    #[test]
    fn preface_is_not_counted_as_a_frame() {
        let progress = FrameProgress::default();
        let mut observer = ReadFrameObserver::new(progress.clone(), StreamTable::default(), 5);
        observer.observe(b"PRI");
        observer.observe(&[&b"M\n"[..], &frame(4, 0, &[])].concat());
        assert_eq!(progress.load(), NONE_PENDING);
        observer.observe(&[0, 0, 8, PING, 0]);
        assert_ne!(progress.load(), NONE_PENDING);
    }

    #[test]
    fn client_resets_are_counted_for_complete_header_blocks_for_any_split() {
        let on = |stream: u8, kind, flags, payload: &[u8]| {
            [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let code = [0, 0, 0, 8];
        let bytes = [
            // Opened and reset; header block in two frames; with trailers.
            on(1, HEADERS, END_HEADERS, b"head"),
            on(1, frame_type::RST_STREAM, 0, &code),
            on(3, HEADERS, 0, b"head"),
            on(3, CONTINUATION, END_HEADERS, b"more"),
            on(3, HEADERS, END_HEADERS | 1, b"trailers"),
            on(3, frame_type::RST_STREAM, 0, &code),
            // Not a client stream; lower than the last stream; never opened.
            on(4, HEADERS, END_HEADERS, b"head"),
            on(4, frame_type::RST_STREAM, 0, &code),
            on(1, HEADERS, END_HEADERS, b"head"),
            on(1, frame_type::RST_STREAM, 0, &code),
            on(9, frame_type::RST_STREAM, 0, &code),
            // Still open; incomplete header block.
            on(11, HEADERS, END_HEADERS | 1, b"head"),
            on(13, HEADERS, 0, b"head"),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let streams = StreamTable::default();
            let mut observer = ReadFrameObserver::new(FrameProgress::default(), streams.clone(), 0);
            let resets: usize = bytes.chunks(step).map(|piece| observer.observe(piece)).sum();
            assert_eq!((resets, streams.connection_ended()), (2, 1), "{step}");
        }
    }
}
