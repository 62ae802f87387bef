//! One request, step by step: route, admit, queue, forward, classify, respond, record.
//!
//! Each step is one call into the module that makes the decision; the order of the calls in [`take_steps`] is the
//! order in which a request is admitted. [`super::connection`] has read the request before.

use std::net::IpAddr;

use super::access;
use super::attempt::{self, outcome, queue};
use super::classify;
use super::context::{Exchange, Forwarding, Interrupt, ReceivedRequest, RequestContext};
use super::downstream::Downstream;
use super::gateway::Gateway;
use super::limits::{self, Admitted};
use super::message::request::Request;
use super::record::{self, RejectedRequest, RequestEnd};
use super::request_values::{self, redirect_location};
use super::respond::{FinalResponse, respond};
use super::response_headers::{ResponseHeaderMutations, cors};
use super::routing::{self, Routing};
use crate::config::RouteAction;
use crate::http::reported_origin::Endpoint;

/// Serves one valid request: sends its response and records it.
pub(super) async fn serve(gateway: &Gateway, peer_ip: IpAddr, client: &mut Downstream, request: &Request) {
    let snapshot = gateway.snapshot.load_full();
    let context = RequestContext::begin(gateway, &snapshot, request, peer_ip);
    let routing = routing::route(&context, request, client.endpoint());
    let context = context.with_route(routing.route());
    let mut exchange = Exchange::begin(&context, client);
    let end = match take_steps(&mut exchange, routing, request).await {
        Ok(end) => end,
        Err(Interrupt::Fault(fault)) => respond(&mut exchange, FinalResponse::Fault(fault)).await,
        Err(Interrupt::ClientDisconnected) => RequestEnd::ClientDisconnected,
    };
    outcome::conclude(&mut exchange, &end);
    record::record(&exchange, &end);
}

/// Rejects a malformed request, or a connection over the connection limit.
pub(super) async fn reject(
    gateway: &Gateway,
    peer_ip: IpAddr,
    client: &mut Downstream,
    rejected: RejectedRequest,
) {
    let snapshot = gateway.snapshot.load_full();
    let RejectedRequest { fault, request_line, response_headers, is_grpc } = rejected;
    let received = ReceivedRequest::Rejected { request_line: &request_line, is_grpc };
    let context = RequestContext::unrouted(gateway, &snapshot, received, peer_ip);
    let mut exchange = Exchange { response_headers, ..Exchange::begin(&context, client) };
    let end = respond(&mut exchange, FinalResponse::Fault(fault)).await;
    record::record(&exchange, &end);
}

/// Takes a request through its steps, in order. The first fault ends it.
async fn take_steps<'a>(
    exchange: &mut Exchange<'a>,
    routing: Routing<'a>,
    request: &'a Request,
) -> Result<RequestEnd, Interrupt> {
    let context = exchange.context;
    // Every response of a route has the fields that the route declares.
    request_values::apply_response_edits(&mut exchange.response_headers, context, request);
    // Every response of a route has its CORS fields, errors included. A preflight ends here: it consumes no quota.
    let route = match routing {
        Routing::Route(route) => route,
        Routing::Preflight { policy, method, .. } => {
            let fields = cors::preflight(&mut exchange.response_headers, policy, request, &method)?;
            return Ok(respond(exchange, FinalResponse::Preflight(fields)).await);
        }
        Routing::NoRoute { fault, allow } => {
            cors::apply(&mut exchange.response_headers, context.snapshot, context.route, request);
            if let Some(methods) = allow {
                exchange.response_headers.set_allow(methods);
            }
            return Err(fault.into());
        }
    };
    cors::apply(&mut exchange.response_headers, context.snapshot, context.route, request);
    // Before the limits: a denied request consumes nothing.
    if let Err(fault) = access::check(context, route, request) {
        limits::add_current_state(&mut exchange.response_headers, context, route, request);
        return Err(fault.into());
    }
    // The rules of a route are debited together or not at all.
    let Admitted { buffered_body, reset_candidates } = limits::admit(exchange, route, request).await?;
    context.gateway.panic_on_test_path(request.path());
    // A redirect uses up quota like any response of the route.
    if let RouteAction::Redirect(redirect) = &route.config.action {
        let location = redirect_location(redirect, request)?;
        return Ok(respond(exchange, FinalResponse::Redirect(redirect.status, location)).await);
    }
    // Before the queue: a path that cannot be rewritten needs no upstream.
    let target = request_values::rewritten_target(route, request)?;
    // An open breaker refuses a request before it waits.
    outcome::pass_breaker(exchange, route)?;
    // Only admitted requests wait for the upstream, first come, first served.
    let permit = queue::acquire(exchange, route, buffered_body.as_ref()).await?;
    let mut forwarding = Forwarding::begin(exchange, route, request, buffered_body, permit);
    forwarding.target = target;
    forwarding.edits = request_values::request_edits(context, route, request);
    let mut response = attempt::forward(exchange, &mut forwarding).await?;
    // A login that succeeded does not count towards its limit.
    if !reset_candidates.is_empty() {
        limits::reset(reset_candidates, response.response_head.parsed.status).await;
    }
    // Nothing is sent before the response is classified: a status cannot be taken back.
    let classification = classify::classify(exchange, &forwarding, &mut response).await;
    Ok(respond(exchange, FinalResponse::Upstream(&mut forwarding, response, classification)).await)
}

/// Computes the response headers of a request again after a panic, when its [`Exchange`] is lost.
pub(super) fn panic_response_headers(
    gateway: &Gateway,
    peer_ip: IpAddr,
    request: &Request,
    endpoint: Endpoint,
) -> ResponseHeaderMutations {
    let snapshot = gateway.snapshot.load();
    let context = RequestContext::begin(gateway, &snapshot, request, peer_ip);
    let route = routing::route(&context, request, endpoint).route();
    let context = context.with_route(route);
    let mut response_headers = ResponseHeaderMutations::default();
    request_values::apply_response_edits(&mut response_headers, &context, request);
    cors::apply(&mut response_headers, &snapshot, route, request);
    if let Some(route) = route {
        limits::add_current_state(&mut response_headers, &context, route, request);
    }
    response_headers
}
