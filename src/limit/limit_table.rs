//! Dispatches on the configured algorithm: one [`StateTable`] with the states of [`super::gcra`] or [`super::window`].

use super::gcra::GcraState;
use super::key::Key;
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::state::LimitState;
use super::state_table::{StateTable, TableStats};
use super::timestamp::Timestamp;
use super::window::{FixedWindow, SlidingWindow};
use schemars::JsonSchema;
use serde::Deserialize;

/// The algorithm of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket of `burst` requests that refills at a constant rate.
    Gcra,
    /// A counter per window that starts at zero in each window. Windows are aligned to the epoch: one-hour windows
    /// start on the hour (UTC). Around the boundary, twice the quota can pass.
    FixedWindow,
    /// As `fixed_window`, and a share of the previous window also counts. The share is the part of it that lies within
    /// the last period.
    SlidingWindow,
}

impl Algorithm {
    /// The maximum admitted at once from idle, and so the maximum cost of a request.
    pub const fn capacity(self, quota: &Quota) -> u32 {
        match self {
            Algorithm::Gcra => quota.burst(),
            Algorithm::FixedWindow | Algorithm::SlidingWindow => quota.allowed(),
        }
    }
}

/// The states of all keys of a rule, in memory.
#[derive(Debug)]
pub enum LimitTable {
    /// States of the token bucket.
    Gcra(StateTable<GcraState>),
    /// Counts of the current window.
    FixedWindow(StateTable<FixedWindow>),
    /// Counts of the current and the previous window.
    SlidingWindow(StateTable<SlidingWindow>),
}

/// Calls a method on the table of any algorithm.
macro_rules! for_each_table {
    ($table:expr, $inner:ident => $then:expr) => {
        match $table {
            LimitTable::Gcra($inner) => $then,
            LimitTable::FixedWindow($inner) => $then,
            LimitTable::SlidingWindow($inner) => $then,
        }
    };
}

impl LimitTable {
    /// Creates a table for at most `max_keys` keys, but at least [`super::state_table::MIN_KEYS`].
    pub fn new(algorithm: Algorithm, max_keys: usize) -> Self {
        match algorithm {
            Algorithm::Gcra => LimitTable::Gcra(StateTable::new(max_keys)),
            Algorithm::FixedWindow => LimitTable::FixedWindow(StateTable::new(max_keys)),
            Algorithm::SlidingWindow => LimitTable::SlidingWindow(StateTable::new(max_keys)),
        }
    }

    /// Debits `cost` from the key, or denies and debits nothing.
    pub fn debit(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
        for_each_table!(self, inner => inner.debit(key, quota, now, cost))
    }

    /// The decision that [`LimitTable::debit`] would return; debits nothing.
    pub fn peek(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
        for_each_table!(self, inner => inner.peek(key, quota, now, cost))
    }

    /// Undoes a [`LimitTable::debit`] of `cost` that was allowed at `debited_at`.
    pub fn refund(&self, key: Key, quota: &Quota, debited_at: Timestamp, cost: u32) {
        for_each_table!(self, inner => inner.refund(key, quota, debited_at, cost));
    }

    /// Resets the count of the key.
    pub fn reset(&self, key: Key) {
        for_each_table!(self, inner => inner.reset(key));
    }

    /// Statistics of the table. Slow: call it for a scrape, not on the request path.
    pub fn stats(&self, quota: &Quota, now: Timestamp) -> TableStats {
        for_each_table!(self, inner => inner.stats(quota, now))
    }
}

/// The decision about a new key that was just debited `already_taken` (if that is admitted). For `explain`, which has
/// no table.
pub(crate) fn preview(
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
