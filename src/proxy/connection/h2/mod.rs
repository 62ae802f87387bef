//! Serves HTTP/2 client connections. Each stream becomes a request and runs as its own task ([`stream`]).
//!
//! The `h2` crate implements the protocol. This file configures it, spawns the streams, applies the timeouts and counts
//! failed connections. [`observed_stream`] lies below the crate: [`read_frames`] and [`written_frames`] count failed
//! streams, [`read_timeout`] limits the time for one frame.

mod observed_stream;
mod read_frames;
mod read_timeout;
mod stream;
mod written_frames;

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use pingora::protocols::Stream;
use pingora::protocols::http::v2::server::default_h2_options;
use tokio_util::task::TaskTracker;

use self::observed_stream::{ObservedStream, ReturnedStream};
use self::read_timeout::{FrameProgress, FrameReadTimeout};
use self::stream::StreamTask;
use super::lingering_close::{LINGER_TIMEOUT, lingering_close};
use super::send_queue::SendQueue;
use super::tracker::{ConnectionSlot, OverLimit};
use super::{Connection, ListenerService, OVER_LIMIT_TIMEOUT, over_connection_limit, wait_for_eviction};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::peer::Peer;
use crate::http::reported_origin::ListenerOrigin;
use crate::proxy::buffered_stream::BufferedStream;
use crate::proxy::downstream::h2::{AddedStream, ConnectionBudget};
use crate::proxy::message::request::header_list_size;
use crate::proxy::pinned::PinnedConnections;
use crate::proxy::stream_table::StreamTable;
use crate::telemetry::CloseReason;
use crate::tls::client_certificate::ClientCertificate;
use crate::upstream::timer::sleep;

/// The connection preface (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest header list that the `h2` crate accepts; above it, the crate itself sends an empty 431. The gateway's own
/// limit is a quarter of this, so that its documented error response is sent first.
const H2_CRATE_MAX_HEADER_LIST: u32 = 256 * 1024;
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
    // Without a slot, the handshake has less time.
    let _ = connection.acquire_slot();
    let listener = connection.listener;
    let metrics = &listener.gateway.metrics;
    let table = StreamTable::default();
    let frame_progress = FrameProgress::default();
    let send_queue = SendQueue::new(stream.id(), connection.client_config.write_timeout, Instant::now());
    let stream = ObservedStream::new(read, stream, table.clone(), frame_progress.clone(), metrics);
    let returned_stream = stream.returned();
    let codec = match handshake(connection, stream, &frame_progress).await {
        Ok(codec) => codec,
        Err(close_reason) => return metrics.closed_without_response(close_reason),
    };
    let header_timeout = connection.clamp_timeout(connection.client_config.header_timeout);
    // The HTTP/2 connection owns the slot from now on.
    let (slot, over_limit) = match std::mem::replace(&mut connection.slot, Err(OverLimit::Total)) {
        Ok(slot) => (Some(slot), None),
        Err(over_limit) => (None, Some(over_limit)),
    };
    let stream_tasks = TaskTracker::new();
    // `TaskTracker::wait` only completes on a closed tracker.
    stream_tasks.close();
    let h2_connection = H2Connection {
        codec,
        returned_stream,
        send_queue,
        listener,
        peer: connection.peer,
        certificate: connection.certificate.clone(),
        listener_origin: connection.listener_origin,
        over_limit,
        slot,
        has_served: false,
        marked_idle: false,
        shutting_down: false,
        idle_timeout: connection.client_config.idle_timeout,
        header_timeout,
        state: State::Open,
        close_at: None,
        close_reason: None,
        read_timeout: FrameReadTimeout::new(frame_progress, header_timeout),
        table,
        budget: ConnectionBudget::default(),
        pinned: Arc::default(),
        stream_tasks,
    };
    let shutdown = connection.shutdown.wait_for(|shutting_down| *shutting_down);
    h2_connection.serve(pin!(shutdown)).await;
}

