//! The connections that are open, over all listeners that share them: how many are served, how many more are let in to be
//! told that they are not, and the event that the last has ended.
//!
//! It only counts. Whoever holds an [`Entered`] or a [`Served`] is counted, and nobody else: a count cannot leak.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The open connections.
#[derive(Debug)]
pub struct Open {
    now: AtomicUsize,
    served: AtomicUsize,
    crowd: usize,
    left: Notify,
}

impl Open {
    /// `crowd`: so many connections beyond the limit are let in at once to be answered; further ones wait to be accepted.
    pub fn new(crowd: usize) -> Arc<Self> {
        Arc::new(Open {
            now: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            crowd: crowd.max(1),
            left: Notify::new(),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.now.load(Ordering::Acquire)
    }

    /// Returns when there are none.
    pub async fn none_left(&self) {
        self.until(|| self.count() == 0).await;
    }

    /// Returns when one more may be let in, where `most` may be served. There may be more than that, from before the limit
    /// was lowered: the crowd is who is not served.
    pub async fn room(&self, most: usize) {
        self.until(|| {
            let served = self.served.load(Ordering::Acquire);
            self.count() < most.max(served).saturating_add(self.crowd)
        })
        .await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let left = self.left.notified();
            if holds() {
                return;
            }
            left.await;
        }
    }

    /// A connection was accepted.
    pub fn enter(self: &Arc<Self>) -> Entered {
        self.now.fetch_add(1, Ordering::AcqRel);
        Entered(Arc::clone(self))
    }

    /// A place among those that are served; `None` when there are `most` already.
    pub(super) fn place(self: &Arc<Self>, most: usize) -> Option<Served> {
        let one_more = |served| (served < most).then_some(served + 1);
        let placed = self.served.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        placed.is_ok().then(|| Served(Arc::clone(self)))
    }
}

/// One open connection.
#[derive(Debug)]
pub struct Entered(Arc<Open>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::AcqRel);
        self.0.left.notify_waiters();
    }
}

/// One connection that is served.
#[derive(Debug)]
pub(super) struct Served(Arc<Open>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.served.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_is_refused_takes_no_place_and_who_leaves_gives_one_back() {
        let open = Open::new(1);
        let (first, second) = (open.enter(), open.enter());
        let served = open.place(1);
        assert!(served.is_some() && open.place(1).is_none());
        assert!(open.room(1).now_or_never().is_none(), "one is served, one is being refused");
        drop(second);
        assert!(open.room(1).now_or_never().is_some());
        drop((first, served));
        let (_one, _two) = (open.enter(), open.enter());
        let _served = (open.place(2), open.place(2));
        assert!(open.room(1).now_or_never().is_some(), "a lowered limit lets the crowd in to be told of it");
        drop((_one, _two, _served));
        assert!(open.place(1).is_some());
        assert!(open.none_left().now_or_never().is_some());
    }
}
