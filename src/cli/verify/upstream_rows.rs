//! Runs the upstream faults on every route.
//!
//! A header field of the request selects the fault, because the paths belong to the routes. Faults of pooled
//! connections run once per upstream and sequentially, so that rows do not share a connection.

use std::collections::HashSet;

use http::Method;

use super::exchange::{self, ReadLimits};
use super::expectation::{Expectation, ExpectationContext, ResponseSource, describe_response};
use super::harness::{self, Harness, RunningGateway};
use super::route_probe::RouteProbe;
use super::{ReportRow, Section, retry};
use crate::config::{ErrorMode, RouteConfig};
use crate::conformance::faulty_upstream::KEPT_OPEN;
use crate::conformance::{
    FAULT_HEADER, FaultOutcome, ReceivedResponse, RequestKind, ServerKind, UpstreamFault,
};
use crate::http::upgrade::WEBSOCKET;

/// Concurrent rows.
const CONCURRENCY: usize = 96;
/// Tries of a warm-up request: the gateway's pool may hold connections that earlier rows have broken.
const MAX_TRIES: u32 = 3;

/// A fault on a route.
struct PlannedRow<'a> {
    fault: &'a UpstreamFault,
    probe: &'a RouteProbe,
    route: &'a RouteConfig,
    /// The gateway in front of the server that has the fault.
    gateway: &'a RunningGateway,
}

/// Runs all upstream faults.
pub(super) async fn run_all(harness: &Harness) -> Vec<ReportRow> {
    let faults = harness.cases.upstream_faults();
    let mut rows = Vec::new();
    let (mut concurrent, mut sequential) = (Vec::new(), Vec::new());
    let mut pooled = HashSet::new();
    for target in harness.config.routes.iter().zip(&harness.probes.probes) {
        for fault in faults {
            match plan(harness, fault, target, &mut pooled) {
                Err(reason) => rows.push(row_of(fault, target.0).skipped(reason)),
                Ok(planned) if fault.server_kind == ServerKind::Pooled => sequential.push(planned),
                Ok(planned) => concurrent.push(planned),
            }
        }
    }
    let (concurrent, sequential) = tokio::join!(
        retry::run_rows(&concurrent, CONCURRENCY, |planned| run_row(harness, planned)),
        retry::run_rows(&sequential, 1, |planned| run_row(harness, planned))
    );
    [rows, concurrent, sequential].concat()
}

fn row_of(fault: &UpstreamFault, route: &RouteConfig) -> ReportRow {
    ReportRow::new(Section::Upstream, (fault.name, fault.description), Some(&route.name))
}

/// Plans a row for a route.
///
/// # Errors
/// Why it does not apply.
fn plan<'a>(
    harness: &'a Harness,
    fault: &'a UpstreamFault,
    (route, probe): (&'a RouteConfig, &'a Result<RouteProbe, String>),
    pooled: &mut HashSet<(Option<usize>, &'static str)>,
) -> Result<PlannedRow<'a>, String> {
    let probe = probe.as_ref().map_err(String::clone)?;
    let upstream = route.upstream.and_then(|index| harness.original_config.upstreams.get(index));
    let upstream = upstream.ok_or("the route forwards nothing")?;
    if fault.is_upgrade() && !route.upgrades.iter().any(|name| name == WEBSOCKET) {
        return Err("the route does not allow WebSocket upgrades".to_owned());
    }
    harness::unsupported(upstream, fault.server_kind).map_or(Ok(()), Err)?;
    let method = request_method(probe, fault);
    if !harness.probes.accepts(probe, &method) || route.denies(&method) {
        return Err(format!("the route does not accept {method}"));
    }
    if fault.request.body.len() as u64 > route.max_body {
        return Err("the body of the row is larger than the route's max_body".to_owned());
    }
    let gateway = harness.gateway_for(fault.server_kind).ok_or("no gateway for this kind of server")?;
    if fault.server_kind == ServerKind::Pooled && !pooled.insert((route.upstream, fault.name)) {
        return Err("tested on another route of the same upstream".to_owned());
    }
    Ok(PlannedRow { fault, probe, route, gateway })
}

/// The row's method if the outcome depends on it, else the probe's.
fn request_method(probe: &RouteProbe, fault: &UpstreamFault) -> Method {
    let own = fault.request.method;
    if own != "GET" || fault.server_kind == ServerKind::Pooled || fault.is_upgrade() {
        Method::from_bytes(own.as_bytes()).unwrap_or_default()
    } else {
        probe.method.clone()
    }
}

