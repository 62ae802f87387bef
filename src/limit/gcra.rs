//! The generic cell rate algorithm: a token bucket whose whole state is one moment, when it is full again.
//!
//! A pure function of (state, now, cost), so that it can be tested as one and run anywhere, in a script of another store
//! too. It keeps no state and reads no clock.

use std::time::Duration;

use super::decision::{Decision, Standing};
use super::moment::Moment;
use super::quota::Quota;
use super::state::{SKEW, State};

/// When the bucket is full again. The past, and so the origin of all moments, is a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FullAt(u64);

impl FullAt {
    #[cfg(test)]
    pub(super) const fn of_nanos(nanos: u64) -> Self {
        FullAt(nanos)
    }

    #[cfg(test)]
    pub(super) const fn nanos(self) -> u64 {
        self.0
    }
}

impl State for FullAt {
    type Rank = u64;

    fn decide(self, quota: &Quota, now: Moment, cost: u32) -> (Decision, Self) {
        decide(quota, self, now, cost)
    }

    fn give_back(self, quota: &Quota, cost: u32, taken: Moment, latest: Moment) -> Self {
        give_back(quota, self, cost, taken, latest)
    }

    fn is_settled(self, _: &Quota, now: Moment) -> bool {
        self.0 <= now.nanos()
    }

    fn rank(self, _: &Quota, _: Moment) -> u64 {
        self.0
    }

    fn is_worth_a_note(self, quota: &Quota, now: Moment) -> bool {
        self.0.saturating_sub(now.nanos()) >= quota.full() / 2
    }

    fn or_more(self, other: Self) -> Self {
        self.max(other)
    }

    fn or_less(self, other: Self) -> Self {
        self.min(other)
    }

    fn leaving_room(self, quota: &Quota, now: Moment, cost: u32) -> Self {
        let price = quota.interval().saturating_mul(u64::from(cost));
        FullAt(self.0.min(now.nanos().saturating_add(quota.full().saturating_sub(price))))
    }
}

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
