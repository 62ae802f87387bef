//! The run-time state of an upstream: its servers, its connections and the load balancing position.
//!
//! A reload keeps this state if the settings of the upstream are unchanged. It offers candidates for an attempt;
//! `proxy::attempt` decides whether to retry on another one.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use siphasher::sip::SipHasher13;
use tracing::{info, warn};

use super::address_order::Family;
use super::attempt_window::AttemptOutcome;
use super::balance::{self, RoundRobin};
use super::candidate::Candidate;
use super::ejection::{self, EjectionSettings};
use super::endpoint::{AttemptGuard, Endpoint, EndpointState};
use super::resolver::Resolver;
use super::resolver::name_state::{LookupFailure, NameAnswer};
use super::retry_budget::RetryBudget;
use super::server::{AddressChoice, ServerState};
use super::settings::{Balance, UpstreamSettings};
use super::shared_breaker::SharedBreaker;
use super::transport::Transport;

/// The run-time state of one upstream.
#[derive(Debug)]
pub(crate) struct UpstreamRuntime {
    settings: UpstreamSettings,
    servers: Vec<ServerState>,
    weights: Vec<u32>,
    /// Identifies each server for [`Balance::Hash`], independently of its position.
    ids: Vec<u64>,
    rotation: RoundRobin,
    next_server: AtomicUsize,
    longest_base_path: usize,
    /// The number of random choices made.
    seed: AtomicU64,
    /// Whether any address may be ejected.
    ejects: AtomicBool,
    /// Held while one is: two at the same time could exceed `max_ejected`.
    ejecting: Mutex<()>,
    breaker: Option<Arc<SharedBreaker>>,
    budget: Arc<RetryBudget>,
    transport: Transport,
    resolver: Resolver,
}

fn longest_base_path(settings: &UpstreamSettings) -> usize {
    let paths = settings.servers.iter().filter_map(|server| server.base_path.as_ref());
    paths.map(|path| path.as_str().len()).max().unwrap_or(0)
}

/// The shortest wait that is reported to a client.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why no server is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoServer {
    /// No name has been resolved to an address; the reason of the first one.
    Unresolved(LookupFailure),
    /// All servers are unhealthy, ejected, or recovering with a trial in progress.
    Unavailable {
        /// When the first of them may get a request.
        retry_after: Duration,
    },
    /// All servers that get requests have been tried.
    AllTried,
}

impl UpstreamRuntime {
    /// Creates the state without opening any connection. State of `previous` is carried over for addresses that both
    /// have: the addresses themselves, ejections and health, the breaker, the retry budget.
    pub(crate) fn new(settings: UpstreamSettings, previous: Option<&UpstreamRuntime>) -> Self {
        let now = Instant::now();
        let kept = previous.filter(|previous| previous.settings.ejection == settings.ejection);
        let runtime = UpstreamRuntime {
            servers: Vec::new(),
            rotation: RoundRobin::new(&settings.weights()),
            weights: settings.weights(),
            ids: settings.servers.iter().map(|server| hash_of(&server.label)).collect(),
            next_server: AtomicUsize::new(0),
            longest_base_path: longest_base_path(&settings),
            seed: AtomicU64::new(0),
            ejects: AtomicBool::new(false),
            ejecting: Mutex::new(()),
            breaker: breaker_state(&settings, previous, now),
            budget: previous
                .map_or_else(|| Arc::new(RetryBudget::new(now)), |known| Arc::clone(&known.budget)),
            transport: Transport::new(
                settings.keepalive_max,
                settings.keepalive_idle,
                settings.trust.clone(),
                settings.http2,
            ),
            resolver: Resolver::new(settings.names.clone(), settings.dns_refresh),
            settings,
        };
        let servers = runtime.settings.servers.iter().enumerate();
        let servers: Vec<ServerState> = servers
            .map(|(index, spec)| {
                ServerState::new(spec, index, |address| {
                    runtime.endpoint_state(&spec.label, address, kept, now)
                })
            })
            .collect();
        let runtime = UpstreamRuntime { servers, ..runtime };
        if let Some(previous) = previous {
            runtime.copy_addresses(previous, kept, now);
        }
        runtime.limit_ejections(now);
        runtime
    }

