//! `Retry-After` while a server is unhealthy, on virtual time.

use super::*;
use crate::upstream::balance::mix;
use crate::upstream::health::HealthCheck;

fn settings() -> HealthSettings {
    HealthSettings {
        check: HealthCheck::Connect,
        every: Duration::from_secs(5),
        timeout: Duration::from_secs(1),
        fall: 2,
        rise: 3,
    }
}

fn state(now: Instant) -> EndpointState {
    EndpointState::new(&EjectionSettings::default(), now)
}

fn check(state: &EndpointState, result: CheckResult, (started, ended): (Instant, Instant), next: Instant) {
    state.record_check(FinishedCheck { result, started, ended }, &settings(), |_| next);
}

#[test]
fn check_in_progress_may_fail_so_that_the_next_one_counts() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let state = state(start);
    for _ in 0..2 {
        check(&state, CheckResult::Failed, (start, start), start + second * 5);
    }
    assert_eq!(state.view(start + second).wait, second * 4 + Health::RISE_TIME);
    // It hangs. The server recovers meanwhile, but this check still fails.
    let at = start + second * 5;
    state.begin_check(at + second * 5);
    let later = at + second / 2;
    assert_eq!(state.view(later).wait, second * 9 / 2 + Health::RISE_TIME);
    check(&state, CheckResult::Failed, (at, at + second), at + second * 5);
    assert_eq!(state.view(at + second).wait, second * 4 + Health::RISE_TIME);
}

#[test]
fn slow_checks_are_part_of_the_wait() {
    let (start, slow) = (Instant::now(), Duration::from_millis(800));
    let state = state(start);
    check(&state, CheckResult::Passed, (start, start + slow), start);
    for _ in 0..2 {
        check(&state, CheckResult::Failed, (start, start), start);
    }
    assert_eq!(state.view(start).wait, Health::RISE_TIME + slow * 3);
}

/// The checks of one server on virtual time. It hangs while it is down.
struct Checks {
    state: EndpointState,
    due: Instant,
    /// When the check in progress began and will end, and whether it passes unless the server hangs meanwhile.
    running: Option<(Instant, Instant, bool)>,
    random: u64,
}

impl Checks {
    fn step(&mut self, is_up: bool, now: Instant) {
        let settings = settings();
        match self.running {
            None if now >= self.due => {
                self.state.begin_check(now + settings.every);
                let takes = if is_up { Duration::from_millis(150) } else { settings.timeout };
                self.running = Some((now, now + takes, is_up));
            }
            Some((started, ends, passes)) if now >= ends => {
                self.running = None;
                self.random = mix(self.random);
                let random = self.random;
                let result = if passes && is_up { CheckResult::Passed } else { CheckResult::Failed };
                let finished = FinishedCheck { result, started, ended: now };
                let due = &mut self.due;
                self.state.record_check(finished, &settings, |health| {
                    *due = (started + health.next_check(&settings, random)).max(now);
                    *due
                });
            }
            None | Some(_) => {}
        }
    }
}

/// 10^6 requests on virtual time to a server that hangs now and then. Whoever is refused while the server works, and
/// waits for `Retry-After`, which is rounded up to seconds, gets through.
#[test]
fn simulation_of_outages_every_client_that_waits_gets_through() {
    let start = Instant::now();
    let mut checks = Checks { state: state(start), due: start, running: None, random: 1 };
    let (mut is_up, mut changes_at, mut random) = (true, start + Duration::from_secs(60), 7);
    let mut promises: Vec<Instant> = Vec::new();
    let (mut kept, mut longest) = (0, Duration::ZERO);
    for step in 0..1_000_000_u64 {
        let now = start + Duration::from_millis(step * 10);
        if now >= changes_at {
            random = mix(random);
            (is_up, changes_at) = (!is_up, now + Duration::from_millis(8_000 + random % 20_000));
            // The server is down again before they return.
            promises.clear();
        }
        checks.step(is_up, now);
        let view = checks.state.view(now);
        promises.retain(|at| {
            let due = now >= *at;
            assert!(!due || view.health == ServerHealth::Healthy, "at step {step}");
            kept += u32::from(due);
            !due
        });
        if is_up && view.health == ServerHealth::Unhealthy {
            let seconds = view.wait.as_secs() + u64::from(view.wait.subsec_nanos() > 0);
            longest = longest.max(view.wait);
            promises.push(now + Duration::from_secs(seconds));
        }
    }
    assert!(kept > 50_000, "{kept}");
    assert!(longest <= settings().every + Duration::from_secs(1), "{longest:?}");
}
