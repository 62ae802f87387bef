//! Active health checks (`upstreams.NAME.health`): when to check, and when results change the state. Pure; `server`
//! runs the checks.
//!
//! A server counts as healthy until `fall` checks in a row have failed. Once an unhealthy server has passed a check,
//! the remaining `rise - 1` follow quickly, so that it gets requests again within one interval and half a second.

use std::time::{Duration, Instant};

/// When and how servers are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// What is checked.
    pub check: HealthCheck,
    /// The interval, without jitter.
    pub every: Duration,
    /// The time limit of one check.
    pub timeout: Duration,
    /// Failed checks in a row after which a healthy server is unhealthy.
    pub fall: u32,
    /// Passed checks in a row after which an unhealthy server is healthy.
    pub rise: u32,
}

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// A connection is opened, with TLS if the server uses it.
    Connect,
    /// A GET request.
    Http {
        /// The request target.
        path: String,
        /// The status codes of a healthy server.
        expect: Vec<u16>,
    },
}

/// The interval is shorter by up to this share, in percent, so that gateways do not check at the same moment.
const JITTER: u64 = 10;

/// The state of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    healthy: bool,
    /// Results in a row that contradict `healthy`.
    contrary: u32,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// As expected.
    Passed,
    /// Anything else.
    Failed,
}

/// A check that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FinishedCheck {
    /// What it found.
    pub result: CheckResult,
    /// When it began.
    pub started: Instant,
    /// When it ended.
    pub ended: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Health { healthy: true, contrary: 0 }
    }
}

impl Health {
    /// Within this time, and that of the checks themselves, all further checks of a server run that has passed the
    /// first.
    pub(crate) const RISE_TIME: Duration = Duration::from_millis(500);

    /// Whether the address gets requests.
    pub(crate) const fn is_healthy(self) -> bool {
        self.healthy
    }

    /// Whether it has passed the last check, but not yet as many as needed.
    pub(crate) const fn is_rising(self) -> bool {
        !self.healthy && self.contrary > 0
    }

    /// The state after a check.
    #[must_use]
    pub(crate) const fn after(self, result: CheckResult, settings: &HealthSettings) -> Health {
        let passed = matches!(result, CheckResult::Passed);
        if passed == self.healthy {
            return Health { contrary: 0, ..self };
        }
        let contrary = self.contrary.saturating_add(1);
        let needed = if self.healthy { settings.fall } else { settings.rise };
        if contrary >= needed { Health { healthy: passed, contrary: 0 } } else { Health { contrary, ..self } }
    }

    /// The time from this check to the next; `random` is any number.
    pub(crate) fn next_check(self, settings: &HealthSettings, random: u64) -> Duration {
        if self.is_rising() {
            return (Health::RISE_TIME / settings.rise.max(2)).min(settings.every);
        }
        let shorter = settings.every.mul_f64((random % 1_000) as f64 / 1_000.0 * JITTER as f64 / 100.0);
        settings.every.saturating_sub(shorter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(fall: u32, rise: u32) -> HealthSettings {
        let (every, timeout) = (Duration::from_secs(5), Duration::from_secs(1));
        HealthSettings { check: HealthCheck::Connect, every, timeout, fall, rise }
    }

    #[test]
    fn server_falls_after_three_failures_and_rises_after_two_passes() {
        let settings = settings(3, 2);
        let states = [
            (CheckResult::Failed, true),
            (CheckResult::Failed, true),
            (CheckResult::Passed, true),
            (CheckResult::Failed, true),
            (CheckResult::Failed, true),
            (CheckResult::Failed, false),
            (CheckResult::Passed, false),
            (CheckResult::Failed, false),
            (CheckResult::Passed, false),
            (CheckResult::Passed, true),
        ];
        let mut health = Health::default();
        for (at, (result, healthy)) in states.into_iter().enumerate() {
            health = health.after(result, &settings);
            assert_eq!(health.is_healthy(), healthy, "after check {at}");
        }
    }

    proptest! {
        #[test]
        fn state_agrees_with_the_last_results(
            results in prop::collection::vec(any::<bool>(), 1..100), fall in 1_u32..5, rise in 1_u32..5,
        ) {
            let settings = settings(fall, rise);
            let mut health = Health::default();
            for (at, passed) in results.iter().enumerate() {
                let result = if *passed { CheckResult::Passed } else { CheckResult::Failed };
                health = health.after(result, &settings);
                let needed = if *passed { rise } else { fall } as usize;
                let uniform = results[(at + 1).saturating_sub(needed)..=at].iter().all(|one| one == passed);
                if uniform && at + 1 >= needed {
                    prop_assert_eq!(health.is_healthy(), *passed);
                }
            }
        }

        #[test]
        fn interval_is_jittered_and_recovery_is_prompt(random in any::<u64>(), rise in 1_u32..6) {
            let settings = settings(3, rise);
            let interval = Health::default().next_check(&settings, random);
            prop_assert!(interval <= settings.every && interval >= settings.every / 10 * 9);
            // An unhealthy server recovers right after a check.
            let mut health = Health { healthy: false, contrary: 0 };
            let mut waited = Duration::ZERO;
            while !health.is_healthy() {
                waited += health.next_check(&settings, random);
                health = health.after(CheckResult::Passed, &settings);
            }
            prop_assert!(waited <= settings.every + Health::RISE_TIME);
        }
    }
}
