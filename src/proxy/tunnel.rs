//! Forwards bytes in both directions after a 101, until both sides have closed.
//!
//! One poll function drives both directions. Each direction buffers at most one read and reads again only when that is
//! written: a slow receiver blocks the sender, and memory stays bounded. A half-close is forwarded as a half-close.
//! [`super::relay`] sends the 101 before, and closes the connections afterwards.
#![expect(clippy::disallowed_methods, reason = "the bytes of a tunnel are not an HTTP response")]

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::buffered_stream::{BODY_BUFFER_SIZE, BufferedStream, HEADER_BUFFER_SIZE};
use super::deadlines::TimeLimit;
use super::record::DeliveryOutcome;
use crate::contract::{Cause, Evidence, Fault, Phase};
use crate::tls::cert_verification::describe_io_error;
use crate::upstream::timer::timeout_at;

/// The timeouts of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelTimeouts {
    /// Maximum time in which no byte is transferred in either direction (`timeouts.tunnel_idle`).
    pub(super) idle: Duration,
    /// The limit on the whole request (`timeouts.max_duration`).
    pub(super) max_duration: Option<TimeLimit>,
}

/// Numbers of bytes that a tunnel has received.
#[derive(Clone, Copy, Debug)]
pub(super) struct TunnelBytes {
    pub(super) from_client: u64,
    pub(super) from_upstream: u64,
}

/// Forwards bytes until the tunnel ends. Returns how it ended, and how much was received.
///
/// Bytes that were read after the upstream's response headers are forwarded first, in one write with the queued 101.
pub(super) async fn run(
    client: &mut BufferedStream,
    upstream: &mut BufferedStream,
    timeouts: TunnelTimeouts,
) -> (DeliveryOutcome, TunnelBytes) {
    let mut tunnel =
        Tunnel { to_upstream: Direction::new(), to_client: Direction::new(), last_activity: Instant::now() };
    tunnel.to_client.bytes = upstream.input.len() as u64;
    tunnel.to_upstream.bytes = client.input.len() as u64;
    upstream.move_input_to(client);
    loop {
        let idle_at = tunnel.last_activity + timeouts.idle;
        let at = timeouts.max_duration.map_or(idle_at, |max_duration| max_duration.at.min(idle_at));
        let outcome = timeout_at(at, poll_fn(|cx| tunnel.poll(cx, client, upstream))).await;
        let now = Instant::now();
        // Bytes may have been transferred since the timer was set, and it may fire late: check both limits again.
        let outcome = outcome.or_else(|| match timeouts.max_duration {
            Some(max_duration) if now >= max_duration.at => {
                Some(DeliveryOutcome::Aborted(max_duration.fault()))
            }
            _ => (now >= tunnel.last_activity + timeouts.idle).then_some(DeliveryOutcome::TunnelIdle),
        });
        if let Some(outcome) = outcome {
            let (from_client, from_upstream) = (tunnel.to_upstream.bytes, tunnel.to_client.bytes);
            return (outcome, TunnelBytes { from_client, from_upstream });
        }
    }
}

/// Both directions.
struct Tunnel {
    to_upstream: Direction,
    to_client: Direction,
    /// When the last byte was transferred.
    last_activity: Instant,
}

impl Tunnel {
    /// Transfers bytes until both directions block. Ready when the tunnel has ended.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut BufferedStream,
        upstream: &mut BufferedStream,
    ) -> Poll<DeliveryOutcome> {
        let before = (client.unsent(), upstream.unsent(), self.to_upstream.bytes, self.to_client.bytes);
        let to_upstream = self.to_upstream.poll(cx, client, upstream);
        let to_client = self.to_client.poll(cx, upstream, client);
        if before != (client.unsent(), upstream.unsent(), self.to_upstream.bytes, self.to_client.bytes) {
            self.last_activity = Instant::now();
        }
        match (to_upstream, to_client) {
            // A read error means that the peer is gone: the other direction ends too.
            (Poll::Ready(Err(DirectionError::Read(_))), _) => {
                Poll::Ready(DeliveryOutcome::ClientDisconnected)
            }
            (_, Poll::Ready(Err(DirectionError::Read(error)))) => Poll::Ready(upstream_error(&error)),
            // After a write error the peer's own bytes may still be readable: forward them before the tunnel ends.
            (Poll::Ready(_), Poll::Ready(Err(DirectionError::Write))) => {
                Poll::Ready(DeliveryOutcome::ClientDisconnected)
            }
            (Poll::Ready(_), Poll::Ready(Ok(()))) => Poll::Ready(DeliveryOutcome::Complete),
            (Poll::Pending, _) | (_, Poll::Pending) => Poll::Pending,
        }
    }
}

/// The outcome of a read error on the upstream connection.
fn upstream_error(error: &io::Error) -> DeliveryOutcome {
    let evidence = Evidence::owned(describe_io_error(error));
    DeliveryOutcome::Aborted(Fault::new(Cause::HttpResponseIncomplete, Phase::Relay).with_evidence(evidence))
}

/// One direction.
struct Direction {
    state: DirectionState,
    /// Size of the next read. Small after a short read, so that an idle tunnel uses little memory.
    buffer_size: usize,
    /// Number of bytes read.
    bytes: u64,
}

enum DirectionState {
    Open,
    /// The sender has half-closed; the receiver's side is still to be shut down.
    Closing,
    /// The half-close has been forwarded.
    Closed,
    /// Writing to the receiver failed.
    WriteFailed,
}

/// Why a direction ended without a half-close.
enum DirectionError {
    Read(io::Error),
    Write,
}

impl Direction {
    const fn new() -> Self {
        Direction { state: DirectionState::Open, buffer_size: HEADER_BUFFER_SIZE, bytes: 0 }
    }

    /// Ready when the half-close has been forwarded or an error occurred. May be polled again after that.
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
                from.move_input_to(to);
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
