//! Forwards a request: chooses a server, connects, sends the request, waits for the response headers, and retries if
//! safe.
//!
//! The result is the header section of a final response, or the [`Fault`] for the error response. Only interim
//! responses are sent to the client here, through [`super::relay`]. [`retry`] decides, [`connect`] gets a connection,
//! [`outcome`] reports the outcomes to ejection and the circuit breaker.

mod balance;
mod connect;
pub(super) mod outcome;
mod pinned_lock;
pub(super) mod queue;
pub(super) mod retry;

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use self::connect::{AcquiredConnection, Reuse};
use self::retry::{FailedAttempt, Retry};
use super::context::{Exchange, Forwarding, Interrupt, RetryReason};
use super::deadlines::TimeLimit;
use super::message::added_request_fields::ForwardingInfo;
use super::relay;
use super::upload::{UploadEvent, WaitingFor};
use super::upstream_conn::{UpstreamConn, UpstreamResponse, UpstreamResponseHead};
use super::wait::Wait;
use crate::contract::{Cause, Evidence, Fault, Phase, RequestSent};
use crate::upstream::endpoint::AttemptGuard;
use crate::upstream::http2::Reusable;
use crate::upstream::runtime::NoServer;
use crate::upstream::timer::timeout_at;
use crate::upstream::{Candidate, UpstreamRuntime};

/// Maximum number of interim responses that are read in an attempt, and forwarded for a request.
const MAX_INTERIM_RESPONSES: u32 = 16;
/// How often a request is sent again on another connection without counting an attempt.
const MAX_RECONNECTS: u32 = 3;
/// How long a pooled connection may have been idle for a request that cannot be sent again: a server may close an idle
/// connection at any time.
const MAX_IDLE_WITHOUT_RETRY: Duration = Duration::from_secs(1);

/// Makes attempts until one gets the headers of a final response or no further attempt is allowed.
pub(super) async fn forward(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
) -> Result<UpstreamResponse, Interrupt> {
    let route = forwarding.route;
    let upstream = &route.upstream;
    let hash = balance::request_hash(exchange.context, forwarding);
    // The request may have waited: for its body, for the rate-limit backend, in the queue.
    let started = Instant::now();
    upstream.budget().record_request(started);
    let (candidate, guard) = first_server(forwarding, hash, started)?;
    exchange.record.begin_attempt(guard);
    let mut progress =
        AttemptProgress { candidate, started, attempt: 1, reconnects: 0, tried: Vec::new(), hash };
    loop {
        let result = try_once(exchange, forwarding, &progress).await;
        let (retry, reason) = match &result {
            Ok(response) => {
                let status = response.response_head.parsed.status;
                (after_response(exchange, forwarding, &progress, status), RetryReason::Status(status))
            }
            Err(AttemptError { interrupt: Interrupt::Fault(fault), facts }) => {
                let retry = after_failure(exchange, forwarding, &progress, fault, *facts);
                (retry, RetryReason::Fault(fault.cause()))
            }
            Err(AttemptError { interrupt: Interrupt::ClientDisconnected, .. }) => {
                return Err(Interrupt::ClientDisconnected);
            }
        };
        if let Retry::Reconnect | Retry::OverHttp1 = retry {
            // The connection failed, or cannot be used, but not the server: not counted as an attempt.
            match retry {
                Retry::OverHttp1 => forwarding.http1_required = true,
                Retry::Reconnect | Retry::Never | Retry::OtherServer | Retry::AnyServer => {
                    progress.reconnects += 1;
                }
            }
            exchange.record.connect_time = None;
            continue;
        }
        let next = progress.next_server(upstream, retry).filter(|_| {
            // Last, because it uses up the budget.
            upstream.budget().try_retry(route.retry_budget, Instant::now())
        });
        let Some((candidate, guard)) = next else {
            return match result {
                Ok(response) => {
                    outcome::record_final_headers(exchange, upstream, response.response_head.parsed.status);
                    Ok(response)
                }
                Err(error) => Err(error.interrupt),
            };
        };
        exchange.record.record_retried(&progress.candidate, reason, progress.started);
        exchange.record.begin_attempt(guard);
        if let Ok(response) = result {
            response.conn.release(upstream);
        }
        progress.begin_attempt(candidate);
    }
}

/// The attempts of one request.
struct AttemptProgress {
    /// The server of the current attempt.
    candidate: Candidate,
    /// When the current attempt began.
    started: Instant,
    /// The number of the current attempt, from 1.
    attempt: u32,
    /// How often the request was sent again on another connection without counting an attempt.
    reconnects: u32,
    /// The servers of the earlier attempts.
    tried: Vec<Candidate>,
    hash: u64,
}