    fn endpoint_state(
        &self,
        label: &str,
        address: SocketAddr,
        previous: Option<&UpstreamRuntime>,
        now: Instant,
    ) -> Arc<EndpointState> {
        let known = previous.and_then(|previous| previous.find_state(label, address));
        if let Some(state) = known {
            if self.settings.health.is_none() {
                state.forget_health();
            }
            return state;
        }
        let ejection = self.settings.ejection.clone().unwrap_or_default();
        Arc::new(EndpointState::new(&ejection, now))
    }

    fn find_state(&self, label: &str, address: SocketAddr) -> Option<Arc<EndpointState>> {
        let same = |server: &&ServerState| &*server.label == label;
        let server = self.servers.iter().find(same)?;
        let endpoints = server.endpoints();
        let endpoint = endpoints.iter().find(|endpoint| endpoint.address == address)?;
        Some(Arc::clone(&endpoint.state))
    }

    /// Copies the resolved addresses of servers that `previous` also has, so that changing another setting does not
    /// require new lookups.
    fn copy_addresses(&self, previous: &UpstreamRuntime, kept: Option<&UpstreamRuntime>, now: Instant) {
        for server in self.servers.iter().filter(|server| server.is_name()) {
            // Only names have addresses to copy.
            let same =
                |known: &&ServerState| known.is_name() && known.host_and_port() == server.host_and_port();
            if let Some(known) = previous.servers.iter().find(same) {
                let addresses = known.endpoints().iter().map(|endpoint| endpoint.address).collect();
                server.update(addresses, |address| self.endpoint_state(&server.label, address, kept, now));
                if previous.settings.names == self.settings.names {
                    server.set_name_state(known.name_state());
                }
            }
        }
    }

    /// The settings that this state was created from.
    pub(crate) fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// The name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// The length of the longest base path of a server, in bytes; 0 if none has one.
    pub(crate) const fn longest_base_path(&self) -> usize {
        self.longest_base_path
    }

    /// The servers, in configuration order.
    pub(crate) fn servers(&self) -> &[ServerState] {
        &self.servers
    }

    /// Looks up the names of the servers.
    pub(crate) const fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The connections of the upstream.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The retry budget.
    pub(crate) fn budget(&self) -> &RetryBudget {
        &self.budget
    }

    /// Records a lookup of the name of a server. Connections to addresses that are gone are closed when they are idle.
    pub(crate) fn record_lookup(&self, server: &ServerState, answer: NameAnswer, now: Instant) {
        let mut state = server.name_state();
        state.apply(answer, self.settings.dns_refresh, now);
        let (_, port) = server.host_and_port();
        let addresses = state.addresses().map(|ip| SocketAddr::new(ip, port)).collect();
        server.set_name_state(state);
        let gone = server.update(addresses, |address| self.endpoint_state(&server.label, address, None, now));
        for endpoint in gone {
            endpoint.remove();
            self.transport.drain(&endpoint);
        }
        self.limit_ejections(now);
    }

    /// Applies `max_ejected` to the addresses that there are now. Where fewer are left, some of those that are ejected
    /// are admitted again, those first that would be soonest.
    fn limit_ejections(&self, now: Instant) {
        let Some(settings) = &self.settings.ejection else { return };
        let limit = settings.limit(self.count_addresses(|_| true));
        self.ejects.store(limit > 0, Ordering::Relaxed);
        while self.count_addresses(|endpoint| endpoint.state.is_ejected()) > limit {
            let all = self.servers.iter().flat_map(|server| server.endpoints().to_vec());
            let ejected = all.filter(|endpoint| endpoint.state.is_ejected());
            let Some(next) = ejected.min_by_key(|endpoint| endpoint.state.view(now).wait) else { return };
            if !next.state.readmit(now) {
                return;
            }
            self.log_change(&next, ejection::Change::Readmitted);
        }
    }

    /// How many addresses meet the condition, as `max_ejected` counts them.
    fn count_addresses(&self, condition: impl Fn(&Endpoint) -> bool) -> usize {
        self.servers.iter().map(|server| server.count_addresses(&condition)).sum()
    }

    /// Whether another address may be ejected; it is counted then.
    fn may_eject(&self, next: &Endpoint, settings: &EjectionSettings) -> bool {
        let _one_at_a_time = self.ejecting.lock();
        let ejected = |endpoint: &Endpoint| endpoint.state.is_ejected() || std::ptr::eq(endpoint, next);
        let allowed = self.count_addresses(ejected) <= settings.limit(self.count_addresses(|_| true));
        if allowed {
            next.state.set_ejected();
        }
        allowed
    }

