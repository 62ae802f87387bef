//! What one routed request carries from step to step, and the story that is told of it at the end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;

use super::clock::{Clock, Limit};
use super::downstream::Downstream;
use super::dress::Dress;
use super::gateway::Gateway;
use super::request::Request;
use super::upload::Upload;
use crate::contract::{Evidence, Fault, Phase, RequestSent};
use crate::limit::Key;
use crate::protocol::upgrade::UpgradeOffer;
use crate::snapshot::limits::RateLimitRule;
use crate::snapshot::{Route, Snapshot};

/// A request on its way through a route.
#[derive(Debug)]
pub(super) struct Flow<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) snapshot: &'a Snapshot,
    pub(super) route: &'a Route,
    pub(super) request: &'a Request,
    pub(super) client: &'a mut Downstream,
    pub(super) story: &'a mut Story,
    pub(super) upload: Upload,
    pub(super) clock: Clock,
    pub(super) forwarded_for: HeaderValue,
    /// The change of protocol that the upstream is offered.
    pub(super) offer: Option<UpgradeOffer<'a>>,
}

/// Why a step did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// There is something to answer.
    Fault(Fault),
    /// There is nobody to answer.
    ClientGone,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl Flow<'_> {
    /// The earlier of a limit, the total deadline and the limit on everything.
    pub(super) fn limit(&self, limit: Limit, phase: Phase) -> Limit {
        limit.or(Some(self.clock.total(phase))).or(self.clock.whole(phase))
    }

    /// Whether the request must have an upstream connection of its own while it lasts.
    pub(super) fn needs_http1(&self) -> bool {
        self.offer.is_some() || self.request.binds_connection
    }

    /// Whether sending the request once more is harmless and possible.
    pub(super) fn may_repeat(&self) -> bool {
        self.upload.can_replay() && self.upload.has_ended() && self.request.method.is_idempotent()
    }
}

/// What happened, for the log.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) started: Instant,
    pub(super) request_id: HeaderValue,
    pub(super) client_ip: IpAddr,
    pub(super) attempts: u32,
    pub(super) server: Option<Arc<str>>,
    pub(super) connect: Option<Duration>,
    pub(super) response_head: Option<Duration>,
    pub(super) upstream_status: Option<u16>,
    pub(super) bytes: u64,
    pub(super) sent: RequestSent,
    /// What the upstream said that was replaced.
    pub(super) said: Evidence,
    /// The rate limit that refused it.
    pub(super) rule: Option<Arc<RateLimitRule>>,
    /// The rate limits that counted it and whose counts its answer may undo.
    pub(super) counted: Vec<(Arc<RateLimitRule>, Key)>,
    /// So long the client sent before the request was admitted: no time of the upstream's.
    pub(super) sending: Duration,
    /// Time spent waiting for the upstream or the client; what [`Downstream`] counts by itself is added at the end.
    pub(super) waited: Duration,
    /// What every response of this request wears.
    pub(super) dress: Dress,
    /// What stood in place of a request line, where there was no request.
    pub(super) line: Bytes,
}

impl Story {
    pub(super) fn begin(request_id: HeaderValue, client_ip: IpAddr) -> Self {
        Story {
            started: Instant::now(),
            request_id,
            client_ip,
            attempts: 0,
            server: None,
            connect: None,
            response_head: None,
            upstream_status: None,
            bytes: 0,
            sent: RequestSent::None,
            said: Evidence::none(),
            rule: None,
            counted: Vec::new(),
            sending: Duration::ZERO,
            waited: Duration::ZERO,
            dress: Dress::default(),
            line: Bytes::new(),
        }
    }
}
