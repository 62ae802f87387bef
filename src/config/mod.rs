//! The configuration: reads, validates and resolves the file into a [`Config`], which the rest of the program uses.
//!
//! [`parse_yaml`] parses the YAML into a [`tree`] with locations; [`sources`] reads the files and merges included ones;
//! [`deserialize`] and [`structure`] fill the structs of [`mod@file`], whose attributes are the table of keys
//! ([`keys`]); [`validate`] builds a [`Config`], or the complete list of [`Problems`]. Certificates are read together
//! with the file. [`type_error`], [`key_help`] and [`shapes`] say what was probably meant by a value that does not fit.
//! Nothing here opens a socket, resolves a name or reads a clock.

mod contract_problems;
pub(crate) mod deserialize;
pub(crate) mod file;
mod fingerprint;
mod foreign_patterns;
mod inherit;
mod key_help;
pub(crate) mod keys;
pub(crate) mod listen_address;
pub(crate) mod parse_yaml;
pub(crate) mod problem;
pub(crate) mod route_patterns;
pub(crate) mod schema;
pub(crate) mod server_address;
mod shapes;
mod socket_path;
pub(crate) mod sources;
pub(crate) mod structure;
mod suggestions;
mod template_help;
pub(crate) mod tree;
mod type_error;
pub(crate) mod units;
pub(crate) mod validate;
pub(crate) mod validate_actions;
pub(crate) mod validate_contracts;
pub(crate) mod validate_cors;
pub(crate) mod validate_errors;
pub(crate) mod validate_limits;
mod validate_listen;
pub(crate) mod validate_respond;
pub(crate) mod validate_routing;
pub(crate) mod validate_stores;
mod validate_timeouts;
pub(crate) mod validate_tls;
pub(crate) mod validate_upstreams;
pub(crate) mod validator;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod docs_tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use rustls::pki_types::ServerName;

use crate::contract::{Contract, DocumentedCode, FixedResponse, JsonPath, Override, RedirectStatus};
use crate::http::authority::UpstreamHost;
use crate::http::base_path::BasePath;
use crate::http::cors;
use crate::http::header_edits::HeaderEdits;
use crate::http::path_pattern::PathPattern;
use crate::http::path_rewrite::{PathRewrite, RedirectTarget};
use crate::http::peer::{Peer, PeerRange};
use crate::http::reported_origin::TrustedHeaders;
use crate::http::route_conditions::RouteConditions;
use crate::limit::LimiterSettings;
use crate::tls::cert_verification::CertVerification;
use crate::tls::expiry::Validity;
use crate::tls::server_config;
use crate::upstream::breaker::BreakerSettings;
use crate::upstream::concurrency;
use crate::upstream::ejection::EjectionSettings;
use crate::upstream::health::HealthSettings;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::settings::{Balance, NameSource};

pub use crate::contract::{Include, UpstreamMessages};
pub use file::errors::ErrorMode;
pub use file::limits::LimitHeaders;
pub use file::routing::Timeouts;
pub use file::{LogConfig, LogFormat, LogLevel, LogRequests, TelemetryConfig};
pub(crate) use problem::Diagnostic;
pub use problem::{Location, Problem, Problems};
pub(crate) use socket_path::check_socket;
pub use validate::{load_file, load_str};
pub use validator::Purpose;

/// A complete, valid configuration. Defaults are applied and references resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// The number of worker threads, at least 1.
    pub workers: usize,
    /// How long connections are still accepted after SIGTERM, while `/readyz` returns 503.
    pub drain_delay: Duration,
    /// How long open connections may take to finish after that.
    pub drain: Duration,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// `/metrics`, `/livez`, `/readyz`.
    pub telemetry: TelemetryConfig,
    /// Log settings.
    pub log: LogConfig,
    /// Limits for clients.
    pub client: ClientSettings,
    /// The default contract.
    pub contract: Arc<Contract>,
    /// The top-level overrides (`errors.overrides`), which apply after those of the route.
    pub overrides: Vec<Override>,
    /// The top-level error rules, with the default contract.
    pub errors: ErrorSettings,
    /// CORS policy for requests without a route.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// In the order of the file; routes refer to them by index.
    pub upstreams: Vec<UpstreamConfig>,
    /// In the order of the file; routes refer to them by index.
    pub rate_limits: Vec<RateLimit>,
    /// Shared rate-limit backends, in the order of the file; rules refer to them by name.
    pub stores: Vec<crate::limit::redis::BackendSettings>,
    /// The header fields that report rate limits.
    pub rate_limit_headers: LimitHeaders,
    /// In the order of the file.
    pub routes: Vec<RouteConfig>,
    /// Probable mistakes, for `check`.
    pub warnings: Problems,
    /// A short hash of the keys and values of all files, for the metric `config_hash_info`.
    pub(crate) hash: String,
}

