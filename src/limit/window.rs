//! Fixed and sliding windows, aligned to the epoch of timestamps.
//!
//! [`FixedWindow`] starts at 0 in every window, so that up to twice the quota is admitted around a boundary.
//! [`SlidingWindow`] also counts the previous window, in proportion to its overlap with the last period, as if its
//! requests were evenly distributed. Both are pure functions of (state, now, cost) on integers, so that the script of a
//! shared backend can repeat them.

use std::time::Duration;

use super::quota::Quota;
use super::quota_decision::{QuotaDecision, QuotaState};
use super::state::{LimitState, MAX_CLOCK_SKEW};
use super::timestamp::Timestamp;

/// The counts of a window and the previous one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct WindowCounts {
    /// The index of the window since the epoch.
    window: u64,
    used: u32,
    previous: u32,
}

/// The position of a timestamp: its window, and the nanoseconds since the start of that window.
#[derive(Clone, Copy)]
struct WindowPosition {
    window: u64,
    elapsed: u64,
    length: u64,
}

impl WindowPosition {
    const fn at_time(quota: &Quota, now: Timestamp) -> Self {
        let length = quota.period_nanos();
        WindowPosition { window: now.nanos() / length, elapsed: now.nanos() % length, length }
    }

    /// Nanoseconds until the window ends; never zero.
    const fn remaining(&self) -> u64 {
        self.length - self.elapsed
    }
}

impl WindowCounts {
    /// The counts in the window of `now`, and the position of `now`.
    ///
    /// If the state belongs to a later window within [`MAX_CLOCK_SKEW`], another thread read the clock later: the
    /// position is the start of that window. If it is further ahead, the clock went back: the counts are moved to the
    /// window of `now`.
    fn aligned_to(self, quota: &Quota, now: Timestamp) -> (WindowCounts, WindowPosition) {
        let at = WindowPosition::at_time(quota, now);
        if self.window <= at.window {
            return (self.advanced_to(at.window), at);
        }
        let lead = (self.window - at.window).saturating_mul(at.length).saturating_sub(at.elapsed);
        if lead <= MAX_CLOCK_SKEW {
            (self, WindowPosition { window: self.window, elapsed: 0, ..at })
        } else {
            (WindowCounts { window: at.window, ..self }, at)
        }
    }

    /// The counts in the same or a later window.
    const fn advanced_to(self, window: u64) -> WindowCounts {
        match window - self.window {
            0 => self,
            1 => WindowCounts { window, used: 0, previous: self.used },
            _ => WindowCounts { window, used: 0, previous: 0 },
        }
    }

    fn merge(self, other: WindowCounts, choose: fn(u32, u32) -> u32) -> WindowCounts {
        let window = self.window.max(other.window);
        let (one, two) = (self.advanced_to(window), other.advanced_to(window));
        WindowCounts {
            window,
            used: choose(one.used, two.used),
            previous: choose(one.previous, two.previous),
        }
    }

    /// Subtracts `cost` from the window of `debited_at`.
    fn subtract(self, quota: &Quota, cost: u32, debited_at: Timestamp) -> WindowCounts {
        match self.window.checked_sub(WindowPosition::at_time(quota, debited_at).window) {
            Some(0) => WindowCounts { used: self.used.saturating_sub(cost), ..self },
            Some(1) => WindowCounts { previous: self.previous.saturating_sub(cost), ..self },
            Some(_) | None => self,
        }
    }
}

/// The state of a fixed window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedWindow(WindowCounts);

impl LimitState for FixedWindow {
    type EvictionRank = u32;

    fn decide(self, quota: &Quota, now: Timestamp, cost: u32) -> (QuotaDecision, Self) {
        let (counts, at) = self.0.aligned_to(quota, now);
        let free = quota.allowed().saturating_sub(counts.used);
        let reset = Duration::from_nanos(at.remaining());
        match free.checked_sub(cost) {
            Some(remaining) => {
                let quota_state = QuotaState { limit: quota.allowed(), remaining, reset };
                (
                    QuotaDecision::Allow(quota_state),
                    FixedWindow(WindowCounts { used: counts.used + cost, ..counts }),
                )
            }
            None => {
                let quota_state = QuotaState { limit: quota.allowed(), remaining: free, reset };
                (QuotaDecision::Deny { quota_state, retry_after: reset }, FixedWindow(counts))
            }
        }
    }

    fn refund(self, quota: &Quota, cost: u32, debited_at: Timestamp, _: Timestamp) -> Self {
        FixedWindow(self.0.subtract(quota, cost, debited_at))
    }

    fn is_idle(self, quota: &Quota, now: Timestamp) -> bool {
        self.eviction_rank(quota, now) == 0
    }

