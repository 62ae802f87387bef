//! Windows aligned to the origin of all moments: so many requests in each.
//!
//! [`Fixed`] forgets everything when a window ends, so up to twice as much can come around its end. [`Sliding`] counts the
//! previous window too, by as much of it as the last full period still overlaps: as if its requests had come evenly. Both
//! are pure functions of (state, now, cost), in whole numbers, so that a script of another store can do the same.

use std::time::Duration;

use super::decision::{Decision, Standing};
use super::moment::Moment;
use super::quota::Quota;
use super::state::{SKEW, State};

/// What was counted in a window and in the one before. Their order has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// The number of the window since the origin.
    window: u64,
    used: u32,
    before: u32,
}

/// Where a moment is: the number of its window, and how far into it in nanoseconds.
#[derive(Clone, Copy)]
struct At {
    window: u64,
    elapsed: u64,
    length: u64,
}

impl At {
    const fn of(quota: &Quota, now: Moment) -> Self {
        let length = quota.period_nanos();
        At { window: now.nanos() / length, elapsed: now.nanos() % length, length }
    }

    /// Nanoseconds until the window ends; never zero.
    const fn left(&self) -> u64 {
        self.length - self.elapsed
    }
}

impl Counts {
    /// The counts as they are in the window of `now`, and where that is.
    ///
    /// A state of a later window was decided by a thread that read its clock later: then it is that window's beginning.
    /// One that is further ahead comes from a clock that went back: it counts as this window's.
    fn at(self, quota: &Quota, now: Moment) -> (Counts, At) {
        let at = At::of(quota, now);
        if self.window <= at.window {
            return (self.moved_to(at.window), at);
        }
        let ahead = (self.window - at.window).saturating_mul(at.length).saturating_sub(at.elapsed);
        if ahead <= SKEW {
            (self, At { window: self.window, elapsed: 0, ..at })
        } else {
            (Counts { window: at.window, ..self }, at)
        }
    }

    /// The counts as they are in a window that is not earlier.
    const fn moved_to(self, window: u64) -> Counts {
        match window - self.window {
            0 => self,
            1 => Counts { window, used: 0, before: self.used },
            _ => Counts { window, used: 0, before: 0 },
        }
    }

    fn together(self, other: Counts, choose: fn(u32, u32) -> u32) -> Counts {
        let window = self.window.max(other.window);
        let (one, two) = (self.moved_to(window), other.moved_to(window));
        Counts { window, used: choose(one.used, two.used), before: choose(one.before, two.before) }
    }

    /// Takes back what was counted in the window of `taken`.
    fn without(self, quota: &Quota, cost: u32, taken: Moment) -> Counts {
        match self.window.checked_sub(At::of(quota, taken).window) {
            Some(0) => Counts { used: self.used.saturating_sub(cost), ..self },
            Some(1) => Counts { before: self.before.saturating_sub(cost), ..self },
            Some(_) | None => self,
        }
    }
}

/// So many requests in a window, and everything anew in the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed(Counts);

impl State for Fixed {
    type Rank = u32;

    fn decide(self, quota: &Quota, now: Moment, cost: u32) -> (Decision, Self) {
        let (counts, at) = self.0.at(quota, now);
        let free = quota.allowed().saturating_sub(counts.used);
        let reset = Duration::from_nanos(at.left());
        match free.checked_sub(cost) {
            Some(remaining) => {
                let standing = Standing { limit: quota.allowed(), remaining, reset };
                (Decision::Allow(standing), Fixed(Counts { used: counts.used + cost, ..counts }))
            }
            None => {
                let standing = Standing { limit: quota.allowed(), remaining: free, reset };
                (Decision::Deny { standing, retry_after: reset }, Fixed(counts))
            }
        }
    }

    fn give_back(self, quota: &Quota, cost: u32, taken: Moment, _: Moment) -> Self {
        Fixed(self.0.without(quota, cost, taken))
    }

    fn is_settled(self, quota: &Quota, now: Moment) -> bool {
        self.rank(quota, now) == 0
    }

    fn rank(self, quota: &Quota, now: Moment) -> u32 {
        self.0.at(quota, now).0.used
    }