impl Config {
    /// Every contract in use, once: the default, those of listeners, those of routes.
    pub(crate) fn contracts(&self) -> Vec<&Arc<Contract>> {
        let listeners = self.listeners.iter().filter_map(|listener| listener.errors.as_ref());
        let rules = listeners.chain(self.routes.iter().map(|route| &route.errors));
        let mut contracts = vec![&self.contract];
        for contract in rules.map(|rules| &rules.contract) {
            if contracts.iter().all(|known| known.name() != contract.name()) {
                contracts.push(contract);
            }
        }
        contracts
    }
}

/// Where a listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket, and its permissions.
    Unix(Arc<Path>, u32),
}

impl ListenAddress {
    /// The TCP address.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(..) => None,
        }
    }

    /// The TCP port, or `default` for a Unix socket, which has none.
    pub(crate) fn port_or(&self, default: u16) -> u16 {
        self.tcp().map_or(default, |address| address.port())
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path, _) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One listen address of the gateway.
#[derive(Clone, Debug)]
pub struct Listener {
    /// With port 0, the system chooses a free port.
    pub address: ListenAddress,
    /// HTTP/2 with prior knowledge instead of HTTP/1.
    pub h2c: bool,
    /// The peers whose connections must begin with a PROXY protocol header; `None` expects no header.
    pub proxy_protocol: Option<Arc<[PeerRange]>>,
    /// `None` is plaintext.
    pub tls: Option<ListenerTls>,
    /// The error rules for requests whose host no route matches, if the listener has a contract of its own.
    pub errors: Option<ErrorSettings>,
}

/// The TLS settings of a listener.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// The rustls configuration.
    pub settings: server_config::ServerTlsConfig,
    /// In the order of the file.
    pub certificates: Vec<Certificate>,
    /// Clients are asked for certificates.
    pub asks_for_client_certificates: bool,
}

impl ListenerTls {
    /// The same for clients that have no certificates.
    ///
    /// # Errors
    /// The cryptography provider failed.
    pub fn without_client_auth(self) -> Result<ListenerTls, String> {
        if !self.asks_for_client_certificates {
            return Ok(self);
        }
        let settings = server_config::without_client_auth(&self.settings)?;
        Ok(ListenerTls { settings, asks_for_client_certificates: false, ..self })
    }
}

/// A certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The path as written in the configuration file.
    pub file: String,
    /// The DNS names that it is valid for.
    pub(crate) names: Vec<String>,
    /// The validity period.
    pub validity: Validity,
}

/// Limits for clients. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// Peers whose `ip_header` is trusted.
    pub trusted_proxies: Vec<PeerRange>,
    /// The field with the client address, in lower case.
    pub ip_header: http::HeaderName,
    /// The other fields of these peers that are trusted.
    pub trusted_headers: TrustedHeaders,
    /// The number of leading bits that identify an IPv6 client.
    pub ipv6_prefix: u8,
    /// For the complete header section.
    pub header_timeout: Duration,
    /// For a client that sends no expected body data.
    pub body_timeout: Duration,
    /// Bytes per second, enforced after 30 s of waiting; 0 is off.
    pub min_body_rate: u64,
    /// For a client that accepts no response data.
    pub write_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// Of a header section, in bytes.
    pub max_header_bytes: usize,
    /// Of a request body, in bytes.
    pub max_body: u64,
    /// Of concurrent client connections.
    pub max_connections: usize,
    /// Of concurrent connections of one client.
    pub max_connections_per_client: usize,
}

/// Where the client address is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressSource<'a> {
    /// In this field, as a list of addresses.
    Field(&'a http::HeaderName),
    /// In `Forwarded`, as its `for` parameters.
    Forwarded,
    /// Nowhere: the client is the peer.
    Connection,
}

