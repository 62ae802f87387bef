//! Upstream connections that NTLM or Negotiate authenticates, each pinned to the connection of one client.
//!
//! These schemes authenticate a connection, not a request (RFC 4559 6), so such a connection never returns to a pool. A
//! client connection has at most one for each upstream. All its requests to that upstream use it, one after the other.
//! It is closed with the client's connection, when the server closes it, or after `client.idle_timeout` without a
//! request. `attempt/pinned_lock.rs` decides which requests take the lock.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::task::AbortHandle;

use crate::upstream::UpstreamRuntime;
use crate::upstream::concurrency::OwnedPermit;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::idle_pool::is_quiet;
use crate::upstream::timer::timeout_at;

/// The pinned connections of one client connection.
#[derive(Debug, Default)]
pub(super) struct PinnedConnections {
    /// Any request has needed a pinned connection.
    used: AtomicBool,
    entries: Mutex<Vec<Arc<PinnedEntry>>>,
}

/// The client's connection to one upstream, if there is one, and the lock that its requests hold one after the other.
#[derive(Debug)]
pub(super) struct PinnedEntry {
    upstream: Arc<UpstreamRuntime>,
    /// Held by the request that uses the connection, or opens it.
    lock: Arc<AsyncMutex<()>>,
    idle: Mutex<Option<IdlePinned>>,
}

/// A pinned connection between two requests. Fields drop in this order: the permit and the count are released before
/// the stream closes.
#[derive(Debug)]
struct IdlePinned {
    permit: Option<OwnedPermit>,
    pinned: PinnedEndpoint,
    stream: Stream,
    expires: Instant,
    _watcher: Watcher,
}

/// The task that closes an idle connection; it is aborted when a request takes the connection.
#[derive(Debug)]
struct Watcher(AbortHandle);

/// The address of a pinned connection, counted among the pinned connections of its server.
#[derive(Debug)]
struct PinnedEndpoint {
    endpoint: Arc<Endpoint>,
    _count: PinnedCount,
}

/// Counts one pinned connection of a server.
#[derive(Debug)]
struct PinnedCount {
    upstream: Arc<UpstreamRuntime>,
    server_index: usize,
}

/// One request's exclusive use of the pinned connection of its client, or its right to open one.
#[derive(Debug)]
pub(super) struct PinnedLock {
    entry: Arc<PinnedEntry>,
    /// The connection counts towards `concurrency.max` while it is pinned.
    permit: Option<OwnedPermit>,
    pinned: Option<PinnedEndpoint>,
    stream: Option<Stream>,
    _guard: OwnedMutexGuard<()>,
}

impl PinnedConnections {
    /// The entry whose lock a request to this upstream must hold. `authenticates`: the request has credentials that
    /// authenticate the connection. A request without credentials needs the lock only if the connection is open or
    /// being opened; otherwise `None`.
    pub(super) fn entry(
        &self,
        upstream: &Arc<UpstreamRuntime>,
        authenticates: bool,
    ) -> Option<Arc<PinnedEntry>> {
        if !authenticates && !self.used.load(Ordering::Acquire) {
            return None;
        }
        let mut entries = self.entries.lock();
        let known = entries.iter().find(|entry| Arc::ptr_eq(&entry.upstream, upstream));
        if let Some(entry) = known {
            return (authenticates || entry.is_in_use()).then(|| Arc::clone(entry));
        }
        if !authenticates {
            return None;
        }
        // A reload may have replaced the upstream of an entry.
        entries.retain(|entry| entry.is_in_use());
        self.used.store(true, Ordering::Release);
        let lock = Arc::default();
        let entry = Arc::new(PinnedEntry { upstream: Arc::clone(upstream), lock, idle: Mutex::default() });
        entries.push(Arc::clone(&entry));
        Some(entry)
    }
}

impl PinnedEntry {
    fn is_in_use(&self) -> bool {
        self.lock.try_lock().is_err() || self.idle.lock().is_some()
    }

