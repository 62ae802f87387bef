//! What evicted keys still owed, in little space: approximate, and never too little.
//!
//! A key that had to leave the table with much of its bucket used would start afresh when it returns. So its debt is
//! noted in two rows of cells, by two hashes; each cell keeps the most that was noted in it, and the lesser of a key's two
//! cells is what the key owes at most. Another key can share both cells; how far that may count against it is the table's
//! to decide. There is nothing to clean up: what lies long enough in the past owes nothing.

use super::state::State;

/// The notes of one part of the table. Empty, and without memory, until the first debt is noted.
#[derive(Debug)]
pub struct Debts<S> {
    cells: Vec<S>,
    /// Cells of one row; a power of two.
    width: usize,
}

impl<S: State> Debts<S> {
    /// Room for about this many debtors.
    pub fn new(debtors: usize) -> Self {
        Debts { cells: Vec::new(), width: debtors.next_power_of_two().max(16) }
    }

    /// Notes what the key with this hash owes.
    pub fn note(&mut self, hash: u64, owes: S) {
        if self.cells.is_empty() {
            self.cells = vec![S::default(); 2 * self.width];
        }
        for cell in self.places(hash) {
            if let Some(noted) = self.cells.get_mut(cell) {
                *noted = owes.or_more(*noted);
            }
        }
    }

    /// What the key with this hash owes at most.
    pub fn recall(&self, hash: u64) -> S {
        if self.cells.is_empty() {
            return S::default();
        }
        let noted = |cell| self.cells.get(cell).copied().unwrap_or_default();
        let [one, two] = self.places(hash);
        noted(one).or_less(noted(two))
    }

    /// One cell in each row, from the two halves of the hash.
    const fn places(&self, hash: u64) -> [usize; 2] {
        let mask = self.width - 1;
        [hash as usize & mask, self.width + ((hash >> 32) as usize & mask)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::gcra::FullAt;
    use super::*;

    #[test]
    fn a_debt_is_never_recalled_as_less_and_few_debtors_do_not_burden_others() {
        let mut debts = Debts::new(1024);
        let hash = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (number << 17);
        for number in 0..64 {
            debts.note(hash(number), FullAt::of_nanos(1_000 + number));
        }
        for number in 0..64 {
            assert!(debts.recall(hash(number)).nanos() >= 1_000 + number);
        }
        let burdened = (1_000..11_000).filter(|number| debts.recall(hash(*number)).nanos() > 0).count();
        assert!(burdened < 100, "{burdened} of 10000");
    }

    #[test]
    fn without_a_debt_there_is_no_memory() {
        let debts = Debts::new(1_000_000);
        assert_eq!((debts.cells.capacity(), debts.recall(7)), (0, FullAt::default()));
    }
}
