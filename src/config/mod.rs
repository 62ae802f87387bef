//! What the operator said, checked: [`Config`] is the only form of the configuration that the rest of the house sees.
//!
//! [`parse_yaml`] makes a tree of the YAML in which every value knows its place ([`tree`]); [`deserialize`] makes the structs of
//! [`mod@file`] of it, which mirror the YAML key for key and whose doc comments are the manual; [`validate`] turns those into a
//! [`Config`], or into the complete list of problems ([`problem`]). [`unsupported`] knows the keys that are still to be built.
//! Certificates are read with the file that names them. Nothing here opens a socket, resolves a name or reads a clock.

pub mod deserialize;
pub mod file;
pub mod parse_yaml;
pub mod problem;
pub mod route_patterns;
pub mod schema;
pub mod tree;
pub mod units;
pub mod unsupported;
pub mod validate;
pub mod validate_cors;
pub mod validate_errors;
pub mod validate_limits;
pub mod validate_routing;
pub mod validate_stores;
pub mod validate_tls;
pub mod validator;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod docs;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;
use rustls::pki_types::ServerName;

use crate::contract::{Contract, Override};
use crate::http::cors;
use crate::limit::LimiterSettings;

use crate::tls::cert_verification::CertVerification;
use crate::tls::expiry::Validity;
use crate::tls::server_config;
use crate::upstream::concurrency;
use crate::upstream::http2::HttpVersionPolicy;

pub use crate::contract::{Include, UpstreamMessages};
pub use file::errors::ErrorMode;
pub use file::limits::LimitHeaders;
pub use file::{LogFormat, LogLevel, LogRequests};
pub use problem::{Problem, Problems};
pub use validate::{check_file, load_file, load_str};

/// A whole, valid configuration. Every default is filled in, every name resolved.
#[derive(Clone, Debug)]
pub struct Config {
    /// Worker threads; at least 1.
    pub workers: usize,
    /// After SIGTERM: `/readyz` says 503 while connections are still accepted.
    pub drain_delay: Duration,
    /// Then: how long open connections get to finish.
    pub drain: Duration,
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// `/metrics`, `/livez`, `/readyz`.
    pub telemetry: TelemetryConfig,
    /// How the log is written.
    pub log: LogConfig,
    /// What clients may do.
    pub client: ClientLimits,
    /// What is promised.
    pub contract: Arc<Contract>,
    /// Overrides of every route (`errors.overrides`), after a route's own.
    pub overrides: Vec<Override>,
    /// Error rules for requests that reach no route.
    pub errors: ErrorRules,
    /// Whose pages may read the answers to requests that reach no route.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// In the order of the file; routes refer to them by index.
    pub upstreams: Vec<UpstreamConfig>,
    /// In the order of the file; routes refer to them by index.
    pub rate_limits: Vec<RateLimit>,
    /// Where several gateways count together, in the order of the file; rules refer to them by name.
    pub stores: Vec<crate::limit::redis::StoreSettings>,
    /// In which fields clients are told of rate limits.
    pub rate_limit_headers: LimitHeaders,
    /// In the order of the file.
    pub routes: Vec<RouteConfig>,
    /// What is probably not meant, for `check`.
    pub warnings: Problems,
}

/// One listening address of the gateway.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Address and port; port 0 asks the system for a free one.
    pub address: SocketAddr,
    /// HTTP/2 with prior knowledge instead of HTTP/1.
    pub h2c: bool,
    /// TLS, with these certificates.
    pub tls: Option<ListenerTls>,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct ListenerTls {
    /// For its handshakes.
    pub settings: server_config::ServerTlsConfig,
    /// What is shown to clients, in the order of the file.
    pub certificates: Vec<Certificate>,
}

/// A certificate that is shown to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The path as it is written in the file.
    pub file: String,
    /// From when and until when.
    pub validity: Validity,
}

/// The read-only endpoint for Prometheus and probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Address and port.
    pub address: SocketAddr,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Text or JSON lines.
    pub format: LogFormat,
    /// `problem`, `warn`, `info`, `debug`, `write_trace_value`.
    pub level: LogLevel,
    /// Which requests are logged.
    pub requests: LogRequests,
}

/// Limits towards clients. Times are silences or totals as named; sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Peers that may name the client in `ip_header`.
    pub trusted_proxies: Vec<IpNet>,
    /// The field they name it in; lower case.
    pub ip_header: http::HeaderName,
    /// IPv6 clients are told apart by this many bits.
    pub ipv6_prefix: u8,
    /// For the whole request head.
    pub header_timeout: Duration,
    /// Silence while we wait for the client's bytes.
    pub body_timeout: Duration,
    /// Bytes per second, judged after 30 s of waiting; 0 is off.
    pub min_body_rate: u64,
    /// The client accepts nothing.
    pub write_timeout: Duration,
    /// Keep-alive.
    pub idle_timeout: Duration,
    /// Request head, bytes.
    pub max_header_bytes: usize,
    /// Request body, bytes.
    pub max_body: u64,
    /// Client connections at once.
    pub max_connections: usize,
}

