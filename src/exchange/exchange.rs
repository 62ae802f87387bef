//! One request, as a straight line: route, admit, wait for a turn, forward, judge, answer, record.
//!
//! Each step is one call into the room that owns the decision. Reading happens before ([`super::connection`]); this file
//! decides nothing by itself and writes nothing by itself.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method};

use super::attempt::{self, Answered};
use super::clock::Clock;
use super::door::{self, Written};
use super::downstream::Downstream;
use super::dress::Dress;
use super::flow::{Flow, Stop, Story};
use super::gateway::Gateway;
use super::judge::{self, Replacement, Verdict};
use super::limits;
use super::peer::{Peer, UpstreamHead};
use super::queue;
use super::record::{self, Ended, Refused, Scope};
use super::relay::{self, Relayed};
use super::replies;
use super::request::Request;
use super::sharing;
use super::upload::Upload;
use crate::contract::{Cause, Evidence, Fault, LocalReply, Phase, Trigger};
use crate::observe::ResponseOrigin;
use crate::protocol::cors::HeaderField;
use crate::protocol::upgrade::UpgradeOffer;
use crate::protocol::{authority, forwarded, path};
use crate::snapshot::{Route, Snapshot};
use crate::upstream::concurrency::Permit;
use crate::upstream::http2::HttpVersionPolicy;

/// Serves one request that was understood, to its end.
pub(super) async fn serve(gateway: &Gateway, peer: IpAddr, client: &mut Downstream, request: &Request) {
    let snapshot = gateway.snapshot.load_full();
    let mut story = begin(&snapshot, peer, request);

    if let Some(method) = sharing::asked_method(request) {
        let route = route(&snapshot, request, &method).ok();
        if let Some(policy) = sharing::policy(&snapshot, route) {
            let scope = Scope::of(gateway, &snapshot, route, request);
            let fields = sharing::preflight(&mut story.dress, policy, request, &method);
            let ended = answer_preflight(&scope, client, fields, &mut story).await;
            return record::record(&scope, &story, client, &ended);
        }
    }
    let route = route(&snapshot, request, &request.method);
    let scope = Scope::of(gateway, &snapshot, route.as_ref().ok().copied(), request);
    sharing::dress(&mut story.dress, &snapshot, scope.route, request);
    let admitted = match route {
        Err(fault) => Err(Stop::Fault(fault)),
        Ok(route) if route.limits_need_io => {
            Box::pin(admit_in_time(gateway, &snapshot, route, client, request, &mut story)).await
        }
        Ok(route) => limits::admit(&snapshot, route, request, None, &mut story)
            .and_then(|()| admit(gateway, route, request, &story))
            .map(|()| (route, None))
            .map_err(Stop::Fault),
    };
    let ended = match admitted {
        Ok((route, ahead)) => {
            through(gateway, &snapshot, route, peer, client, request, ahead, &mut story).await
        }
        Err(Stop::Fault(fault)) => answer_fault(&scope, client, fault, &mut story).await,
        Err(Stop::ClientGone) => Ended::ClientGone,
    };
    record::record(&scope, &story, client, &ended);
}

/// Answers a head that is not a request, or a connection that has no place.
pub(super) async fn refuse(gateway: &Gateway, peer: IpAddr, client: &mut Downstream, refused: Refused) {
    let snapshot = gateway.snapshot.load_full();
    let mut story = Story::begin(replies::new_request_id(), peer.to_canonical());
    story.line = refused.line;
    story.dress = refused.dress;
    let refused_grpc = refused.grpc;
    let scope = Scope { gateway, snapshot: &snapshot, route: None, request: None, refused_grpc };
    let ended = answer_fault(&scope, client, refused.fault, &mut story).await;
    record::record(&scope, &story, client, &ended);
}

