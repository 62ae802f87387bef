//! One address of one server: whether it gets requests, and its idle connections.
//!
//! The decisions are those of [`super::ejection`] and [`super::health`]. Choosing an address without a failure or
//! restriction reads one flag; recording an outcome takes one short lock.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::pki_types::ServerName;

use super::attempt_window::AttemptOutcome;
use super::ejection::{Admission, Change, Ejection, EjectionSettings};
use super::health::{CheckResult, FinishedCheck, Health, HealthSettings};
use super::idle_pool::IdlePool;
use crate::http::base_path::BasePath;
use crate::tls::stream::Stream;

/// How long a client should wait while another request is on trial.
const TRIAL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The identity of an address, and its state.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The server's label: `host:port` as configured, with the base path.
    pub server: Arc<str>,
    /// The position of the server in the configuration.
    pub server_index: usize,
    /// The address to connect to, unless there is a socket.
    pub address: SocketAddr,
    /// The Unix socket to connect to.
    pub socket: Option<Arc<Path>>,
    /// The path before the path of every request.
    pub base_path: Option<BasePath>,
    /// The name to verify the certificate against; `None` without TLS.
    pub tls_name: Option<Arc<ServerName<'static>>>,
    /// Survives reloads, and is shared by equal servers.
    pub(crate) state: Arc<EndpointState>,
    /// The idle HTTP/1 connections.
    pub(super) idle: IdlePool<Stream>,
    /// The address is no longer one of the server's: its connections are not kept.
    removed: AtomicBool,
}

/// What is known about an address from its requests and checks.
#[derive(Debug)]
pub(crate) struct EndpointState {
    /// Whether `inner` says anything but: admitted, healthy, did not fail.
    flagged: AtomicBool,
    in_flight: AtomicU32,
    /// It is ejected or recovering, and counts towards `max_ejected`.
    ejected: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    ejection: Ejection,
    health: Health,
    next_check: Option<Instant>,
    /// How long the checks take that follow the first one that passes.
    rise_time: Duration,
    /// When a connection failed, if none has succeeded since.
    failed_at: Option<Instant>,
}

/// Whether an address gets requests. The order is from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerHealth {
    /// It gets its share.
    Healthy,
    /// It was ejected, and gets one request at a time until one has succeeded.
    Recovering,
    /// Its requests failed: it gets none for some time.
    Ejected,
    /// Its health checks failed: it gets none until they pass.
    Unhealthy,
}

impl ServerHealth {
    /// The name in metrics and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            ServerHealth::Healthy => "healthy",
            ServerHealth::Recovering => "recovering",
            ServerHealth::Ejected => "ejected",
            ServerHealth::Unhealthy => "unhealthy",
        }
    }
}

/// What the selection needs to know about an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndpointView {
    /// Whether it gets requests.
    pub health: ServerHealth,
    /// A recovering address has a trial in progress.
    pub on_trial: bool,
    /// When a connection failed, if none has succeeded since.
    pub failed_at: Option<Instant>,
    /// How long until it may get a request; zero if it may now.
    pub wait: Duration,
}

impl EndpointView {
    const USABLE: EndpointView = EndpointView {
        health: ServerHealth::Healthy,
        on_trial: false,
        failed_at: None,
        wait: Duration::ZERO,
    };
}

