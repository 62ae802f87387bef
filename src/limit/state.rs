//! What is remembered of one key between two decisions, whatever the algorithm.
//!
//! A state is a value: [`LimitState::decide`] is a pure function of it, and everything else here lets a table that keeps states
//! ([`super::state_table`]) choose whom to forget and remember what the forgotten owed, without knowing what a state says.

use std::fmt::Debug;

use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::timestamp::Timestamp;

/// Threads that decide at once have read their clocks in another order than they get here. A state further ahead than
/// this comes from a clock that went back. Nanoseconds.
pub const MAX_CLOCK_SKEW: u64 = 1_000_000_000;

/// The state of a key. The default is that of a key that nobody has heard of.
pub trait LimitState: Copy + Debug + Default + PartialEq + Send + 'static {
    /// How much is owed, as far as it matters for who makes room first.
    type EvictionRank: Ord;

    /// Decides about a request of this cost, and gives the state afterwards. A refusal takes nothing. (Where the clock has
    /// gone back a state may be corrected even so, that nobody is locked out for longer than the quota says.)
    fn decide(self, quota: &Quota, now: Timestamp, cost: u32) -> (QuotaDecision, Self);

    /// Undoes an admission of this cost at the moment `taken`; never admits more than not having taken. `latest` is the
    /// last moment at which this state, or any beside it, was decided about.
    fn refund(self, quota: &Quota, cost: u32, taken: Timestamp, latest: Timestamp) -> Self;

    /// Whether it decides as the default does, from now on.
    fn is_idle(self, quota: &Quota, now: Timestamp) -> bool;

    /// Of the keys of a full set the least makes room.
    fn eviction_rank(self, quota: &Quota, now: Timestamp) -> Self::EvictionRank;

    /// Whether half of what is allowed or more is used: who owes less gains less than half by being forgotten.
    fn should_record(self, quota: &Quota, now: Timestamp) -> bool;

    /// A state that owes no less than either.
    fn upper_bound(self, other: Self) -> Self;

    /// A state that owes no less than what both owe at least: if a key owes no more than either, no more than this.
    fn lower_bound(self, other: Self) -> Self;

    /// As much of it as leaves room for a request of this cost.
    fn with_room_for(self, quota: &Quota, now: Timestamp, cost: u32) -> Self;
}
