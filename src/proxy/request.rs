//! One request, step by step: route, admit, queue, forward, classify, respond, record.
//!
//! Each step is one call into the module that makes the decision. [`super::connection`] has read the request before;
//! [`super::relay`] and [`super::local_reply`] write the response.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method};

use super::attempt::{self, queue};
use super::classify::{self, Replacement, Verdict};
use super::clock::RequestClock;
use super::context::{Interrupt, RequestContext, RequestLog};
use super::downstream::Downstream;
use super::gateway::Gateway;
use super::limits;
use super::local_reply::{self, SendResult};
use super::message::request::Request;
use super::record::{self, RejectedRequest, RelayOutcome, RequestEnd, RequestScope};
use super::relay;
use super::reply_builder;
use super::response_headers::ResponseHeaderMutations;
use super::response_headers::cors;
use super::upload::Upload;
use super::upstream_conn::{UpstreamConn, UpstreamResponse, UpstreamResponseHead};
use crate::contract::{Cause, Evidence, Fault, LocalReply, Phase, Trigger};
use crate::http::cors::HeaderField;
use crate::http::upgrade::UpgradeOffer;
use crate::http::{authority, forwarded, path};
use crate::snapshot::{Route, Snapshot};
use crate::telemetry::ResponseOrigin;
use crate::upstream::concurrency::Permit;
use crate::upstream::http2::HttpVersionPolicy;

/// Serves one valid request: sends its response and records it.
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
        Err(fault) => {
            if fault.cause() == Cause::MethodNotAllowed
                && let Some(methods) = allow_header(&snapshot, request)
            {
                log.response_headers.set_allow(methods);
            }
            Err(Interrupt::Fault(fault))
        }
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

/// Rejects a malformed request, or a connection over the connection limit.
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

/// Admits a request whose rate limits need I/O: a rule counts in a store, or its key is a member of the request body.
async fn admit_with_io<'a>(
    gateway: &Gateway,
    snapshot: &Snapshot,
    route: &'a Route,
    client: &mut Downstream,
    request: &Request,
    log: &mut RequestLog,
) -> Result<(&'a Route, Option<Upload>), Interrupt> {
    let checked = check_request(gateway, route, request, log);
    // A request that is denied anyway must not get a 100 Continue.
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

/// Queues and forwards an admitted request, classifies the response and sends the result. `buffered_body` is set if
/// the rate limits have read the request body.
#[expect(clippy::too_many_arguments, reason = "the parts of a RequestContext, before it exists")]
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
    clock.extend_deadline(log.body_read_time);
    let permit = match queue::acquire(route, &clock, client, log).await {
        Ok(permit) => permit,
        Err(Interrupt::Fault(fault)) => return reply_to_fault(&scope, client, fault, log).await,
        Err(Interrupt::ClientDisconnected) => return RequestEnd::ClientDisconnected,
    };
    // The time in the queue does not count as client idle time.
    let admitted_at = permit.as_ref().map_or(log.started, Permit::acquired_at);
    // Dropped in this order, and after the connection is released: the next request in the queue can then reuse it.
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
            // The upstream is not needed for the local reply: free its permit first.
            drop(upstream_guards);
            return reply_to_fault(&scope, context.client, fault, context.log).await;
        }
        Err(Interrupt::ClientDisconnected) => return RequestEnd::ClientDisconnected,
    };
    if !context.log.reset_candidates.is_empty() {
        limits::reset(context.log, response.response_head.parsed.status).await;
    }
    if response.response_head.is_switching_protocols() {
        // A tunnel holds its permit until it closes.
        let _upstream_guards = upstream_guards;
        return Box::pin(forward_upgrade(&scope, &mut context, response)).await;
    }
    let verdict = classify::classify(&mut context, &mut response).await;
    // Called as soon as the upstream's response is read: the next request must not wait for a slow client.
    let release_upstream = |conn: UpstreamConn| {
        conn.release(&route.upstream);
        drop(upstream_guards);
    };
    if context.client.response_sender().is_none() {
        // The client disconnected during classification: no response is counted.
        release_upstream(response.conn);
        return RequestEnd::ClientDisconnected;
    }
    match verdict {
        Verdict::Forward => forward_response(&scope, &mut context, response, &[], release_upstream).await,
        Verdict::ForwardBuffered(buffered) => {
            forward_response(&scope, &mut context, response, &buffered, release_upstream).await
        }
        Verdict::ForwardConforming(error) => {
            let UpstreamResponse { conn, response_head } = response;
            release_upstream(conn);
            record::count_response(
                &scope,
                response_head.parsed.status,
                ResponseOrigin::Upstream,
                None,
                context.log,
            );
            let retry_after = route.config.errors.retry_after;
            let relay_outcome = relay::forward_error(&mut context, &response_head, &error, retry_after).await;
            to_request_end(response_head.parsed.status, relay_outcome)
        }
        Verdict::Replace(replacement) => {
            let UpstreamResponse { conn, response_head } = response;
            release_upstream(conn);
            send_replacement(&scope, &mut context, &response_head, replacement).await
        }
    }
}

