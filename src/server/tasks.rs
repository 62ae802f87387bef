//! Background tasks: DNS lookups, connections to rate-limit backends, summaries of omitted log lines, and trimming of
//! memory. No request waits for them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::health_checks;
use crate::limit::redis::RedisBackend;
use crate::proxy::Gateway;
use crate::telemetry::log_sampler::SUMMARY_INTERVAL;
use crate::upstream::timer::{sleep, timeout_at};
use crate::upstream::{ServerState, UpstreamRuntime};

/// How often is checked whether a file of the resolver has changed.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a start or reload waits for the names of new upstreams.
const FIRST_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
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
    for (index, _) in upstream.servers().iter().enumerate().filter(|(_, server)| server.is_name()) {
        tasks.push(tokio::spawn(resolve_periodically(Arc::clone(upstream), index)).abort_handle());
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

/// Starts connecting to these backends and waits until each was tried once, at most `BACKEND_CONNECT_TIMEOUT`, so that
/// the first requests are counted there.
pub(crate) async fn connect_backends(backends: &[Arc<RedisBackend>]) {
    for backend in backends {
        backend.start_reconnecting();
    }
    timeout_at(
        Instant::now() + BACKEND_CONNECT_TIMEOUT,
        join_all(backends.iter().map(|backend| backend.wait_for_first_attempt())),
    )
    .await;
}

/// Looks up all names of an upstream's servers once, concurrently, unless an answer is still valid.
pub(crate) async fn resolve_all(upstream: &UpstreamRuntime) {
    let now = Instant::now();
    let due = upstream.servers().iter().filter(|server| server.is_name() && server.name_state().is_due(now));
    let lookups = join_all(due.map(|server| resolve_name(upstream, server)));
    timeout_at(now + FIRST_LOOKUP_TIMEOUT, lookups).await;
}

/// Looks up the name of one server whenever its answer has expired or a file of the resolver has changed, until the
/// task is aborted.
async fn resolve_periodically(upstream: Arc<UpstreamRuntime>, index: usize) {
    let Some(server) = upstream.servers().get(index) else { return };
    loop {
        let now = Instant::now();
        let state = server.name_state();
        if state.is_due(now) || upstream.resolver().has_changed() {
            resolve_name(&upstream, server).await;
        }
        let wait = server.name_state().wait(Instant::now());
        sleep(wait.min(FILE_CHECK_INTERVAL)).await;
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

/// Writes how many log lines were omitted during a storm, while there are any, until the task is aborted.
pub(crate) async fn summarize_omitted_lines(gateway: Arc<Gateway>) {
    loop {
        gateway.log_sampler.wait_for_omitted().await;
        sleep(SUMMARY_INTERVAL).await;
        gateway.log_sampler.write_summaries();
    }
}

/// Looks up one name.
async fn resolve_name(runtime: &UpstreamRuntime, server: &ServerState) {
    let (host, _) = server.host_and_port();
    let upstream = runtime.name();
    let had_address = server.is_resolved();
    let answer = runtime.resolver().lookup(host).await;
    let failure = answer.failure();
    runtime.record_lookup(server, answer, Instant::now());
    match failure {
        Some(failure) if had_address => {
            warn!(
                upstream,
                host,
                cause = failure.cause().name(),
                "DNS refresh failed; keeping previous addresses"
            );
        }
        None if !had_address => info!(upstream, host, "resolved server address"),
        Some(_) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::settings::{ServerSpec, UpstreamSettings};

    fn upstream(host: &str) -> Arc<UpstreamRuntime> {
        let server = ServerSpec {
            host: host.into(),
            port: 1,
            socket: None,
            base_path: None,
            weight: 1,
            label: host.into(),
            tls_name: None,
        };
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