/// How errors of a route are made. Global rules and the route's own are already merged.
#[derive(Clone, Debug)]
pub struct ErrorRules {
    /// Enforce, observe, pass.
    pub mode: ErrorMode,
    /// Whose messages may leave.
    pub upstream_messages: UpstreamMessages,
    /// Extra members.
    pub include: Include,
    /// How many bytes of an upstream error body are read to judge it (at most 64 KiB).
    pub upstream_body_limit: usize,
    /// And for how long.
    pub upstream_body_timeout: Duration,
    /// `Retry-After` where nothing better is known; whole seconds, at least 1.
    pub retry_after: u64,
    /// The route's own overrides; they precede the global ones.
    pub overrides: Vec<Override>,
    /// Further upstream fields kept on replaced errors, beside the built-in allow-list.
    pub keep_headers: Vec<http::HeaderName>,
}

/// Time limits, resolved for one route: defaults, then top level, then upstream, then route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One TCP attempt.
    pub connect: Duration,
    /// One TLS handshake.
    pub tls: Duration,
    /// One attempt: from the request being sent until the whole response head is there.
    pub response_headers: Duration,
    /// From the parsed request head until the response head has been judged; paused while we wait for the client.
    pub deadline: Duration,
    /// Silence of the upstream inside a body.
    pub body_idle: Duration,
    /// The same for `text/event-stream` and gRPC.
    pub stream_idle: Duration,
    /// A tunnel in which nothing moves, either way.
    pub tunnel_idle: Duration,
    /// Everything, body included; off when `None`.
    pub max_duration: Option<Duration>,
}

/// A group of servers that can answer the same requests.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The name in the file: label, override key.
    pub name: String,
    /// At least one.
    pub servers: Vec<UpstreamServer>,
    /// How often names are resolved again.
    pub dns_refresh: Duration,
    /// Idle connections kept at most.
    pub keepalive_max: usize,
    /// And for how long.
    pub keepalive_idle: Duration,
    /// Attempts per request, the first included; at least 1.
    pub attempts: u32,
    /// Upstream statuses that may be retried; usually empty.
    pub retry_on_status: Vec<u16>,
    /// How many requests at once; any number when `None`.
    pub concurrency: Option<concurrency::ConcurrencyLimits>,
    /// Whom the servers must be certified by; `Some` exactly when they speak TLS.
    pub cert_verification: Option<Arc<CertVerification>>,
    /// Whether HTTP/2 is spoken to its servers.
    pub http2: HttpVersionPolicy,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Share of the requests; at least 1.
    pub weight: u32,
    /// The name that it must be certified for; `Some` exactly when it speaks TLS.
    pub tls_name: Option<ServerName<'static>>,
}

impl UpstreamServer {
    /// `host:port`, for labels and logs; IPv6 addresses in brackets.
    pub fn label(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// A rate limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// The name in the file: label.
    pub name: String,
    /// What it allows, and to whom.
    pub settings: LimiterSettings,
}

/// Which requests go to which upstream, and by which rules.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// The name in the file: label.
    pub name: String,
    /// Host pattern: exact, `*.example.com`, or any (`None`). Lower case.
    pub host: Option<String>,
    /// Path pattern in matchit's syntax: static, `{parameter}`, `{*rest}`.
    pub path: String,
    /// Methods; empty means all. HEAD is served where GET is.
    pub methods: Vec<Method>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// Merged error rules.
    pub errors: ErrorRules,
    /// Whose pages may read its responses; `None` leaves that to the upstream.
    pub cors: Option<Arc<cors::CorsPolicy>>,
    /// Resolved time limits.
    pub timeouts: Timeouts,
    /// Largest request body; the route's or the client's.
    pub max_body: u64,
    /// Indices into [`Config::rate_limits`]; each once.
    pub rate_limits: Vec<usize>,
    /// Methods refused with 403 (`deny.candidate_methods`).
    pub deny_methods: Vec<Method>,
    /// Clients that may use the route; empty means all.
    pub allow_from: Vec<IpNet>,
    /// Dot segments pass (`paths: lenient`).
    pub lenient_paths: bool,
    /// Protocols that a client may change to (`upgrades`); lower case.
    pub upgrades: Vec<String>,
    /// Keep the chain of trusted peers in X-Forwarded-For (`forwarded: append`).
    pub append_forwarded: bool,
}
