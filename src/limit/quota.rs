//! Quotas: a number of requests per period, and a burst.
//!
//! The constructor guarantees that a [`Quota`] admits requests, that its arithmetic cannot overflow, and that rounding
//! stays below 0.1 %. The configuration parses the text form (`100 per 1m`).

use std::time::Duration;

/// A token bucket: `burst` is its capacity, `allowed` per `period` its refill rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    allowed: u32,
    period: Duration,
    burst: u32,
    interval_nanos: u64,
    fill_nanos: u64,
}

/// Why a quota is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// A count or the period is zero, so that nothing would be admitted.
    Zero,
    /// More than 1,000,000 requests/s: rounding to nanoseconds would be noticeable.
    TooFast,
    /// An empty bucket would take longer than [`MAX_FILL_TIME`] to fill.
    TooSlow,
}

/// The maximum time to fill an empty bucket. A longer one is probably a mistake.
pub(crate) const MAX_FILL_TIME: Duration = Duration::from_secs(365 * 86_400);

/// The minimum interval between two requests at the allowed rate, in nanoseconds.
const MIN_INTERVAL_NANOS: u64 = 1_000;

impl Quota {
    /// Creates a quota of `allowed` requests per `period`, `burst` of them at once from idle.
    ///
    /// # Errors
    /// See [`QuotaError`].
    pub fn new(allowed: u32, period: Duration, burst: u32) -> Result<Self, QuotaError> {
        if allowed == 0 || burst == 0 || period.is_zero() {
            return Err(QuotaError::Zero);
        }
        let max_nanos = MAX_FILL_TIME.as_nanos() as u64;
        let period_nanos = u64::try_from(period.as_nanos())
            .ok()
            .filter(|nanos| *nanos <= max_nanos)
            .ok_or(QuotaError::TooSlow)?;
        // Rounded up, so that the rate is never exceeded.
        let interval_nanos = period_nanos.div_ceil(u64::from(allowed));
        if period_nanos / u64::from(allowed) < MIN_INTERVAL_NANOS {
            return Err(QuotaError::TooFast);
        }
        // The interval may be rounded up; the tolerance accepts `burst == allowed` for the maximum period.
        let fill_nanos = interval_nanos
            .checked_mul(u64::from(burst))
            .filter(|full| *full <= max_nanos + max_nanos / 1_000);
        Ok(Quota {
            allowed,
            period,
            burst,
            interval_nanos,
            fill_nanos: fill_nanos.ok_or(QuotaError::TooSlow)?,
        })
    }

    /// Requests allowed per [`Quota::period`].
    pub const fn allowed(&self) -> u32 {
        self.allowed
    }

    /// The time in which [`Quota::allowed`] requests are replenished.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// The period in nanoseconds; never zero.
    pub(super) const fn period_nanos(&self) -> u64 {
        // Fits: the constructor limits it to 365 days.
        self.period.as_nanos() as u64
    }

    /// Requests admitted at once from idle.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// Nanoseconds in which one request is replenished.
    pub(super) const fn interval_nanos(&self) -> u64 {
        self.interval_nanos
    }

    /// The time in which an empty bucket fills.
    pub(crate) const fn fill_time(&self) -> Duration {
        Duration::from_nanos(self.fill_nanos)
    }

    /// Nanoseconds in which an empty bucket fills.
    pub(super) const fn fill_nanos(&self) -> u64 {
        self.fill_nanos
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn invalid_quotas_are_rejected() {
        for (allowed, period, burst, expected) in [
            (0, SECOND, 1, QuotaError::Zero),
            (1, Duration::ZERO, 1, QuotaError::Zero),
            (1, SECOND, 0, QuotaError::Zero),
            (1_000_001, SECOND, 1, QuotaError::TooFast),
            (u32::MAX, SECOND, u32::MAX, QuotaError::TooFast),
            (1, MAX_FILL_TIME + SECOND, 1, QuotaError::TooSlow),
            (1, Duration::MAX, 1, QuotaError::TooSlow),
            (1, MAX_FILL_TIME, 2, QuotaError::TooSlow),
            (1, MAX_FILL_TIME, u32::MAX, QuotaError::TooSlow),
        ] {
            assert_eq!(
                Quota::new(allowed, period, burst),
                Err(expected),
                "{allowed} per {period:?}, {burst}"
            );
        }
    }

    #[test]
    fn extreme_quotas_never_exceed_the_allowed_rate() {
        for (allowed, period, burst) in [
            (1_000_000, SECOND, 1_000_000),
            (1, MAX_FILL_TIME, 1),
            (7, MAX_FILL_TIME, 7),
            (u32::MAX, MAX_FILL_TIME, u32::MAX),
            (3, SECOND, 1),
        ] {
            let quota = Quota::new(allowed, period, burst).unwrap();
            assert!(
                u128::from(quota.interval_nanos()) * u128::from(allowed) >= period.as_nanos(),
                "{quota:?}"
            );
        }
    }
}
