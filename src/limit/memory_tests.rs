//! The table: exact under threads, bounded under floods, and nobody starts afresh because of others.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::super::gcra::FullAt;
use super::super::window::{Fixed, Sliding};
use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

fn at(since: Duration) -> Moment {
    Moment::after_origin(since)
}

fn now() -> Moment {
    at(Duration::from_secs(1))
}

fn quota(allowed: u32, period: Duration, burst: u32) -> Quota {
    Quota::new(allowed, period, burst).unwrap()
}

/// The key of a number: spread as a hash is.
fn key(number: u64) -> Key {
    let mix = |mut bits: u64| {
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    };
    let place = mix(number.wrapping_add(0x9E37_79B9_7F4A_7C15));
    Key { place, tag: mix(place) }
}

fn allowed(decision: &Decision) -> bool {
    decision.retry_after().is_none()
}

/// A promise of tables for every algorithm. Quotas of these tests have a burst of what is allowed, so that the same numbers
/// hold for all.
macro_rules! for_every_algorithm {
    ($($promise:ident: $check:ident)+) => {$(
        #[test]
        fn $promise() {
            $check::<FullAt>();
            $check::<Fixed>();
            $check::<Sliding>();
        }
    )+};
}

for_every_algorithm! {
    sixteen_threads_at_one_key_are_admitted_exactly_as_often_as_is_allowed: exact
    threads_that_give_back_what_they_took_leave_no_more_than_there_was: given_back
    looking_takes_nothing_and_remembers_nobody: looking
    a_key_that_is_reset_has_taken_nothing: reset
    a_million_keys_stay_within_the_bound: bounded
    a_table_is_never_larger_than_it_may_be: never_larger
    a_flood_of_new_keys_does_not_let_an_offender_start_afresh: flooded
    more_offenders_than_places_are_still_limited_and_newcomers_are_admitted: crowded
    a_clock_that_goes_back_or_leaps_leaves_the_table_usable: usable
}

fn exact<S: State>() {
    let memory = Memory::<S>::new(1_000);
    let quota = quota(777, HOUR, 777);
    let admitted = AtomicU32::new(0);
    let start = Barrier::new(16);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..500 {
                    if allowed(&memory.take(key(7), &quota, now(), 1)) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 777);
}

fn given_back<S: State>() {
    let memory = Memory::<S>::new(1_000);
    let quota = quota(100, HOUR, 100);
    let kept = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for turn in 0..2_000 {
                    let decision = memory.take(key(7), &quota, now(), 1);
                    match decision {
                        Decision::Allow(_) if turn % 3 > 0 => memory.give_back(key(7), &quota, now(), 1),
                        Decision::Allow(_) => {
                            kept.fetch_add(1, Ordering::Relaxed);
                        }
                        Decision::Deny { .. } => {}
                    }
                }
            });
        }
    });
    let left = memory.look(key(7), &quota, now(), 0).standing().remaining;
    assert_eq!(kept.into_inner() + left, 100);
}

fn looking<S: State>() {
    let memory = Memory::<S>::new(1_000);
    let quota = quota(5, HOUR, 5);
    for number in 0..50 {
        assert_eq!(memory.look(key(number), &quota, now(), 1).standing().remaining, 4);
    }
    assert_eq!(memory.figures(&quota, now()), Figures::default());
}

fn reset<S: State>() {
    let memory = Memory::<S>::new(1_000);
    let quota = quota(3, HOUR, 3);
    for number in [7, 8] {
        assert_eq!(memory.take(key(number), &quota, now(), 3).standing().remaining, 0);
    }
    memory.reset(key(7));
    memory.reset(key(9));
    assert_eq!(memory.take(key(7), &quota, now(), 1).standing().remaining, 2);
    assert!(!allowed(&memory.take(key(8), &quota, now(), 1)), "another key is none of its business");
}

fn bounded<S: State>() {
    let memory = Memory::<S>::new(200_000);
    let quota = quota(100, HOUR, 100);
    for number in 0..1_000_000 {
        assert!(allowed(&memory.take(key(number), &quota, now(), 1)), "{number}");
    }
    let figures = memory.figures(&quota, now());
    assert!((190_000..=200_000).contains(&figures.keys), "{figures:?}");
    assert_eq!(figures.keys + figures.evicted_in_debt, 1_000_000);
    assert_eq!(figures.evicted_full, 0);
}