impl EndpointState {
    /// An address without history.
    pub(crate) fn new(settings: &EjectionSettings, now: Instant) -> Self {
        EndpointState {
            flagged: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            ejected: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                ejection: Ejection::new(settings, now),
                health: Health::default(),
                next_check: None,
                rise_time: Health::RISE_TIME,
                failed_at: None,
            }),
        }
    }

    /// Whether it counts towards `max_ejected`: from its ejection until it is admitted again.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Counts it towards `max_ejected`, because its ejection begins.
    pub(super) fn set_ejected(&self) {
        self.ejected.store(true, Ordering::Relaxed);
    }

    /// Ends an ejection, whatever its requests were. Returns whether there was one.
    pub(super) fn readmit(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        let change = inner.ejection.readmit(now);
        self.after_change(&inner, change);
        change == Change::Readmitted
    }

    /// The requests in flight, where they are counted.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the address gets requests.
    pub(crate) fn view(&self, now: Instant) -> EndpointView {
        if !self.flagged.load(Ordering::Acquire) {
            return EndpointView::USABLE;
        }
        let inner = self.inner.lock();
        let view = EndpointView { failed_at: inner.failed_at, ..EndpointView::USABLE };
        if !inner.health.is_healthy() {
            let next = inner.next_check.unwrap_or(now).saturating_duration_since(now);
            let wait = next.saturating_add(inner.rise_time);
            return EndpointView { health: ServerHealth::Unhealthy, wait, ..view };
        }
        match inner.ejection.admission(now) {
            Admission::Admitted => view,
            Admission::Recovering { trial_in_progress } => EndpointView {
                health: ServerHealth::Recovering,
                on_trial: trial_in_progress,
                wait: if trial_in_progress { TRIAL_RETRY_AFTER } else { Duration::ZERO },
                ..view
            },
            Admission::Ejected { until } => {
                let wait = until.saturating_duration_since(now);
                EndpointView { health: ServerHealth::Ejected, wait, ..view }
            }
        }
    }

    /// A health check begins. It may fail although the server has recovered meanwhile; then the next one is due at
    /// `next`.
    pub(crate) fn begin_check(&self, next: Instant) {
        let mut inner = self.inner.lock();
        if !inner.health.is_rising() {
            inner.next_check = Some(next);
        }
    }

    /// Records a health check, and when the next one is due. Returns whether the state changed.
    pub(crate) fn record_check(
        &self,
        check: FinishedCheck,
        settings: &HealthSettings,
        next: impl FnOnce(Health) -> Instant,
    ) -> Option<ServerHealth> {
        let mut inner = self.inner.lock();
        let before = inner.health;
        inner.health = before.after(check.result, settings);
        inner.next_check = Some(next(inner.health));
        if check.result == CheckResult::Passed {
            let took = check.ended.saturating_duration_since(check.started);
            inner.rise_time = Health::RISE_TIME.saturating_add(took.saturating_mul(settings.rise));
        }
        let changed = before.is_healthy() != inner.health.is_healthy();
        if changed && inner.health.is_healthy() {
            inner.ejection.recover(check.ended);
        }
        self.update_flag(&inner);
        changed.then_some(if inner.health.is_healthy() {
            ServerHealth::Healthy
        } else {
            ServerHealth::Unhealthy
        })
    }

    /// Makes the address healthy, because checks are switched off.
    pub(crate) fn forget_health(&self) {
        let mut inner = self.inner.lock();
        inner.health = Health::default();
        self.update_flag(&inner);
    }

    /// Records that a connection failed.
    pub(crate) fn connect_failed(&self, now: Instant) {
        let mut inner = self.inner.lock();
        inner.failed_at = Some(now);
        self.update_flag(&inner);
    }

    /// Records that a connection succeeded.
    pub(crate) fn connected(&self) {
        if self.flagged.load(Ordering::Acquire) {
            let mut inner = self.inner.lock();
            inner.failed_at = None;
            self.update_flag(&inner);
        }
    }

    /// Records the outcome of a request that was no trial.
    pub(crate) fn record(
        &self,
        outcome: AttemptOutcome,
        settings: &EjectionSettings,
        now: Instant,
        may_eject: impl FnOnce() -> bool,
    ) -> Change {
        let mut inner = self.inner.lock();
        let change = inner.ejection.record(outcome, settings, now, may_eject);
        self.after_change(&inner, change);
        change
    }

    fn begin_trial(&self, now: Instant) -> bool {
        self.inner.lock().ejection.begin_trial(now)
    }

    fn end_trial(
        &self,
        outcome: Option<AttemptOutcome>,
        settings: &EjectionSettings,
        now: Instant,
    ) -> Change {
        let mut inner = self.inner.lock();
        let change = inner.ejection.end_trial(outcome, settings, now);
        self.after_change(&inner, change);
        change
    }

    fn after_change(&self, inner: &Inner, change: Change) {
        let ejected = match change {
            Change::None => return,
            Change::Ejected { .. } => true,
            Change::Readmitted => false,
        };
        self.ejected.store(ejected, Ordering::Relaxed);
        self.update_flag(inner);
    }

    fn update_flag(&self, inner: &Inner) {
        let flagged = self.is_ejected() || !inner.health.is_healthy() || inner.failed_at.is_some();
        self.flagged.store(flagged, Ordering::Release);
    }
}

