//! What a client has begun and not ended, told from the frames that it sends: half a frame, or a header block whose end
//! is still to come.
//!
//! The `h2` crate waits for the rest of either without a limit, and tells nobody. Only DATA may be slow: its pace is
//! judged where a body is read. The streams that it opens and resets go to the [`StreamTable`]. It changes no byte, and
//! costs a few instructions for a frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::http::h2_frame::{FrameEvent, FrameHeader, FrameParser, flag, frame_type};
use crate::proxy::stream_table::StreamTable;
use crate::upstream::timer::sleep;

/// Nothing is begun.
const NONE_PENDING: u32 = 0;
/// What is begun may be DATA: the bytes so far do not tell.
const MAYBE_DATA: u32 = 1;
/// Added for each thing that is begun, so that one is told from the next.
const SEQUENCE_STEP: u32 = 2;

/// What is begun at this moment, for who waits for its end.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct FrameProgress(Arc<AtomicU32>);

/// Follows the frames that come in on one connection.
#[derive(Debug)]
pub(in crate::proxy) struct FrameProgressObserver {
    progress: FrameProgress,
    /// What [`FrameProgress`] says.
    published: u32,
    /// A number for what is begun: even, and never 0.
    sequence: u32,
    frames: FrameParser,
    kind: u8,
    /// HEADERS came, and its END_HEADERS did not.
    in_header_block: bool,
    streams: StreamTable,
    /// The highest stream that was opened: HEADERS for another one are trailers, or malformed.
    highest: u32,
    /// What the frame does to a stream once it is whole.
    effect: Option<Effect>,
}

/// What a frame does to a stream.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Opens(u32),
    Resets(u32),
}

impl FrameProgressObserver {
    /// Of a connection whose first bytes are the preface of so many octets.
    pub(in crate::proxy) const fn new(progress: FrameProgress, streams: StreamTable, preface: usize) -> Self {
        FrameProgressObserver {
            progress,
            published: NONE_PENDING,
            sequence: SEQUENCE_STEP,
            // The preface is waited for elsewhere.
            frames: FrameParser::after_preface(preface),
            kind: frame_type::DATA,
            in_header_block: false,
            streams,
            highest: 0,
            effect: None,
        }
    }

