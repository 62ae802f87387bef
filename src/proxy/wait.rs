//! How long a request waits for others, told apart from the gateway's own time (`overhead_seconds`).
//!
//! A wait is measured by polls: it begins where a poll finds nothing to do and ends where the next one begins. A future that
//! is ready at once costs no reading of the clock; one that had to wait costs one for each time it was woken.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::upstream::timer::timeout_at;

/// One wait, from an instant that is known already.
#[derive(Debug)]
pub(super) struct Wait {
    from: Instant,
    pending: bool,
    total: Duration,
}

impl Wait {
    /// Nothing has been polled yet; `now` was read just before.
    pub(super) const fn begin(now: Instant) -> Self {
        Wait { from: now, pending: false, total: Duration::ZERO }
    }

    /// A poll begins: the wait before it is over.
    pub(super) fn polled(&mut self) {
        if self.pending {
            let now = Instant::now();
            self.total += now.saturating_duration_since(self.from);
            self.from = now;
            self.pending = false;
        }
    }

    /// A poll ends with this.
    pub(super) fn result<T>(&mut self, poll: Poll<T>) -> Poll<T> {
        self.pending = poll.is_pending();
        poll
    }

    /// When it was last woken; the beginning, where it did not have to wait.
    pub(super) const fn woken_at(&self) -> Instant {
        self.from
    }

    /// All of it.
    pub(super) const fn total(&self) -> Duration {
        self.total
    }
}

/// What a future brings before the end of `limit`, from `now` on, and how long it had to be waited for.
pub(super) async fn waited<T>(
    now: Instant,
    limit: Duration,
    future: impl Future<Output = T>,
) -> (Option<T>, Duration) {
    let mut wait = Wait::begin(now);
    let mut future = pin!(future);
    let polling = poll_fn(|cx| {
        wait.polled();
        let poll = future.as_mut().poll(cx);
        wait.result(poll)
    });
    let outcome = timeout_at(now + limit, polling).await;
    // The timer may end it without another poll.
    wait.polled();
    (outcome, wait.total())
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn wait_counts_from_a_pending_poll_to_the_next_one_and_nothing_else() {
        let hour = Duration::from_secs(3600);
        let ago = |hours| Instant::now().checked_sub(hour * hours).unwrap();
        let mut ready = Wait::begin(ago(1));
        ready.polled();
        assert_eq!(ready.result(Poll::Ready(7)), Poll::Ready(7));
        assert_eq!(ready.total(), Duration::ZERO);

        let begun = ago(2);
        let mut pending = Wait::begin(begun);
        pending.polled();
        assert_eq!((pending.result(Poll::<()>::Pending), pending.woken_at()), (Poll::Pending, begun));
        pending.polled();
        assert!(pending.total() >= hour * 2 && pending.woken_at() >= begun + hour * 2);
        let counted = pending.total();
        assert!(pending.result(Poll::Ready(())).is_ready());
        pending.polled();
        assert_eq!(pending.total(), counted);
    }

    #[test]
    fn future_that_is_ready_at_once_has_not_been_waited_for() {
        let hour = Duration::from_secs(3600);
        let now = Instant::now();
        let mut context = Context::from_waker(Waker::noop());
        let outcome = pin!(waited(now, hour, async { 7 })).poll(&mut context);
        assert_eq!(outcome, Poll::Ready((Some(7), Duration::ZERO)));
    }
}
