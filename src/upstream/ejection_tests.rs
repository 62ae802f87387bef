//! Single transitions, properties, and a simulation of an upstream on virtual time.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn eject(ejection: &mut Ejection, now: Instant) -> Change {
    let settings = EjectionSettings::default();
    let record = |_| ejection.record(AttemptOutcome::Failure, &settings, now, || true);
    (0..5).map(record).last().unwrap()
}

#[test]
fn limit_rounds_down_but_allows_one_of_two() {
    let limit =
        |max_ejected, total| EjectionSettings { max_ejected, ..EjectionSettings::default() }.limit(total);
    let at_half: Vec<usize> = (0..6).map(|total| limit(50, total)).collect();
    assert_eq!(at_half, [0, 0, 1, 1, 2, 2]);
    assert_eq!((limit(100, 1), limit(10, 3), limit(0, 2)), (1, 1, 1));
}

#[test]
fn five_consecutive_failures_eject_and_a_success_between_them_does_not() {
    let (settings, now) = (EjectionSettings::default(), Instant::now());
    let mut ejection = Ejection::new(&settings, now);
    for outcome in [
        AttemptOutcome::Failure,
        AttemptOutcome::Failure,
        AttemptOutcome::Failure,
        AttemptOutcome::Failure,
        AttemptOutcome::Success,
    ] {
        assert_eq!(ejection.record(outcome, &settings, now, || true), Change::None);
    }
    assert_eq!(eject(&mut ejection, now), Change::Ejected { duration: 5 * SECOND });
    assert_eq!(ejection.admission(now), Admission::Ejected { until: now + 5 * SECOND });
}

#[test]
fn recovery_ends_the_wait_but_not_the_trial() {
    let (settings, now) = (EjectionSettings::default(), Instant::now());
    let mut ejection = Ejection::new(&settings, now);
    ejection.recover(now);
    assert_eq!(ejection.admission(now), Admission::Admitted);
    eject(&mut ejection, now);
    ejection.recover(now + SECOND);
    assert_eq!(ejection.admission(now), Admission::Ejected { until: now + SECOND });
    assert_eq!(ejection.admission(now + SECOND), Admission::Recovering { trial_in_progress: false });
    assert!(ejection.begin_trial(now + SECOND));
    assert_eq!(
        ejection.end_trial(Some(AttemptOutcome::Failure), &settings, now + SECOND),
        Change::Ejected { duration: 10 * SECOND }
    );
}

#[test]
fn failed_trials_double_the_ejection_up_to_ten_times() {
    let (settings, mut now) = (EjectionSettings::default(), Instant::now());
    let mut ejection = Ejection::new(&settings, now);
    eject(&mut ejection, now);
    let mut durations = Vec::new();
    for _ in 0..5 {
        let Admission::Ejected { until } = ejection.admission(now) else { panic!("{ejection:?}") };
        now = until;
        assert!(ejection.begin_trial(now) && !ejection.begin_trial(now), "one trial at a time");
        match ejection.end_trial(Some(AttemptOutcome::Failure), &settings, now) {
            Change::Ejected { duration } => durations.push(duration.as_secs()),
            change => panic!("{change:?}"),
        }
    }
    assert_eq!(durations, [10, 20, 40, 50, 50]);
    now += 50 * SECOND;
    assert!(ejection.begin_trial(now));
    assert_eq!(ejection.end_trial(None, &settings, now), Change::None);
    assert!(ejection.begin_trial(now), "a trial without a result is followed by the next");
    assert_eq!(ejection.end_trial(Some(AttemptOutcome::Success), &settings, now), Change::Readmitted);
    assert_eq!(eject(&mut ejection, now + SECOND), Change::Ejected { duration: 50 * SECOND });
}