    /// Looks at what was read next. Says how many streams the client has reset before their response headers.
    pub(in crate::proxy) fn observe(&mut self, mut read: &[u8]) -> usize {
        let mut gone = 0;
        while let Some(piece) = self.frames.next(&mut read) {
            if let FrameEvent::Header(head) = piece {
                self.begin(head);
            }
            if self.frames.remaining() == 0 && !self.in_header_block {
                self.sequence = self.sequence.wrapping_add(SEQUENCE_STEP).max(SEQUENCE_STEP);
                match self.effect.take() {
                    Some(Effect::Opens(stream)) => self.streams.opened(stream),
                    Some(Effect::Resets(stream)) => {
                        gone += usize::from(self.streams.reset_by_client(stream));
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
        gone
    }

    fn begin(&mut self, FrameHeader { kind, flags, stream }: FrameHeader) {
        self.kind = kind;
        if matches!(kind, frame_type::HEADERS | frame_type::CONTINUATION) {
            self.in_header_block = flags & flag::END_HEADERS == 0;
        }
        match kind {
            // A client's streams have odd numbers that grow (RFC 9113 5.1.1).
            frame_type::HEADERS if stream > self.highest && stream % 2 == 1 => {
                self.highest = stream;
                self.effect = Some(Effect::Opens(stream));
            }
            frame_type::RST_STREAM => self.effect = Some(Effect::Resets(stream)),
            _ => {}
        }
    }

    fn pending_state(&self) -> u32 {
        if self.in_header_block || self.frames.remaining() > 0 && self.kind != frame_type::DATA {
            return self.sequence;
        }
        match self.frames.partial_header() {
            [] => NONE_PENDING,
            // Length, then type.
            [_, _, _, other, ..] if *other != frame_type::DATA => self.sequence,
            _ => self.sequence | MAYBE_DATA,
        }
    }
}

/// Waits for the end of what a client has begun.
pub(in crate::proxy) struct FrameReadTimeout {
    progress: FrameProgress,
    timeout: Duration,
    watched: u32,
    timer: Option<BoxFuture<'static, ()>>,
}

impl FrameReadTimeout {
    pub(in crate::proxy) fn new(progress: FrameProgress, timeout: Duration) -> Self {
        FrameReadTimeout { progress, timeout, watched: NONE_PENDING, timer: None }
    }

    /// Ready when something was begun a limit ago and has not ended; to be asked after each read. What may be DATA has no
    /// limit here unless the connection is `connection_idle`.
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
            // Once for each thing that is begun.
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

    /// What is begun after each octet.
    fn pending_after_each_octet(bytes: &[u8]) -> Vec<u32> {
        let progress = FrameProgress::default();
        let mut inbound = FrameProgressObserver::new(progress.clone(), StreamTable::default(), 0);
        bytes
            .iter()
            .map(|octet| {
                inbound.observe(&[*octet]);
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
            let mut inbound = FrameProgressObserver::new(progress.clone(), StreamTable::default(), 0);
            for piece in bytes.chunks(step) {
                let _ = inbound.observe(piece);
            }
            assert_eq!(progress.0.load(Ordering::Relaxed), NONE_PENDING, "{step}");
        }
    }

    #[test]
    fn frame_is_pending_from_first_to_last_octet_except_data() {
        let ping = pending_after_each_octet(&frame(PING, 0, &[0; 2]));
        let maybe_data = |octets: &[u32]| octets.iter().map(|state| state & MAYBE_DATA).collect::<Vec<_>>();
        assert!(ping.iter().take(10).all(|says| *says != NONE_PENDING), "{ping:?}");
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
        let mut inbound = FrameProgressObserver::new(progress.clone(), StreamTable::default(), 5);
        inbound.observe(b"PRI");
        inbound.observe(&[&b"M\n"[..], &frame(4, 0, &[])].concat());
        assert_eq!(progress.0.load(Ordering::Relaxed), NONE_PENDING);
        inbound.observe(&[0, 0, 8, PING, 0]);
        assert_ne!(progress.0.load(Ordering::Relaxed), NONE_PENDING);
    }

    #[test]
    fn resets_are_counted_for_whole_header_sections_however_the_bytes_are_split() {
        let on = |stream: u8, kind, flags, payload: &[u8]| {
            [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
        };
        let code = [0, 0, 0, 8];
        let bytes = [
            // Opened and reset; in two frames; with trailers.
            on(1, HEADERS, END_HEADERS, b"head"),
            on(1, frame_type::RST_STREAM, 0, &code),
            on(3, HEADERS, 0, b"head"),
            on(3, CONTINUATION, END_HEADERS, b"more"),
            on(3, HEADERS, END_HEADERS | 1, b"trailers"),
            on(3, frame_type::RST_STREAM, 0, &code),
            // Not a client's stream, one that is older than the last, one that was never opened.
            on(4, HEADERS, END_HEADERS, b"head"),
            on(4, frame_type::RST_STREAM, 0, &code),
            on(1, HEADERS, END_HEADERS, b"head"),
            on(1, frame_type::RST_STREAM, 0, &code),
            on(9, frame_type::RST_STREAM, 0, &code),
            // Left open; and never whole.
            on(11, HEADERS, END_HEADERS | 1, b"head"),
            on(13, HEADERS, 0, b"head"),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let streams = StreamTable::default();
            let mut inbound = FrameProgressObserver::new(FrameProgress::default(), streams.clone(), 0);
            let gone: usize = bytes.chunks(step).map(|piece| inbound.observe(piece)).sum();
            assert_eq!((gone, streams.connection_ended()), (2, 1), "{step}");
        }
    }
}
