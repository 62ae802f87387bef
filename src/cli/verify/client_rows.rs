//! Runs the HTTP/1 and TLS client faults against one route.
//!
//! Most client faults are rejected before routing. The others use the route to which the most rows apply. A row that
//! does not apply is reported with a reason.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use tokio::sync::Semaphore;

use super::expectation::{ExpectationContext, describe_response};
use super::harness::Harness;
use super::load_factor::LoadFactor;
use super::observed::ObservedCounts;
use super::route_probe::RouteProbe;
use super::{ReportRow, Section, retry};
use crate::conformance::client_faults::{
    ClientFault, ClientStep, ConnectionOutcome, ExpectedResponse, GatewayProfile, RoutedRequest,
    client_faults, client_faults_tls,
};
use crate::conformance::response_reader::ReceivedResponse;
use crate::conformance::runner::check_served;
use crate::conformance::{GatewayConnector, RequestKind, RunResult, TestContext, run_client_fault};
use crate::contract::{Cause, RequestSent};
use crate::http::target::check_path;
use crate::telemetry::{CloseReason, close_reason::CLIENT_GONE};

pub(super) const CONCURRENCY: usize = 48;
/// Concurrency of the second runs.
pub(super) const RETRY_CONCURRENCY: usize = 4;
/// Timeout of each step, before the load factor.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);

/// Runs the HTTP/1 client faults.
pub(super) async fn run_all(
    harness: &Harness,
    target: Option<(RouteProbe, GatewayProfile)>,
) -> Vec<ReportRow> {
    let Some((probe, profile)) = target else {
        return skip_all(client_faults(&GatewayProfile::example()), "no route accepts an ordinary request");
    };
    let rows = client_faults(&profile);
    run_rows(harness, harness.connect(&harness.client_gateway), &probe, &profile, rows).await
}

/// Runs the TLS client faults.
pub(super) async fn run_tls(
    harness: &Harness,
    target: Option<(RouteProbe, GatewayProfile)>,
) -> Vec<ReportRow> {
    let Some((probe, profile)) = target else {
        return skip_all(
            client_faults_tls(&GatewayProfile::example()),
            "no route accepts an ordinary request",
        );
    };
    let rows = client_faults_tls(&profile);
    match harness.connect_tls(&harness.client_gateway) {
        Some(connect) => run_rows(harness, connect, &probe, &profile, rows).await,
        None => skip_all(rows, "no listener uses TLS"),
    }
}

fn skip_all(rows: Vec<ClientFault>, reason: &str) -> Vec<ReportRow> {
    let skip = |row: ClientFault| {
        ReportRow::skipped(Section::Client, (row.name, row.description), None, reason.to_owned())
    };
    rows.into_iter().map(skip).collect()
}

async fn run_rows(
    harness: &Harness,
    connect: GatewayConnector,
    probe: &RouteProbe,
    profile: &GatewayProfile,
    rows: Vec<ClientFault>,
) -> Vec<ReportRow> {
    let get = parse_method(&profile.read_method);
    let check = |expected, request_kind, response: &ReceivedResponse| {
        check_response(harness, probe, &get, expected, request_kind, response)
    };
    let limit = harness.load.scale(RESPONSE_TIMEOUT);
    let context = TestContext {
        connector: connect,
        profile,
        upstream: &harness.client_upstream,
        limit,
        check_response: &check,
    };
    let rows = scale_pauses(rows, profile, harness.load);
    let permits = Semaphore::new(CONCURRENCY);
    let run_row = |index: usize| {
        let (rows, context, permits, get) = (&rows, &context, &permits, &get);
        async move {
            let Some(row) = rows.get(index) else {
                return ReportRow::skipped(Section::Client, ("", ""), None, "no such row".to_owned());
            };
            if let Some(reason) = skip_reason(harness, probe, profile, row) {
                return ReportRow::skipped(Section::Client, (row.name, row.description), None, reason);
            }
            let _permit = permits.acquire().await;
            let result = run_client_fault(row, context).await;
            record(&harness.client_gateway.observed, row, &result);
            let responses: Vec<String> =
                result.responses.iter().take(row.expected_responses.len()).map(describe_response).collect();
            ReportRow::for_client_fault(
                (row.name, row.description),
                describe_row(harness, probe, get, row),
                &responses,
                result.violation,
            )
        }
    };
    let mut result = join_all((0..rows.len()).map(run_row)).await;
    retry::failed_ones(&mut result, RETRY_CONCURRENCY, run_row).await;
    result
}

