//! The test harness: the operator's configuration, adapted for a run, and one gateway for each kind of faulty server.
//!
//! Routes, modes, contract, overrides, CORS and formats are unchanged. Every change is a line of [`Harness::changes`].
//! The gateways run in this process, each on its own threads, and end with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tracing::Level;

use super::load_factor::LoadFactor;
use super::route_probe::{RouteProbe, RouteProbes};
use super::special_gateways::{self, Means, SpecialGateway, set_quota};
use crate::config::{
    Config, ListenAddress, Listener, ListenerTls, RouteConfig, Timeouts, UpstreamConfig as Servers,
    UpstreamServer,
};
use crate::conformance::case::{FAULT_HEADER, GatewayKind};
use crate::conformance::cases::CaseSet;
use crate::conformance::server_thread::{ServerThread, SocketFolder};
use crate::conformance::success_routes::upstream_script;
use crate::conformance::tls_servers;
use crate::conformance::{
    FaultyUpstream, GatewayConnector, RecordedHead, ScriptedUpstream, ServerKind, Tally,
};
use crate::contract::Contract;
use crate::contract::builtin::DEFAULT_CONTRACT;
use crate::http::peer::{Peer, PeerRange};
use crate::http::route_conditions::RouteConditions;
use crate::server::boot;
use crate::telemetry::formatter::LineFormat;
use crate::telemetry::{Metrics, log};
use crate::tls::TlsConfigError;
use crate::tls::cert_verification::{CertVerification, server_name};
use crate::upstream::http2::HttpVersionPolicy;

/// The gateways and servers of a run.
pub(super) struct Harness {
    pub(super) cases: CaseSet,
    /// The adapted configuration, with high limits; each gateway replaces the servers in it.
    pub(super) config: Config,
    /// The configuration of the file.
    pub(super) original_config: Config,
    /// The default contract, whose codes stand in the rows.
    pub(super) default_contract: Option<Contract>,
    pub(super) probes: RouteProbes,
    _faulty_upstream: FaultyUpstream,
    /// The upstream of the gateways for client faults and rejections.
    pub(super) client_upstream: ScriptedUpstream,
    /// In the order of [`ServerKind::ALL`]; `None` if no upstream of the file can have this kind of server.
    upstream_gateways: Vec<Option<RunningGateway>>,
    pub(super) client_gateway: RunningGateway,
    pub(super) h2_client_gateway: RunningGateway,
    /// For rows whose number of requests is not deterministic.
    pub(super) flood_gateway: RunningGateway,
    /// In the order of [`special_gateways::ALL`].
    special_gateways: Vec<RunningGateway>,
    _silent_name_server: UdpSocket,
    _sockets: SocketFolder,
    pub(super) changes: Vec<String>,
    /// The factor of all timeouts.
    pub(super) load: LoadFactor,
    relay: Option<SocketAddr>,
    shutdown: Arc<Notify>,
}

/// A running gateway.
pub(super) struct RunningGateway {
    address: SocketAddr,
    /// The second listener, if any: HTTP/2 with prior knowledge, or TLS.
    second_address: Option<SocketAddr>,
    /// The address of `/metrics`.
    pub(super) telemetry: SocketAddr,
    pub(super) metrics: Arc<Metrics>,
    /// The responses that its clients received.
    pub(super) observed: Tally,
    /// Forward connections to its Unix sockets.
    _bridges: Vec<ServerThread>,
}

