//! Every fault of an upstream, on every route.
//!
//! Which fault is played is told by a field of the request: the paths are the routes'. Faults of a kept connection are
//! rehearsed once for each upstream, one after the other, for the connection must be nobody else's.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::Method;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use super::expectation::{self, Expectation, ExpectationContext};
use super::harness::{self, Harness};
use super::load_factor::LoadFactor;
use super::observed::ObservedCounts;
use super::route_probe::RouteProbe;
use super::{ReportRow, Section, Verdict, retry};
use crate::config::{ErrorMode, ErrorRules};
use crate::conformance::client_faults::FAULT_HEADER;
use crate::conformance::faulty_upstream::KEPT_OPEN;
use crate::conformance::response_reader::{ReadError, ReceivedResponse, ResponseReader};
use crate::conformance::upstream_faults::{
    FaultCategory, FaultOutcome, ServerKind, UpstreamFault, upstream_faults,
};
use crate::conformance::{GatewayConnector, RequestKind};
use crate::http::upgrade::WEBSOCKET;

/// Rows that are played at once.
const CONCURRENCY: usize = 96;
/// And in a second try.
const RETRY_CONCURRENCY: usize = 4;
/// No answer takes longer, times the load factor.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);
/// And so long a response is read that passes because of `errors.mode`.
const FORWARDED_TIMEOUT: Duration = Duration::from_secs(5);
/// So much of its body is read.
const MAX_FORWARDED_BYTES: u64 = 1024 * 1024;

/// A connection that the row before has left broken may be met so often.
const MAX_TRIES: u32 = 3;

/// How far a response is read.
#[derive(Clone, Copy)]
struct ReadLimits {
    time: Duration,
    most: u64,
}

impl ReadLimits {
    /// Of what merely passes, only the beginning matters: it may go on for as long as the upstream likes.
    fn of(load: LoadFactor, passes: bool) -> ReadLimits {
        if passes {
            ReadLimits { time: load.scale(FORWARDED_TIMEOUT), most: MAX_FORWARDED_BYTES }
        } else {
            ReadLimits { time: load.scale(RESPONSE_TIMEOUT), most: u64::MAX }
        }
    }
}

/// A row of the table on a route.
struct PlannedRow<'a> {
    fault: &'a UpstreamFault,
    probe: &'a RouteProbe,
}

/// Plays all of it.
pub(super) async fn run_all(harness: &Harness) -> Vec<ReportRow> {
    let faults = upstream_faults();
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
        for fault in &faults {
            match skip_reason(harness, probe, fault) {
                Some(reason) => rows.push(skipped(fault, reason)),
                None if pooled.contains(&(route.upstream, fault.name)) => {
                    let reason = "rehearsed on another route of the same upstream";
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
        None => ReportRow::skipped(Section::Upstream, ("", ""), None, "there is no such row".to_owned()),
    }
}

/// Why a row cannot be played on a route.
fn skip_reason(harness: &Harness, probe: &RouteProbe, fault: &UpstreamFault) -> Option<String> {
    let method = request_method(probe, fault);
    let route = harness.config.routes.get(probe.route_index)?;
    if fault.category == FaultCategory::Upgrade && !route.upgrades.iter().any(|name| name == WEBSOCKET) {
        return Some("the route does not take an upgrade to websocket".to_owned());
    }
    let configured = harness.original_config.upstreams.get(route.upstream);
    if !configured.is_some_and(|configured| harness::supports(configured, fault.server_kind)) {
        let in_tls = configured.is_some_and(|configured| configured.cert_verification.is_some());
        let reason = if fault.server_kind.requires_http2() {
            "its upstream is not spoken to in HTTP/2"
        } else if fault.server_kind.has_invalid_certificate() && in_tls {
            "the certificates of its upstream are not looked at"
        } else if in_tls {
            "its upstream is spoken to in TLS"
        } else {
            "its upstream is not spoken to in TLS"
        };
        return Some(reason.to_owned());
    }
    if requires_own_method(fault) {
        // What comes of these depends on the method.
        let request_kind = Method::from_bytes(fault.request.method.as_bytes()).unwrap_or_default();
        if !harness.probes.accepts(probe, &request_kind) || route.deny_methods.contains(&request_kind) {
            return Some(format!("the route does not take {request_kind}"));
        }
    }
    if fault.request.body.len() as u64 > route.max_body {
        return Some("the route does not take a body of that size".to_owned());
    }
    let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
    (!harness.probes.accepts(probe, &method)).then(|| format!("the route does not take {method}"))
}

/// The row's method where it matters, else the route's.
fn request_method<'a>(probe: &'a RouteProbe, fault: &UpstreamFault) -> &'a str {
    if requires_own_method(fault) { fault.request.method } else { probe.method.as_str() }
}

/// What comes of the row depends on the method.
fn requires_own_method(fault: &UpstreamFault) -> bool {
    fault.request.method != "GET"
        || fault.server_kind == ServerKind::Pooled
        || fault.category == FaultCategory::Upgrade
}

