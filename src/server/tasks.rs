//! Background tasks: DNS lookups, connections to rate-limit backends, and trimming of memory. No request waits for
//! them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::limit::redis::RedisBackend;
use crate::upstream::timer::{sleep, timeout_at};
use crate::upstream::{UpstreamRuntime, dns::Addresses};

/// Interval of lookups for a name without an address.
const LOOKUP_RETRY: Duration = Duration::from_secs(1);
/// Timeout of a lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which free memory is returned to the system.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);
/// How long a start or reload waits for rate-limit backends.
const BACKEND_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The running lookups: one task for each upstream that has host names.
#[derive(Debug, Default)]
pub(crate) struct DnsTasks(Vec<(Arc<UpstreamRuntime>, AbortHandle)>);

impl DnsTasks {
    /// Starts lookups for new upstreams and stops those of removed ones.
    pub(crate) fn update(&mut self, upstreams: &[Arc<UpstreamRuntime>]) {
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

    /// Whether a task looks up the names of this upstream.
    pub(crate) fn contains(&self, upstream: &Arc<UpstreamRuntime>) -> bool {
        self.0.iter().any(|(running, _)| Arc::ptr_eq(upstream, running))
    }
}

fn has_names(upstream: &UpstreamRuntime) -> bool {
    upstream.servers().iter().any(|server| server.addresses.is_name())
}

/// Starts connecting to these backends and waits until each was tried once, at most `BACKEND_CONNECT_TIMEOUT`, so that
/// the first requests are counted there.
pub(crate) async fn connect_backends(stores: &[Arc<RedisBackend>]) {
    for store in stores {
        store.start_reconnecting();
    }
    timeout_at(
        Instant::now() + BACKEND_CONNECT_TIMEOUT,
        join_all(stores.iter().map(|store| store.wait_for_first_attempt())),
    )
    .await;
}

/// Looks up all names of an upstream's servers once, concurrently. Returns whether all have an address now.
pub(crate) async fn resolve_all(upstream: &UpstreamRuntime) -> bool {
    let names = upstream.servers().iter().filter(|server| server.addresses.is_name());
    let resolved = join_all(names.map(|server| resolve_name(upstream.name(), &server.addresses))).await;
    resolved.into_iter().all(|resolved| resolved)
}

/// Looks up the names of an upstream's servers periodically, until the task is aborted.
async fn resolve_periodically(upstream: Arc<UpstreamRuntime>) {
    loop {
        let unresolved = !resolve_all(&upstream).await;
        let pause =
            if unresolved { LOOKUP_RETRY.min(upstream.dns_refresh()) } else { upstream.dns_refresh() };
        sleep(pause).await;
    }
}

/// Returns free memory to the system periodically, until the task is aborted.
///
/// The allocator returns memory only during allocations or when a thread ends. After a load peak an idle gateway would
/// keep all memory of the peak, so this task starts and ends a thread.
pub(crate) async fn trim_memory() {
    loop {
        sleep(TRIM_INTERVAL).await;
        // On failure, the next interval tries again.
        let _ = std::thread::Builder::new().name("memory".to_owned()).spawn(|| ());
    }
}

/// Looks up one name. Returns whether it has an address now, possibly an earlier one.
async fn resolve_name(upstream: &str, addresses: &Addresses) -> bool {
    let (host, port) = addresses.host_and_port();
    let had_address = !addresses.current().is_empty();
    let result = timeout_at(Instant::now() + LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let found: Vec<SocketAddr> = match result {
        Some(Ok(found)) => found.collect(),
        Some(Err(error)) => {
            if had_address {
                warn!(upstream, host, evidence = %error, "DNS refresh failed; keeping previous addresses");
            }
            Vec::new()
        }
        None => Vec::new(),
    };
    let resolved = !found.is_empty();
    addresses.update(found);
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