/// Admits a request whose rate limits take time: they count in a store, or by what the client has yet to send.
async fn admit_in_time<'a>(
    gateway: &Gateway,
    snapshot: &Snapshot,
    route: &'a Route,
    client: &mut Downstream,
    request: &Request,
    story: &mut Story,
) -> Result<(&'a Route, Option<Upload>), Stop> {
    let denied = admit(gateway, route, request, story);
    // Nobody is invited to send a body that is refused anyway.
    let ahead = if route.limits_read_body && denied.is_ok() {
        limits::ahead::read(snapshot, route, client, request, story).await?
    } else {
        None
    };
    let body = ahead.as_ref().and_then(Upload::whole);
    if route.rate_limits.iter().any(|rule| rule.store.is_some()) {
        limits::admit_with_stores(snapshot, route, request, body, story).await
    } else {
        limits::admit(snapshot, route, request, body, story)
    }
    .and(denied)
    .map(|()| (route, ahead))
    .map_err(Stop::Fault)
}

/// A request that reached a route: wait for a turn, forward, judge, answer. `ahead` is its body, where that was read before.
#[expect(clippy::too_many_arguments, reason = "the parts of a flow, before there is one")]
async fn through(
    gateway: &Gateway,
    snapshot: &Arc<Snapshot>,
    route: &Route,
    peer: IpAddr,
    client: &mut Downstream,
    request: &Request,
    ahead: Option<Upload>,
    story: &mut Story,
) -> Ended {
    let scope = Scope::of(gateway, snapshot, Some(route), request);
    let mut clock = Clock::start(story.started, route.timeouts());
    clock.pause(story.sending);
    let permit = match queue::turn(route, &clock, client, story).await {
        Ok(permit) => permit,
        Err(Stop::Fault(fault)) => return answer_fault(&scope, client, fault, story).await,
        Err(Stop::ClientGone) => return Ended::ClientGone,
    };
    // The time in line was not the client's silence.
    let begun = permit.as_ref().map_or(story.started, Permit::acquired_at);
    // Given back in this order, and after the connection: the next one's turn comes with a connection to use.
    let at_upstream = (permit, route.upstream_metrics.in_flight());
    let mut upload = ahead.unwrap_or_else(|| Upload::new(client, route.config.max_body, begun));
    upload.resume(begun);
    if client.is_h2() && request.is_grpc() {
        upload.be_patient(route.timeouts().stream_idle);
    }
    let mut flow = Flow {
        gateway,
        snapshot,
        route,
        request,
        upload,
        clock,
        forwarded_for: forwarded_for(snapshot, route, request, peer, story.client_ip),
        offer: offer(route, request),
        client,
        story,
    };
    let mut answered = match attempt::forward(&mut flow).await {
        Ok(answered) => answered,
        Err(Stop::Fault(fault)) => {
            // The upstream has no part in what follows: the next one's turn.
            drop(at_upstream);
            return answer_fault(&scope, flow.client, fault, flow.story).await;
        }
        Err(Stop::ClientGone) => return Ended::ClientGone,
    };
    if !flow.story.counted.is_empty() {
        limits::reset(flow.story, answered.head.facts.status).await;
    }
    if answered.head.switches() {
        // The tunnel is the request: it keeps its place until it ends.
        let _at_upstream = at_upstream;
        return Box::pin(switch(&scope, &mut flow, answered)).await;
    }
    let verdict = judge::judge(&mut flow, &mut answered).await;
    // What is left to do when the upstream's part is over may take the client's time, and is not the next one's to wait for.
    let leave = |peer: Peer| {
        peer.release(&route.upstream);
        drop(at_upstream);
    };
    if flow.client.unanswered().is_none() {
        // It has left while its answer came. What is not sent is not counted as sent.
        leave(answered.peer);
        return Ended::ClientGone;
    }
    match verdict {
        Verdict::Pass => pass(&scope, &mut flow, answered, &[], leave).await,
        Verdict::PassBegun(begun) => pass(&scope, &mut flow, answered, &begun, leave).await,
        Verdict::PassError(error) => {
            let Answered { peer, head } = answered;
            leave(peer);
            record::count(&scope, head.facts.status, ResponseOrigin::Upstream, None, flow.story);
            let retry_after = route.config.errors.retry_after;
            let relayed = relay::pass_error(&mut flow, &head, &error, retry_after).await;
            passed(head.facts.status, relayed)
        }
        Verdict::Replace(replacement) => {
            let Answered { peer, head } = answered;
            leave(peer);
            replace(&scope, &mut flow, &head, replacement).await
        }
    }
}

