//! A table of states by one of the algorithms: what a rule asks that is decided in this process.
//!
//! Here the choice of the operator becomes code; what the algorithms say is in [`super::gcra`] and [`super::window`], how
//! states are kept in [`super::state_table`].

use super::gcra::GcraState;
use super::key::Key;
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::state::LimitState;
use super::state_table::{StateTable, TableStats};
use super::timestamp::Timestamp;
use super::window::{FixedWindow, SlidingWindow};

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
pub enum LimitTable {
    /// Each when its bucket is full.
    Gcra(StateTable<GcraState>),
    /// Each what it has used of its window.
    FixedWindow(StateTable<FixedWindow>),
    /// And of the one before.
    SlidingWindow(StateTable<SlidingWindow>),
}

/// The same question to whichever memory it is.
macro_rules! for_each_table {
    ($table:expr, $memory:ident => $then:expr) => {
        match $table {
            LimitTable::Gcra($memory) => $then,
            LimitTable::FixedWindow($memory) => $then,
            LimitTable::SlidingWindow($memory) => $then,
        }
    };
}

impl LimitTable {
    /// A table for at most this many keys, at least [`super::state_table::MIN_KEYS`].
    pub fn new(algorithm: Algorithm, max_keys: usize) -> Self {
        match algorithm {
            Algorithm::Gcra => LimitTable::Gcra(StateTable::new(max_keys)),
            Algorithm::FixedWindow => LimitTable::FixedWindow(StateTable::new(max_keys)),
            Algorithm::SlidingWindow => LimitTable::SlidingWindow(StateTable::new(max_keys)),
        }
    }

    /// Takes `cost` from the key, or refuses and takes nothing.
    pub fn take(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
        for_each_table!(self, memory => memory.take(key, quota, now, cost))
    }

    /// What [`LimitTable::take`] would answer; takes nothing.
    pub fn peek(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
        for_each_table!(self, memory => memory.peek(key, quota, now, cost))
    }

    /// Undoes a [`LimitTable::take`] of this cost that was allowed at this moment.
    pub fn refund(&self, key: Key, quota: &Quota, taken: Timestamp, cost: u32) {
        for_each_table!(self, memory => memory.refund(key, quota, taken, cost));
    }

    /// The key owes nothing any more.
    pub fn reset(&self, key: Key) {
        for_each_table!(self, memory => memory.reset(key));
    }

    /// Counts what is there. For a scrape, not for a request.
    pub fn stats(&self, quota: &Quota, now: Timestamp) -> TableStats {
        for_each_table!(self, memory => memory.stats(quota, now))
    }
}

/// What a key would be told that nobody has heard of, and so would one that had just taken `already_taken`, if that is possible.
/// For those who explain a rule without a table.
pub fn preview(
    algorithm: Algorithm,
    quota: &Quota,
    now: Timestamp,
    already_taken: u32,
    cost: u32,
) -> QuotaDecision {
    fn decide<S: LimitState>(quota: &Quota, now: Timestamp, already_taken: u32, cost: u32) -> QuotaDecision {
        S::default().decide(quota, now, already_taken).1.decide(quota, now, cost).0
    }
    match algorithm {
        Algorithm::Gcra => decide::<GcraState>(quota, now, already_taken, cost),
        Algorithm::FixedWindow => decide::<FixedWindow>(quota, now, already_taken, cost),
        Algorithm::SlidingWindow => decide::<SlidingWindow>(quota, now, already_taken, cost),
    }
}
