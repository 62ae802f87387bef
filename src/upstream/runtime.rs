//! The run-time state of an upstream: its servers, its connections and the load balancing position.
//!
//! A reload keeps this state if the settings of the upstream are unchanged. It offers candidates for an attempt;
//! `proxy::attempt` decides whether to retry on another one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::balance::RoundRobin;
use super::candidate::Candidate;
use super::dns::Addresses;
use super::http2::HttpVersionPolicy;
use super::transport::Transport;
use crate::tls::cert_verification::CertVerification;

/// The run-time state of one server.
#[derive(Debug)]
pub(crate) struct ServerState {
    /// `host:port` as configured, used in metrics and logs.
    pub label: Arc<str>,
    /// The resolved addresses.
    pub addresses: Addresses,
    /// Round-robin position among the addresses.
    next_address: AtomicUsize,
    /// The name to verify the certificate against; `None` without TLS.
    tls_name: Option<Arc<ServerName<'static>>>,
}

/// The run-time state of one upstream.
#[derive(Debug)]
pub(crate) struct UpstreamRuntime {
    settings: UpstreamSettings,
    servers: Vec<ServerState>,
    rotation: RoundRobin,
    next_server: AtomicUsize,
    transport: Transport,
}

/// The settings of an upstream. A reload with equal settings keeps the [`UpstreamRuntime`] and its connections.
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
    /// Interval between DNS lookups.
    pub dns_refresh: Duration,
    /// How server certificates are verified; `None` without TLS.
    pub trust: Option<Arc<CertVerification>>,
    /// The HTTP versions to use.
    pub http2: HttpVersionPolicy,
}

/// The settings of one server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSpec {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The relative share of requests.
    pub weight: u32,
    /// `host:port` as configured, used in metrics and logs.
    pub label: String,
    /// The name to verify the certificate against; `None` without TLS.
    pub tls_name: Option<ServerName<'static>>,
}

impl UpstreamRuntime {
    /// Creates the state without opening any connection.
    pub(crate) fn new(settings: UpstreamSettings) -> Self {
        let weights: Vec<u32> = settings.servers.iter().map(|server| server.weight).collect();
        let servers = settings.servers.iter().map(|server| ServerState {
            label: Arc::from(server.label.as_str()),
            addresses: Addresses::new(&server.host, server.port),
            next_address: AtomicUsize::new(0),
            tls_name: server.tls_name.clone().map(Arc::new),
        });
        UpstreamRuntime {
            servers: servers.collect(),
            rotation: RoundRobin::new(&weights),
            next_server: AtomicUsize::new(0),
            transport: Transport::new(
                settings.keepalive_max,
                settings.keepalive_idle,
                settings.trust.clone(),
                settings.http2,
            ),
            settings,
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

    /// The servers, in configuration order.
    pub(crate) fn servers(&self) -> &[ServerState] {
        &self.servers
    }

    /// Interval between DNS lookups.
    pub(crate) fn dns_refresh(&self) -> Duration {
        self.settings.dns_refresh
    }

    /// The connections of the upstream.
    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The next server, in round-robin order, with an address that is not in `tried`; `None` if no such address exists.
    ///
    /// Only a call with an empty `tried` advances the round-robin position.
    pub(crate) fn next_candidate(&self, tried: &[Candidate]) -> Option<Candidate> {
        let start = if tried.is_empty() {
            self.next_server.fetch_add(1, Ordering::Relaxed)
        } else {
            // A retry does not advance the position: otherwise failures would skew the distribution.
            self.next_server.load(Ordering::Relaxed)
        };
        (0..self.servers.len().max(1)).find_map(|offset| {
            // The weighted sequence may be longer than the list of servers, so continue through the list instead.
            let index = self.rotation.server(start)?;
            let index = (index + offset) % self.servers.len();
            self.servers.get(index)?.candidate(tried)
        })
    }

    /// Closes idle connections and stops pooling, because a reload has removed the upstream.
    pub(crate) async fn close_gracefully(&self) {
        let candidates = self.servers.iter().flat_map(|server| {
            let addresses = Arc::clone(&server.addresses.current());
            (0..addresses.len()).filter_map(move |at| Some(server.candidate_at(*addresses.get(at)?)))
        });
        self.transport.close_gracefully(candidates).await;
    }

    /// Copies the resolved addresses of servers that `previous` also has, so that changing another setting does not
    /// require new DNS lookups.
    #[must_use]
    pub(crate) fn with_known_addresses(self, previous: &UpstreamRuntime) -> Self {
        for server in &self.servers {
            let same_server = |candidate: &&ServerState| {
                candidate.addresses.host_and_port() == server.addresses.host_and_port()
            };
            if let Some(previous_server) = previous.servers.iter().find(same_server) {
                server.addresses.update(previous_server.addresses.current().to_vec());
            }
        }
        self
    }
}

impl ServerState {
    fn candidate(&self, tried: &[Candidate]) -> Option<Candidate> {
        let addresses = self.addresses.current();
        let start = if addresses.len() > 1 { self.next_address.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (0..addresses.len()).find_map(|offset| {
            let address = *addresses.get(start.wrapping_add(offset) % addresses.len())?;
            let already_tried =
                tried.iter().any(|tried| tried.address == address && tried.server == self.label);
            (!already_tried).then(|| self.candidate_at(address))
        })
    }

    fn candidate_at(&self, address: SocketAddr) -> Candidate {
        Candidate { server: Arc::clone(&self.label), address, tls_name: self.tls_name.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(servers: &[(&str, u16)]) -> UpstreamRuntime {
        let servers: Vec<ServerSpec> = servers
            .iter()
            .map(|(host, port)| ServerSpec {
                host: (*host).into(),
                port: *port,
                weight: 1,
                label: format!("{host}:{port}"),
                tls_name: None,
            })
            .collect();
        UpstreamRuntime::new(UpstreamSettings {
            name: "shop".into(),
            servers,
            keepalive_max: 8,
            keepalive_idle: Duration::from_secs(4),
            dns_refresh: Duration::from_secs(30),
            trust: None,
            http2: HttpVersionPolicy::Http1,
        })
    }

    #[test]
    fn candidates_rotate_and_skip_tried_servers() {
        let shop = upstream(&[("127.0.0.1", 1), ("127.0.0.1", 2)]);
        let first = shop.next_candidate(&[]).unwrap();
        let second = shop.next_candidate(&[]).unwrap();
        assert_eq!((first.address.port(), second.address.port()), (1, 2));
        let other = shop.next_candidate(std::slice::from_ref(&first)).unwrap();
        assert_eq!(other.address.port(), 2);
        assert_eq!(shop.next_candidate(&[first, second]), None);
    }

    #[test]
    fn server_without_an_address_is_skipped() {
        let shop = upstream(&[("shop.internal", 1), ("127.0.0.1", 2)]);
        for _ in 0..4 {
            assert_eq!(shop.next_candidate(&[]).unwrap().address.port(), 2);
        }
        assert!(upstream(&[("shop.internal", 1)]).next_candidate(&[]).is_none());
    }
}
