//! Runs the client faults against one route, and checks the responses to clients.
//!
//! Most client faults are rejected before routing. The others use the route to which the most cases apply. A case that
//! does not apply is reported with a reason. A fault that the HTTP/2 library handles has no response to check: it
//! passes if the stream or the connection ends as expected and the other streams of the connection are served.

use std::time::Duration;

use http::Method;

use super::expectation::{ExpectationContext, describe_response};
use super::harness::{Harness, RunningGateway};
use super::route_probe::RouteProbe;
use super::{ReportRow, Section, retry};
use crate::config::{RouteAction, RouteConfig};
use crate::conformance::case::RouteFeature;
use crate::conformance::runner::check_served;
use crate::conformance::{
    ClientFault, ClientProtocol, ConnectionOutcome, ExpectedResponse, GatewayConnector, GatewayProfile,
    ReceivedResponse, RequestKind, TestContext, run_client_fault,
};
use crate::contract::{Cause, Contract, RequestSent};
use crate::http::authority;
use crate::http::target::check_path;

const CONCURRENCY: usize = 48;
/// Timeout of each step, before the load factor.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);

/// The route of the client faults.
pub(super) type Target = (RouteProbe, GatewayProfile);

/// Runs the client faults of this protocol.
pub(super) async fn run_all(
    harness: &Harness,
    protocol: ClientProtocol,
    target: Option<&Target>,
) -> Vec<ReportRow> {
    let rows: Vec<&ClientFault> = harness.cases.client_faults(protocol).collect();
    let skip_all = |reason: &str| rows.iter().map(|row| row_of(row).skipped(reason)).collect();
    let Some((probe, profile)) = target else { return skip_all("no route accepts an ordinary request") };
    let (gateway, missing) = match protocol {
        ClientProtocol::Http1 | ClientProtocol::Route => (&harness.client_gateway, ""),
        ClientProtocol::Tls => (&harness.client_gateway, "no listener uses TLS"),
        ClientProtocol::Http2 => (&harness.h2_client_gateway, "no listener uses HTTP/2"),
    };
    let first = (protocol == ClientProtocol::Http1).then(|| harness.connect(gateway));
    let Some(connector) = first.or_else(|| harness.connect_second(gateway)) else { return skip_all(missing) };
    let target = RowTarget { harness, probe, request_targets: Vec::new() };
    let check = |expected, request_kind, response: &ReceivedResponse| {
        target.check_response(expected, request_kind, response)
    };
    let context = |connector: GatewayConnector| TestContext {
        connector,
        profile,
        upstream: &harness.client_upstream,
        limit: response_timeout(harness),
        check_response: &check,
    };
    // Rows whose events are not deterministic have a gateway of their own.
    let floods = harness.connect_second(&harness.flood_gateway).unwrap_or(connector);
    let (regular, floods) = ((context(connector), gateway), (context(floods), &harness.flood_gateway));
    let (regular, floods, target) = (&regular, &floods, &target);
    retry::run_rows(&rows, CONCURRENCY, |row| async move {
        if let Some(reason) = skip_reason(harness, probe, profile, row) {
            return row_of(row).skipped(reason);
        }
        let (context, gateway) = if row.nondeterministic { floods } else { regular };
        run_case(target, row, context, gateway).await
    })
    .await
}

fn row_of(case: &ClientFault) -> ReportRow {
    ReportRow::new(Section::Client, (case.name, case.description), None)
}

/// The time limit of each step.
pub(super) fn response_timeout(harness: &Harness) -> Duration {
    harness.load.scale(RESPONSE_TIMEOUT)
}

/// Runs one case.
pub(super) async fn run_case(
    target: &RowTarget<'_>,
    row: &ClientFault,
    context: &TestContext<'_>,
    gateway: &RunningGateway,
) -> ReportRow {
    let result = run_client_fault(row, context).await;
    gateway.observed.record_client_fault(row, &result);
    let checked = row.expected.iter().filter(|expected| expected.is_response()).count();
    let responses = result.responses.get(..checked).unwrap_or(&result.responses);
    let route = target.harness.route(target.probe);
    let is_missing = |name: &&String| {
        let edited = route.is_some_and(|route| route.response_edits.edits(name));
        !edited && responses.last().is_none_or(|last| last.header(name).is_none())
    };
    let missing = row.fields.iter().find(is_missing).map(|name| format!("a response without {name}"));
    let descriptions: Vec<String> = responses.iter().map(describe_response).collect();
    let actual =
        if responses.is_empty() { "no response".to_owned() } else { collapse_repeats(&descriptions) };
    let result = result.violation.or(missing).map_or(Ok(()), Err);
    row_of(row).judged(target.describe(row), actual, result)
}

/// Chooses a route for the client faults of each contract. Slow, so call it before any row runs.
pub(super) fn choose_targets(harness: &Harness) -> Vec<Target> {
    let routes = &harness.config.routes;
    let mut contracts: Vec<&Contract> = Vec::new();
    for route in routes {
        if !contracts.contains(&&*route.errors.contract) {
            contracts.push(&route.errors.contract);
        }
    }
    contracts.into_iter().filter_map(|contract| choose_target(harness, contract)).collect()
}

