//! The generic cell rate algorithm (GCRA): a token bucket whose state is one timestamp, at which the bucket is full
//! again.
//!
//! Decisions are pure functions of (state, now, cost) on integers, so that the script of a shared backend can repeat
//! them.

use std::time::Duration;

use super::quota::Quota;
use super::quota_decision::{QuotaDecision, QuotaState};
use super::state::{LimitState, MAX_CLOCK_SKEW};
use super::timestamp::Timestamp;

/// The time at which the bucket is full again, in nanoseconds since the epoch. A time in the past is a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GcraState(u64);

impl GcraState {
    #[cfg(test)]
    pub(super) const fn from_nanos(nanos: u64) -> Self {
        GcraState(nanos)
    }

    #[cfg(test)]
    pub(super) const fn nanos(self) -> u64 {
        self.0
    }
}

impl LimitState for GcraState {
    type EvictionRank = u64;

    fn decide(self, quota: &Quota, now: Timestamp, cost: u32) -> (QuotaDecision, Self) {
        decide(quota, self, now, cost)
    }

    fn refund(self, quota: &Quota, cost: u32, debited_at: Timestamp, latest: Timestamp) -> Self {
        refund(quota, self, cost, debited_at, latest)
    }

    fn is_idle(self, _: &Quota, now: Timestamp) -> bool {
        self.0 <= now.nanos()
    }

    fn eviction_rank(self, _: &Quota, _: Timestamp) -> u64 {
        self.0
    }

    fn should_record(self, quota: &Quota, now: Timestamp) -> bool {
        self.0.saturating_sub(now.nanos()) >= quota.fill_nanos() / 2
    }

    fn upper_bound(self, other: Self) -> Self {
        self.max(other)
    }

    fn lower_bound(self, other: Self) -> Self {
        self.min(other)
    }

    fn with_room_for(self, quota: &Quota, now: Timestamp, cost: u32) -> Self {
        let cost_nanos = quota.interval_nanos().saturating_mul(u64::from(cost));
        GcraState(self.0.min(now.nanos().saturating_add(quota.fill_nanos().saturating_sub(cost_nanos))))
    }
}

/// Decides about a request of this cost, and returns the new state.
///
/// A denial does not change the state, unless the clock went back: the state is then limited to an empty bucket, so
/// that a client is not denied for longer than the fill time.
pub fn decide(quota: &Quota, state: GcraState, now: Timestamp, cost: u32) -> (QuotaDecision, GcraState) {
    let now = now.nanos();
    let used_nanos = state.0.saturating_sub(now);
    let (used_nanos, state) = if used_nanos > quota.fill_nanos().saturating_add(MAX_CLOCK_SKEW) {
        (quota.fill_nanos(), GcraState(now.saturating_add(quota.fill_nanos())))
    } else {
        (used_nanos, state)
    };
    let cost_nanos = quota.interval_nanos().saturating_mul(u64::from(cost));
    let after = used_nanos.saturating_add(cost_nanos);
    match after.checked_sub(quota.fill_nanos()).filter(|missing| *missing > 0) {
        None => (QuotaDecision::Allow(quota_state(quota, after)), GcraState(now.saturating_add(after))),
        Some(excess) => {
            let retry_after = Duration::from_nanos(excess);
            (QuotaDecision::Deny { quota_state: quota_state(quota, used_nanos), retry_after }, state)
        }
    }
}

/// Undoes a debit of this cost made at `debited_at`. `latest` is the time of the last decision on this state or another
/// one of the same shard.
///
/// The quota replenished since the debit may only exist because of it and is not refunded, so that a refund never
/// admits more requests than no debit at all.
pub fn refund(
    quota: &Quota,
    state: GcraState,
    cost: u32,
    debited_at: Timestamp,
    latest: Timestamp,
) -> GcraState {
    let cost_nanos = quota.interval_nanos().saturating_mul(u64::from(cost));
    let refilled = latest.nanos().saturating_sub(debited_at.nanos());
    GcraState(state.0.saturating_sub(cost_nanos.saturating_sub(refilled)))
}

fn quota_state(quota: &Quota, used_nanos: u64) -> QuotaState {
    let free = quota.fill_nanos().saturating_sub(used_nanos) / quota.interval_nanos();
    QuotaState {
        limit: quota.burst(),
        // At most the burst, which fits into 32 bits.
        remaining: u32::try_from(free).unwrap_or(u32::MAX),
        reset: Duration::from_nanos(used_nanos),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "gcra_tests.rs"]
mod tests;
