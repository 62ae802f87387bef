//! Sends the request body from the client to the upstream, and keeps its beginning for a retry.
//!
//! [`Upload::poll`] drives the transfer, before and after the response headers arrive. It enforces `max_body` and
//! reports malformed bodies; the caller sets the timeouts according to [`Upload::waiting`].

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::HeaderMap;

use super::deadlines::TimeLimit;
use super::downstream::Downstream;
use super::downstream::h1::BodyError;
use super::message;
use super::upstream_conn::UpstreamConn;
use crate::config;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::hop_by_hop;

/// Maximum size of the replay buffer, in bytes. A larger body cannot be retried.
pub(super) const MAX_REPLAY_BYTES: usize = 64 * 1024;
/// `client.min_body_rate` applies after this much time spent waiting for the client.
const RATE_GRACE: Duration = Duration::from_secs(30);

/// Which side the upload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitingFor {
    /// The upstream does not accept more bytes.
    Upstream,
    /// The client sends no bytes, although the upstream would accept them.
    Client,
    /// Neither side: the body is complete, sending failed, or the client waits for a 100.
    Nothing,
}

/// An event that the caller must handle.
#[derive(Debug)]
pub(super) enum UploadEvent {
    /// [`Upload::waiting`] changed: other timeouts apply.
    WaitingChanged,
    /// The request cannot continue.
    Failed(Fault),
    ClientDisconnected,
}

/// Progress of buffering a body before the request is admitted.
#[derive(Debug)]
pub(super) enum BufferProgress {
    /// More of the body follows.
    More,
    /// The whole body is buffered.
    Complete,
    /// The body exceeds the buffer limit.
    TooLarge,
    /// The request cannot continue.
    Failed(Fault),
    ClientDisconnected,
}

/// The transfer of one request body.
#[derive(Debug)]
pub(super) struct Upload {
    max_body: u64,
    received: u64,
    ended: bool,
    /// A copy: a slice would keep its whole read buffer allocated, and a client may send single bytes.
    replay: BytesMut,
    /// `replay` holds everything received so far.
    is_replayable: bool,
    /// Trailers to forward, once the body has ended.
    trailers: Option<Box<HeaderMap>>,
    waiting: WaitingFor,
    /// For gRPC: replaces `client.body_timeout` and `client.min_body_rate`.
    idle_timeout: Option<Duration>,
    /// When the client's last byte arrived, or when the upload started to wait for the client.
    idle_since: Instant,
    /// Time spent waiting for the client.
    client_wait: Duration,
    /// Number of bytes still queued when the upstream last accepted some; 0 once it has accepted all.
    unsent: usize,
    /// When the upstream last accepted bytes.
    blocked_since: Instant,
    /// The gateway has sent a 100 Continue to the client.
    continue_sent: bool,
}

impl Upload {
    pub(super) fn new(client: &Downstream, max_body: u64, now: Instant) -> Self {
        Upload {
            max_body,
            received: 0,
            ended: client.body_is_done(),
            replay: BytesMut::new(),
            is_replayable: true,
            trailers: None,
            waiting: WaitingFor::Upstream,
            idle_timeout: None,
            idle_since: now,
            client_wait: Duration::ZERO,
            unsent: 0,
            blocked_since: now,
            continue_sent: false,
        }
    }

    /// Records that the gateway has sent a 100 Continue, so that the upstream's is not forwarded as a second one.
    pub(super) fn set_continue_sent(&mut self) {
        self.continue_sent = true;
    }

    /// Whether the gateway has sent a 100 Continue.
    pub(super) const fn continue_sent(&self) -> bool {
        self.continue_sent
    }

    /// Sets the idle timeout of a gRPC body, which has no minimum rate.
    pub(super) fn set_idle_timeout(&mut self, idle_timeout: Duration) {
        self.idle_timeout = Some(idle_timeout);
    }

    /// The whole body, if all of it is in the replay buffer.
    pub(super) fn buffered_body(&self) -> Option<&[u8]> {
        (self.ended && self.is_replayable).then_some(&self.replay)
    }

    /// Restarts the idle timers after a wait in which neither side could make progress, for example in the queue.
    pub(super) fn reset_idle_timers(&mut self, now: Instant) {
        self.idle_since = now;
        self.blocked_since = now;
    }

