//! The breaker of an upstream as requests share it: one short lock per request, and a guard that ends a trial.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::attempt_window::AttemptOutcome;
use super::breaker::{Breaker, BreakerSettings, BreakerState, Change, Pass};

/// The breaker of one upstream.
#[derive(Debug)]
pub(crate) struct SharedBreaker {
    settings: BreakerSettings,
    breaker: Mutex<Breaker>,
}

/// A request that the breaker let through. Without an outcome, nothing is recorded.
#[derive(Debug)]
pub(crate) struct BreakerPass {
    breaker: Arc<SharedBreaker>,
    is_trial: bool,
}

impl SharedBreaker {
    /// A closed breaker.
    pub(crate) fn new(settings: BreakerSettings, now: Instant) -> Self {
        SharedBreaker { breaker: Mutex::new(Breaker::new(&settings, now)), settings }
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &BreakerSettings {
        &self.settings
    }

    /// The phase at this time.
    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        self.breaker.lock().state(now)
    }

    /// Lets a request through.
    ///
    /// # Errors
    /// It is refused; the time until one may be let through.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant) -> Result<BreakerPass, Duration> {
        let is_trial = match self.breaker.lock().admit(now) {
            Pass::Closed => false,
            Pass::Trial => true,
            Pass::Refused { retry_after } => return Err(retry_after),
        };
        Ok(BreakerPass { breaker: Arc::clone(self), is_trial })
    }
}

impl BreakerPass {
    /// Whether the request decides whether a half-open breaker closes.
    pub(crate) const fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Ends the trial before the request ends, which is then recorded like any other. Returns what it changed.
    pub(crate) fn end_trial(&mut self, outcome: AttemptOutcome, now: Instant) -> Change {
        if !std::mem::take(&mut self.is_trial) {
            return Change::None;
        }
        self.breaker.breaker.lock().end_trial(Some(outcome), &self.breaker.settings, now)
    }

    /// Records the outcome of the request. Returns what it changed.
    pub(crate) fn record(mut self, outcome: AttemptOutcome, now: Instant) -> Change {
        let settings = &self.breaker.settings;
        let mut breaker = self.breaker.breaker.lock();
        if std::mem::take(&mut self.is_trial) {
            breaker.end_trial(Some(outcome), settings, now)
        } else {
            breaker.record(outcome, settings, now)
        }
    }
}

impl Drop for BreakerPass {
    fn drop(&mut self) {
        if self.is_trial {
            self.breaker.breaker.lock().end_trial(None, &self.breaker.settings, Instant::now());
        }
    }
}
