//! Resolves the names of servers: the hosts file first, then DNS as resolv.conf(5) says. Both files are read again when
//! they have changed.
//!
//! [`name_state`] decides what an answer means and when to ask again, [`search`] which names are tried;
//! [`name_servers`] asks. Runs in the background: no request waits for a lookup.

mod hosts_file;
mod name_servers;
pub(crate) mod name_state;
mod search;
mod watched_file;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

use self::hosts_file::HostsFile;
use self::name_servers::NameServers;
use self::name_state::{LookupFailure, NameAnswer};
use self::search::SearchRules;
use self::watched_file::WatchedFile;
use super::settings::NameSource;
use super::timer::timeout_at;

/// The time limit of getaddrinfo.
const SYSTEM_TIMEOUT: Duration = Duration::from_secs(5);

/// Looks up the names of one upstream.
#[derive(Debug)]
pub(crate) struct Resolver {
    source: NameSource,
    /// How long an answer without a TTL is valid.
    refresh: Duration,
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    hosts_file: WatchedFile,
    resolv_conf: WatchedFile,
    hosts: Arc<HostsFile>,
    name_servers: Option<Arc<NameServers>>,
}

impl Resolver {
    /// Uses the files of the system. Nothing is read before the first lookup.
    pub(crate) fn new(source: NameSource, refresh: Duration) -> Self {
        Resolver::with_files(source, refresh, "/etc/hosts".into(), "/etc/resolv.conf".into())
    }

    fn with_files(source: NameSource, refresh: Duration, hosts: PathBuf, resolv_conf: PathBuf) -> Self {
        Resolver {
            source,
            refresh,
            files: Mutex::new(Files {
                hosts_file: WatchedFile::new(hosts),
                resolv_conf: WatchedFile::new(resolv_conf),
                hosts: Arc::default(),
                name_servers: None,
            }),
        }
    }

    /// Whether a file has changed since the last lookup, so that known answers may be wrong.
    pub(crate) fn has_changed(&self) -> bool {
        let files = self.files.lock();
        match self.source {
            NameSource::System => false,
            NameSource::Dns => files.hosts_file.has_changed() || files.resolv_conf.has_changed(),
            NameSource::NameServers(_) => files.hosts_file.has_changed(),
        }
    }

    /// Looks up both address families of a name.
    pub(crate) async fn lookup(&self, host: &str) -> NameAnswer {
        if self.source == NameSource::System {
            return self.lookup_system(host).await;
        }
        let (hosts, name_servers) = self.current();
        if let Some(addresses) = hosts.find(host) {
            return NameAnswer::of(addresses.iter().copied(), self.refresh);
        }
        match name_servers {
            Some(name_servers) => name_servers.lookup(host).await,
            None => NameAnswer::failed(LookupFailure::Error),
        }
    }

    async fn lookup_system(&self, host: &str) -> NameAnswer {
        let lookup = tokio::net::lookup_host((host, 0));
        match timeout_at(Instant::now() + SYSTEM_TIMEOUT, lookup).await {
            Some(Ok(found)) => NameAnswer::of(found.map(|address| address.ip()), self.refresh),
            Some(Err(_)) => NameAnswer::failed(LookupFailure::Error),
            None => NameAnswer::failed(LookupFailure::TimedOut),
        }
    }

    /// What the files say now. A file that cannot be read or used is logged, and what is known of it stays in use.
    fn current(&self) -> (Arc<HostsFile>, Option<Arc<NameServers>>) {
        let mut files = self.files.lock();
        match files.hosts_file.read_changed() {
            Ok(Some(content)) => files.hosts = Arc::new(HostsFile::parse(&content)),
            Ok(None) => {}
            Err(error) => warn!(evidence = %error, "cannot read the hosts file"),
        }
        let servers = match &self.source {
            NameSource::System => Ok(None),
            NameSource::NameServers(_) if files.name_servers.is_some() => Ok(None),
            NameSource::NameServers(addresses) => NameServers::of(addresses, SearchRules::NONE).map(Some),
            NameSource::Dns => match files.resolv_conf.read_changed() {
                Ok(Some(content)) => NameServers::from_resolv_conf(&content).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error.to_string()),
            },
        };
        match servers {
            Ok(Some(servers)) => files.name_servers = Some(Arc::new(servers)),
            Ok(None) => {}
            Err(evidence) => warn!(evidence, "cannot use the name servers of resolv.conf"),
        }
        (Arc::clone(&files.hosts), files.name_servers.clone())
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