/// Among the forwarding routes with this contract that accept GET and POST on the same path, the one to which the most
/// rows apply.
fn choose_target(harness: &Harness, contract: &Contract) -> Option<Target> {
    let has_contract = |probe: &&RouteProbe| {
        let forwards = |route: &RouteConfig| route.upstream.is_some() && *route.errors.contract == *contract;
        harness.route(probe).is_some_and(forwards)
    };
    let probes = || harness.probes.probes.iter().flatten().filter(has_contract);
    let accepts_both = |probe: &&RouteProbe| {
        let denies = |method: &Method| harness.route(probe).is_some_and(|route| route.denies(method));
        [Method::GET, Method::POST]
            .iter()
            .all(|method| harness.probes.accepts(probe, method) && !denies(method))
    };
    let candidates = probes().filter(accepts_both).map(|probe| {
        let probe = RouteProbe { method: Method::GET, ..probe.clone() };
        (probe.clone(), profile_for(harness, &probe, &Method::POST))
    });
    let best = candidates.min_by_key(|(probe, profile)| {
        let rows = harness.cases.client_faults(ClientProtocol::Http1);
        rows.filter(|row| skip_reason(harness, probe, profile, row).is_some()).count()
    });
    best.or_else(|| {
        let probe = probes().next()?;
        Some((probe.clone(), profile_for(harness, probe, &probe.method)))
    })
}

pub(super) fn profile_for(harness: &Harness, probe: &RouteProbe, write: &Method) -> GatewayProfile {
    let client = &harness.config.client;
    GatewayProfile {
        read_method: probe.method.to_string(),
        write_method: write.to_string(),
        path: probe.path.clone(),
        host: probe.host.clone(),
        member: String::new(),
        max_header_bytes: client.max_header_bytes,
        max_body: harness.route(probe).map_or(client.max_body, |route| route.max_body),
        write_timeout: client.write_timeout,
        pause_tenths: harness.load.tenths(),
    }
}

/// Why a row does not apply; `None` if its request reaches the route as it expects.
pub(super) fn skip_reason(
    harness: &Harness,
    probe: &RouteProbe,
    profile: &GatewayProfile,
    row: &ClientFault,
) -> Option<String> {
    let routed = row.routed_request(profile)?;
    let (name, path) = (&routed.method, &routed.path);
    let route = harness.route(probe)?;
    let method = Method::from_bytes(name.as_bytes()).unwrap_or_default();
    let is_ambiguous = check_path(path.as_bytes()).is_ok_and(|facts| facts.ambiguity.is_some());
    let host = if routed.without_host { "" } else { &profile.host };
    let matched = harness.probes.route_for(host, path, &method);
    if is_ambiguous {
        // Rejected on every route except a lenient one.
        let lenient_route = matched.and_then(|index| harness.config.routes.get(index));
        return lenient_route
            .filter(|route| route.lenient_paths)
            .map(|route| format!("the route {} accepts this path", route.name));
    }
    if matched != Some(probe.route_index) {
        let suffix = if routed.without_host { " without a host" } else { "" };
        return Some(format!("the route {} does not match {name} {path}{suffix}", route.name));
    }
    route.denies(&method).then(|| format!("the route {} denies {name}", route.name))
}

/// What the expected responses depend on.
pub(super) struct RowTarget<'a> {
    pub(super) harness: &'a Harness,
    pub(super) probe: &'a RouteProbe,
    /// The targets of the requests, which redirects depend on.
    pub(super) request_targets: Vec<String>,
}

