//! Upstream connections that NTLM or Negotiate authenticates, each pinned to the connection of one client.
//!
//! These schemes authenticate a connection, not a request (RFC 4559 6), so such a connection never returns to a pool. A
//! client connection has at most one for each upstream. All its requests to that upstream use it, one after the other.
//! It is closed with the client's connection, when the server closes it, or after `client.idle_timeout` without a
//! request. `attempt/pin.rs` decides which requests take a turn.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::sync::{Mutex as TurnMutex, OwnedMutexGuard};
use tokio::task::AbortHandle;

use crate::upstream::UpstreamRuntime;
use crate::upstream::concurrency::OwnedPermit;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::idle_pool::is_quiet;
use crate::upstream::timer::timeout_at;

/// The pinned connections of one client connection.
#[derive(Debug, Default)]
pub(super) struct PinTable {
    /// Any request has needed a pinned connection.
    used: AtomicBool,
    slots: Mutex<Vec<Arc<PinSlot>>>,
}

/// The place for a connection to one upstream.
#[derive(Debug)]
pub(super) struct PinSlot {
    upstream: Arc<UpstreamRuntime>,
    /// Held by the request that uses the connection, or opens it.
    turn: Arc<TurnMutex<()>>,
    idle: Mutex<Option<IdlePin>>,
}

/// A pinned connection between two requests. It is closed after its place was given up.
#[derive(Debug)]
struct IdlePin {
    permit: Option<OwnedPermit>,
    binding: Binding,
    stream: Stream,
    expires: Instant,
    _watcher: Watcher,
}

/// The task that closes an idle connection; it ends with the wait.
#[derive(Debug)]
struct Watcher(AbortHandle);

/// The address of a pinned connection, and its place among those of the server.
#[derive(Debug)]
struct Binding {
    endpoint: Arc<Endpoint>,
    _count: PinCount,
}

/// Counts one pinned connection of a server.
#[derive(Debug)]
struct PinCount {
    upstream: Arc<UpstreamRuntime>,
    server_index: usize,
}

/// The turn of one request at the pinned connection of its client.
#[derive(Debug)]
pub(super) struct PinTurn {
    slot: Arc<PinSlot>,
    /// The connection counts towards `concurrency.max` while it is pinned.
    permit: Option<OwnedPermit>,
    binding: Option<Binding>,
    stream: Option<Stream>,
    _turn: OwnedMutexGuard<()>,
}

impl PinTable {
    /// The slot that a request to this upstream must take its turn at. `authenticates`: the request has credentials that
    /// authenticate the connection. Without them there is one only if there is a connection, or a request that opens one.
    pub(super) fn slot(&self, upstream: &Arc<UpstreamRuntime>, authenticates: bool) -> Option<Arc<PinSlot>> {
        if !authenticates && !self.used.load(Ordering::Acquire) {
            return None;
        }
        let mut slots = self.slots.lock();
        let known = slots.iter().find(|slot| Arc::ptr_eq(&slot.upstream, upstream));
        if let Some(slot) = known {
            return (authenticates || slot.is_in_use()).then(|| Arc::clone(slot));
        }
        if !authenticates {
            return None;
        }
        // A reload may have replaced the upstream of a slot.
        slots.retain(|slot| slot.is_in_use());
        self.used.store(true, Ordering::Release);
        let turn = Arc::default();
        let slot = Arc::new(PinSlot { upstream: Arc::clone(upstream), turn, idle: Mutex::default() });
        slots.push(Arc::clone(&slot));
        Some(slot)
    }
}

impl PinSlot {
    fn is_in_use(&self) -> bool {
        self.turn.try_lock().is_err() || self.idle.lock().is_some()
    }

    /// Waits for the turn of a request, in the order of the calls.
    pub(super) async fn take_turn(self: Arc<Self>) -> PinTurn {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let mut turn = PinTurn { _turn: turn, stream: None, binding: None, permit: None, slot: self };
        let idle = turn.slot.idle.lock().take();
        let Some(mut idle) = idle else { return turn };
        let usable = idle.expires > Instant::now()
            && !idle.binding.endpoint.is_removed()
            && is_quiet(&mut idle.stream, std::task::Waker::noop());
        if usable {
            turn.stream = Some(idle.stream);
            turn.binding = Some(idle.binding);
            turn.permit = idle.permit;
        }
        turn
    }

    /// Closes the idle connection when the server closes it or sends anything, or after `timeout`.
    async fn close_when_unusable(slot: Weak<PinSlot>, expires: Instant) {
        let closed_by_server = poll_fn(|cx| match slot.upgrade() {
            Some(slot) => {
                let quiet =
                    slot.idle.lock().as_mut().is_some_and(|idle| is_quiet(&mut idle.stream, cx.waker()));
                if quiet { Poll::Pending } else { Poll::Ready(()) }
            }
            None => Poll::Ready(()),
        });
        let _ = timeout_at(expires, closed_by_server).await;
        if let Some(slot) = slot.upgrade() {
            // Another connection may have taken its place: that one has a task of its own.
            let mut idle = slot.idle.lock();
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

impl PinTurn {
    /// The address of the connection, if there is one.
    pub(super) fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.stream.as_ref()?;
        self.binding.as_ref().map(|binding| &binding.endpoint)
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
        self.binding = None;
    }

    /// Keeps a connection for the next request, unless its server has `max` pinned connections already.
    pub(super) fn keep(self, (stream, endpoint): (Stream, Arc<Endpoint>), idle_timeout: Duration) {
        let max = self.slot.upstream.settings().keepalive_max;
        let binding = match self.binding {
            Some(binding) if Arc::ptr_eq(&binding.endpoint, &endpoint) => Some(binding),
            Some(_) | None => Binding::new(&self.slot.upstream, endpoint, max),
        };
        let Some(binding) = binding.filter(|binding| !binding.endpoint.is_removed()) else { return };
        let expires = Instant::now() + idle_timeout;
        let mut idle = self.slot.idle.lock();
        // Spawned while the slot is locked: the task sees the connection.
        let watching = PinSlot::close_when_unusable(Arc::downgrade(&self.slot), expires);
        let watcher = Watcher(tokio::spawn(watching).abort_handle());
        *idle = Some(IdlePin { stream, expires, binding, permit: self.permit, _watcher: watcher });
    }

    /// Gives the connection a concurrency permit, to hold while it is pinned.
    pub(super) fn with_permit(self, permit: Option<OwnedPermit>) -> PinTurn {
        PinTurn { permit: permit.or(self.permit), ..self }
    }
}

impl Binding {
    fn new(upstream: &Arc<UpstreamRuntime>, endpoint: Arc<Endpoint>, max: usize) -> Option<Binding> {
        let server_index = endpoint.server_index;
        let counted = upstream.servers().get(server_index)?.try_count_pinned(max);
        counted.then(|| {
            let count = PinCount { upstream: Arc::clone(upstream), server_index };
            Binding { endpoint, _count: count }
        })
    }
}

impl Drop for PinCount {
    fn drop(&mut self) {
        if let Some(server) = self.upstream.servers().get(self.server_index) {
            server.uncount_pinned();
        }
    }
}
