//! Whether a TCP client is still receiving what was written to its connection: written bytes wait in the kernel's send
//! queue until the client acknowledges them.

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use pingora::protocols::l4::ext::get_tcp_info;

/// Observes the send queue of a connection.
#[derive(Debug)]
pub(super) struct SendQueue {
    /// The socket, which is open as long as the queue is observed.
    descriptor: RawFd,
    /// For how long a client may acknowledge nothing.
    write_timeout: Duration,
    /// Number of bytes that the client had acknowledged at the last change.
    acknowledged: u64,
    /// When that changed.
    acknowledged_at: Instant,
}

/// The state of a send queue.
#[derive(Clone, Copy, Debug)]
struct QueueState {
    /// Number of bytes that the client has acknowledged.
    acknowledged: u64,
    /// The queue holds more than a FIN.
    holds_data: bool,
}

impl SendQueue {
    pub(super) fn new(descriptor: RawFd, write_timeout: Duration, now: Instant) -> Self {
        SendQueue { descriptor, write_timeout, acknowledged: 0, acknowledged_at: now }
    }

    /// Whether unacknowledged data remains, and the client has acknowledged some within the write timeout. Always false
    /// on a Unix socket, which has no such queue.
    pub(super) fn is_sending(&mut self, now: Instant) -> bool {
        QueueState::read(self.descriptor).is_some_and(|state| self.observe(state, now))
    }

    fn observe(&mut self, state: QueueState, now: Instant) -> bool {
        if state.acknowledged != self.acknowledged {
            self.acknowledged = state.acknowledged;
            self.acknowledged_at = now;
        }
        state.holds_data && now.saturating_duration_since(self.acknowledged_at) < self.write_timeout
    }
}

impl QueueState {
    /// `None` if the socket is not a TCP socket.
    fn read(descriptor: RawFd) -> Option<QueueState> {
        let info = get_tcp_info(descriptor).ok()?;
        // One unacknowledged segment does not count: it may be only the FIN, or a GOAWAY, which a client that is gone
        // never acknowledges.
        let holds_data = info.tcpi_notsent_bytes > 0 || info.tcpi_unacked > 1;
        Some(QueueState { acknowledged: info.tcpi_bytes_acked, holds_data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_is_sending_while_the_client_receives() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut queue = SendQueue::new(-1, Duration::from_secs(30), start);
        let observed =
            [(0, 0, true), (29, 0, true), (30, 0, false), (31, 7, true), (60, 7, true), (61, 7, false)].map(
                |(seconds, acknowledged, expected)| {
                    let state = QueueState { acknowledged, holds_data: true };
                    (queue.observe(state, at(seconds)), expected)
                },
            );
        assert!(observed.iter().all(|(is_sending, expected)| is_sending == expected), "{observed:?}");
        assert!(!queue.observe(QueueState { acknowledged: 9, holds_data: false }, at(62)), "empty");
        assert!(!queue.is_sending(start), "not a socket");
    }
}