#[test]
fn address_that_worked_for_long_is_ejected_shortly() {
    let (settings, start) = (EjectionSettings::default(), Instant::now());
    let mut ejection = Ejection::new(&settings, start);
    eject(&mut ejection, start);
    let recovered = start + 5 * SECOND;
    assert!(ejection.begin_trial(recovered));
    ejection.end_trial(Some(AttemptOutcome::Success), &settings, recovered);
    let later = recovered + 51 * SECOND;
    assert_eq!(eject(&mut ejection, later), Change::Ejected { duration: 5 * SECOND });
}

proptest! {
    /// Whatever happens: an ejected address gets no request before its time, at most one trial runs, an ejection lasts
    /// at most ten times `for`, and a refused ejection changes nothing.
    #[test]
    fn admission_keeps_its_promises(
        steps in prop::collection::vec((0_u64..4_000, 0_u8..5, any::<bool>(), any::<bool>()), 1..300),
    ) {
        let (settings, mut now) = (EjectionSettings::default(), Instant::now());
        let mut ejection = Ejection::new(&settings, now);
        let mut on_trial = false;
        for (millis, action, success, may_eject) in steps {
            now += Duration::from_millis(millis);
            let before = ejection.admission(now);
            let outcome = if success { AttemptOutcome::Success } else { AttemptOutcome::Failure };
            match action {
                0 | 1 if on_trial => {
                    ejection.end_trial((action == 0).then_some(outcome), &settings, now);
                    on_trial = false;
                }
                0 | 1 => {
                    on_trial = ejection.begin_trial(now);
                    let recovering = Admission::Recovering { trial_in_progress: false };
                    prop_assert_eq!(on_trial, before == recovering);
                }
                _ => {
                    let change = ejection.record(outcome, &settings, now, || may_eject);
                    prop_assert!(may_eject || change == Change::None);
                    prop_assert!(before == Admission::Admitted || change == Change::None);
                }
            }
            if let Admission::Ejected { until } = ejection.admission(now) {
                prop_assert!(until <= now + settings.duration * 10);
                prop_assert!(!on_trial);
            }
        }
    }
}

/// 10^6 requests over three servers in turn on virtual time, one of which fails 70 % of its requests: clients see few
/// failures, the healthy servers share the load evenly, and the broken one is tried again and returns when it is
/// mended.
#[test]
fn simulation_of_a_failing_server_keeps_the_error_rate_below_half_a_percent() {
    let settings = EjectionSettings::default();
    let start = Instant::now();
    let mut servers = vec![Ejection::new(&settings, start); 3];
    let (mut failures, mut turn, mut random) = (0, 0_usize, 1_u64);
    let mut load = [0_u32; 3];
    let mut load_after_mending = [0_u32; 3];
    for step in 0..1_000_000_u64 {
        // 200 requests a second.
        let now = start + Duration::from_millis(step * 5);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let broken = step < 500_000;
        let (chosen, trial) = loop {
            let index = turn % 3;
            turn += 1;
            match servers[index].admission(now) {
                Admission::Admitted => break (index, false),
                Admission::Recovering { .. } if servers[index].begin_trial(now) => break (index, true),
                Admission::Recovering { .. } | Admission::Ejected { .. } => {}
            }
        };
        let fails = broken && chosen == 0 && (random >> 33) % 10 < 7;
        let outcome = if fails { AttemptOutcome::Failure } else { AttemptOutcome::Success };
        failures += u32::from(fails);
        load[chosen] += u32::from(broken);
        load_after_mending[chosen] += u32::from(step >= 600_000);
        if trial {
            servers[chosen].end_trial(Some(outcome), &settings, now);
        } else {
            let ejected =
                servers.iter().filter(|server| server.admission(now) != Admission::Admitted).count();
            servers[chosen].record(outcome, &settings, now, || ejected < settings.limit(3));
        }
    }
    assert!(failures < 2_500, "{failures} of 500000");
    assert!(load[1].abs_diff(load[2]) < 2_000, "{load:?}");
    assert!(load_after_mending.iter().all(|load| load.abs_diff(133_333) < 100), "{load_after_mending:?}");
}
