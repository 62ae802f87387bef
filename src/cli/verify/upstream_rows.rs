//! Runs the upstream faults on every route.
//!
//! A header field of the request selects the fault, because the paths belong to the routes. Faults of pooled
//! connections run once per upstream and sequentially, so that rows do not share a connection.

use http::Method;

use super::exchange::{self, ReadLimits};
use super::expectation::{Expectation, ExpectationContext, describe_response};
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
    let mut pooled = Vec::new();
    for (index, probe) in harness.probes.probes.iter().enumerate() {
        let Some(route) = harness.config.routes.get(index) else { continue };
        let skipped = |fault: &UpstreamFault, reason: String| {
            let row = ReportRow::new(Section::Upstream, (fault.name, fault.description), Some(&route.name));
            row.skipped(reason)
        };
        let probe = match probe {
            Ok(probe) => probe,
            Err(reason) => {
                rows.extend(faults.iter().map(|fault| skipped(fault, reason.clone())));
                continue;
            }
        };
        for fault in faults {
            let gateway = harness.gateway_for(fault.server_kind).ok_or("no gateway for this kind of server");
            match skip_reason(harness, probe, fault).map_or(gateway.map_err(str::to_owned), Err) {
                Err(reason) => rows.push(skipped(fault, reason)),
                Ok(_) if pooled.contains(&(route.upstream, fault.name)) => {
                    rows.push(skipped(fault, "tested on another route of the same upstream".to_owned()));
                }
                Ok(gateway) => {
                    let planned = PlannedRow { fault, probe, route, gateway };
                    if fault.server_kind == ServerKind::Pooled {
                        pooled.push((route.upstream, fault.name));
                        sequential.push(planned);
                    } else {
                        concurrent.push(planned);
                    }
                }
            }
        }
    }
    let (concurrent, sequential) = tokio::join!(
        retry::run_rows(&concurrent, CONCURRENCY, |planned| run_row(harness, planned)),
        retry::run_rows(&sequential, 1, |planned| run_row(harness, planned))
    );
    [rows, concurrent, sequential].concat()
}

/// Why a row does not apply to a route; `None` if it does.
fn skip_reason(harness: &Harness, probe: &RouteProbe, fault: &UpstreamFault) -> Option<String> {
    let method = request_method(probe, fault);
    let route = harness.config.routes.get(probe.route_index)?;
    if route.upstream.is_none() {
        return Some("the route forwards nothing".to_owned());
    }
    if fault.is_upgrade() && !route.upgrades.iter().any(|name| name == WEBSOCKET) {
        return Some("the route does not allow WebSocket upgrades".to_owned());
    }
    let configured = route.upstream.and_then(|index| harness.original_config.upstreams.get(index));
    if !configured.is_some_and(|configured| harness::supports(configured, fault.server_kind)) {
        let uses_tls = configured.is_some_and(|configured| configured.cert_verification.is_some());
        let reason = if fault.server_kind.requires_http2() {
            "its upstream does not use HTTP/2"
        } else if fault.server_kind.has_invalid_certificate() && uses_tls {
            "its upstream does not verify certificates"
        } else if uses_tls {
            "its upstream uses TLS"
        } else {
            "its upstream does not use TLS"
        };
        return Some(reason.to_owned());
    }
    if requires_own_method(fault) {
        let required = Method::from_bytes(fault.request.method.as_bytes()).unwrap_or_default();
        if !harness.probes.accepts(probe, &required) || route.deny_methods.contains(&required) {
            return Some(format!("the route does not accept {required}"));
        }
    }
    if fault.request.body.len() as u64 > route.max_body {
        return Some("the body of the row is larger than the route's max_body".to_owned());
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    (!harness.probes.accepts(probe, &method)).then(|| format!("the route does not accept {method}"))
}

/// The row's method if the outcome depends on it, else the probe's.
fn request_method<'a>(probe: &'a RouteProbe, fault: &UpstreamFault) -> &'a str {
    if requires_own_method(fault) { fault.request.method } else { probe.method.as_str() }
}

/// Whether the outcome of the row depends on its method.
fn requires_own_method(fault: &UpstreamFault) -> bool {
    fault.request.method != "GET" || fault.server_kind == ServerKind::Pooled || fault.is_upgrade()
}

async fn run_row(harness: &Harness, planned: &PlannedRow<'_>) -> ReportRow {
    let PlannedRow { fault, probe, route, gateway } = *planned;
    let name = request_method(probe, fault);
    let method = Method::from_bytes(name.as_bytes()).unwrap_or_default();
    let context = ExpectationContext::on_route(&harness.config, route, &method);
    let expectation = context.for_row(fault);
    let request_kind = RequestKind { head: method == Method::HEAD, http10: false };
    let row = ReportRow::new(Section::Upstream, (fault.name, fault.description), Some(&route.name));
    match send_requests(harness, planned, name, request_kind).await {
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
    method: &str,
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
    let (status, documented) = (expectation.status(), fault.expect.outcome.status());
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
    let Expectation::LocalReply { status, .. } = expectation else { return Ok(()) };
    // The row's fields apply to its own outcome only, which this configuration may change.
    if *status != fault.expect.outcome.status()
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
