//! The state of one key between two decisions, for any algorithm.
//!
//! [`LimitState::decide`] is a pure function. The other methods allow [`super::state_table`] to choose keys for
//! eviction and to record evicted states without depending on the algorithm. A state "uses" the part of its quota that
//! is not replenished.

use std::fmt::Debug;

use super::quota::Quota;
use super::quota_decision::QuotaDecision;
use super::timestamp::Timestamp;

/// The skew tolerated between concurrent threads, whose timestamps may arrive out of order, in nanoseconds. A state
/// further in the future means that the clock went back.
pub(crate) const MAX_CLOCK_SKEW: u64 = 1_000_000_000;

/// The state of a key. The default is the state of a new key.
pub trait LimitState: Copy + Debug + Default + PartialEq + Send + 'static {
    /// The usage as a rank for eviction.
    type EvictionRank: Ord;

    /// Decides about a request of this cost, and returns the new state. A denial debits nothing. If the clock went
    /// back, a denial may correct the state, so that no client is denied for longer than the quota implies.
    fn decide(self, quota: &Quota, now: Timestamp, cost: u32) -> (QuotaDecision, Self);

    /// Undoes a debit of this cost made at `debited_at`. Never admits more requests than no debit at all. `latest` is
    /// the time of the last decision on this state or another one of the same shard.
    fn refund(self, quota: &Quota, cost: u32, debited_at: Timestamp, latest: Timestamp) -> Self;

    /// Whether the state now equals that of a new key.
    fn is_idle(self, quota: &Quota, now: Timestamp) -> bool;

    /// The eviction rank; a full set evicts the key with the lowest.
    fn eviction_rank(self, quota: &Quota, now: Timestamp) -> Self::EvictionRank;

    /// Whether at least half of the quota is used. Below that, an evicted key regains less than half, and is not
    /// recorded.
    fn should_record(self, quota: &Quota, now: Timestamp) -> bool;

    /// A state that uses at least as much as both.
    fn upper_bound(self, other: Self) -> Self;

    /// The lower of two upper bounds: if a key uses at most as much as each, it uses at most as much as the result.
    fn lower_bound(self, other: Self) -> Self;

    /// The state, reduced so that a request of this cost is admitted.
    fn with_room_for(self, quota: &Quota, now: Timestamp, cost: u32) -> Self;
}
