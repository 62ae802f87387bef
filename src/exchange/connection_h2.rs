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

use super::client_h2::{H2Client, Share};
use super::connection::{Connection, Connections, crowded_out, first_line, refuse_guarded, serve_guarded};
use super::downstream::{Downstream, Stage};
use super::frames::Frames;
use super::inbound::{Begun, Inbound, Patience};
use super::record::{self, Refused};
use super::request::{Request, list_size, refused};
use super::stream_table::StreamTable;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::observe::{CloseReason, Metrics};
use crate::protocol::framing::RequestFraming;
use crate::upstream::timer::{sleep, timeout_at};

/// RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The library's own bound on header lists, above which it answers an empty 431 by itself: four times ours.
const LIBRARY_MAX_FIELDS: u32 = 256 * 1024;
/// The library reads as long as there is something to read, and only then hands out the requests: so much at a time, or
/// the largest heads of all streams would be there at once.
const MOST_AT_ONCE: usize = LIBRARY_MAX_FIELDS as usize;
/// Streams at once on one connection.
const MAX_STREAMS: u32 = 128;
/// Streams that were reset before they were taken. Whoever asks for as much as it may can also think better of all of it at
/// once.
const MAX_UNTAKEN_RESETS: usize = MAX_STREAMS as usize;
/// Above it, streams are taken one by one.
const LARGE_HEAD: usize = 16 * 1024;
/// What one stream, and one connection, may have under way towards us.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What small frames may cost that nobody has taken yet, a quarter of a KiB each: 8,000 of them, so that a client may send
/// its messages one by one while the upstream is busy. Whoever sends more loses its connection.
const SMALL_FRAMES: usize = 2 * 1024 * 1024;
/// What one stream may have under way towards a client that does not read.
const STREAM_UNREAD: usize = 32 * 1024;

/// So long a client that did not end what it had begun may take its last answers.
const LAST_FRAMES: Duration = Duration::from_secs(1);

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preface {
    /// HTTP/2.
    Whole,
    /// The beginning of it.
    Begun,
    /// Something else.
    Other,
}

/// Looks for the connection preface.
pub(super) fn preface(read: &[u8]) -> Preface {
    if read.starts_with(PREFACE) {
        Preface::Whole
    } else if PREFACE.starts_with(read) {
        Preface::Begun
    } else {
        Preface::Other
    }
}

