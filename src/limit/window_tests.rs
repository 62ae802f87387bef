//! Windows compared with a model that stores every request, and properties of the algorithms.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(since: Duration) -> Timestamp {
    Timestamp::after_epoch(since)
}

fn quota(allowed: u32, period: Duration) -> Quota {
    Quota::new(allowed, period, allowed).unwrap()
}

/// The state of one key with its quota.
struct KeyState<S> {
    quota: Quota,
    state: S,
}

impl<S: LimitState> KeyState<S> {
    fn new(quota: Quota) -> Self {
        KeyState { quota, state: S::default() }
    }

    fn debit(&mut self, now: Duration, cost: u32) -> QuotaDecision {
        let (decision, state) = self.state.decide(&self.quota, at(now), cost);
        self.state = state;
        decision
    }
}

#[test]
fn fixed_window_counts_admitted_requests_only() {
    let mut key: KeyState<FixedWindow> = KeyState::new(quota(10, 3_600 * SECOND));
    // 15 minutes into the window from hour 10 to 11.
    let now = (10 * 3_600 + 900) * SECOND;
    let reset = 2_700 * SECOND;
    for remaining in (0..10).rev() {
        assert_eq!(key.debit(now, 1), QuotaDecision::Allow(QuotaState { limit: 10, remaining, reset }));
    }
    let quota_state = QuotaState { limit: 10, remaining: 0, reset };
    for _ in 0..5 {
        assert_eq!(key.debit(now, 1), QuotaDecision::Deny { quota_state, retry_after: reset });
    }
    let moment_before = now + reset - Duration::from_nanos(1);
    assert!(key.debit(moment_before, 1).retry_after().is_some());
    let quota_state = QuotaState { limit: 10, remaining: 9, reset: 3_600 * SECOND };
    assert_eq!(key.debit(now + reset, 1), QuotaDecision::Allow(quota_state));
}

#[test]
fn sliding_window_releases_the_previous_window_gradually() {
    let mut key: KeyState<SlidingWindow> = KeyState::new(quota(10, 100 * SECOND));
    for _ in 0..10 {
        assert!(key.debit(1_050 * SECOND, 1).retry_after().is_none());
    }
    // The next window starts with a weight of 10, which decreases by 1 every 10 s.
    let decision = key.debit(1_060 * SECOND, 1);
    assert_eq!(
        (decision.retry_after(), decision.quota_state().reset, decision.quota_state().remaining),
        (Some(50 * SECOND), 40 * SECOND, 0)
    );
    assert_eq!(key.debit(1_100 * SECOND, 1).retry_after(), Some(10 * SECOND));
    let quota_state = QuotaState { limit: 10, remaining: 4, reset: 50 * SECOND };
    assert_eq!(key.debit(1_150 * SECOND, 1), QuotaDecision::Allow(quota_state));
    let quota_state = QuotaState { limit: 10, remaining: 8, reset: SECOND };
    assert_eq!(key.debit(1_199 * SECOND, 0), QuotaDecision::Allow(quota_state));
}

#[test]
fn fixed_window_admits_twice_the_limit_at_the_boundary() {
    let admitted = |take: &mut dyn FnMut(Duration) -> QuotaDecision| {
        let boundary = 5_000 * SECOND;
        let moments = [boundary - Duration::from_nanos(1), boundary];
        moments
            .into_iter()
            .map(|now| (0..50).filter(|_| take(now).retry_after().is_none()).count())
            .sum::<usize>()
    };
    let quota = quota(10, 100 * SECOND);
    let (mut fixed, mut sliding) =
        (KeyState::<FixedWindow>::new(quota), KeyState::<SlidingWindow>::new(quota));
    assert_eq!(admitted(&mut |now| fixed.debit(now, 1)), 20);
    assert_eq!(admitted(&mut |now| sliding.debit(now, 1)), 10);
}