    /// Waits for the lock; requests get it in the order of their calls.
    pub(super) async fn lock(self: Arc<Self>) -> PinnedLock {
        let guard = Arc::clone(&self.lock).lock_owned().await;
        let mut held = PinnedLock { _guard: guard, stream: None, pinned: None, permit: None, entry: self };
        let idle = held.entry.idle.lock().take();
        let Some(mut idle) = idle else { return held };
        let usable = idle.expires > Instant::now()
            && !idle.pinned.endpoint.is_removed()
            && is_quiet(&mut idle.stream, std::task::Waker::noop());
        if usable {
            held.stream = Some(idle.stream);
            held.pinned = Some(idle.pinned);
            held.permit = idle.permit;
        }
        held
    }

    /// Closes the idle connection when the server closes it or sends anything, or at `expires`.
    async fn close_when_unusable(entry: Weak<PinnedEntry>, expires: Instant) {
        let closed_by_server = poll_fn(|cx| match entry.upgrade() {
            Some(entry) => {
                let quiet =
                    entry.idle.lock().as_mut().is_some_and(|idle| is_quiet(&mut idle.stream, cx.waker()));
                if quiet { Poll::Pending } else { Poll::Ready(()) }
            }
            None => Poll::Ready(()),
        });
        let _ = timeout_at(expires, closed_by_server).await;
        if let Some(entry) = entry.upgrade() {
            // Another connection may be in the entry by now: that one has a task of its own.
            let mut idle = entry.idle.lock();
            if idle.as_ref().is_some_and(|idle| idle.expires == expires) {
                *idle = None;
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PinnedLock {
    /// The address of the connection, if there is one.
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.stream.as_ref()?;
        self.pinned.as_ref().map(|pinned| &pinned.endpoint)
    }

    /// Whether the connection holds a concurrency permit: the request needs no other one.
    pub(super) fn has_permit(&self) -> bool {
        self.permit.is_some()
    }

    /// Takes the connection for the request.
    pub(super) fn take_stream(&mut self) -> Option<Stream> {
        self.stream.take()
    }

    /// Closes the connection: its server gets no requests now.
    pub(super) fn close(&mut self) {
        self.stream = None;
        self.pinned = None;
    }

    /// Keeps a connection for the next request, unless its server already has `keepalive.max` pinned connections.
    pub(super) fn keep(self, stream: Stream, endpoint: Arc<Endpoint>, idle_timeout: Duration) {
        let max = self.entry.upstream.settings().keepalive_max;
        let pinned = match self.pinned {
            Some(pinned) if Arc::ptr_eq(&pinned.endpoint, &endpoint) => Some(pinned),
            Some(_) | None => PinnedEndpoint::new(&self.entry.upstream, endpoint, max),
        };
        let Some(pinned) = pinned.filter(|pinned| !pinned.endpoint.is_removed()) else { return };
        let expires = Instant::now() + idle_timeout;
        let mut idle = self.entry.idle.lock();
        // Spawned while the entry is locked: the task sees the connection.
        let watching = PinnedEntry::close_when_unusable(Arc::downgrade(&self.entry), expires);
        let watcher = Watcher(tokio::spawn(watching).abort_handle());
        *idle = Some(IdlePinned { stream, expires, pinned, permit: self.permit, _watcher: watcher });
    }

    /// Gives the connection a concurrency permit, to hold while it is pinned.
    pub(super) fn with_permit(self, permit: Option<OwnedPermit>) -> PinnedLock {
        PinnedLock { permit: permit.or(self.permit), ..self }
    }
}

impl PinnedEndpoint {
    fn new(upstream: &Arc<UpstreamRuntime>, endpoint: Arc<Endpoint>, max: usize) -> Option<PinnedEndpoint> {
        let server_index = endpoint.server_index;
        let counted = upstream.servers().get(server_index)?.try_count_pinned(max);
        counted.then(|| {
            let count = PinnedCount { upstream: Arc::clone(upstream), server_index };
            PinnedEndpoint { endpoint, _count: count }
        })
    }
}

impl Drop for PinnedCount {
    fn drop(&mut self) {
        if let Some(server) = self.upstream.servers().get(self.server_index) {
            server.uncount_pinned();
        }
    }
}
