//! One request, as a straight line: route, admit, wait for a turn, forward, judge, answer, record.
//!
//! Each step is one call into the room that owns the decision. Reading happens before ([`super::connection`]); this file
//! decides nothing by itself and writes nothing by itself.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method};

use super::attempt::queue;
use super::attempt::{self, UpstreamResponse};
use super::classify::{self, Replacement, Verdict};
use super::clock::RequestClock;
use super::context::{Interrupt, RequestContext, RequestLog};
use super::downstream::Downstream;
use super::gateway::Gateway;
use super::limits;
use super::local_reply::{self, SendResult};
use super::message::request::Request;
use super::record::{self, RejectedRequest, RequestEnd, RequestScope};
use super::relay::{self, RelayOutcome};
use super::reply_builder;
use super::response_headers::ResponseHeaderMutations;
use super::response_headers::cors;
use super::upload::Upload;
use super::upstream_conn::{UpstreamConn, UpstreamResponseHead};
use crate::contract::{Cause, Evidence, Fault, LocalReply, Phase, Trigger};
use crate::http::cors::HeaderField;
use crate::http::upgrade::UpgradeOffer;
use crate::http::{authority, forwarded, path};
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::ResponseOrigin;
use crate::upstream::concurrency::Permit;
use crate::upstream::http2::HttpVersionPolicy;

/// Serves one request that was understood, to its end.
pub(super) async fn serve(gateway: &Gateway, peer_ip: IpAddr, client: &mut Downstream, request: &Request) {
    let snapshot = gateway.snapshot.load_full();
    let mut log = begin_log(&snapshot, peer_ip, request);

    if let Some(method) = cors::preflight_method(request) {
        let route = find_route(&snapshot, request, &method).ok();
        if let Some(policy) = cors::policy(&snapshot, route) {
            let scope = RequestScope::for_request(gateway, &snapshot, route, request);
            let preflight_headers = cors::preflight(&mut log.response_headers, policy, request, &method);
            let end = reply_to_preflight(&scope, client, preflight_headers, &mut log).await;
            return record::record(&scope, &log, client, &end);
        }
    }
    let route = find_route(&snapshot, request, &request.method);
    let scope = RequestScope::for_request(gateway, &snapshot, route.as_ref().ok().copied(), request);
    cors::apply(&mut log.response_headers, &snapshot, scope.route, request);
    let admitted = match route {
        Err(fault) => Err(Interrupt::Fault(fault)),
        Ok(route) if route.limits_need_io => {
            Box::pin(admit_with_io(gateway, &snapshot, route, client, request, &mut log)).await
        }
        Ok(route) => limits::admit(&snapshot, route, request, None, &mut log)
            .and_then(|()| check_request(gateway, route, request, &log))
            .map(|()| (route, None))
            .map_err(Interrupt::Fault),
    };
    let end = match admitted {
        Ok((route, buffered_body)) => {
            forward_and_respond(gateway, &snapshot, route, peer_ip, client, request, buffered_body, &mut log)
                .await
        }
        Err(Interrupt::Fault(fault)) => reply_to_fault(&scope, client, fault, &mut log).await,
        Err(Interrupt::ClientDisconnected) => RequestEnd::ClientDisconnected,
    };
    record::record(&scope, &log, client, &end);
}

/// Answers a head that is not a request, or a connection that has no place.
pub(super) async fn reject(
    gateway: &Gateway,
    peer_ip: IpAddr,
    client: &mut Downstream,
    rejected: RejectedRequest,
) {
    let snapshot = gateway.snapshot.load_full();
    let mut log = RequestLog::begin(reply_builder::new_request_id(), peer_ip.to_canonical());
    log.request_line = rejected.request_line;
    log.response_headers = rejected.response_headers;
    let rejected_grpc = rejected.is_grpc;
    let scope = RequestScope { gateway, snapshot: &snapshot, route: None, request: None, rejected_grpc };
    let end = reply_to_fault(&scope, client, rejected.fault, &mut log).await;
    record::record(&scope, &log, client, &end);
}

/// Admits a request whose rate limits take time: they count in a store, or by what the client has yet to send.
async fn admit_with_io<'a>(
    gateway: &Gateway,
    snapshot: &Snapshot,
    route: &'a Route,
    client: &mut Downstream,
    request: &Request,
    log: &mut RequestLog,
) -> Result<(&'a Route, Option<Upload>), Interrupt> {
    let checked = check_request(gateway, route, request, log);
    // Nobody is invited to send a body that is refused anyway.
    let buffered_body = if route.limits_read_body && checked.is_ok() {
        limits::buffer_body::buffer_body(snapshot, route, client, request, log).await?
    } else {
        None
    };
    let body = buffered_body.as_ref().and_then(Upload::buffered_body);
    if route.rate_limits.iter().any(|rule| rule.store.is_some()) {
        limits::admit_with_stores(snapshot, route, request, body, log).await
    } else {
        limits::admit(snapshot, route, request, body, log)
    }
    .and(checked)
    .map(|()| (route, buffered_body))
    .map_err(Interrupt::Fault)
}

