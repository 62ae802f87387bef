//! States of keys in memory: a table that never grows, exact under any number of threads.
//!
//! Keys are spread over shards, each behind a lock that is held for the length of one decision, and in a shard over sets
//! of a few places. Where a set is full, the key that owes least makes room: one that owes nothing if there is one, for
//! then nothing is lost; else its debt is noted ([`super::overflow_sketch`]). A set takes memory when its first key comes: a rule that
//! nobody meets costs next to nothing.
//!
//! It decides nothing (a [`LimitState`] does) and does not know what a key was made of.

use parking_lot::Mutex;

use super::key::Key;
use super::overflow_sketch::OverflowSketch;
use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::state::LimitState;
use super::timestamp::Timestamp;

/// Places of a set: as many as two cache lines hold tags. Half-full tables then have a full set in 250.
const SLOTS_PER_SET: usize = 16;
/// Locks. Two threads rarely want the same one, unless they want the same key.
const SHARDS: usize = 64;

/// The fewest keys that a table can be bounded to.
pub const MIN_KEYS: usize = SLOTS_PER_SET;

/// A bounded table of states.
#[derive(Debug)]
pub struct StateTable<S> {
    shards: Box<[Shard<S>]>,
    sets: usize,
}

/// What a table holds and had to let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Keys that owe something now.
    pub keys: u64,
    /// Keys that were full again when another took their place.
    pub evicted_idle: u64,
    /// Keys that still owed something.
    pub evicted_active: u64,
}

// A lock of one shard must not slow its neighbour's.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<S>(Mutex<ShardTable<S>>);

#[derive(Debug)]
struct ShardTable<S> {
    /// Empty until the first key comes.
    sets: Vec<Option<Box<Set<S>>>>,
    overflow: OverflowSketch<S>,
    latest: Timestamp,
    evicted_idle: u64,
    evicted_active: u64,
}

/// Tags, and the state of each; a tag of 0 is a free place.
#[derive(Debug, Default)]
struct Set<S> {
    tags: [u64; SLOTS_PER_SET],
    states: [S; SLOTS_PER_SET],
}

impl<S: LimitState> StateTable<S> {
    /// A table for at most this many keys, at least [`MIN_KEYS`].
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

    /// Takes `cost` from the key, or refuses and takes nothing.
    pub fn take(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
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
                table.insert(set, tag, after, quota, now);
            }
            decision
        })
        // There is a table for every key.
        .unwrap_or_else(|| S::default().decide(quota, now, cost).0)
    }

    /// What [`StateTable::take`] would answer; takes nothing.
    pub fn peek(&self, key: Key, quota: &Quota, now: Timestamp, cost: u32) -> QuotaDecision {
        let state = self.with_shard(key, |table, set, tag| match table.find(set, tag) {
            Some(state) => *state,
            None => table.initial_state(tag, quota, now, cost),
        });
        state.unwrap_or_default().decide(quota, now, cost).0
    }

    /// Undoes a [`StateTable::take`] of this cost that was allowed at this moment.
    pub fn refund(&self, key: Key, quota: &Quota, taken_at: Timestamp, cost: u32) {
        self.with_shard(key, |table, set, tag| {
            let latest = table.latest;
            // Not there: evicted meanwhile, and then it is not worth the trouble.
            if let Some(state) = table.find(set, tag) {
                *state = state.refund(quota, cost, taken_at, latest);
            }
        });
    }

    /// The key owes nothing any more.
    pub fn reset(&self, key: Key) {
        self.with_shard(key, |table, set, tag| {
            if let Some(state) = table.find(set, tag) {
                *state = S::default();
            }
        });
    }

    /// Counts what is there. It walks the whole table: for a scrape, not for a request.
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

    /// Does something under the lock of the key's shard; `set` and `tag` are the key's.
    fn with_shard<T>(
        &self,
        key: Key,
        operation: impl FnOnce(&mut ShardTable<S>, usize, u64) -> T,
    ) -> Option<T> {
        // The high bits of the product choose the shard, what is left of it the set: no division.
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

    /// The state of a key that is not in the table: what it owed when it left, but never so much that this request is
    /// refused. The debt may be another's.
    fn initial_state(&self, tag: u64, quota: &Quota, now: Timestamp, cost: u32) -> S {
        self.overflow.estimate(tag).with_room_for(quota, now, cost)
    }

    fn insert(&mut self, set: usize, tag: u64, state: S, quota: &Quota, now: Timestamp) {
        let Some(set) = self.sets.get_mut(set) else { return };
        let Set { tags, states } = &mut **set.get_or_insert_default();
        let slots = tags.iter_mut().zip(states.iter_mut());
        let Some((old_tag, old_state)) =
            slots.min_by_key(|(tag, state)| (**tag != 0, state.eviction_rank(quota, now)))
        else {
            return;
        };
        let evicted = (*old_tag, *old_state);
        (*old_tag, *old_state) = (tag, state);
        match evicted {
            (0, _) => {}
            (_, state) if state.is_idle(quota, now) => self.evicted_idle += 1,
            (tag, state) => {
                self.evicted_active += 1;
                // What is less than half used gains less than half: only the others are worth a note.
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
