//! One connection: a pingora stream, encrypted or not, the bytes read ahead of it and the bytes still to be written.
//!
//! The same for both sides of the gateway. Everything is a poll function, so that one loop can drive four directions at
//! once and stop anywhere without losing a byte. It knows no HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora::protocols::Stream;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

/// Room for a head: real ones fit, and an idle connection holds no more.
pub(super) const HEADER_BUFFER_SIZE: usize = 4 * 1024;
/// Room for a body: the system call is paid once for so many bytes.
pub(super) const BODY_BUFFER_SIZE: usize = 64 * 1024;

/// A connection with its buffers.
#[derive(Debug)]
pub(super) struct BufferedStream {
    stream: Stream,
    /// Read and not used yet.
    pub(super) input: BytesMut,
    /// Not written yet.
    pub(super) output: BytesMut,
    /// The stream was given bytes that it may still hold back, as an encrypted one does.
    unflushed: bool,
}

impl BufferedStream {
    pub(super) fn new(stream: Stream) -> Self {
        BufferedStream { stream, input: BytesMut::new(), output: BytesMut::new(), unflushed: false }
    }

    /// Reads once into `input`, with room for `reserve` bytes; 0 is the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, reserve: usize) -> Poll<io::Result<usize>> {
        self.input.reserve(reserve);
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)
    }

    /// Writes `output` until it is empty. Ready at once when there is nothing to write.
    ///
    /// # Errors
    /// What the system said; what was not written stays in `output`.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unsent() == 0 {
            return Poll::Ready(Ok(()));
        }
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.output.advance(written);
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Bytes that are not written; at least 1 while the stream may hold some back.
    pub(super) fn unsent(&self) -> usize {
        self.output.len().max(usize::from(self.unflushed))
    }

    /// Hands everything read on to be written to `to`: bytes of a tunnel, which are nobody's answer.
    pub(super) fn splice_to(&mut self, to: &mut BufferedStream) {
        if to.output.is_empty() {
            std::mem::swap(&mut self.input, &mut to.output);
        } else {
            to.output.extend_from_slice(&self.input);
        }
        self.input.clear();
    }

    /// Says that nothing more will be written, as [`BufferedStream::shutdown_write`] does.
    pub(super) fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Reads once; see [`BufferedStream::poll_fill`].
    pub(super) async fn fill(&mut self, reserve: usize) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx, reserve)).await
    }

    /// Says that nothing more will be written (FIN). The peer may go on sending.
    pub(super) async fn shutdown_write(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_shutdown_write(cx)).await
    }

    /// Gives back the memory of what was written: the wait for an answer should not cost as much as the request.
    pub(super) fn free_output(&mut self) {
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    /// Gives back the memory of empty buffers: an idle connection should cost little.
    pub(super) fn free_buffers(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.output = BytesMut::new();
    }

    /// Closes so that the peer sees a reset and not an orderly end: for a body whose only end is the connection's.
    pub(super) fn reset(self) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        // A failure leaves an ordinary close, which is all that can be done then.
        let _ = nix::sys::socket::setsockopt(self.stream.id(), nix::sys::socket::sockopt::Linger, &linger);
    }

    /// The connection for the pool; only when nothing is buffered either way.
    pub(super) fn into_idle_stream(self) -> Option<Stream> {
        (self.input.is_empty() && self.unsent() == 0).then_some(self.stream)
    }

    /// The stream and what was read ahead, for the codec of another protocol.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }
}