/// The change of protocol that the upstream is offered; one that speaks HTTP/2 alone has no word for it.
fn offer<'a>(route: &Route, request: &'a Request) -> Option<UpgradeOffer<'a>> {
    let http2_alone = route.upstream.transport().http2().version_policy() == HttpVersionPolicy::Http2;
    if http2_alone { None } else { request.offer(&route.config.upgrades) }
}

/// Who is asking, under which id, since when.
fn begin(snapshot: &Snapshot, peer: IpAddr, request: &Request) -> Story {
    let rules = &snapshot.client;
    let trusted = !rules.trusted_proxies.is_empty()
        && rules.trusted_proxies.iter().any(|network| network.contains(&peer.to_canonical()));
    let own = if trusted { request.own_id() } else { None };
    let id: HeaderValue = own.unwrap_or_else(replies::new_request_id);
    Story::begin(id, request.client_ip(peer, rules))
}

/// The route of a request; a preflight is routed by the `method` it asks for.
fn route<'a>(snapshot: &'a Snapshot, request: &Request, method: &Method) -> Result<&'a Route, Fault> {
    let host = authority::routing_host(&request.authority);
    let path = path::normalise(request.path());
    let found = snapshot.router.find(&host, &path, method);
    let route = found.and_then(|index| snapshot.routes.get(index));
    if request.dot_segments && !route.is_some_and(|route| route.config.lenient_paths) {
        let evidence = Evidence::from_static("the path has dot segments");
        return Err(Fault::new(Cause::AmbiguousPath, Phase::Route).with_evidence(evidence));
    }
    route.ok_or_else(|| Fault::new(Cause::DestinationNotFound, Phase::Route))
}

/// What the answer to a request wears; for a panic, after which nothing else is known any more.
pub(super) fn dress(gateway: &Gateway, peer: IpAddr, request: &Request) -> Dress {
    let snapshot = gateway.snapshot.load();
    let route = route(&snapshot, request, &request.method).ok();
    let mut dress = Dress::default();
    sharing::dress(&mut dress, &snapshot, route, request);
    if let Some(route) = route {
        let client_ip = request.client_ip(peer, &snapshot.client);
        limits::dress_as_they_stand(&mut dress, &snapshot, route, request, client_ip);
    }
    dress
}

/// What the route refuses before anything is sent.
fn admit(gateway: &Gateway, route: &Route, request: &Request, story: &Story) -> Result<(), Fault> {
    let rules = &route.config;
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
    if request.came_through(gateway.pseudonym()) {
        return Err(fault(Cause::ProxyLoopDetected, "our own Via was seen"));
    }
    if rules.deny_methods.contains(&request.method) {
        return Err(fault(Cause::HttpRequestDenied, "the route denies the method"));
    }
    if !rules.allow_from.is_empty()
        && !rules.allow_from.iter().any(|network| network.contains(&story.client_ip))
    {
        return Err(fault(Cause::HttpRequestDenied, "the client is not in allow_from"));
    }
    match request.framing {
        crate::protocol::framing::RequestFraming::Length(length) if length > rules.max_body => {
            Err(fault(Cause::BodyTooLarge, "Content-Length is above max_body"))
        }
        _ => Ok(()),
    }
}

fn forwarded_for(
    snapshot: &Snapshot,
    route: &Route,
    request: &Request,
    peer: IpAddr,
    client: IpAddr,
) -> HeaderValue {
    if !route.config.append_forwarded {
        return forwarded::forwarded_for_client(client);
    }
    let values: Vec<&[u8]> = request.fields.values(snapshot.client.ip_header.as_str()).collect();
    forwarded::forwarded_for_chain(peer, values.into_iter(), &snapshot.client.trusted_proxies)
}

/// Whether an HTTP/1 connection ends with the answer to this fault: where its request ends can no longer be told, or it
/// has no place here. (It ends too where a large rest of a request body is not worth reading: [`door`].)
pub const fn ends_connection(cause: Cause, phase: Phase) -> bool {
    matches!(phase, Phase::RequestHeaders)
        || matches!(cause, Cause::ClientTooSlow | Cause::MalformedBody | Cause::ConnectionLimitReached)
}

