//! Forward: choose a server, connect, send, wait for the response head; again where that is safe.
//!
//! It ends with a final response head or with the one fault that is answered. It judges no response and writes to no
//! client, except that interim responses pass through [`super::relay`].

pub(super) mod queue;
pub(super) mod retry;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use pingora::protocols::Stream;

use super::attempt::retry::{FailedAttempt, Retry};
use super::clock::TimeLimit;
use super::context::{Interrupt, RequestContext};
use super::downstream::Downstream;
use super::message::request::ForwardingInfo;
use super::relay;
use super::upload::{UploadEvent, WaitingFor};
use super::upstream_conn::{UpstreamConn, UpstreamResponseHead};
use super::wait::Wait;
use crate::contract::{Cause, Evidence, Fault, Phase, RequestSent};
use crate::upstream::Candidate;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::timer::timeout_at;

/// Most interim responses that are passed on for one request.
const MAX_INTERIM_RESPONSES: u32 = 16;

/// A final response head and the connection it came on.
#[derive(Debug)]
pub(super) struct UpstreamResponse {
    pub(super) conn: UpstreamConn,
    pub(super) response_head: UpstreamResponseHead,
}

/// Sends the request until a response head is there or nothing more may be tried.
pub(super) async fn forward(context: &mut RequestContext<'_>) -> Result<UpstreamResponse, Interrupt> {
    let mut tried: Vec<Candidate> = Vec::new();
    let mut reuse = true;
    let mut attempt = 1;
    let mut candidate =
        context.route.upstream.next_candidate(&tried).ok_or_else(|| no_address_interrupt(context))?;
    loop {
        context.log.attempts = attempt;
        context.log.server = Some(candidate.server.clone());
        let is_last = attempt >= context.route.attempts;
        let (fault, progress) = match try_once(context, &candidate, reuse, !is_last).await {
            Ok(response) => {
                context.route.upstream_metrics.attempt(Ok(()));
                if attempt > 1 {
                    context.route.upstream_metrics.retry(Ok(()));
                }
                let status = response.response_head.facts.status;
                let retries_status = !is_last
                    && context.route.retry_on_status.contains(&status)
                    && context.can_repeat_safely();
                if !retries_status {
                    return Ok(response);
                }
                tried.push(candidate.clone());
                candidate = context.route.upstream.next_candidate(&tried).unwrap_or(candidate);
                response.conn.release(&context.route.upstream);
                attempt += 1;
                continue;
            }
            Err(AttemptError { interrupt: Interrupt::ClientDisconnected, .. }) => {
                return Err(Interrupt::ClientDisconnected);
            }
            Err(AttemptError { interrupt: Interrupt::Fault(fault), response_started, unprocessed }) => {
                (fault, (response_started, unprocessed))
            }
        };
        let (response_started, unprocessed) = progress;
        if fault.phase() != Phase::Send || fault.cause() == Cause::ConnectionWriteError {
            context.route.upstream_metrics.attempt(Err(fault.cause()));
            if attempt > 1 {
                context.route.upstream_metrics.retry(Err(fault.cause()));
            }
        }
        let failed_attempt = FailedAttempt {
            cause: fault.cause(),
            phase: fault.phase(),
            method: &context.request.method,
            response_started,
            unprocessed,
            can_replay: !is_last && context.upload.can_replay(),
        };
        let decision = retry::decide(failed_attempt);
        if decision == Retry::Never {
            return Err(Interrupt::Fault(fault));
        }
        tried.push(candidate.clone());
        candidate = match (context.route.upstream.next_candidate(&tried), decision) {
            (Some(next), _) => next,
            (None, Retry::AnyServer) => candidate,
            (None, Retry::OtherServer | Retry::Never) => return Err(Interrupt::Fault(fault)),
        };
        // A second stale connection would waste the last attempt.
        reuse = false;
        attempt += 1;
    }
}

/// An attempt without a response head.
struct AttemptError {
    interrupt: Interrupt,
    /// Whether any byte of a response came.
    response_started: bool,
    /// The upstream did not look at the request and never will.
    unprocessed: bool,
}

impl From<Interrupt> for AttemptError {
    fn from(interrupt: Interrupt) -> Self {
        AttemptError { interrupt, response_started: false, unprocessed: false }
    }
}

