//! What a server says in its frames and the `h2` crate keeps to itself: its greeting, and what a GOAWAY says.
//!
//! The crate tells a stream that was passed over and one that was cut behind a GOAWAY apart by nothing: both end with the
//! same error. But only the first may be sent again whatever its method. And whether the code of a GOAWAY is told depends
//! on how the connection ends behind it. So does whether an answer was whole, where the request is still on its way: the
//! crate forgets END_STREAM for an error of the connection. No byte is changed here.
//!
//! A server that has answered and closes reads no more of a request, so writing fails first. The crate would give up what
//! it has yet to read: here a write that failed is told by the end of the reads.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::protocol::frame::{self, FrameEvent, FrameHeader, flag, frame_type};

/// Streams whose end is remembered: the last one of each slot. More than are open at once.
const ENDS: usize = 128;
/// So much of a greeting in another language is kept for the log.
const QUOTED: usize = 64;

/// What was seen on one connection.
#[derive(Debug)]
pub(super) struct Seen {
    /// The greeting has come, whole.
    greeted: AtomicBool,
    /// What came in its place.
    instead: Mutex<Vec<u8>>,
    /// The last stream that the server will look at.
    last_stream: AtomicU32,
    /// Why it takes leave, where it is not in peace.
    leaves_for: AtomicU32,
    /// How often anything was read.
    reads: AtomicU64,
    /// Streams that the server has ended.
    ends: [AtomicU32; ENDS],
}

impl Seen {
    pub(super) fn greeted(&self) -> bool {
        self.greeted.load(Ordering::Relaxed)
    }

    /// What came in place of a greeting; nothing where nothing came, or HTTP/2.
    pub(super) fn instead(&self) -> Vec<u8> {
        self.instead.lock().clone()
    }

    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream.load(Ordering::Acquire)
    }

    /// The code of a GOAWAY; 0 where there was none.
    pub(super) fn leaves_for(&self) -> u32 {
        self.leaves_for.load(Ordering::Relaxed)
    }

    /// The server has ended this stream, and all before the end was handed on. Late streams may have taken its slot: then
    /// nobody knows, and the answer is no.
    pub(super) fn ended(&self, stream: u32) -> bool {
        self.end_of(stream).is_some_and(|slot| slot.load(Ordering::Acquire) == stream)
    }

    fn end_of(&self, stream: u32) -> Option<&AtomicU32> {
        // Streams of a client have odd numbers.
        self.ends.get(stream as usize / 2 % ENDS)
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl Default for Seen {
    fn default() -> Self {
        Seen {
            greeted: AtomicBool::new(false),
            instead: Mutex::default(),
            last_stream: AtomicU32::new(u32::MAX),
            leaves_for: AtomicU32::new(0),
            reads: AtomicU64::new(0),
            ends: [const { AtomicU32::new(0) }; ENDS],
        }
    }
}

/// A connection whose frames are looked at as they come in.
pub(super) struct Watched<S> {
    stream: S,
    frames: Frames,
    seen: std::sync::Arc<Seen>,
    /// Nothing that is written arrives any more.
    deaf: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, seen: std::sync::Arc<Seen>) -> Self {
        Watched { stream, frames: Frames::default(), seen, deaf: false }
    }
}

/// Where in the frames we are.
#[derive(Debug, Default)]
struct Frames {
    frames: frame::FrameParser,
    /// The number that a GOAWAY is saying, as far as it has come, and which of its bytes come next.
    last: Option<(u8, u32)>,
    begun: bool,
    /// The stream that ends with this frame.
    ends: Option<u32>,
    /// Streams that have ended in what was read last: it is handed on before more is read.
    ended: Vec<u32>,
}

impl Frames {
    /// What was looked at until now was handed on.
    fn handed_on(&mut self, seen: &Seen) {
        for stream in self.ended.drain(..) {
            if let Some(slot) = seen.end_of(stream) {
                slot.store(stream, Ordering::Release);
            }
        }
    }

    /// Looks at what was read next. Says whether it can be HTTP/2.
    fn look(&mut self, mut read: &[u8], seen: &Seen) -> bool {
        while let Some(piece) = self.frames.next(&mut read) {
            match piece {
                FrameEvent::Header(head) if !self.begun && !greets(head) => return false,
                FrameEvent::Header(head) => self.begin(head),
                FrameEvent::Payload(octets) => self.go_away(octets, seen),
            }
            if self.frames.remaining() == 0 {
                self.ended.extend(self.ends.take());
                if !seen.greeted() {
                    seen.greeted.store(true, Ordering::Relaxed);
                }
            }
        }
        true
    }

