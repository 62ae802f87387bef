//! How many requests an upstream works on at once, and who waits for a turn: a limit, and a bounded line in front of it,
//! first come, first served.
//!
//! [`decide`] and [`estimated_wait`] are pure; [`Concurrency`] is the state they look at, carried from snapshot to snapshot
//! like the upstream itself. It knows no request and sets no timer: who waits too long, or has nobody left to answer,
//! drops its [`Ticket`]. What a refused client is told is decided elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimits {
    /// Requests at once; at least 1.
    pub max: u32,
    /// Requests that may wait for one of them to end.
    pub queue: u32,
    /// And for how long.
    pub queue_timeout: Duration,
}

impl ConcurrencyLimits {
    /// As many as come.
    pub const UNLIMITED: ConcurrencyLimits =
        ConcurrencyLimits { max: u32::MAX, queue: 0, queue_timeout: Duration::ZERO };
}

/// How busy an upstream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Requests that hold a permit.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub waiting: u32,
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmitDecision {
    /// It goes to the upstream.
    Admit,
    /// It waits behind those who came before.
    Queue,
    /// It is refused.
    QueueFull,
}

/// The rule. Nobody overtakes: while one waits, everybody who comes later does.
pub const fn decide(occupancy: Occupancy, limits: ConcurrencyLimits) -> AdmitDecision {
    if occupancy.waiting == 0 && occupancy.in_flight < limits.max {
        AdmitDecision::Admit
    } else if occupancy.waiting < limits.queue {
        AdmitDecision::Queue
    } else {
        AdmitDecision::QueueFull
    }
}

/// How long it takes until a refused request would have its turn: the line before it has been served (or has given up,
/// which nobody puts off beyond the limit), and one turn more. `hold_time` is how long a request has recently held its
/// permit; while that is not known, neither is this. `stalled_for` is how long none has been given back: an upstream that was
/// quick once and stands still now is expected to stand still for as long again.
pub fn estimated_wait(
    occupancy: Occupancy,
    limits: ConcurrencyLimits,
    hold_time: Option<Duration>,
    stalled_for: Duration,
) -> Option<Duration> {
    let interval = (hold_time? / limits.max.max(1)).max(stalled_for);
    let wait = interval.saturating_mul(occupancy.waiting).min(limits.queue_timeout).saturating_add(interval);
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The state of one upstream.
#[derive(Debug)]
pub struct Concurrency {
    /// A [`Occupancy`]. `waiting` changes only with the line locked, and is then its length.
    occupancy: AtomicU64,
    /// `max` and `queue`, packed as a load is.
    limits: AtomicU64,
    queue_timeout: AtomicU64,
    /// How long permits are held, in nanoseconds, as a moving average; 0 when none has ended yet.
    hold_time: AtomicU64,
    /// When a permit was last given back, or the first one taken after a rest, in nanoseconds from `created_at`.
    last_progress: AtomicU64,
    created_at: Instant,
    queue: Mutex<Queue>,
}

/// Those who wait, by rising number.
#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    /// Everybody below, who has not left by himself, has been let in.
    admitted_below: u64,
    waiting: VecDeque<(u64, Option<Waker>)>,
}

/// The answer to a request that arrives.
#[derive(Debug)]
pub enum Admission<'a> {
    /// It goes to the upstream and is counted while this is held.
    Permit(Permit<'a>),
    /// It waits.
    Ticket(Ticket<'a>),
    /// It is refused.
    QueueFull,
}

/// One request that the upstream works on; dropping it lets the next one in.
#[derive(Debug)]
#[must_use = "it is counted only while it is held"]
pub struct Permit<'a> {
    concurrency: &'a Concurrency,
    acquired_at: Instant,
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
#[must_use = "it is kept only while it is held"]
pub struct Ticket<'a> {
    concurrency: &'a Concurrency,
    number: u64,
    admitted: bool,
}

impl Concurrency {
    /// An upstream at rest.
    pub fn new(limits: ConcurrencyLimits) -> Self {
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

    /// From now on these limits hold. Requests that are at the upstream stay there; a larger limit lets in who waits.
    pub fn set_limits(&self, limits: ConcurrencyLimits) {
        let timeout = u64::try_from(limits.queue_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.queue_timeout.store(timeout, Ordering::Relaxed);
        let packed = pack(Occupancy { in_flight: limits.max.max(1), waiting: limits.queue });
        self.limits.store(packed, Ordering::Release);
        self.admit_waiting(self.queue.lock());
    }

    /// The limits that hold.
    pub fn limits(&self) -> ConcurrencyLimits {
        let packed = unpack(self.limits.load(Ordering::Acquire));
        ConcurrencyLimits {
            max: packed.in_flight,
            queue: packed.waiting,
            queue_timeout: Duration::from_nanos(self.queue_timeout.load(Ordering::Relaxed)),
        }
    }

    /// How busy the upstream is now.
    pub fn occupancy(&self) -> Occupancy {
        unpack(self.occupancy.load(Ordering::Acquire))
    }

    /// How long it takes until a request that is refused now would have its turn; see [`estimated_wait`].
    pub fn estimated_wait(&self, now: Instant) -> Option<Duration> {
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

    /// A request arrives. While there is room this is one atomic exchange.
    pub fn try_acquire(&self, now: Instant) -> Admission<'_> {
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
            return Admission::Permit(Permit { concurrency: self, acquired_at: now });
        }
        let mut queue = self.queue.lock();
        // The limits may have been raised meanwhile, and whoever was let in for it has been.
        let limits = self.limits();
        // Permits are given back without the lock while nobody waits, so it is decided anew, in one exchange.
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
            AdmitDecision::Admit => Admission::Permit(Permit { concurrency: self, acquired_at: now }),
            AdmitDecision::Queue => {
                let number = queue.next_ticket;
                queue.next_ticket += 1;
                queue.waiting.push_back((number, None));
                Admission::Ticket(Ticket { concurrency: self, number, admitted: false })
            }
            AdmitDecision::QueueFull => Admission::QueueFull,
        }
    }

    /// A permit is given back.
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

    /// Lets in as many of those who wait as there is room for.
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

    /// Changes the load as long as `change` wants to.
    fn update_occupancy(&self, mut change: impl FnMut(Occupancy) -> Option<Occupancy>) -> Result<(), ()> {
        let packed = |occupancy| change(unpack(occupancy)).map(pack);
        self.occupancy.fetch_update(Ordering::AcqRel, Ordering::Acquire, packed).map(|_| ()).map_err(|_| ())
    }

    /// One part in eight of every new time: a few dozen requests and the average has followed. Two that end at once may
    /// lose one of the two times, which costs nothing.
    fn update_hold_time(&self, hold_time: Duration) {
        let hold_time = u64::try_from(hold_time.as_nanos()).unwrap_or(u64::MAX).max(1);
        let previous = self.hold_time.load(Ordering::Relaxed);
        let average = if previous == 0 { hold_time } else { previous - previous / 8 + hold_time / 8 };
        self.hold_time.store(average.max(1), Ordering::Relaxed);
    }
}

impl Permit<'_> {
    /// Since when it is held.
    pub fn acquired_at(&self) -> Instant {
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

impl<'a> Ticket<'a> {
    /// Ready when it is this request's turn.
    pub fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<Permit<'a>> {
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
            // Let in at the moment of giving up: the turn is the next one's.
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

/// Nobody is sent away for longer than a day.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(86_400);

#[cfg(test)]
#[path = "concurrency_tests.rs"]
mod tests;
