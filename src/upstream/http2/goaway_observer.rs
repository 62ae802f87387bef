//! Parses the received frames for information that the `h2` crate does not expose. It does not modify the bytes.
//!
//! - GOAWAY: the crate returns the same error for a stream above the last stream identifier and for an interrupted one.
//!   Only the first was not processed and may be retried with any method. The crate does not always return the code.
//! - END_STREAM: a connection error can hide that a response was complete.
//! - The size of header blocks: the crate reports one above its limit like any malformed message.
//! - SETTINGS: the first frame, which confirms that the server uses HTTP/2.
//!
//! Write errors are hidden. A server that responds early and closes causes a write error first, and the crate would
//! then discard the response. The end of the reads reports the failure instead.

use std::io;
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::h2_frame::{self, FrameEvent, FrameHeader, flag, frame_type};
use crate::tls::cert_verification;

/// Number of slots for ended streams, more than the maximum number of open streams. A slot holds its latest stream.
const MAX_ENDED_STREAMS: usize = 128;
/// A larger header block, as encoded by HPACK, is reported: its header list is larger than a response may have.
const LARGE_HEADER_BLOCK: usize = 64 * 1024;
/// Maximum number of bytes of another protocol that are kept for the log.
const MAX_UNEXPECTED_BYTES: usize = 64;

/// What the frames of one connection have reported so far.
#[derive(Debug)]
pub(super) struct ObservedState {
    /// The server's first SETTINGS frame was received completely.
    settings_received: AtomicBool,
    /// The first bytes from a server that does not use HTTP/2.
    unexpected_bytes: Mutex<Vec<u8>>,
    /// The TLS error that ended the connection, for example an alert. The `h2` crate keeps only its kind.
    tls_error: OnceLock<String>,
    /// The lowest last stream identifier of all GOAWAY frames; `u32::MAX` without one.
    last_stream: AtomicU32,
    /// The highest error code of all GOAWAY frames.
    goaway_code: AtomicU32,
    /// Number of reads that returned data.
    read_count: AtomicU64,
    /// The latest stream with a header block above [`LARGE_HEADER_BLOCK`]; 0 without one.
    large_header_block: AtomicU32,
    /// Streams on which END_STREAM was received.
    ended_streams: [AtomicU32; MAX_ENDED_STREAMS],
}

impl ObservedState {
    pub(super) fn settings_received(&self) -> bool {
        self.settings_received.load(Ordering::Relaxed)
    }

    /// The first bytes from a server that does not use HTTP/2; empty otherwise.
    pub(super) fn unexpected_bytes(&self) -> Vec<u8> {
        self.unexpected_bytes.lock().clone()
    }

    /// The description of the TLS error that ended the connection.
    pub(super) fn tls_error(&self) -> Option<&str> {
        self.tls_error.get().map(String::as_str)
    }

    pub(super) fn last_stream(&self) -> u32 {
        self.last_stream.load(Ordering::Acquire)
    }

    /// The error code of a GOAWAY; 0 without one.
    pub(super) fn goaway_code(&self) -> u32 {
        self.goaway_code.load(Ordering::Relaxed)
    }

    /// Whether END_STREAM was received on this stream and all data before it was passed to the `h2` crate. False if a
    /// later stream uses the same slot.
    pub(super) fn ended(&self, stream: u32) -> bool {
        self.ended_slot(stream).is_some_and(|slot| slot.load(Ordering::Acquire) == stream)
    }

    fn ended_slot(&self, stream: u32) -> Option<&AtomicU32> {
        // Client streams have odd identifiers.
        self.ended_streams.get(stream as usize / 2 % MAX_ENDED_STREAMS)
    }

    /// Whether the latest header block above [`LARGE_HEADER_BLOCK`] was on this stream.
    pub(super) fn has_large_header_block(&self, stream: u32) -> bool {
        self.large_header_block.load(Ordering::Relaxed) == stream
    }

    pub(super) fn read_count(&self) -> u64 {
        self.read_count.load(Ordering::Relaxed)
    }
}

impl Default for ObservedState {
    fn default() -> Self {
        ObservedState {
            settings_received: AtomicBool::new(false),
            unexpected_bytes: Mutex::default(),
            tls_error: OnceLock::new(),
            last_stream: AtomicU32::new(u32::MAX),
            goaway_code: AtomicU32::new(0),
            read_count: AtomicU64::new(0),
            large_header_block: AtomicU32::new(0),
            ended_streams: [const { AtomicU32::new(0) }; MAX_ENDED_STREAMS],
        }
    }
}

