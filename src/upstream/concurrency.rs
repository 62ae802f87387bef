//! How many requests an upstream works on at once, and who waits for a turn: a limit, and a bounded line in front of it,
//! first come, first served.
//!
//! [`decide`] and [`next_turn`] are pure; [`Concurrency`] is the state they look at, carried from snapshot to snapshot
//! like the upstream itself. It knows no request and sets no timer: who waits too long, or has nobody left to answer,
//! drops its [`Place`]. What a refused client is told is decided elsewhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// What the operator allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests at once; at least 1.
    pub max: u32,
    /// Requests that may wait for one of them to end.
    pub queue: u32,
    /// And for how long.
    pub queue_timeout: Duration,
}

impl Limits {
    /// As many as come.
    pub const NONE: Limits = Limits { max: u32::MAX, queue: 0, queue_timeout: Duration::ZERO };
}

/// How busy an upstream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that hold a permit.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub waiting: u32,
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes to the upstream.
    Enter,
    /// It waits behind those who came before.
    Wait,
    /// It is refused.
    Full,
}

/// The rule. Nobody overtakes: while one waits, everybody who comes later does.
pub const fn decide(load: Load, limits: Limits) -> Decision {
    if load.waiting == 0 && load.in_flight < limits.max {
        Decision::Enter
    } else if load.waiting < limits.queue {
        Decision::Wait
    } else {
        Decision::Full
    }
}

/// How long it takes until a refused request would have its turn: the line before it has been served (or has given up,
/// which nobody puts off beyond the limit), and one turn more. `service` is how long a request has recently held its
/// permit; while that is not known, neither is this. `quiet` is how long none has been given back: an upstream that was
/// quick once and stands still now is expected to stand still for as long again.
pub fn next_turn(load: Load, limits: Limits, service: Option<Duration>, quiet: Duration) -> Option<Duration> {
    let turn = (service? / limits.max.max(1)).max(quiet);
    let wait = turn.saturating_mul(load.waiting).min(limits.queue_timeout).saturating_add(turn);
    Some(wait.min(LONGEST_ADVICE))
}

/// The state of one upstream.
#[derive(Debug)]
pub struct Concurrency {
    /// A [`Load`]. `waiting` changes only with the line locked, and is then its length.
    load: AtomicU64,
    /// `max` and `queue`, packed as a load is.
    limits: AtomicU64,
    queue_timeout: AtomicU64,
    /// How long permits are held, in nanoseconds, as a moving average; 0 when none has ended yet.
    service: AtomicU64,
    /// When a permit was last given back, or the first one taken after a rest, in nanoseconds from `origin`.
    moved: AtomicU64,
    origin: Instant,
    line: Mutex<Line>,
}

/// Those who wait, by rising number.
#[derive(Debug, Default)]
struct Line {
    next: u64,
    /// Everybody below, who has not left by himself, has been let in.
    let_in: u64,
    waiting: VecDeque<(u64, Option<Waker>)>,
}

/// The answer to a request that arrives.
#[derive(Debug)]
pub enum Entry<'a> {
    /// It goes to the upstream and is counted while this is held.
    Permit(Permit<'a>),
    /// It waits.
    Place(Place<'a>),
    /// It is refused.
    Full,
}

/// One request that the upstream works on; dropping it lets the next one in.
#[derive(Debug)]
#[must_use = "it is counted only while it is held"]
pub struct Permit<'a> {
    of: &'a Concurrency,
    since: Instant,
}

/// A place in the line; dropping it leaves the line.
#[derive(Debug)]
#[must_use = "it is kept only while it is held"]
pub struct Place<'a> {
    of: &'a Concurrency,
    number: u64,
    has_entered: bool,
}

impl Concurrency {
    /// An upstream at rest.
    pub fn new(limits: Limits) -> Self {
        let concurrency = Concurrency {
            load: AtomicU64::new(0),
            limits: AtomicU64::new(0),
            queue_timeout: AtomicU64::new(0),
            service: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            origin: Instant::now(),
            line: Mutex::default(),
        };
        concurrency.set_limits(limits);
        concurrency
    }

    /// From now on these limits hold. Requests that are at the upstream stay there; a larger limit lets in who waits.
    pub fn set_limits(&self, limits: Limits) {
        let timeout = u64::try_from(limits.queue_timeout.as_nanos()).unwrap_or(u64::MAX);
        self.queue_timeout.store(timeout, Ordering::Relaxed);
        let packed = pack(Load { in_flight: limits.max.max(1), waiting: limits.queue });
        self.limits.store(packed, Ordering::Release);
        self.let_in(self.line.lock());
    }

    /// The limits that hold.
    pub fn limits(&self) -> Limits {
        let packed = unpack(self.limits.load(Ordering::Acquire));
        Limits {
            max: packed.in_flight,
            queue: packed.waiting,
            queue_timeout: Duration::from_nanos(self.queue_timeout.load(Ordering::Relaxed)),
        }
    }

    /// How busy the upstream is now.
    pub fn load(&self) -> Load {
        unpack(self.load.load(Ordering::Acquire))
    }