/// A request that reached a route: wait for a turn, forward, judge, answer. `buffered_body` is its body, where that was read before.
#[expect(clippy::too_many_arguments, reason = "the parts of a flow, before there is one")]
async fn forward_and_respond(
    gateway: &Gateway,
    snapshot: &Arc<Snapshot>,
    route: &Route,
    peer_ip: IpAddr,
    client: &mut Downstream,
    request: &Request,
    buffered_body: Option<Upload>,
    log: &mut RequestLog,
) -> RequestEnd {
    let scope = RequestScope::for_request(gateway, snapshot, Some(route), request);
    let mut clock = RequestClock::start(log.started, route.timeouts());
    clock.pause(log.body_read_time);
    let permit = match queue::acquire(route, &clock, client, log).await {
        Ok(permit) => permit,
        Err(Interrupt::Fault(fault)) => return reply_to_fault(&scope, client, fault, log).await,
        Err(Interrupt::ClientDisconnected) => return RequestEnd::ClientDisconnected,
    };
    // The time in line was not the client's silence.
    let admitted_at = permit.as_ref().map_or(log.started, Permit::acquired_at);
    // Given back in this order, and after the connection: the next one's turn comes with a connection to use.
    let upstream_guards = (permit, route.upstream_metrics.in_flight());
    let mut upload = buffered_body.unwrap_or_else(|| Upload::new(client, route.config.max_body, admitted_at));
    upload.reset_idle_timers(admitted_at);
    if client.is_h2() && request.is_grpc() {
        upload.set_idle_timeout(route.timeouts().stream_idle);
    }
    let mut context = RequestContext {
        gateway,
        snapshot,
        route,
        request,
        upload,
        clock,
        forwarded_for: forwarded_for(snapshot, route, request, peer_ip, log.client_ip),
        offer: upgrade_offer(route, request),
        client,
        log,
    };
    let mut response = match attempt::forward(&mut context).await {
        Ok(response) => response,
        Err(Interrupt::Fault(fault)) => {
            // The upstream has no part in what follows: the next one's turn.
            drop(upstream_guards);
            return reply_to_fault(&scope, context.client, fault, context.log).await;
        }
        Err(Interrupt::ClientDisconnected) => return RequestEnd::ClientDisconnected,
    };
    if !context.log.reset_candidates.is_empty() {
        limits::reset(context.log, response.response_head.facts.status).await;
    }
    if response.response_head.is_switching_protocols() {
        // The tunnel is the request: it keeps its place until it ends.
        let _upstream_guards = upstream_guards;
        return Box::pin(forward_upgrade(&scope, &mut context, response)).await;
    }
    let verdict = classify::classify(&mut context, &mut response).await;
    // What is left to do when the upstream's part is over may take the client's time, and is not the next one's to wait for.
    let release_upstream = |conn: UpstreamConn| {
        conn.release(&route.upstream);
        drop(upstream_guards);
    };
    if context.client.response_sender().is_none() {
        // It has left while its answer came. What is not sent is not counted as sent.
        release_upstream(response.conn);
        return RequestEnd::ClientDisconnected;
    }
    match verdict {
        Verdict::Pass => forward_response(&scope, &mut context, response, &[], release_upstream).await,
        Verdict::PassBuffered(buffered) => {
            forward_response(&scope, &mut context, response, &buffered, release_upstream).await
        }
        Verdict::PassConforming(error) => {
            let UpstreamResponse { conn, response_head } = response;
            release_upstream(conn);
            record::count_response(
                &scope,
                response_head.facts.status,
                ResponseOrigin::Upstream,
                None,
                context.log,
            );
            let retry_after = route.config.errors.retry_after;
            let relayed = relay::forward_error(&mut context, &response_head, &error, retry_after).await;
            relay_end(response_head.facts.status, relayed)
        }
        Verdict::Replace(replacement) => {
            let UpstreamResponse { conn, response_head } = response;
            release_upstream(conn);
            send_replacement(&scope, &mut context, &response_head, replacement).await
        }
    }
}

/// The change of protocol that the upstream is offered; one that speaks HTTP/2 alone has no word for it.
fn upgrade_offer<'a>(route: &Route, request: &'a Request) -> Option<UpgradeOffer<'a>> {
    let http2_only = route.upstream.transport().http2().version_policy() == HttpVersionPolicy::Http2;
    if http2_only { None } else { request.upgrade_offer(&route.config.upgrades) }
}

