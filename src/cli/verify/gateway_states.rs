//! Waits until the gateways of the cases of routes are in the state that the cases need.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::exchange::{self, ReadLimits};
use super::harness::{Harness, RunningGateway};
use super::special_gateways::{SpecialGateway, Unavailable};
use crate::config::RouteConfig;
use crate::conformance::RequestKind;

/// The time limit for a gateway to get into a state, before the load factor.
const STATE_TIMEOUT: Duration = Duration::from_secs(20);

/// Whether requests of the route are meant for an upstream.
pub(super) fn reaches_upstream(route: &RouteConfig) -> bool {
    route.upstream.is_some() && route.maintenance.is_none()
}

/// Makes every upstream of the gateway unavailable that a probe reaches.
pub(super) async fn prepare(harness: &Harness, special: &SpecialGateway) -> Result<(), String> {
    let Some(Unavailable { provoked_by, state: (family, state) }) = &special.unavailable else {
        return Ok(());
    };
    let gateway = harness.gateway(special.kind);
    let mut upstreams = BTreeSet::new();
    for (route, probe) in harness.config.routes.iter().zip(&harness.probes.probes) {
        if let (Ok(probe), true) = (probe, reaches_upstream(route))
            && upstreams.insert(route.upstream)
            && let Some(cause) = provoked_by
        {
            let limits = ReadLimits::new(harness.load, false);
            let mut connection = exchange::connect(&harness.connect(gateway), limits).await?;
            let request = format!("{} {} HTTP/1.1\r\nhost: {}\r\n\r\n", probe.method, probe.path, probe.host);
            let kind = RequestKind { head: probe.method == http::Method::HEAD, http10: false };
            let response = connection.exchange(request.as_bytes(), kind, &gateway.observed).await?;
            gateway.observed.record_response(response.status, Some(cause.name()));
        }
    }
    let is_reached = |line: &&str| line.contains(family) && line.contains(state) && line.ends_with(" 1");
    let all_reached = |page: &str| page.lines().filter(is_reached).count() >= upstreams.len();
    match wait_for_metrics(harness, gateway, all_reached).await {
        true => Ok(()),
        false => Err(format!("the upstreams did not reach the state {state}")),
    }
}

/// Waits until the gateway has no connection.
pub(super) async fn wait_until_unused(harness: &Harness, gateway: &RunningGateway) {
    let is_open = |line: &str| line.starts_with("statusquo_connections{") && !line.ends_with(" 0");
    let deadline = Instant::now() + harness.load.scale(STATE_TIMEOUT);
    // Not over its telemetry address, whose connections are counted too.
    while String::from_utf8_lossy(&gateway.metrics.render()).lines().any(is_open) && Instant::now() < deadline
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns whether the gateway got into the state in time. The states are exported when its telemetry address is
/// scraped.
async fn wait_for_metrics(
    harness: &Harness,
    gateway: &RunningGateway,
    is_reached: impl Fn(&str) -> bool,
) -> bool {
    let deadline = Instant::now() + harness.load.scale(STATE_TIMEOUT);
    while !is_reached(&metrics_page(gateway).await.unwrap_or_default()) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

async fn metrics_page(gateway: &RunningGateway) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(gateway.telemetry).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut page = Vec::new();
    stream.read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
