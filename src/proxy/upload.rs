//! The request body on its way: from the client to the upstream, with what is needed to send it again.
//!
//! One poll function drives it, before and after the response head alike. It knows the limits on a body and names what
//! a client does wrong; when to give up waiting is the caller's to say, from [`Upload::waiting`].

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::HeaderMap;

use super::clock::TimeLimit;
use super::downstream::Downstream;
use super::downstream::h1::BodyError;
use super::message;
use super::message::request::is_overridden;
use super::upstream_conn::UpstreamConn;
use crate::config;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::http::hop_by_hop;

/// Most bytes of a body that are kept to be sent again.
const MAX_REPLAY_BYTES: usize = 64 * 1024;
/// The rate of a body is judged after so much waiting.
const RATE_GRACE: Duration = Duration::from_secs(30);

/// What the upload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitingFor {
    /// The upstream does not take bytes.
    Upstream,
    /// The client does not send bytes, although the upstream would take them.
    Client,
    /// All is sent, or cannot be sent.
    Nothing,
}

/// What ends a wait.
#[derive(Debug)]
pub(super) enum UploadEvent {
    /// The wait is for something else now; limits change with it.
    WaitChanged,
    /// The request cannot be carried on.
    Failed(Fault),
    /// The client has left.
    ClientDisconnected,
}

/// How far a body that is read ahead has come.
#[derive(Debug)]
pub(super) enum BufferProgress {
    /// More will come.
    More,
    /// It is all there.
    Complete,
    /// It is longer than what is read ahead.
    TooLarge,
    /// The request cannot be carried on.
    Failed(Fault),
    /// The client has left.
    ClientDisconnected,
}

/// The request body.
#[derive(Debug)]
pub(super) struct Upload {
    max_body: u64,
    received: u64,
    ended: bool,
    /// Copied together: a slice would hold the whole buffer that it was read into, and a client may send single bytes.
    replay: BytesMut,
    /// Everything received so far is in `replay`.
    replayable: bool,
    /// What stands behind the body, once it has ended.
    trailers: Option<Box<HeaderMap>>,
    waiting: WaitingFor,
    /// So long a client may be silent whose messages are far between (gRPC), in place of the limits for bodies.
    idle_timeout: Option<Duration>,
    /// When the client's last byte came, or when we began to wait for the next.
    idle_since: Instant,
    client_wait: Duration,
    /// Bytes that the upstream has not taken, when it last took any, and when that was.
    unsent: usize,
    blocked_since: Instant,
    /// The client was sent a 100 by us.
    continue_sent: bool,
}

