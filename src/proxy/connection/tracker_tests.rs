//! Places, evictions and counts of the connection tracker.

use futures_util::FutureExt;

use super::*;

const fn total(total: usize) -> ConnectionLimits {
    ConnectionLimits { total, client: None }
}

fn from(address: &str, max: usize) -> ConnectionLimits {
    ConnectionLimits { total: 100, client: Some((ClientKey::new(address.parse().unwrap(), 64), max)) }
}

fn evicted(permit: &ConnectionPermit) -> bool {
    std::future::poll_fn(|cx| permit.poll_evicted(cx)).now_or_never().is_some()
}

#[test]
fn rejected_connections_take_no_permit_and_closed_ones_return_theirs() {
    let tracker = ConnectionTracker::new(1);
    let (first, second) = (tracker.register(), tracker.register());
    let permit = tracker.acquire_permit(total(1));
    assert!(permit.is_ok());
    assert_eq!(tracker.acquire_permit(total(1)).err(), Some(OverLimit::Total));
    assert!(
        tracker.wait_for_capacity(1).now_or_never().is_none(),
        "one connection has a permit, one is over the limit"
    );
    drop(second);
    assert!(tracker.wait_for_capacity(1).now_or_never().is_some());
    drop((first, permit));
    let open = (tracker.register(), tracker.register());
    let permits = (tracker.acquire_permit(total(2)), tracker.acquire_permit(total(2)));
    assert!(
        tracker.wait_for_capacity(1).now_or_never().is_some(),
        "after the limit was lowered, overflow is still accepted"
    );
    drop((open, permits));
    assert!(tracker.acquire_permit(total(1)).is_ok());
    assert!(tracker.drained().now_or_never().is_some());
}

#[test]
fn longest_idle_connection_loses_its_place_and_busy_ones_none() {
    let tracker = ConnectionTracker::new(1);
    let start = Instant::now();
    let after = |millis| start + Duration::from_millis(millis);
    let permits: Vec<_> = (0..4).map(|_| tracker.acquire_permit(total(4)).unwrap()).collect();
    assert_eq!(
        tracker.acquire_permit(total(4)).err(),
        Some(OverLimit::Total),
        "all wait for a first request"
    );
    // In the order of idle times: 2, 1, 3; the first one is busy.
    permits[1].set_idle(after(20));
    permits[2].set_idle(after(10));
    permits[3].set_idle(after(30));
    let fifth = tracker.acquire_permit(total(4)).unwrap();
    assert_eq!(permits.iter().map(evicted).collect::<Vec<_>>(), [false, false, true, false]);
    assert!(!permits[2].set_busy(), "its place is taken");
    // Another request: now it is idle for a shorter time than the last one.
    assert!(permits[1].set_busy());
    permits[1].set_idle(after(40));
    let sixth = tracker.acquire_permit(total(4)).unwrap();
    assert_eq!(permits.iter().map(evicted).collect::<Vec<_>>(), [false, false, true, true]);
    // Evicted connections give back nothing when they close.
    drop(permits);
    let (seventh, eighth) =
        (tracker.acquire_permit(total(4)).unwrap(), tracker.acquire_permit(total(4)).unwrap());
    assert_eq!(tracker.acquire_permit(total(4)).err(), Some(OverLimit::Total));
    drop((fifth, sixth, seventh, eighth));
    assert_eq!(tracker.permits.load(Ordering::Acquire), 0);
}

#[test]
fn lowered_limit_evicts_as_many_as_needed() {
    let tracker = ConnectionTracker::new(1);
    let permits: Vec<_> = (0..5).map(|_| tracker.acquire_permit(total(5)).unwrap()).collect();
    permits.iter().skip(1).for_each(|permit| permit.set_idle(Instant::now()));
    let last = tracker.acquire_permit(total(2)).unwrap();
    assert_eq!(permits.iter().filter(|permit| evicted(permit)).count(), 4);
    assert!(!evicted(&last));
}

#[test]
fn client_over_its_limit_evicts_nobody_and_networks_are_one_client() {
    let tracker = ConnectionTracker::new(1);
    let first = tracker.acquire_permit(from("192.0.2.1", 2)).unwrap();
    first.set_idle(Instant::now());
    let second = tracker.acquire_permit(from("::ffff:192.0.2.1", 2)).unwrap();
    assert_eq!(tracker.acquire_permit(from("192.0.2.1", 2)).err(), Some(OverLimit::Client));
    assert!(!evicted(&first));
    let (one, other) = ("2001:db8::1", "2001:db8::ffff:1");
    let third = tracker.acquire_permit(from(one, 1)).unwrap();
    assert_eq!(tracker.acquire_permit(from(other, 1)).err(), Some(OverLimit::Client));
    assert!(tracker.acquire_permit(from("2001:db8:0:1::1", 1)).is_ok());
    drop(second);
    assert!(tracker.acquire_permit(from("192.0.2.1", 2)).is_ok());
    drop((first, third));
    assert!(tracker.places.lock().by_client.is_empty());
}

#[test]
fn many_places_are_searched_in_batches_and_paced() {
    let (now, count) = (Instant::now(), MAX_UNPACED_SEARCH + 1);
    let mut places = Places::new(now);
    let limits = total(count);
    let taken: Vec<_> = (0..count).map(|_| places.take(limits, now).unwrap()).collect();
    assert_eq!(places.take(limits, now).err(), Some(OverLimit::Total));
    for (index, place) in taken.iter().enumerate() {
        place.slot.set_idle((count - index) as u64);
    }
    assert_eq!(places.take(limits, now).err(), Some(OverLimit::Total), "the next search is not due");
    let later = now + SEARCH_PAUSE_PER_PLACE * count as u32;
    for index in (count - MIN_CANDIDATES..count).rev() {
        assert!(places.take(limits, later).is_ok(), "found by one search");
        assert_eq!(taken[index].slot.idle_since(), None, "the longest idle first");
    }
    assert_eq!(places.take(limits, later).err(), Some(OverLimit::Total));
    assert!(places.take(limits, later + SEARCH_PAUSE_PER_PLACE * count as u32).is_ok());
}
