//! The facts of one request, and the state that its steps share.
//!
//! [`RequestContext`] never changes. [`Exchange`] adds what the steps find out, [`Forwarding`] what is needed to send
//! the request to an upstream. [`RequestRecord`] holds only what metrics and log show.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method};

use super::buffer_budget::BufferShare;
use super::deadlines::{RequestDeadlines, TimeLimit};
use super::downstream::Downstream;
use super::gateway::Gateway;
use super::header_mutations::ResponseHeaderMutations;
use super::message::added_request_fields::{PeerTrust, server_host};
use super::message::request::Request;
use super::pinned::PinnedLock;
use super::request_id;
use super::upload::{MAX_REPLAY_BYTES, Upload};
use super::upstream_conn::UpstreamConn;
use super::upstream_conn::h1::UpstreamH1;
use crate::config::ErrorSettings;
use crate::contract::grpc::GrpcFamily;
use crate::contract::{BodyFormat, Cause, Contract, Evidence, Fault, Phase, RequestSent};
use crate::http::authority::UpstreamHost;
use crate::http::forwarded;
use crate::http::framing::RequestFraming;
use crate::http::header_edits::RenderedEdits;
use crate::http::partial_request;
use crate::http::peer::Peer;
use crate::http::reported_origin::{ListenerOrigin, ReportedOrigin, RequestOrigin};
use crate::http::upgrade::UpgradeOffer;
use crate::snapshot::error_context::{ErrorContext, body_format};
use crate::snapshot::rate_limits::RateLimitRule;
use crate::snapshot::{ResponseSettings, Route, Snapshot};
use crate::telemetry::{GaugeGuard, RouteMetrics};
use crate::tls::client_certificate::ClientCertificate;
use crate::upstream::Candidate;
use crate::upstream::concurrency::{OwnedPermit, Permit};
use crate::upstream::endpoint::AttemptGuard;
use crate::upstream::http2::HttpVersionPolicy;
use crate::upstream::shared_breaker::BreakerPass;

/// Used as the method of a rejected request: only whether the response has a body matters.
static GET: Method = Method::GET;
static HEAD: Method = Method::HEAD;

/// The facts of one request. Made once, before the first step.
#[derive(Debug)]
pub(super) struct RequestContext<'a> {
    pub(super) gateway: &'a Gateway,
    /// The configuration of the whole request, whatever a reload does meanwhile.
    pub(super) snapshot: &'a Snapshot,
    /// `None` if no route matches, and for a rejected request.
    pub(super) route: Option<&'a Route>,
    /// The `errors` and CORS configuration that applies. Requests without a route have one too.
    pub(super) settings: ResponseSettings<'a>,
    pub(super) received: ReceivedRequest<'a>,
    /// The peer of the connection, or the client that its PROXY protocol header names.
    pub(super) peer: Peer,
    /// The verified certificate of the peer. A request that is rejected has none.
    pub(super) certificate: Option<&'a ClientCertificate>,
    /// Whether the peer may report about its client.
    pub(super) peer_trust: PeerTrust,
    /// The address of the client, which a trusted proxy may report.
    pub(super) client_address: Peer,
    pub(super) request_id: HeaderValue,
    /// When the request headers were complete; after a panic, when it was caught.
    pub(super) started: Instant,
}

/// A request as received.
#[derive(Clone, Copy, Debug)]
pub(super) enum ReceivedRequest<'a> {
    Valid(&'a Request),
    /// A request that is rejected before it is routed, as far as it could be parsed.
    Rejected {
        request_line: &'a [u8],
        grpc: Option<GrpcFamily>,
        /// The `Accept` field.
        accept: Option<&'a [u8]>,
        /// The host and User-Agent, for the log.
        host: Option<&'a [u8]>,
        user_agent: Option<&'a [u8]>,
    },
}

impl<'a> RequestContext<'a> {
    /// The context of a valid request that has not been routed yet.
    pub(super) fn begin(
        gateway: &'a Gateway,
        snapshot: &'a Snapshot,
        request: &'a Request,
        peer: Peer,
        certificate: Option<&'a ClientCertificate>,
    ) -> Self {
        let client_config = &snapshot.client;
        let trusted = client_config.trusts(peer);
        let peer_trust = if trusted { PeerTrust::Trusted } else { PeerTrust::Untrusted };
        let valid_request_id = if trusted { request.valid_request_id() } else { None };
        RequestContext {
            gateway,
            snapshot,
            route: None,
            settings: snapshot.default_settings(),
            received: ReceivedRequest::Valid(request),
            peer,
            certificate,
            peer_trust,
            client_address: request.client_address(peer, client_config),
            request_id: valid_request_id.unwrap_or_else(request_id::generate),
            started: Instant::now(),
        }
    }

