//! A server of an upstream: its configured name and the addresses that the name has now.
//!
//! The list is empty until the first successful lookup; an IP address and `localhost` need none. [`NameState`] decides
//! what a lookup changes. An address that a new lookup has too keeps its state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;

use super::address_order::{self, AddressView, Family, MAX_ADDRESSES};
use super::candidate::Candidate;
use super::endpoint::{AttemptGuard, Endpoint, EndpointState, EndpointView, ServerHealth};
use super::resolver::name_state::NameState;
use super::settings::ServerSpec;
use crate::http::base_path::BasePath;

/// The run-time state of one server.
#[derive(Debug)]
pub(crate) struct ServerState {
    /// `host:port` as configured, with the base path, used in metrics and logs.
    pub label: Arc<str>,
    index: usize,
    host: String,
    port: u16,
    is_literal: bool,
    socket: Option<Arc<Path>>,
    base_path: Option<BasePath>,
    tls_name: Option<Arc<ServerName<'static>>>,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// What lookups have found; unused for an address.
    name: Mutex<NameState>,
    /// The turn among the addresses.
    turn: AtomicUsize,
    /// The family that connected last: `FAMILY_V6` or `FAMILY_V4`.
    family: AtomicU8,
    /// The connections that are pinned to a client.
    pinned: AtomicUsize,
}

const FAMILY_V6: u8 = 0;
const FAMILY_V4: u8 = 1;

/// What a request needs to choose an address.
#[derive(Clone, Copy)]
pub(super) struct AddressChoice<'a> {
    /// Addresses that must not be chosen.
    pub tried: &'a [Candidate],
    /// Whether recovering addresses may be chosen.
    pub trials: bool,
    /// Whether requests in flight are counted.
    pub count: bool,
    /// For the address too, where the server is chosen by a hash.
    pub hash: Option<u64>,
    /// The time.
    pub now: Instant,
}

impl ServerState {
    /// A server without addresses, unless its host is one. `state` makes or finds the state of an address.
    pub(super) fn new(
        spec: &ServerSpec,
        index: usize,
        state: impl Fn(SocketAddr) -> Arc<EndpointState>,
    ) -> Self {
        let fixed = fixed_addresses(spec);
        let server = ServerState {
            label: Arc::from(spec.label.as_str()),
            index,
            host: spec.host.clone(),
            port: spec.port,
            is_literal: !fixed.is_empty(),
            socket: spec.socket.clone(),
            base_path: spec.base_path.clone(),
            tls_name: spec.tls_name.clone().map(Arc::new),
            endpoints: ArcSwap::default(),
            name: Mutex::default(),
            turn: AtomicUsize::new(0),
            family: AtomicU8::new(FAMILY_V6),
            pinned: AtomicUsize::new(0),
        };
        let endpoints = fixed.iter().map(|address| server.endpoint(*address, state(*address)));
        server.endpoints.store(Arc::new(endpoints.collect()));
        server
    }

    /// Counts another connection that is pinned to a client, unless there are `max`.
    pub(crate) fn try_count_pinned(&self, max: usize) -> bool {
        let count = |pinned| (pinned < max).then_some(pinned + 1);
        self.pinned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
    }

