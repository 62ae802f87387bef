//! What is allowed: so many requests per period, and so many at once.
//!
//! A [`Quota`] that exists can be decided with: it admits something, its arithmetic cannot overflow, and rounding is
//! below a thousandth. How its text is written is the configuration's to know (`100 per 1m`).

use std::time::Duration;

/// A bucket: `burst` is its capacity, and `allowed` per `period` is what flows back into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    allowed: u32,
    period: Duration,
    burst: u32,
    interval: u64,
    full: u64,
}

/// Why there is no such quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It would admit nothing: a count or the period is zero.
    Nothing,
    /// More than a million per second: the steps of the clock would show.
    TooFast,
    /// An empty bucket would take longer than [`LONGEST`] to fill.
    TooSlow,
}

/// An empty bucket is full again after this at the latest: beyond it a limit is a mistake.
pub const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Between two requests at the allowed rate there is at least this, in nanoseconds.
const LEAST_INTERVAL: u64 = 1_000;

impl Quota {
    /// `allowed` requests per `period`, `burst` of them at once from idle.
    ///
    /// # Errors
    /// When it admits nothing, or is out of the bounds of [`Unusable`].
    pub fn new(allowed: u32, period: Duration, burst: u32) -> Result<Self, Unusable> {
        if allowed == 0 || burst == 0 || period.is_zero() {
            return Err(Unusable::Nothing);
        }
        let longest = LONGEST.as_nanos() as u64;
        let period_nanos = u64::try_from(period.as_nanos())
            .ok()
            .filter(|nanos| *nanos <= longest)
            .ok_or(Unusable::TooSlow)?;
        // Rounded up: never more than what is allowed.
        let interval = period_nanos.div_ceil(u64::from(allowed));
        if period_nanos / u64::from(allowed) < LEAST_INTERVAL {
            return Err(Unusable::TooFast);
        }
        // An interval is rounded by less than a nanosecond; the tolerance keeps "as many as are allowed" within bounds.
        let full = interval.checked_mul(u64::from(burst)).filter(|full| *full <= longest + longest / 1_000);
        Ok(Quota { allowed, period, burst, interval, full: full.ok_or(Unusable::TooSlow)? })
    }

    /// How many requests per [`Quota::period`].
    pub const fn allowed(&self) -> u32 {
        self.allowed
    }

    /// The time in which [`Quota::allowed`] requests flow back.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// The same in nanoseconds; never zero.
    pub(super) const fn period_nanos(&self) -> u64 {
        // A year at most: checked when it was made.
        self.period.as_nanos() as u64
    }

    /// How many requests are admitted at once from idle.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// Nanoseconds in which one request flows back.
    pub(super) const fn interval(&self) -> u64 {
        self.interval
    }

    /// The time in which an empty bucket fills.
    pub const fn time_to_fill(&self) -> Duration {
        Duration::from_nanos(self.full)
    }

    /// Nanoseconds in which an empty bucket fills.
    pub(super) const fn full(&self) -> u64 {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_quota_that_admits_nothing_or_cannot_be_kept_does_not_exist() {
        for (allowed, period, burst, expected) in [
            (0, SECOND, 1, Unusable::Nothing),
            (1, Duration::ZERO, 1, Unusable::Nothing),
            (1, SECOND, 0, Unusable::Nothing),
            (1_000_001, SECOND, 1, Unusable::TooFast),
            (u32::MAX, SECOND, u32::MAX, Unusable::TooFast),
            (1, LONGEST + SECOND, 1, Unusable::TooSlow),
            (1, Duration::MAX, 1, Unusable::TooSlow),
            (1, LONGEST, 2, Unusable::TooSlow),
            (1, LONGEST, u32::MAX, Unusable::TooSlow),
        ] {
            assert_eq!(
                Quota::new(allowed, period, burst),
                Err(expected),
                "{allowed} per {period:?}, {burst}"
            );
        }
    }

    #[test]
    fn the_largest_and_the_smallest_quota_exist_and_never_admit_more_than_is_allowed() {
        for (allowed, period, burst) in [
            (1_000_000, SECOND, 1_000_000),
            (1, LONGEST, 1),
            (7, LONGEST, 7),
            (u32::MAX, LONGEST, u32::MAX),
            (3, SECOND, 1),
        ] {
            let quota = Quota::new(allowed, period, burst).unwrap();
            assert!(u128::from(quota.interval()) * u128::from(allowed) >= period.as_nanos(), "{quota:?}");
        }
    }
}
