//! Serves HTTP/2 client connections. Each stream becomes a request and runs as its own task.
//!
//! The `h2` crate implements the protocol. This file configures it, spawns the streams, applies the timeouts and counts
//! failed connections and streams.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::HeaderValue;
use pingora::protocols::Stream;
use pingora::protocols::http::v2::server::default_h2_options;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;

use super::h2_read_timeout::{FrameProgress, FrameReadTimeout, ReadFrameObserver};
use super::h2_written_frames::WrittenFrameObserver;
use super::{Connection, ListenerService, first_line, over_connection_limit, reject_guarded, serve_guarded};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::RequestFraming;
use crate::proxy::downstream::h2::{DownstreamH2, StreamBudget};
use crate::proxy::downstream::{Downstream, ResponseState};
use crate::proxy::message::request::{Request, header_list_size, rejection_to_fault};
use crate::proxy::record::{self, RejectedRequest};
use crate::proxy::stream_table::StreamTable;
use crate::telemetry::{CloseReason, Metrics};
use crate::upstream::timer::{sleep, timeout_at};

/// The connection preface (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest header list that the `h2` crate accepts; above it, the crate itself sends an empty 431. The gateway's own
/// limit is a quarter of this, so that its documented error response is sent first.
const H2_CRATE_MAX_HEADER_LIST: u32 = 256 * 1024;
/// Maximum number of bytes read in one go. The `h2` crate reads as long as input is available before it returns a
/// request, so without this bound the largest header lists of all streams could be in memory at once.
const MAX_READ_BURST: usize = H2_CRATE_MAX_HEADER_LIST as usize;
/// Maximum number of concurrent streams on one connection.
const MAX_STREAMS: u32 = 128;
/// Maximum number of streams that were reset before the gateway accepted them. A client may open all its streams and
/// cancel all of them at once.
const MAX_PENDING_RESETS: usize = MAX_STREAMS as usize;
/// A stream with a larger header list is processed before the next stream is accepted.
const LARGE_HEADER_LIST: usize = 16 * 1024;
/// Receive window of a stream, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Receive window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Memory for small DATA frames that are received and not yet read. Each frame counts as 256 bytes, so a client may
/// send 8,000 small messages while the upstream is busy. The `h2` crate closes the connection above this.
const SMALL_FRAME_BUDGET: usize = 2 * 1024 * 1024;
/// Send buffer of a stream, in bytes.
const MAX_SEND_BUFFER: usize = 32 * 1024;

/// Time for sending the last responses to a client whose frame timed out.
const FINAL_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the first bytes of a connection are the HTTP/2 preface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Preface {
    /// The whole preface.
    Complete,
    /// The beginning of the preface.
    Partial,
    /// Not HTTP/2.
    Other,
}

/// Compares the first bytes of a connection with the preface.
pub(in crate::proxy) fn match_preface(read: &[u8]) -> Preface {
    if read.starts_with(PREFACE) {
        Preface::Complete
    } else if PREFACE.starts_with(read) {
        Preface::Partial
    } else {
        Preface::Other
    }
}