impl AttemptProgress {
    /// Which connections may be used. `can_retry`: the request could be sent again if its connection fails.
    ///
    /// An idle connection may be stale: the server has closed it, and the gateway does not know yet. A retry does not
    /// risk that. It shares an HTTP/2 connection all the same: one that is in use is not stale, and a storm of retries
    /// must not become a storm of connections. They are opened one at a time.
    fn reuse(&self, can_retry: bool) -> Reuse {
        let max_idle = if can_retry && self.attempt == 1 { Duration::MAX } else { MAX_IDLE_WITHOUT_RETRY };
        Reuse {
            // After a stale connection, the next one in the pool may be stale too.
            pooled_for: (self.attempt == 1 && self.reconnects == 0).then_some(max_idle),
            // The last try after several stale ones needs one that is opened from now on. Those that wait for it share
            // it.
            shared: if self.attempt == 1 && self.reconnects >= MAX_RECONNECTS {
                Reusable::OpenedSince(Instant::now())
            } else {
                Reusable::IdleFor(max_idle)
            },
        }
    }

    /// The server for the next attempt; `None` if there is to be no other attempt, or no server gets requests now.
    fn next_server(&mut self, upstream: &UpstreamRuntime, retry: Retry) -> Option<(Candidate, AttemptGuard)> {
        let may_repeat = match retry {
            Retry::Never => return None,
            Retry::OtherServer => false,
            Retry::AnyServer | Retry::Reconnect | Retry::OverHttp1 => true,
        };
        let now = Instant::now();
        self.tried.push(self.candidate.clone());
        if let Ok(other) = upstream.select(&self.tried, self.hash, now) {
            return Some(other);
        }
        let guard = may_repeat.then(|| AttemptGuard::reselect(self.candidate.endpoint(), now)).flatten();
        guard.map(|guard| (self.candidate.clone(), guard))
    }

    fn begin_attempt(&mut self, candidate: Candidate) {
        self.candidate = candidate;
        self.attempt += 1;
        self.started = Instant::now();
    }
}

/// The server of the pinned connection, else the one that the balancer selects.
fn first_server(
    forwarding: &mut Forwarding<'_>,
    hash: u64,
    now: Instant,
) -> Result<(Candidate, AttemptGuard), Interrupt> {
    if let Some(pinned) = forwarding.pinned_server(now) {
        return Ok(pinned);
    }
    let selected = forwarding.route.upstream.select(&[], hash, now);
    selected.map_err(|reason| no_server(forwarding, reason))
}

/// Counts an attempt that got a response, and decides whether another attempt follows: `retry.on_status` lists the
/// status, and the request can be sent again.
fn after_response(
    exchange: &mut Exchange<'_>,
    forwarding: &Forwarding<'_>,
    progress: &AttemptProgress,
    status: u16,
) -> Retry {
    let (route, server_index) = (forwarding.route, progress.candidate.server_index);
    route.upstream_metrics.attempt(server_index, Ok(()));
    if progress.attempt > 1 || progress.reconnects > 0 || forwarding.http1_required {
        route.upstream_metrics.retry(server_index, Ok(()));
    }
    let retries = progress.attempt < route.attempts
        && !forwarding.depends_on_connection()
        && route.retry_on_status.contains(&status)
        && forwarding.can_retry_after_response();
    if !retries {
        return Retry::Never;
    }
    // Before the next server is selected: this one may be ejected for its response.
    outcome::record_retryable_response(exchange, &route.upstream, status);
    Retry::AnyServer
}