impl ClientSettings {
    /// Whether the fields of this peer are trusted.
    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        !self.trusted_proxies.is_empty() && peer.to_canonical().is_one_of(&self.trusted_proxies)
    }

    /// Where trusted proxies report the client address. `X-Forwarded-For` counts only if it is a trusted header;
    /// another `ip_header` is always trusted.
    pub(crate) fn address_source(&self) -> AddressSource<'_> {
        if self.ip_header != "x-forwarded-for" || self.trusted_headers.forwarded_for {
            AddressSource::Field(&self.ip_header)
        } else if self.trusted_headers.forwarded {
            AddressSource::Forwarded
        } else {
            AddressSource::Connection
        }
    }
}

/// How error responses of a route are produced. The top-level section and the route's section are already merged.
#[derive(Clone, Debug)]
pub struct ErrorSettings {
    /// What happens to error responses of the upstream.
    pub mode: ErrorMode,
    /// Which upstream messages clients may receive.
    pub upstream_messages: UpstreamMessages,
    /// The contract, with the additional members of a flat body.
    pub contract: Arc<Contract>,
    /// The additional members of a flat body, which `contract` has.
    pub include: Include,
    /// Whether a client may choose problem documents.
    pub negotiate: bool,
    /// Further places of the message in an upstream's body.
    pub message_paths: Vec<JsonPath>,
    /// The members of an upstream's body that are kept as details.
    pub keep_details: Vec<Box<str>>,
    /// How many bytes of an upstream error body are read to classify it (at most 64 KiB).
    pub upstream_body_limit: usize,
    /// How long that may take.
    pub upstream_body_timeout: Duration,
    /// The default `Retry-After` in whole seconds, at least 1.
    pub retry_after: u64,
    /// The overrides of the route; they apply before the top-level ones.
    pub overrides: Vec<Override>,
    /// The code that the route declares in `respond.code`.
    pub route_response: Option<DocumentedCode>,
    /// Upstream header fields that replaced errors keep in addition to the built-in list.
    pub keep_headers: Vec<http::HeaderName>,
}

/// A group of equivalent servers.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The name in the file; a metric label.
    pub name: String,
    /// At least one.
    pub servers: Vec<UpstreamServer>,
    /// How often names are resolved again.
    pub dns_refresh: Duration,
    /// Where the names of servers are looked up.
    pub names: NameSource,
    /// The maximum number of idle connections.
    pub keepalive_max: usize,
    /// How long an idle connection is kept.
    pub keepalive_idle: Duration,
    /// Attempts per request, including the first; at least 1.
    pub attempts: u32,
    /// Whether requests have `Via`.
    pub sends_via: bool,
    /// The host that the servers receive.
    pub host: UpstreamHost,
    /// Upstream status codes that are retried; usually empty.
    pub retry_on_status: Vec<u16>,
    /// Retries as a share of the requests, in percent.
    pub retry_budget: u32,
    /// How a server is selected.
    pub balance: Balance,
    /// Active health checks; `None` is off.
    pub health: Option<HealthSettings>,
    /// Passive ejection; `None` is off.
    pub ejection: Option<EjectionSettings>,
    /// Upstream statuses that count as failures, for ejection and breaker.
    pub failure_status: Vec<u16>,
    /// The circuit breaker; `None` is off.
    pub breaker: Option<BreakerSettings>,
    /// The limit of concurrent requests; `None` is unlimited.
    pub concurrency: Option<concurrency::ConcurrencyLimits>,
    /// How certificates are verified; `Some` if and only if the servers use TLS.
    pub cert_verification: Option<Arc<CertVerification>>,
    /// Whether requests are sent over HTTP/2.
    pub http2: HttpVersionPolicy,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The Unix socket of a server that has no host and port; they are then `localhost` and 80.
    pub socket: Option<Arc<Path>>,
    /// The path before the path of every request.
    pub(crate) base_path: Option<BasePath>,
    /// The share of requests, at least 1.
    pub weight: u32,
    /// The name that the certificate must be valid for; `Some` if and only if the server uses TLS.
    pub tls_name: Option<ServerName<'static>>,
}

impl UpstreamServer {
    /// `host:port`, with the base path, or `unix:/path`, for labels and logs; IPv6 addresses in brackets.
    pub fn label(&self) -> String {
        let base_path = self.base_path.as_ref().map_or("", BasePath::as_str);
        if let Some(path) = &self.socket {
            format!("unix:{}", path.display())
        } else if self.host.contains(':') {
            format!("[{}]:{}{base_path}", self.host, self.port)
        } else {
            format!("{}:{}{base_path}", self.host, self.port)
        }
    }

