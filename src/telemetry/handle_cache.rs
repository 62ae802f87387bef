//! Caches of metric handles: created on first use, then found without a lock and without hashing labels.
//!
//! A lookup by labels hashes every label value and takes a read lock, which is too slow for the request path. These
//! tables cost a few kilobytes per route; a lookup is an index and one load.

use std::sync::OnceLock;

/// Handles for a small dense index.
#[derive(Debug)]
pub(crate) struct DenseHandles<T>(Box<[OnceLock<T>]>);

impl<T> DenseHandles<T> {
    pub(crate) fn new(len: usize) -> Self {
        DenseHandles((0..len).map(|_| OnceLock::new()).collect())
    }

    /// Calls `then` with the handle at `index`. Calls `make` the first time, and every time for an index past the end.
    pub(crate) fn with<R>(&self, index: usize, make: impl FnOnce() -> T, then: impl FnOnce(&T) -> R) -> R {
        match self.0.get(index) {
            Some(cell) => then(cell.get_or_init(make)),
            None => then(&make()),
        }
    }
}

/// Handles for a large key space of which few keys are used: a hash table of fixed size.
#[derive(Debug)]
pub(crate) struct SparseHandles<T>(Box<[OnceLock<(u32, T)>]>);

impl<T> SparseHandles<T> {
    pub(crate) fn new() -> Self {
        SparseHandles((0..SLOTS).map(|_| OnceLock::new()).collect())
    }

    /// Calls `then` with the handle of `key`. Calls `make` the first time, and every time if other keys occupy all
    /// slots where the key could be.
    pub(crate) fn with<R>(&self, key: u32, make: impl Fn() -> T, then: impl FnOnce(&T) -> R) -> R {
        // Fibonacci hashing: the high bits of the product spread neighbouring keys.
        let start = (key.wrapping_mul(0x9E37_79B1) >> (32 - SLOTS.ilog2())) as usize;
        for step in 0..MAX_PROBES {
            let Some(slot) = self.0.get((start + step) % SLOTS) else { break };
            let (cached_key, handle) = slot.get_or_init(|| (key, make()));
            if *cached_key == key {
                return then(handle);
            }
        }
        then(&make())
    }
}

/// One route rarely has more than 64 combinations of cause, code and upstream status. The table takes about 2 KiB.
const SLOTS: usize = 64;
/// At most three cache lines.
const MAX_PROBES: usize = 8;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn sparse_handle_is_created_once_per_key() {
        let table = SparseHandles::new();
        let made = Cell::new(0);
        let make = || made.replace(made.get() + 1);
        for _ in 0..3 {
            for key in [1, 2, 0x0102_0304] {
                table.with(key, make, |_| ());
            }
        }
        assert_eq!(made.get(), 3);
    }

    #[test]
    fn full_sparse_table_serves_every_key() {
        let table = SparseHandles::new();
        for _ in 0..2 {
            for key in 0..10_000u32 {
                assert_eq!(table.with(key, || key, |kept| *kept), key);
            }
        }
    }

    #[test]
    fn dense_handle_is_created_once_and_overflow_is_not_cached() {
        let table = DenseHandles::new(1);
        assert_eq!(table.with(0, || 7, |kept| *kept), 7);
        assert_eq!(table.with(0, || 8, |kept| *kept), 7);
        assert_eq!(table.with(5, || 9, |kept| *kept), 9);
    }
}