    /// The context of a request that is not routed: it is rejected, or for a telemetry page. Its fields are not
    /// trusted.
    pub(super) fn unrouted(
        gateway: &'a Gateway,
        snapshot: &'a Snapshot,
        settings: ResponseSettings<'a>,
        received: ReceivedRequest<'a>,
        peer: Peer,
    ) -> Self {
        RequestContext {
            gateway,
            snapshot,
            route: None,
            settings,
            received,
            peer,
            certificate: None,
            peer_trust: PeerTrust::Untrusted,
            client_address: peer.to_canonical(),
            request_id: request_id::generate(),
            started: Instant::now(),
        }
    }

    /// Completes the context with the result of routing.
    pub(super) fn with_route(self, route: Option<&'a Route>, settings: ResponseSettings<'a>) -> Self {
        RequestContext { route, settings, ..self }
    }

    /// The deadlines on this route. Time in which the rate limits have read the request body does not count.
    pub(super) fn deadlines(&self, route: &Route, buffered_body: Option<&Upload>) -> RequestDeadlines {
        let mut deadlines = RequestDeadlines::start(self.started, route.timeouts());
        if let Some(body) = buffered_body {
            deadlines.extend(body.client_wait());
        }
        deadlines
    }

    /// The contract that the response follows.
    pub(super) fn contract(&self) -> &'a Contract {
        &self.error_config().contract
    }

    /// The `errors` configuration of the route, or the one for a request without a route.
    pub(super) fn error_config(&self) -> &'a ErrorSettings {
        self.settings.errors
    }

    /// The metrics of the route, or those of requests without a route.
    pub(super) fn metrics(&self) -> &'a RouteMetrics {
        self.route.map_or(&self.snapshot.unrouted.metrics, |route| &route.metrics)
    }

    /// The input of the error policy.
    pub(super) fn error_context(&self) -> ErrorContext<'a> {
        let (method, grpc) = match self.received {
            ReceivedRequest::Valid(request) => (&request.method, request.grpc_family()),
            ReceivedRequest::Rejected { request_line, grpc, .. } => {
                (if partial_request::is_head(request_line) { &HEAD } else { &GET }, grpc)
            }
        };
        ErrorContext {
            contract: self.contract(),
            overrides: &self.snapshot.overrides,
            error_config: self.error_config(),
            upstream: self.route.map(|route| route.upstream.name()),
            method,
            grpc,
            format: self.body_format(),
        }
    }

    /// The format of the error bodies for this request.
    fn body_format(&self) -> BodyFormat {
        let settings = self.error_config();
        match self.received {
            ReceivedRequest::Valid(request) => body_format(settings, request.fields.values("accept")),
            ReceivedRequest::Rejected { accept, .. } => body_format(settings, accept.into_iter()),
        }
    }
}

/// A request in progress: its facts, its client, and what the steps have found out.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) context: &'a RequestContext<'a>,
    pub(super) client: &'a mut Downstream,
    pub(super) record: RequestRecord,
    /// What the gateway adds to every response of this request, and removes from it.
    pub(super) header_mutations: ResponseHeaderMutations,
    /// What the upstream's error body reserves of the buffer budget, until the request ends.
    pub(super) error_body_share: Option<BufferShare<'a>>,
}

impl<'a> Exchange<'a> {
    pub(super) fn begin(context: &'a RequestContext<'a>, client: &'a mut Downstream) -> Self {
        Exchange {
            context,
            client,
            record: RequestRecord::default(),
            header_mutations: ResponseHeaderMutations::default(),
            error_body_share: None,
        }
    }
}

