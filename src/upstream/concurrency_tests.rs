//! The rule on its own, the line in its order, and many threads at once.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Wake;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits(max: u32, queue: u32) -> Limits {
    Limits { max, queue, queue_timeout: SECOND * 10 }
}

fn permit<'a>(entry: Entry<'a>) -> Permit<'a> {
    match entry {
        Entry::Permit(permit) => permit,
        other => panic!("no room: {other:?}"),
    }
}

fn place<'a>(entry: Entry<'a>) -> Place<'a> {
    match entry {
        Entry::Place(place) => place,
        other => panic!("not in line: {other:?}"),
    }
}

fn polled<'a>(place: &mut Place<'a>) -> Option<Permit<'a>> {
    match place.poll_turn(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => Some(permit),
        Poll::Pending => None,
    }
}

#[test]
fn there_is_room_up_to_the_limit_then_a_line_then_nothing() {
    let told = |in_flight, waiting| decide(Load { in_flight, waiting }, limits(2, 1));
    assert_eq!(told(0, 0), Decision::Enter);
    assert_eq!(told(1, 0), Decision::Enter);
    assert_eq!(told(2, 0), Decision::Wait);
    assert_eq!(told(2, 1), Decision::Full);
    assert_eq!(told(1, 1), Decision::Full, "nobody overtakes who waits");
    assert_eq!(decide(Load { in_flight: 2, waiting: 0 }, limits(2, 0)), Decision::Full);
    assert_eq!(
        decide(Load { in_flight: 5, waiting: 0 }, limits(2, 1)),
        Decision::Wait,
        "a limit that shrank"
    );
}

#[test]
fn the_next_turn_comes_after_the_line_and_one_turn_more() {
    let told = |max, waiting, service| {
        next_turn(Load { in_flight: max, waiting }, limits(max, 64), Some(service), Duration::ZERO)
    };
    assert_eq!(told(1, 3, SECOND), Some(SECOND * 4));
    assert_eq!(told(2, 3, SECOND), Some(SECOND * 2));
    assert_eq!(
        told(1, 64, SECOND),
        Some(SECOND * 11),
        "who waits gives up after ten, and then there is room"
    );
    assert_eq!(told(1, u32::MAX, Duration::MAX), Some(SECOND * 86_400));
    assert_eq!(next_turn(Load::default(), limits(1, 1), None, SECOND), None);
    let full = Load { in_flight: 2, waiting: 0 };
    let stands_still = next_turn(full, limits(2, 0), Some(SECOND / 100), SECOND * 4);
    assert_eq!(stands_still, Some(SECOND * 4), "it was quick once, and nothing has ended for four seconds");
}

#[test]
fn who_comes_first_goes_first_and_who_leaves_the_line_is_passed_over() {
    let shop = Concurrency::new(limits(1, 3));
    let now = Instant::now();
    let first = permit(shop.enter(now));
    let mut second = place(shop.enter(now));
    let third = place(shop.enter(now));
    let mut fourth = place(shop.enter(now));
    assert!(matches!(shop.enter(now), Entry::Full));
    assert!(polled(&mut second).is_none() && polled(&mut fourth).is_none());
    drop(first);
    assert!(polled(&mut fourth).is_none());
    let second = polled(&mut second).unwrap();
    assert_eq!(shop.load(), Load { in_flight: 1, waiting: 2 });
    drop(third);
    assert_eq!(shop.load(), Load { in_flight: 1, waiting: 1 });
    drop(second);
    drop(polled(&mut fourth).unwrap());
    assert_eq!(shop.load(), Load::default());
}

#[test]
fn a_turn_that_comes_to_somebody_who_is_leaving_goes_to_the_next() {
    let shop = Concurrency::new(limits(1, 2));
    let now = Instant::now();
    let first = permit(shop.enter(now));
    let second = place(shop.enter(now));
    let mut third = place(shop.enter(now));
    drop(first);
    drop(second);
    drop(polled(&mut third).unwrap());
    assert_eq!(shop.load(), Load::default());
}

#[test]
fn a_larger_limit_lets_in_who_waits_and_a_smaller_one_throws_nobody_out() {
    let shop = Concurrency::new(limits(1, 2));
    let now = Instant::now();
    let first = permit(shop.enter(now));
    let mut second = place(shop.enter(now));
    shop.set_limits(limits(2, 2));
    let second = polled(&mut second).unwrap();
    shop.set_limits(limits(1, 2));
    let mut third = place(shop.enter(now));
    drop(first);
    assert!(polled(&mut third).is_none());
    drop(second);
    assert!(polled(&mut third).is_some());
}

#[test]
fn the_time_that_permits_are_held_is_followed() {
    let shop = Concurrency::new(limits(1, 0));
    assert_eq!(shop.next_turn(Instant::now()), None);
    let now = Instant::now();
    let Some(long_ago) = now.checked_sub(SECOND * 4) else { return };
    drop(permit(shop.enter(long_ago)));
    let _busy = permit(shop.enter(now));
    assert!(shop.next_turn(Instant::now()).is_some_and(|wait| (SECOND * 4..SECOND * 5).contains(&wait)));
}

/// Wakes a parked thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn many_at_once_never_exceed_the_limit_and_nobody_is_forgotten() {
    const MAX: u32 = 3;
    let shop = Concurrency::new(limits(MAX, 6));
    let (inside, served, refused) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let work = |permit: Permit<'_>| {
        assert!(inside.fetch_add(1, Ordering::SeqCst) < MAX);
        std::thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
        drop(permit);
        served.fetch_add(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let (shop, work, refused) = (&shop, &work, &refused);
            scope.spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                for turn in 0..2_000_u32 {
                    match shop.enter(Instant::now()) {
                        Entry::Permit(permit) => work(permit),
                        Entry::Full => {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        // Some lose patience, at whatever moment that is.
                        Entry::Place(place) if (turn + thread) % 5 == 0 => {
                            drop(place);
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        Entry::Place(mut place) => loop {
                            match place.poll_turn(&mut Context::from_waker(&waker)) {
                                Poll::Ready(permit) => break work(permit),
                                // A waiter that was forgotten would hang the test here.
                                Poll::Pending => std::thread::park(),
                            }
                        },
                    }
                }
            });
        }
    });
    assert_eq!(served.into_inner() + refused.into_inner(), 16_000);
    assert_eq!(shop.load(), Load::default());
}