    /// How long it takes until a request that is refused now would have its turn; see [`next_turn`].
    pub fn next_turn(&self, now: Instant) -> Option<Duration> {
        let nanos = self.service.load(Ordering::Relaxed);
        let service = (nanos > 0).then(|| Duration::from_nanos(nanos));
        let moved = Duration::from_nanos(self.moved.load(Ordering::Relaxed));
        let quiet = now.saturating_duration_since(self.origin).saturating_sub(moved);
        next_turn(self.load(), self.limits(), service, quiet)
    }

    fn moves(&self, now: Instant) {
        let nanos = now.saturating_duration_since(self.origin).as_nanos();
        self.moved.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A request arrives. While there is room this is one atomic exchange.
    pub fn enter(&self, now: Instant) -> Entry<'_> {
        let limits = self.limits();
        let mut rested = false;
        let entering = |load: Load| {
            let enters = decide(load, limits) == Decision::Enter;
            rested = load.in_flight == 0;
            enters.then_some(Load { in_flight: load.in_flight + 1, ..load })
        };
        if self.step(entering).is_ok() {
            if rested {
                self.moves(now);
            }
            return Entry::Permit(Permit { of: self, since: now });
        }
        let mut line = self.line.lock();
        // The limits may have been raised meanwhile, and whoever was let in for it has been.
        let limits = self.limits();
        // Permits are given back without the lock while nobody waits, so it is decided anew, in one exchange.
        let mut decision = Decision::Full;
        let _ = self.step(|load| {
            decision = decide(load, limits);
            match decision {
                Decision::Enter => Some(Load { in_flight: load.in_flight + 1, ..load }),
                Decision::Wait => Some(Load { waiting: load.waiting + 1, ..load }),
                Decision::Full => None,
            }
        });
        match decision {
            Decision::Enter => Entry::Permit(Permit { of: self, since: now }),
            Decision::Wait => {
                let number = line.next;
                line.next += 1;
                line.waiting.push_back((number, None));
                Entry::Place(Place { of: self, number, has_entered: false })
            }
            Decision::Full => Entry::Full,
        }
    }

    /// A permit is given back.
    fn leave(&self) {
        let left = |load: Load| Load { in_flight: load.in_flight.saturating_sub(1), ..load };
        if self.step(|load| (load.waiting == 0).then(|| left(load))).is_ok() {
            return;
        }
        let line = self.line.lock();
        let _ = self.step(|load| Some(left(load)));
        self.let_in(line);
    }

    /// Lets in as many of those who wait as there is room for.
    fn let_in(&self, mut line: MutexGuard<'_, Line>) {
        let max = self.limits().max;
        let turn = |load: Load| {
            let free = load.waiting > 0 && load.in_flight < max;
            free.then_some(Load { in_flight: load.in_flight + 1, waiting: load.waiting.saturating_sub(1) })
        };
        let mut called = Vec::new();
        while self.step(turn).is_ok() {
            if let Some((number, waker)) = line.waiting.pop_front() {
                line.let_in = number + 1;
                called.extend(waker);
            }
        }
        drop(line);
        called.into_iter().for_each(Waker::wake);
    }

    /// Changes the load as long as `change` wants to.
    fn step(&self, mut change: impl FnMut(Load) -> Option<Load>) -> Result<(), ()> {
        let packed = |load| change(unpack(load)).map(pack);
        self.load.fetch_update(Ordering::AcqRel, Ordering::Acquire, packed).map(|_| ()).map_err(|_| ())
    }

    /// One part in eight of every new time: a few dozen requests and the average has followed. Two that end at once may
    /// lose one of the two times, which costs nothing.
    fn learn(&self, held: Duration) {
        let held = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX).max(1);
        let known = self.service.load(Ordering::Relaxed);
        let average = if known == 0 { held } else { known - known / 8 + held / 8 };
        self.service.store(average.max(1), Ordering::Relaxed);
    }
}

impl Permit<'_> {
    /// Since when it is held.
    pub fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        self.of.learn(now.saturating_duration_since(self.since));
        self.of.moves(now);
        self.of.leave();
    }
}

impl<'a> Place<'a> {
    /// Ready when it is this request's turn.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Permit<'a>> {
        let mut line = self.of.line.lock();
        if self.number < line.let_in {
            self.has_entered = true;
            return Poll::Ready(Permit { of: self.of, since: Instant::now() });
        }
        if let Ok(at) = line.waiting.binary_search_by_key(&self.number, |(number, _)| *number)
            && let Some((_, waker)) = line.waiting.get_mut(at)
        {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.has_entered {
            return;
        }
        let mut line = self.of.line.lock();
        if self.number < line.let_in {
            // Let in at the moment of giving up: the turn is the next one's.
            drop(line);
            return self.of.leave();
        }
        if let Ok(at) = line.waiting.binary_search_by_key(&self.number, |(number, _)| *number) {
            line.waiting.remove(at);
            let _ = self.of.step(|load| Some(Load { waiting: load.waiting.saturating_sub(1), ..load }));
        }
    }
}

const fn pack(load: Load) -> u64 {
    ((load.in_flight as u64) << 32) | load.waiting as u64
}

const fn unpack(packed: u64) -> Load {
    Load { in_flight: (packed >> 32) as u32, waiting: packed as u32 }
}

/// Nobody is sent away for longer than a day.
const LONGEST_ADVICE: Duration = Duration::from_secs(86_400);

#[cfg(test)]
#[path = "concurrency_tests.rs"]
mod tests;
