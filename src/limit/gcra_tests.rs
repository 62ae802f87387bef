//! Decisions compared with the governor crate, and properties of the algorithm.

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota as GovernorQuota, RateLimiter};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(since: Duration) -> Timestamp {
    Timestamp::after_epoch(since)
}

/// A bucket with its quota.
struct Bucket {
    quota: Quota,
    state: GcraState,
}

impl Bucket {
    fn new(allowed: u32, period: Duration, burst: u32) -> Self {
        Bucket { quota: Quota::new(allowed, period, burst).unwrap(), state: GcraState::default() }
    }

    fn debit(&mut self, now: Duration, cost: u32) -> QuotaDecision {
        let (decision, state) = decide(&self.quota, self.state, at(now), cost);
        self.state = state;
        decision
    }
}

#[test]
fn request_above_the_burst_is_denied_with_retry_after() {
    let mut bucket = Bucket::new(100, 60 * SECOND, 20);
    let now = 5 * SECOND;
    for remaining in (0..20).rev() {
        let reset = Duration::from_millis(600) * (20 - remaining);
        assert_eq!(bucket.debit(now, 1), QuotaDecision::Allow(QuotaState { limit: 20, remaining, reset }));
    }
    let quota_state = QuotaState { limit: 20, remaining: 0, reset: 12 * SECOND };
    let retry_after = Duration::from_millis(600);
    for _ in 0..3 {
        assert_eq!(bucket.debit(now, 1), QuotaDecision::Deny { quota_state, retry_after });
    }
    let early = now + retry_after - Duration::from_nanos(1);
    assert!(matches!(bucket.debit(early, 1), QuotaDecision::Deny { .. }));
    assert!(matches!(bucket.debit(now + retry_after, 1), QuotaDecision::Allow(_)));
}

#[test]
fn bucket_is_full_again_after_its_reset() {
    let mut bucket = Bucket::new(10, SECOND, 5);
    let reset = (0..5).map(|_| bucket.debit(SECOND, 1).quota_state().reset).max().unwrap();
    let mut fresh = Bucket::new(10, SECOND, 5);
    for _ in 0..6 {
        assert_eq!(bucket.debit(SECOND + reset, 1), fresh.debit(SECOND + reset, 1));
    }
}

#[test]
fn cost_above_capacity_is_denied_and_takes_nothing() {
    let mut bucket = Bucket::new(10, SECOND, 5);
    let decision = bucket.debit(SECOND, 6);
    let quota_state = QuotaState { limit: 5, remaining: 5, reset: Duration::ZERO };
    assert_eq!(decision, QuotaDecision::Deny { quota_state, retry_after: Duration::from_millis(100) });
    assert!(bucket.debit(SECOND, u32::MAX).retry_after().is_some());
    assert!(bucket.debit(SECOND, 5).retry_after().is_none());
}

#[test]
fn backward_clock_locks_out_at_most_one_fill_time() {
    let mut bucket = Bucket::new(10, SECOND, 5);
    for _ in 0..5 {
        bucket.debit(3_600 * SECOND, 1);
    }
    assert_eq!(bucket.debit(SECOND, 1).retry_after(), Some(Duration::from_millis(100)));
    assert!(bucket.debit(SECOND + Duration::from_millis(100), 1).retry_after().is_none());
    // A slightly earlier timestamp of another thread does not correct the state.
    let mut bucket = Bucket::new(10, SECOND, 5);
    for _ in 0..5 {
        bucket.debit(SECOND, 1);
    }
    let before = bucket.state;
    assert!(bucket.debit(SECOND - Duration::from_micros(9), 1).retry_after().is_some());
    assert_eq!(bucket.state, before);
}

fn quotas() -> impl Strategy<Value = Quota> {
    let period = prop_oneof![1_u64..60_000, 1_u64..31_536_000_000].prop_map(Duration::from_millis);
    (1_u32..5_000, period, 1_u32..5_000)
        .prop_filter_map("not a quota", |(allowed, period, burst)| Quota::new(allowed, period, burst).ok())
}

proptest! {
    #[test]
    fn decisions_match_the_governor_crate(
        quota in quotas(),
        steps in prop::collection::vec((0_u64..3_000, 1_u32..40), 1..60),
    ) {
        let clock = FakeRelativeClock::default();
        let governor_quota = GovernorQuota::with_period(Duration::from_nanos(quota.interval_nanos())).unwrap();
        let governor_quota = governor_quota.allow_burst(quota.burst().try_into().unwrap());
        let governor = RateLimiter::direct_with_clock(governor_quota, clock.clone());
        let mut state = GcraState::default();
        let mut since = Duration::ZERO;
        for (thousandths, requests) in steps {
            // Close to the interval, where decisions change.
            let step = Duration::from_nanos(quota.interval_nanos() / 1_000 * thousandths + thousandths % 3);
            since += step;
            clock.advance(step);
            for _ in 0..requests {
                let (decision, after) = decide(&quota, state, at(since), 1);
                state = after;
                let wait = governor.check().err().map(|until| until.wait_time_from(clock.now()));
                prop_assert_eq!(decision.retry_after(), wait);
            }
        }
    }

    #[test]
    fn reported_state_predicts_later_decisions(quota in quotas(), costs in prop::collection::vec(1_u32..9, 1..40), gap in 0_u64..2_000) {
        let mut state = GcraState::default();
        let mut now = SECOND;
        for cost in costs {
            let before = decide(&quota, state, at(now), 0).0;
            let (decision, after) = decide(&quota, state, at(now), cost);
            let quota_state = decision.quota_state();
            match decision {
                QuotaDecision::Allow(_) => prop_assert_eq!(quota_state.remaining + cost, before.quota_state().remaining),
                QuotaDecision::Deny { retry_after, .. } => {
                    prop_assert_eq!((after, quota_state), (state, before.quota_state()), "a denial debits nothing");
                    prop_assert!(!retry_after.is_zero());
                    let moment_before = at(now + retry_after - Duration::from_nanos(1));
                    prop_assert!(decide(&quota, state, moment_before, cost).0.retry_after().is_some());
                    if cost <= quota.burst() {
                        prop_assert!(decide(&quota, state, at(now + retry_after), cost).0.retry_after().is_none());
                    }
                }
            }
            let full = decide(&quota, after, at(now + quota_state.reset), 0).0;
            prop_assert_eq!(full.quota_state().remaining, quota.burst());
            state = after;
            now += Duration::from_nanos(quota.interval_nanos() / 1_000 * gap);
        }
    }

    #[test]
    fn refund_never_admits_more_than_without_the_request(
        quota in quotas(),
        gaps in prop::collection::vec(0_u64..2_500, 1..20),
    ) {
        // Two buckets get the same requests; one gets another request first, which is refunded at the end.
        let taken = at(SECOND);
        let (mut with, mut without) = (decide(&quota, GcraState::default(), taken, 1).1, GcraState::default());
        let mut now = SECOND;
        for gap in gaps {
            now += Duration::from_nanos(quota.interval_nanos() / 1_000 * gap);
            let (decision, after) = decide(&quota, with, at(now), 1);
            with = after;
            if decision.retry_after().is_none() {
                without = decide(&quota, without, at(now), 1).1;
            }
        }
        let latest = at(now);
        let used = |state: GcraState| state.nanos().saturating_sub(latest.nanos());
        let refunded = refund(&quota, with, 1, taken, latest);
        prop_assert!(used(refunded) >= used(without));
        prop_assert!(used(refunded) <= used(without) + (latest.nanos() - taken.nanos()));
    }
}