/// The client address, which every route allows.
const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// A client address that routes with `allow_from` deny.
const UNTRUSTED_CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Harness {
    /// Starts all servers and gateways.
    ///
    /// # Errors
    /// A server or a gateway cannot start.
    pub(super) fn set(
        original: Config,
        cases: CaseSet,
        relay: Option<SocketAddr>,
        load: LoadFactor,
    ) -> Result<Harness, String> {
        let start_error = |error| format!("cannot start the faulty upstream on loopback: {error}");
        let faulty_upstream = FaultyUpstream::with_fault_selector(cases.upstream_faults(), requested_fault)
            .map_err(start_error)?;
        let client_upstream = ScriptedUpstream::by_request(upstream_script).map_err(start_error)?;
        let mut changes = Changes { lines: Vec::new(), load };
        let config = adapt_config(&original, &mut changes);
        let probes = RouteProbes::build(&config)?;
        let shutdown = Arc::new(Notify::new());
        let start =
            |config: &Config, server: SocketAddr| start_gateway(with_server(config, server, None), &shutdown);
        let http2_config = with_http2_upstreams(&config, &original, &mut changes);
        let tls_config = with_tls_upstreams(&config, faulty_upstream.ca_pem())?;
        let start_for = |server_kind: &ServerKind| {
            if original.upstreams.iter().all(|upstream| unsupported(upstream, *server_kind).is_some()) {
                return Ok(None);
            }
            let config = if server_kind.requires_http2() {
                &http2_config
            } else if server_kind.requires_tls() {
                &tls_config
            } else {
                &config
            };
            let address = faulty_upstream.address(*server_kind);
            let socket = faulty_upstream.socket(*server_kind);
            start_gateway(with_server(config, address, socket), &shutdown).map(Some)
        };
        let upstream_gateways = ServerKind::ALL.iter().map(start_for).collect::<Result<_, _>>()?;
        // The certificates of the file's first TLS listener, if there is one.
        let tls = original.listeners.iter().find_map(|listener| listener.tls.clone());
        // The clients of the cases have no certificates: the authority's key is not at hand.
        let with_tls = match tls.map(ListenerTls::without_client_auth).transpose()? {
            Some(tls) => with_second_listener(&config, |listener| listener.tls = Some(tls)),
            None => config.clone(),
        };
        let client_gateway = start(&with_tls, client_upstream.address())?;
        let with_h2c = with_second_listener(&config, |listener| listener.h2c = true);
        let h2_client_gateway = start(&with_h2c, client_upstream.address())?;
        let flood_gateway = start(&with_h2c, client_upstream.address())?;
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(start_error)?;
        let sockets = SocketFolder::create().map_err(start_error)?;
        let means = Means {
            original: &original,
            client: CLIENT_ADDRESS,
            silent_name_server: silent.local_addr().map_err(start_error)?,
            socket: sockets.socket("gateway"),
        };
        let start_special = |special: &SpecialGateway| {
            let refusing = faulty_upstream.address(ServerKind::Refusing);
            let server = special.unavailable.as_ref().map_or(client_upstream.address(), |_| refusing);
            let mut config = with_server(&config, server, None);
            (special.set_up)(&mut config, &means);
            start_gateway(config, &shutdown)
        };
        let special_gateways = special_gateways::ALL.iter().map(start_special).collect::<Result<_, _>>()?;
        let changes = changes.lines;
        Ok(Harness {
            cases,
            config,
            original_config: original,
            default_contract: Contract::builtin(DEFAULT_CONTRACT),
            probes,
            _faulty_upstream: faulty_upstream,
            client_upstream,
            upstream_gateways,
            client_gateway,
            h2_client_gateway,
            flood_gateway,
            special_gateways,
            _silent_name_server: silent,
            _sockets: sockets,
            changes,
            load,
            relay,
            shutdown,
        })
    }

    /// The route of a probe.
    pub(super) fn route(&self, probe: &RouteProbe) -> Option<&RouteConfig> {
        self.config.routes.get(probe.route_index)
    }

    /// The gateway whose servers are all of this kind.
    pub(super) fn gateway_for(&self, server_kind: ServerKind) -> Option<&RunningGateway> {
        let index = ServerKind::ALL.iter().position(|candidate| *candidate == server_kind)?;
        self.upstream_gateways.get(index)?.as_ref()
    }

    /// The gateway of a case of routes.
    pub(super) fn gateway(&self, kind: GatewayKind) -> &RunningGateway {
        let special = special_gateways::ALL.iter().position(|special| special.kind == kind);
        special.and_then(|index| self.special_gateways.get(index)).unwrap_or(&self.client_gateway)
    }

    /// A connector to a gateway. The source address is [`CLIENT_ADDRESS`] without a bind: binding tens of thousands of
    /// sockets takes 30 s, because the kernel searches for a free port each time.
    pub(super) fn connect(&self, gateway: &RunningGateway) -> GatewayConnector {
        GatewayConnector { gateway: gateway.address, source_address: None, relay: self.relay }
    }

    /// A connector to the gateway's second listener: HTTP/2 or TLS.
    pub(super) fn connect_second(&self, gateway: &RunningGateway) -> Option<GatewayConnector> {
        gateway.second_address.map(|address| GatewayConnector { gateway: address, ..self.connect(gateway) })
    }

    /// All gateways with their names in the report.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (String, &RunningGateway)> {
        let upstream_gateways = ServerKind::ALL.iter().zip(&self.upstream_gateways);
        let upstream_gateways = upstream_gateways
            .filter_map(|(server_kind, started)| Some((server_kind.upstream_name(), started.as_ref()?)));
        let client_gateways = [
            ("clients", &self.client_gateway),
            ("HTTP/2 clients", &self.h2_client_gateway),
            ("floods", &self.flood_gateway),
        ];
        let special = special_gateways::ALL.iter().map(|special| format!("{:?}", special.kind));
        let named =
            upstream_gateways.chain(client_gateways).map(|(name, gateway)| (name.to_owned(), gateway));
        named.chain(special.zip(&self.special_gateways))
    }

    /// Waits until a gateway ends, which happens on a signal to this process. Returns the message to print.
    pub(super) async fn wait_for_shutdown(&self) -> String {
        self.shutdown.notified().await;
        "interrupted: no result".to_owned()
    }
}