/// Decides whether another attempt follows one that failed. A failure that counts is recorded for metrics, ejection and
/// the circuit breaker.
fn after_failure(
    exchange: &mut Exchange<'_>,
    forwarding: &Forwarding<'_>,
    progress: &AttemptProgress,
    fault: &Fault,
    connection: ConnectionFacts,
) -> Retry {
    let (route, cause) = (forwarding.route, fault.cause());
    let retry = retry::decide(FailedAttempt {
        cause,
        phase: fault.phase(),
        method: &forwarding.request.method,
        connection,
        is_replayable: forwarding.upload.is_replayable(),
        authenticates_connection: forwarding.request.authenticates_connection,
    });
    let retry = match retry {
        Retry::OverHttp1 => return Retry::OverHttp1,
        Retry::Reconnect if progress.reconnects < MAX_RECONNECTS => return Retry::Reconnect,
        Retry::Reconnect => Retry::AnyServer,
        Retry::Never | Retry::OtherServer | Retry::AnyServer => retry,
    };
    // What the client caused, for example with a malformed or slow body, is not a failure of the upstream.
    let waits_for_client = forwarding.upload.waiting() == WaitingFor::Client;
    if cause.is_client_error() || (fault.phase() == Phase::Send && waits_for_client) {
        exchange.record.discard_outcome();
    } else {
        route.upstream_metrics.attempt(progress.candidate.server_index, Err(cause));
        if progress.attempt > 1 {
            route.upstream_metrics.retry(progress.candidate.server_index, Err(cause));
        }
        outcome::attempt_failed(exchange, &route.upstream, fault);
    }
    if progress.attempt < route.attempts { retry } else { Retry::Never }
}

/// What is known about the connection of a failed attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionFacts {
    /// The connection served other requests before, or at the same time, and failed as a whole: it may have been closed
    /// before this request.
    pub(super) maybe_stale: bool,
    /// Any byte of a response was received.
    pub(super) response_started: bool,
    /// The bytes received do not begin as an HTTP/1 response does.
    pub(super) not_http: bool,
    /// The upstream reported that it did not process the request.
    pub(super) unprocessed: bool,
    /// The upstream requires HTTP/1.1 for the request, and may be sent it so.
    pub(super) requires_http1: bool,
}

/// An attempt that got no final response headers.
struct AttemptError {
    interrupt: Interrupt,
    facts: ConnectionFacts,
}

impl From<Interrupt> for AttemptError {
    fn from(interrupt: Interrupt) -> Self {
        AttemptError { interrupt, facts: ConnectionFacts::default() }
    }
}

/// Makes one attempt: connects, sends the request and waits for the response headers.
async fn try_once(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    progress: &AttemptProgress,
) -> Result<UpstreamResponse, AttemptError> {
    let candidate = &progress.candidate;
    let is_last = progress.attempt >= forwarding.route.attempts;
    let multiplexes = forwarding.route.upstream.transport().http2().may_serve(candidate);
    let reuse = progress.reuse(forwarding.can_retry_if_connection_fails());
    let AcquiredConnection { mut conn, reused } =
        connect::acquire_connection(exchange, forwarding, candidate, reuse).await?;
    let target = forwarding.target.as_deref().unwrap_or(&forwarding.request.target);
    let with_base = candidate.base_path.as_ref().map(|base| base.join(target));
    let forwarding_info = ForwardingInfo {
        target: with_base.as_deref().unwrap_or(target),
        edits: forwarding.edits.as_ref(),
        host: forwarding.upstream_host(candidate),
        forwarded_for: &forwarding.forwarded_for,
        origin: forwarding.origin,
        peer_trust: exchange.context.peer_trust,
        request_id: &exchange.context.request_id,
        via: forwarding.route.sends_via.then_some(&exchange.context.gateway.via[..]),
        upgrade_offer: forwarding.upgrade_offer.as_ref(),
        upstream_tls: candidate.tls_name.is_some(),
    };
    if let Err(fault) = conn.start_request(forwarding.request, &forwarding_info) {
        let facts = ConnectionFacts {
            maybe_stale: reused,
            unprocessed: conn.is_unprocessed(),
            ..ConnectionFacts::default()
        };
        return Err(AttemptError { interrupt: Interrupt::Fault(fault), facts });
    }
    // The body is kept while the request may be sent again: for another attempt, or for a reconnect, which only a
    // reused or shared connection can need.
    let may_reconnect = progress.reconnects < MAX_RECONNECTS && (reused || multiplexes);
    let send_started = Instant::now();
    forwarding.upload.begin(&mut conn, !is_last || may_reconnect, send_started);
    // The response may arrive before the first poll of the upload.
    let sent = if conn.has_sent_request() { RequestSent::Full } else { RequestSent::Partial };
    exchange.record.request_sent = exchange.record.request_sent.max(sent);
    match final_response_head(exchange, forwarding, &mut conn, send_started).await {
        Ok(ReceivedHead { response_head, received_at, sent_at }) => {
            // An HTTP/2 request without a body is sent with its header section. An early response was not waited for.
            let sent_at = sent_at.or((sent == RequestSent::Full).then_some(send_started));
            let waited =
                sent_at.map_or(Duration::ZERO, |sent_at| received_at.saturating_duration_since(sent_at));
            forwarding.route.upstream_metrics.response_headers_time(waited);
            exchange.record.response_headers_time = Some(waited);
            exchange.record.response_headers_at = Some(received_at);
            exchange.record.upstream_status = Some(response_head.parsed.status);
            Ok(UpstreamResponse { conn, response_head })
        }
        Err(interrupt) => {
            let facts = ConnectionFacts {
                maybe_stale: reused && !conn.stream_was_reset(),
                response_started: conn.response_started(),
                not_http: conn.received_non_http(),
                unprocessed: conn.is_unprocessed(),
                requires_http1: conn.requires_http1() && forwarding.may_use_http1(),
            };
            Err(AttemptError { interrupt, facts })
        }
    }
}

