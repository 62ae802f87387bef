//! Passive ejection: whether an address gets requests, judged by the requests that it got. Pure: the caller passes the
//! time and locks.
//!
//! ```text
//! admitted --failures--> ejected --`for` has passed--> recovering --trial succeeded--> admitted
//!                           ^                              |
//!                           +-------- trial failed --------+    ejected for twice as long, at most ten times `for`
//! ```
//!
//! `recovering` begins by itself, so no timer is needed: every function takes the current time.

use std::time::{Duration, Instant};

use super::attempt_window::{AttemptOutcome, AttemptWindow};

/// The settings of `upstreams.NAME.ejection`. Ratios are percentages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EjectionSettings {
    /// Consecutive failures that eject.
    pub consecutive: u32,
    /// The share of failures in `window` that ejects, in percent.
    pub failure_ratio: u32,
    /// The time over which the share is counted.
    pub window: Duration,
    /// How many requests of `window` the share needs.
    pub min_requests: u32,
    /// How long the first ejection lasts.
    pub duration: Duration,
    /// How much of the upstream may be ejected, in percent.
    pub max_ejected: u32,
}

impl Default for EjectionSettings {
    fn default() -> Self {
        EjectionSettings {
            consecutive: 5,
            failure_ratio: 50,
            window: Duration::from_secs(10),
            min_requests: 20,
            duration: Duration::from_secs(5),
            max_ejected: 50,
        }
    }
}

impl EjectionSettings {
    /// How many of `total` addresses may be ejected at a time: `max_ejected`, rounded down, but one of two or more.
    pub(crate) fn limit(&self, total: usize) -> usize {
        let share = total.saturating_mul(self.max_ejected.min(100) as usize) / 100;
        if total >= 2 { share.max(1) } else { share }
    }
}

/// The longest ejection, in units of the configured duration.
const MAX_REPETITION: u32 = 10;

/// The state of one address.
#[derive(Clone, Debug)]
pub(crate) struct Ejection {
    phase: EjectionPhase,
    consecutive: u32,
    window: AttemptWindow,
    /// The length of the last ejection, in units of the configured duration; 0 before the first.
    repetition: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EjectionPhase {
    Admitted {
        since: Instant,
    },
    /// `recovering` from `until` on. `trial` is whether a trial is in progress.
    Ejected {
        until: Instant,
        trial: bool,
    },
}

/// Whether an address gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Any request.
    Admitted,
    /// One request at a time, as a trial. `trial_in_progress` is whether there is one already.
    Recovering {
        /// Another request is on trial.
        trial_in_progress: bool,
    },
    /// No request before `until`.
    Ejected {
        /// When the address recovers.
        until: Instant,
    },
}

/// What a recorded outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// The address is ejected now.
    Ejected {
        /// For how long.
        duration: Duration,
    },
    /// The address is admitted again.
    Readmitted,
}

impl Ejection {
    /// An admitted address without history.
    pub(crate) fn new(settings: &EjectionSettings, now: Instant) -> Self {
        Ejection {
            phase: EjectionPhase::Admitted { since: now },
            consecutive: 0,
            window: AttemptWindow::new(settings.window, now),
            repetition: 0,
        }
    }

    /// Whether the address gets requests.
    pub(crate) fn admission(&self, now: Instant) -> Admission {
        match self.phase {
            EjectionPhase::Admitted { .. } => Admission::Admitted,
            EjectionPhase::Ejected { until, .. } if now < until => Admission::Ejected { until },
            EjectionPhase::Ejected { trial, .. } => Admission::Recovering { trial_in_progress: trial },
        }
    }

    /// Lets an ejected address recover now, because its health checks pass again.
    pub(crate) fn recover(&mut self, now: Instant) {
        if let EjectionPhase::Ejected { until, .. } = &mut self.phase {
            *until = now.min(*until);
        }
    }

    /// Admits an ejected address again without a trial, because too many are ejected.
    pub(crate) fn readmit(&mut self, now: Instant) -> Change {
        match self.phase {
            EjectionPhase::Admitted { .. } => Change::None,
            EjectionPhase::Ejected { .. } => {
                self.phase = EjectionPhase::Admitted { since: now };
                Change::Readmitted
            }
        }
    }

    /// Starts the trial of a recovering address. Returns whether this request is it; call [`Ejection::end_trial`].
    pub(crate) fn begin_trial(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            EjectionPhase::Ejected { until, trial } if now >= *until && !*trial => {
                *trial = true;
                true
            }
            EjectionPhase::Ejected { .. } | EjectionPhase::Admitted { .. } => false,
        }
    }

    /// Ends the trial. `None` is a trial without a result, for example because the client disconnected: the next
    /// request is the next trial.
    pub(crate) fn end_trial(
        &mut self,
        outcome: Option<AttemptOutcome>,
        settings: &EjectionSettings,
        now: Instant,
    ) -> Change {
        let EjectionPhase::Ejected { trial: trial @ true, .. } = &mut self.phase else { return Change::None };
        match outcome {
            None => {
                *trial = false;
                Change::None
            }
            Some(AttemptOutcome::Success) => {
                self.phase = EjectionPhase::Admitted { since: now };
                Change::Readmitted
            }
            Some(AttemptOutcome::Failure) => self.eject(settings, now),
        }
    }

    /// Records the outcome of a request that was no trial. `may_eject` is asked only if the outcome ejects; it may
    /// refuse, because too many addresses are ejected.
    pub(crate) fn record(
        &mut self,
        outcome: AttemptOutcome,
        settings: &EjectionSettings,
        now: Instant,
        may_eject: impl FnOnce() -> bool,
    ) -> Change {
        let EjectionPhase::Admitted { since } = self.phase else {
            // A request that began before the ejection.
            return Change::None;
        };
        let counts = self.window.record(outcome, now);
        self.consecutive = match outcome {
            AttemptOutcome::Success => 0,
            AttemptOutcome::Failure => self.consecutive.saturating_add(1),
        };
        let ejects = outcome == AttemptOutcome::Failure
            && (self.consecutive >= settings.consecutive
                || counts.reach(settings.failure_ratio, settings.min_requests));
        if !ejects || !may_eject() {
            return Change::None;
        }
        // An address that worked for longer than the longest ejection starts again with the shortest.
        if now.saturating_duration_since(since) > settings.duration * MAX_REPETITION {
            self.repetition = 0;
        }
        self.eject(settings, now)
    }

    fn eject(&mut self, settings: &EjectionSettings, now: Instant) -> Change {
        self.repetition = (self.repetition * 2).clamp(1, MAX_REPETITION);
        let duration = settings.duration * self.repetition;
        self.phase = EjectionPhase::Ejected { until: now + duration, trial: false };
        self.consecutive = 0;
        self.window.clear();
        Change::Ejected { duration }
    }
}

#[cfg(test)]
#[path = "ejection_tests.rs"]
mod tests;