/// The fault that a request selects.
fn requested_fault(request: &RecordedHead) -> &str {
    request.header(FAULT_HEADER).unwrap_or_default()
}

fn start_gateway(config: Config, shutdown: &Arc<Notify>) -> Result<RunningGateway, String> {
    let metrics = Arc::new(Metrics::new());
    let (addresses_tx, addresses_rx) = mpsc::channel();
    let shared_metrics = Arc::clone(&metrics);
    let shutdown = Arc::clone(shutdown);
    let error_tx = addresses_tx.clone();
    let serve = move || {
        // The report replaces the gateway's log.
        let verbosity = log::subscriber(LineFormat::Json, Level::ERROR, std::io::sink).1;
        let options = boot::ServeOptions {
            metrics: shared_metrics,
            load: None,
            verbosity,
            panic_path: None,
            on_listening: Box::new(move |bound| {
                let addresses = bound.telemetry.tcp().map(|telemetry| (bound.gateway.clone(), telemetry));
                let _ = addresses_tx.send(addresses.ok_or_else(|| "the gateway has no listener".to_owned()));
            }),
        };
        if let Err(message) = boot::serve(config, options) {
            let _ = error_tx.send(Err(message));
        }
        shutdown.notify_waiters();
    };
    let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(serve);
    thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    let (listening, telemetry) =
        addresses_rx.recv().map_err(|_| "the gateway did not start".to_owned())??;
    let (mut addresses, mut bridges) = (Vec::new(), Vec::new());
    for address in listening {
        match address {
            ListenAddress::Tcp(address) => addresses.push(address),
            ListenAddress::Unix(path, _) => {
                let bridge = ServerThread::of_socket(path.to_path_buf())
                    .map_err(|error| format!("cannot forward connections to a Unix socket: {error}"))?;
                addresses.push(bridge.address());
                bridges.push(bridge);
            }
        }
    }
    let address = addresses.first().copied().ok_or("the gateway has no listener")?;
    Ok(RunningGateway {
        address,
        second_address: addresses.get(1).copied(),
        telemetry,
        metrics,
        observed: Tally::default(),
        _bridges: bridges,
    })
}

/// Collects the configuration changes with old and new values.
struct Changes {
    lines: Vec<String>,
    load: LoadFactor,
}