/// What metrics and log show of a request, beyond its [`RequestContext`] and how it ended.
#[derive(Debug, Default)]
pub(super) struct RequestRecord {
    /// The attempts that were followed by a retry.
    pub(super) retried_attempts: Vec<RetriedAttempt>,
    /// The latest attempt. It stays here after its outcome is recorded: the log shows its server.
    pub(super) last_attempt: Option<AttemptGuard>,
    /// The outcome of the latest attempt was recorded, or was discarded.
    pub(super) outcome_settled: bool,
    /// The admission by the upstream's circuit breaker, which counts the outcome.
    pub(super) breaker_pass: Option<BreakerPass>,
    pub(super) connect_time: Option<Duration>,
    pub(super) response_headers_time: Option<Duration>,
    /// When the latest attempt received the response headers.
    pub(super) response_headers_at: Option<Instant>,
    pub(super) upstream_status: Option<u16>,
    pub(super) response_bytes: u64,
    /// Bytes that a tunnel has received from the client.
    pub(super) tunnel_bytes_in: u64,
    /// Time in the queue of the upstream, if the request has waited there.
    pub(super) queue_time: Option<Duration>,
    pub(super) request_sent: RequestSent,
    /// Reason phrase and beginning of the body of an upstream error that was replaced.
    pub(super) upstream_evidence: Evidence,
    /// The rate limit that denied the request.
    pub(super) denied_by: Option<Arc<RateLimitRule>>,
}

/// An attempt that was followed by a retry.
#[derive(Debug)]
pub(super) struct RetriedAttempt {
    pub(super) server: Arc<str>,
    pub(super) reason: RetryReason,
    pub(super) elapsed: Duration,
    pub(super) ended: Instant,
}

/// Why an attempt was followed by a retry.
#[derive(Clone, Copy, Debug)]
pub(super) enum RetryReason {
    Fault(Cause),
    /// A status in `retry.on_status`.
    Status(u16),
}

impl RequestRecord {
    /// Records an attempt that is followed by a retry.
    pub(super) fn record_retried(&mut self, candidate: &Candidate, reason: RetryReason, started: Instant) {
        let server = Arc::clone(&candidate.server);
        let ended = Instant::now();
        let elapsed = ended.saturating_duration_since(started);
        self.retried_attempts.push(RetriedAttempt { server, reason, elapsed, ended });
    }

    /// Begins an attempt at the server of this guard. Clears what was recorded about the attempt before.
    pub(super) fn begin_attempt(&mut self, guard: AttemptGuard) {
        self.last_attempt = Some(guard);
        self.outcome_settled = false;
        self.connect_time = None;
        self.response_headers_time = None;
        self.response_headers_at = None;
        self.upstream_status = None;
    }

    /// Keeps the outcome of this request from ejection and the circuit breaker: it says nothing about the upstream.
    pub(super) fn discard_outcome(&mut self) {
        self.outcome_settled = true;
        self.breaker_pass = None;
    }

    /// The label of the server of the latest attempt; empty without an attempt.
    pub(super) fn server(&self) -> &str {
        self.last_attempt.as_ref().map_or("", |guard| &guard.endpoint().server)
    }
}

/// Why a step ended early.
#[derive(Debug)]
pub(super) enum Interrupt {
    /// The client receives an error response.
    Fault(Fault),
    /// The client disconnected: no response is sent.
    ClientDisconnected,
}

impl From<Fault> for Interrupt {
    fn from(fault: Fault) -> Self {
        Interrupt::Fault(fault)
    }
}

/// The forwarding of an admitted request to the upstream of its route.
#[derive(Debug)]
pub(super) struct Forwarding<'a> {
    pub(super) context: &'a RequestContext<'a>,
    pub(super) route: &'a Route,
    pub(super) request: &'a Request,
    pub(super) upload: Upload,
    /// Number of interim responses forwarded in all attempts. An HTTP/1.0 client receives none of them.
    pub(super) interim_responses: u32,
    pub(super) deadlines: RequestDeadlines,
    pub(super) forwarded_for: HeaderValue,
    /// The scheme, host and port that are reported to the upstream.
    pub(super) origin: RequestOrigin<'a>,
    /// The protocol upgrade to offer to the upstream.
    pub(super) upgrade_offer: Option<UpgradeOffer<'a>>,
    /// The upstream has required HTTP/1.1 for this request.
    pub(super) http1_required: bool,
    /// The rewritten target, before the base path of the server is added.
    pub(super) target: Option<Bytes>,
    /// The route's `request_headers`.
    pub(super) edits: Option<RenderedEdits>,
    /// The lock of the connection that is pinned to the client, or that this request opens and pins.
    pinned: Option<PinnedLock>,
    in_flight: Option<InFlight<'a>>,
}

