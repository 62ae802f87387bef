//! Counts open connections across listeners, and gives out the places within the connection limits. When all places are
//! taken, the connection that has been idle longest loses its place.
//!
//! The counts follow the lifetimes of [`ConnectionGuard`] and [`ConnectionPermit`], so they cannot leak. The lock is taken
//! when a connection opens and closes, not for requests.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::idle_slot::IdleSlot;

/// Up to this many places are searched for idle connections without a pause between searches.
const MAX_UNPACED_SEARCH: usize = 256;
/// With more places, the pause between two searches, per place: a flood of connections causes little work.
const SEARCH_PAUSE_PER_PLACE: Duration = Duration::from_micros(1);
/// At least this many of the longest-idle connections are found at once.
const MIN_CANDIDATES: usize = 64;

/// Counts open connections and enforces the connection limits.
#[derive(Debug)]
pub(crate) struct ConnectionTracker {
    open: AtomicUsize,
    /// The number of places in use.
    permits: AtomicUsize,
    places: Mutex<Places>,
    /// Idle times are nanoseconds since this.
    started: Instant,
    max_overflow: usize,
    closed: Notify,
}

/// What connections of one client are counted by: its address, IPv6 by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct ClientKey(IpAddr);

impl ClientKey {
    /// The key of an address. `ipv6_prefix` is the number of bits that identify an IPv6 client.
    pub(in crate::proxy) fn new(address: IpAddr, ipv6_prefix: u8) -> Self {
        let address = address.to_canonical();
        match address {
            IpAddr::V4(_) => ClientKey(address),
            IpAddr::V6(_) => ClientKey(IpNet::new(address, ipv6_prefix).map_or(address, |net| net.network())),
        }
    }
}

/// The limits for a new connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct ConnectionLimits {
    /// Connections at once.
    pub(in crate::proxy) total: usize,
    /// The client, and its connections at once; `None` without such a limit.
    pub(in crate::proxy) client: Option<(ClientKey, usize)>,
}

/// Why a connection gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum OverLimit {
    /// All places are taken, and none of the connections is idle.
    Total,
    /// The client has all places that one client may have.
    Client,
}

impl ConnectionTracker {
    /// Up to `max_overflow` connections over the limit are accepted at once and get an error response. Further
    /// connections wait in the kernel's accept queue.
    pub(crate) fn new(max_overflow: usize) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(ConnectionTracker {
            open: AtomicUsize::new(0),
            permits: AtomicUsize::new(0),
            places: Mutex::new(Places::new(started)),
            started,
            max_overflow: max_overflow.max(1),
            closed: Notify::new(),
        })
    }

    /// The number of open connections, including those over the limit.
    pub(crate) fn count(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until no connection is open.
    pub(crate) async fn drained(&self) {
        self.wait_until(|| self.count() == 0).await;
    }

    /// Waits until another connection may be accepted under a limit of `max_permits`. After the limit was lowered, more
    /// permits than that may be in use; they do not count as overflow.
    pub(crate) async fn wait_for_capacity(&self, max_permits: usize) {
        self.wait_until(|| {
            let permits = self.permits.load(Ordering::Acquire);
            self.count() < max_permits.max(permits).saturating_add(self.max_overflow)
        })
        .await;
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            let closed = self.closed.notified();
            if condition() {
                return;
            }
            closed.await;
        }
    }

    /// Counts a newly accepted connection until the guard is dropped.
    pub(crate) fn register(self: &Arc<Self>) -> ConnectionGuard {
        self.open.fetch_add(1, Ordering::AcqRel);
        ConnectionGuard(Arc::clone(self))
    }

    /// Takes a place within the limits. If all are taken, the connection that has been idle longest loses its place.
    ///
    /// # Errors
    /// No connection is idle, or the client has too many.
    pub(in crate::proxy) fn acquire_permit(
        self: &Arc<Self>,
        limits: ConnectionLimits,
    ) -> Result<ConnectionPermit, OverLimit> {
        let mut places = self.places.lock();
        let place = places.take(limits, Instant::now());
        self.permits.store(places.taken.len(), Ordering::Release);
        drop(places);
        Ok(ConnectionPermit { place: place?, tracker: Arc::clone(self) })
    }
}

