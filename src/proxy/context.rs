//! What one routed request carries from step to step, and the story that is told of it at the end.

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

/// A request on its way through a route.
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
    /// The change of protocol that the upstream is offered.
    pub(super) offer: Option<UpgradeOffer<'a>>,
}

/// Why a step did not come to its end.
#[derive(Debug)]
pub(super) enum Interrupt {
    /// There is something to answer.
    Fault(Fault),
    /// There is nobody to answer.
    ClientDisconnected,
}

impl From<Fault> for Interrupt {
    fn from(fault: Fault) -> Self {
        Interrupt::Fault(fault)
    }
}

impl RequestContext<'_> {
    /// The earlier of a limit, the total deadline and the limit on everything.
    pub(super) fn with_deadlines(&self, limit: TimeLimit, phase: Phase) -> TimeLimit {
        limit.earlier(Some(self.clock.deadline(phase))).earlier(self.clock.max_duration(phase))
    }

    /// Whether the request must have an upstream connection of its own while it lasts.
    pub(super) fn needs_http1(&self) -> bool {
        self.offer.is_some() || self.request.binds_connection
    }

    /// Whether sending the request once more is harmless and possible.
    pub(super) fn can_repeat_safely(&self) -> bool {
        self.upload.can_replay() && self.upload.has_ended() && self.request.method.is_idempotent()
    }
}

/// What happened, for the log.
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
    /// What the upstream said that was replaced.
    pub(super) upstream_evidence: Evidence,
    /// The rate limit that refused it.
    pub(super) denied_by: Option<Arc<RateLimitRule>>,
    /// The rate limits that counted it and whose counts its answer may undo.
    pub(super) reset_candidates: Vec<(Arc<RateLimitRule>, Key)>,
    /// So long the client sent before the request was admitted: no time of the upstream's.
    pub(super) body_read_time: Duration,
    /// Time spent waiting for the upstream or the client; what [`Downstream`] counts by itself is added at the end.
    pub(super) waited: Duration,
    /// What every response of this request wears.
    pub(super) response_headers: ResponseHeaderMutations,
    /// What stood in place of a request line, where there was no request.
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
