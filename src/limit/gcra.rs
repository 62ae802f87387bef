//! The generic cell rate algorithm: a token bucket whose whole state is one moment, when it is full again.
//!
//! A pure function of (state, now, cost), so that it can be tested as one and run anywhere, in a script of another store
//! too. It keeps no state and reads no clock.

use std::time::Duration;

use super::decision::{Decision, Standing};
use super::moment::Moment;
use super::quota::Quota;

/// When the bucket is full again. The past, and so the origin of all moments, is a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullAt(u64);

impl FullAt {
    pub(super) const fn of_nanos(nanos: u64) -> Self {
        FullAt(nanos)
    }

    pub(super) const fn nanos(self) -> u64 {
        self.0
    }

    /// Whether nothing is owed any more.
    pub const fn has_passed(self, now: Moment) -> bool {
        self.0 <= now.nanos()
    }
}

/// Threads that decide at once have read their clocks in another order than they get here. A state further ahead than
/// this beyond a full bucket's time comes from a clock that went back.
const SKEW: u64 = 1_000_000_000;

/// Decides about a request of this cost, and gives the state afterwards.
///
/// A refusal leaves the state as it was. (Unless the clock has gone back: then it owes a full bucket and no more, so that
/// nobody is locked out for longer than that.)
pub fn decide(quota: &Quota, state: FullAt, now: Moment, cost: u32) -> (Decision, FullAt) {
    let now = now.nanos();
    let owed = state.0.saturating_sub(now);
    let (owed, state) = if owed > quota.full().saturating_add(SKEW) {
        (quota.full(), FullAt(now.saturating_add(quota.full())))
    } else {
        (owed, state)
    };
    let price = quota.interval().saturating_mul(u64::from(cost));
    let after = owed.saturating_add(price);
    match after.checked_sub(quota.full()).filter(|missing| *missing > 0) {
        None => (Decision::Allow(standing(quota, after)), FullAt(now.saturating_add(after))),
        Some(missing) => {
            let retry_after = Duration::from_nanos(missing);
            (Decision::Deny { standing: standing(quota, owed), retry_after }, state)
        }
    }
}

/// Undoes an admission of this cost at the moment `taken`. `latest` is the last moment at which this state, or any beside
/// it, was decided about.
///
/// What flowed back meanwhile may have flowed back because of the admission; it is not given back, so that undoing never
/// admits more than not having taken.
pub fn give_back(quota: &Quota, state: FullAt, cost: u32, taken: Moment, latest: Moment) -> FullAt {
    let price = quota.interval().saturating_mul(u64::from(cost));
    let flowed = latest.nanos().saturating_sub(taken.nanos());
    FullAt(state.0.saturating_sub(price.saturating_sub(flowed)))
}

fn standing(quota: &Quota, owed: u64) -> Standing {
    let free = quota.full().saturating_sub(owed) / quota.interval();
    Standing {
        limit: quota.burst(),
        // At most the burst, which is 32 bits.
        remaining: u32::try_from(free).unwrap_or(u32::MAX),
        reset: Duration::from_nanos(owed),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "gcra_tests.rs"]
mod tests;
