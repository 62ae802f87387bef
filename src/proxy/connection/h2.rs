//! HTTP/2 connections: the preface, the streams, and the end. Each stream is a request like any other.
//!
//! The `h2` crate speaks the protocol; this file starts it, hands out the streams and counts what breaks.

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

use super::h2_read_timeout::{FrameProgress, FrameProgressObserver, FrameReadTimeout};
use super::h2_reset_counter::ResetCounter;
use super::{Connection, ListenerService, first_line, over_connection_limit, reject_guarded, serve_guarded};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::framing::RequestFraming;
use crate::proxy::downstream::h2::{DownstreamH2, StreamBudget};
use crate::proxy::downstream::{Downstream, ResponseState};
use crate::proxy::message::request::{Request, header_list_size, to_fault};
use crate::proxy::record::{self, RejectedRequest};
use crate::proxy::stream_table::StreamTable;
use crate::telemetry::{CloseReason, Metrics};
use crate::upstream::timer::{sleep, timeout_at};

/// RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The library's own bound on header lists, above which it answers an empty 431 by itself: four times ours.
const LIBRARY_MAX_HEADER_LIST: u32 = 256 * 1024;
/// The library reads as long as there is something to read, and only then hands out the requests: so much at a time, or
/// the largest heads of all streams would be there at once.
const MAX_READ_BURST: usize = LIBRARY_MAX_HEADER_LIST as usize;
/// Streams at once on one connection.
const MAX_STREAMS: u32 = 128;
/// Streams that were reset before they were taken. Whoever asks for as much as it may can also think better of all of it at
/// once.
const MAX_PENDING_RESETS: usize = MAX_STREAMS as usize;
/// Above it, streams are taken one by one.
const LARGE_HEADER_LIST: usize = 16 * 1024;
/// What one stream, and one connection, may have under way towards us.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What small frames may cost that nobody has taken yet, a quarter of a KiB each: 8,000 of them, so that a client may send
/// its messages one by one while the upstream is busy. Whoever sends more loses its connection.
const SMALL_FRAME_BUDGET: usize = 2 * 1024 * 1024;
/// What one stream may have under way towards a client that does not read.
const MAX_SEND_BUFFER: usize = 32 * 1024;

/// So long a client that did not end what it had begun may take its last answers.
const FINAL_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Preface {
    /// HTTP/2.
    Complete,
    /// The beginning of it.
    Partial,
    /// Something else.
    Other,
}

/// Looks for the connection preface.
pub(in crate::proxy) fn match_preface(read: &[u8]) -> Preface {
    if read.starts_with(PREFACE) {
        Preface::Complete
    } else if PREFACE.starts_with(read) {
        Preface::Partial
    } else {
        Preface::Other
    }
}

