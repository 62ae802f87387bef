//! Metric handles that are made when first needed and found again without a lock or a label.
//!
//! A labelled lookup in the vectors hashes every label value and takes a read lock; on the error path of a gateway in
//! trouble that is a request's path. These tables trade a few kilobytes per route for an index and one load. They do not
//! know what a key means.

use std::sync::OnceLock;

/// Handles for a small dense index.
#[derive(Debug)]
pub(crate) struct Dense<T>(Box<[OnceLock<T>]>);

impl<T> Dense<T> {
    pub(crate) fn new(len: usize) -> Self {
        Dense((0..len).map(|_| OnceLock::new()).collect())
    }

    /// Uses the handle at `index`; `make` is called the first time, and always for an index past the end.
    pub(crate) fn with<R>(&self, index: usize, make: impl FnOnce() -> T, then: impl FnOnce(&T) -> R) -> R {
        match self.0.get(index) {
            Some(cell) => then(cell.get_or_init(make)),
            None => then(&make()),
        }
    }
}

/// Handles for a large key space of which few keys are ever used: a fixed table, filled once, never moved.
#[derive(Debug)]
pub(crate) struct Sparse<T>(Box<[OnceLock<(u32, T)>]>);

impl<T> Sparse<T> {
    pub(crate) fn new() -> Self {
        Sparse((0..PLACES).map(|_| OnceLock::new()).collect())
    }

    /// Uses the handle of `key`. `make` is called when it is not kept: the first time, and always once the places where
    /// the key could be are taken by others.
    pub(crate) fn with<R>(&self, key: u32, make: impl Fn() -> T, then: impl FnOnce(&T) -> R) -> R {
        // Fibonacci hashing: the high bits of the product spread neighbouring keys.
        let start = (key.wrapping_mul(0x9E37_79B1) >> (32 - PLACES.ilog2())) as usize;
        for step in 0..PROBES {
            let Some(place) = self.0.get((start + step) % PLACES) else { break };
            let (kept, handle) = place.get_or_init(|| (key, make()));
            if *kept == key {
                return then(handle);
            }
        }
        then(&make())
    }
}

/// 64 combinations of cause, code and upstream status are far more than one route shows; 64 places are about 2 KiB.
const PLACES: usize = 64;
/// Within two cache lines or three.
const PROBES: usize = 8;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_sparse_handle_is_made_once_per_key() {
        let table = Sparse::new();
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
    fn a_full_sparse_table_still_gives_every_key_its_own_handle() {
        let table = Sparse::new();
        for _ in 0..2 {
            for key in 0..10_000u32 {
                assert_eq!(table.with(key, || key, |kept| *kept), key);
            }
        }
    }

    #[test]
    fn a_dense_handle_is_made_once_and_an_index_past_the_end_is_served_unkept() {
        let table = Dense::new(1);
        assert_eq!(table.with(0, || 7, |kept| *kept), 7);
        assert_eq!(table.with(0, || 8, |kept| *kept), 7);
        assert_eq!(table.with(5, || 9, |kept| *kept), 9);
    }
}