    /// The label as the file accepts it.
    pub(crate) fn address(&self) -> String {
        match (&self.tls_name, &self.base_path) {
            (Some(_), _) => format!("https://{}", self.label()),
            (None, Some(_)) => format!("http://{}", self.label()),
            (None, None) => self.label(),
        }
    }
}

/// A rate limit rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The name in the file; a metric label.
    pub name: String,
    /// The quota and the key.
    pub settings: LimiterSettings,
}

/// A route.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// The name in the file; a metric label.
    pub name: String,
    /// Host pattern: exact, `*.example.com`, or any (`None`). Lower case.
    pub host: Option<String>,
    /// Path pattern in the syntax of `matchit`: static, `{parameter}`, `{*rest}`.
    pub path: String,
    /// The same pattern, to find its parameters in a received path.
    pub(crate) pattern: PathPattern,
    /// Methods; empty means all. GET includes HEAD.
    pub methods: Vec<Method>,
    /// Conditions on the scheme, header fields and query.
    pub(crate) conditions: RouteConditions,
    /// Index into [`Config::upstreams`]; `None` for a route that responds itself.
    pub upstream: Option<usize>,
    /// What happens to an admitted request.
    pub(crate) action: RouteAction,
    /// How the upstream's path differs from the received one.
    pub(crate) path_rewrite: Option<PathRewrite>,
    /// Changes of the fields that the upstream gets.
    pub(crate) request_edits: HeaderEdits,
    /// Changes of the fields of every response.
    pub(crate) response_edits: HeaderEdits,
    /// Set while the route is in maintenance.
    pub(crate) maintenance: Option<Maintenance>,
    /// Merged error rules.
    pub errors: ErrorSettings,
    /// CORS policy; with `None`, the fields of the upstream are forwarded.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// Resolved for the route from the defaults, the top level, the upstream and the route.
    pub timeouts: Timeouts,
    /// The maximum request body in bytes.
    pub max_body: u64,
    /// Indices into [`Config::rate_limits`]; each once.
    pub rate_limits: Vec<usize>,
    /// Methods that get 403 (`deny.methods`). GET includes HEAD.
    pub deny_methods: Vec<Method>,
    /// Clients that may use the route; empty means all.
    pub allow_from: Vec<IpNet>,
    /// Clients that may not use the route.
    pub deny_from: Vec<IpNet>,
    /// Whether ambiguous paths, such as those with dot segments, are forwarded (`paths: lenient`).
    pub lenient_paths: bool,
    /// Protocols that clients may upgrade to, in lower case.
    pub upgrades: Vec<String>,
    /// Whether X-Forwarded-For keeps the chain of trusted proxies (`forwarded: append`).
    pub append_forwarded: bool,
}

impl RouteConfig {
    /// Whether `match.methods` includes the method.
    pub(crate) fn accepts(&self, method: &Method) -> bool {
        self.methods.is_empty() || includes_method(&self.methods, method)
    }

    /// Whether `deny.methods` includes the method.
    pub(crate) fn denies(&self, method: &Method) -> bool {
        includes_method(&self.deny_methods, method)
    }
}

/// GET includes HEAD: a client could otherwise get by HEAD what it may not get by GET.
fn includes_method(methods: &[Method], method: &Method) -> bool {
    methods.contains(method) || (*method == Method::HEAD && methods.contains(&Method::GET))
}

/// What a route does with an admitted request.
#[derive(Clone, Debug)]
pub(crate) enum RouteAction {
    /// Forwards it to the route's upstream.
    Forward,
    /// Redirects the client.
    Redirect(Arc<Redirect>),
    /// Sends a fixed response.
    Respond(Arc<FixedResponse>),
    /// Sends the error of the contract in [`ErrorSettings::route_response`].
    RespondWithError,
}

/// A redirect.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(crate) status: RedirectStatus,
    /// Makes the value of `Location`.
    pub(crate) target: RedirectTarget,
}

/// Maintenance of a route.
#[derive(Clone, Debug)]
pub(crate) struct Maintenance {
    /// The message of the response; `None` is the contract's.
    pub(crate) message: Option<Arc<str>>,
    /// `Retry-After` in seconds; `None` is `errors.retry_after`.
    pub(crate) retry_after: Option<u64>,
    /// Clients that are served nevertheless.
    pub(crate) allow_from: Vec<IpNet>,
}