/// A connection that passes received bytes to the frame observer.
pub(super) struct GoAwayObserver<S> {
    stream: S,
    frames: FrameObserver,
    observed: std::sync::Arc<ObservedState>,
    /// A write failed; further writes are discarded.
    write_closed: bool,
}

impl<S> GoAwayObserver<S> {
    pub(super) fn new(stream: S, observed: std::sync::Arc<ObservedState>) -> Self {
        GoAwayObserver { stream, frames: FrameObserver::default(), observed, write_closed: false }
    }
}

/// Parses the received frames.
#[derive(Debug, Default)]
struct FrameObserver {
    parser: h2_frame::FrameParser,
    /// Number of GOAWAY payload bytes received, and the value of the current field so far.
    goaway_field: Option<(u8, u32)>,
    started: bool,
    /// Length of the current header block so far.
    header_block: usize,
    /// The stream that ends with the current frame.
    end_stream: Option<u32>,
    /// Streams that ended in the last read. They are published at the next read, when the `h2` crate has processed the
    /// data.
    pending_ends: Vec<u32>,
}

impl FrameObserver {
    /// Publishes the streams that ended in earlier reads.
    fn commit_ended(&mut self, observed: &ObservedState) {
        for stream in self.pending_ends.drain(..) {
            if let Some(slot) = observed.ended_slot(stream) {
                slot.store(stream, Ordering::Release);
            }
        }
    }

    /// Parses received bytes. Returns false if they are not HTTP/2.
    fn observe(&mut self, mut read: &[u8], observed: &ObservedState) -> bool {
        while let Some(event) = self.parser.next(&mut read) {
            match event {
                FrameEvent::Header(header) if !self.started && !is_settings(header) => return false,
                FrameEvent::Header(header) => {
                    self.begin_frame(header);
                    self.measure_header_block(header, observed);
                }
                FrameEvent::Payload(octets) => self.read_goaway(octets, observed),
            }
            if self.parser.remaining() == 0 {
                self.pending_ends.extend(self.end_stream.take());
                if !observed.settings_received() {
                    observed.settings_received.store(true, Ordering::Relaxed);
                }
            }
        }
        true
    }

    fn begin_frame(&mut self, FrameHeader { kind, flags, stream, .. }: FrameHeader) {
        self.started = true;
        self.goaway_field = (kind == frame_type::GOAWAY).then_some((0, 0));
        let end_stream = match kind {
            frame_type::DATA => flags & flag::END_STREAM != 0,
            frame_type::HEADERS => flags & flag::END_STREAM != 0 && flags & flag::END_HEADERS != 0,
            _ => false,
        };
        self.end_stream = end_stream.then_some(stream);
    }

    fn measure_header_block(&mut self, header: FrameHeader, observed: &ObservedState) {
        self.header_block = match header.kind {
            frame_type::HEADERS => self.parser.remaining(),
            frame_type::CONTINUATION => self.header_block.saturating_add(self.parser.remaining()),
            _ => return,
        };
        if self.header_block > LARGE_HEADER_BLOCK {
            observed.large_header_block.store(header.stream, Ordering::Relaxed);
        }
    }

    fn read_goaway(&mut self, payload: &[u8], observed: &ObservedState) {
        let Some((mut count, mut value)) = self.goaway_field else { return };
        for octet in payload {
            value = value << 8 | u32::from(*octet);
            count += 1;
            match count {
                4 => {
                    observed.last_stream.fetch_min(value & 0x7fff_ffff, Ordering::Release);
                    value = 0;
                }
                8 => {
                    observed.goaway_code.fetch_max(value, Ordering::Relaxed);
                    self.goaway_field = None;
                    return;
                }
                _ => {}
            }
        }
        self.goaway_field = Some((count, value));
    }
}

/// Whether this can be the server's connection preface, a SETTINGS frame (RFC 9113 3.4).
const fn is_settings(header: FrameHeader) -> bool {
    header.kind == frame_type::SETTINGS && header.flags & flag::ACK == 0 && header.stream == 0
}