/// The protocol upgrade to offer to the upstream. `None` for an upstream that uses HTTP/2 only, which has no Upgrade.
fn upgrade_offer<'a>(route: &Route, request: &'a Request) -> Option<UpgradeOffer<'a>> {
    let http2_only = route.upstream.transport().http2().version_policy() == HttpVersionPolicy::Http2;
    if http2_only { None } else { request.upgrade_offer(&route.config.upgrades) }
}

/// Starts the log of a request, with its request id and client address.
fn begin_log(snapshot: &Snapshot, peer_ip: IpAddr, request: &Request) -> RequestLog {
    let client_config = &snapshot.client;
    let trusted = !client_config.trusted_proxies.is_empty()
        && client_config.trusted_proxies.iter().any(|network| network.contains(&peer_ip.to_canonical()));
    let trusted_id = if trusted { request.trusted_id() } else { None };
    let id: HeaderValue = trusted_id.unwrap_or_else(reply_builder::new_request_id);
    RequestLog::begin(id, request.client_ip(peer_ip, client_config))
}

/// Finds the route of a request. `method` is the request method, or for a preflight the method that it requests.
fn find_route<'a>(snapshot: &'a Snapshot, request: &Request, method: &Method) -> Result<&'a Route, Fault> {
    let host = authority::routing_host(&request.authority);
    let path = path::normalise(request.path());
    let route_index = snapshot.router.find(&host, &path, method);
    let route = route_index.and_then(|index| snapshot.routes.get(index));
    if let Some(ambiguity) = request.ambiguity
        && !route.is_some_and(|route| route.config.lenient_paths)
    {
        return Err(ambiguous_path(ambiguity.evidence()));
    }
    if let Some(decoded) = path::decode_slashes(&path) {
        // A server that decodes the slash is reached past the rules of the route that it belongs to.
        let other = snapshot.router.find(&host, &decoded, method);
        let reaches_other = if other.is_some() {
            other != route_index
        } else {
            snapshot.router.has_other_methods(&host, &decoded)
        };
        if route.is_some() && reaches_other {
            return Err(ambiguous_path("an encoded slash hides a path of another route"));
        }
    }
    route.ok_or_else(|| {
        let cause = if snapshot.router.has_other_methods(&host, &path) {
            Cause::MethodNotAllowed
        } else {
            Cause::DestinationNotFound
        };
        Fault::new(cause, Phase::Route)
    })
}

fn ambiguous_path(evidence: &'static str) -> Fault {
    Fault::new(Cause::AmbiguousPath, Phase::Route).with_evidence(Evidence::from_static(evidence))
}

/// The value of `Allow` for a request whose method no route accepts (RFC 9110, section 10.2.1).
fn allow_header(snapshot: &Snapshot, request: &Request) -> Option<HeaderValue> {
    let host = authority::routing_host(&request.authority);
    let methods = snapshot.router.allowed_methods(&host, &path::normalise(request.path()));
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).ok()
}

/// Computes the response headers of a request again after a panic, when its log is lost.
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

