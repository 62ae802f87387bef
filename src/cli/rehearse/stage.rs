//! The stage: the operator's configuration with what has to be different for a rehearsal, and a gateway for each kind of
//! misbehaving server.
//!
//! Routes, modes, contract, overrides, CORS and formats stay. Everything that differs is a line of [`Stage::changes`].
//! Gateways run in this process, on threads of their own, and end with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Notify;
use tracing::Level;

use super::ledger::Ledger;
use super::load_factor::LoadFactor;
use super::visits::Map;
use crate::config::{Config, Timeouts, UpstreamConfig as Servers, UpstreamServer};
use crate::contract::Contract;
use crate::limit::{LimiterSettings, Quota};
use crate::observe::line::LineFormat;
use crate::observe::{Metrics, log};
use crate::rehearse::clients::FAULT_HEADER;
use crate::rehearse::talk::upstream_script;
use crate::rehearse::tls;
use crate::rehearse::{
    FaultyUpstream, GatewayConnector, RecordedHead, ScriptedUpstream, ServerKind, upstream_faults,
};
use crate::server::boot;
use crate::tls::TlsConfigError;
use crate::tls::trust::{CertVerification, server_name};
use crate::upstream::http2::HttpVersionPolicy;

/// Everything that is set up for a rehearsal.
pub(super) struct Stage {
    /// What is served, but for the servers; the limits are out of the way.
    pub(super) config: Config,
    /// What the file says.
    pub(super) original: Config,
    /// The contract is a built-in one, and so is its table of codes.
    pub(super) builtin: bool,
    pub(super) map: Map,
    _misbehaving: FaultyUpstream,
    /// What stands behind the gateways of client faults and limits.
    pub(super) serving: ScriptedUpstream,
    /// In the order of [`Place::ALL`]; none where no upstream is spoken to in that way.
    places: Vec<Option<Started>>,
    pub(super) clients: Started,
    /// For HTTP/2.
    pub(super) clients_h2: Started,
    /// Where nobody knows how much of what is sent becomes a request.
    pub(super) floods: Started,
    /// The gateway where every limit is reached at once.
    pub(super) scarce: Started,
    pub(super) changes: Vec<String>,
    /// Every limit is multiplied by it.
    pub(super) load: LoadFactor,
    relay: Option<SocketAddr>,
    ended: Arc<Notify>,
}

/// A gateway that runs.
pub(super) struct Started {
    address: SocketAddr,
    /// Its second listener, if it has one: for HTTP/2 with prior knowledge, or for TLS.
    beside: Option<SocketAddr>,
    pub(super) metrics: Arc<Metrics>,
    /// What its clients saw.
    pub(super) ledger: Ledger,
}

/// Who asks: from here everything is allowed.
const ASKING: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// And from here nothing, where a route has `allow_from`.
pub(super) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

impl Stage {
    /// Starts everything; a sentence when that fails.
    pub(super) fn set(
        original: Config,
        relay: Option<SocketAddr>,
        load: LoadFactor,
    ) -> Result<Stage, String> {
        let no_upstream = |error| format!("cannot start the misbehaving upstream on loopback: {error}");
        let misbehaving =
            FaultyUpstream::with_fault_selector(upstream_faults(), played).map_err(no_upstream)?;
        let serving = ScriptedUpstream::by_request(upstream_script).map_err(no_upstream)?;
        let map = Map::of(&original)?;
        let mut changes = Changes { lines: Vec::new(), load };
        let config = staged(&original, &mut changes);
        let ended = Arc::new(Notify::new());
        let start = |config: &Config, server: SocketAddr| start(before(config, server), &ended);
        let in_frames = in_frames(&config, &original, &mut changes);
        let in_tls = in_tls(&config, misbehaving.ca_pem())?;
        let at = |place: &ServerKind| {
            if !original.upstreams.iter().any(|written| speaks(written, *place)) {
                return Ok(None);
            }
            let config = if place.requires_http2() {
                &in_frames
            } else if place.requires_tls() {
                &in_tls
            } else {
                &config
            };
            start(config, misbehaving.address(*place)).map(Some)
        };
        let places = ServerKind::ALL.iter().map(at).collect::<Result<_, _>>()?;
        let clients = start(&with_tls(&config, &original), serving.address())?;
        let clients_h2 = start(&with_h2c(&config), serving.address())?;
        let floods = start(&with_h2c(&config), serving.address())?;
        let scarce = start(&scarce(&config, &original), serving.address())?;
        let changes = changes.lines;
        let builtin = Contract::builtin(config.contract.name()).is_some_and(|own| own == *config.contract);
        Ok(Stage {
            config,
            original,
            builtin,
            map,
            _misbehaving: misbehaving,
            serving,
            places,
            clients,
            clients_h2,
            floods,
            scarce,
            changes,
            load,
            relay,
            ended,
        })
    }

