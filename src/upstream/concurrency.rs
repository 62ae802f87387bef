//! The concurrency limit of an upstream: a maximum number of requests in flight and a bounded FIFO queue.
//!
//! [`decide`] and [`estimated_wait`] are pure. [`Concurrency`] is the state, which survives reloads. It sets no timer:
//! a request that times out or whose client disconnects drops its [`Ticket`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// The configured limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimits {
    /// Maximum number of requests in flight; at least 1.
    pub max: u32,
    /// Maximum number of queued requests.
    pub queue: u32,
    /// Maximum time in the queue.
    pub queue_timeout: Duration,
}

impl ConcurrencyLimits {
    /// No limit.
    pub(crate) const UNLIMITED: ConcurrencyLimits =
        ConcurrencyLimits { max: u32::MAX, queue: 0, queue_timeout: Duration::ZERO };
}

/// The number of requests at an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// Requests that hold a permit.
    pub in_flight: u32,
    /// Queued requests.
    pub waiting: u32,
}

/// The decision for a new request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmitDecision {
    /// Send the request upstream.
    Admit,
    /// Queue the request.
    Queue,
    /// Reject the request.
    QueueFull,
}

/// Decides for a new request. While any request is queued, later requests are queued behind it.
pub(crate) const fn decide(occupancy: Occupancy, limits: ConcurrencyLimits) -> AdmitDecision {
    if occupancy.waiting == 0 && occupancy.in_flight < limits.max {
        AdmitDecision::Admit
    } else if occupancy.waiting < limits.queue {
        AdmitDecision::Queue
    } else {
        AdmitDecision::QueueFull
    }
}

/// Estimates when a rejected request could get a permit, for Retry-After: the time until the queue is empty, plus one
/// more interval.
///
/// The interval is `hold_time / max`, where `hold_time` is the average time a request holds its permit (`None`:
/// unknown, no estimate). `stalled_for` is the time since a permit was last released; an upstream that has stalled is
/// expected to stall for as long again. The queue is empty after `queue_timeout` at the latest.
pub(crate) fn estimated_wait(
    occupancy: Occupancy,
    limits: ConcurrencyLimits,
    hold_time: Option<Duration>,
    stalled_for: Duration,
) -> Option<Duration> {
    let interval = (hold_time? / limits.max.max(1)).max(stalled_for);
    let wait = interval.saturating_mul(occupancy.waiting).min(limits.queue_timeout).saturating_add(interval);
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The permits and the queue of one upstream.
#[derive(Debug)]
pub(crate) struct Concurrency {
    /// A packed [`Occupancy`]. `waiting` only changes while `queue` is locked, and equals its length.
    occupancy: AtomicU64,
    /// `max` and `queue`, packed like an [`Occupancy`].
    limits: AtomicU64,
    queue_timeout: AtomicU64,
    /// Moving average of the time permits are held, in nanoseconds; 0 before the first release.
    hold_time: AtomicU64,
    /// When a permit was last released, or acquired while none was in use, in nanoseconds since `created_at`.
    last_progress: AtomicU64,
    created_at: Instant,
    queue: Mutex<Queue>,
}

/// The queued requests, by ascending ticket number.
#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    /// Tickets with a lower number have been admitted or dropped.
    admitted_below: u64,
    waiting: VecDeque<(u64, Option<Waker>)>,
}

/// The result for a new request.
#[derive(Debug)]
pub(crate) enum AcquireOutcome<'a> {
    /// The request may be sent upstream.
    Permit(Permit<'a>),
    /// The request is queued.
    Ticket(Ticket<'a>),
    /// The request is rejected.
    QueueFull,
}

/// Counts one request in flight; dropping it admits the next queued request.
#[derive(Debug)]
#[must_use = "it is counted only while it is held"]
pub(crate) struct Permit<'a> {
    concurrency: &'a Concurrency,
    acquired_at: Instant,
}

/// Counts a connection that outlives its requests, like a request in flight; dropping it admits the next queued
/// request.
#[derive(Debug)]
#[must_use = "it is counted only while it is held"]
pub(crate) struct OwnedPermit(Arc<Concurrency>);

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
#[must_use = "it is kept only while it is held"]
pub(crate) struct Ticket<'a> {
    concurrency: &'a Concurrency,
    number: u64,
    admitted: bool,
}

