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

use super::stream_table::StreamTable;
use crate::protocol::frame::{FrameEvent, FrameHeader, FrameParser, flag, frame_type};
use crate::upstream::timer::sleep;

/// Nothing is begun.
const NOTHING: u32 = 0;
/// What is begun may be DATA: the bytes so far do not tell.
const PERHAPS_DATA: u32 = 1;
/// Added for each thing that is begun, so that one is told from the next.
const NEXT: u32 = 2;

/// What is begun at this moment, for who waits for its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Begun(Arc<AtomicU32>);

/// Follows the frames that come in on one connection.
#[derive(Debug)]
pub(super) struct Inbound {
    told: Begun,
    /// What [`Begun`] says.
    says: u32,
    /// A number for what is begun: even, and never 0.
    number: u32,
    frames: FrameParser,
    kind: u8,
    /// HEADERS came, and its END_HEADERS did not.
    in_block: bool,
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

impl Inbound {
    /// Of a connection whose first bytes are the preface of so many octets.
    pub(super) const fn new(told: Begun, streams: StreamTable, preface: usize) -> Self {
        Inbound {
            told,
            says: NOTHING,
            number: NEXT,
            // The preface is waited for elsewhere.
            frames: FrameParser::after_preface(preface),
            kind: frame_type::DATA,
            in_block: false,
            streams,
            highest: 0,
            effect: None,
        }
    }

    /// Looks at what was read next. Says how many streams the client has reset before their response headers.
    pub(super) fn look(&mut self, mut read: &[u8]) -> usize {
        let mut gone = 0;
        while let Some(piece) = self.frames.next(&mut read) {
            if let FrameEvent::Header(head) = piece {
                self.begin(head);
            }
            if self.frames.remaining() == 0 && !self.in_block {
                self.number = self.number.wrapping_add(NEXT).max(NEXT);
                match self.effect.take() {
                    Some(Effect::Opens(stream)) => self.streams.opened(stream),
                    Some(Effect::Resets(stream)) => {
                        gone += usize::from(self.streams.reset_by_client(stream));
                    }
                    None => {}
                }
            }
        }
        let says = self.begun();
        if says != self.says {
            self.says = says;
            self.told.0.store(says, Ordering::Relaxed);
        }
        gone
    }