/// Scales pauses like the timeouts: data has time to arrive, and slow senders send no more writes before a timeout
/// fires.
fn scale_pauses(mut rows: Vec<ClientFault>, profile: &GatewayProfile, load: LoadFactor) -> Vec<ClientFault> {
    for step in rows.iter_mut().flat_map(|row| &mut row.steps) {
        match step {
            ClientStep::SendSlowly(_, every) => *every = load.scale(*every),
            // Longer pauses are derived from a timeout of the profile, which is already scaled.
            ClientStep::Pause(time) if *time < profile.write_timeout => *time = load.scale(*time),
            _ => {}
        }
    }
    rows
}

/// Records the responses of a row. After a violation the number of events is not known exactly.
fn record(observed: &ObservedCounts, row: &ClientFault, result: &RunResult) {
    if result.violation.is_some() {
        return observed.record_unknown(row.expected_responses.len() + 2);
    }
    for (index, response) in result.responses.iter().enumerate() {
        let expected = row.expected_responses.get(index);
        observed.record_response(
            response.status,
            expected.and_then(|expected| expected.cause()).map(Cause::name),
        );
        if let Some(ExpectedResponse::Truncated(cause)) = expected {
            observed.record_truncated(cause.name());
        }
    }
    match row.connection_outcome {
        ConnectionOutcome::ClosedWithoutResponse(name) | ConnectionOutcome::ClientClosed(name) => {
            observed.record_close(name)
        }
        ConnectionOutcome::IdleTimeout => observed.record_close(CloseReason::IdleTimeout.name()),
        ConnectionOutcome::ClientClosedDuringResponse => observed.record_truncated(CLIENT_GONE),
        ConnectionOutcome::KeptOpen
        | ConnectionOutcome::AnnouncedClose
        | ConnectionOutcome::UnannouncedClose
        | ConnectionOutcome::Truncated => {}
    }
}

/// Chooses the route for the client faults: among those that accept GET and POST on the same path, the one to which the
/// most rows apply. Slow, so call it before any row runs.
pub(super) fn choose_target(harness: &Harness) -> Option<(RouteProbe, GatewayProfile)> {
    let probes = || harness.probes.probes.iter().flatten();
    let accepts_both = |probe: &&RouteProbe| {
        let allowed = |method: &Method| {
            let route = harness.config.routes.get(probe.route_index);
            let denied = route.is_some_and(|route| route.deny_methods.contains(method));
            harness.probes.accepts(probe, method) && !denied
        };
        [Method::GET, Method::POST].iter().all(allowed)
    };
    let candidates = probes().filter(accepts_both).map(|probe| {
        let probe = RouteProbe { method: Method::GET, ..probe.clone() };
        (probe.clone(), profile_for(harness, &probe, &Method::POST))
    });
    let best = candidates.min_by_key(|(probe, profile)| {
        let rows = client_faults(profile);
        rows.iter().filter(|row| skip_reason(harness, probe, profile, row).is_some()).count()
    });
    best.or_else(|| {
        let probe = probes().next()?;
        Some((probe.clone(), profile_for(harness, probe, &probe.method)))
    })
}

fn profile_for(harness: &Harness, probe: &RouteProbe, write: &Method) -> GatewayProfile {
    let client = &harness.config.client;
    let route = harness.config.routes.get(probe.route_index);
    GatewayProfile {
        read_method: probe.method.to_string(),
        write_method: write.to_string(),
        path: probe.path.clone(),
        host: probe.host.clone(),
        max_header_bytes: client.max_header_bytes,
        max_body: route.map_or(client.max_body, |route| route.max_body),
        write_timeout: client.write_timeout,
    }
}

pub(super) fn parse_method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap_or_default()
}

/// Why a row does not apply; `None` if it does.
fn skip_reason(
    harness: &Harness,
    probe: &RouteProbe,
    profile: &GatewayProfile,
    row: &ClientFault,
) -> Option<String> {
    skip_reason_for(harness, probe, profile, row.routed_request.as_ref()?)
}

