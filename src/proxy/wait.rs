//! Measures how long a request waits for its peers, to separate it from the time that the gateway itself uses
//! (`overhead_seconds`).
//!
//! A wait lasts from a pending poll to the start of the next poll. The clock is read once per wake-up, and not at all
//! for a future that is ready at its first poll.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::upstream::timer::timeout_at;

/// Measures one future. The caller passes the start time, which saves reading the clock.
#[derive(Debug)]
pub(super) struct Wait {
    /// The start time, or when the last wait ended. The next wait is measured from here.
    since: Instant,
    pending: bool,
    total: Duration,
}

impl Wait {
    /// Starts before the first poll. `now` is the current time.
    pub(super) const fn begin(now: Instant) -> Self {
        Wait { since: now, pending: false, total: Duration::ZERO }
    }

    /// To be called at the start of each poll: ends the wait that the previous poll began.
    pub(super) fn poll_started(&mut self) {
        if self.pending {
            let now = Instant::now();
            self.total += now.saturating_duration_since(self.since);
            self.since = now;
            self.pending = false;
        }
    }

    /// To be called with the result of each poll, which it returns: a pending poll begins a wait.
    pub(super) fn poll_ended<T>(&mut self, poll: Poll<T>) -> Poll<T> {
        self.pending = poll.is_pending();
        poll
    }

    /// When the last wait ended; the start time if there was none.
    pub(super) const fn woken_at(&self) -> Instant {
        self.since
    }

    /// The total time spent waiting.
    pub(super) const fn total(&self) -> Duration {
        self.total
    }
}

/// Runs a future until it is ready or `limit` has passed since `now`. Returns its output, `None` after the limit, and
/// the time spent waiting.
pub(super) async fn measured_timeout<T>(
    now: Instant,
    limit: Duration,
    future: impl Future<Output = T>,
) -> (Option<T>, Duration) {
    let mut wait = Wait::begin(now);
    let mut future = pin!(future);
    let measured = poll_fn(|cx| {
        wait.poll_started();
        let poll = future.as_mut().poll(cx);
        wait.poll_ended(poll)
    });
    let outcome = timeout_at(now + limit, measured).await;
    // The timer may end the future without another poll.
    wait.poll_started();
    (outcome, wait.total())
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn wait_lasts_from_a_pending_poll_to_the_next_poll() {
        let hour = Duration::from_secs(3600);
        let ago = |hours| Instant::now().checked_sub(hour * hours).unwrap();
        let mut ready = Wait::begin(ago(1));
        ready.poll_started();
        assert_eq!(ready.poll_ended(Poll::Ready(7)), Poll::Ready(7));
        assert_eq!(ready.total(), Duration::ZERO);

        let start = ago(2);
        let mut pending = Wait::begin(start);
        pending.poll_started();
        assert_eq!((pending.poll_ended(Poll::<()>::Pending), pending.woken_at()), (Poll::Pending, start));
        pending.poll_started();
        assert!(pending.total() >= hour * 2 && pending.woken_at() >= start + hour * 2);
        let counted = pending.total();
        assert!(pending.poll_ended(Poll::Ready(())).is_ready());
        pending.poll_started();
        assert_eq!(pending.total(), counted);
    }

    #[test]
    fn future_ready_at_its_first_poll_has_no_wait() {
        let hour = Duration::from_secs(3600);
        let now = Instant::now();
        let mut context = Context::from_waker(Waker::noop());
        let outcome = pin!(measured_timeout(now, hour, async { 7 })).poll(&mut context);
        assert_eq!(outcome, Poll::Ready((Some(7), Duration::ZERO)));
    }
}
