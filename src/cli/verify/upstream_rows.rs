//! Runs the upstream faults on every route.
//!
//! A header field of the request selects the fault, because the paths belong to the routes. Faults of pooled
//! connections run once per upstream and sequentially, so that rows do not share a connection.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use super::expectation::{self, Expectation, ExpectationContext};
use super::harness::{self, Harness};
use super::load_factor::LoadFactor;
use super::route_probe::RouteProbe;
use super::{ReportRow, Section, Verdict, retry};
use crate::config::{ErrorMode, ErrorRules};
use crate::conformance::case::FAULT_HEADER;
use crate::conformance::faulty_upstream::KEPT_OPEN;
use crate::conformance::response_reader::{ReadError, ReceivedResponse, ResponseReader};
use crate::conformance::{FaultOutcome, GatewayConnector, RequestKind, ServerKind, Tally, UpstreamFault};
use crate::http::upgrade::WEBSOCKET;

/// Concurrent rows.
const CONCURRENCY: usize = 96;
/// Concurrency of the second runs.
const RETRY_CONCURRENCY: usize = 4;
/// Timeout of a response, before the load factor.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);
/// Timeout of a response that is forwarded because of `errors.mode`, before the load factor.
const FORWARDED_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are read of such a response.
const MAX_FORWARDED_BYTES: u64 = 1024 * 1024;

/// Tries of a warm-up request: the gateway's pool may hold connections that earlier rows have broken.
const MAX_TRIES: u32 = 3;

/// How long and how far a response is read.
#[derive(Clone, Copy)]
struct ReadLimits {
    time: Duration,
    max_body: u64,
}

impl ReadLimits {
    /// Errors that the route forwards are read in part only, because they may be endless.
    fn new(load: LoadFactor, forwards_errors: bool) -> ReadLimits {
        if forwards_errors {
            ReadLimits { time: load.scale(FORWARDED_TIMEOUT), max_body: MAX_FORWARDED_BYTES }
        } else {
            ReadLimits { time: load.scale(RESPONSE_TIMEOUT), max_body: u64::MAX }
        }
    }
}

/// A fault on a route.
struct PlannedRow<'a> {
    fault: &'a UpstreamFault,
    probe: &'a RouteProbe,
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
            ReportRow::skipped(Section::Upstream, (fault.name, fault.description), Some(&route.name), reason)
        };
        let probe = match probe {
            Ok(probe) => probe,
            Err(reason) => {
                rows.extend(faults.iter().map(|fault| skipped(fault, reason.clone())));
                continue;
            }
        };
        for fault in faults {
            match skip_reason(harness, probe, fault) {
                Some(reason) => rows.push(skipped(fault, reason)),
                None if pooled.contains(&(route.upstream, fault.name)) => {
                    let reason = "tested on another route of the same upstream";
                    rows.push(skipped(fault, reason.to_owned()));
                }
                None if fault.server_kind == ServerKind::Pooled => {
                    pooled.push((route.upstream, fault.name));
                    sequential.push(PlannedRow { fault, probe });
                }
                None => concurrent.push(PlannedRow { fault, probe }),
            }
        }
    }
    let permits = Semaphore::new(CONCURRENCY);
    let concurrent_rows = join_all(concurrent.iter().map(|planned| async {
        let _permit = permits.acquire().await;
        run_row(harness, planned).await
    }));
    let sequential_rows = async {
        let mut rows = Vec::new();
        for planned in &sequential {
            rows.push(run_row(harness, planned).await);
        }
        rows
    };
    let (mut concurrent_rows, mut sequential_rows) = tokio::join!(concurrent_rows, sequential_rows);
    retry::failed_ones(&mut concurrent_rows, RETRY_CONCURRENCY, |index| {
        run_row_at(harness, &concurrent, index)
    })
    .await;
    retry::failed_ones(&mut sequential_rows, 1, |index| run_row_at(harness, &sequential, index)).await;
    rows.extend(concurrent_rows);
    rows.extend(sequential_rows);
    rows
}

