//! The table: exact under threads, bounded under floods, and nobody starts afresh because of others.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;

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

#[test]
fn sixteen_threads_at_one_key_are_admitted_exactly_as_often_as_is_allowed() {
    let memory = Memory::new(1_000);
    let quota = quota(1_000, HOUR, 777);
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

#[test]
fn threads_that_give_back_what_they_took_leave_no_more_than_there_was() {
    let memory = Memory::new(1_000);
    let quota = quota(1_000, HOUR, 100);
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

#[test]
fn looking_takes_nothing_and_remembers_nobody() {
    let memory = Memory::new(1_000);
    let quota = quota(5, HOUR, 5);
    for number in 0..50 {
        assert_eq!(memory.look(key(number), &quota, now(), 1).standing().remaining, 4);
    }
    assert_eq!(memory.figures(now()), Figures::default());
}

#[test]
fn a_million_keys_stay_within_the_bound() {
    let memory = Memory::new(200_000);
    let quota = quota(100, HOUR, 100);
    for number in 0..1_000_000 {
        assert!(allowed(&memory.take(key(number), &quota, now(), 1)), "{number}");
    }
    let figures = memory.figures(now());
    assert!((190_000..=200_000).contains(&figures.keys), "{figures:?}");
    assert_eq!(figures.keys + figures.evicted_in_debt, 1_000_000);
    assert_eq!(figures.evicted_full, 0);
}

#[test]
fn a_table_is_never_larger_than_it_may_be() {
    for most in [FEWEST_KEYS, 17, 100, 1_000, 1_025, 5_000] {
        let memory = Memory::new(most);
        let quota = quota(100, HOUR, 100);
        for number in 0..20_000 {
            memory.take(key(number), &quota, now(), 1);
        }
        let keys = memory.figures(now()).keys as usize;
        assert!(keys <= most && keys * 2 > most, "{keys} of {most}");
    }
}

#[test]
fn keys_that_are_full_again_make_room_before_any_that_owes() {
    let memory = Memory::new(10_000);
    let quota = quota(100, HOUR, 100);
    // One request flows back in 36 seconds.
    for minute in 1..=12 {
        let now = at(Duration::from_secs(60 * minute));
        assert_eq!(memory.figures(now).keys, 0);
        for number in 0..2_000 {
            memory.take(key(minute * 2_000 + number), &quota, now, 1);
        }
        let figures = memory.figures(now);
        assert_eq!((figures.keys, figures.evicted_in_debt), (2_000, 0), "{figures:?}");
    }
    assert!(memory.figures(now()).evicted_full > 10_000);
}

#[test]
fn a_flood_of_new_keys_does_not_let_an_offender_start_afresh() {
    let memory = Memory::new(2_000);
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

#[test]
fn more_offenders_than_places_are_still_limited_and_newcomers_are_admitted() {
    let memory = Memory::new(FEWEST_KEYS);
    let quota = quota(100, HOUR, 100);
    let spend =
        |number: u64| (0..100).filter(|_| allowed(&memory.take(key(number), &quota, now(), 1))).count();
    for offender in 0..64 {
        assert!(spend(offender) > 0);
    }
    // All but sixteen have been evicted with an empty bucket; returning, each has one request and not a hundred.
    let again: usize = (0..48).map(spend).sum();
    assert!(again <= 48, "{again}");
    for number in 1_000..1_100 {
        assert!(allowed(&memory.take(key(number), &quota, now(), 1)), "{number} pays for others");
    }
}

#[test]
fn a_clock_that_goes_back_or_leaps_leaves_the_table_usable() {
    let memory = Memory::new(1_000);
    let quota = quota(10, Duration::from_secs(1), 10);
    for since in [86_400, 1, 5_000_000, 2, 9_000_000_000, 3] {
        let now = at(Duration::from_secs(since));
        let admitted = (0..100).filter(|_| allowed(&memory.take(key(1), &quota, now, 1))).count();
        assert!(admitted <= 10, "{since}: {admitted}");
        let later = at(Duration::from_secs(since) + Duration::from_secs(1));
        assert!(allowed(&memory.take(key(1), &quota, later, 1)), "{since}");
    }
}

proptest! {
    #[test]
    fn many_keys_are_each_decided_as_if_they_were_alone(
        steps in prop::collection::vec((0_u64..20, 0_u64..400, 1_u32..4), 1..300),
    ) {
        let memory = Memory::new(10_000);
        let quota = quota(10, Duration::from_secs(1), 5);
        let mut alone: HashMap<u64, FullAt> = HashMap::new();
        let mut since = Duration::from_secs(1);
        for (number, milliseconds, cost) in steps {
            since += Duration::from_millis(milliseconds);
            let state = alone.entry(number).or_default();
            let (decision, after) = gcra::decide(&quota, *state, at(since), cost);
            *state = after;
            prop_assert_eq!(memory.look(key(number), &quota, at(since), cost), decision);
            prop_assert_eq!(memory.take(key(number), &quota, at(since), cost), decision);
        }
    }
}
