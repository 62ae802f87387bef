//! Tests the responses to requests that no server gets: no healthy server, and an open circuit breaker.
//!
//! One row per way of [`unavailability`] and route.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::expectation::ExpectationContext;
use super::harness::{Harness, RunningGateway};
use super::rejections::{judge_row, send_request};
use super::unavailability::{self, Unavailability};
use super::{ReportRow, Section, retry};
use crate::config::RouteConfig;

/// The time limit for an upstream to become unavailable, before the load factor.
const STATE_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs the rows.
pub(super) async fn run_all(harness: &Harness) -> Vec<ReportRow> {
    let mut rows = Vec::new();
    for (kind, gateway) in unavailability::ALL.iter().zip(&harness.unavailable_gateways) {
        let prepared = prepare(harness, kind, gateway).await;
        for (route, probe) in harness.config.routes.iter().zip(&harness.probes.probes) {
            let Ok(probe) = probe else { continue };
            if !reaches_upstream(route) {
                continue;
            }
            let rules = ExpectationContext::on_route(&harness.config, route, &probe.method);
            let play = || async {
                let outcome = match &prepared {
                    Ok(()) => send_request(harness, gateway, None, (probe, &probe.method), kind.cause).await,
                    Err(reason) => Err(reason.clone()),
                };
                let row = judge_row((route, rules), kind.fault, kind.cause, outcome, |_| Ok(()));
                ReportRow { section: Section::Upstream, ..row }
            };
            rows.push(retry::at_most_twice(play).await);
        }
    }
    rows
}

/// Whether requests of the route are meant for an upstream.
fn reaches_upstream(route: &RouteConfig) -> bool {
    route.upstream.is_some() && route.maintenance.is_none()
}

/// Makes every upstream of the gateway unavailable that a probe reaches.
async fn prepare(harness: &Harness, kind: &Unavailability, gateway: &RunningGateway) -> Result<(), String> {
    let mut upstreams = BTreeSet::new();
    for (route, probe) in harness.config.routes.iter().zip(&harness.probes.probes) {
        if let (Ok(probe), true) = (probe, reaches_upstream(route))
            && upstreams.insert(route.upstream)
            && let Some(cause) = kind.provoked_by
        {
            send_request(harness, gateway, None, (probe, &probe.method), cause).await?;
        }
    }
    let deadline = Instant::now() + harness.load.scale(STATE_TIMEOUT);
    loop {
        let page = metrics_page(gateway).await.unwrap_or_default();
        let (family, state) = kind.state;
        let reached =
            page.lines().filter(|line| line.contains(family) && line.contains(state) && line.ends_with(" 1"));
        if reached.count() >= upstreams.len() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the upstreams did not reach the state {state}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Scrapes the gateway: the states are exported when its telemetry address is asked.
async fn metrics_page(gateway: &RunningGateway) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(gateway.telemetry).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut page = Vec::new();
    stream.read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}
