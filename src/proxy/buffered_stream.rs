//! A plaintext or TLS connection with a read buffer and a write buffer.
//!
//! Used for clients and upstreams. Every operation is a poll function, so that one loop can drive both directions of
//! both connections, and can be cancelled at any point without losing bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use pingora::protocols::Stream;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

/// Read size for header sections: typical ones fit, and an idle connection uses no more memory than this.
pub(super) const HEADER_BUFFER_SIZE: usize = 4 * 1024;
/// Read size for bodies: large enough that the cost of a system call per read does not matter.
pub(super) const BODY_BUFFER_SIZE: usize = 64 * 1024;

/// A connection with its read and write buffers.
#[derive(Debug)]
pub(super) struct BufferedStream {
    stream: Stream,
    /// Bytes read and not yet consumed.
    pub(super) input: BytesMut,
    /// Bytes queued and not yet written.
    pub(super) output: BytesMut,
    /// The stream may still buffer written bytes, as TLS does.
    unflushed: bool,
}

impl BufferedStream {
    pub(super) fn new(stream: Stream) -> Self {
        BufferedStream::with_input(stream, BytesMut::new())
    }

    /// A stream of which these bytes were already read.
    pub(super) fn with_input(stream: Stream, input: BytesMut) -> Self {
        BufferedStream { stream, input, output: BytesMut::new(), unflushed: false }
    }

    /// Reads once into `input`, with capacity for at least `reserve` bytes. Returns 0 at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, reserve: usize) -> Poll<io::Result<usize>> {
        self.input.reserve(reserve);
        poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.input)
    }

    /// Writes `output` until it is empty. Ready at once if it is empty already.
    ///
    /// # Errors
    /// The write error; unwritten bytes stay in `output`.
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

    /// Number of bytes that are not written; at least 1 while the stream may buffer some.
    pub(super) fn unsent(&self) -> usize {
        self.output.len().max(usize::from(self.unflushed))
    }

    /// Moves everything in `input` to the output of `to`: the bytes of a tunnel.
    pub(super) fn move_input_to(&mut self, to: &mut BufferedStream) {
        if to.output.is_empty() {
            std::mem::swap(&mut self.input, &mut to.output);
        } else {
            to.output.extend_from_slice(&self.input);
        }
        self.input.clear();
    }

    /// Half-closes the connection, see [`BufferedStream::shutdown_write`].
    pub(super) fn poll_shutdown_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Reads once; see [`BufferedStream::poll_fill`].
    pub(super) async fn fill(&mut self, reserve: usize) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_fill(cx, reserve)).await
    }

    /// Half-closes the connection (FIN). The peer may continue to send.
    pub(super) async fn shutdown_write(&mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_shutdown_write(cx)).await
    }

    /// Frees an empty write buffer, so that a request that waits for its response uses little memory.
    pub(super) fn free_output(&mut self) {
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    /// Frees empty buffers, so that an idle connection uses little memory.
    pub(super) fn free_buffers(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.free_output();
    }

    /// Closes the connection with a reset: for a truncated message whose end is otherwise the close of the connection.
    pub(super) fn reset(self) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        // If this fails, the connection is closed normally.
        let _ = nix::sys::socket::setsockopt(self.stream.id(), nix::sys::socket::sockopt::Linger, &linger);
    }

    /// The stream for the connection pool; `None` if a buffer holds bytes.
    pub(super) fn into_idle_stream(self) -> Option<Stream> {
        (self.input.is_empty() && self.unsent() == 0).then_some(self.stream)
    }

    /// The stream and the bytes already read, for the codec of another protocol.
    pub(super) fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }
}
