//! The idle time of a client connection, and its eviction in favour of another connection.
//!
//! A connection is idle between requests (HTTP/2: without streams), after the first one. It writes its own state with
//! two atomic operations per request, without a lock. [`super::tracker`] reads the states when a connection needs a
//! slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// The connection serves a request, or waits for its first one: it is not evicted.
const BUSY: u64 = 0;
/// The connection is evicted: another one has its slot.
const EVICTED: u64 = u64::MAX;

/// Whether a connection is idle, and since when.
#[derive(Debug, Default)]
pub(super) struct IdleState {
    /// [`BUSY`], [`EVICTED`], or since when the connection is idle.
    state: AtomicU64,
    /// Wakes the idle connection when it is evicted.
    evicted: AtomicWaker,
}

impl IdleState {
    /// Records that the connection is idle since `now`, a time above 0. Only the connection itself calls this, while it
    /// is busy.
    pub(super) fn set_idle(&self, now: u64) {
        self.state.store(now.clamp(BUSY + 1, EVICTED - 1), Ordering::Release);
    }

    /// Records that a request has arrived. Returns false if the connection was evicted.
    #[must_use]
    pub(super) fn set_busy(&self) -> bool {
        let current = self.state.load(Ordering::Acquire);
        // Besides the connection, only an eviction changes the state.
        current != EVICTED
            && self.state.compare_exchange(current, BUSY, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Since when the connection is idle; `None` if it is not.
    pub(super) fn idle_since(&self) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        (state != BUSY && state != EVICTED).then_some(state)
    }

    /// Evicts the connection if it has been idle since `idle_since` without a break. Returns whether it did.
    #[must_use]
    pub(super) fn evict(&self, idle_since: u64) -> bool {
        let evicted =
            self.state.compare_exchange(idle_since, EVICTED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if evicted {
            self.evicted.wake();
        }
        evicted
    }

    /// Becomes ready when the connection is evicted.
    pub(super) fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.evicted.register(cx.waker());
        if self.state.load(Ordering::Acquire) == EVICTED { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_a_connection_that_stayed_idle_is_evicted() {
        let idle = IdleState::default();
        let evicted = || poll_fn(|cx| idle.poll_evicted(cx)).now_or_never();
        assert_eq!(idle.idle_since(), None, "before its first request");
        idle.set_idle(7);
        assert!(idle.set_busy());
        assert_eq!((idle.idle_since(), idle.evict(7)), (None, false));
        idle.set_idle(9);
        assert_eq!((idle.idle_since(), idle.evict(7), evicted()), (Some(9), false, None));
        assert!(idle.evict(9));
        assert_eq!((idle.idle_since(), idle.evict(9), evicted()), (None, false, Some(())));
        assert!(!idle.set_busy(), "evicted");
    }
}
