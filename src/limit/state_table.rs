//! A hash table of states in bounded memory, exact under concurrency.
//!
//! Keys are distributed over shards, and within a shard over sets of a few slots. A lock per shard is held for one
//! decision. A full set evicts the key with the lowest usage. If that is not idle, its state goes to an
//! [`OverflowSketch`]. A set is allocated with its first key, so that an unused rule takes almost no memory.

use parking_lot::Mutex;

use super::key::Key;
use super::overflow_sketch::OverflowSketch;
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::state::LimitState;
use super::timestamp::Timestamp;

/// Slots per set: the tags fill two cache lines. In a half-full table, 1 of 250 sets is full.
const SLOTS_PER_SET: usize = 16;
/// Number of shards, each with a lock. Contention is rare except on equal keys.
const SHARDS: usize = 64;

/// The minimum capacity of a table.
pub(crate) const MIN_KEYS: usize = SLOTS_PER_SET;

/// A bounded table of states.
#[derive(Debug)]
pub struct StateTable<S> {
    shards: Box<[Shard<S>]>,
    sets: usize,
}

/// Statistics of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Active keys (quota not fully replenished).
    pub keys: u64,
    /// Evicted keys whose quota was fully replenished.
    pub evicted_idle: u64,
    /// Evicted keys that were still active.
    pub evicted_active: u64,
}

// Aligned to a cache line to avoid false sharing between locks.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<S>(Mutex<ShardTable<S>>);

#[derive(Debug)]
struct ShardTable<S> {
    /// Empty until the first key.
    sets: Vec<Option<Box<Set<S>>>>,
    overflow: OverflowSketch<S>,
    latest: Timestamp,
    evicted_idle: u64,
    evicted_active: u64,
}

/// Slots as two arrays: tags and their states. Tag 0 marks a free slot.
#[derive(Debug, Default)]
struct Set<S> {
    tags: [u64; SLOTS_PER_SET],
    states: [S; SLOTS_PER_SET],
}

impl<S: LimitState> StateTable<S> {
    /// Creates a table for at most `max_keys` keys, but at least [`MIN_KEYS`].
    pub fn new(max_keys: usize) -> Self {
        let total_sets = (max_keys / SLOTS_PER_SET).max(1);
        let shards = total_sets.min(SHARDS);
        let sets = total_sets / shards;
        let shard = |_| {
            Shard(Mutex::new(ShardTable {
                sets: Vec::new(),
                overflow: OverflowSketch::new(sets * SLOTS_PER_SET / 8),
                latest: Timestamp::default(),
                evicted_idle: 0,
                evicted_active: 0,
            }))
        };
        StateTable { shards: (0..shards).map(shard).collect(), sets }
    }

    /// Debits `cost` from the key, or denies and debits nothing.
    pub fn debit(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
        self.with_shard(key, |table, set, tag| {
            table.latest = table.latest.max(now);
            if let Some(state) = table.find(set, tag) {
                let (decision, after) = state.decide(quota, now, cost);
                *state = after;
                return decision;
            }
            let (decision, after) = table.initial_state(tag, quota, now, cost).decide(quota, now, cost);
            if matches!(decision, QuotaDecision::Allow(_)) {
                if table.sets.is_empty() {
                    table.sets.resize_with(self.sets, || None);
                }
                table.insert(set, (tag, after), quota, now);
            }
            decision
        })
        // Unreachable: every key has a shard.
        .unwrap_or_else(|| S::default().decide(quota, now, cost).0)
    }

    /// The decision that [`StateTable::debit`] would return; debits nothing.
    pub fn peek(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
        let state = self.with_shard(key, |table, set, tag| match table.find(set, tag) {
            Some(state) => *state,
            None => table.initial_state(tag, quota, now, cost),
        });
        state.unwrap_or_default().decide(quota, now, cost).0
    }

    /// Undoes a [`StateTable::debit`] of `cost` that was allowed at `debited_at`.
    pub fn refund(&self, key: Key, quota: &Quota, debited_at: Timestamp, cost: u32) {
        self.with_shard(key, |table, set, tag| {
            let latest = table.latest;
            // An evicted key keeps its debit.
            if let Some(state) = table.find(set, tag) {
                *state = state.refund(quota, cost, debited_at, latest);
            }
        });
    }

    /// Resets the count of the key.
    pub fn reset(&self, key: Key) {
        self.with_shard(key, |table, set, tag| {
            if let Some(state) = table.find(set, tag) {
                *state = S::default();
            }
        });
    }

    /// Statistics of the table. Walks all slots: call it for a scrape, not on the request path.
    pub fn stats(&self, quota: &Quota, now: Timestamp) -> TableStats {
        let mut stats = TableStats::default();
        for Shard(shard) in &self.shards {
            let table = shard.lock();
            stats.evicted_idle += table.evicted_idle;
            stats.evicted_active += table.evicted_active;
            let states = table.sets.iter().flatten().flat_map(|set| &set.states);
            stats.keys += states.filter(|state| !state.is_idle(quota, now)).count() as u64;
        }
        stats
    }

    /// Calls `operation` with the key's shard, locked, and the key's set and tag.
    fn with_shard<T>(
        &self,
        key: Key,
        operation: impl FnOnce(&mut ShardTable<S>, usize, u64) -> T,
    ) -> Option<T> {
        // The high bits of the product select the shard, the low bits the set, without a division.
        let product = u128::from(key.shard_hash) * self.shards.len() as u128;
        let Shard(shard) = self.shards.get((product >> 64) as usize)?;
        let set = (u128::from(product as u64) * self.sets as u128) >> 64;
        Some(operation(&mut shard.lock(), set as usize, key.tag.max(1)))
    }
}

impl<S: LimitState> ShardTable<S> {
    fn find(&mut self, set: usize, tag: u64) -> Option<&mut S> {
        let Set { tags, states } = &mut **self.sets.get_mut(set)?.as_mut()?;
        let slot = tags.iter().position(|other| *other == tag)?;
        states.get_mut(slot)
    }

    /// The state of a key that is not in the table: the recorded one, limited so that this request is admitted, because
    /// the record may come from another key.
    fn initial_state(&self, tag: u64, quota: &Quota, now: Timestamp, cost: u32) -> S {
        self.overflow.estimate(tag).with_room_for(quota, now, cost)
    }

    fn insert(&mut self, set: usize, entry: (u64, S), quota: &Quota, now: Timestamp) {
        let Some(set) = self.sets.get_mut(set) else { return };
        let Set { tags, states } = &mut **set.get_or_insert_default();
        let slots = tags.iter_mut().zip(states.iter_mut());
        let Some((old_tag, old_state)) =
            slots.min_by_key(|(tag, state)| (**tag != 0, state.eviction_rank(quota, now)))
        else {
            return;
        };
        let evicted = (*old_tag, *old_state);
        (*old_tag, *old_state) = entry;
        match evicted {
            (0, _) => {}
            (_, state) if state.is_idle(quota, now) => self.evicted_idle += 1,
            (tag, state) => {
                self.evicted_active += 1;
                if state.should_record(quota, now) {
                    self.overflow.record(tag, state);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "state_table_tests.rs"]
mod tests;
