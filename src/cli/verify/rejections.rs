//! Tests the requests that the configuration rejects or redirects: rate limits, methods that no route accepts, denied
//! methods, `allow_from`, `deny_from`, maintenance, redirects and `respond`.
//!
//! One row per rule and route.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::Method;
use tokio::io::AsyncWriteExt;

use super::expectation::{ExpectationContext, describe_response};
use super::harness::{Harness, RunningGateway, UNTRUSTED_CLIENT, any_contains};
use super::route_probe::RouteProbe;
use super::{ReportRow, Section, Verdict, retry};
use crate::config::{Redirect, RouteAction, RouteConfig};
use crate::conformance::gateway_stream::GatewayStream;
use crate::conformance::response_reader::{ReceivedResponse, ResponseReader};
use crate::conformance::{GatewayConnector, RequestKind};
use crate::contract::{Cause, FixedResponse, RequestSent};
use crate::http::authority;
use crate::limit::LimiterMode;

const RATE_LIMITED: (&str, &str) = ("rate-limited", "sends more requests than the route's rate limits allow");
const DENIED_METHOD: (&str, &str) = ("denied-method", "uses a method that the route denies");
const METHOD_NOT_ALLOWED: (&str, &str) =
    ("method-not-allowed", "uses a method that no route accepts for the path");
const NOT_ALLOWED_FROM: (&str, &str) = ("not-allowed-from", "connects from an address outside allow_from");
const DENIED_FROM: (&str, &str) = ("denied-from", "connects from an address in deny_from");
const MAINTENANCE: (&str, &str) = ("in-maintenance", "uses a route in maintenance");
const REDIRECTED: (&str, &str) =
    ("redirected", "uses a route that redirects, with hostile paths and queries");
const RESPONDED: (&str, &str) = ("route-response", "uses a route with respond");
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);
/// The second request exceeds the limit; one more is allowed as a margin.
const MAX_REQUESTS: usize = 3;

/// Runs all rejection rows.
pub(super) async fn run_all(harness: &Harness) -> Vec<ReportRow> {
    let mut rows = Vec::new();
    for (route, probe) in harness.config.routes.iter().zip(&harness.probes.probes) {
        let skip = |fault, reason: &str| {
            ReportRow::new(Section::Rejections, fault, Some(&route.name)).skipped(reason)
        };
        let Ok(probe) = probe else { continue };
        match has_enforced_rule(harness, route) {
            None => {}
            Some(false) => rows.push(skip(RATE_LIMITED, "its rate limits run in shadow mode")),
            Some(true) => rows.push(retry::at_most_twice(|| check_rate_limit(harness, route, probe)).await),
        }
        if !route.methods.is_empty() {
            match unrouted_method(harness, probe) {
                Some(method) => {
                    let play = || check_unrouted_method(harness, route, probe, &method);
                    rows.push(retry::at_most_twice(play).await);
                }
                None => rows.push(skip(METHOD_NOT_ALLOWED, "other routes accept every method for its path")),
            }
        }
        for method in &route.deny_methods {
            let reaches_route = harness.probes.accepts(probe, method);
            if reaches_route && !is_never_routed(method) {
                let play = || check_rejection(harness, route, probe, DENIED_METHOD, (method, None));
                rows.push(retry::at_most_twice(play).await);
            } else {
                rows.push(skip(DENIED_METHOD, &format!("{method} does not reach the route")));
            }
        }
        rows.extend(check_clients(harness, route, probe).await);
        match &route.action {
            RouteAction::Forward => {}
            RouteAction::Redirect(redirect) => {
                rows.push(retry::at_most_twice(|| check_redirect(harness, (route, redirect), probe)).await);
            }
            RouteAction::Respond(fixed) => {
                rows.push(
                    retry::at_most_twice(|| check_fixed_response(harness, (route, fixed), probe)).await,
                );
            }
            RouteAction::RespondWithError => {
                let play = || check_rejection(harness, route, probe, RESPONDED, (&probe.method, None));
                rows.push(retry::at_most_twice(play).await);
            }
        }
    }
    rows
}

