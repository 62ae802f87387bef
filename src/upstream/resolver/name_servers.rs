//! Asks name servers, through the library hickory-resolver, which speaks DNS: retransmission, TCP after a truncated
//! response, CNAME chains.
//!
//! Each server has a resolver of its own, because the library ends a lookup with the first error response, while the C
//! library asks the next server. Nothing is cached: [`super::name_state`] knows when to ask again.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;

use super::name_state::{FamilyAnswer, LookupFailure, NameAnswer};
use super::search::{self, SearchRules};
use crate::upstream::timer::timeout_at;

/// The name servers and what is asked of them.
#[derive(Debug)]
pub(super) struct NameServers {
    servers: Vec<Server>,
    search: SearchRules,
    timeout: Duration,
    /// How often all of them are asked.
    rounds: usize,
}

struct Server {
    address: SocketAddr,
    resolver: TokioResolver,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

/// The longest wait for one name server: resolv.conf's default of 5 s would leave a name unknown for half a minute.
const MAX_QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// How often all name servers are asked, unless resolv.conf says something else.
const ROUNDS: usize = 2;
/// The C library uses no more name servers (MAXNS).
const MAX_SERVERS: usize = 3;
const DNS_PORT: u16 = 53;

impl NameServers {
    /// The name servers, search domains and options of a resolv.conf. Without a name server, that of the machine.
    ///
    /// # Errors
    /// The content cannot be used; the reason.
    pub(super) fn from_resolv_conf(content: &[u8]) -> Result<Self, String> {
        let (config, options) = match parse_resolv_conf(content) {
            Ok(parsed) => parsed,
            Err(_) => {
                let with_default = [content, b"\nnameserver 127.0.0.1\n"].concat();
                parse_resolv_conf(with_default).map_err(|error| error.to_string())?
            }
        };
        let (domain, search, servers) = config.into_parts();
        let domains = if search.is_empty() { domain.into_iter().collect() } else { search };
        let domains = domains.iter().map(Name::to_ascii).collect();
        let addresses: Vec<SocketAddr> =
            servers.iter().map(|server| SocketAddr::new(server.ip, DNS_PORT)).take(MAX_SERVERS).collect();
        let timeout = options.timeout.min(MAX_QUERY_TIMEOUT);
        Ok(NameServers {
            servers: resolvers(&addresses, timeout, options.edns0)?,
            search: SearchRules { domains, ndots: options.ndots },
            timeout,
            rounds: options.attempts.max(1),
        })
    }

    /// These name servers.
    ///
    /// # Errors
    /// The library refuses them; the reason.
    pub(super) fn of(addresses: &[SocketAddr], search: SearchRules) -> Result<Self, String> {
        Ok(NameServers {
            servers: resolvers(addresses, MAX_QUERY_TIMEOUT, false)?,
            search,
            timeout: MAX_QUERY_TIMEOUT,
            rounds: ROUNDS,
        })
    }

    /// Looks up both families of a name. Where the name is completed by search domains, the first one that has
    /// addresses counts.
    pub(super) async fn lookup(&self, host: &str) -> NameAnswer {
        let mut failed = None;
        for name in search::names(host, &self.search) {
            let Ok(name) = Name::from_str_relaxed(&name) else { continue };
            let answer = self.ask(&name).await;
            if answer.has_addresses() {
                return answer;
            }
            match answer.failure() {
                // If no server responds to one name, none responds to the next.
                Some(LookupFailure::TimedOut) => return answer,
                Some(LookupFailure::Error) | None => {
                    let is_failure = |family: &FamilyAnswer| matches!(family, FamilyAnswer::Failed(_));
                    if is_failure(&answer.v4) || is_failure(&answer.v6) {
                        failed = Some(answer);
                    }
                }
            }
        }
        failed.unwrap_or(NameAnswer { v4: FamilyAnswer::Empty, v6: FamilyAnswer::Empty })
    }

    /// Asks the servers in turn until one has an answer.
    async fn ask(&self, name: &Name) -> NameAnswer {
        let mut failure = LookupFailure::TimedOut;
        for _ in 0..self.rounds {
            for server in &self.servers {
                let (v4, v6) = tokio::join!(
                    self.ask_one(server, name, RecordType::A),
                    self.ask_one(server, name, RecordType::AAAA)
                );
                let answer = NameAnswer { v4, v6 };
                let both_answered = |answer: &NameAnswer| {
                    !matches!(answer.v4, FamilyAnswer::Failed(_))
                        && !matches!(answer.v6, FamilyAnswer::Failed(_))
                };
                if answer.has_addresses() || both_answered(&answer) {
                    return answer;
                }
                if answer.failure() == Some(LookupFailure::Error) {
                    failure = LookupFailure::Error;
                }
            }
        }
        NameAnswer::failed(failure)
    }

    async fn ask_one(&self, server: &Server, name: &Name, record_type: RecordType) -> FamilyAnswer {
        let lookup = server.resolver.lookup(name.clone(), record_type);
        match timeout_at(Instant::now() + self.timeout, lookup).await {
            Some(result) => family_answer(result),
            None => FamilyAnswer::Failed(LookupFailure::TimedOut),
        }
    }
}

fn resolvers(addresses: &[SocketAddr], timeout: Duration, edns: bool) -> Result<Vec<Server>, String> {
    let build = |address: &SocketAddr| {
        let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
        (udp.port, tcp.port) = (address.port(), address.port());
        let server = NameServerConfig::new(address.ip(), true, vec![udp, tcp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = timeout;
        options.attempts = 0;
        options.edns0 = edns;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Server { address: *address, resolver })
    };
    addresses.iter().map(build).collect()
}

/// What the library's result means. The TTL is the shortest of the chain.
fn family_answer(result: Result<Lookup, NetError>) -> FamilyAnswer {
    let lookup = match result {
        Ok(lookup) => lookup,
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => return FamilyAnswer::Empty,
        Err(NetError::Timeout) => return FamilyAnswer::Failed(LookupFailure::TimedOut),
        Err(_) => return FamilyAnswer::Failed(LookupFailure::Error),
    };
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let addresses: Vec<IpAddr> = lookup.answers().iter().filter_map(|record| address(&record.data)).collect();
    let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    if addresses.is_empty() {
        return FamilyAnswer::Empty;
    }
    FamilyAnswer::Addresses { addresses, ttl: Duration::from_secs(ttl.into()) }
}