async fn run_row_at(harness: &Harness, planned_rows: &[PlannedRow<'_>], index: usize) -> ReportRow {
    match planned_rows.get(index) {
        Some(planned) => run_row(harness, planned).await,
        None => ReportRow::skipped(Section::Upstream, ("", ""), None, "no such row".to_owned()),
    }
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
    let PlannedRow { fault, probe } = planned;
    let name = request_method(probe, fault);
    let method = Method::from_bytes(name.as_bytes()).unwrap_or_default();
    let route = harness.config.routes.get(probe.route_index);
    let context = ExpectationContext {
        config: &harness.config,
        route,
        unrouted: &harness.config.errors,
        method: &method,
    };
    let expectation = context.for_row(fault);
    let request_kind = RequestKind { head: method == Method::HEAD, http10: false };
    let forwards_errors = route.is_some_and(|route| route.errors.mode != ErrorMode::Enforce);
    let Some(gateway) = harness.gateway_for(fault.server_kind) else {
        let reason = "no gateway for this kind of server".to_owned();
        return ReportRow::skipped(Section::Upstream, (fault.name, fault.description), None, reason);
    };
    let limits = ReadLimits::new(harness.load, forwards_errors);
    let outcome =
        send_requests(harness.connect(gateway), &gateway.observed, planned, (name, request_kind), limits)
            .await;
    let (actual, verdict) = match outcome {
        Err(error) => (error.clone(), Verdict::Failed(error)),
        Ok(response) => {
            let verdict_so_far = expectation.check(&response, request_kind, context.contract());
            let verdict_so_far = verdict_so_far.and_then(|()| check_interim(fault, &response));
            let verdict_so_far =
                verdict_so_far.and_then(|()| check_documented_code(harness, fault, &expectation, route));
            let verdict_so_far =
                verdict_so_far.and_then(|()| check_headers(fault, &expectation, &response, route));
            expectation.record(&gateway.observed, &response, verdict_so_far.is_ok());
            (
                expectation::describe_response(&response),
                verdict_so_far.map_or_else(Verdict::Failed, |()| Verdict::Passed),
            )
        }
    };
    ReportRow {
        section: Section::Upstream,
        fault: fault.name,
        description: fault.description,
        route: route.map(|route| route.name.clone()),
        expected: expectation.describe(),
        actual,
        verdict,
        retried: false,
    }
}

/// Sends the requests of a row and returns the last response. The earlier responses are recorded.
async fn send_requests(
    connector: GatewayConnector,
    observed: &Tally,
    planned: &PlannedRow<'_>,
    (method, request_kind): (&str, RequestKind),
    limits: ReadLimits,
) -> Result<ReceivedResponse, String> {
    let PlannedRow { fault, probe } = planned;
    let connect_error = |error| format!("cannot connect to the gateway: {error}");
    let stream = connector.connect(false).await.map_err(connect_error)?;
    // Close with RST: after a graceful close TIME_WAIT keeps the port for 1 min, and a run has tens of thousands of
    // connections.
    stream.set_zero_linger().map_err(connect_error)?;
    let mut reader = ResponseReader::new(stream, limits.time);
    reader.max_body = limits.max_body;
    let length = match fault.request.body.len() {
        0 => String::new(),
        length => format!("content-length: {length}\r\n"),
    };
    let (path, host, name) = (&probe.path, &probe.host, fault.name);
    let fields = fault.request.header_lines;
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{fields}{length}");
    let request_for = |name: &str| {
        [format!("{head}{FAULT_HEADER}: {name}\r\n\r\n").as_bytes(), &fault.request.body].concat()
    };
    let fault_request = request_for(name);
    let (mut sent, mut tries) = (1, 0);
    while sent < fault.request.count {
        tries += 1;
        // KEPT_OPEN gets a 200 on a pooled connection of any age.
        let warm_up = if fault.server_kind == ServerKind::Pooled {
            request_for(KEPT_OPEN)
        } else {
            fault_request.clone()
        };
        let response = exchange(&mut reader, observed, &warm_up, request_kind, limits.time).await?;
        observed.record_response(response.status, None);
        if response.status == 200 {
            sent += 1;
        } else if tries > MAX_TRIES {
            return Err(format!("expected 200 to the warm-up request, got {}", response.status));
        }
    }
    exchange(&mut reader, observed, &fault_request, request_kind, limits.time).await
}

async fn exchange(
    reader: &mut ResponseReader,
    observed: &Tally,
    request: &[u8],
    request_kind: RequestKind,
    limit: Duration,
) -> Result<ReceivedResponse, String> {
    reader.deadline = Instant::now() + limit;
    // A failed write is not an error: the gateway may have responded and closed.
    let _ = reader.stream.write_all(request).await;
    let response = reader.read_response(request_kind).await;
    response.map_err(|error| {
        observed.record_unknown(1);
        describe_read_error(&error, limit)
    })
}

fn describe_read_error(error: &ReadError, limit: Duration) -> String {
    match error {
        ReadError::Closed => "connection closed without a response".to_owned(),
        ReadError::Reset => "connection reset without a response".to_owned(),
        ReadError::TimedOut => format!("no response within {} s", limit.as_secs()),
        ReadError::Malformed(problem) => format!("malformed response: {problem}"),
    }
}

/// If the configuration does not change any code, the response must have the code of the table. This check is
/// independent of the error policy, from which the expectation is computed.
fn check_documented_code(
    harness: &Harness,
    fault: &UpstreamFault,
    expectation: &Expectation,
    route: Option<&crate::config::RouteConfig>,
) -> Result<(), String> {
    let has_default_codes = |rules: &ErrorRules| {
        let is_default = harness.default_contract.as_ref().is_some_and(|default| *default == *rules.contract);
        is_default && rules.mode == ErrorMode::Enforce && rules.overrides.is_empty()
    };
    let has_default_codes = route.is_some_and(|route| has_default_codes(&route.errors));
    if !has_default_codes || !harness.config.overrides.is_empty() {
        return Ok(());
    }
    let (status, documented) = (expectation.status(), fault.outcome.status());
    if status == documented { Ok(()) } else { Err(format!("expected {documented}, got {status}")) }
}

/// Checks that the client received exactly the interim responses of the row.
fn check_interim(fault: &UpstreamFault, response: &ReceivedResponse) -> Result<(), String> {
    if response.interim == fault.interim_statuses {
        return Ok(());
    }
    Err(format!("interim responses: expected {:?}, got {:?}", fault.interim_statuses, response.interim))
}

/// Checks the kept and removed header fields of a replaced error.
fn check_headers(
    fault: &UpstreamFault,
    expectation: &Expectation,
    response: &ReceivedResponse,
    route: Option<&crate::config::RouteConfig>,
) -> Result<(), String> {
    let Expectation::LocalReply { status, .. } = expectation else { return Ok(()) };
    // The row's fields apply to its own outcome only, which this configuration may change.
    if *status != fault.outcome.status() || matches!(fault.outcome, FaultOutcome::Forwarded { .. }) {
        return Ok(());
    }
    let limited = route.is_some_and(|route| !route.rate_limits.is_empty());
    let has_cors = route.is_some_and(|route| route.cors.is_some());
    let set_by_gateway = |name: &str| {
        (limited && name.starts_with("x-ratelimit"))
            || (has_cors && (name.starts_with("access-control-") || name == "vary"))
            || route.is_some_and(|route| route.errors.keep_headers.iter().any(|kept| kept == name))
    };
    let has_header = |name: &str, value: &str| {
        response.headers.iter().any(|(other, actual)| other == name && actual == value)
    };
    for (name, value) in fault.kept_headers.iter().filter(|(name, _)| !set_by_gateway(name)) {
        if !has_header(name, value) {
            return Err(format!("missing upstream field {name}: {value}"));
        }
    }
    match fault.removed_headers.iter().find(|name| !set_by_gateway(name) && response.header(name).is_some()) {
        Some(name) => Err(format!("upstream field {name} was not removed")),
        None => Ok(()),
    }
}