    /// Selects a server and an address that are not in `tried`. `hash` is the hash of the request where
    /// [`Balance::Hash`] applies.
    ///
    /// Only a call with an empty `tried` advances the round-robin position. A repeated request is on trial only if no
    /// other server is left.
    ///
    /// # Errors
    /// No server may get the request.
    pub(crate) fn select(
        &self,
        tried: &[Candidate],
        hash: u64,
        now: Instant,
    ) -> Result<(Candidate, AttemptGuard), NoServer> {
        let count = self.settings.balance == Balance::LeastBusy;
        let by_hash = matches!(self.settings.balance, Balance::Hash(_)).then_some(hash);
        let mut choice = AddressChoice { tried, trials: tried.is_empty(), count, hash: by_hash, now };
        if let Some(selected) = self.select_by_turn(choice) {
            return Ok(selected);
        }
        // A trial that another request takes first makes the selection fail: then its server is no longer available.
        for _ in 0..=self.servers.len() {
            let other_server = |index: usize| {
                !tried.iter().any(|candidate| candidate.server_index == index)
                    && self.is_available(index, choice)
            };
            let mut server = self.choose_server(choice, other_server);
            if server.is_none() && !tried.is_empty() {
                // Another address of a server that was tried.
                server = self.choose_server(choice, |index| self.is_available(index, choice));
            }
            match server.and_then(|index| self.servers.get(index)?.choose(choice)) {
                Some(selected) => return Ok(selected),
                None if choice.trials && server.is_none() => break,
                None => choice.trials = true,
            }
        }
        Err(self.no_server(tried, now))
    }

    /// The server whose turn it is, or the only one. `None` if it gets no requests, or another policy decides: most
    /// requests need no more.
    fn select_by_turn(&self, choice: AddressChoice<'_>) -> Option<(Candidate, AttemptGuard)> {
        let server = match (self.servers.as_slice(), &self.settings.balance) {
            (_, _) if !choice.tried.is_empty() => return None,
            ([only], _) => only,
            (servers, Balance::RoundRobin) => {
                let turn = self.next_server.fetch_add(1, Ordering::Relaxed);
                servers.get(self.rotation.server(turn)?)?
            }
            (_, Balance::Random | Balance::LeastBusy | Balance::Hash(_)) => return None,
        };
        server.choose(choice)
    }

    fn is_available(&self, index: usize, choice: AddressChoice<'_>) -> bool {
        self.servers.get(index).is_some_and(|server| server.is_available(choice))
    }

    fn choose_server(&self, choice: AddressChoice<'_>, available: impl Fn(usize) -> bool) -> Option<usize> {
        let random = || balance::mix(self.seed.fetch_add(1, Ordering::Relaxed));
        match &self.settings.balance {
            Balance::RoundRobin if choice.tried.is_empty() => {
                let turn = self.next_server.fetch_add(1, Ordering::Relaxed);
                let (server, skipped) = self.rotation.available(turn, available)?;
                if skipped > 0 {
                    self.next_server.fetch_add(skipped, Ordering::Relaxed);
                }
                Some(server)
            }
            Balance::RoundRobin | Balance::Random => balance::random(&self.weights, random(), available),
            Balance::LeastBusy => balance::least_busy(&self.weights, random(), available, |index| {
                self.servers.get(index).map_or(0, ServerState::in_flight)
            }),
            Balance::Hash(_) => {
                let id = |index| self.ids.get(index).copied().unwrap_or(0);
                balance::by_hash(&self.weights, choice.hash.unwrap_or(0), id, available)
            }
        }
    }

    fn no_server(&self, tried: &[Candidate], now: Instant) -> NoServer {
        match self.wait_for_server(now) {
            None => {
                let failure = self.servers.iter().find_map(|server| server.name_state().failure());
                NoServer::Unresolved(failure.unwrap_or(LookupFailure::Error))
            }
            Some(_) if !tried.is_empty() => NoServer::AllTried,
            Some(retry_after) => NoServer::Unavailable { retry_after: retry_after.max(MIN_RETRY_AFTER) },
        }
    }

    /// The time until the first server may get a request, zero if one may now; `None` without an address.
    pub(crate) fn wait_for_server(&self, now: Instant) -> Option<Duration> {
        let waits = |server: &ServerState| {
            let endpoints = server.endpoints();
            endpoints.iter().map(|endpoint| endpoint.state.view(now).wait).min()
        };
        self.servers.iter().filter_map(waits).min()
    }

