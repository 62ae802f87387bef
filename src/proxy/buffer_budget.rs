//! The memory that the buffered error bodies of all requests share, so that a burst of errors cannot use up the memory
//! of the process.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Maximum number of bytes of error bodies that are buffered at once.
const MAX_BUFFERED: usize = 32 * 1024 * 1024;

/// The bytes of error bodies that may still be buffered.
#[derive(Debug)]
pub(super) struct BufferBudget {
    available: AtomicUsize,
}

/// The bytes that one request has reserved. They are given back when it is dropped.
#[derive(Debug)]
pub(super) struct BufferShare<'a> {
    budget: &'a BufferBudget,
    bytes: usize,
}

impl Default for BufferBudget {
    fn default() -> Self {
        BufferBudget { available: AtomicUsize::new(MAX_BUFFERED) }
    }
}

impl BufferBudget {
    /// An empty share.
    pub(super) const fn share(&self) -> BufferShare<'_> {
        BufferShare { budget: self, bytes: 0 }
    }
}

impl BufferShare<'_> {
    /// Reserves this many bytes more. Returns whether they were available; if not, nothing is reserved.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        let take = |available: usize| available.checked_sub(bytes);
        let reserved = self.budget.available.try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if reserved {
            self.bytes += bytes;
        }
        reserved
    }

    /// Changes a reservation of `reserved` bytes to one of `needed`. Returns whether they were available; if not, the
    /// reservation stays as it is.
    pub(super) fn resize(&mut self, reserved: usize, needed: usize) -> bool {
        if needed > reserved {
            return self.reserve(needed - reserved);
        }
        self.give_back(reserved - needed);
        true
    }

    /// Gives back reserved bytes that are not needed.
    fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.available.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for BufferShare<'_> {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_budget_and_are_given_back() {
        let budget = BufferBudget::default();
        let mut first = budget.share();
        assert!(first.reserve(MAX_BUFFERED - 10));
        let mut second = budget.share();
        assert!(!second.reserve(11));
        assert!(second.reserve(10));
        assert!(!second.reserve(1));
        first.give_back(5);
        assert!(second.reserve(5));
        assert!(!second.resize(10, 11), "nothing is left");
        assert!(first.resize(20, 15));
        assert!(second.resize(10, 15));
        assert!(!second.reserve(1));
        drop(first);
        drop(second);
        assert!(budget.share().reserve(MAX_BUFFERED));
    }
}