/// Serves a connection whose preface was seen; `read` is what was read of it. One that has no place is `crowded`: its
/// streams are refused, and it ends.
pub(super) async fn serve(connection: &mut Connection<'_>, stream: Stream, read: BytesMut) {
    let metrics = &connection.app.gateway.metrics;
    let crowded = !connection.is_placed();
    let rules = Arc::clone(&connection.rules);
    let header_timeout = connection.patience(rules.header_timeout);
    let mut options = default_h2_options();
    options
        .max_header_list_size(LIBRARY_MAX_FIELDS)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_UNTAKEN_RESETS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAMES)
        .max_send_buffer_size(STREAM_UNREAD);
    let table = StreamTable::default();
    let unfinished = Begun::default();
    let stream = Rewound::new(read, stream, table.clone(), unfinished.clone(), metrics);
    let begun = options.handshake::<_, Bytes>(stream);
    let mut h2 = match timeout_at(Instant::now() + header_timeout, begun).await {
        Some(Ok(h2)) => h2,
        Some(Err(error)) if tls_broke(&error) => {
            return metrics.closed_without_response(CloseReason::TlsConnectionError);
        }
        Some(Err(_)) | None => return metrics.closed_without_response(CloseReason::Http2ConnectionError),
    };
    let share = Share::default();
    let streams = TaskTracker::new();
    // So that it says when none is left.
    streams.close();
    let mut draining = false;
    let shutdown = connection.shutdown.wait_for(|ends| *ends);
    tokio::pin!(shutdown);
    let mut patience = Patience::new(unfinished, header_timeout);
    // It has begun what it does not end.
    let mut stalled = false;
    // Who has no place was told so, and may stay so long for that, however often it asks.
    let mut told_until: Option<Instant> = None;
    // Why this connection ends, if it does before another request comes.
    let mut leaving = None;
    loop {
        let told = told_until.map(|until| until.saturating_duration_since(Instant::now()));
        if told == Some(Duration::ZERO) {
            break;
        }
        // After GOAWAY only frames of the protocol are awaited, and who has no place may not sit there for long either.
        let silence = match (stalled, draining || crowded) {
            // Its time is up: what is left to do is to take its last answers.
            (true, _) => header_timeout.min(LAST_FRAMES),
            (false, true) => header_timeout,
            (false, false) => rules.idle_timeout,
        };
        let idle = streams.is_empty();
        let next = tokio::select! {
            next = next_request(&mut h2, &mut patience, idle) => match next {
                Some(next) => next,
                None => {
                    // GOAWAY, and whoever has asked is still answered.
                    (stalled, draining) = (true, true);
                    leaving = Some(CloseReason::IdleTimeout);
                    if idle {
                        h2.abrupt_shutdown(Reason::NO_ERROR);
                    } else {
                        h2.graceful_shutdown();
                    }
                    continue;
                }
            },
            () = streams.wait(), if !idle => continue,
            _ = sleep(silence), if idle => {
                if draining {
                    // The client answers nothing, not even the PING that goes with GOAWAY.
                    break;
                }
                // GOAWAY, and whatever is on its way is still answered.
                draining = true;
                leaving = Some(CloseReason::IdleTimeout);
                h2.graceful_shutdown();
                continue;
            }
            () = sleep(told.unwrap_or(silence)), if told.is_some() => continue,
            _ = &mut shutdown, if !draining => {
                draining = true;
                leaving = streams.is_empty().then_some(CloseReason::Drain);
                h2.graceful_shutdown();
                continue;
            }
        };
        match next {
            Some(Ok((request, respond))) => {
                leaving = None;
                table.accept(respond.stream_id().as_u32());
                if crowded && !draining {
                    draining = true;
                    told_until = Some(Instant::now() + header_timeout);
                    h2.graceful_shutdown();
                }
                let app = Arc::clone(connection.app);
                let head = list_size(request.headers());
                let (share, fits) = share.stream(head);
                let no_room = match (crowded, fits) {
                    (true, _) => Some(crowded_out()),
                    (false, false) => Some(heads_too_large()),
                    (false, true) => None,
                };
                let stream = one(app, table.clone(), connection.peer, request, respond, share, no_room);
                // Boxed: the task moves its future, and what it leaves, more than once.
                streams.spawn(Box::pin(stream));
                if head > LARGE_HEAD {
                    // It is judged before the next one is taken: a hundred that are refused are never there at once.
                    tokio::task::yield_now().await;
                }
            }
            Some(Err(error)) => {
                if tls_broke(&error) {
                    leaving = Some(CloseReason::TlsConnectionError);
                }
                // A client that goes away is not an error of the protocol.
                if !error.is_io() && !error.is_go_away() || error.is_library() {
                    leaving = Some(CloseReason::Http2ConnectionError);
                }
                break;
            }
            None => break,
        }
    }
    if let Some(silence) = leaving {
        metrics.closed_without_response(silence);
    }
    // Streams see that their connection is gone, and every one of them is told to its end.
    drop(h2);
    streams.wait().await;
}

/// Serves one stream; one that there is no room for is refused.
async fn one(
    app: Arc<Connections>,
    table: StreamTable,
    peer: IpAddr,
    request: http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    share: Share,
    no_room: Option<Fault>,
) {
    let stream = respond.stream_id().as_u32();
    let (mut parts, body) = request.into_parts();
    let head = parts.method == http::Method::HEAD;
    let expects = parts.headers.contains_key(http::header::EXPECT);
    let request = Request::from_h2(&mut parts, body.is_end_stream());
    let length = match request.as_ref().map(|request| request.framing) {
        Ok(RequestFraming::Length(length)) => Some(length),
        Ok(RequestFraming::None | RequestFraming::Chunked) | Err(_) => None,
    };
    let h2 = H2Client::new(body, respond, head, expects, length, share).counted_in(table.clone());
    let mut client = Downstream::h2(h2, app.scheme());
    let told = |fault, origin: Option<&[u8]>, grpc| {
        let line = first_line(format!("{} {}", parts.method, parts.uri.path()).as_bytes());
        Refused { fault, line, dress: app.unrouted_dress(origin), grpc }
    };
    let request = match (request, no_room) {
        (Ok(request), None) => Ok(request),
        (Ok(request), Some(fault)) => Err(told(fault, request.fields.value("origin"), request.is_grpc())),
        (Err(refusal), _) => {
            let origin = parts.headers.get(http::header::ORIGIN).map(HeaderValue::as_bytes);
            Err(told(refused(refusal), origin, Request::says_grpc(&parts)))
        }
    };
    // The answer to a head that is too large may wait for its client; the head does not wait with it.
    drop(parts);
    match request {
        Ok(request) => serve_guarded(&app, peer, &mut client, &request).await,
        Err(refused) => refuse_guarded(&app, peer, &mut client, refused).await,
    }
    let answered = table.finish(stream);
    match client.stage() {
        // Its client has gone, which the frames tell, or the stream was malformed.
        Stage::Unanswered => {}
        Stage::HeadSent | Stage::Lost if !answered => {}
        _ if client.was_malformed() => {}
        stage => record::client_left(&app.gateway, stage),
    }
}