fn check_backward_clock<S: LimitState>(longest: Duration) {
    let mut key: KeyState<S> = KeyState::new(quota(5, 10 * SECOND));
    let spend_all =
        |key: &mut KeyState<S>, now| (0..9).filter(|_| key.debit(now, 1).retry_after().is_none()).count();
    assert_eq!(spend_all(&mut key, 1_000_003 * SECOND), 5);
    assert_eq!(spend_all(&mut key, 503 * SECOND), 0, "still denied");
    assert!(key.debit(503 * SECOND + longest, 1).retry_after().is_none());
    // A slightly earlier timestamp of another thread, in the previous window, does not correct the state.
    let mut key: KeyState<S> = KeyState::new(quota(5, 10 * SECOND));
    assert_eq!(spend_all(&mut key, 1_000 * SECOND), 5);
    let before = key.state;
    assert!(key.debit(1_000 * SECOND - Duration::from_micros(9), 1).retry_after().is_some());
    assert_eq!(key.state, before);
    // A jump forward expires all counts.
    assert_eq!(spend_all(&mut key, 4_000_000_000 * SECOND), 5);
}

#[test]
fn backward_clock_locks_out_at_most_the_counted_windows() {
    check_backward_clock::<FixedWindow>(10 * SECOND);
    check_backward_clock::<SlidingWindow>(20 * SECOND);
}

/// Stores the time and cost of every admitted request.
#[derive(Default)]
struct Model {
    admitted: Vec<(u128, u128)>,
}

impl Model {
    fn sum(&self, from: u128, to: u128) -> u128 {
        self.admitted.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, cost)| cost).sum()
    }

    /// The remaining part of `limit * length`, in requests times nanoseconds.
    fn remaining(&self, sliding: bool, quota: &Quota, now: u128) -> u128 {
        let length = quota.period().as_nanos();
        let start = now - now % length;
        let used = self.sum(start, start + length) * length;
        let before = self.sum(start.saturating_sub(length), start) * (start + length - now);
        let most = u128::from(quota.allowed()) * length;
        most.saturating_sub(used + if sliding { before } else { 0 })
    }

    fn decide(&mut self, sliding: bool, quota: &Quota, now: Duration, cost: u32) -> (bool, u32) {
        let (now, length, cost) = (now.as_nanos(), quota.period().as_nanos(), u128::from(cost));
        let free = self.remaining(sliding, quota, now);
        let admitted = free >= cost * length;
        if admitted {
            self.admitted.push((now, cost));
        }
        let remaining = if admitted { (free - cost * length) / length } else { free / length };
        (admitted, remaining as u32)
    }
}

fn check_against_model<S: LimitState>(
    slides: bool,
    quota: Quota,
    steps: &[(u64, u32, u32)],
) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut key: KeyState<S> = KeyState::new(quota);
    let mut now = 7 * quota.period();
    for (thousandths, times, cost) in steps {
        now += quota.period() / 1_000 * u32::try_from(*thousandths).unwrap()
            + Duration::from_nanos(thousandths % 3);
        for _ in 0..*times {
            let (admitted, remaining) = model.decide(slides, &quota, now, *cost);
            let before = key.state;
            let decision = key.debit(now, *cost);
            let quota_state = decision.quota_state();
            prop_assert_eq!((decision.retry_after().is_none(), quota_state.remaining), (admitted, remaining));
            prop_assert_eq!(quota_state.limit, quota.allowed());
            let windows_end = (now.as_nanos() / quota.period().as_nanos() + 1) * quota.period().as_nanos();
            prop_assert_eq!((now + quota_state.reset).as_nanos(), windows_end);
            if let Some(wait) = decision.retry_after() {
                prop_assert!(!wait.is_zero());
                let then = |wait| key.state.decide(&quota, at(now + wait), *cost).0.retry_after().is_none();
                prop_assert!(!then(wait - Duration::from_nanos(1)));
                if *cost <= quota.allowed() {
                    prop_assert!(then(wait));
                }
                let same = |state: S| state.decide(&quota, at(now), 0).0;
                prop_assert_eq!(same(before), same(key.state), "a denial debits nothing");
            }
        }
    }
    Ok(())
}