impl Changes {
    fn record(&mut self, line: String) {
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    /// Limits a timeout to `maximum` and multiplies it by the load factor, even if it was below: on a busy machine a
    /// short timeout of the file is too short.
    fn cap(&mut self, key: &str, value: &mut Duration, maximum: Duration) {
        self.replace(key, value, maximum.min(*value));
    }

    /// Sets a timeout to `new_value`, multiplied by the load factor.
    fn replace(&mut self, key: &str, value: &mut Duration, new_value: Duration) {
        let scaled = self.load.scale(new_value);
        if *value != scaled {
            let (old_text, new_text) =
                (humantime::format_duration(*value), humantime::format_duration(scaled));
            self.record(format!("{key}: {new_text} (was {old_text})"));
            *value = scaled;
        }
    }
}

// Timeouts of a run: long enough for a debug build, short enough for a run of two minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const TLS_TIMEOUT: Duration = Duration::from_millis(700);
const RESPONSE_HEADERS_TIMEOUT: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(6);
/// For routes whose `deadline` is not longer than `response_headers`.
const SHORT_DEADLINE: Duration = Duration::from_millis(900);
const BODY_IDLE_TIMEOUT: Duration = Duration::from_millis(800);
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// While a client reads slowly, the kernel accepts no data for some time.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Some error bodies arrive byte by byte and take more than 500 ms.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_millis(1500);
/// Some rows send a whole body above `max_body`, and others a body that must be accepted.
const MAX_BODY: u64 = 10 * 1024 * 1024;
const MIN_MAX_BODY: u64 = 128 * 1024;
const MIN_CONNECTIONS: usize = 4096;
const MIN_CONCURRENCY: u32 = 4096;

fn asks_for_client_certificates(listener: &Listener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.asks_for_client_certificates)
}

/// The configuration on loopback, with short timeouts and high limits.
fn adapt_config(original_config: &Config, changes: &mut Changes) -> Config {
    let mut config = original_config.clone();
    let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let has_tls = original_config.listeners.iter().any(|listener| listener.tls.is_some());
    let tls = if has_tls { ", one for TLS with the certificates of the file" } else { "" };
    changes.record(format!(
        "listen, telemetry: free ports on 127.0.0.1; one listener for HTTP/1, one for HTTP/2{tls}"
    ));
    if original_config.listeners.iter().any(asks_for_client_certificates) {
        changes.record("listen[].tls.client_auth: off; the clients have no certificates".to_owned());
    }
    changes.record("upstreams.*.servers: faulty servers on 127.0.0.1".to_owned());
    config.listeners.truncate(1);
    for listener in &mut config.listeners {
        listener.address = ListenAddress::Tcp(any_port);
        listener.h2c = false;
        listener.proxy_protocol = None;
        listener.tls = None;
    }
    config.telemetry.address = any_port;
    config.workers = config.workers.min(2);
    config.drain_delay = Duration::ZERO;
    config.drain = Duration::from_secs(1);

    let client = &mut config.client;
    changes.cap("client.header_timeout", &mut client.header_timeout, CLIENT_TIMEOUT);
    changes.cap("client.body_timeout", &mut client.body_timeout, CLIENT_TIMEOUT);
    changes.cap("client.write_timeout", &mut client.write_timeout, WRITE_TIMEOUT);
    changes.cap("client.idle_timeout", &mut client.idle_timeout, IDLE_TIMEOUT);
    if client.max_connections < MIN_CONNECTIONS {
        changes.record(format!("client.max_connections: {MIN_CONNECTIONS} (was {})", client.max_connections));
        client.max_connections = MIN_CONNECTIONS;
    }
    let has_second = |range: &PeerRange| Peer::from(IpAddr::V4(UNTRUSTED_CLIENT)).is_one_of(&[*range]);
    if client.trusted_proxies.iter().any(has_second) {
        changes.record(format!("client.trusted_proxies: without the networks of {UNTRUSTED_CLIENT}"));
        client.trusted_proxies.retain(|range| !has_second(range));
    }
    // All clients of the cases have one address.
    client.max_connections_per_client = usize::MAX;
    if !config.stores.is_empty() {
        changes.record("stores: removed; rate limits are counted in memory".to_owned());
        config.stores.clear();
    }
    for limit in &mut config.rate_limits {
        limit.settings.store = None;
        changes.record("rate_limits: raised, except for the rate-limit rows".to_owned());
        set_quota(&mut limit.settings, (1_000_000, Duration::from_secs(1), 1_000_000));
    }
    for upstream in &mut config.upstreams {
        if upstream.cert_verification.take().is_some() {
            let description = "a test authority for TLS faults, plain HTTP for the others";
            changes.record(format!("upstreams.*.tls: {description}"));
        }
        if upstream.http2 != HttpVersionPolicy::Http1 {
            upstream.http2 = HttpVersionPolicy::Http1;
        }
        // The faults of one row must not decide the response to the next one.
        if upstream.ejection.take().is_some()
            | upstream.health.take().is_some()
            | upstream.breaker.take().is_some()
        {
            changes.record("upstreams.*.ejection, health and breaker: off".to_owned());
        }
        upstream.retry_budget = 100;
        if let Some(limits) = &mut upstream.concurrency {
            changes.record(format!("upstreams.*.concurrency: max and queue at least {MIN_CONCURRENCY}"));
            limits.max = limits.max.max(MIN_CONCURRENCY);
            limits.queue = limits.queue.max(MIN_CONCURRENCY);
        }
    }
    for (index, route) in config.routes.iter_mut().enumerate() {
        open_route(index, route, changes);
        cap_timeouts(&mut route.timeouts, changes);
        changes.replace(
            "errors.upstream_body.timeout",
            &mut route.errors.upstream_body_timeout,
            ERROR_BODY_TIMEOUT,
        );
        for (limit, applies, text) in [
            (MAX_BODY, route.max_body > MAX_BODY, "10MiB (was more)"),
            (MIN_MAX_BODY, route.max_body < MIN_MAX_BODY, "128KiB (was less)"),
        ] {
            if applies {
                changes.record(format!("routes.{}.max_body: {text}", route.name));
                route.max_body = limit;
            }
        }
        if !route.allow_from.is_empty() && !any_contains(&route.allow_from, CLIENT_ADDRESS) {
            changes.record(format!("routes.{}.allow_from: {CLIENT_ADDRESS}/32 added", route.name));
            route.allow_from.push(IpNet::from(IpAddr::V4(CLIENT_ADDRESS)));
        }
    }
    config
}