/// The places within the connection limit.
#[derive(Debug)]
struct Places {
    taken: HashMap<u64, Arc<Place>>,
    by_client: HashMap<ClientKey, usize>,
    next_id: u64,
    /// The connections that were idle longest at the last search, the longest at the end, and since when.
    candidates: Vec<(u64, Arc<Place>)>,
    next_search: Instant,
}

/// The place of one connection.
#[derive(Debug)]
struct Place {
    id: u64,
    client: Option<ClientKey>,
    slot: IdleSlot,
}

impl Places {
    fn new(now: Instant) -> Self {
        Places {
            taken: HashMap::new(),
            by_client: HashMap::new(),
            next_id: 0,
            candidates: Vec::new(),
            next_search: now,
        }
    }

    fn take(&mut self, limits: ConnectionLimits, now: Instant) -> Result<Arc<Place>, OverLimit> {
        if let Some((client, max)) = limits.client
            && self.by_client.get(&client).is_some_and(|count| *count >= max)
        {
            return Err(OverLimit::Client);
        }
        // More than one after the limit was lowered.
        while self.taken.len() >= limits.total {
            if !self.evict_longest_idle(now) {
                return Err(OverLimit::Total);
            }
        }
        let client = limits.client.map(|(client, _)| client);
        if let Some(client) = client {
            *self.by_client.entry(client).or_default() += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        let place = Arc::new(Place { id, client, slot: IdleSlot::default() });
        self.taken.insert(id, Arc::clone(&place));
        Ok(place)
    }

    /// Gives back a place, unless another connection has taken it.
    fn give_back(&mut self, place: &Place) {
        if self.taken.remove(&place.id).is_none() {
            return;
        }
        if let Some(client) = place.client
            && let Some(count) = self.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
    }

    /// Frees the place of the connection that has been idle longest. Returns false if none is idle.
    fn evict_longest_idle(&mut self, now: Instant) -> bool {
        // A candidate that is still idle since then has been idle longer than all that became idle after the search.
        self.evict_candidate() || (self.search(now) && self.evict_candidate())
    }

    fn evict_candidate(&mut self) -> bool {
        while let Some((idle_since, place)) = self.candidates.pop() {
            if self.taken.contains_key(&place.id) && place.slot.evict(idle_since) {
                self.give_back(&place);
                return true;
            }
        }
        false
    }

    /// Finds the connections that have been idle longest. Returns false if the last search was too recent.
    fn search(&mut self, now: Instant) -> bool {
        let count = self.taken.len();
        if count > MAX_UNPACED_SEARCH {
            if now < self.next_search {
                return false;
            }
            let pause = SEARCH_PAUSE_PER_PLACE.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
            self.next_search = now + pause;
        }
        let idle = |place: &Arc<Place>| Some((place.slot.idle_since()?, Arc::clone(place)));
        let mut idle: Vec<_> = self.taken.values().filter_map(idle).collect();
        let wanted = MIN_CANDIDATES.max(count / 16);
        if idle.len() > wanted {
            idle.select_nth_unstable_by_key(wanted, |(idle_since, _)| *idle_since);
            idle.truncate(wanted);
        }
        idle.sort_unstable_by_key(|(idle_since, _)| std::cmp::Reverse(*idle_since));
        self.candidates = idle;
        true
    }
}

/// Counts one open connection while it exists.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(Arc<ConnectionTracker>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.closed.notify_waiters();
    }
}

/// A place within the connection limit, released on drop. While its connection is idle, another one may take it.
#[derive(Debug)]
pub(in crate::proxy) struct ConnectionPermit {
    tracker: Arc<ConnectionTracker>,
    place: Arc<Place>,
}

impl ConnectionPermit {
    /// Records that the connection is idle: it has served a request, and no other one has begun.
    pub(in crate::proxy) fn set_idle(&self, now: Instant) {
        let since_start = now.saturating_duration_since(self.tracker.started);
        self.place.slot.set_idle(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records that a request has begun. Returns false if another connection has taken the place.
    #[must_use]
    pub(in crate::proxy) fn set_busy(&self) -> bool {
        self.place.slot.set_busy()
    }

    /// Becomes ready when another connection has taken the place.
    pub(in crate::proxy) fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place.slot.poll_evicted(cx)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut places = self.tracker.places.lock();
        places.give_back(&self.place);
        self.tracker.permits.store(places.taken.len(), Ordering::Release);
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
