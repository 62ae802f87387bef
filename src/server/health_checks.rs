//! Runs the active health checks of an upstream. They use connections of their own and count as no request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tracing::{info, warn};

use crate::upstream::balance::mix;
use crate::upstream::endpoint::{Endpoint, ServerHealth};
use crate::upstream::health::{FinishedCheck, HealthSettings};
use crate::upstream::timer::timeout_at;
use crate::upstream::{UpstreamRuntime, health_check};

/// How often due checks are looked for at the latest: addresses may change.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The server and the address of a check.
type CheckKey = (usize, SocketAddr);

/// Checks the addresses of an upstream periodically, until the task is aborted. Each has its own pace: a server that
/// does not respond delays no other one.
pub(super) async fn check_periodically(upstream: Arc<UpstreamRuntime>, settings: HealthSettings) {
    // When the next check of an address is due; `None` while one is in progress.
    let mut due: HashMap<CheckKey, Option<Instant>> = HashMap::new();
    let mut in_progress = FuturesUnordered::new();
    // The jitter differs between processes.
    let mut random = mix(u64::from(std::process::id()));
    loop {
        let endpoints: Vec<Arc<Endpoint>> =
            upstream.servers().iter().flat_map(|server| server.endpoints().to_vec()).collect();
        let now = Instant::now();
        due.retain(|known, _| endpoints.iter().any(|endpoint| key(endpoint) == *known));
        for endpoint in endpoints {
            if due.get(&key(&endpoint)).is_none_or(|due| due.is_some_and(|at| at <= now)) {
                due.insert(key(&endpoint), None);
                random = mix(random);
                in_progress.push(check(&upstream, endpoint, &settings, random));
            }
        }
        let next = due.values().flatten().min().map_or(now + MAX_PAUSE, |at| (*at).min(now + MAX_PAUSE));
        // Without a check in progress, there is none to wait for.
        let finished = async {
            match in_progress.next().await {
                Some(finished) => finished,
                None => std::future::pending().await,
            }
        };
        if let Some((key, next)) = timeout_at(next, finished).await
            && let Some(known) = due.get_mut(&key)
        {
            *known = Some(next);
        }
    }
}

fn key(endpoint: &Endpoint) -> CheckKey {
    (endpoint.server_index, endpoint.address)
}

/// Checks an address and returns when the next check is due.
async fn check(
    upstream: &UpstreamRuntime,
    endpoint: Arc<Endpoint>,
    settings: &HealthSettings,
    random: u64,
) -> (CheckKey, Instant) {
    let started = Instant::now();
    endpoint.state.begin_check(started + settings.every.max(settings.timeout));
    let result = health_check::check(upstream, &endpoint, settings).await;
    let finished = FinishedCheck { result, started, ended: Instant::now() };
    let mut next = started;
    let changed = endpoint.state.record_check(finished, settings, |health| {
        next = (started + health.next_check(settings, random)).max(finished.ended);
        next
    });
    let (name, server, address) = (upstream.name(), &*endpoint.server, endpoint.address_text());
    match changed {
        Some(ServerHealth::Healthy) => info!(upstream = name, server, %address, "server healthy again"),
        Some(ServerHealth::Unhealthy) => warn!(upstream = name, server, %address, "server unhealthy"),
        Some(ServerHealth::Ejected | ServerHealth::Recovering) | None => {}
    }
    (key(&endpoint), next)
}