/// Serves a connection whose preface was seen; `prefix` is what was read of it. One that has no place is `over_limit`: its
/// streams are refused, and it ends.
pub(in crate::proxy) async fn serve(connection: &mut Connection<'_>, stream: Stream, read: BytesMut) {
    let metrics = &connection.listener.gateway.metrics;
    let over_limit = !connection.acquire_permit();
    let client_config = Arc::clone(&connection.client_config);
    let header_timeout = connection.clamp_timeout(client_config.header_timeout);
    let mut options = default_h2_options();
    options
        .max_header_list_size(LIBRARY_MAX_HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAME_BUDGET)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    let table = StreamTable::default();
    let frame_progress = FrameProgress::default();
    let stream = RewindStream::new(read, stream, table.clone(), frame_progress.clone(), metrics);
    let handshake = options.handshake::<_, Bytes>(stream);
    let mut h2 = match timeout_at(Instant::now() + header_timeout, handshake).await {
        Some(Ok(h2)) => h2,
        Some(Err(error)) if is_tls_error(&error) => {
            return metrics.closed_without_response(CloseReason::TlsConnectionError);
        }
        Some(Err(_)) | None => return metrics.closed_without_response(CloseReason::Http2ConnectionError),
    };
    let budget = StreamBudget::default();
    let streams = TaskTracker::new();
    // So that it says when none is left.
    streams.close();
    let mut draining = false;
    let shutdown = connection.shutdown.wait_for(|ends| *ends);
    tokio::pin!(shutdown);
    let mut read_timeout = FrameReadTimeout::new(frame_progress, header_timeout);
    // It has begun what it does not end.
    let mut stalled = false;
    // Who has no place was told so, and may stay so long for that, however often it asks.
    let mut reject_until: Option<Instant> = None;
    // Why this connection ends, if it does before another request comes.
    let mut close_reason = None;
    loop {
        let reject_time_left =
            reject_until.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if reject_time_left == Some(Duration::ZERO) {
            break;
        }
        // After GOAWAY only frames of the protocol are awaited, and who has no place may not sit there for long either.
        let timeout = match (stalled, draining || over_limit) {
            // Its time is up: what is left to do is to take its last answers.
            (true, _) => header_timeout.min(FINAL_FLUSH_TIMEOUT),
            (false, true) => header_timeout,
            (false, false) => client_config.idle_timeout,
        };
        let idle = streams.is_empty();
        let next = tokio::select! {
            next = next_request(&mut h2, &mut read_timeout, idle) => match next {
                Some(next) => next,
                None => {
                    // GOAWAY, and whoever has asked is still answered.
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
            () = streams.wait(), if !idle => continue,
            _ = sleep(timeout), if idle => {
                if draining {
                    // The client answers nothing, not even the PING that goes with GOAWAY.
                    break;
                }
                // GOAWAY, and whatever is on its way is still answered.
                draining = true;
                close_reason = Some(CloseReason::IdleTimeout);
                h2.graceful_shutdown();
                continue;
            }
            () = sleep(reject_time_left.unwrap_or(timeout)), if reject_time_left.is_some() => continue,
            _ = &mut shutdown, if !draining => {
                draining = true;
                close_reason = streams.is_empty().then_some(CloseReason::Drain);
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
                // Boxed: the task moves its future, and what it leaves, more than once.
                streams.spawn(Box::pin(stream));
                if header_list_size > LARGE_HEADER_LIST {
                    // It is judged before the next one is taken: a hundred that are refused are never there at once.
                    tokio::task::yield_now().await;
                }
            }
            Some(Err(error)) => {
                if is_tls_error(&error) {
                    close_reason = Some(CloseReason::TlsConnectionError);
                }
                // A client that goes away is not an error of the protocol.
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
    // Streams see that their connection is gone, and every one of them is told to its end.
    drop(h2);
    streams.wait().await;
}

/// Serves one stream; one that there is no room for is refused.
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
        .counted_in(table.clone());
    let mut client = Downstream::h2(h2, listener.scheme());
    let reject_with = |fault, origin: Option<&[u8]>, grpc| {
        let line = first_line(format!("{} {}", parts.method, parts.uri.path()).as_bytes());
        RejectedRequest {
            fault,
            request_line: line,
            response_headers: listener.unrouted_response_headers(origin),
            is_grpc: grpc,
        }
    };
    let request = match (request, rejection) {
        (Ok(request), None) => Ok(request),
        (Ok(request), Some(fault)) => {
            Err(reject_with(fault, request.fields.value("origin"), request.is_grpc()))
        }
        (Err(error), _) => {
            let origin = parts.headers.get(http::header::ORIGIN).map(HeaderValue::as_bytes);
            Err(reject_with(to_fault(error), origin, Request::is_h2_grpc(&parts)))
        }
    };
    // The answer to a head that is too large may wait for its client; the head does not wait with it.
    drop(parts);
    match request {
        Ok(request) => serve_guarded(&listener, peer_ip, &mut client, &request).await,
        Err(rejected) => reject_guarded(&listener, peer_ip, &mut client, rejected).await,
    }
    let answered = table.finish(stream_id);
    match client.state() {
        // Its client has gone, which the frames tell, or the stream was malformed.
        ResponseState::NotStarted => {}
        ResponseState::HeadersSent | ResponseState::Disconnected if !answered => {}
        _ if client.is_malformed() => {}
        stage => record::count_disconnect(&listener.gateway, stage),
    }
}

/// The library keeps nothing of an error below it but its kind; this one is TLS's.
fn is_tls_error(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// The requests of this connection that are being served have heads as large as all may be together.
fn header_lists_too_large() -> Fault {
    let evidence = Evidence::from_static("the heads of the connection's requests are too large together");
    Fault::new(Cause::ResourceExhausted, Phase::Admit).with_evidence(evidence)
}

type AcceptResult = Option<Result<(http::Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next request; `None` when the client takes too long for what it has begun.
async fn next_request(
    h2: &mut h2::server::Connection<RewindStream, Bytes>,
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

/// A stream whose first bytes were read already, and whose frames are looked at on their way out.
struct RewindStream {
    prefix: BytesMut,
    stream: Stream,
    reset_counter: ResetCounter,
    progress_observer: FrameProgressObserver,
    table: StreamTable,
    /// Octets read since the library last had to stop for want of some.
    read_burst: usize,
    metrics: Arc<Metrics>,
}

impl RewindStream {
    fn new(
        read: BytesMut,
        stream: Stream,
        table: StreamTable,
        frame_progress: FrameProgress,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let progress_observer = FrameProgressObserver::new(frame_progress, table.clone(), PREFACE.len());
        RewindStream {
            prefix: read,
            stream,
            reset_counter: ResetCounter::new(table.clone()),
            progress_observer,
            table,
            read_burst: 0,
            metrics: Arc::clone(metrics),
        }
    }

    fn was_read(&mut self, bytes: &[u8]) {
        let gone = self.progress_observer.observe(bytes);
        self.clients_gone(gone);
    }

    fn clients_gone(&self, count: usize) {
        for _ in 0..count {
            self.metrics.closed_without_response(CloseReason::ClientGone);
        }
    }

    fn observe_written(&mut self, bytes: &[u8]) {
        let actions = self.reset_counter.observe(bytes);
        for _ in 0..actions.resets {
            self.metrics.closed_without_response(CloseReason::Http2StreamError);
        }
        for _ in 0..actions.responses {
            self.metrics.closed_without_response(CloseReason::Http2HeaderList);
        }
    }
}

impl Drop for RewindStream {
    /// Streams that the library had read and not handed out end here too, and nobody else knows of them.
    fn drop(&mut self) {
        self.clients_gone(self.table.connection_ended());
    }
}

impl AsyncRead for RewindStream {
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
            self.was_read(read);
            self.read_burst = if polled.is_ready() { self.read_burst + read.len() } else { 0 };
            return polled;
        }
        let length = self.prefix.len().min(buffer.remaining());
        let read = self.prefix.split_to(length);
        self.was_read(&read);
        buffer.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for RewindStream {
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
                let taken = length.min(buffer.len());
                self.observe_written(buffer.get(..taken).unwrap_or_default());
                length -= taken;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
