//! The request body on its way: from the client to the upstream, with what is needed to send it again.
//!
//! One poll function drives it, before and after the response head alike. It knows the limits on a body and names what
//! a client does wrong; when to give up waiting is the caller's to say, from [`Upload::waiting`].

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::HeaderMap;

use super::client_h1::BodyFault;
use super::clock::Limit;
use super::downstream::Downstream;
use super::head;
use super::peer::Peer;
use super::request::said_anew;
use crate::config;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::protocol::hop;

/// Most bytes of a body that are kept to be sent again.
const MAX_REPLAY: usize = 64 * 1024;
/// The rate of a body is judged after so much waiting.
const RATE_GRACE: Duration = Duration::from_secs(30);

/// What the upload waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
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
    Changed,
    /// The request cannot be carried on.
    Failed(Fault),
    /// The client has left.
    ClientGone,
}

/// How far a body that is read ahead has come.
#[derive(Debug)]
pub(super) enum Ahead {
    /// More will come.
    More,
    /// It is all there.
    Whole,
    /// It is longer than what is read ahead.
    TooLong,
    /// The request cannot be carried on.
    Failed(Fault),
    /// The client has left.
    ClientGone,
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
    waiting: Waiting,
    /// So long a client may be silent whose messages are far between (gRPC), in place of the limits for bodies.
    patience: Option<Duration>,
    /// When the client's last byte came, or when we began to wait for the next.
    quiet_since: Instant,
    waited: Duration,
    /// Bytes that the upstream has not taken, when it last took any, and when that was.
    untaken: usize,
    stuck_since: Instant,
    /// The client was sent a 100 by us.
    invited: bool,
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
            waiting: Waiting::Upstream,
            patience: None,
            quiet_since: now,
            waited: Duration::ZERO,
            untaken: 0,
            stuck_since: now,
            invited: false,
        }
    }

    /// The client has been told to send its body: the upstream's own 100 would be a second one.
    pub(super) fn was_invited(&mut self) {
        self.invited = true;
    }

    /// Whether the client has been told to send its body.
    pub(super) const fn has_invited(&self) -> bool {
        self.invited
    }

    /// The body is a stream of messages: silence is part of it, and there is no rate.
    pub(super) fn be_patient(&mut self, silence: Duration) {
        self.patience = Some(silence);
    }

    /// The whole body, where all of it was read ahead.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.ended && self.replayable).then_some(&self.replay)
    }

    /// After a time that was not the client's silence.
    pub(super) fn resume(&mut self, now: Instant) {
        self.quiet_since = now;
        self.stuck_since = now;
    }

    /// Reads on before there is an upstream to send it to, as far as `longest` bytes and a piece. What was read is sent by
    /// [`Upload::begin`].
    pub(super) fn poll_ahead(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Downstream,
        longest: usize,
    ) -> Poll<Ahead> {
        let data = match client.poll_body(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(Some(data))) => data,
            Poll::Ready(Ok(None)) => {
                self.end(client);
                return Poll::Ready(Ahead::Whole);
            }
            Poll::Ready(Err(fault)) => {
                return Poll::Ready(match body_event(fault) {
                    UploadEvent::Failed(fault) => Ahead::Failed(fault),
                    UploadEvent::ClientGone | UploadEvent::Changed => Ahead::ClientGone,
                });
            }
        };
        if let Err(fault) = self.take(&data) {
            return Poll::Ready(Ahead::Failed(fault));
        }
        self.replay.extend_from_slice(&data);
        if client.body_is_done() {
            self.end(client);
            return Poll::Ready(if self.replay.len() > longest { Ahead::TooLong } else { Ahead::Whole });
        }
        Poll::Ready(if self.replay.len() > longest { Ahead::TooLong } else { Ahead::More })
    }

    pub(super) const fn waiting(&self) -> Waiting {
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
    pub(super) fn begin(&mut self, peer: &mut Peer, may_retry: bool) {
        self.waiting = Waiting::Upstream;
        self.untaken = 0;
        self.stuck_since = Instant::now();
        peer.queue_body(&self.replay);
        if self.ended {
            self.queue_end(peer);
        }
        if !may_retry {
            self.replay = BytesMut::new();
            self.replayable = false;
        }
    }

    /// When the client's last byte came, or when the upstream was ready for the next.
    pub(super) const fn quiet_since(&self) -> Instant {
        self.quiet_since
    }

    /// So long the client let us wait.
    pub(super) fn add_wait(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// The limits on the client while we wait for its bytes (`client.body_timeout`, `client.min_body_rate`).
    pub(super) fn client_limit(&self, rules: &config::ClientLimits, now: Instant) -> Limit {
        if let Some(silence) = self.patience {
            return Limit::new(self.quiet_since + silence, Cause::ClientTooSlow, Phase::Send);
        }
        let silence = self.silence_limit(rules);
        if rules.min_body_rate == 0 {
            return silence;
        }
        let earned = Duration::from_secs_f64(self.received as f64 / rules.min_body_rate as f64);
        let allowed = earned.max(RATE_GRACE).saturating_sub(self.waited);
        silence.or(Some(Limit::new(now + allowed, Cause::ClientTooSlow, Phase::Send)))
    }

    /// The limit on the client's silence alone: all that holds once the response head has left.
    pub(super) fn silence_limit(&self, rules: &config::ClientLimits) -> Limit {
        Limit::new(self.quiet_since + rules.body_timeout, Cause::ClientTooSlow, Phase::Send)
    }

    /// The limit on an upstream that takes none of the bytes that wait for it (`timeouts.between_bytes`).
    pub(super) fn stuck_limit(&self, silence: Duration) -> Limit {
        Limit::new(self.stuck_since + silence, Cause::ConnectionWriteTimeout, Phase::Send)
    }

    /// Moves bytes as far as both sides allow.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Downstream,
        peer: &mut Peer,
    ) -> Poll<UploadEvent> {
        let before = self.waiting;
        let outcome = self.poll_inner(cx, client, peer);
        match outcome {
            Poll::Pending if self.waiting != before => {
                if self.waiting == Waiting::Client {
                    // Its silence begins when we begin to listen, not while the upstream held it back.
                    self.quiet_since = Instant::now();
                }
                Poll::Ready(UploadEvent::Changed)
            }
            other => other,
        }
    }

    fn poll_inner(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Downstream,
        peer: &mut Peer,
    ) -> Poll<UploadEvent> {
        loop {
            match peer.poll_flush(cx) {
                Poll::Pending => {
                    self.waiting = Waiting::Upstream;
                    let untaken = peer.unsent();
                    if untaken != self.untaken {
                        self.untaken = untaken;
                        self.stuck_since = Instant::now();
                    }
                    return Poll::Pending;
                }
                // The answer may be there already, or come yet: the reader of the response decides.
                Poll::Ready(()) if peer.write_has_failed() => {
                    self.waiting = Waiting::Nothing;
                    return if self.ended { gone(client.poll_gone(cx)) } else { Poll::Pending };
                }
                Poll::Ready(()) => {}
            }
            if self.ended {
                self.waiting = Waiting::Nothing;
                peer.rest();
                return gone(client.poll_gone(cx));
            }
            match client.poll_body(cx) {
                Poll::Pending => {
                    peer.rest();
                    // A client that waits for its 100 is not the one who is slow.
                    self.waiting = if client.awaits_continue() { Waiting::Nothing } else { Waiting::Client };
                    return Poll::Pending;
                }
                Poll::Ready(Ok(Some(data))) => {
                    if let Err(fault) = self.take(&data) {
                        return Poll::Ready(UploadEvent::Failed(fault));
                    }
                    peer.queue_body(&data);
                    self.keep(&data, client.may_keep(MAX_REPLAY));
                    if client.body_is_done() {
                        self.end(client);
                        self.queue_end(peer);
                    }
                }
                Poll::Ready(Ok(None)) => {
                    self.end(client);
                    self.queue_end(peer);
                }
                Poll::Ready(Err(fault)) => return Poll::Ready(body_event(fault)),
            }
        }
    }

    /// The client's body has come to its end.
    fn end(&mut self, client: &mut Downstream) {
        self.ended = true;
        let passes = |name: &[u8]| hop::is_allowed_in_request_trailers(name) && !said_anew(name);
        self.trailers = client.take_trailers().map(|trailers| Box::new(head::trailers(trailers, passes)));
    }

    fn queue_end(&self, peer: &mut Peer) {
        if let Some(trailers) = &self.trailers {
            peer.queue_trailers((**trailers).clone());
        }
        peer.queue_end();
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Fault> {
        self.received += data.len() as u64;
        self.quiet_since = Instant::now();
        if self.received > self.max_body { Err(Fault::new(Cause::BodyTooLarge, Phase::Send)) } else { Ok(()) }
    }

    fn keep(&mut self, data: &[u8], most: usize) {
        if !self.replayable {
            return;
        }
        if self.replay.len() + data.len() > most {
            self.replayable = false;
            self.replay = BytesMut::new();
        } else {
            self.replay.extend_from_slice(data);
        }
    }
}

fn gone(poll: Poll<()>) -> Poll<UploadEvent> {
    poll.map(|()| UploadEvent::ClientGone)
}

fn body_event(fault: BodyFault) -> UploadEvent {
    let malformed = |evidence| {
        UploadEvent::Failed(
            Fault::new(Cause::MalformedBody, Phase::Send).with_evidence(Evidence::from_static(evidence)),
        )
    };
    match fault {
        BodyFault::Malformed(evidence) => malformed(evidence),
        BodyFault::Short => malformed("the client ended its body early"),
        BodyFault::Gone => UploadEvent::ClientGone,
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
            waiting: Waiting::Upstream,
            patience: None,
            quiet_since: Instant::now(),
            waited: Duration::ZERO,
            untaken: 0,
            stuck_since: Instant::now(),
            invited: false,
        }
    }

    #[test]
    fn what_is_kept_to_be_sent_again_costs_its_own_bytes_however_they_dripped_in() {
        let mut upload = upload();
        for _ in 0..MAX_REPLAY {
            upload.keep(b"x", MAX_REPLAY);
        }
        assert_eq!((upload.replay.len(), upload.can_replay()), (MAX_REPLAY, true));
        assert!(upload.replay.capacity() <= 2 * MAX_REPLAY, "{}", upload.replay.capacity());
        upload.keep(b"x", MAX_REPLAY);
        assert_eq!((upload.replay.capacity(), upload.can_replay()), (0, false));
    }
}