impl RowTarget<'_> {
    pub(super) fn check_response(
        &self,
        expected: ExpectedResponse,
        request_kind: RequestKind,
        response: &ReceivedResponse,
    ) -> Result<(), String> {
        match expected {
            ExpectedResponse::Ordinary => return self.check_ordinary(request_kind, response),
            ExpectedResponse::OrdinaryOrRejected(cause) => {
                let rejected = ExpectedResponse::RejectedOnRoute(cause);
                let ordinary = self.check_ordinary(request_kind, response);
                return ordinary.or_else(|_| self.check_response(rejected, request_kind, response));
            }
            _ => {}
        }
        let Some(cause) = expected.error_cause() else { return check_served(expected, response) };
        let check = |context: ExpectationContext<'_>| {
            let expectation = context.for_fault(cause, RequestSent::None);
            expectation.check(response, request_kind, context.contract())
        };
        let context = self.context(expected);
        let checked = check(context);
        if checked.is_err() && context.route.is_none() {
            // Where the host cannot be read, the rules of the listener apply.
            let config = &self.harness.config;
            let listener = config.listeners.first().and_then(|listener| listener.errors.as_ref());
            let unrouted = listener.unwrap_or(&config.errors);
            return check(ExpectationContext { unrouted, ..context }).or(checked);
        }
        checked
    }

    fn context(&self, expected: ExpectedResponse) -> ExpectationContext<'_> {
        let off_route = matches!(expected, ExpectedResponse::Rejected(_) | ExpectedResponse::HeadersOnly(_));
        let route = self.harness.route(self.probe).filter(|_| !off_route);
        let same_path = expected.error_cause() == Some(Cause::MethodNotAllowed);
        let unrouted = self.harness.probes.unrouted_settings(&self.harness.config, self.probe, same_path);
        ExpectationContext { config: &self.harness.config, route, unrouted, method: &self.probe.method }
    }

    /// Compares a response with what the route declares.
    fn check_ordinary(&self, request_kind: RequestKind, response: &ReceivedResponse) -> Result<(), String> {
        let context = self.context(ExpectedResponse::Ordinary);
        let is_expected = match context.route.map(|route| &route.action) {
            None | Some(RouteAction::Forward) if request_kind.head => response.status == 200,
            None | Some(RouteAction::Forward) => return check_served(ExpectedResponse::Served, response),
            Some(RouteAction::RespondWithError) => {
                let expectation = context.for_fault(Cause::RouteResponse, RequestSent::None);
                return expectation.check(response, request_kind, context.contract());
            }
            Some(RouteAction::Redirect(redirect)) => {
                let host = authority::routing_host(self.probe.host.as_bytes());
                let location = response.header("location").unwrap_or_default().as_bytes();
                response.status == redirect.status.code()
                    && self.request_targets.iter().any(|target| {
                        let (path, query) = target.split_once('?').unwrap_or((target, ""));
                        redirect.target.location(&host, path.as_bytes(), query.as_bytes()) == location
                    })
            }
            Some(RouteAction::Respond(fixed)) => {
                let media_type = fixed.media_type().and_then(|value| value.to_str().ok());
                response.status == fixed.status().code()
                    && response.header("content-type") == media_type
                    && (request_kind.head || response.body == fixed.body().as_ref())
            }
        };
        let location = response.header("location").unwrap_or("without Location");
        let (status, text) = (response.status, response.text());
        if is_expected {
            Ok(())
        } else {
            Err(format!("not what the route declares: {status} {location} {text:.80}"))
        }
    }

    /// The expectation of a row, for the report.
    fn describe(&self, row: &ClientFault) -> String {
        if row.on.is_some_and(|on| on != RouteFeature::Listener) {
            return row.expected.last().and_then(|last| self.describe_outcome(*last)).unwrap_or_default();
        }
        let outcomes = row.expected.iter().filter_map(|expected| self.describe_outcome(*expected));
        let mut parts = vec![collapse_repeats(&outcomes.collect::<Vec<_>>())];
        let counted: Vec<String> = row
            .counted()
            .iter()
            .map(|(name, times)| if *times == 1 { (*name).to_owned() } else { format!("{times} x {name}") })
            .collect();
        parts.push(match row.connection() {
            ConnectionOutcome::KeptOpen => "stays open".to_owned(),
            ConnectionOutcome::AnnouncedClose | ConnectionOutcome::Closed => "closed".to_owned(),
            ConnectionOutcome::Dropped => "closed without a response".to_owned(),
            ConnectionOutcome::Truncated => String::new(),
            ConnectionOutcome::ClientClosed => "closed by the client".to_owned(),
            ConnectionOutcome::ErrorGoaway => "GOAWAY with an error".to_owned(),
            ConnectionOutcome::Goaway => "GOAWAY".to_owned(),
        });
        if !counted.is_empty() {
            parts.push(format!("counted as {}", counted.join(", ")));
        }
        parts.retain(|part| !part.is_empty());
        parts.join("; ")
    }

    fn describe_outcome(&self, expected: ExpectedResponse) -> Option<String> {
        let error = |cause| self.context(expected).for_fault(cause, RequestSent::None).describe();
        Some(match expected {
            ExpectedResponse::Rejected(cause) | ExpectedResponse::RejectedOnRoute(cause) => error(cause),
            ExpectedResponse::HeadersOnly(cause) => error(cause) + ", headers only",
            ExpectedResponse::Truncated(cause) => format!("200, truncated: {cause}"),
            ExpectedResponse::Ordinary | ExpectedResponse::OrdinaryOrRejected(_) => {
                match self.context(expected).route.map(|route| &route.action) {
                    Some(RouteAction::Redirect(redirect)) => redirect.status.code().to_string(),
                    Some(RouteAction::Respond(fixed)) => fixed.status().code().to_string(),
                    Some(RouteAction::RespondWithError) => error(Cause::RouteResponse),
                    Some(RouteAction::Forward) | None => "200 from the upstream".to_owned(),
                }
            }
            ExpectedResponse::Served | ExpectedResponse::ServedBytes(_) | ExpectedResponse::Prefix => {
                "200 from the upstream".to_owned()
            }
            ExpectedResponse::Reset => "RST_STREAM".to_owned(),
            ExpectedResponse::Empty431 => "empty 431".to_owned(),
            ExpectedResponse::NoResponse => return None,
        })
    }
}

/// Joins equal descriptions into one with a count.
fn collapse_repeats(responses: &[String]) -> String {
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