/// Lets the ordinary test requests in, and denies those of the second test address what the file denies to others.
fn open_route(index: usize, route: &mut RouteConfig, changes: &mut Changes) {
    if route.conditions.count() > 0 {
        // Every row has its own header section and query: a host of its own selects the route for all of them.
        let host = format!("route-{index}.verify.invalid");
        changes.record(format!(
            "routes.{}.match: the host {host} instead of scheme, headers and query",
            route.name
        ));
        route.conditions = RouteConditions::default();
        route.host = Some(host);
    }
    let client_network = IpNet::from(IpAddr::V4(CLIENT_ADDRESS));
    if let Some(maintenance) = &mut route.maintenance
        && !any_contains(&maintenance.allow_from, CLIENT_ADDRESS)
    {
        changes.record(format!("routes.{}.maintenance.allow_from: {CLIENT_ADDRESS}/32 added", route.name));
        maintenance.allow_from.push(client_network);
    }
    if !route.deny_from.is_empty() {
        changes.record(format!("routes.{}.deny_from: {UNTRUSTED_CLIENT}/32 only", route.name));
        route.deny_from = vec![IpNet::from(IpAddr::V4(UNTRUSTED_CLIENT))];
    }
}

fn cap_timeouts(timeouts: &mut Timeouts, changes: &mut Changes) {
    // Keep which of the two timeouts fires first.
    let deadline_first = timeouts.deadline <= timeouts.response_headers;
    changes.cap("timeouts.connect", &mut timeouts.connect, CONNECT_TIMEOUT);
    changes.cap("timeouts.tls", &mut timeouts.tls, TLS_TIMEOUT);
    changes.cap("timeouts.response_headers", &mut timeouts.response_headers, RESPONSE_HEADERS_TIMEOUT);
    changes.cap("timeouts.body_idle", &mut timeouts.body_idle, BODY_IDLE_TIMEOUT);
    changes.cap("timeouts.stream_idle", &mut timeouts.stream_idle, BODY_IDLE_TIMEOUT);
    changes.cap("timeouts.tunnel_idle", &mut timeouts.tunnel_idle, BODY_IDLE_TIMEOUT);
    let maximum = if deadline_first { SHORT_DEADLINE } else { DEADLINE };
    changes.cap("timeouts.deadline", &mut timeouts.deadline, maximum);
}