fn quotas() -> impl Strategy<Value = Quota> {
    let period = prop_oneof![1_u64..60_000, 1_u64..31_536_000_000].prop_map(Duration::from_millis);
    (1_u32..200, period)
        .prop_filter_map("not a quota", |(allowed, period)| Quota::new(allowed, period, allowed).ok())
}

proptest! {
    #[test]
    fn fixed_window_matches_the_model(
        quota in quotas(),
        steps in prop::collection::vec((0_u64..900, 1_u32..20, 1_u32..9), 1..40),
    ) {
        check_against_model::<FixedWindow>(false, quota, &steps)?;
    }

    #[test]
    fn sliding_window_matches_the_model(
        quota in quotas(),
        steps in prop::collection::vec((0_u64..900, 1_u32..20, 1_u32..9), 1..40),
    ) {
        check_against_model::<SlidingWindow>(true, quota, &steps)?;
    }

    #[test]
    fn refund_never_admits_more(
        quota in quotas(),
        gaps in prop::collection::vec(0_u64..700, 1..12),
    ) {
        fn check_refund<S: LimitState>(quota: &Quota, gaps: &[u64]) -> Result<(), TestCaseError> {
            // Two keys get the same requests; one gets another request first, which is refunded at the end.
            let mut now = 3 * quota.period();
            let taken = at(now);
            let (mut with, mut without) = (S::default().decide(quota, taken, 1).1, S::default());
            for gap in gaps {
                now += quota.period() / 1_000 * u32::try_from(*gap).unwrap();
                let (decision, after) = with.decide(quota, at(now), 1);
                with = after;
                if decision.retry_after().is_none() {
                    without = without.decide(quota, at(now), 1).1;
                }
            }
            let refunded = with.refund(quota, 1, taken, at(now));
            prop_assert_eq!(refunded.decide(quota, at(now), 0).0, without.decide(quota, at(now), 0).0);
            Ok(())
        }
        check_refund::<FixedWindow>(&quota, &gaps)?;
        check_refund::<SlidingWindow>(&quota, &gaps)?;
    }

    #[test]
    fn merged_states_bound_each_state_and_leave_room(
        quota in quotas(),
        costs in prop::collection::vec((0_u64..2_500, 1_u32..200), 2..8),
        cost in 1_u32..9,
    ) {
        fn check_bounds<S: LimitState>(quota: &Quota, costs: &[(u64, u32)], cost: u32) -> Result<(), TestCaseError> {
            let now = 9 * quota.period();
            let states: Vec<S> = costs.iter().map(|(ago, cost)| {
                let then = now - quota.period() / 1_000 * u32::try_from(*ago).unwrap();
                S::default().decide(quota, at(then), (*cost).min(quota.allowed())).1
            }).collect();
            let free = |state: S| state.decide(quota, at(now), 0).0.quota_state().remaining;
            let all = states.iter().fold(S::default(), |all, state| all.upper_bound(*state));
            for state in &states {
                prop_assert!(free(all) <= free(*state));
                prop_assert!(free(all.lower_bound(*state)) <= free(*state));
                prop_assert!(free(all.lower_bound(*state)) >= free(all));
                let room = state.with_room_for(quota, at(now), cost);
                prop_assert!(free(room) >= free(*state));
                prop_assert_eq!(room.decide(quota, at(now), cost).0.retry_after().is_none(), cost <= quota.allowed());
            }
            Ok(())
        }
        check_bounds::<FixedWindow>(&quota, &costs, cost)?;
        check_bounds::<SlidingWindow>(&quota, &costs, cost)?;
        check_bounds::<crate::limit::gcra::GcraState>(&quota, &costs, cost)?;
    }
}
