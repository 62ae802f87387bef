//! Single transitions, properties, and a simulation of clients that obey Retry-After.

use proptest::prelude::*;

use super::*;

fn settings() -> BreakerSettings {
    BreakerSettings {
        failure_ratio: 50,
        window: Duration::from_secs(10),
        min_requests: 20,
        open_for: Duration::from_secs(5),
    }
}

fn opened(now: Instant) -> Breaker {
    let mut breaker = Breaker::new(&settings(), now);
    let record = |_| breaker.record(AttemptOutcome::Failure, &settings(), now);
    assert_eq!((0..20).map(record).last(), Some(Change::Opened));
    breaker
}

#[test]
fn open_breaker_refuses_until_the_trial_and_reports_the_time_left() {
    let start = Instant::now();
    let mut breaker = opened(start);
    let almost = start + Duration::from_millis(4_999);
    assert_eq!(breaker.admit(almost), Pass::Refused { retry_after: Duration::from_millis(1) });
    assert_eq!(breaker.state(almost), BreakerState::Open);
    let half_open = start + Duration::from_secs(5);
    assert_eq!(breaker.state(half_open), BreakerState::HalfOpen);
    assert_eq!(breaker.admit(half_open), Pass::Trial);
    assert_eq!(breaker.admit(half_open), Pass::Refused { retry_after: Duration::from_secs(1) });
    assert_eq!(breaker.end_trial(Some(AttemptOutcome::Failure), &settings(), half_open), Change::Opened);
    let again = half_open + Duration::from_secs(5);
    assert_eq!(breaker.admit(again), Pass::Trial);
    assert_eq!(breaker.end_trial(None, &settings(), again), Change::None);
    assert_eq!(breaker.admit(again), Pass::Trial, "a trial without a result is repeated");
    assert_eq!(breaker.end_trial(Some(AttemptOutcome::Success), &settings(), again), Change::Closed);
    assert_eq!(breaker.admit(again), Pass::Closed);
    assert_eq!(
        breaker.record(AttemptOutcome::Failure, &settings(), again),
        Change::None,
        "counts start anew"
    );
}

#[test]
fn late_results_do_not_change_an_open_breaker() {
    let start = Instant::now();
    let mut breaker = opened(start);
    assert_eq!(breaker.record(AttemptOutcome::Success, &settings(), start), Change::None);
    assert_eq!(breaker.end_trial(Some(AttemptOutcome::Success), &settings(), start), Change::None);
    assert_eq!(breaker.state(start), BreakerState::Open);
}

proptest! {
    /// It opens only with enough failures, and lets at most one request through until a trial has succeeded.
    #[test]
    fn at_most_one_trial_is_in_progress(
        steps in prop::collection::vec((0_u64..2_000, any::<bool>(), 0_u8..4), 1..400),
    ) {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(&settings(), now);
        let (mut trials, mut failures) = (0, 0);
        for (millis, success, action) in steps {
            now += Duration::from_millis(millis);
            let outcome = if success { AttemptOutcome::Success } else { AttemptOutcome::Failure };
            match (action, trials) {
                (0, 1) => {
                    breaker.end_trial(Some(outcome), &settings(), now);
                    trials = 0;
                }
                (1, 1) => {
                    breaker.end_trial(None, &settings(), now);
                    trials = 0;
                }
                _ => match breaker.admit(now) {
                    Pass::Trial => trials += 1,
                    Pass::Closed => {
                        failures += usize::from(!success);
                        let change = breaker.record(outcome, &settings(), now);
                        prop_assert!(change != Change::Opened || failures >= 10);
                    }
                    Pass::Refused { retry_after } => {
                        prop_assert!(retry_after > Duration::ZERO && retry_after <= settings().open_for);
                    }
                },
            }
            prop_assert!(trials <= 1);
        }
    }
}

/// 10^6 requests on virtual time; the upstream is down in every third minute. The breaker keeps almost all requests
/// from a broken upstream, and every client that waited for Retry-After gets through once the upstream works.
#[test]
fn simulation_of_outages_keeps_load_away_and_recovers_at_once() {
    let start = Instant::now();
    let mut breaker = Breaker::new(&settings(), start);
    let (mut sent_while_down, mut refused_while_up) = (0, 0);
    for step in 0..1_000_000_u64 {
        let since = Duration::from_millis(step * 10);
        let now = start + since;
        let in_cycle = since.as_secs() % 180;
        let down = in_cycle >= 120;
        let outcome = if down { AttemptOutcome::Failure } else { AttemptOutcome::Success };
        match breaker.admit(now) {
            Pass::Closed => {
                sent_while_down += u32::from(down);
                breaker.record(outcome, &settings(), now);
            }
            Pass::Trial => {
                sent_while_down += u32::from(down);
                breaker.end_trial(Some(outcome), &settings(), now);
            }
            Pass::Refused { retry_after } => {
                refused_while_up += u32::from(!down);
                assert!(retry_after <= Duration::from_secs(5));
                // The first requests after the outage may be refused, for at most `open_for`.
                assert!(down || in_cycle < 5, "{in_cycle}");
            }
        }
    }
    // 56 outages of 60 s with 100 requests a second: each lets through the failures that open it and 12 trials.
    assert!(sent_while_down < 56 * 1_050, "{sent_while_down} of 336000");
    assert!(refused_while_up < 56 * 501, "{refused_while_up}");
}
