//! Runs the cases of routes on every route that has their feature: what it rejects or answers itself, and what its
//! listener and its upstream do.

use http::Method;

use super::client_rows::{RowTarget, profile_for, response_timeout, run_case, skip_reason};
use super::gateway_states::{prepare, reaches_upstream, wait_until_unused};
use super::harness::{Harness, any_contains};
use super::route_probe::RouteProbe;
use super::special_gateways;
use super::{ReportRow, Section, retry};
use crate::config::{RouteAction, RouteConfig};
use crate::conformance::case::{GatewayKind, RouteFeature};
use crate::conformance::{
    ClientFault, ClientProtocol, GatewayConnector, GatewayProfile, ReceivedResponse, RequestKind, TestContext,
};
use crate::limit::{KeyPart, LimiterMode, LimiterSettings, UnreadableBody};

/// Runs all of them, one after the other.
pub(super) async fn run_all(harness: &Harness) -> Vec<ReportRow> {
    let mut rows = Vec::new();
    let mut unprepared = Vec::new();
    for special in &special_gateways::ALL {
        if let Err(reason) = prepare(harness, special).await {
            unprepared.push((special.kind, reason));
        }
    }
    for (route, probe) in harness.config.routes.iter().zip(&harness.probes.probes) {
        let Ok(probe) = probe else { continue };
        for case in harness.cases.client_faults(ClientProtocol::Route) {
            let row =
                || ReportRow::new(Section::Rejections, (case.name, case.description), Some(&route.name));
            for planned in plan(harness, case, (route, probe)) {
                let failed = unprepared.iter().find(|(kind, _)| *kind == case.gateway);
                rows.push(match (planned, failed) {
                    (Err(reason), _) => row().skipped(reason),
                    (_, Some((_, reason))) => row().judged(String::new(), String::new(), Err(reason.clone())),
                    (Ok(profile), None) => {
                        let run = || run_row(harness, case, probe, &profile);
                        ReportRow {
                            section: Section::Rejections,
                            route: row().route,
                            ..retry::at_most_twice(run).await
                        }
                    }
                });
            }
        }
    }
    rows
}

async fn run_row(
    harness: &Harness,
    case: &ClientFault,
    probe: &RouteProbe,
    profile: &GatewayProfile,
) -> ReportRow {
    let gateway = harness.gateway(case.gateway);
    if matches!(case.gateway, GatewayKind::FewConnections | GatewayKind::FewConnectionsPerClient) {
        wait_until_unused(harness, gateway).await;
    }
    let method = Method::from_bytes(profile.read_method.as_bytes()).unwrap_or_default();
    let probe = &RouteProbe { method, ..probe.clone() };
    let target = RowTarget { harness, probe, request_targets: case.request_targets(profile) };
    let check = |expected, kind: RequestKind, response: &ReceivedResponse| {
        target.check_response(expected, kind, response)
    };
    let context = TestContext {
        connector: GatewayConnector { source_address: case.from, ..harness.connect(gateway) },
        profile,
        upstream: &harness.client_upstream,
        limit: response_timeout(harness),
        check_response: &check,
    };
    run_case(&target, case, &context, gateway).await
}

/// One entry for each run of a case on a route: the properties of its requests, or why it does not apply. None if the
/// route does not have the feature.
fn plan(
    harness: &Harness,
    case: &ClientFault,
    (route, probe): (&RouteConfig, &RouteProbe),
) -> Vec<Result<GatewayProfile, String>> {
    let (methods, member) = match applies(harness, case, (route, probe)) {
        Ok(Some(found)) => found,
        Ok(None) => return Vec::new(),
        Err(reason) => return vec![Err(reason.to_owned())],
    };
    let run_with = |method: Method| {
        let reaches_route = harness.probes.accepts(probe, &method);
        let is_never_routed = method == Method::CONNECT || method == Method::TRACE;
        if case.on == Some(RouteFeature::DenyMethods) && (!reaches_route || is_never_routed) {
            return Err(format!("{method} does not reach the route"));
        }
        let posts = harness.probes.accepts(probe, &Method::POST) && !route.denies(&Method::POST);
        let write = if posts { Method::POST } else { method.clone() };
        let own = RouteProbe { method, ..probe.clone() };
        let profile = GatewayProfile { member: member.clone(), ..profile_for(harness, &own, &write) };
        skip_reason(harness, probe, &profile, case).map_or(Ok(profile), Err)
    };
    methods.into_iter().map(run_with).collect()
}

