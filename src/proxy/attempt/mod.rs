//! Forwards a request: chooses a server, connects, sends the request, waits for the response headers, and retries if
//! safe.
//!
//! The result is the header section of a final response, or the [`Fault`] for the error response. Only interim
//! responses are sent to the client here, through [`super::relay`].

pub(super) mod queue;
pub(super) mod retry;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use pingora::protocols::Stream;

use self::retry::{FailedAttempt, Retry};
use super::context::{Exchange, Forwarding, Interrupt};
use super::deadlines::TimeLimit;
use super::downstream::Downstream;
use super::message::request::ForwardingInfo;
use super::relay;
use super::upload::{UploadEvent, WaitingFor};
use super::upstream_conn::{UpstreamConn, UpstreamResponse, UpstreamResponseHead};
use super::wait::Wait;
use crate::contract::{Cause, Evidence, Fault, Phase, RequestSent};
use crate::upstream::Candidate;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::timer::timeout_at;

/// Maximum number of interim responses forwarded per attempt.
const MAX_INTERIM_RESPONSES: u32 = 16;

/// Makes attempts until one gets the headers of a final response or no further attempt is allowed.
pub(super) async fn forward(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
) -> Result<UpstreamResponse, Interrupt> {
    let mut tried: Vec<Candidate> = Vec::new();
    // Whether a pooled connection may be used.
    let mut reuse = true;
    let mut attempt = 1;
    let mut candidate =
        forwarding.route.upstream.next_candidate(&tried).ok_or_else(|| no_address_interrupt(forwarding))?;
    loop {
        exchange.record.attempts = attempt;
        exchange.record.server = Some(candidate.server.clone());
        let is_last = attempt >= forwarding.route.attempts;
        let (fault, response_started, unprocessed) =
            match try_once(exchange, forwarding, &candidate, reuse, !is_last).await {
                Ok(response) => {
                    forwarding.route.upstream_metrics.attempt(Ok(()));
                    if attempt > 1 {
                        forwarding.route.upstream_metrics.retry(Ok(()));
                    }
                    let status = response.response_head.parsed.status;
                    let retries_status = !is_last
                        && forwarding.route.retry_on_status.contains(&status)
                        && forwarding.can_repeat_safely();
                    if !retries_status {
                        return Ok(response);
                    }
                    tried.push(candidate.clone());
                    candidate = forwarding.route.upstream.next_candidate(&tried).unwrap_or(candidate);
                    response.conn.release(&forwarding.route.upstream);
                    attempt += 1;
                    continue;
                }
                Err(AttemptError { interrupt: Interrupt::ClientDisconnected, .. }) => {
                    return Err(Interrupt::ClientDisconnected);
                }
                Err(AttemptError { interrupt: Interrupt::Fault(fault), response_started, unprocessed }) => {
                    (fault, response_started, unprocessed)
                }
            };
        count_failure(forwarding, &fault, attempt);
        let failed_attempt = FailedAttempt {
            cause: fault.cause(),
            phase: fault.phase(),
            method: &forwarding.request.method,
            response_started,
            unprocessed,
            can_replay: !is_last && forwarding.upload.can_replay(),
        };
        let decision = retry::decide(failed_attempt);
        if decision == Retry::Never {
            return Err(Interrupt::Fault(fault));
        }
        tried.push(candidate.clone());
        candidate = match (forwarding.route.upstream.next_candidate(&tried), decision) {
            (Some(next), _) => next,
            (None, Retry::AnyServer) => candidate,
            (None, Retry::OtherServer | Retry::Never) => return Err(Interrupt::Fault(fault)),
        };
        // Another pooled connection may be stale too, which would waste the retry.
        reuse = false;
        attempt += 1;
    }
}

/// Counts a failed attempt. What the client caused, for example with a malformed or slow body, is not a failure of the
/// upstream.
fn count_failure(forwarding: &Forwarding<'_>, fault: &Fault, attempt: u32) {
    let waits_for_client = forwarding.upload.waiting() == WaitingFor::Client;
    if fault.cause().is_client_error() || (fault.phase() == Phase::Send && waits_for_client) {
        return;
    }
    forwarding.route.upstream_metrics.attempt(Err(fault.cause()));
    if attempt > 1 {
        forwarding.route.upstream_metrics.retry(Err(fault.cause()));
    }
}