impl Upload {
    pub(super) fn new(client: &Downstream, max_body: u64, now: Instant) -> Self {
        Upload {
            max_body,
            received: 0,
            ended: client.body_is_done(),
            replay: BytesMut::new(),
            replayable: true,
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

    /// The client has been told to send its body: the upstream's own 100 would be a second one.
    pub(super) fn set_continue_sent(&mut self) {
        self.continue_sent = true;
    }

    /// Whether the client has been told to send its body.
    pub(super) const fn continue_sent(&self) -> bool {
        self.continue_sent
    }

    /// The body is a stream of messages: silence is part of it, and there is no rate.
    pub(super) fn set_idle_timeout(&mut self, idle_timeout: Duration) {
        self.idle_timeout = Some(idle_timeout);
    }

    /// The whole body, where all of it was read ahead.
    pub(super) fn buffered_body(&self) -> Option<&[u8]> {
        (self.ended && self.replayable).then_some(&self.replay)
    }

    /// After a time that was not the client's silence.
    pub(super) fn reset_idle_timers(&mut self, now: Instant) {
        self.idle_since = now;
        self.blocked_since = now;
    }

    /// Reads on before there is an upstream to send it to, as far as `max_length` bytes and a piece. What was read is sent by
    /// [`Upload::begin`].
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
                return Poll::Ready(match event_of_error(error) {
                    UploadEvent::Failed(fault) => BufferProgress::Failed(fault),
                    UploadEvent::ClientDisconnected | UploadEvent::WaitChanged => {
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

    /// Whether another attempt could send the same bytes.
    pub(super) const fn can_replay(&self) -> bool {
        self.replayable
    }

    /// Whether the client's body has come to its end.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// A new attempt begins: what was received is queued again. From the last attempt on nothing is kept.
    pub(super) fn begin(&mut self, conn: &mut UpstreamConn, may_retry: bool) {
        self.waiting = WaitingFor::Upstream;
        self.unsent = 0;
        self.blocked_since = Instant::now();
        conn.queue_body(&self.replay);
        if self.ended {
            self.queue_end(conn);
        }
        if !may_retry {
            self.replay = BytesMut::new();
            self.replayable = false;
        }
    }

    /// When the client's last byte came, or when the upstream was ready for the next.
    pub(super) const fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// So long the client let us wait.
    pub(super) fn add_client_wait(&mut self, waited: Duration) {
        self.client_wait += waited;
    }

    /// The limits on the client while we wait for its bytes (`client.body_timeout`, `client.min_body_rate`).
    pub(super) fn client_limit(&self, client_config: &config::ClientLimits, now: Instant) -> TimeLimit {
        if let Some(idle_timeout) = self.idle_timeout {
            return TimeLimit::new(self.idle_since + idle_timeout, Cause::ClientTooSlow, Phase::Send);
        }
        let idle_limit = self.idle_limit(client_config);
        if client_config.min_body_rate == 0 {
            return idle_limit;
        }
        let earned = Duration::from_secs_f64(self.received as f64 / client_config.min_body_rate as f64);
        let allowed = earned.max(RATE_GRACE).saturating_sub(self.client_wait);
        idle_limit.earlier(Some(TimeLimit::new(now + allowed, Cause::ClientTooSlow, Phase::Send)))
    }

    /// The limit on the client's silence alone: all that holds once the response head has left.
    pub(super) fn idle_limit(&self, client_config: &config::ClientLimits) -> TimeLimit {
        TimeLimit::new(self.idle_since + client_config.body_timeout, Cause::ClientTooSlow, Phase::Send)
    }

    /// The limit on an upstream that takes none of the bytes that wait for it (`timeouts.body_idle`).
    pub(super) fn write_limit(&self, idle_timeout: Duration) -> TimeLimit {
        TimeLimit::new(self.blocked_since + idle_timeout, Cause::ConnectionWriteTimeout, Phase::Send)
    }

    /// Moves bytes as far as both sides allow.
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
                    // Its silence begins when we begin to listen, not while the upstream held it back.
                    self.idle_since = Instant::now();
                }
                Poll::Ready(UploadEvent::WaitChanged)
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
                // The answer may be there already, or come yet: the reader of the response decides.
                Poll::Ready(()) if conn.write_failed() => {
                    self.waiting = WaitingFor::Nothing;
                    return if self.ended { disconnected(client.poll_disconnect(cx)) } else { Poll::Pending };
                }
                Poll::Ready(()) => {}
            }
            if self.ended {
                self.waiting = WaitingFor::Nothing;
                conn.free_output();
                return disconnected(client.poll_disconnect(cx));
            }
            match client.poll_body(cx) {
                Poll::Pending => {
                    conn.free_output();
                    // A client that waits for its 100 is not the one who is slow.
                    self.waiting =
                        if client.awaits_continue() { WaitingFor::Nothing } else { WaitingFor::Client };
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(data))) => {
                    if let Err(error) = self.count_received(&data) {
                        return Poll::Ready(UploadEvent::Failed(error));
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
                Poll::Ready(Err(fault)) => return Poll::Ready(event_of_error(fault)),
            }
        }
    }

    /// The client's body has come to its end.
    fn finish_body(&mut self, client: &mut Downstream) {
        self.ended = true;
        let keep = |name: &[u8]| hop_by_hop::is_allowed_in_request_trailers(name) && !is_overridden(name);
        self.trailers =
            client.take_trailers().map(|trailers| Box::new(message::filter_trailers(trailers, keep)));
    }

    fn queue_end(&self, conn: &mut UpstreamConn) {
        if let Some(trailers) = &self.trailers {
            conn.queue_trailers((**trailers).clone());
        }
        conn.queue_end();
    }

    fn count_received(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.received += data.len() as u64;
        self.idle_since = Instant::now();
        if self.received > self.max_body { Err(Fault::new(Cause::BodyTooLarge, Phase::Send)) } else { Ok(()) }
    }

    fn keep_for_replay(&mut self, data: &[u8], max: usize) {
        if !self.replayable {
            return;
        }
        if self.replay.len() + data.len() > max {
            self.replayable = false;
            self.replay = BytesMut::new();
        } else {
            self.replay.extend_from_slice(data);
        }
    }
}

fn disconnected(poll: Poll<()>) -> Poll<UploadEvent> {
    poll.map(|()| UploadEvent::ClientDisconnected)
}

fn event_of_error(error: BodyError) -> UploadEvent {
    let malformed = |evidence| {
        UploadEvent::Failed(
            Fault::new(Cause::MalformedBody, Phase::Send).with_evidence(Evidence::from_static(evidence)),
        )
    };
    match error {
        BodyError::Malformed(evidence) => malformed(evidence),
        BodyError::Incomplete => malformed("the client ended its body early"),
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
            replayable: true,
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
    fn replay_buffer_costs_its_own_bytes_for_single_byte_chunks() {
        let mut upload = upload();
        for _ in 0..MAX_REPLAY_BYTES {
            upload.keep_for_replay(b"x", MAX_REPLAY_BYTES);
        }
        assert_eq!((upload.replay.len(), upload.can_replay()), (MAX_REPLAY_BYTES, true));
        assert!(upload.replay.capacity() <= 2 * MAX_REPLAY_BYTES, "{}", upload.replay.capacity());
        upload.keep_for_replay(b"x", MAX_REPLAY_BYTES);
        assert_eq!((upload.replay.capacity(), upload.can_replay()), (0, false));
    }
}