/// Waits for a connection while the stream of an HTTP/2 client that wants it is there. One that resets its streams as fast
/// as it makes them would have more connections begun than it may have streams. On HTTP/1 each has a connection of its own.
async fn cancel_on_disconnect<T>(
    client: &mut Downstream,
    future: impl Future<Output = T>,
) -> Result<T, Interrupt> {
    let is_h2 = client.is_h2();
    let mut future = pin!(future);
    poll_fn(|cx| {
        // First: of one that is gone already nothing is begun.
        if is_h2 && client.poll_disconnect(cx).is_ready() {
            return Poll::Ready(Err(Interrupt::ClientDisconnected));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}

async fn try_once(
    context: &mut RequestContext<'_>,
    candidate: &Candidate,
    reuse: bool,
    may_retry: bool,
) -> Result<UpstreamResponse, AttemptError> {
    let mut conn = acquire_connection(context, candidate, reuse).await?;
    let forwarding_info = ForwardingInfo {
        forwarded_for: &context.forwarded_for,
        proto: context.client.scheme(),
        request_id: &context.log.request_id,
        via: &context.gateway.via,
        server: &candidate.server,
        offer: context.offer.as_ref(),
        upstream_tls: candidate.tls_name.is_some(),
    };
    if let Err(fault) = conn.queue_request_head(context.request, &forwarding_info) {
        let unprocessed = conn.is_unprocessed();
        return Err(AttemptError {
            interrupt: Interrupt::Fault(fault),
            response_started: false,
            unprocessed,
        });
    }
    context.upload.begin(&mut conn, may_retry);
    // The response may be there before the upload is looked at for the first time.
    let sent = if conn.has_sent_request() { RequestSent::Full } else { RequestSent::Partial };
    context.log.request_sent = context.log.request_sent.max(sent);
    let sent_at = Instant::now();
    match final_response_head(context, &mut conn).await {
        Ok((head, came_at)) => {
            let waited = came_at.saturating_duration_since(sent_at);
            context.route.upstream_metrics.response_headers_time(waited);
            context.log.response_headers_time = Some(waited);
            context.log.upstream_status = Some(head.facts.status);
            Ok(UpstreamResponse { conn, response_head: head })
        }
        Err(interrupt) => {
            let (response_started, unprocessed) = (conn.response_started(), conn.is_unprocessed());
            Err(AttemptError { interrupt, response_started, unprocessed })
        }
    }
}

async fn acquire_connection(
    context: &mut RequestContext<'_>,
    candidate: &Candidate,
    reuse: bool,
) -> Result<UpstreamConn, Interrupt> {
    let transport = context.route.upstream.transport();
    // A change of protocol is asked for in HTTP/1, and a connection is authenticated in HTTP/1, where it can be had for
    // one client alone; whatever else the server speaks.
    if !context.needs_http1() && transport.http2().may_serve(candidate) {
        // Boxed: most upstreams speak HTTP/1, and their attempts should not carry its size.
        return Box::pin(acquire_stream(context, candidate, reuse)).await;
    }
    let framing = context.request.framing;
    if reuse && let Some(stream) = transport.reuse(candidate).await {
        context.route.upstream_metrics.connection(true);
        return Ok(UpstreamConn::h1(stream, candidate.clone(), framing));
    }
    let (stream, negotiated_h2) = dial(context, candidate).await?;
    if negotiated_h2 {
        // It did not when it was asked last.
        return Box::pin(negotiate(context, candidate, stream, negotiated_h2)).await;
    }
    Ok(UpstreamConn::h1(stream, candidate.clone(), framing))
}

/// A place on a connection that speaks HTTP/2; a connection of its own where the server does not.
async fn acquire_stream(
    context: &mut RequestContext<'_>,
    candidate: &Candidate,
    reuse: bool,
) -> Result<UpstreamConn, Interrupt> {
    let transport = context.route.upstream.transport();
    let http2 = transport.http2();
    let framing = context.request.framing;
    let use_slot = |slot| {
        context.route.upstream_metrics.connection(true);
        Ok(UpstreamConn::h2(slot, framing))
    };
    if let Some(slot) = http2.acquire_stream(candidate) {
        return use_slot(slot);
    }
    // Whoever makes one now has a limit for each step: connecting, TLS, SETTINGS. Waiting for it has all of them.
    let timeouts = context.route.timeouts();
    let tls_timeout = if candidate.tls_name.is_some() { timeouts.tls } else { Duration::ZERO };
    let at = Instant::now() + timeouts.connect + tls_timeout + timeouts.connect;
    let limit =
        context.with_deadlines(TimeLimit::new(at, Cause::ConnectionTimeout, Phase::Connect), Phase::Connect);
    let begun = Instant::now();
    let connect_guard =
        cancel_on_disconnect(context.client, timeout_at(limit.at, http2.lock_connect(candidate))).await;
    context.log.waited += begun.elapsed();
    let Some(making) = connect_guard? else { return Err(limit.fault().into()) };
    if let Some(slot) = http2.acquire_stream(candidate) {
        return use_slot(slot);
    }
    if !http2.may_serve(candidate) {
        // Whoever held it has found out that the server speaks HTTP/1: from now on each makes a connection of its own.
        drop(making);
        if reuse && let Some(stream) = transport.reuse(candidate).await {
            context.route.upstream_metrics.connection(true);
            return Ok(UpstreamConn::h1(stream, candidate.clone(), framing));
        }
    }
    let (stream, negotiated_h2) = dial(context, candidate).await?;
    negotiate(context, candidate, stream, negotiated_h2).await
}

/// Speaks on a new connection what its server agreed to; without TLS there is nothing to agree to.
async fn negotiate(
    context: &mut RequestContext<'_>,
    candidate: &Candidate,
    stream: Stream,
    negotiated_h2: bool,
) -> Result<UpstreamConn, Interrupt> {
    let http2 = context.route.upstream.transport().http2();
    let framing = context.request.framing;
    if candidate.tls_name.is_some() {
        http2.set_negotiated(candidate, negotiated_h2);
    }
    if candidate.tls_name.is_none() || negotiated_h2 {
        let started = Instant::now();
        let attempt_limit = TimeLimit::new(
            started + context.route.timeouts().connect,
            Cause::ConnectionTimeout,
            Phase::Connect,
        );
        let limit = context.with_deadlines(attempt_limit, Phase::Connect);
        let slot = cancel_on_disconnect(
            context.client,
            timeout_at(limit.at, http2.start_connection(candidate, stream)),
        )
        .await;
        context.log.waited += started.elapsed();
        return match slot? {
            Some(slot) => Ok(UpstreamConn::h2(slot?, framing)),
            None => Err(limit.fault().with_evidence(Evidence::from_static("no SETTINGS came")).into()),
        };
    }
    if http2.version_policy() == HttpVersionPolicy::Http2 {
        let evidence = Evidence::from_static("the server agreed to no HTTP/2 (ALPN)");
        return Err(Fault::new(Cause::TlsProtocolError, Phase::Connect).with_evidence(evidence).into());
    }
    Ok(UpstreamConn::h1(stream, candidate.clone(), framing))
}

/// A connection that was not there before, encrypted where the server speaks TLS, and whether it agreed to HTTP/2.
async fn dial(context: &mut RequestContext<'_>, candidate: &Candidate) -> Result<(Stream, bool), Interrupt> {
    let transport = context.route.upstream.transport();
    // A request has one connection to an upstream at a time. More than there are descriptors for would keep the
    // listeners from accepting, and then nobody is answered.
    if context.snapshot.in_flight() > context.gateway.max_upstream_connections() {
        let evidence = Evidence::from_static("the descriptors for connections to upstreams are used up");
        return Err(Fault::new(Cause::ResourceExhausted, Phase::Connect).with_evidence(evidence).into());
    }
    let started = Instant::now();
    let attempt_limit =
        TimeLimit::new(started + context.route.timeouts().connect, Cause::ConnectionTimeout, Phase::Connect);
    let limit = context.with_deadlines(attempt_limit, Phase::Connect);
    // Boxed: it is large, and most requests find a connection.
    let time_left = limit.at.saturating_duration_since(started);
    let stream =
        cancel_on_disconnect(context.client, Box::pin(transport.connect(candidate, time_left))).await;
    let elapsed = started.elapsed();
    context.log.waited += elapsed;
    let stream = stream?;
    context.log.connect_time = Some(elapsed);
    context.route.upstream_metrics.connect_time(elapsed);
    let stream = match stream {
        Ok(stream) => tls_handshake(context, candidate, stream).await?,
        Err(fault) if fault.cause() == Cause::ConnectionTimeout => return Err(limit.fault().into()),
        Err(fault) => return Err(fault.into()),
    };
    context.route.upstream_metrics.connection(false);
    Ok(stream)
}

/// The handshake, where the server speaks TLS; and whether HTTP/2 was agreed to in it.
async fn tls_handshake(
    context: &mut RequestContext<'_>,
    candidate: &Candidate,
    stream: Stream,
) -> Result<(Stream, bool), Interrupt> {
    let Some(name) = &candidate.tls_name else { return Ok((stream, false)) };
    let started = Instant::now();
    let attempt_limit =
        TimeLimit::new(started + context.route.timeouts().tls, Cause::TlsTimeout, Phase::Connect);
    let limit = context.with_deadlines(attempt_limit, Phase::Connect);
    let transport = context.route.upstream.transport();
    let time_left = limit.at.saturating_duration_since(started);
    let handshake = transport.encrypt(stream, name, time_left, context.needs_http1());
    let stream = cancel_on_disconnect(context.client, handshake).await;
    let took = started.elapsed();
    context.log.waited += took;
    let stream = stream?;
    context.route.upstream_metrics.tls_time(took);
    match stream {
        Err(fault) if fault.cause() == Cause::TlsTimeout => Err(limit.fault().into()),
        Ok(_) | Err(_) => Ok(stream?),
    }
}

/// What one step of waiting brought.
enum AttemptStep {
    ResponseHead(Result<UpstreamResponseHead, Fault>),
    Upload(UploadEvent),
}

/// Sends and waits until a final head is there, and since when it is; interim ones are passed on.
async fn final_response_head(
    flow: &mut RequestContext<'_>,
    peer: &mut UpstreamConn,
) -> Result<(UpstreamResponseHead, Instant), Interrupt> {
    let mut interim_count = 0;
    let mut sent_at: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let waiting = flow.upload.waiting();
        if waiting == WaitingFor::Nothing && flow.upload.has_ended() && sent_at.is_none() {
            sent_at = Some(now);
            flow.log.request_sent = RequestSent::Full;
        }
        let limit = response_head_limit(flow, waiting, sent_at, now);
        let mut wait = Wait::begin(now);
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                wait.polled();
                if let Poll::Ready(response_head) = peer.poll_response_head(cx, &flow.request.method) {
                    return Poll::Ready(AttemptStep::ResponseHead(response_head));
                }
                if flow.client.unsent() > 0 {
                    // Interim responses on their way; a failure shows as a client that left.
                    let _ = flow.client.poll_flush(cx);
                }
                wait.result(flow.upload.poll(cx, flow.client, peer).map(AttemptStep::Upload))
            }),
        )
        .await;
        flow.log.waited += wait.total();
        if waiting == WaitingFor::Client {
            let waited = now.elapsed();
            flow.clock.pause(waited);
            flow.upload.add_client_wait(waited);
        }
        match step {
            // The timer is coarse and limits move while bytes flow: only a limit that has passed strikes.
            None => {
                let now = Instant::now();
                let limit = response_head_limit(flow, flow.upload.waiting(), sent_at, now);
                if now >= limit.at {
                    let fault = limit.fault();
                    peer.probe(&fault);
                    return Err(Interrupt::Fault(peer.with_partial_head(fault)));
                }
            }
            Some(AttemptStep::ResponseHead(Ok(response_head))) if response_head.is_interim() => {
                interim_count += 1;
                if interim_count > MAX_INTERIM_RESPONSES {
                    let evidence = Evidence::from_static("more than 16 interim responses");
                    return Err(Interrupt::Fault(
                        Fault::new(Cause::HttpProtocolError, Phase::ResponseHeaders).with_evidence(evidence),
                    ));
                }
                // The 100 that the client waited for has been ours.
                if response_head.facts.status != 100 || !flow.upload.continue_sent() {
                    relay::forward_interim(flow.client, &response_head);
                }
            }
            Some(AttemptStep::ResponseHead(Ok(response_head))) => {
                if let (true, Some(offer)) = (response_head.is_switching_protocols(), &flow.offer) {
                    response_head.negotiated_protocol(offer).map_err(Interrupt::Fault)?;
                }
                return Ok((response_head, wait.woken_at()));
            }
            Some(AttemptStep::ResponseHead(Err(fault))) => return Err(Interrupt::Fault(fault)),
            Some(AttemptStep::Upload(UploadEvent::WaitChanged)) => {}
            Some(AttemptStep::Upload(UploadEvent::Failed(fault))) => return Err(Interrupt::Fault(fault)),
            Some(AttemptStep::Upload(UploadEvent::ClientDisconnected)) => {
                return Err(Interrupt::ClientDisconnected);
            }
        }
    }
}

