//! Forward: choose a server, connect, send, wait for the response head; again where that is safe.
//!
//! It ends with a final response head or with the one fault that is answered. It judges no response and writes to no
//! client, except that interim responses pass through [`super::relay`].

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use pingora::protocols::Stream;

use super::clock::Limit;
use super::downstream::Downstream;
use super::flow::{Flow, Stop};
use super::peer::{Peer, UpstreamHead};
use super::relay;
use super::request::Told;
use super::retry::{self, Failed, Retry};
use super::upload::{UploadEvent, Waiting};
use super::wait::Wait;
use crate::contract::{Cause, Evidence, Fault, Phase, RequestSent};
use crate::upstream::Candidate;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::timer::timeout_at;

/// Most interim responses that are passed on for one request.
const MAX_INTERIM: u32 = 16;

/// A final response head and the connection it came on.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) peer: Peer,
    pub(super) head: UpstreamHead,
}

/// Sends the request until a response head is there or nothing more may be tried.
pub(super) async fn forward(flow: &mut Flow<'_>) -> Result<Answered, Stop> {
    let mut tried: Vec<Candidate> = Vec::new();
    let mut reuse = true;
    let mut attempt = 1;
    let mut candidate = flow.route.upstream.next_candidate(&tried).ok_or_else(|| no_address(flow))?;
    loop {
        flow.story.attempts = attempt;
        flow.story.server = Some(candidate.server.clone());
        let last = attempt >= flow.route.attempts;
        let (fault, seen) = match try_once(flow, &candidate, reuse, !last).await {
            Ok(answered) => {
                flow.route.upstream_metrics.attempt(Ok(()));
                if attempt > 1 {
                    flow.route.upstream_metrics.retry(Ok(()));
                }
                let status = answered.head.facts.status;
                let again = !last && flow.route.retry_on_status.contains(&status) && flow.may_repeat();
                if !again {
                    return Ok(answered);
                }
                tried.push(candidate.clone());
                candidate = flow.route.upstream.next_candidate(&tried).unwrap_or(candidate);
                answered.peer.release(&flow.route.upstream);
                attempt += 1;
                continue;
            }
            Err(Missed { stop: Stop::ClientGone, .. }) => return Err(Stop::ClientGone),
            Err(Missed { stop: Stop::Fault(fault), answered, passed_over }) => {
                (fault, (answered, passed_over))
            }
        };
        let (answered, passed_over) = seen;
        if fault.phase() != Phase::Send || fault.cause() == Cause::ConnectionWriteError {
            flow.route.upstream_metrics.attempt(Err(fault.cause()));
            if attempt > 1 {
                flow.route.upstream_metrics.retry(Err(fault.cause()));
            }
        }
        let failed = Failed {
            cause: fault.cause(),
            phase: fault.phase(),
            method: &flow.request.method,
            answered,
            passed_over,
            can_replay: !last && flow.upload.can_replay(),
        };
        let decision = retry::decide(failed);
        if decision == Retry::No {
            return Err(Stop::Fault(fault));
        }
        tried.push(candidate.clone());
        candidate = match (flow.route.upstream.next_candidate(&tried), decision) {
            (Some(next), _) => next,
            (None, Retry::Anywhere) => candidate,
            (None, Retry::Elsewhere | Retry::No) => return Err(Stop::Fault(fault)),
        };
        // A second stale connection would waste the last attempt.
        reuse = false;
        attempt += 1;
    }
}

/// An attempt without a response head.
struct Missed {
    stop: Stop,
    /// Whether any byte of a response came.
    answered: bool,
    /// The upstream did not look at the request and never will.
    passed_over: bool,
}

impl From<Stop> for Missed {
    fn from(stop: Stop) -> Self {
        Missed { stop, answered: false, passed_over: false }
    }
}

/// Waits for a connection while the stream of an HTTP/2 client that wants it is there. One that resets its streams as fast
/// as it makes them would have more connections begun than it may have streams. On HTTP/1 each has a connection of its own.
async fn unless_reset<T>(client: &mut Downstream, what: impl Future<Output = T>) -> Result<T, Stop> {
    let watched = client.is_h2();
    let mut what = pin!(what);
    poll_fn(|cx| {
        // First: of one that is gone already nothing is begun.
        if watched && client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Stop::ClientGone));
        }
        what.as_mut().poll(cx).map(Ok)
    })
    .await
}