    fn eviction_rank(self, quota: &Quota, now: Timestamp) -> u32 {
        self.0.aligned_to(quota, now).0.used
    }

    fn should_record(self, quota: &Quota, now: Timestamp) -> bool {
        self.eviction_rank(quota, now) >= quota.allowed() / 2
    }

    fn upper_bound(self, other: Self) -> Self {
        FixedWindow(self.0.merge(other.0, u32::max))
    }

    fn lower_bound(self, other: Self) -> Self {
        FixedWindow(self.0.merge(other.0, u32::min))
    }

    fn with_room_for(self, quota: &Quota, now: Timestamp, cost: u32) -> Self {
        let (counts, _) = self.0.aligned_to(quota, now);
        FixedWindow(WindowCounts { used: counts.used.min(quota.allowed().saturating_sub(cost)), ..counts })
    }
}

/// The state of a sliding window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindow(WindowCounts);

impl SlidingWindow {
    /// The weighted count, in requests times nanoseconds of the window, so that nothing is rounded.
    fn weight(counts: WindowCounts, at: WindowPosition) -> u128 {
        u128::from(counts.used) * u128::from(at.length)
            + u128::from(counts.previous) * u128::from(at.remaining())
    }

    /// Nanoseconds into a window after which the previous window's weight leaves room for `available` requests.
    fn earliest_release(previous: u32, available: u32, length: u64) -> u64 {
        match u128::from(available) * u128::from(length) / u128::from(previous.max(1)) {
            // Fits: less than the length of a window.
            rest if previous > 0 && rest < u128::from(length) => length - rest as u64,
            _ => 0,
        }
    }
}

impl LimitState for SlidingWindow {
    type EvictionRank = u128;

    fn decide(self, quota: &Quota, now: Timestamp, cost: u32) -> (QuotaDecision, Self) {
        let (counts, at) = self.0.aligned_to(quota, now);
        let (limit, length) = (quota.allowed(), u128::from(at.length));
        let max_weight = u128::from(limit) * length;
        let weight = Self::weight(counts, at);
        let after = weight + u128::from(cost) * length;
        let quota_state = |weight: u128| QuotaState {
            limit,
            // At most the limit, which fits into 32 bits.
            remaining: u32::try_from(max_weight.saturating_sub(weight) / length).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(at.remaining()),
        };
        if after <= max_weight {
            let counts = WindowCounts { used: counts.used.saturating_add(cost), ..counts };
            return (QuotaDecision::Allow(quota_state(after)), SlidingWindow(counts));
        }
        let wait = match limit.checked_sub(cost) {
            // In this window, when the weight of the previous one has decreased.
            Some(room) if counts.used <= room => {
                Self::earliest_release(counts.previous, room - counts.used, at.length)
                    .saturating_sub(at.elapsed)
            }
            // In the next window, when the weight of this one has decreased.
            Some(room) => at.remaining() + Self::earliest_release(counts.used, room, at.length),
            // Never: the cost exceeds the limit. Any time above zero will do.
            None => at.remaining() + at.length,
        };
        let retry_after = Duration::from_nanos(wait.max(1));
        (QuotaDecision::Deny { quota_state: quota_state(weight), retry_after }, SlidingWindow(counts))
    }

    fn refund(self, quota: &Quota, cost: u32, debited_at: Timestamp, _: Timestamp) -> Self {
        SlidingWindow(self.0.subtract(quota, cost, debited_at))
    }

    fn is_idle(self, quota: &Quota, now: Timestamp) -> bool {
        self.eviction_rank(quota, now) == 0
    }

    fn eviction_rank(self, quota: &Quota, now: Timestamp) -> u128 {
        let (counts, at) = self.0.aligned_to(quota, now);
        Self::weight(counts, at)
    }

    fn should_record(self, quota: &Quota, now: Timestamp) -> bool {
        2 * self.eviction_rank(quota, now) >= u128::from(quota.allowed()) * u128::from(quota.period_nanos())
    }

    fn upper_bound(self, other: Self) -> Self {
        SlidingWindow(self.0.merge(other.0, u32::max))
    }

    fn lower_bound(self, other: Self) -> Self {
        SlidingWindow(self.0.merge(other.0, u32::min))
    }

    fn with_room_for(self, quota: &Quota, now: Timestamp, cost: u32) -> Self {
        let (counts, at) = self.0.aligned_to(quota, now);
        let room = quota.allowed().saturating_sub(cost);
        let used = counts.used.min(room);
        let max_previous = u128::from(room - used) * u128::from(at.length) / u128::from(at.remaining());
        let previous = counts.previous.min(u32::try_from(max_previous).unwrap_or(u32::MAX));
        SlidingWindow(WindowCounts { used, previous, ..counts })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "window_tests.rs"]
mod tests;
