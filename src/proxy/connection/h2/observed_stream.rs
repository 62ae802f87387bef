//! The byte stream below the `h2` crate: first returns the bytes that were already read, and shows all bytes to the
//! frame observers, which find the streams that end without a response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::read_frames::ReadFrameObserver;
use super::read_timeout::FrameProgress;
use super::written_frames::WrittenFrameObserver;
use super::{H2_CRATE_MAX_HEADER_LIST, PREFACE};
use crate::proxy::stream_table::StreamTable;
use crate::telemetry::{CloseReason, Metrics};

/// Maximum number of bytes read in one go. The `h2` crate reads as long as input is available before it returns a
/// request, so without this bound the largest header lists of all streams could be in memory at once.
const MAX_READ_BURST: usize = H2_CRATE_MAX_HEADER_LIST as usize;

/// The stream of a connection that the `h2` crate has dropped: the crate itself does not return it.
#[derive(Clone, Debug, Default)]
pub(super) struct ReturnedStream(Arc<Mutex<Option<Stream>>>);

impl ReturnedStream {
    /// The stream; `None` while the `h2` crate uses it.
    pub(super) fn take(&self) -> Option<Stream> {
        self.0.lock().take()
    }
}

/// A connection that first returns the bytes already read, and that shows all bytes to the frame observers.
pub(super) struct ObservedStream {
    prefix: BytesMut,
    /// `None` only within `drop`.
    stream: Option<Stream>,
    /// Where `drop` leaves the stream.
    returned: ReturnedStream,
    written_observer: WrittenFrameObserver,
    read_observer: ReadFrameObserver,
    table: StreamTable,
    /// Bytes read since the last read that was pending; limited to [`MAX_READ_BURST`].
    read_burst: usize,
    metrics: Arc<Metrics>,
}

impl ObservedStream {
    pub(super) fn new(
        read: BytesMut,
        stream: Stream,
        table: StreamTable,
        frame_progress: FrameProgress,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let read_observer = ReadFrameObserver::new(frame_progress, table.clone(), PREFACE.len());
        ObservedStream {
            prefix: read,
            stream: Some(stream),
            returned: ReturnedStream::default(),
            written_observer: WrittenFrameObserver::new(table.clone()),
            read_observer,
            table,
            read_burst: 0,
            metrics: Arc::clone(metrics),
        }
    }

    /// Where the stream is found once the `h2` crate has dropped it.
    pub(super) fn returned(&self) -> ReturnedStream {
        self.returned.clone()
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn observe_read(&mut self, bytes: &[u8]) {
        let resets = self.read_observer.observe(bytes);
        self.count_client_gone(resets);
    }

    fn count_client_gone(&self, count: usize) {
        for _ in 0..count {
            self.metrics.closed_without_response(CloseReason::ClientGone);
        }
    }

    fn observe_written(&mut self, bytes: &[u8]) {
        let actions = self.written_observer.observe(bytes);
        for _ in 0..actions.resets {
            self.metrics.closed_without_response(CloseReason::Http2StreamError);
        }
        for _ in 0..actions.responses {
            self.metrics.closed_without_response(CloseReason::Http2HeaderList);
        }
    }
}

impl Drop for ObservedStream {
    /// Counts all streams without response headers, accepted or not; stream tasks do not count these.
    fn drop(&mut self) {
        self.count_client_gone(self.table.connection_ended());
        *self.returned.0.lock() = self.stream.take();
    }
}

impl AsyncRead for ObservedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            if self.read_burst >= MAX_READ_BURST {
                self.read_burst = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let before = buffer.filled().len();
            let polled = self.stream()?.poll_read(cx, buffer);
            let read = buffer.filled().get(before..).unwrap_or_default();
            self.observe_read(read);
            self.read_burst = if polled.is_ready() { self.read_burst + read.len() } else { 0 };
            return polled;
        }
        let length = self.prefix.len().min(buffer.remaining());
        let read = self.prefix.split_to(length);
        self.observe_read(&read);
        buffer.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ObservedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = polled {
            self.observe_written(bytes.get(..length).unwrap_or_default());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write_vectored(cx, buffers);
        if let Poll::Ready(Ok(mut length)) = polled {
            for buffer in buffers {
                let written = length.min(buffer.len());
                self.observe_written(buffer.get(..written).unwrap_or_default());
                length -= written;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}