/// Why this request does not reach the route as its row expects; `None` if it does.
pub(super) fn skip_reason_for(
    harness: &Harness,
    probe: &RouteProbe,
    profile: &GatewayProfile,
    RoutedRequest { method: name, path, without_host }: &RoutedRequest,
) -> Option<String> {
    let route = harness.config.routes.get(probe.route_index)?;
    let method = parse_method(name);
    let is_ambiguous = check_path(path.as_bytes()).is_ok_and(|facts| facts.ambiguity.is_some());
    let matched = harness.probes.route_for(if *without_host { "" } else { &profile.host }, path, &method);
    if is_ambiguous {
        // Rejected on every route except a lenient one.
        let lenient_route = matched.and_then(|index| harness.config.routes.get(index));
        return lenient_route
            .filter(|route| route.lenient_paths)
            .map(|route| format!("the route {} accepts this path", route.name));
    }
    if matched != Some(probe.route_index) {
        let suffix = if *without_host { " without a host" } else { "" };
        return Some(format!("the route {} does not match {name} {path}{suffix}", route.name));
    }
    route.deny_methods.contains(&method).then(|| format!("the route {} denies {name}", route.name))
}

pub(super) fn check_response(
    harness: &Harness,
    probe: &RouteProbe,
    get: &Method,
    expected: ExpectedResponse,
    request_kind: RequestKind,
    response: &ReceivedResponse,
) -> Result<(), String> {
    let Some((cause, on_route)) = expected_error(expected) else { return check_served(expected, response) };
    let expectation = expectation_context(harness, probe, get, on_route).for_fault(cause, RequestSent::None);
    expectation.check(response, request_kind, &harness.config.contract)
}

fn expectation_context<'a>(
    harness: &'a Harness,
    probe: &RouteProbe,
    get: &'a Method,
    on_route: bool,
) -> ExpectationContext<'a> {
    let route = harness.config.routes.get(probe.route_index).filter(|_| on_route);
    ExpectationContext { config: &harness.config, route, method: get }
}

const fn expected_error(expected: ExpectedResponse) -> Option<(Cause, bool)> {
    match expected {
        ExpectedResponse::Rejected(cause) => Some((cause, false)),
        ExpectedResponse::RejectedOnRoute(cause) => Some((cause, true)),
        ExpectedResponse::Served
        | ExpectedResponse::ServedBytes(_)
        | ExpectedResponse::Truncated(_)
        | ExpectedResponse::Prefix => None,
    }
}

/// The expectation of a row, for the report.
fn describe_row(harness: &Harness, probe: &RouteProbe, get: &Method, row: &ClientFault) -> String {
    let descriptions =
        |expected: &ExpectedResponse| describe_expected_response(harness, probe, get, *expected);
    let responses: Vec<String> = row.expected_responses.iter().map(descriptions).collect();
    let connection = match row.connection_outcome {
        ConnectionOutcome::KeptOpen => "stays open".to_owned(),
        ConnectionOutcome::AnnouncedClose | ConnectionOutcome::UnannouncedClose => "closed".to_owned(),
        ConnectionOutcome::Truncated => String::new(),
        ConnectionOutcome::IdleTimeout => "closed when idle".to_owned(),
        ConnectionOutcome::ClientClosedDuringResponse => "closed by the client".to_owned(),
        ConnectionOutcome::ClosedWithoutResponse(name) | ConnectionOutcome::ClientClosed(name) => {
            format!("no response, counted as {name}")
        }
    };
    let parts = [collapse_repeats(&responses), connection];
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; ")
}

/// One expected response, for the report.
pub(super) fn describe_expected_response(
    harness: &Harness,
    probe: &RouteProbe,
    get: &Method,
    expected: ExpectedResponse,
) -> String {
    match (expected_error(expected), expected) {
        (Some((cause, on_route)), _) => {
            expectation_context(harness, probe, get, on_route).for_fault(cause, RequestSent::None).describe()
        }
        (None, ExpectedResponse::Truncated(cause)) => format!("200, truncated: {cause}"),
        (None, _) => "200 from the upstream".to_owned(),
    }
}

/// Joins equal descriptions into one with a count.
pub(super) fn collapse_repeats(responses: &[String]) -> String {
    let mut kinds: Vec<(&String, usize)> = Vec::new();
    for response in responses {
        match kinds.iter_mut().find(|(kind, _)| *kind == response) {
            Some((_, times)) => *times += 1,
            None => kinds.push((response, 1)),
        }
    }
    let descriptions = kinds.iter().map(|(kind, times)| match times {
        1 => (*kind).clone(),
        _ => format!("{times} x {kind}"),
    });
    descriptions.collect::<Vec<_>>().join(", ")
}
