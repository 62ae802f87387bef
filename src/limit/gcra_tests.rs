//! The decision against another implementation of the same algorithm, and its promises in plain sentences.

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota as Theirs, RateLimiter};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(since: Duration) -> Moment {
    Moment::after_origin(since)
}

/// One bucket, and what it says.
struct Bucket {
    quota: Quota,
    state: FullAt,
}

impl Bucket {
    fn of(allowed: u32, period: Duration, burst: u32) -> Self {
        Bucket { quota: Quota::new(allowed, period, burst).unwrap(), state: FullAt::default() }
    }

    fn ask(&mut self, now: Duration, cost: u32) -> Decision {
        let (decision, state) = decide(&self.quota, self.state, at(now), cost);
        self.state = state;
        decision
    }
}

#[test]
fn one_more_than_the_burst_is_denied_and_told_when_to_return() {
    let mut bucket = Bucket::of(100, 60 * SECOND, 20);
    let now = 5 * SECOND;
    for remaining in (0..20).rev() {
        let reset = Duration::from_millis(600) * (20 - remaining);
        assert_eq!(bucket.ask(now, 1), Decision::Allow(Standing { limit: 20, remaining, reset }));
    }
    let standing = Standing { limit: 20, remaining: 0, reset: 12 * SECOND };
    let retry_after = Duration::from_millis(600);
    for _ in 0..3 {
        assert_eq!(bucket.ask(now, 1), Decision::Deny { standing, retry_after });
    }
    let early = now + retry_after - Duration::from_nanos(1);
    assert!(matches!(bucket.ask(early, 1), Decision::Deny { .. }));
    assert!(matches!(bucket.ask(now + retry_after, 1), Decision::Allow(_)));
}

#[test]
fn a_bucket_that_was_left_alone_for_its_reset_is_as_new() {
    let mut bucket = Bucket::of(10, SECOND, 5);
    let reset = (0..5).map(|_| bucket.ask(SECOND, 1).standing().reset).max().unwrap();
    let mut fresh = Bucket::of(10, SECOND, 5);
    for _ in 0..6 {
        assert_eq!(bucket.ask(SECOND + reset, 1), fresh.ask(SECOND + reset, 1));
    }
}

#[test]
fn a_cost_above_the_capacity_is_denied_with_a_wait_and_takes_nothing() {
    let mut bucket = Bucket::of(10, SECOND, 5);
    let told = bucket.ask(SECOND, 6);
    let standing = Standing { limit: 5, remaining: 5, reset: Duration::ZERO };
    assert_eq!(told, Decision::Deny { standing, retry_after: Duration::from_millis(100) });
    assert!(bucket.ask(SECOND, u32::MAX).retry_after().is_some());
    assert!(bucket.ask(SECOND, 5).retry_after().is_none());
}

#[test]
fn a_clock_that_goes_back_locks_nobody_out_for_longer_than_a_bucket_takes_to_fill() {
    let mut bucket = Bucket::of(10, SECOND, 5);
    for _ in 0..5 {
        bucket.ask(3_600 * SECOND, 1);
    }
    assert_eq!(bucket.ask(SECOND, 1).retry_after(), Some(Duration::from_millis(100)));
    assert!(bucket.ask(SECOND + Duration::from_millis(100), 1).retry_after().is_none());
    // A thread that read its clock a moment earlier has no say in it.
    let mut bucket = Bucket::of(10, SECOND, 5);
    for _ in 0..5 {
        bucket.ask(SECOND, 1);
    }
    let before = bucket.state;
    assert!(bucket.ask(SECOND - Duration::from_micros(9), 1).retry_after().is_some());
    assert_eq!(bucket.state, before);
}

fn quotas() -> impl Strategy<Value = Quota> {
    let period = prop_oneof![1_u64..60_000, 1_u64..31_536_000_000].prop_map(Duration::from_millis);
    (1_u32..5_000, period, 1_u32..5_000)
        .prop_filter_map("not a quota", |(allowed, period, burst)| Quota::new(allowed, period, burst).ok())
}

proptest! {
    #[test]
    fn decisions_and_waits_are_those_of_another_implementation(
        quota in quotas(),
        steps in prop::collection::vec((0_u64..3_000, 1_u32..40), 1..60),
    ) {
        let clock = FakeRelativeClock::default();
        let theirs = Theirs::with_period(Duration::from_nanos(quota.interval())).unwrap();
        let theirs = theirs.allow_burst(quota.burst().try_into().unwrap());
        let theirs = RateLimiter::direct_with_clock(theirs, clock.clone());
        let mut state = FullAt::default();
        let mut since = Duration::ZERO;
        for (thousandths, requests) in steps {
            // Around the interval, where decisions change.
            let step = Duration::from_nanos(quota.interval() / 1_000 * thousandths + thousandths % 3);
            since += step;
            clock.advance(step);
            for _ in 0..requests {
                let (ours, after) = decide(&quota, state, at(since), 1);
                state = after;
                let wait = theirs.check().err().map(|until| until.wait_time_from(clock.now()));
                prop_assert_eq!(ours.retry_after(), wait);
            }
        }
    }

    #[test]
    fn what_is_told_is_what_happens(quota in quotas(), costs in prop::collection::vec(1_u32..9, 1..40), gap in 0_u64..2_000) {
        let mut state = FullAt::default();
        let mut now = SECOND;
        for cost in costs {
            let before = decide(&quota, state, at(now), 0).0;
            let (decision, after) = decide(&quota, state, at(now), cost);
            let standing = decision.standing();
            match decision {
                Decision::Allow(_) => prop_assert_eq!(standing.remaining + cost, before.standing().remaining),
                Decision::Deny { retry_after, .. } => {
                    prop_assert_eq!((after, standing), (state, before.standing()), "a refusal takes nothing");
                    prop_assert!(!retry_after.is_zero());
                    let moment_before = at(now + retry_after - Duration::from_nanos(1));
                    prop_assert!(decide(&quota, state, moment_before, cost).0.retry_after().is_some());
                    if cost <= quota.burst() {
                        prop_assert!(decide(&quota, state, at(now + retry_after), cost).0.retry_after().is_none());
                    }
                }
            }
            let full = decide(&quota, after, at(now + standing.reset), 0).0;
            prop_assert_eq!(full.standing().remaining, quota.burst());
            state = after;
            now += Duration::from_nanos(quota.interval() / 1_000 * gap);
        }
    }

    #[test]
    fn what_is_given_back_was_never_taken_and_never_comes_back_as_more(
        quota in quotas(),
        gaps in prop::collection::vec(0_u64..2_500, 1..20),
    ) {
        // Two buckets see the same requests, and one of them another one at the start, which is undone at the end.
        let taken = at(SECOND);
        let (mut with, mut without) = (decide(&quota, FullAt::default(), taken, 1).1, FullAt::default());
        let mut now = SECOND;
        for gap in gaps {
            now += Duration::from_nanos(quota.interval() / 1_000 * gap);
            let (decision, after) = decide(&quota, with, at(now), 1);
            with = after;
            if decision.retry_after().is_none() {
                without = decide(&quota, without, at(now), 1).1;
            }
        }
        let latest = at(now);
        let owes = |state: FullAt| state.nanos().saturating_sub(latest.nanos());
        let undone = give_back(&quota, with, 1, taken, latest);
        prop_assert!(owes(undone) >= owes(without));
        prop_assert!(owes(undone) <= owes(without) + (latest.nanos() - taken.nanos()));
    }
}
