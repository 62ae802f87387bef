//! A sketch of the states of evicted keys in little memory: an upper bound of what a key has used (compare count-min
//! sketches).
//!
//! Without it an evicted key would have its full quota again on its next request. A state is recorded in one cell of
//! each of two rows, chosen by two hashes; a cell keeps the maximum. The lower of a key's two cells bounds its usage.
//! Another key may share both cells; the table limits the effect. Old states expire by themselves, because time
//! replenishes them.

use super::state::LimitState;

/// The sketch of one shard. Allocates with the first record.
#[derive(Debug)]
pub(crate) struct OverflowSketch<S> {
    cells: Vec<S>,
    /// Cells per row; a power of two.
    width: usize,
}

impl<S: LimitState> OverflowSketch<S> {
    /// Creates a sketch for about this many evicted keys.
    pub(crate) fn new(expected_keys: usize) -> Self {
        OverflowSketch { cells: Vec::new(), width: expected_keys.next_power_of_two().max(16) }
    }

    /// Records the state of the key with this hash.
    pub(crate) fn record(&mut self, hash: u64, state: S) {
        if self.cells.is_empty() {
            self.cells = vec![S::default(); 2 * self.width];
        }
        for index in self.cell_indices(hash) {
            if let Some(cell) = self.cells.get_mut(index) {
                *cell = state.upper_bound(*cell);
            }
        }
    }

    /// An upper bound of the state of the key with this hash.
    pub(crate) fn estimate(&self, hash: u64) -> S {
        if self.cells.is_empty() {
            return S::default();
        }
        let value_of = |cell| self.cells.get(cell).copied().unwrap_or_default();
        let [one, two] = self.cell_indices(hash);
        value_of(one).lower_bound(value_of(two))
    }

    /// The key's cell in each row, from the two halves of its hash.
    const fn cell_indices(&self, hash: u64) -> [usize; 2] {
        let mask = self.width - 1;
        [hash as usize & mask, self.width + ((hash >> 32) as usize & mask)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::gcra::GcraState;
    use super::*;

    #[test]
    fn estimate_is_never_too_low_and_rarely_too_high() {
        let mut sketch = OverflowSketch::new(1024);
        let hash = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (number << 17);
        for number in 0..64 {
            sketch.record(hash(number), GcraState::from_nanos(1_000 + number));
        }
        for number in 0..64 {
            assert!(sketch.estimate(hash(number)).nanos() >= 1_000 + number);
        }
        let overestimated =
            (1_000..11_000).filter(|number| sketch.estimate(hash(*number)).nanos() > 0).count();
        assert!(overestimated < 100, "{overestimated} of 10000");
    }

    #[test]
    fn empty_sketch_allocates_nothing() {
        let sketch = OverflowSketch::new(1_000_000);
        assert_eq!((sketch.cells.capacity(), sketch.estimate(7)), (0, GcraState::default()));
    }
}