async fn try_once(
    flow: &mut Flow<'_>,
    candidate: &Candidate,
    reuse: bool,
    may_retry: bool,
) -> Result<Answered, Missed> {
    let mut peer = connect(flow, candidate, reuse).await?;
    let told = Told {
        forwarded_for: &flow.forwarded_for,
        proto: flow.client.scheme(),
        request_id: &flow.story.request_id,
        via: &flow.gateway.via,
        server: &candidate.server,
        offer: flow.offer.as_ref(),
        upstream_tls: candidate.tls_name.is_some(),
    };
    if let Err(fault) = peer.queue_head(flow.request, &told) {
        let passed_over = peer.was_passed_over();
        return Err(Missed { stop: Stop::Fault(fault), answered: false, passed_over });
    }
    flow.upload.begin(&mut peer, may_retry);
    // The response may be there before the upload is looked at for the first time.
    let sent = if peer.has_sent_request() { RequestSent::Full } else { RequestSent::Partial };
    flow.story.sent = flow.story.sent.max(sent);
    let sent_at = Instant::now();
    match final_head(flow, &mut peer).await {
        Ok((head, came_at)) => {
            let waited = came_at.saturating_duration_since(sent_at);
            flow.route.upstream_metrics.response_headers_time(waited);
            flow.story.response_head = Some(waited);
            flow.story.upstream_status = Some(head.facts.status);
            Ok(Answered { peer, head })
        }
        Err(stop) => {
            let (answered, passed_over) = (peer.has_answered(), peer.was_passed_over());
            Err(Missed { stop, answered, passed_over })
        }
    }
}

async fn connect(flow: &mut Flow<'_>, candidate: &Candidate, reuse: bool) -> Result<Peer, Stop> {
    let transport = flow.route.upstream.transport();
    // A change of protocol is asked for in HTTP/1, and a connection is authenticated in HTTP/1, where it can be had for
    // one client alone; whatever else the server speaks.
    if !flow.needs_http1() && transport.http2().may_serve(candidate) {
        // Boxed: most upstreams speak HTTP/1, and their attempts should not carry its size.
        return Box::pin(share(flow, candidate, reuse)).await;
    }
    let framing = flow.request.framing;
    if reuse && let Some(stream) = transport.reuse(candidate).await {
        flow.route.upstream_metrics.connection(true);
        return Ok(Peer::h1(stream, candidate.clone(), framing));
    }
    let (stream, agreed) = fresh(flow, candidate).await?;
    if agreed {
        // It did not when it was asked last.
        return Box::pin(settle(flow, candidate, stream, agreed)).await;
    }
    Ok(Peer::h1(stream, candidate.clone(), framing))
}

/// A place on a connection that speaks HTTP/2; a connection of its own where the server does not.
async fn share(flow: &mut Flow<'_>, candidate: &Candidate, reuse: bool) -> Result<Peer, Stop> {
    let transport = flow.route.upstream.transport();
    let http2 = transport.http2();
    let framing = flow.request.framing;
    let taken = |slot| {
        flow.route.upstream_metrics.connection(true);
        Ok(Peer::h2(slot, framing))
    };
    if let Some(slot) = http2.acquire_stream(candidate) {
        return taken(slot);
    }
    // Whoever makes one now has a limit for each step: connecting, TLS, SETTINGS. Waiting for it has all of them.
    let timeouts = flow.route.timeouts();
    let tls = if candidate.tls_name.is_some() { timeouts.tls } else { Duration::ZERO };
    let at = Instant::now() + timeouts.connect + tls + timeouts.connect;
    let limit = flow.limit(Limit::new(at, Cause::ConnectionTimeout, Phase::Connect), Phase::Connect);
    let begun = Instant::now();
    let making = unless_reset(flow.client, timeout_at(limit.at, http2.lock_connect(candidate))).await;
    flow.story.waited += begun.elapsed();
    let Some(making) = making? else { return Err(limit.fault().into()) };
    if let Some(slot) = http2.acquire_stream(candidate) {
        return taken(slot);
    }
    if !http2.may_serve(candidate) {
        // Whoever held it has found out that the server speaks HTTP/1: from now on each makes a connection of its own.
        drop(making);
        if reuse && let Some(stream) = transport.reuse(candidate).await {
            flow.route.upstream_metrics.connection(true);
            return Ok(Peer::h1(stream, candidate.clone(), framing));
        }
    }
    let (stream, agreed) = fresh(flow, candidate).await?;
    settle(flow, candidate, stream, agreed).await
}

