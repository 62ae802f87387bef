//! The table: exact with concurrent threads, bounded under floods, and keys are independent.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::super::gcra::GcraState;
use super::super::window::{FixedWindow, SlidingWindow};
use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn at(since: Duration) -> Timestamp {
    Timestamp::after_epoch(since)
}

fn now() -> Timestamp {
    at(Duration::from_secs(1))
}

fn quota(allowed: u32, period: Duration, burst: u32) -> Quota {
    Quota::new(allowed, period, burst).unwrap()
}

/// A key derived from a number, distributed like a hash.
fn key(number: u64) -> Key {
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    };
    let hash = mix(number.wrapping_add(0x9E37_79B9_7F4A_7C15));
    Key { shard_hash: hash, tag: mix(hash) }
}

fn allowed(decision: &QuotaDecision) -> bool {
    decision.retry_after().is_none()
}

/// Runs a check for every algorithm. The quotas have a burst equal to `allowed`, so that the same numbers apply to all.
macro_rules! test_every_algorithm {
    ($($test_name:ident: $check:ident)+) => {$(
        #[test]
        fn $test_name() {
            $check::<GcraState>();
            $check::<FixedWindow>();
            $check::<SlidingWindow>();
        }
    )+};
}

test_every_algorithm! {
    concurrent_takes_admit_exactly_the_quota: exact_under_threads
    concurrent_refunds_never_exceed_the_quota: refunded
    peek_takes_nothing_and_stores_no_key: peeking
    reset_key_starts_with_a_full_quota: reset
    a_million_keys_stay_within_max_keys: bounded
    table_never_exceeds_max_keys: never_larger
    key_flood_does_not_reset_limited_keys: survives_flood
    evicted_keys_stay_limited_and_new_keys_are_admitted: overfull
    clock_jumps_leave_the_table_usable: usable_after_clock_jumps
}

fn exact_under_threads<S: LimitState>() {
    let table = StateTable::<S>::new(1_000);
    let quota = quota(777, HOUR, 777);
    let admitted = AtomicU32::new(0);
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..500 {
                    if allowed(&table.debit(key(7), &quota, now(), 1)) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 777);
}

fn refunded<S: LimitState>() {
    let table = StateTable::<S>::new(1_000);
    let quota = quota(100, HOUR, 100);
    let kept = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for iteration in 0..2_000 {
                    let decision = table.debit(key(7), &quota, now(), 1);
                    match decision {
                        QuotaDecision::Allow(_) if iteration % 3 > 0 => {
                            table.refund(key(7), &quota, now(), 1)
                        }
                        QuotaDecision::Allow(_) => {
                            kept.fetch_add(1, Ordering::Relaxed);
                        }
                        QuotaDecision::Deny { .. } => {}
                    }
                }
            });
        }
    });
    let remaining = table.peek(key(7), &quota, now(), 0).quota_state().remaining;
    assert_eq!(kept.into_inner() + remaining, 100);
}

fn peeking<S: LimitState>() {
    let table = StateTable::<S>::new(1_000);
    let quota = quota(5, HOUR, 5);
    for number in 0..50 {
        assert_eq!(table.peek(key(number), &quota, now(), 1).quota_state().remaining, 4);
    }
    assert_eq!(table.stats(&quota, now()), TableStats::default());
}

fn reset<S: LimitState>() {
    let table = StateTable::<S>::new(1_000);
    let quota = quota(3, HOUR, 3);
    for number in [7, 8] {
        assert_eq!(table.debit(key(number), &quota, now(), 3).quota_state().remaining, 0);
    }
    table.reset(key(7));
    table.reset(key(9));
    assert_eq!(table.debit(key(7), &quota, now(), 1).quota_state().remaining, 2);
    assert!(!allowed(&table.debit(key(8), &quota, now(), 1)), "a reset affects only its key");
}

fn bounded<S: LimitState>() {
    let table = StateTable::<S>::new(200_000);
    let quota = quota(100, HOUR, 100);
    for number in 0..1_000_000 {
        assert!(allowed(&table.debit(key(number), &quota, now(), 1)), "{number}");
    }
    let stats = table.stats(&quota, now());
    assert!((190_000..=200_000).contains(&stats.keys), "{stats:?}");
    assert_eq!(stats.keys + stats.evicted_active, 1_000_000);
    assert_eq!(stats.evicted_idle, 0);
}