    /// Reads the body into the replay buffer before an upstream is selected, until it exceeds `max_length` bytes.
    /// [`Upload::begin`] sends what was read.
    pub(super) fn poll_buffer(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Downstream,
        max_length: usize,
    ) -> Poll<BufferProgress> {
        let data = match client.poll_body(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Some(data))) => data,
            Poll::Ready(Ok(None)) => {
                self.finish_body(client);
                return Poll::Ready(BufferProgress::Complete);
            }
            Poll::Ready(Err(error)) => {
                return Poll::Ready(match event_for_error(error) {
                    UploadEvent::Failed(fault) => BufferProgress::Failed(fault),
                    UploadEvent::ClientDisconnected | UploadEvent::WaitingChanged => {
                        BufferProgress::ClientDisconnected
                    }
                });
            }
        };
        if let Err(fault) = self.count_received(&data) {
            return Poll::Ready(BufferProgress::Failed(fault));
        }
        self.replay.extend_from_slice(&data);
        if client.body_is_done() {
            self.finish_body(client);
            return Poll::Ready(if self.replay.len() > max_length {
                BufferProgress::TooLarge
            } else {
                BufferProgress::Complete
            });
        }
        Poll::Ready(if self.replay.len() > max_length {
            BufferProgress::TooLarge
        } else {
            BufferProgress::More
        })
    }

    pub(super) const fn waiting(&self) -> WaitingFor {
        self.waiting
    }

    /// Whether another attempt can send everything received so far.
    pub(super) const fn is_replayable(&self) -> bool {
        self.is_replayable
    }

    /// Whether the whole body has been received.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Starts an attempt: queues everything received so far. Without `may_retry` the replay buffer is freed.
    pub(super) fn begin(&mut self, conn: &mut UpstreamConn, may_retry: bool, now: Instant) {
        self.waiting = WaitingFor::Upstream;
        self.unsent = 0;
        self.blocked_since = now;
        conn.queue_body(&self.replay);
        if self.ended {
            self.queue_end(conn);
        }
        if !may_retry {
            self.replay = BytesMut::new();
            self.is_replayable = false;
        }
    }

    /// When the client's last byte arrived, or when the upload started to wait for the client.
    pub(super) const fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// Time spent waiting for the client.
    pub(super) const fn client_wait(&self) -> Duration {
        self.client_wait
    }

    /// Adds time spent waiting for the client, for the minimum rate.
    pub(super) fn add_client_wait(&mut self, waited: Duration) {
        self.client_wait += waited;
    }

    /// The limit while the upload waits for the client (`client.body_timeout`, `client.min_body_rate`).
    pub(super) fn client_limit(&self, client_config: &config::ClientSettings, now: Instant) -> TimeLimit {
        if let Some(idle_timeout) = self.idle_timeout {
            return TimeLimit::new(self.idle_since + idle_timeout, Cause::ClientTooSlow, Phase::Send);
        }
        let idle_limit = self.idle_limit(client_config);
        if client_config.min_body_rate == 0 {
            return idle_limit;
        }
        // At the minimum rate, the received bytes may take this long.
        let earned = Duration::from_secs_f64(self.received as f64 / client_config.min_body_rate as f64);
        let allowed = earned.max(RATE_GRACE).saturating_sub(self.client_wait);
        idle_limit.earlier(Some(TimeLimit::new(now + allowed, Cause::ClientTooSlow, Phase::Send)))
    }

    /// `client.body_timeout` alone: the minimum rate no longer applies once the response headers are sent.
    pub(super) fn idle_limit(&self, client_config: &config::ClientSettings) -> TimeLimit {
        TimeLimit::new(self.idle_since + client_config.body_timeout, Cause::ClientTooSlow, Phase::Send)
    }

    /// The limit on an upstream that accepts none of the queued bytes (`timeouts.body_idle`).
    pub(super) fn write_limit(&self, idle_timeout: Duration) -> TimeLimit {
        TimeLimit::new(self.blocked_since + idle_timeout, Cause::ConnectionWriteTimeout, Phase::Send)
    }

    /// Transfers bytes until one side blocks.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Downstream,
        conn: &mut UpstreamConn,
    ) -> Poll<UploadEvent> {
        let before = self.waiting;
        let outcome = self.poll_transfer(cx, client, conn);
        match outcome {
            Poll::Pending if self.waiting != before => {
                if self.waiting == WaitingFor::Client {
                    // The client's idle time starts now, not while the upstream was blocking it.
                    self.idle_since = Instant::now();
                }
                Poll::Ready(UploadEvent::WaitingChanged)
            }
            other => other,
        }
    }

    fn poll_transfer(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Downstream,
        conn: &mut UpstreamConn,
    ) -> Poll<UploadEvent> {
        loop {
            match conn.poll_flush(cx) {
                Poll::Pending => {
                    self.waiting = WaitingFor::Upstream;
                    let unsent = conn.unsent();
                    if unsent != self.unsent {
                        self.unsent = unsent;
                        self.blocked_since = Instant::now();
                    }
                    return Poll::Pending;
                }
                // The upstream may have sent a response before it stopped reading: the code that reads the response
                // decides. Meanwhile the rest of the request body is left unread.
                Poll::Ready(()) if conn.write_failed() => {
                    self.waiting = WaitingFor::Nothing;
                    return if self.ended { disconnected(client.poll_disconnect(cx)) } else { Poll::Pending };
                }
                Poll::Ready(()) => self.unsent = 0,
            }
            if self.ended {
                self.waiting = WaitingFor::Nothing;
                conn.free_output();
                return disconnected(client.poll_disconnect(cx));
            }
            match client.poll_body(cx) {
                Poll::Pending => {
                    conn.free_output();
                    // A client that waits for a 100 is not slow.
                    self.waiting =
                        if client.awaits_continue() { WaitingFor::Nothing } else { WaitingFor::Client };
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(data))) => {
                    if let Err(fault) = self.count_received(&data) {
                        return Poll::Ready(UploadEvent::Failed(fault));
                    }
                    conn.queue_body(&data);
                    self.keep_for_replay(&data, client.replay_capacity(MAX_REPLAY_BYTES));
                    if client.body_is_done() {
                        self.finish_body(client);
                        self.queue_end(conn);
                    }
                }
                Poll::Ready(Ok(None)) => {
                    self.finish_body(client);
                    self.queue_end(conn);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(event_for_error(error)),
            }
        }
    }

    /// Marks the body as complete and takes its trailers.
    fn finish_body(&mut self, client: &mut Downstream) {
        self.ended = true;
        let keep = |name: &[u8]| hop_by_hop::is_allowed_in_request_trailers(name);
        self.trailers =
            client.take_trailers().map(|trailers| Box::new(message::filter_trailers(trailers, keep)));
    }

    fn queue_end(&self, conn: &mut UpstreamConn) {
        if let Some(trailers) = &self.trailers {
            conn.queue_trailers((**trailers).clone());
        }
        conn.queue_end();
    }

    /// Counts received bytes towards `max_body` and as activity of the client.
    fn count_received(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.received += data.len() as u64;
        self.idle_since = Instant::now();
        if self.received > self.max_body { Err(Fault::new(Cause::BodyTooLarge, Phase::Send)) } else { Ok(()) }
    }

    /// Adds received bytes to the replay buffer. If it would exceed `capacity` it is freed, and the body cannot be
    /// retried.
    fn keep_for_replay(&mut self, data: &[u8], capacity: usize) {
        if !self.is_replayable {
            return;
        }
        if self.replay.len() + data.len() > capacity {
            self.is_replayable = false;
            self.replay = BytesMut::new();
        } else {
            self.replay.extend_from_slice(data);
        }
    }
}

