//! One request, step by step: route, admit, queue, forward, classify, respond, record.
//!
//! Each step is one call into the module that makes the decision; the order of the calls in [`take_steps`] is the
//! order in which a request is admitted. [`super::connection`] has read the request before.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::access;
use super::attempt::{self, outcome, queue};
use super::classify;
use super::context::{Exchange, Forwarding, Interrupt, ReceivedRequest, RequestContext};
use super::downstream::Downstream;
use super::gateway::Gateway;
use super::header_mutations::{ResponseHeaderMutations, cors};
use super::limits::{self, Admitted};
use super::message::request::Request;
use super::record::{self, RejectedFacts, RejectedRequest, RequestEnd};
use super::respond::{FinalResponse, respond};
use super::route_edits::{self, redirect_location};
use super::routing::{self, Routing};
use crate::config::RouteAction;
use crate::contract::{Cause, Fault, Phase, RequestSent};
use crate::http::authority;
use crate::http::peer::Peer;
use crate::tls::client_certificate::ClientCertificate;

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestSource<'a> {
    /// The index of the listener.
    pub(super) listener: usize,
    /// As in [`RequestContext::peer`].
    pub(super) peer: Peer,
    /// The verified certificate of the client, if it has presented one to the listener.
    pub(super) certificate: Option<&'a ClientCertificate>,
}

/// Serves one valid request: sends its response and records it.
pub(super) async fn serve(
    gateway: &Gateway,
    RequestSource { listener, peer, certificate }: RequestSource<'_>,
    client: &mut Downstream,
    request: &Request,
) {
    let snapshot = gateway.snapshot.load_full();
    let context = RequestContext::begin(gateway, &snapshot, request, peer, certificate);
    let routing = routing::route(&context, request, listener, client.listener_origin());
    let context = context.with_route(routing.route(), routing.settings());
    let mut exchange = Exchange::begin(&context, client);
    let end = match take_steps(&mut exchange, routing, request).await {
        Ok(end) => end,
        Err(Interrupt::Fault(fault)) => respond(&mut exchange, FinalResponse::Fault(fault)).await,
        Err(Interrupt::ClientDisconnected) => RequestEnd::ClientDisconnected { status: None },
    };
    let ended = Instant::now();
    outcome::record_end(&mut exchange, &end, ended);
    record::record_request_end(&exchange, &end, ended);
}

/// Rejects a request before it is routed: it is malformed or too slow, or its connection is over a limit.
pub(super) async fn reject(
    gateway: &Gateway,
    RequestSource { listener, peer, .. }: RequestSource<'_>,
    client: &mut Downstream,
    rejected: RejectedRequest,
) {
    let snapshot = gateway.snapshot.load_full();
    let RejectedRequest { fault, request_line, facts } = rejected;
    let RejectedFacts { host, origin, accept, user_agent, grpc } = facts;
    let received = ReceivedRequest::Rejected {
        request_line: &request_line,
        grpc,
        accept: accept.as_deref(),
        host: host.as_deref(),
        user_agent: user_agent.as_deref(),
    };
    let host = host.as_deref().map(authority::routing_host);
    let settings = snapshot.unrouted_settings(listener, host.as_deref(), None);
    let header_mutations = cors::for_rejected(settings.cors, origin.as_deref(), grpc);
    let context = RequestContext::unrouted(gateway, &snapshot, settings, received, peer);
    let mut exchange = Exchange { header_mutations, ..Exchange::begin(&context, client) };
    let end = respond(&mut exchange, FinalResponse::Fault(fault)).await;
    record::record_request_end(&exchange, &end, Instant::now());
}