/// What a request has acquired before it is sent to its upstream.
#[derive(Debug)]
pub(super) struct AcquiredPermits<'a> {
    /// `None` if the upstream has no concurrency limit, or the pinned connection already holds a permit.
    pub(super) permit: Option<Permit<'a>>,
    /// The lock of the client's pinned connection.
    pub(super) pinned: Option<PinnedLock>,
}

/// The permit of a request while it is forwarded, and its share of the gauge of forwarded requests. Dropped in this
/// order.
#[derive(Debug)]
struct InFlight<'a> {
    permit: Option<Permit<'a>>,
    _gauge: GaugeGuard,
}

impl<'a> Forwarding<'a> {
    /// `buffered_body` is set if the rate limits have read the request body.
    pub(super) fn begin(
        exchange: &Exchange<'a>,
        route: &'a Route,
        request: &'a Request,
        buffered_body: Option<Upload>,
        acquired: AcquiredPermits<'a>,
    ) -> Self {
        let AcquiredPermits { permit, pinned } = acquired;
        let context = exchange.context;
        let deadlines = context.deadlines(route, buffered_body.as_ref());
        // Time spent in the queue, or for the rate limits, does not count as client idle time.
        let admitted_at = match (&permit, &pinned) {
            (Some(permit), _) => permit.acquired_at(),
            (None, Some(_)) => Instant::now(),
            (None, None) if route.limits_need_io => Instant::now(),
            (None, None) => context.started,
        };
        let mut upload =
            buffered_body.unwrap_or_else(|| Upload::new(exchange.client, route.config.max_body, admitted_at));
        upload.reset_idle_timers(admitted_at);
        if exchange.client.is_h2() && request.is_grpc() {
            upload.set_idle_timeout(route.timeouts().stream_idle);
        }
        Forwarding {
            context,
            route,
            request,
            upload,
            interim_responses: 0,
            deadlines,
            forwarded_for: forwarded_for(context, route, request),
            origin: request_origin(context, request, exchange.client.listener_origin()),
            upgrade_offer: upgrade_offer(route, request),
            http1_required: false,
            target: None,
            edits: None,
            pinned,
            in_flight: Some(InFlight { permit, _gauge: route.upstream_metrics.in_flight() }),
        }
    }

    /// Returns the connection to its pool, or keeps it for its client, and then gives up the permit: the next request
    /// in the queue can reuse the connection.
    pub(super) fn release(&mut self, conn: UpstreamConn) {
        match self.pinned.take() {
            Some(pinned) => self.keep_pinned(pinned, conn),
            None => conn.release(&self.route.upstream),
        }
        self.in_flight = None;
    }

    fn keep_pinned(&mut self, pinned: PinnedLock, conn: UpstreamConn) {
        // The pinned connection was stale, and the request has no credentials: the new connection belongs to no user.
        // It is pooled under the same condition as every other connection.
        if !conn.is_connection_authenticated() {
            return conn.release(&self.route.upstream);
        }
        let Some(idle) = conn.into_h1().and_then(UpstreamH1::into_reusable) else { return };
        let permit = self.in_flight.as_mut().and_then(|in_flight| in_flight.permit.take());
        let concurrency = self.route.concurrency.as_ref();
        let permit = permit.zip(concurrency).map(|(permit, from)| OwnedPermit::continue_from(permit, from));
        // Closed a second before the timeout that the server announced: otherwise the server could close the connection
        // while a request is in transit. Of a short timeout at least half is kept, so that the next request of the NTLM
        // exchange arrives in time.
        let limit = idle.server_timeout.map_or(Duration::MAX, |announced| {
            announced.saturating_sub(Duration::from_secs(1)).max(announced / 2)
        });
        let timeout = self.context.snapshot.client.idle_timeout.min(limit);
        pinned.with_permit(permit).keep(idle.stream, Arc::clone(idle.candidate.endpoint()), timeout);
    }

    /// The server of the pinned connection, unless it gets no requests now. The connection is then closed.
    pub(super) fn pinned_server(&mut self, now: Instant) -> Option<(Candidate, AttemptGuard)> {
        let pinned = self.pinned.as_mut()?;
        let endpoint = Arc::clone(pinned.endpoint()?);
        let guard = AttemptGuard::reselect(&endpoint, now);
        if guard.is_none() {
            pinned.close();
        }
        guard.map(|guard| (Candidate::new(endpoint), guard))
    }

