//! Tests of the decision, the queue order and concurrent use.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::task::Wake;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits(max: u32, queue: u32) -> ConcurrencyLimits {
    ConcurrencyLimits { max, queue, queue_timeout: SECOND * 10 }
}

fn permit<'a>(admission: AcquireOutcome<'a>) -> Permit<'a> {
    match admission {
        AcquireOutcome::Permit(permit) => permit,
        other => panic!("no permit: {other:?}"),
    }
}

fn ticket<'a>(admission: AcquireOutcome<'a>) -> Ticket<'a> {
    match admission {
        AcquireOutcome::Ticket(ticket) => ticket,
        other => panic!("not queued: {other:?}"),
    }
}

fn polled<'a>(ticket: &mut Ticket<'a>) -> Option<Permit<'a>> {
    match ticket.poll_permit(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(permit) => Some(permit),
        Poll::Pending => None,
    }
}

#[test]
fn requests_are_admitted_then_queued_then_rejected() {
    let decision = |in_flight, waiting| decide(Occupancy { in_flight, waiting }, limits(2, 1));
    assert_eq!(decision(0, 0), AdmitDecision::Admit);
    assert_eq!(decision(1, 0), AdmitDecision::Admit);
    assert_eq!(decision(2, 0), AdmitDecision::Queue);
    assert_eq!(decision(2, 1), AdmitDecision::QueueFull);
    assert_eq!(decision(1, 1), AdmitDecision::QueueFull, "queued requests go first");
    assert_eq!(decide(Occupancy { in_flight: 2, waiting: 0 }, limits(2, 0)), AdmitDecision::QueueFull);
    assert_eq!(
        decide(Occupancy { in_flight: 5, waiting: 0 }, limits(2, 1)),
        AdmitDecision::Queue,
        "the limit was lowered"
    );
}

#[test]
fn estimated_wait_is_the_queue_plus_one_interval() {
    let estimated = |max, waiting, hold_time| {
        estimated_wait(
            Occupancy { in_flight: max, waiting },
            limits(max, 64),
            Some(hold_time),
            Duration::ZERO,
        )
    };
    assert_eq!(estimated(1, 3, SECOND), Some(SECOND * 4));
    assert_eq!(estimated(2, 3, SECOND), Some(SECOND * 2));
    assert_eq!(estimated(1, 64, SECOND), Some(SECOND * 11), "all queued requests time out after 10 s");
    assert_eq!(estimated(1, u32::MAX, Duration::MAX), Some(SECOND * 86_400));
    assert_eq!(estimated_wait(Occupancy::default(), limits(1, 1), None, SECOND), None);
    let full = Occupancy { in_flight: 2, waiting: 0 };
    let stalled = estimated_wait(full, limits(2, 0), Some(SECOND / 100), SECOND * 4);
    assert_eq!(stalled, Some(SECOND * 4), "no permit was released for 4 s");
}

#[test]
fn queue_is_first_come_first_served_and_skips_dropped_tickets() {
    let upstream = Concurrency::new(limits(1, 3));
    let now = Instant::now();
    let first = permit(upstream.try_acquire(now));
    let mut second = ticket(upstream.try_acquire(now));
    let third = ticket(upstream.try_acquire(now));
    let mut fourth = ticket(upstream.try_acquire(now));
    assert!(matches!(upstream.try_acquire(now), AcquireOutcome::QueueFull));
    assert!(polled(&mut second).is_none() && polled(&mut fourth).is_none());
    drop(first);
    assert!(polled(&mut fourth).is_none());
    let second = polled(&mut second).unwrap();
    assert_eq!(upstream.occupancy(), Occupancy { in_flight: 1, waiting: 2 });
    drop(third);
    assert_eq!(upstream.occupancy(), Occupancy { in_flight: 1, waiting: 1 });
    drop(second);
    drop(polled(&mut fourth).unwrap());
    assert_eq!(upstream.occupancy(), Occupancy::default());
}

#[test]
fn permit_of_a_dropped_ticket_goes_to_the_next() {
    let upstream = Concurrency::new(limits(1, 2));
    let now = Instant::now();
    let first = permit(upstream.try_acquire(now));
    let second = ticket(upstream.try_acquire(now));
    let mut third = ticket(upstream.try_acquire(now));
    drop(first);
    drop(second);
    drop(polled(&mut third).unwrap());
    assert_eq!(upstream.occupancy(), Occupancy::default());
}

#[test]
fn raised_limit_admits_queued_requests_and_lowered_limit_evicts_none() {
    let upstream = Concurrency::new(limits(1, 2));
    let now = Instant::now();
    let first = permit(upstream.try_acquire(now));
    let mut second = ticket(upstream.try_acquire(now));
    upstream.set_limits(limits(2, 2));
    let second = polled(&mut second).unwrap();
    upstream.set_limits(limits(1, 2));
    let mut third = ticket(upstream.try_acquire(now));
    drop(first);
    assert!(polled(&mut third).is_none());
    drop(second);
    assert!(polled(&mut third).is_some());
}

#[test]
fn hold_time_is_averaged() {
    let upstream = Concurrency::new(limits(1, 0));
    assert_eq!(upstream.estimated_wait(Instant::now()), None);
    let now = Instant::now();
    let Some(long_ago) = now.checked_sub(SECOND * 4) else { return };
    drop(permit(upstream.try_acquire(long_ago)));
    let _busy = permit(upstream.try_acquire(now));
    assert!(
        upstream.estimated_wait(Instant::now()).is_some_and(|wait| (SECOND * 4..SECOND * 5).contains(&wait))
    );
}

/// Wakes a parked thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn concurrent_threads_never_exceed_the_limit_or_lose_a_ticket() {
    const MAX: u32 = 3;
    let upstream = Concurrency::new(limits(MAX, 6));
    let (active, served, refused) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let work = |permit: Permit<'_>| {
        assert!(active.fetch_add(1, Ordering::SeqCst) < MAX);
        std::thread::yield_now();
        active.fetch_sub(1, Ordering::SeqCst);
        drop(permit);
        served.fetch_add(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let (upstream, work, refused) = (&upstream, &work, &refused);
            scope.spawn(move || {
                let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
                for round in 0..2_000_u32 {
                    match upstream.try_acquire(Instant::now()) {
                        AcquireOutcome::Permit(permit) => work(permit),
                        AcquireOutcome::QueueFull => {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        // Some requests leave the queue at an arbitrary time.
                        AcquireOutcome::Ticket(ticket) if (round + thread) % 5 == 0 => {
                            drop(ticket);
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        AcquireOutcome::Ticket(mut ticket) => loop {
                            match ticket.poll_permit(&mut Context::from_waker(&waker)) {
                                Poll::Ready(permit) => break work(permit),
                                // A lost wakeup would hang the test here.
                                Poll::Pending => std::thread::park(),
                            }
                        },
                    }
                }
            });
        }
    });
    assert_eq!(served.into_inner() + refused.into_inner(), 16_000);
    assert_eq!(upstream.occupancy(), Occupancy::default());
}
