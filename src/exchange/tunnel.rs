//! After a 101: bytes go both ways unread, until both sides have ended.
//!
//! One poll function drives both directions. Each holds at most one piece, and reads the next only when the last one is
//! written: whoever takes nothing stops the other side, and memory stays bounded. An end of one direction is passed on as
//! an end of that direction alone. It knows no HTTP, and says how the tunnel ended; what either side then sees of that is
//! [`super::relay`]'s, which has also sent the 101. The only file that moves bytes to a client beside the two that write
//! to them: these are no answer, and have no contract.
#![expect(clippy::disallowed_methods, reason = "what passes in a tunnel is nobody's answer")]

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::clock::Limit;
use super::relay::Relayed;
use super::wire::{BODY_ROOM, HEAD_ROOM, Wire};
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::upstream::timer::timeout_at;

/// The limits that hold in a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Nothing moves, either way.
    pub(super) idle: Duration,
    /// On everything.
    pub(super) whole: Option<Limit>,
}

/// Moves bytes until the tunnel is over. How it ended, and how many bytes came from the upstream.
///
/// What has been read behind the heads goes first; the head that waits in the client's buffer leaves with it.
pub(super) async fn run(client: &mut Wire, upstream: &mut Wire, times: Times) -> (Relayed, u64) {
    let mut tunnel = Tunnel { up: Lane::new(), down: Lane::new(), moved_at: Instant::now() };
    tunnel.down.bytes = upstream.input.len() as u64;
    upstream.pass_to(client);
    loop {
        let idle_at = tunnel.moved_at + times.idle;
        let at = times.whole.map_or(idle_at, |whole| whole.at.min(idle_at));
        let ended = timeout_at(at, poll_fn(|cx| tunnel.poll(cx, client, upstream))).await;
        let now = Instant::now();
        // The timer is coarse, and bytes have moved since it was set.
        let ended = ended.or_else(|| match times.whole {
            Some(whole) if now >= whole.at => Some(Relayed::Cut(whole.fault())),
            _ => (now >= tunnel.moved_at + times.idle).then_some(Relayed::Idle),
        });
        if let Some(ended) = ended {
            return (ended, tunnel.down.bytes);
        }
    }
}

/// Both directions.
struct Tunnel {
    /// From the client to the upstream.
    up: Lane,
    down: Lane,
    /// When the last byte moved.
    moved_at: Instant,
}

impl Tunnel {
    /// Moves bytes as far as both sides allow; ready when nothing will move any more.
    fn poll(&mut self, cx: &mut Context<'_>, client: &mut Wire, upstream: &mut Wire) -> Poll<Relayed> {
        let before = (client.unsent(), upstream.unsent(), self.up.bytes, self.down.bytes);
        let up = self.up.poll(cx, client, upstream);
        let down = self.down.poll(cx, upstream, client);
        if before != (client.unsent(), upstream.unsent(), self.up.bytes, self.down.bytes) {
            self.moved_at = Instant::now();
        }
        match (up, down) {
            // Whoever cannot be read from any more is gone, and with it both directions.
            (Poll::Ready(Err(Broken::Reading(_))), _) => Poll::Ready(Relayed::ClientGone),
            (_, Poll::Ready(Err(Broken::Reading(error)))) => Poll::Ready(cut(&error)),
            // Whoever takes nothing any more may have said its last before: that is passed on first.
            (Poll::Ready(_), Poll::Ready(Err(Broken::Writing))) => Poll::Ready(Relayed::ClientGone),
            (Poll::Ready(_), Poll::Ready(Ok(()))) => Poll::Ready(Relayed::Whole),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }
}

/// The upstream broke off.
fn cut(error: &io::Error) -> Relayed {
    let evidence = Evidence::owned(error.to_string());
    Relayed::Cut(Fault::new(Cause::HttpResponseIncomplete, Phase::Relay).with_evidence(evidence))
}

/// One direction.
struct Lane {
    state: State,
    /// How much is read at once: little where little comes, so that a quiet tunnel costs little.
    room: usize,
    /// So many have been read.
    bytes: u64,
}

enum State {
    Open,
    /// The sender has ended; its end is to be passed on.
    Ending,
    /// That is done.
    Ended,
    /// The receiver takes nothing more.
    Refused,
}

/// Why a direction cannot go on.
enum Broken {
    Reading(io::Error),
    Writing,
}

impl Lane {
    const fn new() -> Self {
        Lane { state: State::Open, room: HEAD_ROOM, bytes: 0 }
    }

    /// Ready when the sender's end has been passed on, or something is broken; may be asked again.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Wire, to: &mut Wire) -> Poll<Result<(), Broken>> {
        loop {
            match self.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::Refused => return Poll::Ready(Err(Broken::Writing)),
                State::Open | State::Ending => {}
            }
            if ready!(to.poll_flush(cx)).is_err() {
                self.state = State::Refused;
                continue;
            }
            if !from.input.is_empty() {
                from.pass_to(to);
                continue;
            }
            if matches!(self.state, State::Ending) {
                self.state = match ready!(to.poll_finish(cx)) {
                    Ok(()) => State::Ended,
                    Err(_) => State::Refused,
                };
                continue;
            }
            match from.poll_fill(cx, self.room) {
                Poll::Ready(Ok(0)) => self.state = State::Ending,
                Poll::Ready(Ok(read)) => {
                    self.bytes += read as u64;
                    self.room = if read < self.room { HEAD_ROOM } else { BODY_ROOM };
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Reading(error))),
                Poll::Pending => {
                    if self.room > HEAD_ROOM {
                        self.room = HEAD_ROOM;
                        from.input = bytes::BytesMut::new();
                    }
                    to.output = bytes::BytesMut::new();
                    return Poll::Pending;
                }
            }
        }
    }
}