/// Receives the connection preface within the header timeout, and sends SETTINGS.
async fn handshake(
    connection: &mut Connection<'_>,
    stream: ObservedStream,
    frame_progress: &FrameProgress,
) -> Result<ServerConnection, CloseReason> {
    let mut options = default_h2_options();
    options
        .max_header_list_size(H2_CRATE_MAX_HEADER_LIST)
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(SMALL_FRAME_BUDGET)
        .max_send_buffer_size(MAX_SEND_BUFFER);
    let receiving = options.handshake::<_, Bytes>(stream);
    match connection.within_header_timeout(CloseReason::IdleTimeout, receiving).await {
        Ok(Ok(codec)) => Ok(codec),
        Ok(Err(error)) if is_tls_error(&error) => Err(CloseReason::TlsConnectionError),
        Ok(Err(_)) if !frame_progress.has_begun() => Err(CloseReason::NoRequest),
        Ok(Err(_)) => Err(CloseReason::Http2ConnectionError),
        Err(CloseReason::IdleTimeout) if frame_progress.has_begun() => Err(CloseReason::Http2ConnectionError),
        Err(close_reason) => Err(close_reason),
    }
}

type ServerConnection = h2::server::Connection<ObservedStream, Bytes>;

/// The state of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It accepts requests.
    Open,
    /// GOAWAY was sent. Requests in transit and open ones still get their responses.
    Draining,
    /// The client did not complete a frame or header block in time, and GOAWAY was sent. Only the responses to open
    /// requests remain to be sent.
    Stalled,
}

/// What happened next on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "requests are the most frequent events: boxing costs an allocation"
)]
enum Event {
    Request(http::Request<RecvStream>, SendResponse<Bytes>),
    /// The client closed the connection, or it failed.
    Closed(Option<h2::Error>),
    /// The client did not complete a frame or header block in time.
    FrameTimeout,
    /// No stream was open for the timeout of the state.
    IdleTimeout,
    /// The last open stream has ended.
    StreamsEnded,
    /// The connection was idle, and is evicted: another one has its slot.
    Evicted,
    /// `close_at` has passed.
    CloseAt,
    /// The process shuts down.
    Shutdown,
}

/// One HTTP/2 connection.
struct H2Connection<'a> {
    codec: ServerConnection,
    /// The stream, after `codec` was dropped.
    returned_stream: ReturnedStream,
    send_queue: SendQueue,
    listener: &'a Arc<ListenerService>,
    peer: Peer,
    certificate: Option<Arc<ClientCertificate>>,
    listener_origin: ListenerOrigin,
    /// The connection is over a connection limit: its next request is rejected, unless a slot is free by then.
    over_limit: Option<OverLimit>,
    /// The connection's slot; `None` for a connection over the limit, and for an evicted one.
    slot: Option<ConnectionSlot>,
    /// The connection has served a request.
    has_served: bool,
    /// The slot says that the connection is idle.
    marked_idle: bool,
    /// The process shuts down: GOAWAY was sent, or follows the first request.
    shutting_down: bool,
    idle_timeout: Duration,
    header_timeout: Duration,
    state: State,
    /// When a connection over the limit closes, even if it still sends requests.
    close_at: Option<Instant>,
    /// Counted at the end, unless another request arrives first.
    close_reason: Option<CloseReason>,
    read_timeout: FrameReadTimeout,
    table: StreamTable,
    budget: ConnectionBudget,
    pinned: Arc<PinnedConnections>,
    stream_tasks: TaskTracker,
}