fn disconnected(poll: Poll<()>) -> Poll<UploadEvent> {
    poll.map(|()| UploadEvent::ClientDisconnected)
}

fn event_for_error(error: BodyError) -> UploadEvent {
    let malformed = |evidence| {
        UploadEvent::Failed(
            Fault::new(Cause::MalformedBody, Phase::Send).with_evidence(Evidence::from_static(evidence)),
        )
    };
    match error {
        BodyError::Malformed(evidence) => malformed(evidence),
        BodyError::Incomplete => malformed("the request body is truncated"),
        BodyError::Disconnected => UploadEvent::ClientDisconnected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upload() -> Upload {
        Upload {
            max_body: 1024 * 1024,
            received: 0,
            ended: false,
            replay: BytesMut::new(),
            is_replayable: true,
            trailers: None,
            waiting: WaitingFor::Upstream,
            idle_timeout: None,
            idle_since: Instant::now(),
            client_wait: Duration::ZERO,
            unsent: 0,
            blocked_since: Instant::now(),
            continue_sent: false,
        }
    }

    #[test]
    fn replay_buffer_stays_small_for_single_byte_chunks() {
        let mut upload = upload();
        for _ in 0..MAX_REPLAY_BYTES {
            upload.keep_for_replay(b"x", MAX_REPLAY_BYTES);
        }
        assert_eq!((upload.replay.len(), upload.is_replayable()), (MAX_REPLAY_BYTES, true));
        assert!(upload.replay.capacity() <= 2 * MAX_REPLAY_BYTES, "{}", upload.replay.capacity());
        upload.keep_for_replay(b"x", MAX_REPLAY_BYTES);
        assert_eq!((upload.replay.capacity(), upload.is_replayable()), (0, false));
    }
}
