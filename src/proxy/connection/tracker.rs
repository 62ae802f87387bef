//! The connections that are open, over all listeners that share them: how many are served, how many more are let in to be
//! told that they are not, and the event that the last has ended.
//!
//! It only counts. Whoever holds an [`ConnectionGuard`] or a [`ConnectionPermit`] is counted, and nobody else: a count cannot leak.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The open connections.
#[derive(Debug)]
pub struct ConnectionTracker {
    open: AtomicUsize,
    permits: AtomicUsize,
    max_overflow: usize,
    closed: Notify,
}

impl ConnectionTracker {
    /// `max_overflow`: so many connections beyond the limit are let in at once to be answered; further ones wait to be accepted.
    pub fn new(max_overflow: usize) -> Arc<Self> {
        Arc::new(ConnectionTracker {
            open: AtomicUsize::new(0),
            permits: AtomicUsize::new(0),
            max_overflow: max_overflow.max(1),
            closed: Notify::new(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Returns when there are none.
    pub async fn drained(&self) {
        self.wait_until(|| self.count() == 0).await;
    }

    /// Returns when one more may be let in, where `max_permits` may be served. There may be more than that, from before the limit
    /// was lowered: the crowd is who is not served.
    pub async fn wait_for_capacity(&self, max_permits: usize) {
        self.wait_until(|| {
            let permits = self.permits.load(Ordering::Acquire);
            self.count() < max_permits.max(permits).saturating_add(self.max_overflow)
        })
        .await;
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            let closed = self.closed.notified();
            if condition() {
                return;
            }
            closed.await;
        }
    }

    /// A connection was accepted.
    pub fn register(self: &Arc<Self>) -> ConnectionGuard {
        self.open.fetch_add(1, Ordering::AcqRel);
        ConnectionGuard(Arc::clone(self))
    }

    /// A place among those that are served; `None` when there are `max_permits` already.
    pub(in crate::proxy) fn try_acquire_permit(
        self: &Arc<Self>,
        max_permits: usize,
    ) -> Option<ConnectionPermit> {
        let increment = |current| (current < max_permits).then_some(current + 1);
        let updated = self.permits.fetch_update(Ordering::AcqRel, Ordering::Acquire, increment);
        updated.is_ok().then(|| ConnectionPermit(Arc::clone(self)))
    }
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionGuard(Arc<ConnectionTracker>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}

/// One connection that is served.
#[derive(Debug)]
pub(in crate::proxy) struct ConnectionPermit(Arc<ConnectionTracker>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.permits.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn rejected_connections_take_no_permit_and_closed_ones_return_theirs() {
        let tracker = ConnectionTracker::new(1);
        let (first, second) = (tracker.register(), tracker.register());
        let permit = tracker.try_acquire_permit(1);
        assert!(permit.is_some() && tracker.try_acquire_permit(1).is_none());
        assert!(tracker.wait_for_capacity(1).now_or_never().is_none(), "one is served, one is being refused");
        drop(second);
        assert!(tracker.wait_for_capacity(1).now_or_never().is_some());
        drop((first, permit));
        let (_one, _two) = (tracker.register(), tracker.register());
        let _served = (tracker.try_acquire_permit(2), tracker.try_acquire_permit(2));
        assert!(
            tracker.wait_for_capacity(1).now_or_never().is_some(),
            "a lowered limit lets the crowd in to be told of it"
        );
        drop((_one, _two, _served));
        assert!(tracker.try_acquire_permit(1).is_some());
        assert!(tracker.drained().now_or_never().is_some());
    }
}
