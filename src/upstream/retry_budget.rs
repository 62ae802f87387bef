//! The retry budget of an upstream (`retry.budget`): retries are at most a share of the requests of the last 10 s, but
//! 10 in 10 s are always allowed. Without it, retries multiply the load on servers that fail because of load.
//!
//! Lock-free: one counter per second, of which the oldest is overwritten. The caller passes the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many seconds count.
const WINDOW: u64 = 10;
/// Retries in `WINDOW` seconds that are always allowed.
const FLOOR: u64 = 10;

/// The requests and retries of the last 10 s.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    started: Instant,
    requests: SecondCounters,
    retries: SecondCounters,
}

impl RetryBudget {
    /// An empty budget.
    pub(crate) fn new(now: Instant) -> Self {
        RetryBudget { started: now, requests: SecondCounters::default(), retries: SecondCounters::default() }
    }

    /// Counts a request.
    pub(crate) fn record_request(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Counts a retry, if the budget of `percent` allows it.
    pub(crate) fn try_retry(&self, percent: u32, now: Instant) -> bool {
        let second = self.second(now);
        let allowed = allowed(self.requests.sum(second), percent);
        // Count first, so that concurrent retries cannot exceed the budget together.
        self.retries.add(second);
        if self.retries.sum(second) <= allowed {
            return true;
        }
        self.retries.subtract(second);
        false
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }
}

/// The retries that this number of requests allows.
fn allowed(requests: u64, percent: u32) -> u64 {
    (requests.saturating_mul(u64::from(percent)) / 100).max(FLOOR)
}

/// One counter per second. Each packs the second (upper half) and its count (lower half).
#[derive(Debug, Default)]
struct SecondCounters([AtomicU64; WINDOW as usize]);

impl SecondCounters {
    fn add(&self, second: u64) {
        self.update(second, |count| count.saturating_add(1).min(u64::from(u32::MAX)));
    }

    fn subtract(&self, second: u64) {
        self.update(second, |count| count.saturating_sub(1));
    }

    fn update(&self, second: u64, change: impl Fn(u64) -> u64) {
        let Some(counter) = self.0.get((second % WINDOW) as usize) else { return };
        // The closure always returns a value, so this cannot fail.
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
            let (stored, count) = (packed >> 32, packed & u64::from(u32::MAX));
            // A counter of a later second stays: this thread read the clock long ago.
            let count = if stored < second { change(0) } else { change(count) };
            Some((stored.max(second) << 32) | count)
        });
    }

    fn sum(&self, second: u64) -> u64 {
        let recent = |packed: u64| (packed >> 32) + WINDOW > second;
        let counts = self.0.iter().map(|counter| counter.load(Ordering::Relaxed));
        counts.filter(|packed| recent(*packed)).map(|packed| packed & u64::from(u32::MAX)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ten_retries_in_ten_seconds_are_always_allowed() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let allowed = |now| (0..50).filter(|_| budget.try_retry(20, now)).count();
        assert_eq!(allowed(start), 10);
        assert_eq!(allowed(start + Duration::from_secs(WINDOW) - Duration::from_secs(1)), 0);
        assert_eq!(allowed(start + Duration::from_secs(WINDOW)), 10);
    }

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        (0..1_000).for_each(|_| budget.record_request(now));
        assert_eq!((0..1_000).filter(|_| budget.try_retry(20, now)).count(), 200);
        assert_eq!((0..1_000).filter(|_| budget.try_retry(0, now)).count(), 0);
    }

    proptest! {
        /// In every 10 s, counted by whole seconds, retries stay within the floor or the share.
        #[test]
        fn retries_never_exceed_the_budget(
            steps in prop::collection::vec((0_u64..1_500, any::<bool>()), 1..500), percent in 0_u32..=100,
        ) {
            let start = Instant::now();
            let budget = RetryBudget::new(start);
            let (mut now, mut requests, mut retries) = (Duration::ZERO, Vec::new(), Vec::new());
            for (millis, retry) in steps {
                now += Duration::from_millis(millis);
                if !retry {
                    budget.record_request(start + now);
                    requests.push(now.as_secs());
                } else if budget.try_retry(percent, start + now) {
                    retries.push(now.as_secs());
                }
                let recent = |all: &[u64]| {
                    all.iter().filter(|second| **second + WINDOW > now.as_secs()).count() as u64
                };
                // Requests may have left the window since the retries were allowed.
                let all_requests = requests.len() as u64;
                prop_assert!(recent(&retries) <= allowed(all_requests, percent));
                prop_assert!(recent(&requests) == budget.requests.sum(now.as_secs()));
            }
        }
    }

    /// 10^6 requests on virtual time, all of which fail: the upstream sees at most 1.2 times the offered load.
    #[test]
    fn simulation_of_an_outage_bounds_the_load() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let mut retries = 0;
        for step in 0..1_000_000_u64 {
            let now = start + Duration::from_millis(step * 2);
            budget.record_request(now);
            retries += u32::from(budget.try_retry(20, now));
        }
        assert!((150_000..=200_000).contains(&retries), "{retries}");
    }
}
