//! What answers, failures and time do to the state of a name.

use proptest::prelude::*;

use super::*;

const REFRESH: Duration = Duration::from_secs(30);

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn found(texts: &[&str], seconds: u64) -> FamilyAnswer {
    FamilyAnswer::Addresses { addresses: ips(texts), ttl: Duration::from_secs(seconds) }
}

fn addresses(state: &NameState) -> Vec<IpAddr> {
    state.addresses().collect()
}

fn after(answers: &[NameAnswer]) -> NameState {
    let (mut state, now) = (NameState::default(), Instant::now());
    for answer in answers {
        state.apply(answer.clone(), REFRESH, now);
    }
    state
}

fn both(v4: FamilyAnswer, v6: FamilyAnswer) -> NameAnswer {
    NameAnswer { v4, v6 }
}

#[test]
fn first_lookup_is_due_at_once_and_counts_as_not_in_time() {
    let state = NameState::default();
    assert!(state.is_due(Instant::now()));
    assert_eq!(state.failure(), Some(LookupFailure::TimedOut));
}

#[test]
fn ttl_is_clamped_to_one_second_and_the_refresh_interval() {
    let now = Instant::now();
    for (ttl, expected) in [(0, 1), (1, 1), (7, 7), (30, 30), (86_400, 30)] {
        let mut state = NameState::default();
        state.apply(both(found(&["10.0.0.1"], ttl), FamilyAnswer::Empty), REFRESH, now);
        assert_eq!(state.wait(now), Duration::from_secs(expected), "{ttl}");
        assert_eq!(state.failure(), None);
    }
    let mut state = NameState::default();
    state.apply(both(found(&["10.0.0.1"], 20), found(&["::1"], 5)), REFRESH, now);
    assert_eq!(state.wait(now), Duration::from_secs(5), "the shorter one of both families");
    state.apply(both(found(&["10.0.0.1"], 0), FamilyAnswer::Empty), Duration::from_millis(200), now);
    assert_eq!(state.wait(now), Duration::from_millis(200), "a shorter interval of the operator");
}

#[test]
fn failures_and_vanished_names_keep_the_last_good_addresses() {
    let good = both(found(&["10.0.0.1"], 5), found(&["fd00::1"], 5));
    for bad in [
        NameAnswer::failed(LookupFailure::Error),
        NameAnswer::failed(LookupFailure::TimedOut),
        both(FamilyAnswer::Empty, FamilyAnswer::Empty),
        both(FamilyAnswer::Failed(LookupFailure::Error), FamilyAnswer::Empty),
    ] {
        let state = after(&[good.clone(), bad.clone()]);
        assert_eq!(addresses(&state), ips(&["10.0.0.1", "fd00::1"]), "{bad:?}");
        assert_eq!(state.failure(), bad.failure());
    }
}

#[test]
fn family_that_fails_keeps_its_addresses_and_one_without_records_loses_them() {
    let good = both(found(&["10.0.0.1"], 5), found(&["fd00::1"], 5));
    let new_v4 = found(&["10.0.0.2"], 5);
    let kept = after(&[good.clone(), both(new_v4.clone(), FamilyAnswer::Failed(LookupFailure::Error))]);
    assert_eq!(addresses(&kept), ips(&["10.0.0.2", "fd00::1"]));
    let removed = after(&[good, both(new_v4, FamilyAnswer::Empty)]);
    assert_eq!(addresses(&removed), ips(&["10.0.0.2"]));
}

#[test]
fn timeout_is_reported_only_if_no_name_server_answered() {
    let (error, silence) = (LookupFailure::Error, LookupFailure::TimedOut);
    let failed = FamilyAnswer::Failed;
    assert_eq!(both(failed(silence), failed(silence)).failure(), Some(silence));
    assert_eq!(both(failed(silence), failed(error)).failure(), Some(error));
    assert_eq!(both(FamilyAnswer::Empty, failed(silence)).failure(), Some(error));
    assert_eq!(both(FamilyAnswer::Empty, found(&["::1"], 1)).failure(), None);
}

#[test]
fn failed_lookups_are_repeated_after_growing_pauses() {
    let (mut state, now) = (NameState::default(), Instant::now());
    let pauses: Vec<u64> = (0..7)
        .map(|_| {
            state.apply(NameAnswer::failed(LookupFailure::TimedOut), REFRESH, now);
            state.wait(now).as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    state.apply(both(found(&["10.0.0.1"], 9), FamilyAnswer::Empty), REFRESH, now);
    assert_eq!(state.wait(now), Duration::from_secs(9));
}

fn any_family(v6: bool) -> impl Strategy<Value = FamilyAnswer> {
    let address = move |last: u8| match v6 {
        true => IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]),
        false => IpAddr::from([10, 0, 0, last]),
    };
    prop_oneof![
        Just(FamilyAnswer::Empty),
        Just(FamilyAnswer::Failed(LookupFailure::Error)),
        Just(FamilyAnswer::Failed(LookupFailure::TimedOut)),
        (prop::collection::vec(any::<u8>(), 1..4), 0_u64..100_000).prop_map(move |(last, ttl)| {
            let addresses = last.into_iter().map(address).collect();
            FamilyAnswer::Addresses { addresses, ttl: Duration::from_secs(ttl) }
        }),
    ]
}

proptest! {
    #[test]
    fn addresses_are_never_lost_and_lookups_neither_stop_nor_flood(
        answers in prop::collection::vec((any_family(false), any_family(true)), 1..40),
    ) {
        let (mut state, mut now, mut had_any) = (NameState::default(), Instant::now(), false);
        for (v4, v6) in answers {
            let answer = both(v4, v6);
            had_any |= answer.has_addresses();
            state.apply(answer, REFRESH, now);
            prop_assert_eq!(state.addresses().next().is_some(), had_any);
            let wait = state.wait(now);
            prop_assert!(wait >= MIN_TTL && wait <= REFRESH, "{:?}", wait);
            prop_assert!(!state.is_due(now) && state.is_due(now + wait));
            now += wait;
        }
    }
}