/// The limit that strikes first while no head is there.
fn response_head_limit(
    context: &RequestContext<'_>,
    waiting: WaitingFor,
    sent_at: Option<Instant>,
    now: Instant,
) -> TimeLimit {
    match waiting {
        // The client's own time: the total stands still.
        WaitingFor::Client => context
            .upload
            .client_limit(&context.snapshot.client, now)
            .earlier(context.clock.max_duration(Phase::Send)),
        WaitingFor::Upstream => context
            .with_deadlines(context.clock.deadline(Phase::Send), Phase::Send)
            .earlier(Some(context.upload.write_limit(context.route.timeouts().body_idle))),
        WaitingFor::Nothing => {
            let deadline = context
                .with_deadlines(context.clock.deadline(Phase::ResponseHeaders), Phase::ResponseHeaders);
            deadline.earlier(sent_at.map(|sent| {
                let at = sent + context.route.timeouts().response_headers;
                TimeLimit::new(at, Cause::HttpResponseTimeout, Phase::ResponseHeaders)
            }))
        }
    }
}

fn no_address_interrupt(context: &RequestContext<'_>) -> Interrupt {
    context.route.upstream_metrics.attempt(Err(Cause::DnsError));
    Interrupt::Fault(
        Fault::new(Cause::DnsError, Phase::Connect)
            .with_evidence(Evidence::from_static("no server has an address yet")),
    )
}