/// The methods with which a case runs on a route, and the member of the route's key.
///
/// # Errors
/// The route has the feature, but the case cannot run.
fn applies(
    harness: &Harness,
    case: &ClientFault,
    (route, probe): (&RouteConfig, &RouteProbe),
) -> Result<Option<(Vec<Method>, String)>, &'static str> {
    let Some(original) = harness.original_config.routes.get(probe.route_index) else { return Ok(None) };
    let includes = |networks| case.from.is_some_and(|from| any_contains(networks, from));
    let maintenance = original.maintenance.as_ref();
    let in_maintenance = maintenance.is_some_and(|maintenance| !includes(&maintenance.allow_from));
    let limits = || route.rate_limits.iter().filter_map(|index| harness.config.rate_limits.get(*index));
    let mut member = String::new();
    let applies = match case.on {
        None => false,
        Some(RouteFeature::Listener) => first_open_route(harness) == Some(probe.route_index),
        Some(RouteFeature::Upstream) => reaches_upstream(route),
        Some(RouteFeature::Redirect) => matches!(route.action, RouteAction::Redirect(_)),
        Some(RouteFeature::Respond) => {
            matches!(route.action, RouteAction::Respond(_) | RouteAction::RespondWithError)
        }
        Some(RouteFeature::Methods) if route.methods.is_empty() => false,
        Some(RouteFeature::Methods) => {
            let methods = [Method::DELETE, Method::PATCH, Method::PUT, Method::POST, Method::GET];
            let unrouted =
                |method: &Method| harness.probes.route_for(&probe.host, &probe.path, method).is_none();
            let method = methods.into_iter().find(unrouted);
            let method = method.ok_or("other routes accept every method for its path")?;
            return Ok(Some((vec![method], member)));
        }
        Some(RouteFeature::DenyMethods) => return Ok(Some((route.deny_methods.clone(), member))),
        Some(RouteFeature::Maintenance) if maintenance.is_some() && !in_maintenance => {
            return Err("maintenance.allow_from includes the second test address");
        }
        Some(RouteFeature::Maintenance) => in_maintenance,
        Some(RouteFeature::DenyFrom) => !route.deny_from.is_empty(),
        Some(RouteFeature::AllowFrom) if includes(&original.allow_from) => {
            return Err("allow_from includes the second test address");
        }
        Some(RouteFeature::AllowFrom) => !original.allow_from.is_empty(),
        Some(RouteFeature::RateLimits) => {
            let is_enforced = limits().any(|limit| limit.settings.mode == LimiterMode::Enforce);
            if !is_enforced && limits().next().is_some() {
                return Err("its rate limits run in shadow mode");
            }
            is_enforced
        }
        Some(RouteFeature::BodyKey) => {
            let found = limits().find_map(|limit| rejected_member(&limit.settings));
            member = found.unwrap_or_default().to_owned();
            found.is_some()
        }
    };
    if applies && in_maintenance && matches!(case.on, Some(RouteFeature::DenyFrom | RouteFeature::AllowFrom))
    {
        return Err("the route is in maintenance");
    }
    Ok(applies.then(|| (vec![probe.method.clone()], member)))
}

/// The first route that forwards the requests of everybody, also of peers without an address.
fn first_open_route(harness: &Harness) -> Option<usize> {
    let is_open = |probe: &&RouteProbe| {
        harness.route(probe).is_some_and(|route| {
            reaches_upstream(route) && route.allow_from.is_empty() && route.deny_from.is_empty()
        })
    };
    harness.probes.probes.iter().flatten().find(is_open).map(|probe| probe.route_index)
}

/// The member of the body in the key of a rule that rejects what it cannot read.
fn rejected_member(settings: &LimiterSettings) -> Option<&str> {
    settings.key.iter().find_map(|part| match part {
        KeyPart::Body(name) if settings.unreadable == UnreadableBody::Reject => Some(&**name),
        _ => None,
    })
}