/// Takes a request through its steps, in order. The first fault ends it.
async fn take_steps<'a>(
    exchange: &mut Exchange<'a>,
    routing: Routing<'a>,
    request: &'a Request,
) -> Result<RequestEnd, Interrupt> {
    let context = exchange.context;
    // Every response of a route has the fields that the route declares.
    route_edits::apply_response_edits(&mut exchange.header_mutations, context, request);
    // A preflight ends here: it consumes no quota.
    let route = match routing {
        Routing::Route(route) => route,
        Routing::Preflight { route, policy, method, .. } => {
            let headers = &mut exchange.header_mutations;
            let fields = cors::preflight(headers, policy, request, &method, route.is_some())?;
            return Ok(respond(exchange, FinalResponse::Preflight(fields)).await);
        }
        Routing::Unroutable { fault, allow, .. } => {
            cors::apply(&mut exchange.header_mutations, context.settings.cors, request);
            if let Some(methods) = allow {
                exchange.header_mutations.set_allow(methods);
            }
            return Err(fault.into());
        }
    };
    // Errors have CORS fields too.
    cors::apply(&mut exchange.header_mutations, context.settings.cors, request);
    // Before the limits: a denied request consumes nothing.
    if let Err(fault) = access::check(context, route, request) {
        limits::add_current_state(&mut exchange.header_mutations, context, route, request);
        return Err(fault.into());
    }
    // The rate limits of a route are debited together or not at all.
    let Admitted { buffered_body, reset_candidates } = limits::admit(exchange, route, request).await?;
    context.gateway.panic_on_test_path(request.path());
    // Redirects and fixed responses use up quota, like forwarded requests.
    match &route.config.action {
        RouteAction::Forward => {}
        RouteAction::Redirect(redirect) => {
            let location = redirect_location(redirect, request)?;
            return Ok(respond(exchange, FinalResponse::Redirect(redirect.status, location)).await);
        }
        RouteAction::Respond(fixed) => return Ok(respond(exchange, FinalResponse::Fixed(fixed)).await),
        RouteAction::RespondWithError => {
            return Err(Fault::new(Cause::RouteResponse, Phase::Admit).into());
        }
    }
    // Before the queue: a path that cannot be rewritten needs no upstream.
    let target = route_edits::upstream_target(route, request)?;
    // An open breaker refuses a request before it waits.
    outcome::check_breaker(exchange, route)?;
    // Only admitted requests wait for the upstream, first come, first served.
    let acquired = queue::acquire(exchange, route, request, buffered_body.as_ref()).await?;
    let mut forwarding = Forwarding::begin(exchange, route, request, buffered_body, acquired);
    forwarding.target = target;
    forwarding.edits = route_edits::request_edits(context, route, request);
    let mut response = attempt::forward(exchange, &mut forwarding).await?;
    // `reset_on`: some statuses reset the counts of the request's keys, for example that of a login that succeeded.
    if !reset_candidates.is_empty() {
        limits::reset(reset_candidates, response.response_head.parsed.status).await;
    }
    // Classify before the response headers are sent: they cannot be changed afterwards.
    let classification = classify::classify(exchange, &forwarding, &mut response).await;
    Ok(respond(exchange, FinalResponse::Upstream(&mut forwarding, response, classification)).await)
}

/// Responds to a request whose steps have panicked, under the contract of its route. The panic has destroyed its
/// [`Exchange`]: what is needed is determined again, and the response has a new request ID.
pub(super) async fn respond_after_panic(
    gateway: &Gateway,
    RequestSource { listener, peer, certificate }: RequestSource<'_>,
    client: &mut Downstream,
    request: &Request,
) {
    let snapshot = gateway.snapshot.load_full();
    let context = RequestContext::begin(gateway, &snapshot, request, peer, certificate);
    // Routing, or a rate limit, may be what panicked.
    let listener_origin = client.listener_origin();
    let routing =
        catch_unwind(AssertUnwindSafe(|| routing::route(&context, request, listener, listener_origin)));
    let context = match &routing {
        Ok(routing) => context.with_route(routing.route(), routing.settings()),
        Err(_) => context.with_route(None, snapshot.listener_settings(listener)),
    };
    let header_mutations = catch_unwind(AssertUnwindSafe(|| rebuild_header_mutations(&context, request)));
    let mut exchange = Exchange {
        header_mutations: header_mutations.unwrap_or_default(),
        ..Exchange::begin(&context, client)
    };
    // It is not known how much was sent, and `none` would tell the client that a retry is safe.
    exchange.record.request_sent = RequestSent::Full;
    let fault = Fault::new(Cause::ProxyInternalError, Phase::Internal);
    let end = respond(&mut exchange, FinalResponse::Fault(fault)).await;
    record::record_request_end(&exchange, &end, Instant::now());
}

fn rebuild_header_mutations(context: &RequestContext<'_>, request: &Request) -> ResponseHeaderMutations {
    let mut header_mutations = ResponseHeaderMutations::default();
    route_edits::apply_response_edits(&mut header_mutations, context, request);
    cors::apply(&mut header_mutations, context.settings.cors, request);
    if let Some(route) = context.route {
        limits::add_current_state(&mut header_mutations, context, route, request);
    }
    header_mutations
}