    fn is_worth_a_note(self, quota: &Quota, now: Moment) -> bool {
        self.rank(quota, now) >= quota.allowed() / 2
    }

    fn or_more(self, other: Self) -> Self {
        Fixed(self.0.together(other.0, u32::max))
    }

    fn or_less(self, other: Self) -> Self {
        Fixed(self.0.together(other.0, u32::min))
    }

    fn leaving_room(self, quota: &Quota, now: Moment, cost: u32) -> Self {
        let (counts, _) = self.0.at(quota, now);
        Fixed(Counts { used: counts.used.min(quota.allowed().saturating_sub(cost)), ..counts })
    }
}

/// So many requests in a window, the previous one counted by the part that is less than a period ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sliding(Counts);

impl Sliding {
    /// What counts now, in requests times nanoseconds of the window, so that nothing is rounded.
    fn weight(counts: Counts, at: At) -> u128 {
        u128::from(counts.used) * u128::from(at.length) + u128::from(counts.before) * u128::from(at.left())
    }

    /// After how many nanoseconds of a window, at the earliest, the previous one lets so many more through.
    fn soonest(before: u32, room: u32, length: u64) -> u64 {
        match u128::from(room) * u128::from(length) / u128::from(before.max(1)) {
            // Less than a whole window, so it fits.
            left if before > 0 && left < u128::from(length) => length - left as u64,
            _ => 0,
        }
    }
}

impl State for Sliding {
    type Rank = u128;

    fn decide(self, quota: &Quota, now: Moment, cost: u32) -> (Decision, Self) {
        let (counts, at) = self.0.at(quota, now);
        let (limit, length) = (quota.allowed(), u128::from(at.length));
        let most = u128::from(limit) * length;
        let weight = Self::weight(counts, at);
        let after = weight + u128::from(cost) * length;
        let standing = |weight: u128| Standing {
            limit,
            // At most the limit, which is 32 bits.
            remaining: u32::try_from(most.saturating_sub(weight) / length).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(at.left()),
        };
        if after <= most {
            let counts = Counts { used: counts.used.saturating_add(cost), ..counts };
            return (Decision::Allow(standing(after)), Sliding(counts));
        }
        let wait = match limit.checked_sub(cost) {
            // In this window, once less of the previous one counts.
            Some(room) if counts.used <= room => {
                Self::soonest(counts.before, room - counts.used, at.length).saturating_sub(at.elapsed)
            }
            // In the next one, for which this one is the previous.
            Some(room) => at.left() + Self::soonest(counts.used, room, at.length),
            // Never; it is told something above zero.
            None => at.left() + at.length,
        };
        let retry_after = Duration::from_nanos(wait.max(1));
        (Decision::Deny { standing: standing(weight), retry_after }, Sliding(counts))
    }

    fn give_back(self, quota: &Quota, cost: u32, taken: Moment, _: Moment) -> Self {
        Sliding(self.0.without(quota, cost, taken))
    }

    fn is_settled(self, quota: &Quota, now: Moment) -> bool {
        self.rank(quota, now) == 0
    }

    fn rank(self, quota: &Quota, now: Moment) -> u128 {
        let (counts, at) = self.0.at(quota, now);
        Self::weight(counts, at)
    }

    fn is_worth_a_note(self, quota: &Quota, now: Moment) -> bool {
        2 * self.rank(quota, now) >= u128::from(quota.allowed()) * u128::from(quota.period_nanos())
    }

    fn or_more(self, other: Self) -> Self {
        Sliding(self.0.together(other.0, u32::max))
    }

    fn or_less(self, other: Self) -> Self {
        Sliding(self.0.together(other.0, u32::min))
    }

    fn leaving_room(self, quota: &Quota, now: Moment, cost: u32) -> Self {
        let (counts, at) = self.0.at(quota, now);
        let room = quota.allowed().saturating_sub(cost);
        let used = counts.used.min(room);
        let most = u128::from(room - used) * u128::from(at.length) / u128::from(at.left());
        let before = counts.before.min(u32::try_from(most).unwrap_or(u32::MAX));
        Sliding(Counts { used, before, ..counts })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "window_tests.rs"]
mod tests;