async fn run_row(harness: &Harness, planned: &PlannedRow<'_>) -> ReportRow {
    let PlannedRow { fault, probe, route, gateway } = *planned;
    let method = request_method(probe, fault);
    let config = &harness.config;
    let unrouted = &config.errors;
    let context = ExpectationContext { config, route: Some(route), unrouted, method: &method };
    let expectation = context.for_row(fault);
    let request_kind = RequestKind { head: method == Method::HEAD, http10: false };
    let row = row_of(fault, route);
    match send_requests(harness, planned, &method, request_kind).await {
        Err(error) => row.judged(expectation.describe(), error.clone(), Err(error)),
        Ok(response) => {
            let result = expectation
                .check(&response, request_kind, context.contract())
                .and_then(|()| check_interim(fault, &response))
                .and_then(|()| check_documented_code(harness, fault, &expectation, route))
                .and_then(|()| check_headers(fault, &expectation, &response, route));
            expectation.record(&gateway.observed, &response, result.is_ok());
            row.judged(expectation.describe(), describe_response(&response), result)
        }
    }
}

/// Sends the requests of a row and returns the last response. The earlier responses are recorded.
async fn send_requests(
    harness: &Harness,
    planned: &PlannedRow<'_>,
    method: &Method,
    request_kind: RequestKind,
) -> Result<ReceivedResponse, String> {
    let PlannedRow { fault, probe, route, gateway } = *planned;
    let limits = ReadLimits::new(harness.load, route.errors.mode != ErrorMode::Enforce);
    let mut connection = exchange::connect(&harness.connect(gateway), limits).await?;
    let length = match fault.request.body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    let (path, host, fields) = (&probe.path, &probe.host, fault.request.header_lines());
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}{length}");
    let request_for = |name: &str| {
        [format!("{head}{FAULT_HEADER}: {name}\r\n\r\n").as_bytes(), &fault.request.body].concat()
    };
    // KEPT_OPEN gets a 200 on a pooled connection of any age.
    let warm_up = request_for(if fault.server_kind == ServerKind::Pooled { KEPT_OPEN } else { fault.name });
    let (mut sent, mut tries) = (1, 0);
    while sent < fault.request.count {
        tries += 1;
        let response = connection.exchange(&warm_up, request_kind, &gateway.observed).await?;
        gateway.observed.record_response(response.status, None);
        if response.status == 200 {
            sent += 1;
        } else if tries > MAX_TRIES {
            return Err(format!("expected 200 to the warm-up request, got {}", response.status));
        }
    }
    connection.exchange(&request_for(fault.name), request_kind, &gateway.observed).await
}

/// If the configuration does not change any code, the response must have the code of the table. This check is
/// independent of the error policy, from which the expectation is computed.
fn check_documented_code(
    harness: &Harness,
    fault: &UpstreamFault,
    expectation: &Expectation,
    route: &RouteConfig,
) -> Result<(), String> {
    let rules = &route.errors;
    let is_default = harness.default_contract.as_ref().is_some_and(|default| *default == *rules.contract);
    let has_default_codes = is_default && rules.mode == ErrorMode::Enforce && rules.overrides.is_empty();
    if !has_default_codes || !harness.config.overrides.is_empty() {
        return Ok(());
    }
    let (status, documented) = (expectation.status, fault.expect.outcome.status());
    if status == documented { Ok(()) } else { Err(format!("expected {documented}, got {status}")) }
}

/// Checks that the client received exactly the interim responses of the row.
fn check_interim(fault: &UpstreamFault, response: &ReceivedResponse) -> Result<(), String> {
    if response.interim == fault.expect.interim {
        return Ok(());
    }
    Err(format!("interim responses: expected {:?}, got {:?}", fault.expect.interim, response.interim))
}

/// Checks the kept and removed header fields of a replaced error.
fn check_headers(
    fault: &UpstreamFault,
    expectation: &Expectation,
    response: &ReceivedResponse,
    route: &RouteConfig,
) -> Result<(), String> {
    // The row's fields apply to its own outcome only, which this configuration may change.
    if !matches!(expectation.source, ResponseSource::LocalReply { .. })
        || expectation.status != fault.expect.outcome.status()
        || matches!(fault.expect.outcome, FaultOutcome::Forwarded { .. })
    {
        return Ok(());
    }
    let set_by_gateway = |name: &str| {
        (!route.rate_limits.is_empty() && name.starts_with("x-ratelimit"))
            || (route.cors.is_some() && (name.starts_with("access-control-") || name == "vary"))
            || route.errors.keep_headers.iter().any(|kept| kept == name)
            || route.response_edits.edits(name)
    };
    let has_header = |name: &str, value: &str| {
        response.headers.iter().any(|(other, actual)| other == name && actual == value)
    };
    for (name, value) in fault.expect.kept().filter(|(name, _)| !set_by_gateway(name)) {
        if !has_header(name, value) {
            return Err(format!("missing upstream field {name}: {value}"));
        }
    }
    match fault.expect.removed.iter().find(|name| !set_by_gateway(name) && response.header(name).is_some()) {
        Some(name) => Err(format!("upstream field {name} was not removed")),
        None => Ok(()),
    }
}
