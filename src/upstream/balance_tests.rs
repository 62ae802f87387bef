//! Sequences, shares and movement of the balancing policies, with simulations of 10^6 choices.

use proptest::prelude::*;

use super::*;

fn round(weights: &[u32], turns: usize) -> Vec<usize> {
    let order = RoundRobin::new(weights);
    (0..turns).filter_map(|turn| order.server(turn)).collect()
}

#[test]
fn equal_servers_alternate() {
    assert_eq!(round(&[1, 1, 1], 7), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(round(&[5, 5], 3), [0, 1, 0]);
}

#[test]
fn heavier_server_is_chosen_more_often_but_interleaved() {
    assert_eq!(round(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(round(&[1, 2], 6), [1, 0, 1, 1, 0, 1]);
}

#[test]
fn huge_weights_keep_the_sequence_short() {
    let order = RoundRobin::new(&[u32::MAX, 1, 0]);
    assert!(order.sequence.len() <= 4098);
    assert!(order.sequence.contains(&1) && order.sequence.contains(&2));
    assert_eq!(RoundRobin::new(&[]).server(3), None);
}

/// The shares of 10^6 choices, in thousandths.
fn shares(choose: impl Fn(u64) -> Option<usize>) -> [u64; 4] {
    let mut counts = [0; 4];
    for step in 0..1_000_000 {
        counts[choose(mix(step)).unwrap()] += 1;
    }
    counts.map(|count| (count + 500) / 1_000)
}

fn assert_near(shares: [u64; 4], expected: [u64; 4]) {
    let near = shares.iter().zip(expected).all(|(share, expected)| share.abs_diff(expected) <= 5);
    assert!(near, "{shares:?}, expected {expected:?}");
}

const WEIGHTS: [u32; 4] = [1, 2, 3, 4];

#[test]
fn simulation_of_random_and_hash_keeps_the_weights() {
    for missing in [None, Some(3)] {
        let available = |index| Some(index) != missing;
        let expected = if missing.is_none() { [100, 200, 300, 400] } else { [167, 333, 500, 0] };
        assert_near(shares(|seed| random(&WEIGHTS, seed, available)), expected);
        assert_near(shares(|seed| by_hash(&WEIGHTS, seed, |index| index as u64, available)), expected);
        let idle = |seed| least_busy(&WEIGHTS, seed, available, |_| 0);
        assert_near(shares(idle), expected);
    }
}

#[test]
fn simulation_of_round_robin_keeps_the_weights_without_a_server() {
    let order = RoundRobin::new(&WEIGHTS);
    let (mut turn, mut counts) = (0, [0_u64; 4]);
    for _ in 0..1_000_000 {
        let (server, skipped) = order.available(turn, |index| index != 3).unwrap();
        turn += skipped + 1;
        counts[server] += 1;
    }
    assert_near(counts.map(|count| (count + 500) / 1_000), [167, 333, 500, 0]);
}

/// 10^6 requests on virtual time: each server finishes one request per step, one of them ten times more slowly. Two
/// choices keep its queue short.
#[test]
fn simulation_of_least_busy_avoids_a_slow_server() {
    let mut in_flight = [0_u32; 4];
    let (mut most, mut slow) = (0, 0);
    for step in 0..1_000_000_u64 {
        let chosen = least_busy(&[1; 4], mix(step), |_| true, |index| in_flight[index]).unwrap();
        in_flight[chosen] += 1;
        slow += u32::from(chosen == 0);
        most = most.max(in_flight[0]);
        for (index, requests) in in_flight.iter_mut().enumerate() {
            // The capacity of the fast servers together is 1.5 requests a step.
            let finishes = if index == 0 { step % 20 == 0 } else { step % 2 == 0 };
            *requests = requests.saturating_sub(u32::from(finishes));
        }
    }
    assert!(most < 20, "{most}");
    assert!((30_000..80_000).contains(&slow), "{slow}");
}

proptest! {
    #[test]
    fn only_available_servers_are_chosen(
        servers in prop::collection::vec((0_u32..50, any::<bool>(), 0_u32..100), 0..20), seed in any::<u64>(),
    ) {
        let weights: Vec<u32> = servers.iter().map(|(weight, _, _)| *weight).collect();
        let available = |index: usize| servers[index].1;
        let choices = [
            RoundRobin::new(&weights).available(seed as usize, available).map(|(index, _)| index),
            random(&weights, seed, available),
            least_busy(&weights, seed, available, |index| servers[index].2),
            by_hash(&weights, seed, |index| index as u64, available),
        ];
        for choice in choices {
            prop_assert_eq!(choice.is_some(), servers.iter().any(|(_, available, _)| *available));
            prop_assert!(choice.is_none_or(available));
        }
    }

    /// Removing a server moves its own keys only; adding one takes keys, and moves none between the others.
    #[test]
    fn hash_moves_only_the_keys_of_the_changed_server(
        ids in prop::collection::hash_set(any::<u64>(), 2..10), keys in prop::collection::vec(any::<u64>(), 200),
    ) {
        let ids: Vec<u64> = ids.into_iter().collect();
        let weights = vec![1; ids.len()];
        let removed = ids.len() - 1;
        for key in keys {
            let with = by_hash(&weights, key, |index| ids[index], |_| true).unwrap();
            let without = by_hash(&weights, key, |index| ids[index], |index| index != removed).unwrap();
            prop_assert!(with == removed || with == without);
            let reordered = by_hash(&weights, key, |index| ids[removed - index], |_| true).unwrap();
            prop_assert_eq!(ids[removed - reordered], ids[with]);
        }
    }
}