/// An attempt that got no final response headers.
struct AttemptError {
    interrupt: Interrupt,
    /// Any byte of a response was received.
    response_started: bool,
    /// The upstream reported that it did not process the request.
    unprocessed: bool,
}

impl From<Interrupt> for AttemptError {
    fn from(interrupt: Interrupt) -> Self {
        AttemptError { interrupt, response_started: false, unprocessed: false }
    }
}

/// Cancels `future` when an HTTP/2 client resets its stream. Otherwise a client that opens and resets streams quickly
/// could start more upstream connections than it may have streams (rapid reset). HTTP/1 clients have one request per
/// connection, so they do not need this.
async fn cancel_on_disconnect<T>(
    client: &mut Downstream,
    future: impl Future<Output = T>,
) -> Result<T, Interrupt> {
    let is_h2 = client.is_h2();
    let mut future = pin!(future);
    poll_fn(|cx| {
        // Check the client first, so that nothing starts for a stream that was already reset.
        if is_h2 && client.poll_disconnect(cx).is_ready() {
            return Poll::Ready(Err(Interrupt::ClientDisconnected));
        }
        future.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// Makes one attempt: connects, sends the request and waits for the response headers. `reuse` allows a pooled
/// connection; `may_retry` keeps the request body for another attempt.
async fn try_once(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    reuse: bool,
    may_retry: bool,
) -> Result<UpstreamResponse, AttemptError> {
    let mut conn = acquire_connection(exchange, forwarding, candidate, reuse).await?;
    let forwarding_info = ForwardingInfo {
        forwarded_for: &forwarding.forwarded_for,
        proto: exchange.client.scheme(),
        request_id: &exchange.context.request_id,
        via: &exchange.context.gateway.via,
        server: &candidate.server,
        offer: forwarding.offer.as_ref(),
        upstream_tls: candidate.tls_name.is_some(),
    };
    if let Err(fault) = conn.queue_request_head(forwarding.request, &forwarding_info) {
        let unprocessed = conn.is_unprocessed();
        return Err(AttemptError {
            interrupt: Interrupt::Fault(fault),
            response_started: false,
            unprocessed,
        });
    }
    forwarding.upload.begin(&mut conn, may_retry);
    // The response may arrive before the first poll of the upload.
    let sent = if conn.has_sent_request() { RequestSent::Full } else { RequestSent::Partial };
    exchange.record.request_sent = exchange.record.request_sent.max(sent);
    let sent_at = Instant::now();
    match final_response_head(exchange, forwarding, &mut conn).await {
        Ok((response_head, received_at)) => {
            let waited = received_at.saturating_duration_since(sent_at);
            forwarding.route.upstream_metrics.response_headers_time(waited);
            exchange.record.response_headers_time = Some(waited);
            exchange.record.upstream_status = Some(response_head.parsed.status);
            Ok(UpstreamResponse { conn, response_head })
        }
        Err(interrupt) => {
            let (response_started, unprocessed) = (conn.response_started(), conn.is_unprocessed());
            Err(AttemptError { interrupt, response_started, unprocessed })
        }
    }
}

/// Takes a connection from the pool or opens one: an HTTP/2 stream if the request and the server can use it, otherwise
/// an HTTP/1 connection.
async fn acquire_connection(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    reuse: bool,
) -> Result<UpstreamConn, Interrupt> {
    let transport = forwarding.route.upstream.transport();
    // Upgrades and connection-based authentication (NTLM, Negotiate) need an HTTP/1 connection.
    if !forwarding.needs_http1() && transport.http2().may_serve(candidate) {
        // Boxed because most upstreams use HTTP/1: their futures should not include this one.
        return Box::pin(acquire_stream(exchange, forwarding, candidate, reuse)).await;
    }
    let framing = forwarding.request.framing;
    if reuse && let Some(stream) = transport.reuse(candidate).await {
        forwarding.route.upstream_metrics.connection(true);
        return Ok(UpstreamConn::h1(stream, candidate.clone(), framing));
    }
    let (stream, negotiated_h2) = open_connection(exchange, forwarding, candidate).await?;
    if negotiated_h2 {
        // The server has switched to HTTP/2 since the last handshake.
        return Box::pin(start_http(exchange, forwarding, candidate, stream, negotiated_h2)).await;
    }
    Ok(UpstreamConn::h1(stream, candidate.clone(), framing))
}

/// Acquires a stream on a shared HTTP/2 connection, or an HTTP/1 connection if the server does not support HTTP/2.
async fn acquire_stream(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    reuse: bool,
) -> Result<UpstreamConn, Interrupt> {
    let transport = forwarding.route.upstream.transport();
    let http2 = transport.http2();
    let framing = forwarding.request.framing;
    let use_slot = |slot| {
        forwarding.route.upstream_metrics.connection(true);
        Ok(UpstreamConn::h2(slot, framing))
    };
    if let Some(slot) = http2.acquire_stream(candidate) {
        return use_slot(slot);
    }
    // The request that holds the connect lock has a timeout for each step: connect, TLS, SETTINGS. The other
    // requests wait for at most the sum of these timeouts.
    let timeouts = forwarding.route.timeouts();
    let tls_timeout = if candidate.tls_name.is_some() { timeouts.tls } else { Duration::ZERO };
    let at = Instant::now() + timeouts.connect + tls_timeout + timeouts.connect;
    let limit = forwarding
        .with_deadlines(TimeLimit::new(at, Cause::ConnectionTimeout, Phase::Connect), Phase::Connect);
    let started = Instant::now();
    let connect_guard =
        cancel_on_disconnect(exchange.client, timeout_at(limit.at, http2.lock_connect(candidate))).await;
    exchange.client.add_wait(started.elapsed());
    let Some(connect_guard) = connect_guard? else { return Err(limit.fault().into()) };
    if let Some(slot) = http2.acquire_stream(candidate) {
        return use_slot(slot);
    }
    if !http2.may_serve(candidate) {
        // The previous holder of the lock found that the server uses HTTP/1: every request opens its own connection.
        drop(connect_guard);
        if reuse && let Some(stream) = transport.reuse(candidate).await {
            forwarding.route.upstream_metrics.connection(true);
            return Ok(UpstreamConn::h1(stream, candidate.clone(), framing));
        }
    }
    let (stream, negotiated_h2) = open_connection(exchange, forwarding, candidate).await?;
    start_http(exchange, forwarding, candidate, stream, negotiated_h2).await
}

/// Starts HTTP/2 or HTTP/1 on a new connection, as ALPN selected. Without TLS there is no ALPN: this function is then
/// called only for an upstream that is configured to use HTTP/2.
async fn start_http(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    stream: Stream,
    negotiated_h2: bool,
) -> Result<UpstreamConn, Interrupt> {
    let http2 = forwarding.route.upstream.transport().http2();
    let framing = forwarding.request.framing;
    if candidate.tls_name.is_some() {
        http2.set_negotiated(candidate, negotiated_h2);
    }
    if candidate.tls_name.is_none() || negotiated_h2 {
        let started = Instant::now();
        let attempt_limit = TimeLimit::new(
            started + forwarding.route.timeouts().connect,
            Cause::ConnectionTimeout,
            Phase::Connect,
        );
        let limit = forwarding.with_deadlines(attempt_limit, Phase::Connect);
        let slot = cancel_on_disconnect(
            exchange.client,
            timeout_at(limit.at, http2.start_connection(candidate, stream)),
        )
        .await;
        exchange.client.add_wait(started.elapsed());
        return match slot? {
            Some(slot) => Ok(UpstreamConn::h2(slot?, framing)),
            None => Err(limit.fault().with_evidence(Evidence::from_static("no SETTINGS received")).into()),
        };
    }
    if http2.version_policy() == HttpVersionPolicy::Http2 {
        let evidence = Evidence::from_static("the server did not select HTTP/2 (ALPN)");
        return Err(Fault::new(Cause::TlsProtocolError, Phase::Connect).with_evidence(evidence).into());
    }
    Ok(UpstreamConn::h1(stream, candidate.clone(), framing))
}

/// Opens a new connection, with TLS if configured. The flag is true if ALPN selected HTTP/2.
async fn open_connection(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
) -> Result<(Stream, bool), Interrupt> {
    let transport = forwarding.route.upstream.transport();
    // Each request has at most one upstream connection. If these used up all file descriptors, the listeners could not
    // accept connections.
    if exchange.context.snapshot.in_flight() > exchange.context.gateway.max_upstream_connections() {
        let evidence = Evidence::from_static("file descriptors for upstream connections are exhausted");
        return Err(Fault::new(Cause::ResourceExhausted, Phase::Connect).with_evidence(evidence).into());
    }
    let started = Instant::now();
    let attempt_limit = TimeLimit::new(
        started + forwarding.route.timeouts().connect,
        Cause::ConnectionTimeout,
        Phase::Connect,
    );
    let limit = forwarding.with_deadlines(attempt_limit, Phase::Connect);
    // Boxed because the future is large and most requests reuse a connection.
    let time_left = limit.at.saturating_duration_since(started);
    let stream =
        cancel_on_disconnect(exchange.client, Box::pin(transport.connect(candidate, time_left))).await;
    let elapsed = started.elapsed();
    exchange.client.add_wait(elapsed);
    let stream = stream?;
    exchange.record.connect_time = Some(elapsed);
    forwarding.route.upstream_metrics.connect_time(elapsed);
    let stream = match stream {
        Ok(stream) => tls_handshake(exchange, forwarding, candidate, stream).await?,
        Err(fault) if fault.cause() == Cause::ConnectionTimeout => return Err(limit.fault().into()),
        Err(fault) => return Err(fault.into()),
    };
    forwarding.route.upstream_metrics.connection(false);
    Ok(stream)
}

/// Performs the TLS handshake if the server uses TLS. The flag is true if ALPN selected HTTP/2.
async fn tls_handshake(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    candidate: &Candidate,
    stream: Stream,
) -> Result<(Stream, bool), Interrupt> {
    let Some(name) = &candidate.tls_name else { return Ok((stream, false)) };
    let started = Instant::now();
    let attempt_limit =
        TimeLimit::new(started + forwarding.route.timeouts().tls, Cause::TlsTimeout, Phase::Connect);
    let limit = forwarding.with_deadlines(attempt_limit, Phase::Connect);
    let transport = forwarding.route.upstream.transport();
    let time_left = limit.at.saturating_duration_since(started);
    let handshake = transport.encrypt(stream, name, time_left, forwarding.needs_http1());
    let stream = cancel_on_disconnect(exchange.client, handshake).await;
    let elapsed = started.elapsed();
    exchange.client.add_wait(elapsed);
    let stream = stream?;
    forwarding.route.upstream_metrics.tls_time(elapsed);
    match stream {
        Err(fault) if fault.cause() == Cause::TlsTimeout => Err(limit.fault().into()),
        Ok(_) | Err(_) => Ok(stream?),
    }
}

/// An event while waiting for response headers.
enum AttemptStep {
    ResponseHead(Result<UpstreamResponseHead, Fault>),
    Upload(UploadEvent),
}

/// Sends the request and reads the headers of the final response; also returns when they were received. Interim
/// responses are forwarded.
async fn final_response_head(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    conn: &mut UpstreamConn,
) -> Result<(UpstreamResponseHead, Instant), Interrupt> {
    let mut interim_count = 0;
    let mut sent_at: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let waiting = forwarding.upload.waiting();
        if waiting == WaitingFor::Nothing && forwarding.upload.has_ended() && sent_at.is_none() {
            sent_at = Some(now);
            exchange.record.request_sent = RequestSent::Full;
        }
        let limit = response_head_limit(exchange, forwarding, waiting, sent_at, now);
        let mut wait = Wait::begin(now);
        let step = timeout_at(
            limit.at,
            poll_fn(|cx| {
                wait.poll_started();
                if let Poll::Ready(response_head) = conn.poll_response_head(cx, &forwarding.request.method) {
                    return Poll::Ready(AttemptStep::ResponseHead(response_head));
                }
                if exchange.client.unsent() > 0 {
                    // Flush interim responses. A write error is reported later as a disconnected client.
                    let _ = exchange.client.poll_flush(cx);
                }
                wait.poll_ended(forwarding.upload.poll(cx, exchange.client, conn).map(AttemptStep::Upload))
            }),
        )
        .await;
        exchange.client.add_wait(wait.total());
        if waiting == WaitingFor::Client {
            let waited = now.elapsed();
            forwarding.deadlines.extend(waited);
            forwarding.upload.add_client_wait(waited);
        }
        match step {
            // The limit moves while bytes are transferred: check that it has really passed.
            None => {
                let now = Instant::now();
                let limit =
                    response_head_limit(exchange, forwarding, forwarding.upload.waiting(), sent_at, now);
                if now >= limit.at {
                    let fault = limit.fault();
                    conn.on_timeout(&fault);
                    return Err(Interrupt::Fault(conn.with_partial_head(fault)));
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
                // The gateway has already sent the 100 that the client waited for.
                if response_head.parsed.status != 100 || !forwarding.upload.continue_sent() {
                    relay::forward_interim(exchange.client, &response_head);
                }
            }
            Some(AttemptStep::ResponseHead(Ok(response_head))) => {
                if let (true, Some(offer)) = (response_head.is_switching_protocols(), &forwarding.offer) {
                    response_head.negotiated_protocol(offer).map_err(Interrupt::Fault)?;
                }
                return Ok((response_head, wait.woken_at()));
            }
            Some(AttemptStep::ResponseHead(Err(fault))) => return Err(Interrupt::Fault(fault)),
            Some(AttemptStep::Upload(UploadEvent::WaitingChanged)) => {}
            Some(AttemptStep::Upload(UploadEvent::Failed(fault))) => return Err(Interrupt::Fault(fault)),
            Some(AttemptStep::Upload(UploadEvent::ClientDisconnected)) => {
                return Err(Interrupt::ClientDisconnected);
            }
        }
    }
}

/// The earliest time limit while waiting for response headers.
fn response_head_limit(
    exchange: &Exchange<'_>,
    forwarding: &Forwarding<'_>,
    waiting: WaitingFor,
    sent_at: Option<Instant>,
    now: Instant,
) -> TimeLimit {
    match waiting {
        // Time spent waiting for the client does not count towards the deadline.
        WaitingFor::Client => forwarding
            .upload
            .client_limit(&exchange.context.snapshot.client, now)
            .earlier(forwarding.deadlines.max_duration(Phase::Send)),
        WaitingFor::Upstream => forwarding
            .with_deadlines(forwarding.deadlines.deadline(Phase::Send), Phase::Send)
            .earlier(Some(forwarding.upload.write_limit(forwarding.route.timeouts().body_idle))),
        WaitingFor::Nothing => {
            let deadline = forwarding.with_deadlines(
                forwarding.deadlines.deadline(Phase::ResponseHeaders),
                Phase::ResponseHeaders,
            );
            deadline.earlier(sent_at.map(|sent| {
                let at = sent + forwarding.route.timeouts().response_headers;
                TimeLimit::new(at, Cause::HttpResponseTimeout, Phase::ResponseHeaders)
            }))
        }
    }
}

fn no_address_interrupt(forwarding: &Forwarding<'_>) -> Interrupt {
    forwarding.route.upstream_metrics.attempt(Err(Cause::DnsError));
    Interrupt::Fault(
        Fault::new(Cause::DnsError, Phase::Connect)
            .with_evidence(Evidence::from_static("no server has been resolved to an address")),
    )
}
