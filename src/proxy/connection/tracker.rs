//! Counts open connections across listeners: those within the limit, and those over it that only get an error response.
//!
//! The counts follow the lifetimes of [`ConnectionGuard`] and [`ConnectionPermit`], so they cannot leak.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts open connections and enforces the connection limit.
#[derive(Debug)]
pub(crate) struct ConnectionTracker {
    open: AtomicUsize,
    permits: AtomicUsize,
    max_overflow: usize,
    closed: Notify,
}

impl ConnectionTracker {
    /// Up to `max_overflow` connections over the limit are accepted at once and get an error response. Further
    /// connections wait in the kernel's accept queue.
    pub(crate) fn new(max_overflow: usize) -> Arc<Self> {
        Arc::new(ConnectionTracker {
            open: AtomicUsize::new(0),
            permits: AtomicUsize::new(0),
            max_overflow: max_overflow.max(1),
            closed: Notify::new(),
        })
    }

    /// The number of open connections, including those over the limit.
    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until no connection is open.
    pub(crate) async fn drained(&self) {
        self.wait_until(|| self.count() == 0).await;
    }

    /// Waits until another connection may be accepted under a limit of `max_permits`. After the limit was lowered, more
    /// permits than that may be in use; they do not count as overflow.
    pub(crate) async fn wait_for_capacity(&self, max_permits: usize) {
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

    /// Counts a newly accepted connection until the guard is dropped.
    pub(crate) fn register(self: &Arc<Self>) -> ConnectionGuard {
        self.open.fetch_add(1, Ordering::AcqRel);
        ConnectionGuard(Arc::clone(self))
    }

    /// Reserves a place within the connection limit; `None` when `max_permits` are in use.
    pub(in crate::proxy) fn try_acquire_permit(
        self: &Arc<Self>,
        max_permits: usize,
    ) -> Option<ConnectionPermit> {
        let increment = |current| (current < max_permits).then_some(current + 1);
        let updated = self.permits.fetch_update(Ordering::AcqRel, Ordering::Acquire, increment);
        updated.is_ok().then(|| ConnectionPermit(Arc::clone(self)))
    }
}

/// Counts one open connection while it exists.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(Arc<ConnectionTracker>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}

/// A place within the connection limit, released on drop.
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
        assert!(
            tracker.wait_for_capacity(1).now_or_never().is_none(),
            "one connection has a permit, one is over the limit"
        );
        drop(second);
        assert!(tracker.wait_for_capacity(1).now_or_never().is_some());
        drop((first, permit));
        let open = (tracker.register(), tracker.register());
        let permits = (tracker.try_acquire_permit(2), tracker.try_acquire_permit(2));
        assert!(
            tracker.wait_for_capacity(1).now_or_never().is_some(),
            "after the limit was lowered, overflow is still accepted"
        );
        drop((open, permits));
        assert!(tracker.try_acquire_permit(1).is_some());
        assert!(tracker.drained().now_or_never().is_some());
    }
}