/// The library keeps nothing of an error below it but its kind; this one is TLS's.
fn tls_broke(error: &h2::Error) -> bool {
    error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// The requests of this connection that are being served have heads as large as all may be together.
fn heads_too_large() -> Fault {
    let evidence = Evidence::from_static("the heads of the connection's requests are too large together");
    Fault::new(Cause::ResourceExhausted, Phase::Admit).with_evidence(evidence)
}

type Accepting = Option<Result<(http::Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next request; `None` when the client takes too long for what it has begun.
async fn next_request(
    h2: &mut h2::server::Connection<Rewound, Bytes>,
    patience: &mut Patience,
    idle: bool,
) -> Option<Accepting> {
    let mut accepting = pin!(h2.accept());
    poll_fn(|cx| match accepting.as_mut().poll(cx) {
        Poll::Ready(next) => Poll::Ready(Some(next)),
        Poll::Pending => patience.poll_over(cx, idle).map(|()| None),
    })
    .await
}

/// A stream whose first bytes were read already, and whose frames are looked at on their way out.
struct Rewound {
    read: BytesMut,
    stream: Stream,
    frames: Frames,
    inbound: Inbound,
    table: StreamTable,
    /// Octets read since the library last had to stop for want of some.
    at_once: usize,
    metrics: Arc<Metrics>,
}

impl Rewound {
    fn new(
        read: BytesMut,
        stream: Stream,
        table: StreamTable,
        unfinished: Begun,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let inbound = Inbound::new(unfinished, table.clone(), PREFACE.len());
        Rewound {
            read,
            stream,
            frames: Frames::new(table.clone()),
            inbound,
            table,
            at_once: 0,
            metrics: Arc::clone(metrics),
        }
    }

    fn was_read(&mut self, bytes: &[u8]) {
        let gone = self.inbound.look(bytes);
        self.clients_gone(gone);
    }

    fn clients_gone(&self, count: usize) {
        for _ in 0..count {
            self.metrics.closed_without_response(CloseReason::ClientGone);
        }
    }

    fn written(&mut self, bytes: &[u8]) {
        let deeds = self.frames.look(bytes);
        for _ in 0..deeds.resets {
            self.metrics.closed_without_response(CloseReason::Http2StreamError);
        }
        for _ in 0..deeds.answers {
            self.metrics.closed_without_response(CloseReason::Http2HeaderList);
        }
    }
}

impl Drop for Rewound {
    /// Streams that the library had read and not handed out end here too, and nobody else knows of them.
    fn drop(&mut self) {
        self.clients_gone(self.table.connection_ended());
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            if self.at_once >= MOST_AT_ONCE {
                self.at_once = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let before = buffer.filled().len();
            let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
            let read = buffer.filled().get(before..).unwrap_or_default();
            self.was_read(read);
            self.at_once = if polled.is_ready() { self.at_once + read.len() } else { 0 };
            return polled;
        }
        let length = self.read.len().min(buffer.remaining());
        let read = self.read.split_to(length);
        self.was_read(&read);
        buffer.put_slice(&read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = polled {
            self.written(bytes.get(..length).unwrap_or_default());
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
                self.written(buffer.get(..taken).unwrap_or_default());
                length -= taken;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
