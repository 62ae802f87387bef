//! The lingering close: after the last response the gateway shuts down its side, then reads and discards what the
//! client still sends. Closing at once could send a TCP reset, which destroys a response that the client has not read
//! (RFC 9112 9.6).

use std::time::{Duration, Instant};

use super::send_queue::SendQueue;
use crate::proxy::buffered_stream::{BODY_BUFFER_SIZE, BufferedStream};
use crate::upstream::timer::timeout_at;

/// Maximum number of bytes read and discarded.
const MAX_LINGER_BYTES: usize = 64 * 1024 * 1024;
/// Maximum duration of a lingering close.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(10);
/// A lingering close ends earlier when the client sends nothing for this long.
const LINGER_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// Closes a connection after a complete response: sends FIN, then reads and discards input for at most `timeout`.
///
/// The times begin when the client has received everything in `send_queue`. Without a queue they begin at once: an
/// HTTP/1 client that has sent its request sends nothing more while it reads, so the kernel delivers the rest after the
/// close. An HTTP/2 client sends WINDOW_UPDATE frames.
pub(super) async fn lingering_close(
    mut io: BufferedStream,
    timeout: Duration,
    mut send_queue: Option<SendQueue>,
) {
    // With TLS this writes an alert, which blocks when the client does not read.
    if !matches!(timeout_at(Instant::now() + LINGER_IDLE_TIMEOUT, io.shutdown_write()).await, Some(Ok(()))) {
        return;
    }
    let mut deadline = Instant::now() + timeout;
    let (mut read, mut is_silent) = (0, false);
    while read < MAX_LINGER_BYTES {
        let now = Instant::now();
        if send_queue.as_mut().is_some_and(|queue| queue.is_sending(now)) {
            deadline = now + timeout;
        } else if is_silent || now >= deadline {
            return;
        }
        io.input.clear();
        match timeout_at(deadline.min(now + LINGER_IDLE_TIMEOUT), io.fill(BODY_BUFFER_SIZE)).await {
            Some(Ok(count @ 1..)) => (read, is_silent) = (read + count, false),
            Some(Ok(0) | Err(_)) => return,
            None => is_silent = true,
        }
    }
}

#[cfg(test)]
#[path = "close_tests.rs"]
mod tests;