/// Serves an HTTP/2 connection. `read` holds the bytes that were read while looking for the preface. A connection over
/// the connection limit gets error responses to its streams, then GOAWAY.
pub(in crate::proxy) async fn serve(connection: &mut Connection<'_>, stream: Stream, read: BytesMut) {
    let metrics = &connection.listener.gateway.metrics;
    let over_limit = !connection.acquire_permit();
    let client_config = Arc::clone(&connection.client_config);
    let header_timeout = connection.clamp_timeout(client_config.header_timeout);
    let mut options = default_h2_options();
    options
        .max_header_list_size(H2_CRATE_MAX_HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAME_BUDGET)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    let table = StreamTable::default();
    let frame_progress = FrameProgress::default();
    let stream = ObservedStream::new(read, stream, table.clone(), frame_progress.clone(), metrics);
    let handshake = options.handshake::<_, Bytes>(stream);
    let mut h2 = match timeout_at(Instant::now() + header_timeout, handshake).await {
        Some(Ok(h2)) => h2,
        Some(Err(error)) if is_tls_error(&error) => {
            return metrics.closed_without_response(CloseReason::TlsConnectionError);
        }
        Some(Err(_)) | None => return metrics.closed_without_response(CloseReason::Http2ConnectionError),
    };
    let budget = StreamBudget::default();
    let stream_tasks = TaskTracker::new();
    // `TaskTracker::wait` only completes on a closed tracker.
    stream_tasks.close();
    let mut draining = false;
    let shutdown = connection.shutdown.wait_for(|shutting_down| *shutting_down);
    tokio::pin!(shutdown);
    let mut read_timeout = FrameReadTimeout::new(frame_progress, header_timeout);
    // Whether the client failed to complete a frame or header block in time.
    let mut stalled = false;
    // When a connection over the limit closes, even if it still sends requests.
    let mut reject_until: Option<Instant> = None;
    // Counted at the end, unless another request arrives first.
    let mut close_reason = None;
    loop {
        let reject_time_left =
            reject_until.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if reject_time_left == Some(Duration::ZERO) {
            break;
        }
        // After GOAWAY, and for a connection over the limit, the shorter header timeout replaces the idle timeout.
        let timeout = match (stalled, draining || over_limit) {
            // The timeout has passed: only the last responses remain to be sent.
            (true, _) => header_timeout.min(FINAL_FLUSH_TIMEOUT),
            (false, true) => header_timeout,
            (false, false) => client_config.idle_timeout,
        };
        let idle = stream_tasks.is_empty();
        let next = tokio::select! {
            next = next_request(&mut h2, &mut read_timeout, idle) => match next {
                Some(next) => next,
                None => {
                    // Send GOAWAY; open requests still get their responses.
                    (stalled, draining) = (true, true);
                    close_reason = Some(CloseReason::IdleTimeout);
                    if idle {
                        h2.abrupt_shutdown(Reason::NO_ERROR);
                    } else {
                        h2.graceful_shutdown();
                    }
                    continue;
                }
            },
            () = stream_tasks.wait(), if !idle => continue,
            _ = sleep(timeout), if idle => {
                if draining {
                    // The client did not even acknowledge the PING that accompanies GOAWAY.
                    break;
                }
                // Send GOAWAY; requests in transit still get their responses.
                draining = true;
                close_reason = Some(CloseReason::IdleTimeout);
                h2.graceful_shutdown();
                continue;
            }
            () = sleep(reject_time_left.unwrap_or(timeout)), if reject_time_left.is_some() => continue,
            _ = &mut shutdown, if !draining => {
                draining = true;
                close_reason = stream_tasks.is_empty().then_some(CloseReason::Drain);
                h2.graceful_shutdown();
                continue;
            }
        };
        match next {
            Some(Ok((request, respond))) => {
                close_reason = None;
                table.accept(respond.stream_id().as_u32());
                if over_limit && !draining {
                    draining = true;
                    reject_until = Some(Instant::now() + header_timeout);
                    h2.graceful_shutdown();
                }
                let listener = Arc::clone(connection.listener);
                let header_list_size = header_list_size(request.headers());
                let (budget, fits) = budget.for_stream(header_list_size);
                let rejection = match (over_limit, fits) {
                    (true, _) => Some(over_connection_limit()),
                    (false, false) => Some(header_lists_too_large()),
                    (false, true) => None,
                };
                let stream = serve_stream(
                    listener,
                    table.clone(),
                    connection.peer_ip,
                    request,
                    respond,
                    budget,
                    rejection,
                );
                // Boxed because the runtime moves the future and its output more than once.
                stream_tasks.spawn(Box::pin(stream));
                if header_list_size > LARGE_HEADER_LIST {
                    // Process this stream before accepting the next one, so that rejected large header lists do not
                    // accumulate.
                    tokio::task::yield_now().await;
                }
            }
            Some(Err(error)) => {
                if is_tls_error(&error) {
                    close_reason = Some(CloseReason::TlsConnectionError);
                }
                // A client that disconnects is not a protocol error.
                if !error.is_io() && !error.is_go_away() || error.is_library() {
                    close_reason = Some(CloseReason::Http2ConnectionError);
                }
                break;
            }
            None => break,
        }
    }
    if let Some(close_reason) = close_reason {
        metrics.closed_without_response(close_reason);
    }
    // The streams observe the closed connection and finish, so that every request is logged.
    drop(h2);
    stream_tasks.wait().await;
}