impl Concurrency {
    /// Creates the state with no request in flight.
    pub(crate) fn new(limits: ConcurrencyLimits) -> Self {
        let concurrency = Concurrency {
            occupancy: AtomicU64::new(0),
            limits: AtomicU64::new(0),
            queue_timeout: AtomicU64::new(0),
            hold_time: AtomicU64::new(0),
            last_progress: AtomicU64::new(0),
            created_at: Instant::now(),
            queue: Mutex::default(),
        };
        concurrency.set_limits(limits);
        concurrency
    }

    /// Applies new limits. A lower limit does not affect requests in flight; a higher limit admits queued requests.
    pub(crate) fn set_limits(&self, limits: ConcurrencyLimits) {
        let timeout = u64::try_from(limits.queue_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.queue_timeout.store(timeout, Ordering::Relaxed);
        let packed = pack(Occupancy { in_flight: limits.max.max(1), waiting: limits.queue });
        self.limits.store(packed, Ordering::Release);
        self.admit_waiting(self.queue.lock());
    }

    /// The current limits.
    pub(crate) fn limits(&self) -> ConcurrencyLimits {
        let packed = unpack(self.limits.load(Ordering::Acquire));
        ConcurrencyLimits {
            max: packed.in_flight,
            queue: packed.waiting,
            queue_timeout: Duration::from_nanos(self.queue_timeout.load(Ordering::Relaxed)),
        }
    }

    /// The current number of requests.
    pub(crate) fn occupancy(&self) -> Occupancy {
        unpack(self.occupancy.load(Ordering::Acquire))
    }

    /// The estimated wait for a request rejected at `now`; see the function [`estimated_wait`].
    pub(crate) fn estimated_wait(&self, now: Instant) -> Option<Duration> {
        let nanos = self.hold_time.load(Ordering::Relaxed);
        let hold_time = (nanos > 0).then(|| Duration::from_nanos(nanos));
        let last_progress = Duration::from_nanos(self.last_progress.load(Ordering::Relaxed));
        let stalled_for = now.saturating_duration_since(self.created_at).saturating_sub(last_progress);
        estimated_wait(self.occupancy(), self.limits(), hold_time, stalled_for)
    }

    fn mark_progress(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.created_at).as_nanos();
        self.last_progress.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Admits, queues or rejects a new request. Admitting is one atomic exchange.
    pub(crate) fn try_acquire(&self, now: Instant) -> AcquireOutcome<'_> {
        let limits = self.limits();
        let mut was_idle = false;
        let try_admit = |occupancy: Occupancy| {
            let admits = decide(occupancy, limits) == AdmitDecision::Admit;
            was_idle = occupancy.in_flight == 0;
            admits.then_some(Occupancy { in_flight: occupancy.in_flight + 1, ..occupancy })
        };
        if self.update_occupancy(try_admit).is_ok() {
            if was_idle {
                self.mark_progress(now);
            }
            return AcquireOutcome::Permit(Permit { concurrency: self, acquired_at: now });
        }
        let mut queue = self.queue.lock();
        // The limits may have changed before the queue was locked.
        let limits = self.limits();
        // With an empty queue permits are released without the lock, so decide again, in one exchange.
        let mut decision = AdmitDecision::QueueFull;
        let _ = self.update_occupancy(|occupancy| {
            decision = decide(occupancy, limits);
            match decision {
                AdmitDecision::Admit => Some(Occupancy { in_flight: occupancy.in_flight + 1, ..occupancy }),
                AdmitDecision::Queue => Some(Occupancy { waiting: occupancy.waiting + 1, ..occupancy }),
                AdmitDecision::QueueFull => None,
            }
        });
        match decision {
            AdmitDecision::Admit => AcquireOutcome::Permit(Permit { concurrency: self, acquired_at: now }),
            AdmitDecision::Queue => {
                let number = queue.next_ticket;
                queue.next_ticket += 1;
                queue.waiting.push_back((number, None));
                AcquireOutcome::Ticket(Ticket { concurrency: self, number, admitted: false })
            }
            AdmitDecision::QueueFull => AcquireOutcome::QueueFull,
        }
    }