async fn run_row(harness: &Harness, planned: &PlannedRow<'_>) -> ReportRow {
    let PlannedRow { fault, probe } = planned;
    let name = request_method(probe, fault);
    let method = Method::from_bytes(name.as_bytes()).unwrap_or_default();
    let route = harness.config.routes.get(probe.route_index);
    let expectation = ExpectationContext { config: &harness.config, route, method: &method }.for_row(fault);
    let request_kind = RequestKind { head: method == Method::HEAD, http10: false };
    let forwards_errors = route.is_some_and(|route| route.errors.mode != ErrorMode::Enforce);
    let Some(gateway) = harness.gateway_for(fault.server_kind) else {
        let reason = "there is no gateway for it".to_owned();
        return ReportRow::skipped(Section::Upstream, (fault.name, fault.description), None, reason);
    };
    let limits = ReadLimits::of(harness.load, forwards_errors);
    let outcome =
        send_requests(harness.connect(gateway), &gateway.observed, planned, (name, request_kind), limits)
            .await;
    let (actual, verdict) = match outcome {
        Err(none) => (none.clone(), Verdict::Failed(none)),
        Ok(response) => {
            let verdict_so_far = expectation.check(&response, request_kind, &harness.config.contract);
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

/// Asks as often as the row says, and gives the last answer. What came before it is noted.
async fn send_requests(
    connector: GatewayConnector,
    observed: &ObservedCounts,
    planned: &PlannedRow<'_>,
    (method, asked): (&str, RequestKind),
    limits: ReadLimits,
) -> Result<ReceivedResponse, String> {
    let PlannedRow { fault, probe } = planned;
    let no_connection = |error| format!("no connection to the gateway: {error}");
    let stream = connector.connect(false).await.map_err(no_connection)?;
    // Left by a reset: each of tens of thousands of orderly ends would keep a port of this machine for a minute.
    stream.set_zero_linger().map_err(no_connection)?;
    let mut reader = ResponseReader::new(stream, limits.time);
    reader.max_body = limits.most;
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
        // The upstream of kept connections is asked to serve well, whatever the rows before have left of them.
        let warm_up = if fault.server_kind == ServerKind::Pooled {
            request_for(KEPT_OPEN)
        } else {
            fault_request.clone()
        };
        let answer = exchange(&mut reader, observed, &warm_up, asked, limits.time).await?;
        observed.record_response(answer.status, None);
        if answer.status == 200 {
            sent += 1;
        } else if tries > MAX_TRIES {
            return Err(format!("{} to a request that is served well", answer.status));
        }
    }
    exchange(&mut reader, observed, &fault_request, asked, limits.time).await
}

async fn exchange(
    reader: &mut ResponseReader,
    observed: &ObservedCounts,
    request: &[u8],
    request_kind: RequestKind,
    limit: Duration,
) -> Result<ReceivedResponse, String> {
    reader.deadline = Instant::now() + limit;
    // What is not taken any more has been answered.
    let _ = reader.stream.write_all(request).await;
    let response = reader.read_response(request_kind).await;
    response.map_err(|error| {
        observed.record_unknown(1);
        describe_read_error(&error, limit)
    })
}

fn describe_read_error(none: &ReadError, limit: Duration) -> String {
    match none {
        ReadError::Closed => "closed without an answer".to_owned(),
        ReadError::Reset => "reset without an answer".to_owned(),
        ReadError::TimedOut => format!("no answer within {} s", limit.as_secs()),
        ReadError::Malformed(what) => format!("malformed: {what}"),
    }
}

/// Where the configuration decides nothing about codes, the code is the one that stands in the table, whatever the policy
/// room says: it is not judged by its own word alone.
fn check_documented_code(
    harness: &Harness,
    fault: &UpstreamFault,
    expectation: &Expectation,
    route: Option<&crate::config::RouteConfig>,
) -> Result<(), String> {
    let enforces = |rules: &ErrorRules| rules.mode == ErrorMode::Enforce && rules.overrides.is_empty();
    let decides_nothing = harness.uses_builtin_contract && harness.config.overrides.is_empty();
    if !decides_nothing || !route.is_some_and(|route| enforces(&route.errors)) {
        return Ok(());
    }
    let (status, documented) = (expectation.status(), fault.outcome.status());
    if status == documented { Ok(()) } else { Err(format!("{status}, where {documented} is documented")) }
}

/// The row's interim responses, and no other.
fn check_interim(fault: &UpstreamFault, response: &ReceivedResponse) -> Result<(), String> {
    let matches = response.interim == fault.interim_statuses;
    if matches { Ok(()) } else { Err(format!("the interim responses {:?}", response.interim)) }
}

/// Fields that stay and fields that go, on an error that was made in the place of the upstream's.
fn check_headers(
    fault: &UpstreamFault,
    expectation: &Expectation,
    response: &ReceivedResponse,
    route: Option<&crate::config::RouteConfig>,
) -> Result<(), String> {
    let Expectation::LocalReply { status, .. } = expectation else { return Ok(()) };
    // The row tells of another answer than this configuration gives.
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
        response.headers.iter().any(|(planned, found)| planned == name && found == value)
    };
    for (name, value) in fault.kept_headers.iter().filter(|(name, _)| !set_by_gateway(name)) {
        if !has_header(name, value) {
            return Err(format!("{name}: {value} of the upstream is lost"));
        }
    }
    match fault.removed_headers.iter().find(|name| !set_by_gateway(name) && response.header(name).is_some()) {
        Some(name) => Err(format!("the upstream's {name} has passed")),
        None => Ok(()),
    }
}
