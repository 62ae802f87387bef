//! Counts open connections across listeners, and assigns the slots within the connection limits. If no slot is free,
//! the connection that has been idle longest is evicted.
//!
//! The counts follow the lifetimes of [`ConnectionGuard`] and [`ConnectionSlot`], so they cannot leak. The lock is
//! taken when a connection opens and closes, and for requests only on connections over a limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::idle_state::IdleState;
use crate::http::peer::Peer;

/// Up to this many slots, each new connection may search for an idle one.
const MAX_SLOTS_WITHOUT_PAUSE: usize = 256;
/// Above that, two searches are at least this far apart for each slot, so that a flood of connections causes little
/// work.
const SEARCH_PAUSE_PER_SLOT: Duration = Duration::from_micros(1);
/// At least this many of the longest-idle connections are found at once.
const MIN_CANDIDATES: usize = 64;

/// Counts open connections and enforces the connection limits.
#[derive(Debug)]
pub(crate) struct ConnectionTracker {
    open: AtomicUsize,
    /// The number of slots in use.
    slots_in_use: AtomicUsize,
    slots: Mutex<Slots>,
    /// Idle times are nanoseconds since this.
    started: Instant,
    /// How many connections over the limit may be open at once.
    max_over_limit: usize,
    /// Notified when a connection closes.
    closed: Notify,
}

/// The key that counts the connections of a client: its IPv4 address or IPv6 network. All peers of Unix sockets share
/// one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct ClientKey(Option<IpAddr>);

impl ClientKey {
    /// The key of a peer. `ipv6_prefix` is the number of bits that identify an IPv6 client.
    pub(in crate::proxy) fn new(peer: Peer, ipv6_prefix: u8) -> Self {
        ClientKey(peer.to_canonical().ip().map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(_) => IpNet::new(address, ipv6_prefix).map_or(address, |net| net.network()),
        }))
    }
}

/// The limits for a new connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct ConnectionLimits {
    /// Maximum number of connections.
    pub(in crate::proxy) total: usize,
    /// The client, and its maximum; `None` without such a limit.
    pub(in crate::proxy) client: Option<(ClientKey, usize)>,
}

/// Why a connection gets no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum OverLimit {
    /// No slot is free, and no idle connection was found, or the last search was too recent.
    Total,
    /// The client has as many slots as one client may have.
    Client,
}

impl ConnectionTracker {
    /// Up to `max_over_limit` connections over the limit are accepted at once; their next request is rejected, unless a
    /// slot is free by then. Further connections wait in the kernel's accept queue.
    pub(crate) fn new(max_over_limit: usize) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(ConnectionTracker {
            open: AtomicUsize::new(0),
            slots_in_use: AtomicUsize::new(0),
            slots: Mutex::new(Slots::new(started)),
            started,
            max_over_limit: max_over_limit.max(1),
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

    /// Waits until another connection may be accepted under a limit of `max_slots`. After the limit was lowered, more
    /// slots than that may be in use; their connections do not count as over the limit.
    pub(crate) async fn wait_for_capacity(&self, max_slots: usize) {
        self.wait_until(|| {
            let slots_in_use = self.slots_in_use.load(Ordering::Acquire);
            self.count() < max_slots.max(slots_in_use).saturating_add(self.max_over_limit)
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

    /// Acquires a slot within the limits. If none is free, the connection that has been idle longest is evicted.
    ///
    /// # Errors
    /// No idle connection was found, or the client has too many connections.
    pub(in crate::proxy) fn acquire_slot(
        self: &Arc<Self>,
        limits: ConnectionLimits,
    ) -> Result<ConnectionSlot, OverLimit> {
        let mut slots = self.slots.lock();
        let slot = slots.acquire(limits, Instant::now());
        self.slots_in_use.store(slots.taken.len(), Ordering::Release);
        drop(slots);
        Ok(ConnectionSlot { slot: slot?, tracker: Arc::clone(self) })
    }
}

/// The slots within the connection limits.
#[derive(Debug)]
struct Slots {
    taken: HashMap<u64, Arc<SlotEntry>>,
    by_client: HashMap<ClientKey, usize>,
    next_id: u64,
    /// The connections that were idle longest at the last search, and since when; the longest is the last.
    candidates: Vec<(u64, Arc<SlotEntry>)>,
    next_search: Instant,
}

/// The slot of one connection.
#[derive(Debug)]
struct SlotEntry {
    id: u64,
    client: Option<ClientKey>,
    idle: IdleState,
}

impl Slots {
    fn new(now: Instant) -> Self {
        Slots {
            taken: HashMap::new(),
            by_client: HashMap::new(),
            next_id: 0,
            candidates: Vec::new(),
            next_search: now,
        }
    }

    fn acquire(&mut self, limits: ConnectionLimits, now: Instant) -> Result<Arc<SlotEntry>, OverLimit> {
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
        let slot = Arc::new(SlotEntry { id, client, idle: IdleState::default() });
        self.taken.insert(id, Arc::clone(&slot));
        Ok(slot)
    }

    /// Releases a slot, unless its connection was evicted.
    fn release(&mut self, slot: &SlotEntry) {
        if self.taken.remove(&slot.id).is_none() {
            return;
        }
        if let Some(client) = slot.client
            && let Some(count) = self.by_client.get_mut(&client)
        {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
    }

    /// Evicts the connection that has been idle longest. Returns false if no idle connection was found.
    fn evict_longest_idle(&mut self, now: Instant) -> bool {
        // A candidate whose idle time was not interrupted has been idle longer than any connection that became idle
        // after the search.
        self.evict_candidate() || (self.search(now) && self.evict_candidate())
    }

    fn evict_candidate(&mut self) -> bool {
        while let Some((idle_since, slot)) = self.candidates.pop() {
            if self.taken.contains_key(&slot.id) && slot.idle.evict(idle_since) {
                self.release(&slot);
                return true;
            }
        }
        false
    }

    /// Finds the connections that have been idle longest. Returns false if the last search was too recent.
    fn search(&mut self, now: Instant) -> bool {
        let count = self.taken.len();
        if count > MAX_SLOTS_WITHOUT_PAUSE {
            if now < self.next_search {
                return false;
            }
            let pause = SEARCH_PAUSE_PER_SLOT.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
            self.next_search = now + pause;
        }
        let idle = |slot: &Arc<SlotEntry>| Some((slot.idle.idle_since()?, Arc::clone(slot)));
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

/// A slot within the connection limits, released on drop. While its connection is idle, it may be evicted.
#[derive(Debug)]
pub(in crate::proxy) struct ConnectionSlot {
    tracker: Arc<ConnectionTracker>,
    slot: Arc<SlotEntry>,
}

impl ConnectionSlot {
    /// Records that the connection is idle: it has served a request, and no other one has begun.
    pub(in crate::proxy) fn set_idle(&self, now: Instant) {
        let since_start = now.saturating_duration_since(self.tracker.started);
        self.slot.idle.set_idle(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Records that a request has begun. Returns false if the connection was evicted.
    #[must_use]
    pub(in crate::proxy) fn set_busy(&self) -> bool {
        self.slot.idle.set_busy()
    }

    /// Becomes ready when the connection is evicted.
    pub(in crate::proxy) fn poll_evicted(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.slot.idle.poll_evicted(cx)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut slots = self.tracker.slots.lock();
        slots.release(&self.slot);
        self.tracker.slots_in_use.store(slots.taken.len(), Ordering::Release);
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