    /// Releases a permit.
    fn release(&self) {
        let released = |occupancy: Occupancy| Occupancy {
            in_flight: occupancy.in_flight.saturating_sub(1),
            ..occupancy
        };
        if self.update_occupancy(|occupancy| (occupancy.waiting == 0).then(|| released(occupancy))).is_ok() {
            return;
        }
        let queue = self.queue.lock();
        let _ = self.update_occupancy(|occupancy| Some(released(occupancy)));
        self.admit_waiting(queue);
    }

    /// Admits queued requests while permits are available.
    fn admit_waiting(&self, mut queue: MutexGuard<'_, Queue>) {
        let max = self.limits().max;
        let admit_one = |occupancy: Occupancy| {
            let free = occupancy.waiting > 0 && occupancy.in_flight < max;
            free.then_some(Occupancy {
                in_flight: occupancy.in_flight + 1,
                waiting: occupancy.waiting.saturating_sub(1),
            })
        };
        let mut wakers = Vec::new();
        while self.update_occupancy(admit_one).is_ok() {
            if let Some((number, waker)) = queue.waiting.pop_front() {
                queue.admitted_below = number + 1;
                wakers.extend(waker);
            }
        }
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Applies `change` atomically; an error if it returns `None`.
    fn update_occupancy(&self, mut change: impl FnMut(Occupancy) -> Option<Occupancy>) -> Result<(), ()> {
        let packed = |occupancy| change(unpack(occupancy)).map(pack);
        self.occupancy.fetch_update(Ordering::AcqRel, Ordering::Acquire, packed).map(|_| ()).map_err(|_| ())
    }

    /// Updates the average with a weight of 1/8 for the new value. A concurrent update may be lost, which does not
    /// matter for an estimate.
    fn update_hold_time(&self, hold_time: Duration) {
        let hold_time = u64::try_from(hold_time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let previous = self.hold_time.load(Ordering::Relaxed);
        let average = if previous == 0 { hold_time } else { previous - previous / 8 + hold_time / 8 };
        self.hold_time.store(average.max(1), Ordering::Relaxed);
    }
}

impl Permit<'_> {
    /// When the permit was acquired.
    pub(crate) fn acquired_at(&self) -> Instant {
        self.acquired_at
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.concurrency.update_hold_time(now.saturating_duration_since(self.acquired_at));
        self.concurrency.mark_progress(now);
        self.concurrency.release();
    }
}

impl OwnedPermit {
    /// Continues a permit of `concurrency` beyond its request. How long it is held says nothing about how long requests
    /// take.
    pub(crate) fn continue_from(permit: Permit<'_>, concurrency: &Arc<Concurrency>) -> OwnedPermit {
        let _ = concurrency.update_occupancy(|occupancy| {
            Some(Occupancy { in_flight: occupancy.in_flight.saturating_add(1), ..occupancy })
        });
        // Counted twice for a moment, so that no other request takes its place.
        drop(permit);
        OwnedPermit(Arc::clone(concurrency))
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.0.mark_progress(Instant::now());
        self.0.release();
    }
}

impl<'a> Ticket<'a> {
    /// Ready when the request is admitted.
    pub(crate) fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Permit<'a>> {
        let mut queue = self.concurrency.queue.lock();
        if self.number < queue.admitted_below {
            self.admitted = true;
            return Poll::Ready(Permit { concurrency: self.concurrency, acquired_at: Instant::now() });
        }
        if let Ok(at) = queue.waiting.binary_search_by_key(&self.number, |(number, _)| *number)
            && let Some((_, waker)) = queue.waiting.get_mut(at)
        {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.admitted {
            return;
        }
        let mut queue = self.concurrency.queue.lock();
        if self.number < queue.admitted_below {
            // Admitted just before the drop: pass the permit to the next request.
            drop(queue);
            return self.concurrency.release();
        }
        if let Ok(at) = queue.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            queue.waiting.remove(at);
            let _ = self.concurrency.update_occupancy(|occupancy| {
                Some(Occupancy { waiting: occupancy.waiting.saturating_sub(1), ..occupancy })
            });
        }
    }
}

const fn pack(occupancy: Occupancy) -> u64 {
    ((occupancy.in_flight as u64) << 32) | occupancy.waiting as u64
}

const fn unpack(packed: u64) -> Occupancy {
    Occupancy { in_flight: (packed >> 32) as u32, waiting: packed as u32 }
}

/// Upper bound of the estimate: one day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

#[cfg(test)]
#[path = "concurrency_tests.rs"]
mod tests;
