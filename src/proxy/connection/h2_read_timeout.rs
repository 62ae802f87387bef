//! Detects frames and header blocks that an HTTP/2 client does not complete in time.
//!
//! The `h2` crate waits for the rest of a frame without a timeout. DATA frames are exempt: the timeouts of the request
//! body cover them. The observer also records in the [`StreamTable`] which streams the client opens and resets. It does
//! not modify the bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::http::h2_frame::{FrameEvent, FrameHeader, FrameParser, flag, frame_type};
use crate::proxy::stream_table::StreamTable;
use crate::upstream::timer::sleep;

/// No frame or header block is incomplete.
const NONE_PENDING: u32 = 0;
/// Flag: the incomplete frame may be DATA; its type has not been received yet.
const MAYBE_DATA: u32 = 1;
/// Increment of the sequence number, which keeps the flag bit free.
const SEQUENCE_STEP: u32 = 2;

/// The incomplete frame or header block of a connection, shared by [`ReadFrameObserver`] and [`FrameReadTimeout`]:
/// `NONE_PENDING`, or a sequence number with the flag `MAYBE_DATA`.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct FrameProgress(Arc<AtomicU32>);

/// Parses the frames received on one connection.
#[derive(Debug)]
pub(in crate::proxy) struct ReadFrameObserver {
    progress: FrameProgress,
    /// The value last stored in [`FrameProgress`].
    published: u32,
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
    pub(in crate::proxy) const fn new(
        progress: FrameProgress,
        table: StreamTable,
        preface_len: usize,
    ) -> Self {
        ReadFrameObserver {
            progress,
            published: NONE_PENDING,
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
    pub(in crate::proxy) fn observe(&mut self, mut read: &[u8]) -> usize {
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
        if pending != self.published {
            self.published = pending;
            self.progress.0.store(pending, Ordering::Relaxed);
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

/// The timer for an incomplete frame or header block.
pub(in crate::proxy) struct FrameReadTimeout {
    progress: FrameProgress,
    timeout: Duration,
    /// The sequence number that the timer runs for.
    watched: u32,
    timer: Option<BoxFuture<'static, ()>>,
}

impl FrameReadTimeout {
    pub(in crate::proxy) fn new(progress: FrameProgress, timeout: Duration) -> Self {
        FrameReadTimeout { progress, timeout, watched: NONE_PENDING, timer: None }
    }

    /// Ready when the same frame or header block has been incomplete for the timeout. Must be polled after each read. A
    /// frame that may be DATA times out only when the connection has no open stream (`connection_idle`).
    pub(in crate::proxy) fn poll_timeout(&mut self, cx: &mut Context<'_>, connection_idle: bool) -> Poll<()> {
        let pending = self.progress.0.load(Ordering::Relaxed);
        if pending == NONE_PENDING || pending & MAYBE_DATA != 0 && !connection_idle {
            self.watched = NONE_PENDING;
            self.timer = None;
            return Poll::Pending;
        }
        let sequence = pending & !MAYBE_DATA;
        if sequence != self.watched {
            self.watched = sequence;
            self.timer = Some(Box::pin(sleep(self.timeout)));
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        let polled = timer.as_mut().poll(cx);
        if polled.is_ready() {
            // Fires once for each frame or header block.
            self.timer = None;
        }
        polled
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

    /// The published state after each octet.
    fn pending_after_each_octet(bytes: &[u8]) -> Vec<u32> {
        let progress = FrameProgress::default();
        let mut observer = ReadFrameObserver::new(progress.clone(), StreamTable::default(), 0);
        bytes
            .iter()
            .map(|octet| {
                observer.observe(&[*octet]);
                progress.0.load(Ordering::Relaxed)
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
            assert_eq!(progress.0.load(Ordering::Relaxed), NONE_PENDING, "{step}");
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
        assert_eq!(progress.0.load(Ordering::Relaxed), NONE_PENDING);
        observer.observe(&[0, 0, 8, PING, 0]);
        assert_ne!(progress.0.load(Ordering::Relaxed), NONE_PENDING);
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
