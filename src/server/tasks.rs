//! What runs beside the requests: names are looked up and stores of rate limits connected in the background, so that no
//! request ever waits for either.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::limit::redis::RedisBackend;
use crate::upstream::timer::{sleep, timeout_at};
use crate::upstream::{UpstreamRuntime, dns::Addresses};

/// A name without an address is tried again so soon.
const LOOKUP_RETRY: Duration = Duration::from_secs(1);
/// A lookup that takes longer counts as failed.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// So often free memory is given back.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);
/// A start and a reload wait so long for stores.
const STORE_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The lookups that run: one task for each upstream that has names.
#[derive(Debug, Default)]
pub struct DnsTasks(Vec<(Arc<UpstreamRuntime>, AbortHandle)>);

impl DnsTasks {
    /// From now on for these upstreams: new ones begin, gone ones end, the others go on.
    pub fn update(&mut self, upstreams: &[Arc<UpstreamRuntime>]) {
        self.0.retain(|(running, task)| {
            let keep = upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, running));
            if !keep {
                task.abort();
            }
            keep
        });
        for upstream in upstreams.iter().filter(|upstream| has_names(upstream)) {
            if !self.contains(upstream) {
                let task = tokio::spawn(resolve_periodically(Arc::clone(upstream))).abort_handle();
                self.0.push((Arc::clone(upstream), task));
            }
        }
    }

    /// Whether the names of this upstream are looked up.
    pub fn contains(&self, upstream: &Arc<UpstreamRuntime>) -> bool {
        self.0.iter().any(|(running, _)| Arc::ptr_eq(upstream, running))
    }
}

fn has_names(upstream: &UpstreamRuntime) -> bool {
    upstream.servers().iter().any(|server| server.addresses.is_name())
}

/// Begins to keep the connections of these stores, and waits until each has been tried once, so that the first request
/// counts where it should; not for long, for requests can be served without.
pub async fn connect_stores(stores: &[Arc<RedisBackend>]) {
    for store in stores {
        store.start_reconnecting();
    }
    timeout_at(
        Instant::now() + STORE_CONNECT_TIMEOUT,
        join_all(stores.iter().map(|store| store.wait_for_first_attempt())),
    )
    .await;
}

/// Looks up the names of an upstream's servers once, all at the same time; says whether all have an address now.
pub async fn resolve_all(upstream: &UpstreamRuntime) -> bool {
    let names = upstream.servers().iter().filter(|server| server.addresses.is_name());
    let all_found = join_all(names.map(|server| resolve_name(upstream.name(), &server.addresses))).await;
    all_found.into_iter().all(|found| found)
}

/// Looks up the names of an upstream's servers, again and again, until the task is dropped.
async fn resolve_periodically(upstream: Arc<UpstreamRuntime>) {
    loop {
        let unresolved = !resolve_all(&upstream).await;
        let pause =
            if unresolved { LOOKUP_RETRY.min(upstream.dns_refresh()) } else { upstream.dns_refresh() };
        sleep(pause).await;
    }
}

/// Gives memory that nobody uses any more back to the system, again and again, until the task is dropped.
///
/// The allocator does so while it is asked for much, or when a thread ends: after a crowd has left, an idle gateway would
/// keep all that the crowd took.
pub async fn trim_memory() {
    loop {
        sleep(TRIM_INTERVAL).await;
        // One that cannot be made now is made next time.
        let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(|| ());
    }
}

/// Looks up one name; says whether it has an address now.
async fn resolve_name(upstream: &str, addresses: &Addresses) -> bool {
    let (host, port) = addresses.host_and_port();
    let had_address = !addresses.current().is_empty();
    let addresses_found =
        timeout_at(Instant::now() + LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let addresses_found: Vec<SocketAddr> = match addresses_found {
        Some(Ok(addresses_found)) => addresses_found.collect(),
        Some(Err(error)) => {
            if had_address {
                warn!(upstream, host, evidence = %error, "DNS refresh failed; keeping previous addresses");
            }
            Vec::new()
        }
        None => Vec::new(),
    };
    let resolved = !addresses_found.is_empty();
    addresses.update(addresses_found);
    if resolved && !had_address {
        info!(upstream, host, "resolved server address");
    }
    resolved || had_address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::http2::HttpVersionPolicy;
    use crate::upstream::runtime::{ServerSpec, UpstreamSettings};

    fn upstream(host: &str) -> Arc<UpstreamRuntime> {
        let server = ServerSpec { host: host.into(), port: 1, weight: 1, label: host.into(), tls_name: None };
        Arc::new(UpstreamRuntime::new(UpstreamSettings {
            name: "shop".into(),
            servers: vec![server],
            keepalive_max: 1,
            keepalive_idle: LOOKUP_RETRY,
            dns_refresh: LOOKUP_RETRY,
            trust: None,
            http2: HttpVersionPolicy::Http1,
        }))
    }

    #[tokio::test]
    async fn update_starts_new_lookups_and_stops_removed_ones() {
        let (first_upstream, second_upstream, literal) =
            (upstream("one.invalid"), upstream("two.invalid"), upstream("127.0.0.1"));
        let mut dns_tasks = DnsTasks::default();
        dns_tasks.update(&[Arc::clone(&first_upstream), Arc::clone(&literal)]);
        assert!(dns_tasks.contains(&first_upstream) && !dns_tasks.contains(&literal));
        let first_tasks: Vec<_> = dns_tasks.0.iter().map(|(_, task)| task.id()).collect();
        dns_tasks.update(&[Arc::clone(&first_upstream), Arc::clone(&second_upstream)]);
        assert!(dns_tasks.contains(&first_upstream) && dns_tasks.contains(&second_upstream));
        assert!(dns_tasks.0.iter().any(|(_, task)| first_tasks.contains(&task.id())));
        dns_tasks.update(&[]);
        assert!(!dns_tasks.contains(&first_upstream));
        while Arc::strong_count(&first_upstream) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
