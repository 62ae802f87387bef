//! States of keys in memory: a table that never grows, exact under any number of threads.
//!
//! Keys are spread over shards, each behind a lock that is held for the length of one decision, and in a shard over sets
//! of a few places. Where a set is full, the key that owes least makes room: one that owes nothing if there is one, for
//! then nothing is lost; else its debt is noted ([`super::debts`]). A set takes memory when its first key comes: a rule that
//! nobody meets costs next to nothing.
//!
//! It decides nothing (a [`State`] does) and does not know what a key was made of.

use parking_lot::Mutex;

use super::debts::Debts;
use super::decision::Decision;
use super::key::Key;
use super::moment::Moment;
use super::quota::Quota;
use super::state::State;

/// Places of a set: as many as two cache lines hold tags. Half-full tables then have a full set in 250.
const WAYS: usize = 16;
/// Locks. Two threads rarely want the same one, unless they want the same key.
const SHARDS: usize = 64;

/// The fewest keys that a table can be bounded to.
pub const FEWEST_KEYS: usize = WAYS;

/// A bounded table of states.
#[derive(Debug)]
pub struct Memory<S> {
    shards: Box<[Shard<S>]>,
    sets: usize,
}

/// What a table holds and had to let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Keys that owe something now.
    pub keys: u64,
    /// Keys that were full again when another took their place.
    pub evicted_full: u64,
    /// Keys that still owed something.
    pub evicted_in_debt: u64,
}

// A lock of one shard must not slow its neighbour's.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<S>(Mutex<Table<S>>);

#[derive(Debug)]
struct Table<S> {
    /// Empty until the first key comes.
    sets: Vec<Option<Box<Set<S>>>>,
    debts: Debts<S>,
    latest: Moment,
    evicted_full: u64,
    evicted_in_debt: u64,
}

/// Tags, and the state of each; a tag of 0 is a free place.
#[derive(Debug, Default)]
struct Set<S> {
    tags: [u64; WAYS],
    states: [S; WAYS],
}

impl<S: State> Memory<S> {
    /// A table for at most this many keys, at least [`FEWEST_KEYS`].
    pub fn new(max_keys: usize) -> Self {
        let all_sets = (max_keys / WAYS).max(1);
        let shards = all_sets.min(SHARDS);
        let sets = all_sets / shards;
        let shard = |_| {
            Shard(Mutex::new(Table {
                sets: Vec::new(),
                debts: Debts::new(sets * WAYS / 8),
                latest: Moment::default(),
                evicted_full: 0,
                evicted_in_debt: 0,
            }))
        };
        Memory { shards: (0..shards).map(shard).collect(), sets }
    }

    /// Takes `cost` from the key, or refuses and takes nothing.
    pub fn take(&self, key: Key, quota: &Quota, now: Moment, cost: u32) -> Decision {
        self.on(key, |table, set, tag| {
            table.latest = table.latest.max(now);
            if let Some(state) = table.find(set, tag) {
                let (decision, after) = state.decide(quota, now, cost);
                *state = after;
                return decision;
            }
            let (decision, after) = table.newcomer(tag, quota, now, cost).decide(quota, now, cost);
            if matches!(decision, Decision::Allow(_)) {
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

    /// What [`Memory::take`] would answer; takes nothing.
    pub fn look(&self, key: Key, quota: &Quota, now: Moment, cost: u32) -> Decision {
        let state = self.on(key, |table, set, tag| match table.find(set, tag) {
            Some(state) => *state,
            None => table.newcomer(tag, quota, now, cost),
        });
        state.unwrap_or_default().decide(quota, now, cost).0
    }

    /// Undoes a [`Memory::take`] of this cost that was allowed at this moment.
    pub fn give_back(&self, key: Key, quota: &Quota, taken: Moment, cost: u32) {
        self.on(key, |table, set, tag| {
            let latest = table.latest;
            // Not there: evicted meanwhile, and then it is not worth the trouble.
            if let Some(state) = table.find(set, tag) {
                *state = state.give_back(quota, cost, taken, latest);
            }
        });
    }

    /// The key owes nothing any more.
    pub fn reset(&self, key: Key) {
        self.on(key, |table, set, tag| {
            if let Some(state) = table.find(set, tag) {
                *state = S::default();
            }
        });
    }

    /// Counts what is there. It walks the whole table: for a scrape, not for a request.
    pub fn figures(&self, quota: &Quota, now: Moment) -> Figures {
        let mut figures = Figures::default();
        for Shard(shard) in &self.shards {
            let table = shard.lock();
            figures.evicted_full += table.evicted_full;
            figures.evicted_in_debt += table.evicted_in_debt;
            let states = table.sets.iter().flatten().flat_map(|set| &set.states);
            figures.keys += states.filter(|state| !state.is_settled(quota, now)).count() as u64;
        }
        figures
    }

    /// Does something under the lock of the key's shard; `set` and `tag` are the key's.
    fn on<T>(&self, key: Key, then: impl FnOnce(&mut Table<S>, usize, u64) -> T) -> Option<T> {
        // The high bits of the product choose the shard, what is left of it the set: no division.
        let wide = u128::from(key.place) * self.shards.len() as u128;
        let Shard(shard) = self.shards.get((wide >> 64) as usize)?;
        let set = (u128::from(wide as u64) * self.sets as u128) >> 64;
        Some(then(&mut shard.lock(), set as usize, key.tag.max(1)))
    }
}

impl<S: State> Table<S> {
    fn find(&mut self, set: usize, tag: u64) -> Option<&mut S> {
        let Set { tags, states } = &mut **self.sets.get_mut(set)?.as_mut()?;
        let way = tags.iter().position(|other| *other == tag)?;
        states.get_mut(way)
    }

    /// The state of a key that is not in the table: what it owed when it left, but never so much that this request is
    /// refused. The debt may be another's.
    fn newcomer(&self, tag: u64, quota: &Quota, now: Moment, cost: u32) -> S {
        self.debts.recall(tag).leaving_room(quota, now, cost)
    }

    fn insert(&mut self, set: usize, tag: u64, state: S, quota: &Quota, now: Moment) {
        let Some(set) = self.sets.get_mut(set) else { return };
        let Set { tags, states } = &mut **set.get_or_insert_default();
        let places = tags.iter_mut().zip(states.iter_mut());
        let Some((old_tag, old_state)) =
            places.min_by_key(|(tag, state)| (**tag != 0, state.rank(quota, now)))
        else {
            return;
        };
        let gone = (*old_tag, *old_state);
        (*old_tag, *old_state) = (tag, state);
        match gone {
            (0, _) => {}
            (_, state) if state.is_settled(quota, now) => self.evicted_full += 1,
            (tag, state) => {
                self.evicted_in_debt += 1;
                // What is less than half used gains less than half: only the others are worth a note.
                if state.is_worth_a_note(quota, now) {
                    self.debts.note(tag, state);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "memory_tests.rs"]
mod tests;