/// Who is asking, under which id, since when.
fn begin_log(snapshot: &Snapshot, peer_ip: IpAddr, request: &Request) -> RequestLog {
    let client_config = &snapshot.client;
    let trusted = !client_config.trusted_proxies.is_empty()
        && client_config.trusted_proxies.iter().any(|network| network.contains(&peer_ip.to_canonical()));
    let trusted_id = if trusted { request.trusted_id() } else { None };
    let id: HeaderValue = trusted_id.unwrap_or_else(reply_builder::new_request_id);
    RequestLog::begin(id, request.client_ip(peer_ip, client_config))
}

/// The route of a request; a preflight is routed by the `method` it asks for.
fn find_route<'a>(snapshot: &'a Snapshot, request: &Request, method: &Method) -> Result<&'a Route, Fault> {
    let host = authority::routing_host(&request.authority);
    let path = path::normalise(request.path());
    let route_index = snapshot.router.find(&host, &path, method);
    let route = route_index.and_then(|index| snapshot.routes.get(index));
    if request.dot_segments && !route.is_some_and(|route| route.config.lenient_paths) {
        let evidence = Evidence::from_static("the path has dot segments");
        return Err(Fault::new(Cause::AmbiguousPath, Phase::Route).with_evidence(evidence));
    }
    route.ok_or_else(|| Fault::new(Cause::DestinationNotFound, Phase::Route))
}

/// What the answer to a request wears; for a panic, after which nothing else is known any more.
pub(super) fn panic_response_headers(
    gateway: &Gateway,
    peer_ip: IpAddr,
    request: &Request,
) -> ResponseHeaderMutations {
    let snapshot = gateway.snapshot.load();
    let route = find_route(&snapshot, request, &request.method).ok();
    let mut response_headers = ResponseHeaderMutations::default();
    cors::apply(&mut response_headers, &snapshot, route, request);
    if let Some(route) = route {
        let client_ip = request.client_ip(peer_ip, &snapshot.client);
        limits::add_current_state(&mut response_headers, &snapshot, route, request, client_ip);
    }
    response_headers
}

/// What the route refuses before anything is sent.
fn check_request(gateway: &Gateway, route: &Route, request: &Request, log: &RequestLog) -> Result<(), Fault> {
    let route_config = &route.config;
    let fault =
        |cause, evidence| Fault::new(cause, Phase::Admit).with_evidence(Evidence::from_static(evidence));
    if let Some(path) = gateway.panic_path {
        #[expect(
            clippy::panic,
            reason = "the guard is tested with a real panic; debug builds only, and only when asked"
        )]
        if request.path() == path.as_bytes() {
            panic!("asked for by a test");
        }
    }
    if request.passed_through(gateway.pseudonym()) {
        return Err(fault(Cause::ProxyLoopDetected, "our own Via was seen"));
    }
    if route_config.deny_methods.contains(&request.method) {
        return Err(fault(Cause::HttpRequestDenied, "the route denies the method"));
    }
    if !route_config.allow_from.is_empty()
        && !route_config.allow_from.iter().any(|network| network.contains(&log.client_ip))
    {
        return Err(fault(Cause::HttpRequestDenied, "the client is not in allow_from"));
    }
    match request.framing {
        crate::http::framing::RequestFraming::Length(length) if length > route_config.max_body => {
            Err(fault(Cause::BodyTooLarge, "Content-Length is above max_body"))
        }
        _ => Ok(()),
    }
}

fn forwarded_for(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    peer_ip: IpAddr,
    client_ip: IpAddr,
) -> HeaderValue {
    if !route.config.append_forwarded {
        return forwarded::forwarded_for_client(client_ip);
    }
    let values: Vec<&[u8]> = request.fields.values(snapshot.client.ip_header.as_str()).collect();
    forwarded::forwarded_for_chain(peer_ip, values.into_iter(), &snapshot.client.trusted_proxies)
}

/// Whether an HTTP/1 connection ends with the answer to this fault: where its request ends can no longer be told, or it
/// has no place here. (It ends too where a large rest of a request body is not worth reading: [`local_reply`].)
pub const fn closes_connection(cause: Cause, phase: Phase) -> bool {
    matches!(phase, Phase::RequestHeaders)
        || matches!(cause, Cause::ClientTooSlow | Cause::MalformedBody | Cause::ConnectionLimitReached)
}