/// The rows of the second test address: it is in maintenance, in `deny_from`, or outside `allow_from`.
async fn check_clients(harness: &Harness, route: &RouteConfig, probe: &RouteProbe) -> Vec<ReportRow> {
    let skip =
        |fault, reason: &str| ReportRow::new(Section::Rejections, fault, Some(&route.name)).skipped(reason);
    let from = (&probe.method, Some(UNTRUSTED_CLIENT));
    let rejected = |fault| retry::at_most_twice(move || check_rejection(harness, route, probe, fault, from));
    let original = harness.original_config.routes.get(probe.route_index);
    let allow_from = original.map_or(&[][..], |route| &route.allow_from);
    let maintained = original.and_then(|route| route.maintenance.as_ref());
    let mut rows = Vec::new();
    let passes_maintenance = match maintained {
        None => true,
        Some(maintenance) if any_contains(&maintenance.allow_from, UNTRUSTED_CLIENT) => {
            rows.push(skip(MAINTENANCE, "maintenance.allow_from includes the second test address"));
            true
        }
        Some(_) => {
            rows.push(rejected(MAINTENANCE).await);
            false
        }
    };
    for (fault, applies) in
        [(DENIED_FROM, !route.deny_from.is_empty()), (NOT_ALLOWED_FROM, !allow_from.is_empty())]
    {
        match applies {
            false => {}
            true if !passes_maintenance => rows.push(skip(fault, "the route is in maintenance")),
            true if fault == NOT_ALLOWED_FROM && any_contains(allow_from, UNTRUSTED_CLIENT) => {
                rows.push(skip(fault, "allow_from includes the second test address"));
            }
            true => rows.push(rejected(fault).await),
        }
    }
    rows
}

/// Sends what could turn a redirect into one to another host, or into two fields.
async fn check_redirect(
    harness: &Harness,
    (route, redirect): (&RouteConfig, &Redirect),
    probe: &RouteProbe,
) -> ReportRow {
    const QUERIES: [&str; 5] =
        ["", "?a=b", "?%0d%0aset-cookie:%20a=b", "?x=//evil.invalid", "?next=https://evil.invalid/"];
    let status = redirect.status.code();
    let mut actual = String::new();
    let mut verdict = Verdict::Passed;
    for query in QUERIES {
        let request = RouteProbe { path: format!("{}{query}", probe.path), ..probe.clone() };
        let (raw_path, raw_query) = (probe.path.as_bytes(), query.trim_start_matches('?').as_bytes());
        let host = authority::routing_host(probe.host.as_bytes());
        let expected = redirect.target.location(&host, raw_path, raw_query);
        let outcome = send_ordinary(harness, (&request, &probe.method)).await;
        let checked = outcome.and_then(|response| {
            actual = describe_response(&response);
            let location = response.header("location").unwrap_or_default();
            if (response.status, location.as_bytes()) == (status, &expected[..]) {
                return Ok(());
            }
            Err(format!("{query}: {} to {location:?}", response.status))
        });
        if let Err(difference) = checked {
            verdict = Verdict::Failed(difference);
            break;
        }
    }
    ReportRow {
        section: Section::Rejections,
        fault: REDIRECTED.0,
        description: REDIRECTED.1,
        route: Some(route.name.clone()),
        expected: status.to_string(),
        actual,
        verdict,
        retried: false,
    }
}

