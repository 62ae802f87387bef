//! The settings of an upstream, as the configuration determines them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::breaker::BreakerSettings;
use super::ejection::EjectionSettings;
use super::health::HealthSettings;
use super::http2::HttpVersionPolicy;
use crate::http::base_path::BasePath;
use crate::tls::cert_verification::CertVerification;

/// The settings of an upstream. A reload with equal settings keeps the [runtime](super::runtime) and its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamSettings {
    /// The name in the configuration.
    pub name: String,
    /// The servers, in configuration order.
    pub servers: Vec<ServerSpec>,
    /// Maximum number of idle connections.
    pub keepalive_max: usize,
    /// How long a connection may stay idle.
    pub keepalive_idle: Duration,
    /// The longest interval between lookups of a name.
    pub dns_refresh: Duration,
    /// Where names are looked up.
    pub names: NameSource,
    /// How server certificates are verified; `None` without TLS.
    pub trust: Option<Arc<CertVerification>>,
    /// The HTTP versions to use.
    pub http2: HttpVersionPolicy,
    /// How a server is selected.
    pub balance: Balance,
    /// Passive ejection; `None` is off.
    pub ejection: Option<EjectionSettings>,
    /// Upstream statuses that count as failures, for ejection and breaker.
    pub failure_status: Vec<u16>,
    /// Active health checks; `None` is off.
    pub health: Option<HealthSettings>,
    /// The circuit breaker; `None` is off.
    pub breaker: Option<BreakerSettings>,
}

/// The settings of one server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSpec {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The Unix socket of a server that has no host and port; they are then those of its requests.
    pub socket: Option<Arc<Path>>,
    /// The path before the path of every request.
    pub base_path: Option<BasePath>,
    /// The relative share of requests.
    pub weight: u32,
    /// `host:port`, with the base path, or `unix:/path` as configured, used in metrics and logs.
    pub label: String,
    /// The name to verify the certificate against; `None` without TLS.
    pub tls_name: Option<ServerName<'static>>,
}

/// Where the names of servers are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NameSource {
    /// The hosts file, then the name servers of resolv.conf.
    #[default]
    Dns,
    /// The C library: getaddrinfo.
    System,
    /// The hosts file, then these name servers.
    NameServers(Vec<SocketAddr>),
}

/// How a server is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// At random, by weight.
    Random,
    /// The less busy of two random servers, by requests in flight and weight.
    LeastBusy,
    /// By a hash of the request, see [`HashKey`]; no word in the file.
    #[serde(skip)]
    Hash(HashKey),
}

/// What is hashed to select a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// The value of a request header field, in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
}

impl UpstreamSettings {
    /// The weights of the servers.
    pub(super) fn weights(&self) -> Vec<u32> {
        self.servers.iter().map(|server| server.weight).collect()
    }
}

#[cfg(test)]
impl UpstreamSettings {
    /// The default settings, without a server.
    pub(crate) fn for_test() -> Self {
        UpstreamSettings {
            name: "shop".into(),
            servers: Vec::new(),
            keepalive_max: 8,
            keepalive_idle: Duration::from_secs(4),
            dns_refresh: Duration::from_secs(30),
            names: NameSource::Dns,
            trust: None,
            http2: HttpVersionPolicy::Http1,
            balance: Balance::RoundRobin,
            ejection: Some(EjectionSettings::default()),
            failure_status: vec![502, 503, 504],
            health: None,
            breaker: None,
        }
    }
}