/// Speaks on a new connection what its server agreed to; without TLS there is nothing to agree to.
async fn settle(
    flow: &mut Flow<'_>,
    candidate: &Candidate,
    stream: Stream,
    agreed: bool,
) -> Result<Peer, Stop> {
    let http2 = flow.route.upstream.transport().http2();
    let framing = flow.request.framing;
    if candidate.tls_name.is_some() {
        http2.set_negotiated(candidate, agreed);
    }
    if candidate.tls_name.is_none() || agreed {
        let greeted = Instant::now();
        let attempt =
            Limit::new(greeted + flow.route.timeouts().connect, Cause::ConnectionTimeout, Phase::Connect);
        let limit = flow.limit(attempt, Phase::Connect);
        let slot =
            unless_reset(flow.client, timeout_at(limit.at, http2.start_connection(candidate, stream))).await;
        flow.story.waited += greeted.elapsed();
        return match slot? {
            Some(slot) => Ok(Peer::h2(slot?, framing)),
            None => Err(limit.fault().with_evidence(Evidence::from_static("no SETTINGS came")).into()),
        };
    }
    if http2.version_policy() == HttpVersionPolicy::Http2 {
        let evidence = Evidence::from_static("the server agreed to no HTTP/2 (ALPN)");
        return Err(Fault::new(Cause::TlsProtocolError, Phase::Connect).with_evidence(evidence).into());
    }
    Ok(Peer::h1(stream, candidate.clone(), framing))
}

/// A connection that was not there before, encrypted where the server speaks TLS, and whether it agreed to HTTP/2.
async fn fresh(flow: &mut Flow<'_>, candidate: &Candidate) -> Result<(Stream, bool), Stop> {
    let transport = flow.route.upstream.transport();
    // A request has one connection to an upstream at a time. More than there are descriptors for would keep the
    // listeners from accepting, and then nobody is answered.
    if flow.snapshot.in_flight() > flow.gateway.upstream_connections() {
        let evidence = Evidence::from_static("the descriptors for connections to upstreams are used up");
        return Err(Fault::new(Cause::ResourceExhausted, Phase::Connect).with_evidence(evidence).into());
    }
    let started = Instant::now();
    let attempt =
        Limit::new(started + flow.route.timeouts().connect, Cause::ConnectionTimeout, Phase::Connect);
    let limit = flow.limit(attempt, Phase::Connect);
    // Boxed: it is large, and most requests find a connection.
    let left = limit.at.saturating_duration_since(started);
    let stream = unless_reset(flow.client, Box::pin(transport.connect(candidate, left))).await;
    let took = started.elapsed();
    flow.story.waited += took;
    let stream = stream?;
    flow.story.connect = Some(took);
    flow.route.upstream_metrics.connect_time(took);
    let stream = match stream {
        Ok(stream) => encrypt(flow, candidate, stream).await?,
        Err(fault) if fault.cause() == Cause::ConnectionTimeout => return Err(limit.fault().into()),
        Err(fault) => return Err(fault.into()),
    };
    flow.route.upstream_metrics.connection(false);
    Ok(stream)
}

/// The handshake, where the server speaks TLS; and whether HTTP/2 was agreed to in it.
async fn encrypt(flow: &mut Flow<'_>, candidate: &Candidate, stream: Stream) -> Result<(Stream, bool), Stop> {
    let Some(name) = &candidate.tls_name else { return Ok((stream, false)) };
    let started = Instant::now();
    let attempt = Limit::new(started + flow.route.timeouts().tls, Cause::TlsTimeout, Phase::Connect);
    let limit = flow.limit(attempt, Phase::Connect);
    let transport = flow.route.upstream.transport();
    let left = limit.at.saturating_duration_since(started);
    let encrypting = transport.encrypt(stream, name, left, flow.needs_http1());
    let stream = unless_reset(flow.client, encrypting).await;
    let took = started.elapsed();
    flow.story.waited += took;
    let stream = stream?;
    flow.route.upstream_metrics.tls_time(took);
    match stream {
        Err(fault) if fault.cause() == Cause::TlsTimeout => Err(limit.fault().into()),
        Ok(_) | Err(_) => Ok(stream?),
    }
}