fn never_larger<S: State>() {
    for most in [FEWEST_KEYS, 17, 100, 1_000, 1_025, 5_000] {
        let memory = Memory::<S>::new(most);
        let quota = quota(100, HOUR, 100);
        for number in 0..20_000 {
            memory.take(key(number), &quota, now(), 1);
        }
        let keys = memory.figures(&quota, now()).keys as usize;
        assert!(keys <= most && keys * 2 > most, "{keys} of {most}");
    }
}

fn flooded<S: State>() {
    let memory = Memory::<S>::new(2_000);
    let quota = quota(100, HOUR, 100);
    for offender in 0..100 {
        for _ in 0..100 {
            memory.take(key(offender), &quota, now(), 1);
        }
    }
    for number in 1_000..200_000 {
        memory.take(key(number), &quota, now(), 1);
    }
    for offender in 0..100 {
        assert!(!allowed(&memory.take(key(offender), &quota, now(), 1)), "{offender}");
    }
}

fn crowded<S: State>() {
    let memory = Memory::<S>::new(FEWEST_KEYS);
    let quota = quota(100, HOUR, 100);
    let spend =
        |number: u64| (0..100).filter(|_| allowed(&memory.take(key(number), &quota, now(), 1))).count();
    for offender in 0..64 {
        assert!(spend(offender) > 0);
    }
    // All but sixteen have been evicted with nothing left; returning, each has one request and not a hundred.
    let again: usize = (0..48).map(spend).sum();
    assert!(again <= 48, "{again}");
    for number in 1_000..1_100 {
        assert!(allowed(&memory.take(key(number), &quota, now(), 1)), "{number} pays for others");
    }
}

fn usable<S: State>() {
    let memory = Memory::<S>::new(1_000);
    let quota = quota(10, Duration::from_secs(1), 10);
    for since in [86_400, 1, 5_000_000, 4, 9_000_000_000, 7] {
        let now = at(Duration::from_secs(since));
        let admitted = (0..100).filter(|_| allowed(&memory.take(key(1), &quota, now, 1))).count();
        assert!(admitted <= 10, "{since}: {admitted}");
        // Two windows, where the one before counts too.
        let later = at(Duration::from_secs(since + 2));
        assert!(allowed(&memory.take(key(1), &quota, later, 1)), "{since}");
    }
}

fn as_if_alone<S: State>(steps: &[(u64, u64, u32)]) -> Result<(), TestCaseError> {
    let memory = Memory::<S>::new(10_000);
    let quota = quota(10, Duration::from_secs(1), 5);
    let mut alone: HashMap<u64, S> = HashMap::new();
    let mut since = Duration::from_secs(1);
    for (number, milliseconds, cost) in steps {
        since += Duration::from_millis(*milliseconds);
        let state = alone.entry(*number).or_default();
        let (decision, after) = state.decide(&quota, at(since), *cost);
        *state = after;
        prop_assert_eq!(memory.look(key(*number), &quota, at(since), *cost), decision);
        prop_assert_eq!(memory.take(key(*number), &quota, at(since), *cost), decision);
    }
    Ok(())
}

#[test]
fn keys_that_are_full_again_make_room_before_any_that_owes() {
    let memory = Memory::<FullAt>::new(10_000);
    let quota = quota(100, HOUR, 100);
    // One request flows back in 36 seconds.
    for minute in 1..=12 {
        let now = at(Duration::from_secs(60 * minute));
        assert_eq!(memory.figures(&quota, now).keys, 0);
        for number in 0..2_000 {
            memory.take(key(minute * 2_000 + number), &quota, now, 1);
        }
        let figures = memory.figures(&quota, now);
        assert_eq!((figures.keys, figures.evicted_in_debt), (2_000, 0), "{figures:?}");
    }
    assert!(memory.figures(&quota, now()).evicted_full > 10_000);
}

proptest! {
    #[test]
    fn many_keys_are_each_decided_as_if_they_were_alone(
        steps in prop::collection::vec((0_u64..20, 0_u64..400, 1_u32..4), 1..300),
    ) {
        as_if_alone::<FullAt>(&steps)?;
        as_if_alone::<Fixed>(&steps)?;
        as_if_alone::<Sliding>(&steps)?;
    }
}