    fn begin(&mut self, FrameHeader { kind, flags, stream, .. }: FrameHeader) {
        self.begun = true;
        self.last = (kind == frame_type::GOAWAY).then_some((0, 0));
        let ends = match kind {
            frame_type::DATA => flags & flag::END_STREAM != 0,
            frame_type::HEADERS => flags & flag::END_STREAM != 0 && flags & flag::END_HEADERS != 0,
            _ => false,
        };
        self.ends = ends.then_some(stream);
    }

    fn go_away(&mut self, payload: &[u8], seen: &Seen) {
        let Some((mut count, mut number)) = self.last else { return };
        for octet in payload {
            number = number << 8 | u32::from(*octet);
            count += 1;
            match count {
                4 => {
                    seen.last_stream.fetch_min(number & 0x7fff_ffff, Ordering::Release);
                    number = 0;
                }
                8 => {
                    seen.leaves_for.fetch_max(number, Ordering::Relaxed);
                    self.last = None;
                    return;
                }
                _ => {}
            }
        }
        self.last = Some((count, number));
    }
}

/// A server speaks SETTINGS first (RFC 9113 3.4).
const fn greets(head: FrameHeader) -> bool {
    head.kind == frame_type::SETTINGS && head.flags & flag::ACK == 0 && head.stream == 0
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let me = &mut *self;
        me.frames.handed_on(&me.seen);
        let read = buffer.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            let me = &mut *self;
            me.seen.reads.fetch_add(1, Ordering::Relaxed);
            if !me.frames.look(read, &me.seen) {
                *me.seen.instead.lock() = read.get(..QUOTED).unwrap_or(read).to_vec();
                buffer.set_filled(before);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.unless_it_failed(polled, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.unless_it_failed(polled, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = || buffers.iter().map(|buffer| buffer.len()).sum();
        if self.deaf {
            return Poll::Ready(Ok(all()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        let all = all();
        self.unless_it_failed(polled, all)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S> Watched<S> {
    /// A write that fails is said to have gone well: why it failed is heard by reading to the end.
    fn unless_it_failed<T>(&mut self, polled: Poll<io::Result<T>>, well: T) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(Err(_)) => {
                self.deaf = true;
                Poll::Ready(Ok(well))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::flag::{ACK, END_HEADERS, END_STREAM};
    use crate::protocol::frame::frame_type::{DATA, GOAWAY, HEADERS, SETTINGS};

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn the_greeting_and_the_last_stream_are_found_however_the_bytes_are_split() {
        let bytes = [
            frame(SETTINGS, 0, &[0; 6]),
            frame(SETTINGS, ACK, &[]),
            frame(0, 0, &[7; 90]),
            frame(GOAWAY, 0, &[0, 0, 1, 2, 0, 0, 0, 0]),
            frame(GOAWAY, 0, &[0x80, 0, 0, 5, 0, 0, 0, 11, 1]),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let (mut frames, seen) = (Frames::default(), Seen::default());
            let mut so_far = 0;
            for piece in bytes.chunks(step) {
                assert!(frames.look(piece, &seen));
                so_far += piece.len();
                assert_eq!(seen.greeted(), so_far >= 15, "{so_far}");
            }
            assert_eq!((seen.last_stream(), seen.leaves_for()), (5, 11));
        }
    }

    #[test]
    fn an_end_is_known_once_all_before_it_was_handed_on() {
        let on = |stream: u8, mut frame: Vec<u8>| {
            if let Some(place) = frame.get_mut(8) {
                *place = stream;
            }
            frame
        };
        let bytes = [
            frame(SETTINGS, 0, &[]),
            on(1, frame(HEADERS, END_STREAM | END_HEADERS, b"head")),
            on(3, frame(HEADERS, END_STREAM, b"half a head")),
            on(5, frame(DATA, 0, b"x")),
            on(7, frame(DATA, END_STREAM, b"")),
            on(9, frame(DATA, END_STREAM, b"xyz")),
        ]
        .concat();
        let (whole, last) = bytes.split_at(bytes.len() - 1);
        let (mut frames, seen) = (Frames::default(), Seen::default());
        assert!(frames.look(whole, &seen));
        assert!(!seen.ended(1));
        frames.handed_on(&seen);
        let ended: Vec<u32> = (1..300).filter(|stream| seen.ended(*stream)).collect();
        assert_eq!(ended, [1, 7]);
        assert!(frames.look(last, &seen));
        frames.handed_on(&seen);
        assert!(seen.ended(9) && !seen.ended(9 + 256));
    }

    #[test]
    fn another_language_is_known_by_its_first_nine_bytes() {
        for other in [&b"HTTP/1.1 400 Bad Request"[..], &frame(SETTINGS, ACK, &[]), &frame(1, 0, b"x")] {
            let (mut frames, seen) = (Frames::default(), Seen::default());
            assert!(frames.look(&other[..8], &seen));
            assert!(!frames.look(&other[8..], &seen));
            assert!(!seen.greeted());
        }
    }
}