/// Answers a fault by the contract.
async fn reply_to_fault(
    scope: &RequestScope<'_>,
    client: &mut Downstream,
    fault: Fault,
    log: &mut RequestLog,
) -> RequestEnd {
    if closes_connection(fault.cause(), fault.phase()) {
        client.close_after_response();
    }
    let (_, reply) = reply_builder::for_fault(scope, &fault, log);
    let Some(sender) = client.response_sender() else { return RequestEnd::ClientDisconnected };
    let status = reply.status();
    record::count_grpc_error(scope, Trigger::Fault(fault.cause()), &reply);
    record::count_response(scope, status, ResponseOrigin::Proxy, Some(Trigger::Fault(fault.cause())), log);
    log.response_bytes = reply.body().len() as u64;
    match local_reply::send(sender, &reply, scope.snapshot.client.write_timeout).await {
        SendResult::Complete => RequestEnd::Replied { status, fault },
        SendResult::Disconnected | SendResult::WriteTimeout => RequestEnd::ClientDisconnected,
    }
}

/// Answers a preflight: with these fields, or as one from a foreign page.
async fn reply_to_preflight(
    scope: &RequestScope<'_>,
    client: &mut Downstream,
    preflight_headers: Option<Vec<HeaderField>>,
    log: &mut RequestLog,
) -> RequestEnd {
    let Some(preflight_headers) = preflight_headers else {
        let evidence = Evidence::from_static("a preflight from an origin that is not in allow_origins");
        let fault = Fault::new(Cause::HttpRequestDenied, Phase::Admit).with_evidence(evidence);
        return reply_to_fault(scope, client, fault, log).await;
    };
    let reply = LocalReply::preflight(preflight_headers, &log.request_id);
    let status = reply.status();
    let Some(sender) = client.response_sender() else { return RequestEnd::ClientDisconnected };
    record::count_response(scope, status, ResponseOrigin::Proxy, None, log);
    match local_reply::send(sender, &reply, scope.snapshot.client.write_timeout).await {
        SendResult::Complete => RequestEnd::Preflight { status },
        SendResult::Disconnected | SendResult::WriteTimeout => RequestEnd::ClientDisconnected,
    }
}

/// Answers in the upstream's place.
async fn send_replacement(
    scope: &RequestScope<'_>,
    context: &mut RequestContext<'_>,
    response_head: &UpstreamResponseHead,
    replacement: Replacement,
) -> RequestEnd {
    let reply = reply_builder::for_replacement(scope, context, response_head, &replacement);
    let Some(sender) = context.client.response_sender() else { return RequestEnd::ClientDisconnected };
    let status = reply.status();
    record::count_grpc_error(scope, replacement.decision.trigger(), &reply);
    record::count_response(
        scope,
        status,
        ResponseOrigin::Replaced,
        Some(replacement.decision.trigger()),
        context.log,
    );
    context.log.response_bytes = reply.body().len() as u64;
    context.log.upstream_evidence = replacement.evidence;
    match local_reply::send(sender, &reply, context.snapshot.client.write_timeout).await {
        SendResult::Complete => RequestEnd::Replaced { status },
        SendResult::Disconnected | SendResult::WriteTimeout => RequestEnd::ClientDisconnected,
    }
}

/// Lets the response pass.
async fn forward_response(
    scope: &RequestScope<'_>,
    context: &mut RequestContext<'_>,
    mut response: UpstreamResponse,
    buffered: &[u8],
    release_upstream: impl FnOnce(UpstreamConn),
) -> RequestEnd {
    let status = response.response_head.facts.status;
    record::count_response(scope, status, ResponseOrigin::Upstream, None, context.log);
    let relayed = relay::forward(context, &mut response, buffered).await;
    release_upstream(response.conn);
    if matches!(relayed, RelayOutcome::Complete) {
        local_reply::drain_after_response(context.client).await;
    }
    relay_end(status, relayed)
}

/// Lets a 101 pass, and what both sides say to each other from then on.
async fn forward_upgrade(
    scope: &RequestScope<'_>,
    context: &mut RequestContext<'_>,
    response: UpstreamResponse,
) -> RequestEnd {
    let status = response.response_head.facts.status;
    record::count_response(scope, status, ResponseOrigin::Upstream, None, context.log);
    relay_end(status, relay::forward_upgrade(context, response).await)
}

fn relay_end(status: u16, relayed: RelayOutcome) -> RequestEnd {
    match relayed {
        RelayOutcome::TunnelIdle => RequestEnd::TunnelIdle { status },
        RelayOutcome::Complete => RequestEnd::Forwarded { status },
        RelayOutcome::Aborted(fault) => RequestEnd::Aborted { status, fault },
        RelayOutcome::ClientDisconnected => RequestEnd::ClientDisconnected,
    }
}