/// Adds a second listener, which `change` sets up.
fn with_second_listener(config: &Config, change: impl FnOnce(&mut Listener)) -> Config {
    let mut config = config.clone();
    if let Some(mut listener) = config.listeners.first().cloned() {
        change(&mut listener);
        config.listeners.push(listener);
    }
    config
}

/// Why faults of this kind of server do not apply to the upstream as configured in the file; `None` if they do.
pub(super) fn unsupported(upstream: &Servers, server_kind: ServerKind) -> Option<&'static str> {
    let verification = upstream.cert_verification.as_ref();
    let verifies = verification.is_some_and(|verification| verification.is_enabled());
    let (applies, reason) = if server_kind.requires_http2() {
        (supports_http2(upstream), "its upstream does not use HTTP/2")
    } else if server_kind.has_invalid_certificate() && verification.is_some() {
        (verifies, "its upstream does not verify certificates")
    } else if server_kind.requires_tls() {
        (verification.is_some(), "its upstream does not use TLS")
    } else if server_kind.uses_socket() {
        (upstream.servers.iter().any(|server| server.socket.is_some()), "its upstream uses no Unix socket")
    } else {
        (server_kind != ServerKind::UnexpectedTls || verification.is_none(), "its upstream uses TLS")
    };
    (!applies).then_some(reason)
}

/// Requires TLS with certificates of this authority for every upstream.
fn with_tls_upstreams(config: &Config, authority: &str) -> Result<Config, String> {
    let describe =
        |error: TlsConfigError| format!("invalid certificate of the test authority: {}", error.message);
    let verification = Arc::new(CertVerification::from_pem(authority.as_bytes()).map_err(describe)?);
    let mut config = config.clone();
    for upstream in &mut config.upstreams {
        upstream.cert_verification = Some(Arc::clone(&verification));
    }
    Ok(config)
}

fn supports_http2(upstream: &Servers) -> bool {
    match upstream.http2 {
        HttpVersionPolicy::Http1 => false,
        HttpVersionPolicy::Auto => upstream.cert_verification.is_some(),
        HttpVersionPolicy::Http2 => true,
    }
}

/// Enables prior-knowledge HTTP/2 for the upstreams that use HTTP/2 in the file.
fn with_http2_upstreams(config: &Config, original_config: &Config, changes: &mut Changes) -> Config {
    let mut config = config.clone();
    for (upstream, configured) in config.upstreams.iter_mut().zip(&original_config.upstreams) {
        if supports_http2(configured) {
            upstream.http2 = HttpVersionPolicy::Http2;
            let description = "always for HTTP/2 faults, off for HTTP/1.1 faults";
            changes.record(format!("upstreams.*.http2: {description}"));
        }
    }
    config
}

/// Sets this server as the only one of every upstream.
fn with_server(config: &Config, server: SocketAddr, socket: Option<PathBuf>) -> Config {
    let mut config = config.clone();
    let socket: Option<Arc<Path>> = socket.map(Arc::from);
    for upstream in &mut config.upstreams {
        let host = server.ip().to_string();
        let name =
            upstream.cert_verification.as_ref().and_then(|_| server_name(tls_servers::SERVER_NAME).ok());
        let port = server.port();
        let socket = socket.clone();
        let server = UpstreamServer { host, port, socket, base_path: None, weight: 1, tls_name: name };
        upstream.servers = vec![server];
    }
    config
}

/// Whether one of the networks contains this address.
pub(super) fn any_contains(networks: &[IpNet], address: Ipv4Addr) -> bool {
    networks.iter().any(|network| network.contains(&IpAddr::V4(address)))
}