    /// The gateway whose servers are all of this kind.
    pub(super) fn at(&self, place: ServerKind) -> Option<&Started> {
        ServerKind::ALL.iter().position(|it| *it == place).and_then(|index| self.places.get(index)?.as_ref())
    }

    /// The way to a gateway. From [`ASKING`] by itself: to bind tens of thousands of sockets takes half a minute (the
    /// kernel looks for a free port each time).
    pub(super) fn way(&self, gateway: &Started) -> GatewayConnector {
        GatewayConnector { gateway: gateway.address, source_address: None, relay: self.relay }
    }

    /// The way to its listener for HTTP/2.
    pub(super) fn way_h2(&self, gateway: &Started) -> Option<GatewayConnector> {
        gateway.beside.map(|address| GatewayConnector { gateway: address, ..self.way(gateway) })
    }

    /// The way to its listener for TLS.
    pub(super) fn way_tls(&self, gateway: &Started) -> Option<GatewayConnector> {
        gateway.beside.map(|address| GatewayConnector { gateway: address, ..self.way(gateway) })
    }

    /// Every gateway, by what is rehearsed with it.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (&'static str, &Started)> {
        let places = ServerKind::ALL.iter().zip(&self.places);
        let places = places.filter_map(|(place, started)| Some((place.upstream_name(), started.as_ref()?)));
        let clients = [("clients", &self.clients), ("HTTP/2 clients", &self.clients_h2)];
        places.chain(clients).chain([("floods", &self.floods), ("limits", &self.scarce)])
    }

    /// Returns when a gateway has ended, which it does when the process is told to.
    pub(super) async fn ended(&self) -> String {
        self.ended.notified().await;
        "interrupted: nothing can be said about the contract".to_owned()
    }
}

/// Which fault a request asks for.
fn played(request: &RecordedHead) -> &str {
    request.header(FAULT_HEADER).unwrap_or_default()
}

fn start(config: Config, ended: &Arc<Notify>) -> Result<Started, String> {
    let metrics = Arc::new(Metrics::new());
    let (listening, told) = mpsc::channel();
    let counted = Arc::clone(&metrics);
    let ended = Arc::clone(ended);
    let failed = listening.clone();
    let serve = move || {
        // Nobody listens to this log: what is to be said is in the table.
        let verbosity = log::subscriber(LineFormat::Json, Level::ERROR, std::io::sink).1;
        let options = boot::ServeOptions {
            metrics: counted,
            load: None,
            verbosity,
            panic_path: None,
            on_listening: Box::new(move |where_| {
                let addresses = where_.gateway.to_vec();
                let _ = listening.send(Ok(addresses));
            }),
        };
        if let Err(sentence) = boot::serve(config, options) {
            let _ = failed.send(Err(sentence));
        }
        ended.notify_waiters();
    };
    let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(serve);
    thread.map_err(|error| format!("cannot start a thread: {error}"))?;
    let addresses = told.recv().map_err(|_| "the gateway does not start".to_owned())??;
    let address = addresses.first().copied().ok_or("the gateway has no listener")?;
    Ok(Started { address, beside: addresses.get(1).copied(), metrics, ledger: Ledger::default() })
}

/// What was changed, and from what to what.
struct Changes {
    lines: Vec<String>,
    load: LoadFactor,
}

impl Changes {
    fn say(&mut self, line: String) {
        if !self.lines.contains(&line) {
            self.lines.push(line);
        }
    }

    /// At most `most`, times the load factor: a timeout of the file that is short already is too short on a busy machine.
    fn shorten(&mut self, key: &str, value: &mut Duration, most: Duration) {
        self.set(key, value, most.min(*value));
    }

    /// To so much, times the load factor.
    fn set(&mut self, key: &str, value: &mut Duration, to: Duration) {
        let to = self.load.scale(to);
        if *value != to {
            let (was, is) = (humantime::format_duration(*value), humantime::format_duration(to));
            self.say(format!("{key}: {is} (was {was})"));
            *value = to;
        }
    }
}