/// What one step of waiting brought.
enum Step {
    Head(Result<UpstreamHead, Fault>),
    Upload(UploadEvent),
}

/// Sends and waits until a final head is there, and since when it is; interim ones are passed on.
async fn final_head(flow: &mut Flow<'_>, peer: &mut Peer) -> Result<(UpstreamHead, Instant), Stop> {
    let mut interim = 0;
    let mut sent_at: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let waiting = flow.upload.waiting();
        if waiting == Waiting::Nothing && flow.upload.has_ended() && sent_at.is_none() {
            sent_at = Some(now);
            flow.story.sent = RequestSent::Full;
        }
        let limit = head_limit(flow, waiting, sent_at, now);
        let mut wait = Wait::begin(now);
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                wait.polled();
                if let Poll::Ready(head) = peer.poll_head(cx, &flow.request.method) {
                    return Poll::Ready(Step::Head(head));
                }
                if flow.client.unsent() > 0 {
                    // Interim responses on their way; a failure shows as a client that left.
                    let _ = flow.client.poll_flush(cx);
                }
                wait.result(flow.upload.poll(cx, flow.client, peer).map(Step::Upload))
            }),
        )
        .await;
        flow.story.waited += wait.total();
        if waiting == Waiting::Client {
            let waited = now.elapsed();
            flow.clock.pause(waited);
            flow.upload.add_wait(waited);
        }
        match step {
            // The timer is coarse and limits move while bytes flow: only a limit that has passed strikes.
            None => {
                let now = Instant::now();
                let limit = head_limit(flow, flow.upload.waiting(), sent_at, now);
                if now >= limit.at {
                    let fault = limit.fault();
                    peer.doubt(&fault);
                    return Err(Stop::Fault(peer.begun(fault)));
                }
            }
            Some(Step::Head(Ok(head))) if head.is_interim() => {
                interim += 1;
                if interim > MAX_INTERIM {
                    let evidence = Evidence::from_static("more than 16 interim responses");
                    return Err(Stop::Fault(
                        Fault::new(Cause::HttpProtocolError, Phase::ResponseHeaders).with_evidence(evidence),
                    ));
                }
                // The 100 that the client waited for has been ours.
                if head.facts.status != 100 || !flow.upload.has_invited() {
                    relay::interim(flow.client, &head);
                }
            }
            Some(Step::Head(Ok(head))) => {
                if let (true, Some(offer)) = (head.switches(), &flow.offer) {
                    head.agreed(offer).map_err(Stop::Fault)?;
                }
                return Ok((head, wait.woken_at()));
            }
            Some(Step::Head(Err(fault))) => return Err(Stop::Fault(fault)),
            Some(Step::Upload(UploadEvent::Changed)) => {}
            Some(Step::Upload(UploadEvent::Failed(fault))) => return Err(Stop::Fault(fault)),
            Some(Step::Upload(UploadEvent::ClientGone)) => return Err(Stop::ClientGone),
        }
    }
}

/// The limit that strikes first while no head is there.
fn head_limit(flow: &Flow<'_>, waiting: Waiting, sent_at: Option<Instant>, now: Instant) -> Limit {
    match waiting {
        // The client's own time: the total stands still.
        Waiting::Client => {
            flow.upload.client_limit(&flow.snapshot.client, now).or(flow.clock.whole(Phase::Send))
        }
        Waiting::Upstream => flow
            .limit(flow.clock.total(Phase::Send), Phase::Send)
            .or(Some(flow.upload.stuck_limit(flow.route.timeouts().body_idle))),
        Waiting::Nothing => {
            let total = flow.limit(flow.clock.total(Phase::ResponseHeaders), Phase::ResponseHeaders);
            total.or(sent_at.map(|sent| {
                let at = sent + flow.route.timeouts().response_headers;
                Limit::new(at, Cause::HttpResponseTimeout, Phase::ResponseHeaders)
            }))
        }
    }
}

fn no_address(flow: &Flow<'_>) -> Stop {
    flow.route.upstream_metrics.attempt(Err(Cause::DnsError));
    Stop::Fault(
        Fault::new(Cause::DnsError, Phase::Connect)
            .with_evidence(Evidence::from_static("no server has an address yet")),
    )
}