/// Serves one stream, or sends the error response for `rejection`.
async fn serve_stream(
    listener: Arc<ListenerService>,
    table: StreamTable,
    peer_ip: IpAddr,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    budget: StreamBudget,
    rejection: Option<Fault>,
) {
    let stream_id = respond.stream_id().as_u32();
    let (mut parts, body) = request.into_parts();
    let is_head_request = parts.method == http::Method::HEAD;
    let expects_continue = parts.headers.contains_key(http::header::EXPECT);
    let request = Request::from_h2(&mut parts, body.is_end_stream());
    let length = match request.as_ref().map(|request| request.framing) {
        Ok(RequestFraming::Length(length)) => Some(length),
        Ok(RequestFraming::None | RequestFraming::Chunked) | Err(_) => None,
    };
    let h2 = DownstreamH2::new(body, respond, is_head_request, expects_continue, length, budget)
        .with_stream_table(table.clone());
    let mut client = Downstream::h2(h2, listener.scheme());
    let rejected_request = |fault, origin: Option<&[u8]>, is_grpc| {
        let request_line = first_line(format!("{} {}", parts.method, parts.uri.path()).as_bytes());
        RejectedRequest {
            fault,
            request_line,
            response_headers: listener.unrouted_response_headers(origin),
            is_grpc,
        }
    };
    let request = match (request, rejection) {
        (Ok(request), None) => Ok(request),
        (Ok(request), Some(fault)) => {
            Err(rejected_request(fault, request.fields.value("origin"), request.is_grpc()))
        }
        (Err(error), _) => {
            let origin = parts.headers.get(http::header::ORIGIN).map(HeaderValue::as_bytes);
            Err(rejected_request(rejection_to_fault(error), origin, Request::is_h2_grpc(&parts)))
        }
    };
    // Sending the error response may block on the client: free the large header section first.
    drop(parts);
    match request {
        Ok(request) => serve_guarded(&listener, peer_ip, &mut client, &request).await,
        Err(rejected) => reject_guarded(&listener, peer_ip, &mut client, rejected).await,
    }
    let has_result = table.finish(stream_id);
    match client.state() {
        // The frame observers count a stream that has no result yet, and a malformed one.
        ResponseState::NotStarted => {}
        ResponseState::HeadersSent | ResponseState::Disconnected if !has_result => {}
        _ if client.is_malformed() => {}
        state => record::count_disconnect(&listener.gateway, state),
    }
}

/// Whether the TLS layer failed. The `h2` crate keeps only the kind of an I/O error; only TLS errors have this kind.
fn is_tls_error(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// The error for a stream whose header list exceeds the connection's total.
fn header_lists_too_large() -> Fault {
    let evidence = Evidence::from_static("the request headers on this connection exceed 1 MiB in total");
    Fault::new(Cause::ResourceExhausted, Phase::Admit).with_evidence(evidence)
}

type AcceptResult = Option<Result<(http::Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// Accepts the next request; `None` when the client did not complete a frame in time.
async fn next_request(
    h2: &mut h2::server::Connection<ObservedStream, Bytes>,
    read_timeout: &mut FrameReadTimeout,
    idle: bool,
) -> Option<AcceptResult> {
    let mut accept = pin!(h2.accept());
    poll_fn(|cx| match accept.as_mut().poll(cx) {
        Poll::Ready(next) => Poll::Ready(Some(next)),
        Poll::Pending => read_timeout.poll_timeout(cx, idle).map(|()| None),
    })
    .await
}

/// A connection that first returns the bytes already read, and that shows all bytes to the frame observers.
struct ObservedStream {
    prefix: BytesMut,
    stream: Stream,
    written_observer: WrittenFrameObserver,
    read_observer: ReadFrameObserver,
    table: StreamTable,
    /// Bytes read since the last read that was pending; limited to [`MAX_READ_BURST`].
    read_burst: usize,
    metrics: Arc<Metrics>,
}

impl ObservedStream {
    fn new(
        read: BytesMut,
        stream: Stream,
        table: StreamTable,
        frame_progress: FrameProgress,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let read_observer = ReadFrameObserver::new(frame_progress, table.clone(), PREFACE.len());
        ObservedStream {
            prefix: read,
            stream,
            written_observer: WrittenFrameObserver::new(table.clone()),
            read_observer,
            table,
            read_burst: 0,
            metrics: Arc::clone(metrics),
        }
    }

    fn observe_read(&mut self, bytes: &[u8]) {
        let resets = self.read_observer.observe(bytes);
        self.count_client_resets(resets);
    }

    fn count_client_resets(&self, count: usize) {
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
    /// Counts the streams that the `h2` crate had read and not returned: no task counts them.
    fn drop(&mut self) {
        self.count_client_resets(self.table.connection_ended());
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
            let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
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
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = polled {
            self.observe_written(bytes.get(..length).unwrap_or_default());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
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
        self.stream.is_write_vectored()
    }
}
