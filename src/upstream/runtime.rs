//! What lives as long as an upstream does: its servers, its connections, whose turn it is.
//!
//! Carried from one snapshot to the next. It offers candidates; whether a request may use a second one is decided on
//! the request path.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::balance::RoundRobin;
use super::dns::Addresses;
use super::http2::HttpVersionPolicy;
use super::transport::Transport;
use crate::tls::cert_verification::CertVerification;

/// One server with what is known about it.
#[derive(Debug)]
pub struct ServerState {
    /// `host:port` as configured: the label in metrics and logs.
    pub label: Arc<str>,
    /// Where it is.
    pub addresses: Addresses,
    /// Whose turn it is among its addresses.
    next_address: AtomicUsize,
    /// The name that it must be certified for, where it speaks TLS.
    tls_name: Option<Arc<ServerName<'static>>>,
}

/// A server and one of its addresses, to be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The server's label.
    pub server: Arc<str>,
    /// Where to connect.
    pub address: SocketAddr,
    /// The name that it must be certified for, where it speaks TLS.
    pub tls_name: Option<Arc<ServerName<'static>>>,
}

/// An upstream at run time.
#[derive(Debug)]
pub struct UpstreamRuntime {
    settings: UpstreamSettings,
    servers: Vec<ServerState>,
    rotation: RoundRobin,
    next_server: AtomicUsize,
    transport: Transport,
}

/// What an upstream is made of. While it stays equal, the upstream lives on through reloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The name in the configuration.
    pub name: String,
    /// In the order of the file.
    pub servers: Vec<ServerSpec>,
    /// Idle connections kept at most.
    pub keepalive_max: usize,
    /// And for how long.
    pub keepalive_idle: Duration,
    /// How often names are looked up again.
    pub dns_refresh: Duration,
    /// Whom its servers must be certified by, where they speak TLS.
    pub trust: Option<Arc<CertVerification>>,
    /// Whether HTTP/2 is spoken to them.
    pub http2: HttpVersionPolicy,
}

/// One server of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Share of the requests.
    pub weight: u32,
    /// The label in metrics and logs.
    pub label: String,
    /// The name that it must be certified for, where it speaks TLS.
    pub tls_name: Option<ServerName<'static>>,
}

impl UpstreamRuntime {
    /// Builds the upstream. Connections are made when requests come.
    pub fn new(settings: UpstreamSettings) -> Self {
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

    /// What it was made of.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its servers, in the order of the file.
    pub fn servers(&self) -> &[ServerState] {
        &self.servers
    }

    /// How often names are looked up again.
    pub fn dns_refresh(&self) -> Duration {
        self.settings.dns_refresh
    }

    /// Its connections.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The next server in turn that has an address not among `tried`; without one, `None`.
    ///
    /// A first call moves the turn by one; calls with something tried look on from there.
    pub fn next_candidate(&self, tried: &[Candidate]) -> Option<Candidate> {
        let start = if tried.is_empty() {
            self.next_server.fetch_add(1, Ordering::Relaxed)
        } else {
            // Looking on is not a turn of its own, or every failure would shift the round.
            self.next_server.load(Ordering::Relaxed)
        };
        (0..self.servers.len().max(1)).find_map(|offset| {
            // A whole round of the sequence may be longer than the list of servers: look at each server once after
            // the one whose turn it is.
            let index = self.rotation.server(start)?;
            let index = (index + offset) % self.servers.len();
            self.servers.get(index)?.candidate(tried)
        })
    }

    /// Closes the connections that wait for requests, and keeps no more: the upstream is not in the configuration any more.
    pub async fn close_gracefully(&self) {
        let candidates = self.servers.iter().flat_map(|server| {
            let addresses = Arc::clone(&server.addresses.current());
            (0..addresses.len()).filter_map(move |at| Some(server.candidate_at(*addresses.get(at)?)))
        });
        self.transport.close_gracefully(candidates).await;
    }

    /// What is known of the addresses of the servers that `previous` has as well, so that a change of something else does not
    /// need their names to be found again.
    #[must_use]
    pub fn with_known_addresses(self, previous: &UpstreamRuntime) -> Self {
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

    /// Whether any server has an address.
    pub fn has_address(&self) -> bool {
        self.servers.iter().any(|server| !server.addresses.current().is_empty())
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
        assert!(shop.has_address());
        assert!(!upstream(&[("shop.internal", 1)]).has_address());
    }
}