    fn connected(&self, endpoint: &Endpoint) {
        endpoint.state.connected();
        if let Some(server) = self.servers.get(endpoint.server_index) {
            server.connected(&endpoint.address);
        }
    }

    /// Whether a response with this status is a failure of the server.
    pub(crate) fn is_failure_status(&self, status: u16) -> bool {
        self.settings.failure_status.contains(&status)
    }

    /// Records the outcome of an attempt.
    pub(crate) fn record(&self, guard: &mut AttemptGuard, outcome: AttemptOutcome, now: Instant) {
        if let Some(settings) = self.ejection() {
            let change = guard.record(outcome, settings, now, |endpoint| self.may_eject(endpoint, settings));
            self.log_change(guard.endpoint(), change);
        }
    }

    /// The settings of ejection, if any address may be ejected.
    fn ejection(&self) -> Option<&EjectionSettings> {
        self.settings.ejection.as_ref().filter(|_| self.ejects.load(Ordering::Relaxed))
    }

    fn log_change(&self, endpoint: &Endpoint, change: ejection::Change) {
        let (upstream, server, address) = (self.name(), &*endpoint.server, endpoint.address_text());
        match change {
            ejection::Change::None => {}
            ejection::Change::Ejected { duration } => {
                let for_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                warn!(upstream, server, %address, for_ms, "server ejected");
            }
            ejection::Change::Readmitted => info!(upstream, server, %address, "server admitted again"),
        }
    }

    /// The breaker, if configured.
    pub(crate) fn breaker(&self) -> Option<&Arc<SharedBreaker>> {
        self.breaker.as_ref()
    }

    /// Records which addresses of a candidate connected and failed. `guard` moves to the one that connected.
    ///
    /// The families of a name are alternatives: while one of them connects, an address of the other family that does
    /// not is no failure of the server.
    pub(crate) fn connected_after(
        &self,
        guard: &mut AttemptGuard,
        winner: &Arc<Endpoint>,
        failed: &[Arc<Endpoint>],
        now: Instant,
    ) {
        for endpoint in failed {
            if Family::of(&endpoint.address) == Family::of(&winner.address) {
                self.address_failed(guard, endpoint, now);
            }
        }
        guard.move_to(winner);
        self.connected(winner);
    }

    /// Records that an address of a candidate failed, while others are tried.
    pub(crate) fn address_failed(&self, guard: &mut AttemptGuard, endpoint: &Arc<Endpoint>, now: Instant) {
        if Arc::ptr_eq(guard.endpoint(), endpoint) {
            self.record(guard, AttemptOutcome::Failure, now);
        } else if let Some(settings) = self.ejection() {
            let may_eject = || self.may_eject(endpoint, settings);
            let change = endpoint.state.record(AttemptOutcome::Failure, settings, now, may_eject);
            self.log_change(endpoint, change);
        }
    }

    /// Closes idle connections that have expired or that the server has closed. `watcher` is the calling task, which is
    /// woken for the next such event.
    pub(crate) fn sweep(&self, watcher: &Waker) {
        let now = Instant::now();
        self.for_each_endpoint(|endpoint| self.transport.sweep(endpoint, now, watcher));
    }

    fn for_each_endpoint(&self, action: impl Fn(&Endpoint)) {
        for server in &self.servers {
            server.endpoints().iter().for_each(|endpoint| action(endpoint));
        }
    }

    /// Closes idle connections and stops pooling, because a reload has removed the upstream.
    pub(crate) fn close_gracefully(&self) {
        self.transport.close_gracefully();
        self.for_each_endpoint(|endpoint| self.transport.drain(endpoint));
    }
}

/// A hash that is the same in every process, so that all gateways in front of an upstream agree.
pub(crate) fn hash_of(value: impl AsRef<[u8]>) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(value.as_ref());
    hasher.finish()
}

fn breaker_state(
    settings: &UpstreamSettings,
    previous: Option<&UpstreamRuntime>,
    now: Instant,
) -> Option<Arc<SharedBreaker>> {
    let configured = settings.breaker.as_ref()?;
    let known = previous.and_then(|previous| previous.breaker.as_ref());
    let same = known.filter(|known| known.settings() == configured);
    Some(same.map_or_else(|| Arc::new(SharedBreaker::new(configured.clone(), now)), Arc::clone))
}

#[cfg(test)]
#[path = "runtime_tests.rs"]
mod tests;