    fn begin(&mut self, FrameHeader { kind, flags, stream }: FrameHeader) {
        self.kind = kind;
        if matches!(kind, frame_type::HEADERS | frame_type::CONTINUATION) {
            self.in_block = flags & flag::END_HEADERS == 0;
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

    fn begun(&self) -> u32 {
        if self.in_block || self.frames.remaining() > 0 && self.kind != frame_type::DATA {
            return self.number;
        }
        match self.frames.partial_header() {
            [] => NOTHING,
            // Length, then type.
            [_, _, _, other, ..] if *other != frame_type::DATA => self.number,
            _ => self.number | PERHAPS_DATA,
        }
    }
}

/// Waits for the end of what a client has begun.
pub(super) struct Patience {
    begun: Begun,
    limit: Duration,
    waits_for: u32,
    over: Option<BoxFuture<'static, ()>>,
}

impl Patience {
    pub(super) fn new(begun: Begun, limit: Duration) -> Self {
        Patience { begun, limit, waits_for: NOTHING, over: None }
    }

    /// Ready when something was begun a limit ago and has not ended; to be asked after each read. What may be DATA has no
    /// limit here unless the connection is `idle`.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>, idle: bool) -> Poll<()> {
        let begun = self.begun.0.load(Ordering::Relaxed);
        if begun == NOTHING || begun & PERHAPS_DATA != 0 && !idle {
            self.waits_for = NOTHING;
            self.over = None;
            return Poll::Pending;
        }
        let number = begun & !PERHAPS_DATA;
        if number != self.waits_for {
            self.waits_for = number;
            self.over = Some(Box::pin(sleep(self.limit)));
        }
        let Some(over) = &mut self.over else { return Poll::Pending };
        let polled = over.as_mut().poll(cx);
        if polled.is_ready() {
            // Once for each thing that is begun.
            self.over = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::flag::END_HEADERS;
    use crate::protocol::frame::frame_type::{CONTINUATION, DATA, HEADERS};

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What is begun after each octet.
    fn begun(bytes: &[u8]) -> Vec<u32> {
        let told = Begun::default();
        let mut inbound = Inbound::new(told.clone(), StreamTable::default(), 0);
        bytes
            .iter()
            .map(|octet| {
                inbound.look(&[*octet]);
                told.0.load(Ordering::Relaxed)
            })
            .collect()
    }

    #[test]
    fn frames_that_are_whole_leave_nothing_begun_however_they_come() {
        let bytes = [
            frame(4, 0, &[]),
            frame(HEADERS, END_HEADERS, b"head"),
            frame(DATA, 1, b"body"),
            frame(PING, 0, &[0; 8]),
        ];
        let bytes = bytes.concat();
        for step in 1..=bytes.len() {
            let told = Begun::default();
            let mut inbound = Inbound::new(told.clone(), StreamTable::default(), 0);
            for piece in bytes.chunks(step) {
                let _ = inbound.look(piece);
            }
            assert_eq!(told.0.load(Ordering::Relaxed), NOTHING, "{step}");
        }
    }

    #[test]
    fn a_frame_is_begun_from_its_first_octet_to_its_last_but_for_data() {
        let ping = begun(&frame(PING, 0, &[0; 2]));
        let begun_as = |octets: &[u32]| octets.iter().map(|says| says & PERHAPS_DATA).collect::<Vec<_>>();
        assert!(ping.iter().take(10).all(|says| *says != NOTHING), "{ping:?}");
        assert_eq!(begun_as(&ping), [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ping.last(), Some(&NOTHING));
        let data = begun(&frame(DATA, 0, &[0; 2]));
        assert_eq!(begun_as(&data), [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
        assert_eq!(data.get(8..), Some(&[NOTHING; 3][..]));
    }

    #[test]
    fn a_header_block_is_one_thing_until_its_last_frame_has_come() {
        let first =
            [frame(HEADERS, 0, b"a"), frame(CONTINUATION, 0, b"b"), frame(CONTINUATION, 0, b"c")].concat();
        let said = begun(&first);
        let surely: Vec<u32> = said.iter().map(|says| says & !PERHAPS_DATA).collect();
        assert!(surely.windows(2).all(|pair| pair.first() == pair.last()), "{said:?}");
        assert_ne!(surely.first(), Some(&NOTHING));
        let whole = [first, frame(CONTINUATION, END_HEADERS, b"d")].concat();
        assert_eq!(begun(&whole).last(), Some(&NOTHING));
    }

    #[test]
    fn what_is_begun_next_is_another_thing() {
        let two = [frame(PING, 0, &[0; 8]), frame(PING, 0, &[0; 8])].concat();
        let said = begun(&two);
        assert_ne!(said.get(12), said.get(12 + 17));
    }

    #[test]
    fn the_preface_is_nobodys_frame() {
        let told = Begun::default();
        let mut inbound = Inbound::new(told.clone(), StreamTable::default(), 5);
        inbound.look(b"PRI");
        inbound.look(&[&b"M\n"[..], &frame(4, 0, &[])].concat());
        assert_eq!(told.0.load(Ordering::Relaxed), NOTHING);
        inbound.look(&[0, 0, 8, PING, 0]);
        assert_ne!(told.0.load(Ordering::Relaxed), NOTHING);
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
            let mut inbound = Inbound::new(Begun::default(), streams.clone(), 0);
            let gone: usize = bytes.chunks(step).map(|piece| inbound.look(piece)).sum();
            assert_eq!((gone, streams.connection_ended()), (2, 1), "{step}");
        }
    }
}