impl H2Connection<'_> {
    /// Serves the connection until it is closed and its streams have ended. `shutdown` becomes ready when it should
    /// drain.
    async fn serve(mut self, mut shutdown: Pin<&mut impl Future>) {
        loop {
            match self.next_event(shutdown.as_mut()).await {
                Event::Request(request, respond) => self.accept(request, respond).await,
                Event::Closed(error) => {
                    let protocol_error = error.as_ref().and_then(close_reason_of);
                    self.close_reason =
                        protocol_error.or(self.close_reason).or_else(|| self.client_close_reason());
                    break;
                }
                Event::FrameTimeout => self.frame_timed_out(),
                Event::IdleTimeout => match self.state {
                    State::Open => self.idle_timed_out(),
                    // The PING that accompanies GOAWAY may still wait in the queue behind responses.
                    State::Draining if self.send_queue.is_sending(Instant::now()) => {}
                    // The client did not even acknowledge the PING.
                    State::Draining | State::Stalled => break,
                },
                Event::StreamsEnded => {}
                Event::Evicted => self.drain(Some(CloseReason::Evicted)),
                Event::CloseAt => break,
                Event::Shutdown => self.shut_down(),
            }
        }
        if let Some(close_reason) = self.close_reason {
            self.listener.gateway.metrics.closed_without_response(close_reason);
        }
        // The streams observe the closed connection and finish, so that every request is logged.
        drop(self.codec);
        if let Some(stream) = self.returned_stream.take() {
            let (timeout, send_queue) = match self.over_limit {
                Some(_) => (OVER_LIMIT_TIMEOUT, None),
                None => (LINGER_TIMEOUT, Some(self.send_queue)),
            };
            Box::pin(lingering_close(BufferedStream::new(stream), timeout, send_queue)).await;
        }
        self.stream_tasks.wait().await;
    }

    /// The close reason of a client that closes before its first request, or within the header section of one. Open
    /// streams are counted by [`ObservedStream`].
    fn client_close_reason(&self) -> Option<CloseReason> {
        let progress = self.read_timeout.progress();
        let has_opened = self.table.has_opened();
        if progress.is_within_non_data_frame() || (!has_opened && progress.is_within_frame()) {
            return Some(CloseReason::ClientGone);
        }
        (!has_opened).then_some(CloseReason::NoRequest)
    }

    async fn next_event(&mut self, shutdown: Pin<&mut impl Future>) -> Event {
        let close_in = self.close_at.map(|at| at.saturating_duration_since(Instant::now()));
        if close_in == Some(Duration::ZERO) {
            return Event::CloseAt;
        }
        let idle = self.stream_tasks.is_empty();
        if idle {
            self.mark_idle();
        }
        let timeout = self.timeout_when_idle();
        tokio::select! {
            event = next_request(&mut self.codec, &mut self.read_timeout, idle) => event,
            () = self.stream_tasks.wait(), if !idle => Event::StreamsEnded,
            () = sleep(timeout), if idle => Event::IdleTimeout,
            () = sleep(close_in.unwrap_or(timeout)), if close_in.is_some() => Event::CloseAt,
            () = wait_for_eviction(self.slot.as_ref()), if self.marked_idle && self.state == State::Open => Event::Evicted,
            _ = shutdown, if self.state == State::Open && !self.shutting_down => Event::Shutdown,
        }
    }

    /// How long the connection may be without an open stream. After GOAWAY, and for a connection over the limit, the
    /// shorter header timeout replaces the idle timeout.
    fn timeout_when_idle(&self) -> Duration {
        match (self.state, self.over_limit.is_some()) {
            (State::Stalled, _) => self.header_timeout.min(FINAL_FLUSH_TIMEOUT),
            (State::Draining, _) | (State::Open, true) => self.header_timeout,
            (State::Open, false) => self.idle_timeout,
        }
    }

    /// The close reason after an idle timeout or a frame timeout.
    const fn timeout_reason(&self) -> CloseReason {
        match self.over_limit {
            Some(_) => CloseReason::ConnectionLimitReached,
            None => CloseReason::IdleTimeout,
        }
    }

    /// Allows the eviction of a connection that has served a request and has no open stream.
    fn mark_idle(&mut self) {
        if self.has_served
            && !self.marked_idle
            && let Some(slot) = &self.slot
        {
            slot.set_idle(Instant::now());
            self.marked_idle = true;
        }
    }

    /// Prevents the eviction while a request is served. If the connection was just evicted, the request is one of the
    /// last.
    fn mark_busy(&mut self) {
        self.has_served = true;
        if std::mem::take(&mut self.marked_idle)
            && !self.slot.as_ref().is_some_and(ConnectionSlot::set_busy)
            && self.state == State::Open
        {
            self.slot = None;
            self.drain(None);
        }
    }

    /// Sends GOAWAY; requests in transit still get their responses.
    fn drain(&mut self, close_reason: Option<CloseReason>) {
        self.state = State::Draining;
        self.close_reason = close_reason;
        self.codec.graceful_shutdown();
    }

    /// Drains the connection. One that has not sent a request yet gets its first request served before.
    fn shut_down(&mut self) {
        self.shutting_down = true;
        if self.has_served {
            self.drain(self.stream_tasks.is_empty().then_some(CloseReason::Drain));
        }
    }

    /// No request has arrived in time.
    fn idle_timed_out(&mut self) {
        if !self.finds_slot() {
            self.drain(Some(self.timeout_reason()));
        }
    }

    /// A frame or header block was not completed in time.
    fn frame_timed_out(&mut self) {
        if self.finds_slot() {
            self.read_timeout.restart(self.header_timeout);
        } else {
            self.stop_stalled();
        }
    }

    /// Sends GOAWAY to a client that has stalled; open requests still get their responses.
    fn stop_stalled(&mut self) {
        self.state = State::Stalled;
        self.close_reason = Some(self.timeout_reason());
        if self.stream_tasks.is_empty() {
            self.codec.abrupt_shutdown(Reason::NO_ERROR);
        } else {
            self.codec.graceful_shutdown();
        }
    }

    /// Whether a connection over the limit finds a slot now. It is then an ordinary one.
    fn finds_slot(&mut self) -> bool {
        if self.over_limit.is_none() || self.state != State::Open {
            return false;
        }
        let client_config = Arc::clone(&self.listener.gateway.snapshot.load().client);
        let limits = self.listener.limits(&client_config, self.peer);
        let found = self.listener.tracker.acquire_slot(limits);
        self.over_limit = found.as_ref().err().copied();
        self.slot = found.ok();
        self.update_timeouts();
        self.slot.is_some()
    }

    /// Applies the timeouts of the current configuration: a reload may have changed them. A connection over the limit
    /// keeps its short ones.
    fn update_timeouts(&mut self) {
        let snapshot = self.listener.gateway.snapshot.load();
        if self.over_limit.is_none() {
            self.idle_timeout = snapshot.client.idle_timeout;
            self.header_timeout = snapshot.client.header_timeout;
            self.read_timeout.set_timeout(self.header_timeout);
        }
    }

    /// Starts the task of one stream.
    async fn accept(&mut self, request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.finds_slot();
        self.update_timeouts();
        self.close_reason = None;
        self.table.request_accepted(respond.stream_id().as_u32());
        self.mark_busy();
        if self.over_limit.is_some() && self.state == State::Open {
            self.close_at = Some(Instant::now() + self.header_timeout);
            self.drain(None);
        }
        if self.shutting_down && self.state == State::Open {
            self.drain(None);
        }
        let header_list_size = header_list_size(request.headers());
        let AddedStream { budget, is_admitted } = self.budget.add_stream(header_list_size);
        let rejection = match (self.over_limit, is_admitted) {
            (Some(over_limit), _) => Some(over_connection_limit(over_limit)),
            (None, false) => Some(header_lists_too_large()),
            (None, true) => None,
        };
        let task = StreamTask {
            listener: Arc::clone(self.listener),
            table: self.table.clone(),
            peer: self.peer,
            certificate: self.certificate.clone(),
            listener_origin: self.listener_origin,
            budget,
            pinned: Arc::clone(&self.pinned),
            rejection,
        };
        // Boxed because the runtime moves the future and its output more than once.
        self.stream_tasks.spawn(Box::pin(task.serve(request, respond)));
        if header_list_size > LARGE_HEADER_LIST {
            // Process this stream before accepting the next one, so that rejected large header lists do not accumulate.
            tokio::task::yield_now().await;
        }
    }
}

/// The close reason of a failed connection. A client that disconnects is not a protocol error.
fn close_reason_of(error: &h2::Error) -> Option<CloseReason> {
    if !error.is_io() && !error.is_go_away() || error.is_library() {
        return Some(CloseReason::Http2ConnectionError);
    }
    is_tls_error(error).then_some(CloseReason::TlsConnectionError)
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

/// Accepts the next request, unless the client does not complete a frame in time.
async fn next_request(
    codec: &mut ServerConnection,
    read_timeout: &mut FrameReadTimeout,
    idle: bool,
) -> Event {
    let mut accept = pin!(codec.accept());
    poll_fn(|cx| match accept.as_mut().poll(cx) {
        Poll::Ready(Some(Ok((request, respond)))) => Poll::Ready(Event::Request(request, respond)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Event::Closed(Some(error))),
        Poll::Ready(None) => Poll::Ready(Event::Closed(None)),
        Poll::Pending => read_timeout.poll_timeout(cx, idle).map(|()| Event::FrameTimeout),
    })
    .await
}
