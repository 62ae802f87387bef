//! The circuit breaker of an upstream (`upstreams.NAME.breaker`). Pure: the caller passes the time and locks.
//!
//! It counts the requests, not the attempts: a request that succeeded when it was repeated shows that the upstream
//! works. While it is open, no request reaches the upstream; after `open_for` one at a time does (half-open), and its
//! result closes the breaker or opens it again.

use std::time::{Duration, Instant};

use super::attempt_window::{AttemptOutcome, AttemptWindow};

/// The settings of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// The share of failures in `window` that opens it, in percent.
    pub failure_ratio: u32,
    /// The time over which the share is counted.
    pub window: Duration,
    /// How many requests of `window` the share needs.
    pub min_requests: u32,
    /// How long it stays open before it lets a request through.
    pub open_for: Duration,
}

/// Retry-After while another request is on trial.
const TRIAL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The state of the breaker of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct Breaker {
    phase: BreakerPhase,
    window: AttemptWindow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerPhase {
    Closed,
    /// Half-open from `until` on.
    Open {
        until: Instant,
        trial: bool,
    },
}

/// The phase for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// Every request is let through.
    Closed,
    /// No request is let through.
    Open,
    /// One request at a time is let through.
    HalfOpen,
}

impl BreakerState {
    /// The name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
        }
    }
}

/// The decision for a new request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Let it through; call [`Breaker::record`].
    Closed,
    /// Let it through as the trial; call [`Breaker::end_trial`].
    Trial,
    /// Refuse it.
    Refused {
        /// When a request may be let through.
        retry_after: Duration,
    },
}

/// What a recorded outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// The breaker is open now.
    Opened,
    /// The breaker is closed now.
    Closed,
}

impl Breaker {
    /// A closed breaker.
    pub(crate) fn new(settings: &BreakerSettings, now: Instant) -> Self {
        Breaker { phase: BreakerPhase::Closed, window: AttemptWindow::new(settings.window, now) }
    }

    /// The phase at this time.
    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.phase {
            BreakerPhase::Closed => BreakerState::Closed,
            BreakerPhase::Open { until, .. } if now < until => BreakerState::Open,
            BreakerPhase::Open { .. } => BreakerState::HalfOpen,
        }
    }

    /// Decides for a new request.
    pub(crate) fn admit(&mut self, now: Instant) -> Pass {
        match &mut self.phase {
            BreakerPhase::Closed => Pass::Closed,
            BreakerPhase::Open { until, .. } if now < *until => {
                Pass::Refused { retry_after: until.saturating_duration_since(now) }
            }
            BreakerPhase::Open { trial: true, .. } => Pass::Refused { retry_after: TRIAL_RETRY_AFTER },
            BreakerPhase::Open { trial, .. } => {
                *trial = true;
                Pass::Trial
            }
        }
    }

    /// Records the outcome of a request that was no trial. One that was admitted before the breaker opened has no
    /// effect.
    pub(crate) fn record(
        &mut self,
        outcome: AttemptOutcome,
        settings: &BreakerSettings,
        now: Instant,
    ) -> Change {
        if self.phase != BreakerPhase::Closed {
            return Change::None;
        }
        let counts = self.window.record(outcome, now);
        if outcome == AttemptOutcome::Failure && counts.reach(settings.failure_ratio, settings.min_requests) {
            return self.open(settings, now);
        }
        Change::None
    }

    /// Ends the trial; `None` is a trial without a result, which the next request repeats.
    pub(crate) fn end_trial(
        &mut self,
        outcome: Option<AttemptOutcome>,
        settings: &BreakerSettings,
        now: Instant,
    ) -> Change {
        let BreakerPhase::Open { trial: trial @ true, .. } = &mut self.phase else { return Change::None };
        match outcome {
            None => {
                *trial = false;
                Change::None
            }
            Some(AttemptOutcome::Success) => {
                self.phase = BreakerPhase::Closed;
                Change::Closed
            }
            Some(AttemptOutcome::Failure) => self.open(settings, now),
        }
    }

    fn open(&mut self, settings: &BreakerSettings, now: Instant) -> Change {
        self.phase = BreakerPhase::Open { until: now + settings.open_for, trial: false };
        self.window.clear();
        Change::Opened
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