/// Answers a fault by the contract.
async fn answer_fault(scope: &Scope<'_>, client: &mut Downstream, fault: Fault, story: &mut Story) -> Ended {
    if ends_connection(fault.cause(), fault.phase()) {
        client.close_after();
    }
    let (_, reply) = replies::for_fault(scope, &fault, story);
    let Some(unanswered) = client.unanswered() else { return Ended::ClientGone };
    let status = reply.status();
    record::grpc(scope, Trigger::Fault(fault.cause()), &reply);
    record::count(scope, status, ResponseOrigin::Proxy, Some(Trigger::Fault(fault.cause())), story);
    story.bytes = reply.body().len() as u64;
    match door::answer(unanswered, &reply, scope.snapshot.client.write_timeout).await {
        Written::Whole => Ended::Replied { status, fault },
        Written::Lost | Written::Stuck => Ended::ClientGone,
    }
}

/// Answers a preflight: with these fields, or as one from a foreign page.
async fn answer_preflight(
    scope: &Scope<'_>,
    client: &mut Downstream,
    fields: Option<Vec<HeaderField>>,
    story: &mut Story,
) -> Ended {
    let Some(fields) = fields else {
        let evidence = Evidence::from_static("a preflight from an origin that is not in allow_origins");
        let fault = Fault::new(Cause::HttpRequestDenied, Phase::Admit).with_evidence(evidence);
        return answer_fault(scope, client, fault, story).await;
    };
    let reply = LocalReply::preflight(fields, &story.request_id);
    let status = reply.status();
    let Some(unanswered) = client.unanswered() else { return Ended::ClientGone };
    record::count(scope, status, ResponseOrigin::Proxy, None, story);
    match door::answer(unanswered, &reply, scope.snapshot.client.write_timeout).await {
        Written::Whole => Ended::Preflight { status },
        Written::Lost | Written::Stuck => Ended::ClientGone,
    }
}

/// Answers in the upstream's place.
async fn replace(
    scope: &Scope<'_>,
    flow: &mut Flow<'_>,
    head: &UpstreamHead,
    replacement: Replacement,
) -> Ended {
    let reply = replies::for_response(scope, flow, head, &replacement);
    let Some(unanswered) = flow.client.unanswered() else { return Ended::ClientGone };
    let status = reply.status();
    record::grpc(scope, replacement.ruling.trigger(), &reply);
    record::count(scope, status, ResponseOrigin::Replaced, Some(replacement.ruling.trigger()), flow.story);
    flow.story.bytes = reply.body().len() as u64;
    flow.story.said = replacement.said;
    match door::answer(unanswered, &reply, flow.snapshot.client.write_timeout).await {
        Written::Whole => Ended::Replaced { status },
        Written::Lost | Written::Stuck => Ended::ClientGone,
    }
}

/// Lets the response pass.
async fn pass(
    scope: &Scope<'_>,
    flow: &mut Flow<'_>,
    mut answered: Answered,
    begun: &[u8],
    leave: impl FnOnce(Peer),
) -> Ended {
    let status = answered.head.facts.status;
    record::count(scope, status, ResponseOrigin::Upstream, None, flow.story);
    let relayed = relay::pass(flow, &mut answered, begun).await;
    leave(answered.peer);
    if matches!(relayed, Relayed::Whole) {
        door::finish_request(flow.client).await;
    }
    passed(status, relayed)
}

/// Lets a 101 pass, and what both sides say to each other from then on.
async fn switch(scope: &Scope<'_>, flow: &mut Flow<'_>, answered: Answered) -> Ended {
    let status = answered.head.facts.status;
    record::count(scope, status, ResponseOrigin::Upstream, None, flow.story);
    passed(status, relay::switch(flow, answered).await)
}

fn passed(status: u16, relayed: Relayed) -> Ended {
    match relayed {
        Relayed::Idle => Ended::TunnelIdle { status },
        Relayed::Whole => Ended::Passed { status },
        Relayed::Cut(fault) => Ended::Cut { status, fault },
        Relayed::ClientGone => Ended::ClientGone,
    }
}