impl<S: AsyncRead + Unpin> AsyncRead for GoAwayObserver<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &polled
            && cert_verification::is_tls_error(error)
        {
            self.observed.tls_error.get_or_init(|| cert_verification::describe_io_error(error));
        }
        let this = &mut *self;
        this.frames.commit_ended(&this.observed);
        let read = buffer.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            let this = &mut *self;
            this.observed.read_count.fetch_add(1, Ordering::Relaxed);
            if !this.frames.observe(read, &this.observed) {
                *this.observed.unexpected_bytes.lock() =
                    read.get(..MAX_UNEXPECTED_BYTES).unwrap_or(read).to_vec();
                buffer.set_filled(before);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GoAwayObserver<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_closed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.ignore_write_error(polled, bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_closed {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.ignore_write_error(polled, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = || buffers.iter().map(|buffer| buffer.len()).sum();
        if self.write_closed {
            return Poll::Ready(Ok(total()));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        let total = total();
        self.ignore_write_error(polled, total)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl<S> GoAwayObserver<S> {
    /// Reports a write error as success, because reading to the end gives the reason.
    fn ignore_write_error<T>(&mut self, polled: Poll<io::Result<T>>, success: T) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(Err(_)) => {
                self.write_closed = true;
                Poll::Ready(Ok(success))
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h2_frame::flag::{ACK, END_HEADERS, END_STREAM};
    use crate::http::h2_frame::frame_type::{DATA, GOAWAY, HEADERS, SETTINGS};

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 0], payload].concat()
    }

    #[test]
    fn settings_and_goaway_are_read_for_any_split() {
        let bytes = [
            frame(SETTINGS, 0, &[0; 6]),
            frame(SETTINGS, ACK, &[]),
            frame(0, 0, &[7; 90]),
            frame(GOAWAY, 0, &[0, 0, 1, 2, 0, 0, 0, 0]),
            frame(GOAWAY, 0, &[0x80, 0, 0, 5, 0, 0, 0, 11, 1]),
        ]
        .concat();
        for step in 1..=bytes.len() {
            let (mut observer, observed) = (FrameObserver::default(), ObservedState::default());
            let mut so_far = 0;
            for piece in bytes.chunks(step) {
                assert!(observer.observe(piece, &observed));
                so_far += piece.len();
                assert_eq!(observed.settings_received(), so_far >= 15, "{so_far}");
            }
            assert_eq!((observed.last_stream(), observed.goaway_code()), (5, 11));
        }
    }

    #[test]
    fn end_stream_is_reported_after_the_preceding_bytes() {
        let on_stream = |stream: u8, mut frame: Vec<u8>| {
            if let Some(octet) = frame.get_mut(8) {
                *octet = stream;
            }
            frame
        };
        let bytes = [
            frame(SETTINGS, 0, &[]),
            on_stream(1, frame(HEADERS, END_STREAM | END_HEADERS, b"head")),
            on_stream(3, frame(HEADERS, END_STREAM, b"half a head")),
            on_stream(5, frame(DATA, 0, b"x")),
            on_stream(7, frame(DATA, END_STREAM, b"")),
            on_stream(9, frame(DATA, END_STREAM, b"xyz")),
        ]
        .concat();
        let (all_but_last, last) = bytes.split_at(bytes.len() - 1);
        let (mut observer, observed) = (FrameObserver::default(), ObservedState::default());
        assert!(observer.observe(all_but_last, &observed));
        assert!(!observed.ended(1));
        observer.commit_ended(&observed);
        let ended: Vec<u32> = (1..300).filter(|stream| observed.ended(*stream)).collect();
        assert_eq!(ended, [1, 7]);
        assert!(observer.observe(last, &observed));
        observer.commit_ended(&observed);
        assert!(observed.ended(9) && !observed.ended(9 + 256));
    }

    #[test]
    fn large_header_block_is_reported_for_its_stream() {
        use crate::http::h2_frame::frame_type::CONTINUATION;
        let frame = |kind: u8, stream: u8, length: usize| {
            let [.., high, middle, low] = length.to_be_bytes();
            [&[high, middle, low, kind, 0, 0, 0, 0, stream][..], &vec![b'x'; length]].concat()
        };
        let large_on_3 = |sizes: [usize; 2]| {
            let (mut observer, observed) = (FrameObserver::default(), ObservedState::default());
            for bytes in [
                frame(SETTINGS, 0, 0),
                frame(HEADERS, 1, 60_000),
                frame(HEADERS, 3, sizes[0]),
                frame(CONTINUATION, 3, sizes[1]),
                frame(DATA, 5, 70_000),
            ] {
                assert!(observer.observe(&bytes, &observed));
            }
            assert!(!observed.has_large_header_block(1) && !observed.has_large_header_block(5));
            observed.has_large_header_block(3)
        };
        assert!(!large_on_3([60_000, 5536]));
        assert!(large_on_3([60_000, 5537]));
    }

    #[test]
    fn other_protocols_are_detected_by_the_first_nine_bytes() {
        for unexpected in [&b"HTTP/1.1 400 Bad Request"[..], &frame(SETTINGS, ACK, &[]), &frame(1, 0, b"x")] {
            let (mut observer, observed) = (FrameObserver::default(), ObservedState::default());
            assert!(observer.observe(&unexpected[..8], &observed));
            assert!(!observer.observe(&unexpected[8..], &observed));
            assert!(!observed.settings_received());
        }
    }
}
