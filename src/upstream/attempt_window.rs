//! Successes and failures of the last `window` of time, for the ratios of ejection and breaker. Pure: the caller passes
//! the time.
//!
//! The window consists of ten slices. The oldest slice is dropped as a whole, so the window is up to a tenth shorter
//! than configured, never longer.

use std::time::{Duration, Instant};

/// Number of slices of a window.
const SLICES: u64 = 10;

/// What an attempt or a request says about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// A response without a fault, whose status is no failure.
    Success,
    /// A fault of the upstream, or a status in `ejection.failure_status`.
    Failure,
}

/// Counts of the last `window`.
#[derive(Clone, Debug)]
pub(crate) struct AttemptWindow {
    started: Instant,
    slice: Duration,
    /// The slice of the last record, counted from `started`.
    current: u64,
    slices: [Counts; SLICES as usize],
    total: Counts,
}

/// Numbers of outcomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Successes.
    pub successes: u32,
    /// Failures.
    pub failures: u32,
}

impl Counts {
    /// Whether there are at least `min_requests` outcomes, and at least `percent` of them are failures.
    pub(crate) fn reach(self, percent: u32, min_requests: u32) -> bool {
        let total = u64::from(self.successes) + u64::from(self.failures);
        total >= u64::from(min_requests).max(1)
            && u64::from(self.failures) * 100 >= total * u64::from(percent)
    }
}

impl AttemptWindow {
    /// An empty window of this length.
    pub(crate) fn new(window: Duration, now: Instant) -> Self {
        let slice = (window / SLICES as u32).max(Duration::from_millis(1));
        AttemptWindow {
            started: now,
            slice,
            current: 0,
            slices: [Counts::default(); SLICES as usize],
            total: Counts::default(),
        }
    }

    /// Counts one outcome and returns the counts of the window.
    pub(crate) fn record(&mut self, outcome: AttemptOutcome, now: Instant) -> Counts {
        self.advance(now);
        if let Some(slice) = self.slices.get_mut((self.current % SLICES) as usize) {
            for counts in [slice, &mut self.total] {
                match outcome {
                    AttemptOutcome::Success => counts.successes = counts.successes.saturating_add(1),
                    AttemptOutcome::Failure => counts.failures = counts.failures.saturating_add(1),
                }
            }
        }
        self.total
    }

    /// Forgets all outcomes.
    pub(crate) fn clear(&mut self) {
        self.slices = [Counts::default(); SLICES as usize];
        self.total = Counts::default();
    }

    fn advance(&mut self, now: Instant) {
        let nanos = now.saturating_duration_since(self.started).as_nanos() / self.slice.as_nanos().max(1);
        let slice = u64::try_from(nanos).unwrap_or(u64::MAX);
        // A result may be recorded with an earlier time than the previous one: it counts in the current slice.
        let passed = slice.saturating_sub(self.current);
        for offset in 1..=passed.min(SLICES) {
            if let Some(old) = self.slices.get_mut(((self.current + offset) % SLICES) as usize) {
                self.total.successes = self.total.successes.saturating_sub(old.successes);
                self.total.failures = self.total.failures.saturating_sub(old.failures);
                *old = Counts::default();
            }
        }
        self.current = self.current.max(slice);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ratio_is_reached_at_the_percentage_and_the_minimum() {
        let counts = |successes, failures| Counts { successes, failures };
        assert!(counts(10, 10).reach(50, 20));
        assert!(!counts(11, 10).reach(50, 20));
        assert!(!counts(0, 19).reach(50, 20));
        assert!(!counts(0, 0).reach(50, 0));
    }

    proptest! {
        /// Never counts an outcome older than the window, always those of its last nine tenths.
        #[test]
        fn window_agrees_with_a_list_of_all_outcomes(
            steps in prop::collection::vec((0_u64..3_000, any::<bool>()), 1..200),
        ) {
            let (start, length) = (Instant::now(), Duration::from_secs(10));
            let mut window = AttemptWindow::new(length, start);
            let (mut now, mut all) = (start, Vec::new());
            for (millis, failed) in steps {
                now += Duration::from_millis(millis);
                let outcome = if failed { AttemptOutcome::Failure } else { AttemptOutcome::Success };
                all.push((now, outcome));
                let counts = window.record(outcome, now);
                let within = |age: Duration| {
                    let recent = all.iter().filter(|(at, _)| now - *at <= age);
                    recent.filter(|(_, outcome)| *outcome == AttemptOutcome::Failure).count() as u32
                };
                prop_assert!(counts.failures <= within(length));
                prop_assert!(counts.failures >= within(length / 10 * 9 - Duration::from_nanos(1)));
            }
        }
    }
}
