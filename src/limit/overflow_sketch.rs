//! What evicted keys still owed, in little space: approximate, and never too little.
//!
//! A key that had to leave the table with much of its bucket used would start afresh when it returns. So its debt is
//! noted in two rows of cells, by two hashes; each cell keeps the most that was noted in it, and the lesser of a key's two
//! cells is what the key owes at most. Another key can share both cells; how far that may count against it is the table's
//! to decide. There is nothing to clean up: what lies long enough in the past owes nothing.

use super::state::LimitState;

/// The notes of one part of the table. Empty, and without memory, until the first debt is noted.
#[derive(Debug)]
pub struct OverflowSketch<S> {
    cells: Vec<S>,
    /// Cells of one row; a power of two.
    width: usize,
}

impl<S: LimitState> OverflowSketch<S> {
    /// Room for about this many debtors.
    pub fn new(expected_keys: usize) -> Self {
        OverflowSketch { cells: Vec::new(), width: expected_keys.next_power_of_two().max(16) }
    }

    /// Notes what the key with this hash owes.
    pub fn record(&mut self, hash: u64, state: S) {
        if self.cells.is_empty() {
            self.cells = vec![S::default(); 2 * self.width];
        }
        for cell in self.cell_indices(hash) {
            if let Some(cell_value) = self.cells.get_mut(cell) {
                *cell_value = state.upper_bound(*cell_value);
            }
        }
    }

    /// What the key with this hash owes at most.
    pub fn estimate(&self, hash: u64) -> S {
        if self.cells.is_empty() {
            return S::default();
        }
        let value_of = |cell| self.cells.get(cell).copied().unwrap_or_default();
        let [one, two] = self.cell_indices(hash);
        value_of(one).lower_bound(value_of(two))
    }

    /// One cell in each row, from the two halves of the hash.
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
