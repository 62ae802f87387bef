//! Slots, evictions and counts of the connection tracker.

use futures_util::FutureExt;

use super::*;

const fn total(total: usize) -> ConnectionLimits {
    ConnectionLimits { total, client: None }
}

fn from(address: &str, max: usize) -> ConnectionLimits {
    ConnectionLimits {
        total: 100,
        client: Some((ClientKey::new(Peer::Ip(address.parse().unwrap()), 64), max)),
    }
}

fn evicted(slot: &ConnectionSlot) -> bool {
    std::future::poll_fn(|cx| slot.poll_evicted(cx)).now_or_never().is_some()
}

#[test]
fn rejected_connections_take_no_slot_and_closed_ones_return_theirs() {
    let tracker = ConnectionTracker::new(1);
    let (first, second) = (tracker.register(), tracker.register());
    let slot = tracker.acquire_slot(total(1));
    assert!(slot.is_ok());
    assert_eq!(tracker.acquire_slot(total(1)).err(), Some(OverLimit::Total));
    assert!(
        tracker.wait_for_capacity(1).now_or_never().is_none(),
        "one connection has a slot, one is over the limit"
    );
    drop(second);
    assert!(tracker.wait_for_capacity(1).now_or_never().is_some());
    drop((first, slot));
    let open = (tracker.register(), tracker.register());
    let held = (tracker.acquire_slot(total(2)), tracker.acquire_slot(total(2)));
    assert!(
        tracker.wait_for_capacity(1).now_or_never().is_some(),
        "after the limit was lowered, overflow is still accepted"
    );
    drop((open, held));
    assert!(tracker.acquire_slot(total(1)).is_ok());
    assert!(tracker.drained().now_or_never().is_some());
}

#[test]
fn longest_idle_connection_is_evicted_and_busy_ones_stay() {
    let tracker = ConnectionTracker::new(1);
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let held: Vec<_> = (0..4).map(|_| tracker.acquire_slot(total(4)).unwrap()).collect();
    assert_eq!(tracker.acquire_slot(total(4)).err(), Some(OverLimit::Total), "all wait for a first request");
    // In the order of idle times: 2, 1, 3; the first one is busy.
    held[1].set_idle(after(20));
    held[2].set_idle(after(10));
    held[3].set_idle(after(30));
    let fifth = tracker.acquire_slot(total(4)).unwrap();
    assert_eq!(held.iter().map(evicted).collect::<Vec<_>>(), [false, false, true, false]);
    assert!(!held[2].set_busy(), "evicted");
    // Another request: now it is idle for a shorter time than the last one.
    assert!(held[1].set_busy());
    held[1].set_idle(after(40));
    let sixth = tracker.acquire_slot(total(4)).unwrap();
    assert_eq!(held.iter().map(evicted).collect::<Vec<_>>(), [false, false, true, true]);
    // Evicted connections release nothing when they close.
    drop(held);
    let (seventh, eighth) =
        (tracker.acquire_slot(total(4)).unwrap(), tracker.acquire_slot(total(4)).unwrap());
    assert_eq!(tracker.acquire_slot(total(4)).err(), Some(OverLimit::Total));
    drop((fifth, sixth, seventh, eighth));
    assert_eq!(tracker.slots_in_use.load(Ordering::Acquire), 0);
}

#[test]
fn lowered_limit_evicts_as_many_as_needed() {
    let tracker = ConnectionTracker::new(1);
    let held: Vec<_> = (0..5).map(|_| tracker.acquire_slot(total(5)).unwrap()).collect();
    held.iter().skip(1).for_each(|slot| slot.set_idle(Instant::now()));
    let last = tracker.acquire_slot(total(2)).unwrap();
    assert_eq!(held.iter().filter(|slot| evicted(slot)).count(), 4);
    assert!(!evicted(&last));
}

#[test]
fn client_over_its_limit_evicts_nobody_and_networks_are_one_client() {
    let tracker = ConnectionTracker::new(1);
    let first = tracker.acquire_slot(from("192.0.2.1", 2)).unwrap();
    first.set_idle(Instant::now());
    let second = tracker.acquire_slot(from("::ffff:192.0.2.1", 2)).unwrap();
    assert_eq!(tracker.acquire_slot(from("192.0.2.1", 2)).err(), Some(OverLimit::Client));
    assert!(!evicted(&first));
    let (one, other) = ("2001:db8::1", "2001:db8::ffff:1");
    let third = tracker.acquire_slot(from(one, 1)).unwrap();
    assert_eq!(tracker.acquire_slot(from(other, 1)).err(), Some(OverLimit::Client));
    assert!(tracker.acquire_slot(from("2001:db8:0:1::1", 1)).is_ok());
    drop(second);
    assert!(tracker.acquire_slot(from("192.0.2.1", 2)).is_ok());
    drop((first, third));
    assert!(tracker.slots.lock().by_client.is_empty());
}

#[test]
fn many_slots_are_searched_in_batches_and_paced() {
    let (now, count) = (Instant::now(), MAX_SLOTS_WITHOUT_PAUSE + 1);
    let mut slots = Slots::new(now);
    let limits = total(count);
    let taken: Vec<_> = (0..count).map(|_| slots.acquire(limits, now).unwrap()).collect();
    assert_eq!(slots.acquire(limits, now).err(), Some(OverLimit::Total));
    for (index, slot) in taken.iter().enumerate() {
        slot.idle.set_idle((count - index) as u64);
    }
    assert_eq!(slots.acquire(limits, now).err(), Some(OverLimit::Total), "the next search is not due");
    let later = now + SEARCH_PAUSE_PER_SLOT * count as u32;
    for index in (count - MIN_CANDIDATES..count).rev() {
        assert!(slots.acquire(limits, later).is_ok(), "found by one search");
        assert_eq!(taken[index].idle.idle_since(), None, "the longest idle first");
    }
    assert_eq!(slots.acquire(limits, later).err(), Some(OverLimit::Total));
    assert!(slots.acquire(limits, later + SEARCH_PAUSE_PER_SLOT * count as u32).is_ok());
}