    /// The pinned connection, if there is one and it was not used yet.
    pub(super) fn take_pinned(&mut self) -> Option<UpstreamConn> {
        let pinned = self.pinned.as_mut()?;
        let endpoint = Arc::clone(pinned.endpoint()?);
        let stream = pinned.take_stream()?;
        Some(UpstreamConn::pinned(stream, Candidate::new(endpoint), self.request.framing))
    }

    /// Whether the response depends on which connection the request used.
    pub(super) const fn depends_on_connection(&self) -> bool {
        self.pinned.is_some() || self.request.authenticates_connection
    }

    /// The earliest of `limit`, `timeouts.deadline` and `timeouts.max_duration`.
    pub(super) fn with_deadlines(&self, limit: TimeLimit, phase: Phase) -> TimeLimit {
        limit.earlier(Some(self.deadlines.earliest(phase)))
    }

    /// The authority that this server receives in Host or `:authority` (`upstreams.NAME.host`).
    pub(super) fn upstream_host<'b>(&'b self, candidate: &'b Candidate) -> &'b [u8] {
        match &self.route.upstream_host {
            UpstreamHost::Name(name) => name.as_bytes(),
            UpstreamHost::Client if !self.request.authority.is_empty() => &self.request.authority,
            // HTTP/1.1 and HTTP/2 need a host, HTTP/1.0 clients may omit it.
            UpstreamHost::Client | UpstreamHost::Server => {
                server_host(candidate.host(), candidate.tls_name.is_some())
            }
        }
    }

    /// Whether the request needs an HTTP/1 connection: it offers an upgrade, authenticates the connection, the upstream
    /// has required it, or the target is one that HTTP/2 cannot carry. (An upstream that uses only HTTP/2 cannot
    /// receive such a target: 400.)
    pub(super) fn needs_http1(&self) -> bool {
        self.upgrade_offer.is_some()
            || self.request.authenticates_connection
            || self.http1_required
            || (!self.request.target_fits_http2 && self.may_use_http1())
    }

    /// Whether the configuration allows HTTP/1 (`upstreams.NAME.http2`).
    pub(super) fn may_use_http1(&self) -> bool {
        self.route.upstream.transport().http2().version_policy() != HttpVersionPolicy::Http2
    }

    /// Whether the request could be sent again if its connection fails: its method is idempotent, and its whole body
    /// fits into the replay buffer.
    pub(super) fn can_retry_if_connection_fails(&self) -> bool {
        self.request.method.is_idempotent()
            && self.upload.is_replayable()
            && match self.request.framing {
                RequestFraming::None => true,
                RequestFraming::Length(length) => length <= MAX_REPLAY_BYTES as u64,
                RequestFraming::Chunked => self.upload.has_ended(),
            }
    }

    /// Whether a request that the upstream may have processed can be sent again: its method is idempotent, and its
    /// whole body is in the replay buffer.
    pub(super) fn can_retry_after_response(&self) -> bool {
        self.upload.is_replayable() && self.upload.has_ended() && self.request.method.is_idempotent()
    }
}

/// The `X-Forwarded-For` that the upstream receives.
fn forwarded_for(context: &RequestContext<'_>, route: &Route, request: &Request) -> HeaderValue {
    if !route.config.append_forwarded {
        return forwarded::forwarded_for_client(context.client_address);
    }
    let client_config = &context.snapshot.client;
    let values = request.reported_addresses(client_config);
    forwarded::forwarded_for_chain(context.peer, values.into_iter(), &client_config.trusted_proxies)
}

/// The scheme, host and port that are reported to the upstream: the connection's, or those that a trusted proxy
/// reports.
pub(super) fn request_origin<'a>(
    context: &RequestContext<'_>,
    request: &'a Request,
    listener_origin: ListenerOrigin,
) -> RequestOrigin<'a> {
    let reported = match context.peer_trust {
        PeerTrust::Trusted => request.reported_origin(context.snapshot.client.trusted_headers),
        PeerTrust::Untrusted => ReportedOrigin::default(),
    };
    reported.resolve(&request.authority, listener_origin)
}

/// The protocol upgrade to offer to the upstream. `None` for an upstream that uses HTTP/2 only, which has no Upgrade.
fn upgrade_offer<'a>(route: &Route, request: &'a Request) -> Option<UpgradeOffer<'a>> {
    let http2_only = route.upstream.transport().http2().version_policy() == HttpVersionPolicy::Http2;
    if http2_only { None } else { request.upgrade_offer(&route.config.upgrades) }
}