/// Long enough for a debug build, short enough for two minutes; all of them times the load factor.
const CONNECT: Duration = Duration::from_millis(500);
const TLS: Duration = Duration::from_millis(700);
const RESPONSE_HEAD: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(6);
/// Of routes whose total limit comes before that on the response head.
const TOTAL_FIRST: Duration = Duration::from_millis(900);
const SILENCE: Duration = Duration::from_millis(800);
const CLIENT: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(3);
/// Of a client that reads slowly the kernel takes nothing for some time.
const WRITE: Duration = Duration::from_secs(2);
/// For error bodies that drip and yet come in time: more than half a second.
const ERROR_BODY: Duration = Duration::from_millis(1500);
/// Bodies that are too large are sent whole.
const MAX_BODY: u64 = 10 * 1024 * 1024;
const CONNECTIONS: usize = 4096;
const AT_ONCE: u32 = 4096;

/// The configuration on loopback, with short times and limits out of the way.
fn staged(original: &Config, changes: &mut Changes) -> Config {
    let mut config = original.clone();
    let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let encrypted = original.listeners.iter().any(|listener| listener.tls.is_some());
    let tls = if encrypted { ", one for TLS with the certificates of the file" } else { "" };
    changes.say(format!(
        "listen, telemetry: free ports of 127.0.0.1; one listener for HTTP/1, one for HTTP/2{tls}"
    ));
    changes.say("upstreams: every server is one on 127.0.0.1 that misbehaves".to_owned());
    config.listeners.truncate(1);
    for listener in &mut config.listeners {
        listener.address = anywhere;
        listener.h2c = false;
        listener.tls = None;
    }
    config.telemetry.address = anywhere;
    config.workers = config.workers.min(2);
    config.drain_delay = Duration::ZERO;
    config.drain = Duration::from_secs(1);

    let client = &mut config.client;
    changes.shorten("client.header_timeout", &mut client.header_timeout, CLIENT);
    changes.shorten("client.body_timeout", &mut client.body_timeout, CLIENT);
    changes.shorten("client.write_timeout", &mut client.write_timeout, WRITE);
    changes.shorten("client.idle_timeout", &mut client.idle_timeout, IDLE);
    if client.max_connections < CONNECTIONS {
        changes.say(format!("client.max_connections: {CONNECTIONS} (was {})", client.max_connections));
        client.max_connections = CONNECTIONS;
    }
    if !config.stores.is_empty() {
        changes.say("stores: none; everything is counted in memory, and no store is touched".to_owned());
        config.stores.clear();
    }
    for limit in &mut config.rate_limits {
        limit.settings.store = None;
        changes.say("rate_limits: out of the way, but for the rows that reach them on purpose".to_owned());
        set_quota(&mut limit.settings, (1_000_000, Duration::from_secs(1), 1_000_000));
    }
    for upstream in &mut config.upstreams {
        if upstream.cert_verification.take().is_some() {
            let what = "that of the rehearsal for the faults of TLS, off for the others";
            changes.say(format!("upstreams.*.tls: {what}"));
        }
        if upstream.http2 != HttpVersionPolicy::Http1 {
            upstream.http2 = HttpVersionPolicy::Http1;
        }
        if let Some(limits) = &mut upstream.concurrency {
            changes.say("upstreams.*.concurrency: out of the way".to_owned());
            limits.max = limits.max.max(AT_ONCE);
            limits.queue = limits.queue.max(AT_ONCE);
        }
    }
    for route in &mut config.routes {
        shorten(&mut route.timeouts, changes);
        changes.set("errors.upstream_body.timeout", &mut route.errors.upstream_body_timeout, ERROR_BODY);
        if route.max_body > MAX_BODY {
            changes.say(format!("max_body of the route {}: 10MiB (was more)", route.name));
            route.max_body = MAX_BODY;
        }
        if !route.allow_from.is_empty() && !contains(&route.allow_from, ASKING) {
            changes.say(format!("allow_from of the route {}: {ASKING}, who asks, is added", route.name));
            route.allow_from.push(IpNet::from(IpAddr::V4(ASKING)));
        }
    }
    config
}

