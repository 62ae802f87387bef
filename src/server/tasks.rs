//! Background tasks: DNS lookups, connections to rate-limit backends, and trimming of memory. No request waits for
//! them.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::health_checks;
use crate::limit::redis::RedisBackend;
use crate::upstream::timer::{sleep, timeout_at};
use crate::upstream::{ServerState, UpstreamRuntime};

/// Interval of lookups for a name without an address.
const LOOKUP_RETRY: Duration = Duration::from_secs(1);
/// Timeout of a lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which expired idle connections are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which free memory is returned to the system.
const TRIM_INTERVAL: Duration = Duration::from_secs(2);
/// How long a start or reload waits for rate-limit backends.
const BACKEND_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The tasks of the running upstreams: lookups of their host names, sweeps of their idle connections, health checks.
#[derive(Debug, Default)]
pub(crate) struct UpstreamTasks(Vec<RunningUpstream>);

#[derive(Debug)]
struct RunningUpstream {
    upstream: Arc<UpstreamRuntime>,
    tasks: Vec<AbortHandle>,
}

impl UpstreamTasks {
    /// Starts tasks for new upstreams and stops those of removed ones.
    pub(crate) fn update(&mut self, upstreams: &[Arc<UpstreamRuntime>]) {
        self.0.retain(|running| {
            let keep = upstreams.iter().any(|upstream| Arc::ptr_eq(upstream, &running.upstream));
            if !keep {
                running.tasks.iter().for_each(AbortHandle::abort);
            }
            keep
        });
        for upstream in upstreams {
            if !self.contains(upstream) {
                let tasks = start_tasks(upstream);
                self.0.push(RunningUpstream { upstream: Arc::clone(upstream), tasks });
            }
        }
    }

    /// Whether the tasks of this upstream run.
    pub(crate) fn contains(&self, upstream: &Arc<UpstreamRuntime>) -> bool {
        self.0.iter().any(|running| Arc::ptr_eq(upstream, &running.upstream))
    }
}

fn start_tasks(upstream: &Arc<UpstreamRuntime>) -> Vec<AbortHandle> {
    let mut tasks = vec![tokio::spawn(sweep_periodically(Arc::clone(upstream))).abort_handle()];
    if let Some(settings) = upstream.settings().health.clone() {
        let checks = health_checks::check_periodically(Arc::clone(upstream), settings);
        tasks.push(tokio::spawn(checks).abort_handle());
    }
    if has_names(upstream) {
        tasks.push(tokio::spawn(resolve_periodically(Arc::clone(upstream))).abort_handle());
    }
    tasks
}

/// Closes idle connections when the server closes them or they expire, until the task is aborted.
async fn sweep_periodically(upstream: Arc<UpstreamRuntime>) {
    loop {
        let mut interval = pin!(sleep(SWEEP_INTERVAL));
        // Polled at the interval, and when something happens on an idle connection.
        poll_fn(|cx| {
            upstream.sweep(cx.waker());
            interval.as_mut().poll(cx)
        })
        .await;
    }
}

fn has_names(upstream: &UpstreamRuntime) -> bool {
    upstream.servers().iter().any(|server| server.is_name())
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
    let names = upstream.servers().iter().filter(|server| server.is_name());
    let resolved = join_all(names.map(|server| resolve_name(upstream, server))).await;
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
async fn resolve_name(runtime: &UpstreamRuntime, server: &ServerState) -> bool {
    let (host, port) = server.host_and_port();
    let upstream = runtime.name();
    let had_address = server.is_resolved();
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
    runtime.update_addresses(server, found);
    if resolved && !had_address {
        info!(upstream, host, "resolved server address");
    }
    resolved || had_address
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::settings::{ServerSpec, UpstreamSettings};

    fn upstream(host: &str) -> Arc<UpstreamRuntime> {
        let server = ServerSpec { host: host.into(), port: 1, weight: 1, label: host.into(), tls_name: None };
        let settings = UpstreamSettings { servers: vec![server], ..UpstreamSettings::for_test() };
        Arc::new(UpstreamRuntime::new(settings, None))
    }

    #[tokio::test]
    async fn update_starts_new_tasks_and_stops_removed_ones() {
        let (first, second, literal) =
            (upstream("one.invalid"), upstream("two.invalid"), upstream("127.0.0.1"));
        let mut tasks = UpstreamTasks::default();
        tasks.update(&[Arc::clone(&first), Arc::clone(&literal)]);
        assert!(tasks.contains(&first) && tasks.contains(&literal));
        let counts: Vec<usize> = tasks.0.iter().map(|running| running.tasks.len()).collect();
        assert_eq!(counts, [2, 1], "an address needs no lookups");
        let started: Vec<_> =
            tasks.0.iter().flat_map(|running| &running.tasks).map(AbortHandle::id).collect();
        tasks.update(&[Arc::clone(&first), Arc::clone(&second)]);
        assert!(tasks.contains(&first) && tasks.contains(&second) && !tasks.contains(&literal));
        assert_eq!(tasks.0[0].tasks[0].id(), started[0], "running tasks continue");
        tasks.update(&[]);
        assert!(!tasks.contains(&first));
        while Arc::strong_count(&first) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
