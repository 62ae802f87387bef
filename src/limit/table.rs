//! A table of states by one of the algorithms: what a rule asks that is decided in this process.
//!
//! Here the choice of the operator becomes code; what the algorithms say is in [`super::gcra`] and [`super::window`], how
//! states are kept in [`super::memory`].

use super::decision::Decision;
use super::gcra::FullAt;
use super::key::Key;
use super::memory::{Figures, Memory};
use super::moment::Moment;
use super::quota::Quota;
use super::state::State;
use super::window::{Fixed, Sliding};

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A bucket that fills evenly.
    Gcra,
    /// Windows aligned to the origin of moments, each by itself.
    FixedWindow,
    /// The same, the previous window counted by the part of it that is less than a period ago.
    SlidingWindow,
}

impl Algorithm {
    /// How much is admitted at once from idle: the most that one request can cost.
    pub const fn capacity(self, quota: &Quota) -> u32 {
        match self {
            Algorithm::Gcra => quota.burst(),
            Algorithm::FixedWindow | Algorithm::SlidingWindow => quota.allowed(),
        }
    }
}

/// The states of every key, in memory.
#[derive(Debug)]
pub enum Table {
    /// Each when its bucket is full.
    Gcra(Memory<FullAt>),
    /// Each what it has used of its window.
    FixedWindow(Memory<Fixed>),
    /// And of the one before.
    SlidingWindow(Memory<Sliding>),
}

/// The same question to whichever memory it is.
macro_rules! each {
    ($table:expr, $memory:ident => $then:expr) => {
        match $table {
            Table::Gcra($memory) => $then,
            Table::FixedWindow($memory) => $then,
            Table::SlidingWindow($memory) => $then,
        }
    };
}

impl Table {
    /// A table for at most this many keys, at least [`super::memory::FEWEST_KEYS`].
    pub fn new(algorithm: Algorithm, max_keys: usize) -> Self {
        match algorithm {
            Algorithm::Gcra => Table::Gcra(Memory::new(max_keys)),
            Algorithm::FixedWindow => Table::FixedWindow(Memory::new(max_keys)),
            Algorithm::SlidingWindow => Table::SlidingWindow(Memory::new(max_keys)),
        }
    }

    /// Takes `cost` from the key, or refuses and takes nothing.
    pub fn take(&self, key: Key, quota: &Quota, now: Moment, cost: u32) -> Decision {
        each!(self, memory => memory.take(key, quota, now, cost))
    }

    /// What [`Table::take`] would answer; takes nothing.
    pub fn look(&self, key: Key, quota: &Quota, now: Moment, cost: u32) -> Decision {
        each!(self, memory => memory.look(key, quota, now, cost))
    }

    /// Undoes a [`Table::take`] of this cost that was allowed at this moment.
    pub fn give_back(&self, key: Key, quota: &Quota, taken: Moment, cost: u32) {
        each!(self, memory => memory.give_back(key, quota, taken, cost));
    }

    /// The key owes nothing any more.
    pub fn reset(&self, key: Key) {
        each!(self, memory => memory.reset(key));
    }

    /// Counts what is there. For a scrape, not for a request.
    pub fn figures(&self, quota: &Quota, now: Moment) -> Figures {
        each!(self, memory => memory.figures(quota, now))
    }
}

/// What a key would be told that nobody has heard of, and so would one that had just taken `taken`, if that is possible.
/// For those who explain a rule without a table.
pub fn fresh(algorithm: Algorithm, quota: &Quota, now: Moment, taken: u32, cost: u32) -> Decision {
    fn ask<S: State>(quota: &Quota, now: Moment, taken: u32, cost: u32) -> Decision {
        S::default().decide(quota, now, taken).1.decide(quota, now, cost).0
    }
    match algorithm {
        Algorithm::Gcra => ask::<FullAt>(quota, now, taken, cost),
        Algorithm::FixedWindow => ask::<Fixed>(quota, now, taken, cost),
        Algorithm::SlidingWindow => ask::<Sliding>(quota, now, taken, cost),
    }
}
