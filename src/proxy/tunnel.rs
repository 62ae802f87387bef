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

use super::buffered_stream::{BODY_BUFFER_SIZE, BufferedStream, HEADER_BUFFER_SIZE};
use super::clock::TimeLimit;
use super::relay::RelayOutcome;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::upstream::timer::timeout_at;

/// The limits that hold in a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelTimeouts {
    /// Nothing moves, either way.
    pub(super) idle: Duration,
    /// On everything.
    pub(super) max_duration: Option<TimeLimit>,
}

/// Moves bytes until the tunnel is over. How it ended, and how many bytes came from the upstream.
///
/// What has been read behind the heads goes first; the head that waits in the client's buffer leaves with it.
pub(super) async fn run(
    client: &mut BufferedStream,
    upstream: &mut BufferedStream,
    timeouts: TunnelTimeouts,
) -> (RelayOutcome, u64) {
    let mut tunnel = Tunnel { up: Direction::new(), down: Direction::new(), last_activity: Instant::now() };
    tunnel.down.bytes = upstream.input.len() as u64;
    upstream.splice_to(client);
    loop {
        let idle_at = tunnel.last_activity + timeouts.idle;
        let at = timeouts.max_duration.map_or(idle_at, |max_duration| max_duration.at.min(idle_at));
        let outcome = timeout_at(at, poll_fn(|cx| tunnel.poll(cx, client, upstream))).await;
        let now = Instant::now();
        // The timer is coarse, and bytes have moved since it was set.
        let outcome = outcome.or_else(|| match timeouts.max_duration {
            Some(max_duration) if now >= max_duration.at => Some(RelayOutcome::Aborted(max_duration.fault())),
            _ => (now >= tunnel.last_activity + timeouts.idle).then_some(RelayOutcome::TunnelIdle),
        });
        if let Some(outcome) = outcome {
            return (outcome, tunnel.down.bytes);
        }
    }
}

/// Both directions.
struct Tunnel {
    /// From the client to the upstream.
    up: Direction,
    down: Direction,
    /// When the last byte moved.
    last_activity: Instant,
}

impl Tunnel {
    /// Moves bytes as far as both sides allow; ready when nothing will move any more.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut BufferedStream,
        upstream: &mut BufferedStream,
    ) -> Poll<RelayOutcome> {
        let before = (client.unsent(), upstream.unsent(), self.up.bytes, self.down.bytes);
        let up = self.up.poll(cx, client, upstream);
        let down = self.down.poll(cx, upstream, client);
        if before != (client.unsent(), upstream.unsent(), self.up.bytes, self.down.bytes) {
            self.last_activity = Instant::now();
        }
        match (up, down) {
            // Whoever cannot be read from any more is gone, and with it both directions.
            (Poll::Ready(Err(DirectionError::Read(_))), _) => Poll::Ready(RelayOutcome::ClientDisconnected),
            (_, Poll::Ready(Err(DirectionError::Read(error)))) => Poll::Ready(upstream_error(&error)),
            // Whoever takes nothing any more may have said its last before: that is passed on first.
            (Poll::Ready(_), Poll::Ready(Err(DirectionError::Write))) => {
                Poll::Ready(RelayOutcome::ClientDisconnected)
            }
            (Poll::Ready(_), Poll::Ready(Ok(()))) => Poll::Ready(RelayOutcome::Complete),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }
}

/// The upstream broke off.
fn upstream_error(error: &io::Error) -> RelayOutcome {
    let evidence = Evidence::owned(error.to_string());
    RelayOutcome::Aborted(Fault::new(Cause::HttpResponseIncomplete, Phase::Relay).with_evidence(evidence))
}

/// One direction.
struct Direction {
    state: DirectionState,
    /// How much is read at once: little where little comes, so that a quiet tunnel costs little.
    buffer_size: usize,
    /// So many have been read.
    bytes: u64,
}

enum DirectionState {
    Open,
    /// The sender has ended; its end is to be passed on.
    Closing,
    /// That is done.
    Closed,
    /// The receiver takes nothing more.
    WriteFailed,
}

/// Why a direction cannot go on.
enum DirectionError {
    Read(io::Error),
    Write,
}

impl Direction {
    const fn new() -> Self {
        Direction { state: DirectionState::Open, buffer_size: HEADER_BUFFER_SIZE, bytes: 0 }
    }

    /// Ready when the sender's end has been passed on, or something is broken; may be asked again.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut BufferedStream,
        to: &mut BufferedStream,
    ) -> Poll<Result<(), DirectionError>> {
        loop {
            match self.state {
                DirectionState::Closed => return Poll::Ready(Ok(())),
                DirectionState::WriteFailed => return Poll::Ready(Err(DirectionError::Write)),
                DirectionState::Open | DirectionState::Closing => {}
            }
            if ready!(to.poll_flush(cx)).is_err() {
                self.state = DirectionState::WriteFailed;
                continue;
            }
            if !from.input.is_empty() {
                from.splice_to(to);
                continue;
            }
            if matches!(self.state, DirectionState::Closing) {
                self.state = match ready!(to.poll_shutdown_write(cx)) {
                    Ok(()) => DirectionState::Closed,
                    Err(_) => DirectionState::WriteFailed,
                };
                continue;
            }
            match from.poll_fill(cx, self.buffer_size) {
                Poll::Ready(Ok(0)) => self.state = DirectionState::Closing,
                Poll::Ready(Ok(read)) => {
                    self.bytes += read as u64;
                    self.buffer_size =
                        if read < self.buffer_size { HEADER_BUFFER_SIZE } else { BODY_BUFFER_SIZE };
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(DirectionError::Read(error))),
                Poll::Pending => {
                    if self.buffer_size > HEADER_BUFFER_SIZE {
                        self.buffer_size = HEADER_BUFFER_SIZE;
                        from.input = bytes::BytesMut::new();
                    }
                    to.output = bytes::BytesMut::new();
                    return Poll::Pending;
                }
            }
        }
    }
}
