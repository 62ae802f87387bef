//! Tests the requests that the configuration rejects: rate limits, methods that no route accepts, denied methods and
//! `allow_from`.
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
use crate::config::RouteConfig;
use crate::conformance::response_reader::{ReceivedResponse, ResponseReader};
use crate::conformance::{GatewayConnector, RequestKind};
use crate::contract::{Cause, RequestSent};
use crate::limit::LimiterMode;

const RATE_LIMITED: (&str, &str) = ("rate-limited", "sends more requests than the route's rate limits allow");
const DENIED_METHOD: (&str, &str) = ("denied-method", "uses a method that the route denies");
const METHOD_NOT_ALLOWED: (&str, &str) =
    ("method-not-allowed", "uses a method that no route accepts for the path");
const NOT_ALLOWED_FROM: (&str, &str) = ("not-allowed-from", "connects from an address outside allow_from");
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(12);
/// The second request exceeds the limit; one more is allowed as a margin.
const MAX_REQUESTS: usize = 3;

/// Runs all rejection rows.
pub(super) async fn run_all(harness: &Harness) -> Vec<ReportRow> {
    let mut rows = Vec::new();
    for (route, probe) in harness.config.routes.iter().zip(&harness.probes.probes) {
        let skip = |fault, reason: &str| {
            ReportRow::skipped(Section::Rejections, fault, Some(&route.name), reason.to_owned())
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
        let original =
            harness.original_config.routes.get(probe.route_index).map(|route| &route.allow_from[..]);
        match original {
            None | Some([]) => {}
            Some(networks) if any_contains(networks, UNTRUSTED_CLIENT) => {
                rows.push(skip(NOT_ALLOWED_FROM, "allow_from includes the second test address"));
            }
            Some(_) => {
                let play = || {
                    check_rejection(
                        harness,
                        route,
                        probe,
                        NOT_ALLOWED_FROM,
                        (&probe.method, Some(UNTRUSTED_CLIENT)),
                    )
                };
                rows.push(retry::at_most_twice(play).await);
            }
        }
    }
    rows
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
    let outcome = loop {
        requests += 1;
        match send_request(
            harness,
            &harness.low_limits_gateway,
            None,
            (probe, &probe.method),
            Cause::RateLimited,
        )
        .await
        {
            Ok(response) if response.status == 200 && requests < MAX_REQUESTS => {}
            other => break other,
        }
    };
    let rules = ExpectationContext::on_route(&harness.config, route, &probe.method);
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
    let cause = Cause::HttpRequestDenied;
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
    (probe, method): (&RouteProbe, &Method),
    cause: Cause,
) -> Result<ReceivedResponse, String> {
    let connector = GatewayConnector { source_address: from, ..harness.connect(gateway) };
    let stream =
        connector.connect(false).await.map_err(|error| format!("cannot connect to the gateway: {error}"))?;
    let mut reader = ResponseReader::new(stream, harness.load.scale(RESPONSE_TIMEOUT));
    let request = format!("{method} {} HTTP/1.1\r\nhost: {}\r\n\r\n", probe.path, probe.host);
    let _ = reader.stream.write_all(request.as_bytes()).await;
    let request_kind = RequestKind { head: *method == Method::HEAD, http10: false };
    match reader.read_response(request_kind).await {
        Ok(response) => {
            gateway.observed.record_response(response.status, Some(cause.name()));
            Ok(response)
        }
        Err(read_error) => {
            gateway.observed.record_unknown(1);
            Err(format!("no response: {read_error:?}"))
        }
    }
}