/// Checks the request against its route before anything is sent to an upstream.
fn check_request(gateway: &Gateway, route: &Route, request: &Request, log: &RequestLog) -> Result<(), Fault> {
    let route_config = &route.config;
    let fault =
        |cause, evidence| Fault::new(cause, Phase::Admit).with_evidence(Evidence::from_static(evidence));
    if let Some(path) = gateway.panic_path {
        #[expect(
            clippy::panic,
            reason = "the guard is tested with a real panic; debug builds only, and only on the configured path"
        )]
        if request.path() == path.as_bytes() {
            panic!("the panic path was requested");
        }
    }
    if request.passed_through(gateway.pseudonym()) {
        return Err(fault(Cause::ProxyLoopDetected, "this gateway's Via pseudonym was received"));
    }
    if route_config.deny_methods.contains(&request.method) {
        return Err(fault(Cause::HttpRequestDenied, "the method is in deny_methods"));
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

/// The `X-Forwarded-For` that the upstream receives.
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

/// Whether an HTTP/1 connection closes after the reply to this fault: the end of the request is unknown, or the
/// connection is over the connection limit. [`local_reply`] also closes it if too much of the request body is unread.
pub(crate) const fn closes_connection(cause: Cause, phase: Phase) -> bool {
    matches!(phase, Phase::RequestHeaders)
        || matches!(cause, Cause::ClientTooSlow | Cause::MalformedBody | Cause::ConnectionLimitReached)
}

/// Sends the local reply that the contract defines for this fault.
async fn reply_to_fault(
    scope: &RequestScope<'_>,
    client: &mut Downstream,
    fault: Fault,
    log: &mut RequestLog,
) -> RequestEnd {
    if closes_connection(fault.cause(), fault.phase()) {
        client.close_after_response();
    }
    let reply = reply_builder::for_fault(scope, &fault, log);
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

/// Responds to a preflight with these fields. `None` denies it: its origin is not allowed.
async fn reply_to_preflight(
    scope: &RequestScope<'_>,
    client: &mut Downstream,
    preflight_headers: Option<Vec<HeaderField>>,
    log: &mut RequestLog,
) -> RequestEnd {
    let Some(preflight_headers) = preflight_headers else {
        let evidence = Evidence::from_static("the origin of the preflight is not in allow_origins");
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

/// Sends a local reply in place of the upstream's error.
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

/// Forwards the response, and then reads the rest of the request body so that the client connection can be kept.
async fn forward_response(
    scope: &RequestScope<'_>,
    context: &mut RequestContext<'_>,
    mut response: UpstreamResponse,
    buffered: &[u8],
    release_upstream: impl FnOnce(UpstreamConn),
) -> RequestEnd {
    let status = response.response_head.parsed.status;
    record::count_response(scope, status, ResponseOrigin::Upstream, None, context.log);
    let relay_outcome = relay::forward(context, &mut response, buffered).await;
    release_upstream(response.conn);
    if matches!(relay_outcome, RelayOutcome::Complete) {
        local_reply::discard_after_response(context.client).await;
    }
    to_request_end(status, relay_outcome)
}

/// Forwards a 101 and then the bytes of both sides.
async fn forward_upgrade(
    scope: &RequestScope<'_>,
    context: &mut RequestContext<'_>,
    response: UpstreamResponse,
) -> RequestEnd {
    let status = response.response_head.parsed.status;
    record::count_response(scope, status, ResponseOrigin::Upstream, None, context.log);
    to_request_end(status, relay::forward_upgrade(context, response).await)
}

/// How the request ended, from how its relay ended.
fn to_request_end(status: u16, relay_outcome: RelayOutcome) -> RequestEnd {
    match relay_outcome {
        RelayOutcome::TunnelIdle => RequestEnd::TunnelIdle { status },
        RelayOutcome::Complete => RequestEnd::Forwarded { status },
        RelayOutcome::Aborted(fault) => RequestEnd::Aborted { status, fault },
        RelayOutcome::ClientDisconnected => RequestEnd::ClientDisconnected,
    }
}
