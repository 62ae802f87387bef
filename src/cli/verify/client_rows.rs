//! Every fault of a client, against one route.
//!
//! What a client sends is refused, mostly, before a route is known; the rows that need one use the first that takes
//! ordinary requests. Which rows do not apply to it is said, never left out in silence.

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
/// And in a second try.
pub(super) const RETRY_CONCURRENCY: usize = 4;
/// No wait is longer, times the load factor.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);

/// Plays those of HTTP/1.
pub(super) async fn run_all(
    harness: &Harness,
    target: Option<(RouteProbe, GatewayProfile)>,
) -> Vec<ReportRow> {
    let Some((probe, profile)) = target else {
        return skip_all(client_faults(&GatewayProfile::example()), "no route can be reached");
    };
    let rows = client_faults(&profile);
    run_rows(harness, harness.connect(&harness.client_gateway), &probe, &profile, rows).await
}

/// Plays those of TLS.
pub(super) async fn run_tls(
    harness: &Harness,
    target: Option<(RouteProbe, GatewayProfile)>,
) -> Vec<ReportRow> {
    let Some((probe, profile)) = target else {
        return skip_all(client_faults_tls(&GatewayProfile::example()), "no route can be reached");
    };
    let rows = client_faults_tls(&profile);
    match harness.connect_tls(&harness.client_gateway) {
        Some(connect) => run_rows(harness, connect, &probe, &profile, rows).await,
        None => skip_all(rows, "no listener speaks TLS"),
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
    let rows = unhurried(rows, profile, harness.load);
    let permits = Semaphore::new(CONCURRENCY);
    let run_row = |index: usize| {
        let (rows, context, permits, get) = (&rows, &context, &permits, &get);
        async move {
            let Some(row) = rows.get(index) else {
                return ReportRow::skipped(
                    Section::Client,
                    ("", ""),
                    None,
                    "there is no such row".to_owned(),
                );
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

/// Pauses are as much longer as the timeouts are: bytes get time to arrive, and what drips until a timeout drips no oftener.
fn unhurried(mut rows: Vec<ClientFault>, setting: &GatewayProfile, load: LoadFactor) -> Vec<ClientFault> {
    for act in rows.iter_mut().flat_map(|row| &mut row.steps) {
        match act {
            ClientStep::SendSlowly(_, every) => *every = load.scale(*every),
            // A longer one outlasts a timeout of the setting, which is scaled already.
            ClientStep::Pause(time) if *time < setting.write_timeout => *time = load.scale(*time),
            _ => {}
        }
    }
    rows
}

/// Writes down what a row got. Where it came out otherwise, not everything of it is known.
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

/// The route that takes the rows, and what it offers: of those that take GET and POST at the same place, the one that most
/// rows apply to. Not quick: to be found before anybody waits.
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

/// Why a row does not apply.
fn skip_reason(
    harness: &Harness,
    probe: &RouteProbe,
    profile: &GatewayProfile,
    row: &ClientFault,
) -> Option<String> {
    skip_reason_for(harness, probe, profile, row.routed_request.as_ref()?)
}

/// Why a request for this does not end as its row says.
pub(super) fn skip_reason_for(
    harness: &Harness,
    probe: &RouteProbe,
    profile: &GatewayProfile,
    RoutedRequest { method: name, path, without_host: no_host }: &RoutedRequest,
) -> Option<String> {
    let route = harness.config.routes.get(probe.route_index)?;
    let request_kind = parse_method(name);
    let has_dot_segments = check_path(path.as_bytes()).is_ok_and(|facts| facts.dot_segments);
    let found = harness.probes.route_for(if *no_host { "" } else { &profile.host }, path, &request_kind);
    if has_dot_segments {
        // Refused wherever it leads, unless a route lets dot segments pass.
        let lenient_route = found.and_then(|index| harness.config.routes.get(index));
        return lenient_route
            .filter(|route| route.lenient_paths)
            .map(|route| format!("the route {} lets dot segments pass", route.name));
    }
    if found != Some(probe.route_index) {
        let target = if *no_host { "without a host " } else { "" };
        return Some(
            format!("the route {} does not take {name} {path} {target}", route.name).trim_end().to_owned(),
        );
    }
    route.deny_methods.contains(&request_kind).then(|| format!("the route {} denies {name}", route.name))
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

/// The row's expectation in a few words.
fn describe_row(harness: &Harness, probe: &RouteProbe, get: &Method, row: &ClientFault) -> String {
    let descriptions =
        |expected: &ExpectedResponse| describe_expected_response(harness, probe, get, *expected);
    let responses: Vec<String> = row.expected_responses.iter().map(descriptions).collect();
    let ending = match row.connection_outcome {
        ConnectionOutcome::KeptOpen => "stays open".to_owned(),
        ConnectionOutcome::AnnouncedClose | ConnectionOutcome::UnannouncedClose => "closes".to_owned(),
        ConnectionOutcome::Truncated => String::new(),
        ConnectionOutcome::IdleTimeout => "closed when idle".to_owned(),
        ConnectionOutcome::ClientClosedDuringResponse => "the client leaves".to_owned(),
        ConnectionOutcome::ClosedWithoutResponse(name) | ConnectionOutcome::ClientClosed(name) => {
            format!("no answer, counted as {name}")
        }
    };
    let parts = [collapse_repeats(&responses), ending];
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("; ")
}

/// What one answer should be, in a few words.
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
        (None, ExpectedResponse::Truncated(cause)) => format!("200, cut: {cause}"),
        (None, _) => "200 of the upstream".to_owned(),
    }
}

/// Equal neighbours once, with their number.
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