/// Compares the response of the route with the declared one.
async fn check_fixed_response(
    harness: &Harness,
    (route, fixed): (&RouteConfig, &FixedResponse),
    probe: &RouteProbe,
) -> ReportRow {
    let row = ReportRow::new(Section::Rejections, RESPONDED, Some(&route.name));
    let expected = fixed.status().code().to_string();
    let media_type = fixed.media_type().and_then(|value| value.to_str().ok());
    match send_ordinary(harness, (probe, &probe.method)).await {
        Err(none) => row.judged(expected, none.clone(), Err(none)),
        Ok(response) => {
            let actual = describe_response(&response);
            let is_body = probe.method == Method::HEAD || response.body == fixed.body().as_ref();
            let result = match response.status == fixed.status().code() {
                false => Err(format!("expected {expected}, got {}", response.status)),
                true if response.header("content-type") != media_type => Err("another media type".to_owned()),
                true if !is_body => Err("another body".to_owned()),
                true => Ok(()),
            };
            row.judged(expected, actual, result)
        }
    }
}

/// Whether a rate limit of the route is enforced; `None` if the route has no rate limit.
fn has_enforced_rule(harness: &Harness, route: &RouteConfig) -> Option<bool> {
    let rules = route.rate_limits.iter().filter_map(|index| harness.config.rate_limits.get(*index));
    let modes: Vec<LimiterMode> = rules.map(|limit| limit.settings.mode).collect();
    (!modes.is_empty()).then(|| modes.contains(&LimiterMode::Enforce))
}

/// A method for which no route matches the probe's host and path.
fn unrouted_method(harness: &Harness, probe: &RouteProbe) -> Option<Method> {
    let methods = [Method::DELETE, Method::PATCH, Method::PUT, Method::POST, Method::GET];
    methods.into_iter().find(|method| harness.probes.route_for(&probe.host, &probe.path, method).is_none())
}

async fn check_unrouted_method(
    harness: &Harness,
    route: &RouteConfig,
    probe: &RouteProbe,
    method: &Method,
) -> ReportRow {
    let cause = Cause::MethodNotAllowed;
    let outcome = send_request(harness, &harness.client_gateway, None, (probe, method), cause).await;
    let unrouted = harness.probes.unrouted_rules(&harness.config, probe, true);
    let rules = ExpectationContext { config: &harness.config, route: None, unrouted, method };
    judge_row((route, rules), METHOD_NOT_ALLOWED, cause, outcome, |response| {
        response.header("allow").map(|_| ()).ok_or_else(|| "method not allowed without Allow".to_owned())
    })
}

/// CONNECT and TRACE are rejected before routing.
fn is_never_routed(method: &Method) -> bool {
    *method == Method::CONNECT || *method == Method::TRACE
}

async fn check_rate_limit(harness: &Harness, route: &RouteConfig, probe: &RouteProbe) -> ReportRow {
    let mut requests = 0;
    let rules = ExpectationContext::on_route(&harness.config, route, &probe.method);
    let own_error = matches!(route.action, RouteAction::RespondWithError)
        .then(|| rules.for_fault(Cause::RouteResponse, RequestSent::None));
    if own_error
        .as_ref()
        .is_some_and(|own| own.status == rules.for_fault(Cause::RateLimited, RequestSent::None).status)
    {
        let row = ReportRow::new(Section::Rejections, RATE_LIMITED, Some(&route.name));
        return row.skipped("its respond.code is that of a denied request");
    }
    let is_own_error =
        |response: &ReceivedResponse| own_error.as_ref().is_some_and(|own| own.status == response.status);
    let cause_of = |response: &ReceivedResponse| {
        Some(if is_own_error(response) { Cause::RouteResponse } else { Cause::RateLimited })
    };
    let outcome = loop {
        requests += 1;
        let target = (probe, &probe.method);
        match exchange(harness, &harness.low_limits_gateway, None, target, &cause_of).await {
            Ok(response) if (response.status < 400 || is_own_error(&response)) && requests < MAX_REQUESTS => {
            }
            other => break other,
        }
    };
    judge_row((route, rules), RATE_LIMITED, Cause::RateLimited, outcome, |response| {
        let header_names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
        match header_names.iter().find(|name| response.header(name).is_none()) {
            Some(name) => Err(format!("429 without {name}")),
            None => Ok(()),
        }
    })
}