fn shorten(timeouts: &mut Timeouts, changes: &mut Changes) {
    // Which of the two ends a wait stays as it is.
    let total_first = timeouts.deadline <= timeouts.response_headers;
    changes.shorten("timeouts.connect", &mut timeouts.connect, CONNECT);
    changes.shorten("timeouts.tls", &mut timeouts.tls, TLS);
    changes.shorten("timeouts.response_head", &mut timeouts.response_headers, RESPONSE_HEAD);
    changes.shorten("timeouts.between_bytes", &mut timeouts.body_idle, SILENCE);
    changes.shorten("timeouts.stream_idle", &mut timeouts.stream_idle, SILENCE);
    changes.shorten("timeouts.tunnel_idle", &mut timeouts.tunnel_idle, SILENCE);
    let most = if total_first { TOTAL_FIRST } else { TOTAL };
    changes.shorten("timeouts.total", &mut timeouts.deadline, most);
}

/// The same with a second listener, for HTTP/2 with prior knowledge.
fn with_h2c(config: &Config) -> Config {
    let mut config = config.clone();
    if let Some(mut listener) = config.listeners.first().cloned() {
        listener.h2c = true;
        config.listeners.push(listener);
    }
    config
}

/// The same with a second listener, which shows the certificates of the first one in the file that has some.
fn with_tls(config: &Config, original: &Config) -> Config {
    let mut config = config.clone();
    let tls = original.listeners.iter().find_map(|listener| listener.tls.clone());
    if let (Some(mut listener), Some(tls)) = (config.listeners.first().cloned(), tls) {
        listener.tls = Some(tls);
        config.listeners.push(listener);
    }
    config
}

/// The same with every rate limit reached at the second request, and with nobody exempt.
fn scarce(config: &Config, original: &Config) -> Config {
    let mut config = config.clone();
    for (limit, written) in config.rate_limits.iter_mut().zip(&original.rate_limits) {
        let period = written.settings.quota.period().max(Duration::from_secs(60));
        set_quota(&mut limit.settings, (1, period, 1));
        limit.settings.exempt.clear();
    }
    config
}

fn set_quota(settings: &mut LimiterSettings, (allowed, period, burst): (u32, Duration, u32)) {
    if let Ok(quota) = Quota::new(allowed, period, burst) {
        settings.quota = quota;
    }
}

/// Whether servers of that kind can stand behind this upstream, as the file has it.
pub(super) fn speaks(upstream: &Servers, place: ServerKind) -> bool {
    let trust = upstream.cert_verification.as_ref();
    if place.has_invalid_certificate() {
        trust.is_some_and(|trust| trust.is_enabled())
    } else if place.requires_tls() {
        trust.is_some()
    } else if place.requires_http2() {
        speaks_http2(upstream)
    } else {
        place != ServerKind::UnexpectedTls || trust.is_none()
    }
}

/// The same where every server has to be certified by this authority.
fn in_tls(config: &Config, authority: &str) -> Result<Config, String> {
    let unusable = |unusable: TlsConfigError| {
        format!("the certificate of the rehearsal's own authority: {}", unusable.message)
    };
    let trust = Arc::new(CertVerification::from_pem(authority.as_bytes()).map_err(unusable)?);
    let mut config = config.clone();
    for upstream in &mut config.upstreams {
        upstream.cert_verification = Some(Arc::clone(&trust));
    }
    Ok(config)
}

fn speaks_http2(upstream: &Servers) -> bool {
    match upstream.http2 {
        HttpVersionPolicy::Http1 => false,
        HttpVersionPolicy::Auto => upstream.cert_verification.is_some(),
        HttpVersionPolicy::Http2 => true,
    }
}

/// The same where HTTP/2 is spoken to the servers that are spoken to in it.
fn in_frames(config: &Config, original: &Config, changes: &mut Changes) -> Config {
    let mut config = config.clone();
    for (upstream, written) in config.upstreams.iter_mut().zip(&original.upstreams) {
        if speaks_http2(written) {
            upstream.http2 = HttpVersionPolicy::Http2;
            let what = "always for the faults of HTTP/2, off for those of HTTP/1.1";
            changes.say(format!("upstreams.*.http2: {what}"));
        }
    }
    config
}

/// The same with this server behind every upstream.
fn before(config: &Config, server: SocketAddr) -> Config {
    let mut config = config.clone();
    for upstream in &mut config.upstreams {
        let host = server.ip().to_string();
        let name = upstream.cert_verification.as_ref().and_then(|_| server_name(tls::SERVER_NAME).ok());
        upstream.servers = vec![UpstreamServer { host, port: server.port(), weight: 1, tls_name: name }];
    }
    config
}

/// Whether a client of this address is among them.
pub(super) fn contains(networks: &[IpNet], address: Ipv4Addr) -> bool {
    networks.iter().any(|network| network.contains(&IpAddr::V4(address)))
}
