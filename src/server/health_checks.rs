//! Runs the active health checks of an upstream. They use connections of their own and count as no request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tracing::{info, warn};

use crate::upstream::balance::mix;
use crate::upstream::endpoint::{Endpoint, ServerHealth};
use crate::upstream::health::HealthSettings;
use crate::upstream::timer::sleep;
use crate::upstream::{UpstreamRuntime, health_check};

/// How often due checks are looked for at the latest: addresses may change.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Checks the addresses of an upstream periodically, until the task is aborted.
pub(super) async fn check_periodically(upstream: Arc<UpstreamRuntime>, settings: HealthSettings) {
    let mut due: HashMap<(usize, SocketAddr), Instant> = HashMap::new();
    // The jitter differs between processes.
    let mut random = mix(u64::from(std::process::id()));
    loop {
        let endpoints: Vec<Arc<Endpoint>> =
            upstream.servers().iter().flat_map(|server| server.endpoints().to_vec()).collect();
        let now = Instant::now();
        let key = |endpoint: &Endpoint| (endpoint.server_index, endpoint.address);
        due.retain(|known, _| endpoints.iter().any(|endpoint| key(endpoint) == *known));
        let checked = endpoints.iter().filter(|endpoint| due.get(&key(endpoint)).is_none_or(|at| *at <= now));
        let checks = checked.map(|endpoint| {
            random = mix(random);
            check(&upstream, endpoint, &settings, random)
        });
        // All at the same time: a server that does not respond delays no other one by more than the time limit.
        for (endpoint, next) in join_all(checks.collect::<Vec<_>>()).await {
            due.insert(key(&endpoint), next);
        }
        let next = due.values().min().map_or(MAX_PAUSE, |at| at.saturating_duration_since(Instant::now()));
        sleep(next.min(MAX_PAUSE)).await;
    }
}

/// Checks an address and returns when the next check is due.
async fn check(
    upstream: &UpstreamRuntime,
    endpoint: &Arc<Endpoint>,
    settings: &HealthSettings,
    random: u64,
) -> (Arc<Endpoint>, Instant) {
    let started = Instant::now();
    let result = health_check::check(upstream, endpoint, settings).await;
    let mut next = started;
    let changed = endpoint.record_check(result, settings, |health| {
        next = (started + health.next_check(settings, random)).max(Instant::now());
        next
    });
    let (name, server, address) = (upstream.name(), &*endpoint.server, endpoint.address_text());
    match changed {
        Some(ServerHealth::Healthy) => info!(upstream = name, server, %address, "server healthy again"),
        Some(ServerHealth::Unhealthy) => warn!(upstream = name, server, %address, "server unhealthy"),
        Some(ServerHealth::Ejected | ServerHealth::Recovering) | None => {}
    }
    (Arc::clone(endpoint), next)
}