impl Endpoint {
    /// An address with this state.
    pub(crate) fn new(
        server: Arc<str>,
        server_index: usize,
        address: SocketAddr,
        tls_name: Option<Arc<ServerName<'static>>>,
        state: Arc<EndpointState>,
    ) -> Self {
        Endpoint {
            server,
            server_index,
            address,
            socket: None,
            base_path: None,
            tls_name,
            state,
            idle: IdlePool::default(),
            removed: AtomicBool::new(false),
        }
    }

    /// The same with a Unix socket instead of the address.
    pub(crate) fn with_socket(self, socket: Option<Arc<Path>>) -> Self {
        Endpoint { socket, ..self }
    }

    /// The same with this base path.
    pub(crate) fn with_base_path(self, base_path: Option<BasePath>) -> Self {
        Endpoint { base_path, ..self }
    }

    /// The address or the socket, for the log.
    pub(crate) fn address_text(&self) -> String {
        match &self.socket {
            Some(_) => self.server.to_string(),
            None => self.address.to_string(),
        }
    }

    /// The host that the server itself would name: `host:port` as configured; `localhost` for a Unix socket, as nginx
    /// and curl send it.
    pub(crate) fn host(&self) -> &str {
        match (&self.socket, &self.base_path) {
            (Some(_), _) => "localhost",
            (None, Some(base)) => self.server.strip_suffix(base.as_str()).unwrap_or(&self.server),
            (None, None) => &self.server,
        }
    }

    /// Whether connections to it may be kept.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Keeps no further connection.
    pub(crate) fn remove(&self) {
        self.removed.store(true, Ordering::Relaxed);
    }
}

/// A request at an address, from its selection until its outcome is recorded. Without an outcome, nothing is recorded.
#[derive(Debug)]
pub(crate) struct AttemptGuard {
    endpoint: Arc<Endpoint>,
    is_trial: bool,
    is_counted: bool,
}

impl AttemptGuard {
    /// Selects the address for a request; `None` if it recovers and another request is on trial. `count` is whether the
    /// requests in flight are counted.
    pub(crate) fn begin(
        endpoint: Arc<Endpoint>,
        view: EndpointView,
        count: bool,
        now: Instant,
    ) -> Option<Self> {
        let is_trial = match view.health {
            ServerHealth::Healthy => false,
            ServerHealth::Recovering if endpoint.state.begin_trial(now) => true,
            ServerHealth::Recovering | ServerHealth::Ejected | ServerHealth::Unhealthy => return None,
        };
        if count {
            endpoint.state.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Some(AttemptGuard { endpoint, is_trial, is_counted: count })
    }

    /// Selects the address again, for another attempt of the same request.
    pub(crate) fn reselect(endpoint: &Arc<Endpoint>, now: Instant) -> Option<Self> {
        AttemptGuard::begin(Arc::clone(endpoint), endpoint.state.view(now), false, now)
    }

    /// The address.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The request goes to another address of the same server, because the first one did not connect.
    pub(crate) fn move_to(&mut self, endpoint: &Arc<Endpoint>) {
        if Arc::ptr_eq(&self.endpoint, endpoint) {
            return;
        }
        if std::mem::take(&mut self.is_trial) {
            self.endpoint.state.end_trial(None, &EjectionSettings::default(), Instant::now());
        }
        if self.is_counted {
            self.endpoint.state.in_flight.fetch_sub(1, Ordering::Relaxed);
            endpoint.state.in_flight.fetch_add(1, Ordering::Relaxed);
        }
        self.endpoint = Arc::clone(endpoint);
    }

    /// Whether the request decides whether a recovering address is admitted again.
    pub(crate) const fn is_trial(&self) -> bool {
        self.is_trial
    }

    /// Records the outcome. `may_eject` is asked only if the outcome ejects the address.
    pub(crate) fn record(
        &mut self,
        outcome: AttemptOutcome,
        settings: &EjectionSettings,
        now: Instant,
        may_eject: impl FnOnce(&Endpoint) -> bool,
    ) -> Change {
        let endpoint = &self.endpoint;
        if std::mem::take(&mut self.is_trial) {
            endpoint.state.end_trial(Some(outcome), settings, now)
        } else {
            endpoint.state.record(outcome, settings, now, || may_eject(endpoint))
        }
    }
}

impl Drop for AttemptGuard {
    fn drop(&mut self) {
        if self.is_trial {
            self.endpoint.state.end_trial(None, &EjectionSettings::default(), Instant::now());
        }
        if self.is_counted {
            self.endpoint.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
