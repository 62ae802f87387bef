//! The state that a routed request carries from step to step, and the values that are logged when it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;

use super::clock::{RequestClock, TimeLimit};
use super::downstream::Downstream;
use super::gateway::Gateway;
use super::message::request::Request;
use super::response_headers::ResponseHeaderMutations;
use super::upload::Upload;
use crate::contract::{Evidence, Fault, Phase, RequestSent};
use crate::http::upgrade::UpgradeOffer;
use crate::limit::Key;
use crate::snapshot::rate_limits::RateLimitRule;
use crate::snapshot::{Route, Snapshot};
use crate::upstream::http2::HttpVersionPolicy;

/// A request that has been admitted to a route.
#[derive(Debug)]
pub(super) struct RequestContext<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) route: &'a Route,
    pub(super) request: &'a Request,
    pub(super) client: &'a mut Downstream,
    pub(super) log: &'a mut RequestLog,
    pub(super) upload: Upload,
    pub(super) clock: RequestClock,
    pub(super) forwarded_for: HeaderValue,
    /// The protocol upgrade to offer to the upstream.
    pub(super) offer: Option<UpgradeOffer<'a>>,
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

impl RequestContext<'_> {
    /// The earliest of `limit`, `timeouts.deadline` and `timeouts.max_duration`.
    pub(super) fn with_deadlines(&self, limit: TimeLimit, phase: Phase) -> TimeLimit {
        limit.earlier(Some(self.clock.deadline(phase))).earlier(self.clock.max_duration(phase))
    }

    /// Whether the request needs an HTTP/1 connection: it offers an upgrade, authenticates the connection, or has a
    /// target that HTTP/2 cannot carry. (An upstream that uses only HTTP/2 cannot receive such a target: 400.)
    pub(super) fn needs_http1(&self) -> bool {
        let h2_policy = || self.route.upstream.transport().http2().version_policy();
        self.offer.is_some()
            || self.request.binds_connection
            || (!self.request.h2_capable && h2_policy() != HttpVersionPolicy::Http2)
    }

    /// Whether a request that the upstream may have processed can be sent again: its method is idempotent, and its
    /// whole body is in the replay buffer.
    pub(super) fn can_repeat_safely(&self) -> bool {
        self.upload.can_replay() && self.upload.has_ended() && self.request.method.is_idempotent()
    }
}

/// What is recorded about a request while it is served: for its response headers, the metrics and the access log.
#[derive(Debug)]
pub(super) struct RequestLog {
    pub(super) started: Instant,
    pub(super) request_id: HeaderValue,
    pub(super) client_ip: IpAddr,
    pub(super) attempts: u32,
    pub(super) server: Option<Arc<str>>,
    pub(super) connect_time: Option<Duration>,
    pub(super) response_headers_time: Option<Duration>,
    pub(super) upstream_status: Option<u16>,
    pub(super) response_bytes: u64,
    pub(super) request_sent: RequestSent,
    /// Reason phrase and beginning of the body of an upstream error that was replaced.
    pub(super) upstream_evidence: Evidence,
    /// The rate limit that denied the request.
    pub(super) denied_by: Option<Arc<RateLimitRule>>,
    /// The rate limits that counted the request and are reset by some upstream statuses (`reset_on`).
    pub(super) reset_candidates: Vec<(Arc<RateLimitRule>, Key)>,
    /// Time spent buffering the request body before admission. It does not count towards the deadline.
    pub(super) body_read_time: Duration,
    /// Time spent waiting for the upstream or the client. [`Downstream::waited`] is added when the request ends.
    pub(super) waited: Duration,
    /// Fields that the gateway adds to every response of this request.
    pub(super) response_headers: ResponseHeaderMutations,
    /// The received request line of a malformed request; empty otherwise.
    pub(super) request_line: Bytes,
}

impl RequestLog {
    pub(super) fn begin(request_id: HeaderValue, client_ip: IpAddr) -> Self {
        RequestLog {
            started: Instant::now(),
            request_id,
            client_ip,
            attempts: 0,
            server: None,
            connect_time: None,
            response_headers_time: None,
            upstream_status: None,
            response_bytes: 0,
            request_sent: RequestSent::None,
            upstream_evidence: Evidence::none(),
            denied_by: None,
            reset_candidates: Vec::new(),
            body_read_time: Duration::ZERO,
            waited: Duration::ZERO,
            response_headers: ResponseHeaderMutations::default(),
            request_line: Bytes::new(),
        }
    }
}