async fn check_rejection(
    harness: &Harness,
    route: &RouteConfig,
    probe: &RouteProbe,
    fault: (&'static str, &'static str),
    (method, from): (&Method, Option<Ipv4Addr>),
) -> ReportRow {
    let cause = match fault {
        MAINTENANCE => Cause::Maintenance,
        RESPONDED => Cause::RouteResponse,
        _ => Cause::HttpRequestDenied,
    };
    let outcome = send_request(harness, &harness.client_gateway, from, (probe, method), cause).await;
    let rules = ExpectationContext::on_route(&harness.config, route, method);
    judge_row((route, rules), fault, cause, outcome, |_| Ok(()))
}

/// The row of a request that must get the error response of this cause.
pub(super) fn judge_row(
    (route, rules): (&RouteConfig, ExpectationContext<'_>),
    fault: (&'static str, &'static str),
    cause: Cause,
    outcome: Result<ReceivedResponse, String>,
    extra_check: impl Fn(&ReceivedResponse) -> Result<(), String>,
) -> ReportRow {
    let expectation = rules.for_fault(cause, RequestSent::None);
    let request_kind = RequestKind { head: *rules.method == Method::HEAD, http10: false };
    let (actual, verdict) = match outcome {
        Err(none) => (none.clone(), Verdict::Failed(none)),
        Ok(response) => {
            let verdict = expectation
                .check(&response, request_kind, rules.contract())
                .and_then(|()| extra_check(&response));
            (describe_response(&response), verdict.map_or_else(Verdict::Failed, |()| Verdict::Passed))
        }
    };
    let expected = expectation.describe();
    let route = Some(route.name.clone());
    ReportRow {
        section: Section::Rejections,
        fault: fault.0,
        description: fault.1,
        route,
        expected,
        actual,
        verdict,
        retried: false,
    }
}

/// Sends one request; an error response is recorded with this cause.
pub(super) async fn send_request(
    harness: &Harness,
    gateway: &RunningGateway,
    from: Option<Ipv4Addr>,
    target: (&RouteProbe, &Method),
    cause: Cause,
) -> Result<ReceivedResponse, String> {
    exchange(harness, gateway, from, target, &|_| Some(cause)).await
}

/// Sends one request whose response is below 400.
async fn send_ordinary(
    harness: &Harness,
    target: (&RouteProbe, &Method),
) -> Result<ReceivedResponse, String> {
    exchange(harness, &harness.client_gateway, None, target, &|_| None).await
}

async fn exchange(
    harness: &Harness,
    gateway: &RunningGateway,
    from: Option<Ipv4Addr>,
    (probe, method): (&RouteProbe, &Method),
    cause_of: &(dyn Fn(&ReceivedResponse) -> Option<Cause> + Sync),
) -> Result<ReceivedResponse, String> {
    let connector = GatewayConnector { source_address: from, ..harness.connect(gateway) };
    let stream =
        connector.connect(false).await.map_err(|error| format!("cannot connect to the gateway: {error}"))?;
    let mut reader = ResponseReader::new(GatewayStream::Left(stream), harness.load.scale(RESPONSE_TIMEOUT));
    let request = format!("{method} {} HTTP/1.1\r\nhost: {}\r\n\r\n", probe.path, probe.host);
    let _ = reader.stream.write_all(request.as_bytes()).await;
    let request_kind = RequestKind { head: *method == Method::HEAD, http10: false };
    match reader.read_response(request_kind).await {
        Ok(response) => {
            gateway.observed.record_response(response.status, cause_of(&response).map(Cause::name));
            Ok(response)
        }
        Err(read_error) => {
            gateway.observed.record_unknown(1);
            Err(format!("no response: {read_error:?}"))
        }
    }
}