    /// A connection that was counted is closed.
    pub(crate) fn uncount_pinned(&self) {
        self.pinned.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the host is a name that needs lookups.
    pub(crate) fn is_name(&self) -> bool {
        !self.is_literal
    }

    /// The host and port to look up.
    pub(crate) fn host_and_port(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// What lookups of the name have found.
    pub(crate) fn name_state(&self) -> NameState {
        self.name.lock().clone()
    }

    pub(super) fn set_name_state(&self, state: NameState) {
        *self.name.lock() = state;
    }

    /// The current addresses, sorted.
    pub(crate) fn endpoints(&self) -> arc_swap::Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.endpoints.load()
    }

    /// Whether any address is known.
    pub(crate) fn is_resolved(&self) -> bool {
        !self.endpoints.load().is_empty()
    }

    /// Replaces the addresses with the result of a lookup and returns those that are gone. An empty result keeps the
    /// previous addresses.
    pub(super) fn update(
        &self,
        mut addresses: Vec<SocketAddr>,
        state: impl Fn(SocketAddr) -> Arc<EndpointState>,
    ) -> Vec<Arc<Endpoint>> {
        addresses.sort_unstable();
        addresses.dedup();
        let previous = self.endpoints.load_full();
        if addresses.is_empty()
            || previous.iter().map(|endpoint| endpoint.address).eq(addresses.iter().copied())
        {
            return Vec::new();
        }
        let find = |address: &SocketAddr| previous.iter().find(|endpoint| endpoint.address == *address);
        let endpoints: Vec<Arc<Endpoint>> = addresses
            .iter()
            .map(|address| match find(address) {
                Some(known) => Arc::clone(known),
                None => self.endpoint(*address, state(*address)),
            })
            .collect();
        let is_gone = |endpoint: &&Arc<Endpoint>| addresses.binary_search(&endpoint.address).is_err();
        let gone = previous.iter().filter(is_gone).cloned().collect();
        self.endpoints.store(Arc::new(endpoints));
        gone
    }

    fn endpoint(&self, address: SocketAddr, state: Arc<EndpointState>) -> Arc<Endpoint> {
        let label = Arc::clone(&self.label);
        let endpoint = Endpoint::new(label, self.index, address, self.tls_name.clone(), state);
        Arc::new(endpoint.with_socket(self.socket.clone()).with_base_path(self.base_path.clone()))
    }

    /// How many addresses of the server meet the condition. The families of a name are alternatives: those of the
    /// larger number count.
    pub(super) fn count_addresses(&self, condition: impl Fn(&Endpoint) -> bool) -> usize {
        let endpoints = self.endpoints.load();
        let count = |family| {
            let of_family = |endpoint: &&Arc<Endpoint>| Family::of(&endpoint.address) == family;
            endpoints.iter().filter(of_family).filter(|endpoint| condition(endpoint)).count()
        };
        count(Family::V6).max(count(Family::V4))
    }

    /// The best state among the addresses; `None` without addresses.
    pub(crate) fn health(&self, now: Instant) -> Option<ServerHealth> {
        self.endpoints.load().iter().map(|endpoint| endpoint.state.view(now).health).min()
    }

    /// Remembers that an address connected.
    pub(super) fn connected(&self, address: &SocketAddr) {
        let family = match Family::of(address) {
            Family::V6 => FAMILY_V6,
            Family::V4 => FAMILY_V4,
        };
        if self.family.load(Ordering::Relaxed) != family {
            self.family.store(family, Ordering::Relaxed);
        }
    }

    /// The requests in flight at all addresses.
    pub(super) fn in_flight(&self) -> u32 {
        self.endpoints.load().iter().map(|endpoint| endpoint.state.in_flight()).sum()
    }

    /// Whether [`ServerState::choose`] would find an address.
    pub(super) fn is_available(&self, choice: AddressChoice<'_>) -> bool {
        self.endpoints.load().iter().any(|endpoint| usable_view(endpoint, choice).is_some())
    }

    /// Chooses an address.
    pub(super) fn choose(&self, choice: AddressChoice<'_>) -> Option<(Candidate, AttemptGuard)> {
        let endpoints = self.endpoints.load();
        if let [endpoint] = endpoints.as_slice() {
            let view = usable_view(endpoint, choice)?;
            let guard = AttemptGuard::begin(Arc::clone(endpoint), view, choice.count, choice.now)?;
            return Some((Candidate::new(Arc::clone(endpoint)), guard));
        }
        self.choose_of_several(&endpoints, choice)
    }

    /// Chooses an address, and those to try when it does not connect.
    fn choose_of_several(
        &self,
        endpoints: &[Arc<Endpoint>],
        choice: AddressChoice<'_>,
    ) -> Option<(Candidate, AttemptGuard)> {
        let states: Vec<Option<EndpointView>> =
            endpoints.iter().map(|endpoint| usable_view(endpoint, choice)).collect();
        let view = |(endpoint, state): (&Arc<Endpoint>, &Option<EndpointView>)| AddressView {
            address: endpoint.address,
            failed_at: state.and_then(|state| state.failed_at),
            available: state.is_some(),
        };
        let views: Vec<AddressView> = endpoints.iter().zip(&states).map(view).collect();
        let turn = match choice.hash {
            Some(hash) => usize::try_from(hash >> 1).unwrap_or(0),
            None => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let family = if self.family.load(Ordering::Relaxed) == FAMILY_V4 { Family::V4 } else { Family::V6 };
        let order = address_order::order(&views, family, turn, choice.now);
        let mut guard = None;
        let mut alternatives: [Option<Arc<Endpoint>>; MAX_ADDRESSES - 1] = [None, None, None];
        let mut free = alternatives.iter_mut();
        for index in order.into_iter().flatten() {
            let (Some(endpoint), Some(Some(view))) = (endpoints.get(index), states.get(index)) else {
                continue;
            };
            if guard.is_none() {
                guard = AttemptGuard::begin(Arc::clone(endpoint), *view, choice.count, choice.now);
            } else if view.health == ServerHealth::Healthy
                && let Some(place) = free.next()
            {
                *place = Some(Arc::clone(endpoint));
            }
        }
        let guard = guard?;
        Some((Candidate { endpoint: Arc::clone(guard.endpoint()), alternatives }, guard))
    }
}

/// The addresses of a host that needs no lookup: an IP address, or `localhost`, which is both loopback addresses. A
/// Unix socket has one, which is not used.
fn fixed_addresses(spec: &ServerSpec) -> Vec<SocketAddr> {
    if spec.socket.is_some() {
        return vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))];
    }
    let with_port = |ip| SocketAddr::new(ip, spec.port);
    match spec.host.parse::<IpAddr>() {
        Ok(ip) => vec![with_port(ip)],
        Err(_) if spec.host.eq_ignore_ascii_case("localhost") => {
            vec![with_port(Ipv4Addr::LOCALHOST.into()), with_port(Ipv6Addr::LOCALHOST.into())]
        }
        Err(_) => Vec::new(),
    }
}

/// The state of an address that may get this request.
fn usable_view(endpoint: &Arc<Endpoint>, choice: AddressChoice<'_>) -> Option<EndpointView> {
    if choice.tried.iter().any(|tried| Arc::ptr_eq(&tried.endpoint, endpoint)) {
        return None;
    }
    let view = endpoint.state.view(choice.now);
    let usable = match view.health {
        ServerHealth::Healthy => true,
        ServerHealth::Recovering => choice.trials && !view.on_trial,
        ServerHealth::Ejected | ServerHealth::Unhealthy => false,
    };
    usable.then_some(view)
}