fn never_larger<S: LimitState>() {
    for max_keys in [MIN_KEYS, 17, 100, 1_000, 1_025, 5_000] {
        let table = StateTable::<S>::new(max_keys);
        let quota = quota(100, HOUR, 100);
        for number in 0..20_000 {
            table.debit(key(number), &quota, now(), 1);
        }
        let keys = table.stats(&quota, now()).keys as usize;
        assert!(keys <= max_keys && keys * 2 > max_keys, "{keys} of {max_keys}");
    }
}

fn survives_flood<S: LimitState>() {
    let table = StateTable::<S>::new(2_000);
    let quota = quota(100, HOUR, 100);
    for limited_key in 0..100 {
        for _ in 0..100 {
            table.debit(key(limited_key), &quota, now(), 1);
        }
    }
    for number in 1_000..200_000 {
        table.debit(key(number), &quota, now(), 1);
    }
    for limited_key in 0..100 {
        assert!(!allowed(&table.debit(key(limited_key), &quota, now(), 1)), "{limited_key}");
    }
}

fn overfull<S: LimitState>() {
    let table = StateTable::<S>::new(MIN_KEYS);
    let quota = quota(100, HOUR, 100);
    let spend =
        |number: u64| (0..100).filter(|_| allowed(&table.debit(key(number), &quota, now(), 1))).count();
    for limited_key in 0..64 {
        assert!(spend(limited_key) > 0);
    }
    // All but 16 keys were evicted with an empty quota; each then gets 1 request, not 100.
    let admitted_again: usize = (0..48).map(spend).sum();
    assert!(admitted_again <= 48, "{admitted_again}");
    for number in 1_000..1_100 {
        assert!(
            allowed(&table.debit(key(number), &quota, now(), 1)),
            "{number} is denied because of other keys"
        );
    }
}

fn usable_after_clock_jumps<S: LimitState>() {
    let table = StateTable::<S>::new(1_000);
    let quota = quota(10, Duration::from_secs(1), 10);
    for since in [86_400, 1, 5_000_000, 4, 9_000_000_000, 7] {
        let now = at(Duration::from_secs(since));
        let admitted = (0..100).filter(|_| allowed(&table.debit(key(1), &quota, now, 1))).count();
        assert!(admitted <= 10, "{since}: {admitted}");
        // Two windows, because a sliding window counts the previous one.
        let later = at(Duration::from_secs(since + 2));
        assert!(allowed(&table.debit(key(1), &quota, later, 1)), "{since}");
    }
}

fn check_isolation<S: LimitState>(steps: &[(u64, u64, u32)]) -> Result<(), TestCaseError> {
    let table = StateTable::<S>::new(10_000);
    let quota = quota(10, Duration::from_secs(1), 5);
    let mut isolated: HashMap<u64, S> = HashMap::new();
    let mut since = Duration::from_secs(1);
    for (number, milliseconds, cost) in steps {
        since += Duration::from_millis(*milliseconds);
        let state = isolated.entry(*number).or_default();
        let (decision, after) = state.decide(&quota, at(since), *cost);
        *state = after;
        prop_assert_eq!(table.peek(key(*number), &quota, at(since), *cost), decision);
        prop_assert_eq!(table.debit(key(*number), &quota, at(since), *cost), decision);
    }
    Ok(())
}

#[test]
fn idle_keys_are_evicted_before_active_ones() {
    let table = StateTable::<GcraState>::new(10_000);
    let quota = quota(100, HOUR, 100);
    // One request is replenished in 36 s.
    for minute in 1..=12 {
        let now = at(Duration::from_secs(60 * minute));
        assert_eq!(table.stats(&quota, now).keys, 0);
        for number in 0..2_000 {
            table.debit(key(minute * 2_000 + number), &quota, now, 1);
        }
        let stats = table.stats(&quota, now);
        assert_eq!((stats.keys, stats.evicted_active), (2_000, 0), "{stats:?}");
    }
    assert!(table.stats(&quota, now()).evicted_idle > 10_000);
}

proptest! {
    #[test]
    fn keys_are_decided_independently(
        steps in prop::collection::vec((0_u64..20, 0_u64..400, 1_u32..4), 1..300),
    ) {
        check_isolation::<GcraState>(&steps)?;
        check_isolation::<FixedWindow>(&steps)?;
        check_isolation::<SlidingWindow>(&steps)?;
    }
}