/// The header section of a final response.
struct ReceivedHead {
    response_head: UpstreamResponseHead,
    received_at: Instant,
    /// When the whole request was sent; `None` if the response came before.
    sent_at: Option<Instant>,
}

/// An event while waiting for response headers.
enum AttemptStep {
    ResponseHead(Result<UpstreamResponseHead, Fault>),
    Upload(UploadEvent),
}

/// Sends the request and reads the headers of the final response. Interim responses are forwarded. `now` is the time,
/// which is read again only after a wait.
async fn final_response_head(
    exchange: &mut Exchange<'_>,
    forwarding: &mut Forwarding<'_>,
    conn: &mut UpstreamConn,
    mut now: Instant,
) -> Result<ReceivedHead, Interrupt> {
    let mut interim_count = 0;
    let mut sent_at: Option<Instant> = None;
    loop {
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
        let is_final = matches!(&step, Some(AttemptStep::ResponseHead(Ok(head))) if !head.is_interim());
        if !is_final {
            now = Instant::now();
        }
        match step {
            // The limit moves while bytes are transferred: check that it has really passed.
            None => {
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
                // A client that has received a 100 from the gateway gets no second one.
                let is_repeated = response_head.parsed.status == 100 && forwarding.upload.continue_sent();
                if !is_repeated && forwarding.interim_responses < MAX_INTERIM_RESPONSES {
                    forwarding.interim_responses += 1;
                    relay::forward_interim(exchange.client, &response_head);
                }
            }
            Some(AttemptStep::ResponseHead(Ok(response_head))) => {
                let offer = forwarding.upgrade_offer.as_ref();
                if let (true, Some(offer)) = (response_head.is_switching_protocols(), offer) {
                    response_head.negotiated_protocol(offer).map_err(Interrupt::Fault)?;
                    // The client would send the new protocol, and the upstream would read it as the request body.
                    if exchange.client.awaits_continue() {
                        let evidence = Evidence::from_static("101 instead of the 100 that the client awaits");
                        let fault = Fault::new(Cause::HttpUpgradeFailed, Phase::ResponseHeaders);
                        return Err(Interrupt::Fault(fault.with_evidence(evidence)));
                    }
                }
                return Ok(ReceivedHead { response_head, received_at: wait.woken_at(), sent_at });
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
            .deadlines
            .earliest(Phase::Send)
            .earlier(Some(forwarding.upload.write_limit(forwarding.route.timeouts().body_idle))),
        WaitingFor::Nothing => {
            let deadline = forwarding.deadlines.earliest(Phase::ResponseHeaders);
            deadline.earlier(sent_at.map(|sent| {
                let at = sent + forwarding.route.timeouts().response_headers;
                TimeLimit::new(at, Cause::HttpResponseTimeout, Phase::ResponseHeaders)
            }))
        }
    }
}

/// The fault if no server is available.
fn no_server(forwarding: &Forwarding<'_>, reason: NoServer) -> Interrupt {
    let metrics = &forwarding.route.upstream_metrics;
    Interrupt::Fault(match reason {
        NoServer::Unresolved(failure) => {
            let (cause, evidence) = (failure.cause(), failure.evidence());
            // Counted for the first server: the label needs one, and no server has an address.
            metrics.attempt(0, Err(cause));
            Fault::new(cause, Phase::Connect).with_evidence(Evidence::from_static(evidence))
        }
        NoServer::Unavailable { retry_after } => {
            metrics.shed(Cause::DestinationUnavailable);
            Fault::new(Cause::DestinationUnavailable, Phase::Admit).with_retry_after(retry_after)
        }
        // Not possible for the first attempt, before which nothing is tried.
        NoServer::AllTried => Fault::new(Cause::DestinationUnavailable, Phase::Admit),
    })
}
